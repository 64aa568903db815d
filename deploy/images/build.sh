#!/bin/sh
# Builds images: build.sh KIND..., or all that need no enclave. Wheels are fetched once, by the pip of this repository's
# venv, with the hashes of the locks; the builds themselves ask no network for anything. Of each image, build/images has
# the digest and a bill of materials. For 'enclave', ENCLAVE= names folders of enclaves, and GRAMINE= one that Gramine's
# package was unpacked into; else this machine's is taken.
set -eu
cd "$(dirname "$0")/../.."
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH
revision=$(git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null || echo unknown)
kinds=${*:-gateway verifier provisioner console simulator redis}
python=.venv/bin/python
ours=localhost/cloister

sh deploy/containers.sh
mkdir -p build/wheels build/images

fetch() {  # LOCK: what it names, unless it is all there
    [ ! -e "build/wheels/$1" ] || ! cmp -s "deploy/images/locks/$1" "build/wheels/$1" || return 0
    $python -m pip download --quiet --no-deps --require-hashes --only-binary=:all: --dest build/wheels \
        -r "deploy/images/locks/$1"
    cp "deploy/images/locks/$1" "build/wheels/$1"
}
own_wheels() {
    rm -f build/wheels/cloister*.whl
    for each in . enclave/simulator; do
        rm -rf "$each/build/lib"  # what setuptools left behind would be packed again
        $python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheels "$each"
        rm -rf "$each/build/lib" "$each"/build/bdist*
    done
}
base() {  # NAME [PACKAGES]: of no commit, so that every commit stands on the same
    name=$1
    shift
    SOURCE_DATE_EPOCH=0 sh deploy/images/base.sh "$ours/$name" "$@"
}
bud() {  # FILE IMAGE [OPTIONS]
    # Root inside a build stage is nobody outside of it: --isolation chroot needs neither a daemon nor a network.
    file=$1 image=$2
    shift 2
    buildah bud --quiet --isolation chroot --timestamp "$SOURCE_DATE_EPOCH" --layers=false "$@" \
        --ignorefile deploy/images/ignore --file "deploy/images/$file.Containerfile" --tag "$image" . >/dev/null
}
wheels() {  # LOCK BASE [OPTIONS]: the layer that images share; of the same parts it is the same, and stays (FRESH= makes it anew)
    case " ${made:-} " in *" $1 "*) return 0 ;; esac
    made="${made:-} $1"
    fetch "$1.lock"
    lock=$1 base=$2
    shift 2
    recipe=$({
        cat "deploy/images/locks/$lock.lock" deploy/images/install.sh deploy/images/wheels.Containerfile build/wheels/cloister*.whl
        buildah inspect --type image --format '{{.FromImageDigest}}' "$ours/$base"
        echo "$SOURCE_DATE_EPOCH $*"
    } | sha256sum | cut -c 1-16)
    has=$(buildah inspect --type image --format '{{index .OCIv1.Config.Labels "cloister.recipe"}}' "$ours/wheels-$lock" \
        2>/dev/null || true)
    [ -n "${FRESH:-}" ] || [ "$has" != "$recipe" ] || return 0
    bud wheels "$ours/wheels-$lock" --build-arg BASE="$ours/$base" --build-arg LOCK="$lock" "$@" --label cloister.recipe="$recipe"
}
described() {  # IMAGE: its digest, and what is in it
    name=$(basename "$1")
    buildah inspect --type image --format '{{.FromImageDigest}}' "$1" > "build/images/$name.digest"
    container=$(buildah from --pull-never "$1")
    $python deploy/images/sbom.py "$(buildah mount "$container")" "$name" "$revision" "$(cat "build/images/$name.digest")" \
        > "build/images/$name.cdx.json"
    buildah rm "$container" >/dev/null
    echo "$1 $(cat "build/images/$name.digest")"
}
image() {  # KIND IMAGE [OPTIONS]
    kind=$1 image=$2
    shift 2
    bud "$kind" "$image" --label org.opencontainers.image.revision="$revision" "$@"
    described "$image"
}
service() {  # KIND LOCK [OPTIONS]
    kind=$1 lock=$2
    shift 2
    wheels "$lock" base "$@"
    image "$kind" "$ours/$kind" --build-arg WHEELS="$ours/wheels-$lock"
}
enclaves() {
    wheels serve base
    for folder in ${ENCLAVE:?names folders of enclaves, as \'cloister enclave build\' made them}; do
        staged=$($python deploy/images/enclave.py "$folder" build/enclave ${GRAMINE:+--gramine "$GRAMINE"})
        # shellcheck disable=SC2086  # three words
        set -- $staged
        prefix=
        [ "$2" = hardened ] || prefix=$2-
        simulated=
        [ "$2" != simulated ] || simulated=cloister.simulated=true
        image enclave "$ours/${prefix}enclave-$1" --build-arg WHEELS="$ours/wheels-serve" \
            --label cloister.enclave="$1 $2" --label cloister.mrenclave="$3" ${simulated:+--label "$simulated"}
        rm -rf build/enclave
    done
}

fetch pip.lock
own_wheels
base base
for each in $kinds; do
    case $each in
        redis)
            base redis-base redis-server
            image redis "$ours/redis" ;;
        enclave) enclaves ;;
        simulator) service simulator simulator --build-arg SIMULATOR=1 ;;
        systemd)
            base systemd-base systemd systemd-sysv redis-server
            wheels simulator base --build-arg SIMULATOR=1
            bud systemd "$ours/systemd" ;;
        *) service "$each" serve ;;
    esac
done
