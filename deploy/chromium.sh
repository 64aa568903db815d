#!/bin/sh
# Sees that Chromium is there: the web console is tested in a real one, and its pictures are taken with it.
set -eu

if command -v chromium >/dev/null || command -v chromium-browser >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing chromium ..."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
else
    echo "chromium is missing: run 'sudo apt-get install chromium'; tests that need it are skipped" >&2
fi
