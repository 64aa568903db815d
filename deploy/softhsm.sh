#!/bin/sh
# Sees that SoftHSM2 is there, a PKCS#11 token in software: enclaves can be signed by a key in a token, and tests do it.
set -eu

if command -v softhsm2-util >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing softhsm2 ..."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq softhsm2 >/dev/null
else
    echo "softhsm2 is missing: run 'sudo apt-get install softhsm2'; tests that need it are skipped" >&2
fi
