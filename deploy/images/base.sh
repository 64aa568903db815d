#!/bin/sh
# Makes the image that all of Cloister's images stand on: Debian 12 with its Python, from Debian's own archive, without
# anything that builds. base.sh TAG [PACKAGES]. Two runs over the same archive give the same bytes.
set -eu
tag=$1
shift
for tool in buildah mmdebstrap; do
    command -v "$tool" >/dev/null || {
        echo "$tool is missing: run 'sudo apt-get install buildah mmdebstrap'" >&2
        exit 1
    }
done

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
packages=$(printf '%s,' ca-certificates libstdc++6 python3 "$@")
# What a running service never reads is left out; so is what differs from one run to the next.
mmdebstrap --quiet --variant=minbase --include="${packages%,}" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='chroot "$1" groupadd --gid 10001 cloister' \
    --customize-hook='chroot "$1" useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin cloister' \
    --customize-hook='rm -rf "$1"/var/cache/ldconfig/aux-cache "$1"/var/lib/apt/lists "$1"/var/log/* "$1"/etc/machine-id \
        "$1"/etc/hostname "$1"/etc/resolv.conf "$1"/etc/passwd- "$1"/etc/group- "$1"/etc/shadow- "$1"/etc/gshadow-' \
    bookworm "$work/root.tar"
container=$(buildah from scratch)
buildah add --quiet "$container" "$work/root.tar" / >/dev/null
buildah config --env PYTHONDONTWRITEBYTECODE=1 --env PYTHONUNBUFFERED=1 --user 10001:10001 "$container"
buildah commit --quiet --timestamp "$SOURCE_DATE_EPOCH" --rm "$container" "$tag"
