#!/bin/sh
# Makes the image that all of Cloister's images stand on: Debian 12 with its Python, and a library that Gramine's loader
# needs, from Debian's own archive, without anything that builds. base.sh TAG [PACKAGES]. Two runs over the same archive
# give the same bytes. An image that was made by this very script stays.
set -eu
tag=$1
recipe=$(printf '%s ' "$@" | cat "$0" - | sha256sum | cut -c 1-16)
shift
for tool in buildah mmdebstrap; do
    command -v "$tool" >/dev/null || {
        echo "$tool is missing: run 'sudo apt-get install buildah mmdebstrap'" >&2
        exit 1
    }
done

label=cloister.recipe
has=$(buildah inspect --type image --format "{{index .OCIv1.Config.Labels \"$label\"}}" "$tag" 2>/dev/null || true)
[ "$has" != "$recipe" ] || exit 0

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
packages=$(printf '%s,' ca-certificates libprotobuf-c1 libstdc++6 python3 "$@")
# What a running service never reads is left out; so is what differs from one run to the next.
# Essential packages only, so no installer; users are written down rather than added, for that takes a package more.
mmdebstrap --quiet --variant=essential --include="${packages%,}" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='echo cloister:x:10001: >> "$1/etc/group"' \
    --customize-hook='echo cloister:x:10001:10001::/nonexistent:/usr/sbin/nologin >> "$1/etc/passwd"' \
    --customize-hook='find "$1" -xdev -type f -perm /6000 -exec chmod ug-s {} +' \
    --customize-hook='rm -rf "$1"/var/cache/ldconfig/aux-cache "$1"/var/lib/apt/lists "$1"/var/log/* "$1"/etc/machine-id \
        "$1"/etc/hostname "$1"/etc/resolv.conf "$1"/etc/passwd- "$1"/etc/group- "$1"/etc/shadow- "$1"/etc/gshadow-' \
    bookworm "$work/root.tar"
container=$(buildah from scratch)
buildah add --quiet "$container" "$work/root.tar" / >/dev/null
buildah config --env PYTHONDONTWRITEBYTECODE=1 --env PYTHONUNBUFFERED=1 --user 10001:10001 \
    --label "$label=$recipe" "$container"
buildah commit --quiet --timestamp "$SOURCE_DATE_EPOCH" --rm "$container" "$tag"
