#!/bin/sh
# Sees that containers can be built and run here: buildah, podman, and the tools that make a root of Debian's packages.
set -eu

missing=
for tool in buildah mmdebstrap podman runc; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing$missing ..."
    # shellcheck disable=SC2086  # a list of names
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "missing:$missing; run 'sudo apt-get install$missing'" >&2
fi
