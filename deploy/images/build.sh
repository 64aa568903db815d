#!/bin/sh
# Builds images: build.sh KIND..., or all that run here. Wheels are fetched once, by the pip of this repository's venv, with
# the hashes of the locks; the builds themselves ask no network for anything. ENCLAVE= names the folder of an 'enclave' image.
set -eu
cd "$(dirname "$0")/../.."
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH
kinds=${*:-gateway verifier provisioner console simulator redis}
python=.venv/bin/python

sh deploy/containers.sh
mkdir -p build/wheels
for lock in deploy/images/locks/*.lock; do
    $python -m pip download --quiet --no-deps --require-hashes --only-binary=:all: --dest build/wheels -r "$lock"
done
rm -f build/wheels/cloister*.whl
for each in . enclave/simulator; do
    rm -rf "$each/build/lib"  # what setuptools left behind would be packed again
    $python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheels "$each"
    rm -rf "$each/build/lib" "$each"/build/bdist*
done

has() { buildah inspect --type image "$1" >/dev/null 2>&1; }
has localhost/cloister/base || sh deploy/images/base.sh localhost/cloister/base
for kind in $kinds; do
    tag=localhost/cloister/$kind
    case $kind in
        redis)
            has localhost/cloister/redis-base || sh deploy/images/base.sh localhost/cloister/redis-base redis-server ;;
        enclave)
            : "${ENCLAVE:?names the folder of the enclave, as 'cloister enclave build' made it}"
            tag=localhost/cloister/enclave-$(basename "$ENCLAVE") ;;
    esac
    # Root inside a build stage is nobody outside of it: --isolation chroot needs neither a daemon nor a network.
    buildah bud --quiet --isolation chroot --timestamp "$SOURCE_DATE_EPOCH" --layers=false \
        ${ENCLAVE:+--build-arg ENCLAVE="$ENCLAVE"} --ignorefile deploy/images/ignore \
        --file "deploy/images/$kind.Containerfile" --tag "$tag" .
done
