#!/bin/sh
# Sees that redis-server is there: jobs wait in it, verifiers with several replicas share their state through it, and
# tests run a real one.
set -eu

if command -v redis-server >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing redis-server ..."
    apt-get update -qq
    # The package would start a server of its own; a policy that forbids it leaves the program alone.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server >/dev/null
else
    echo "redis-server is missing: run 'sudo apt-get install redis-server' (7.0 or later); without it a mesh takes no jobs, and tests that need it are skipped" >&2
fi
