#!/bin/sh
# Inside a build: locked wheels, and Cloister's own, into /opt/cloister; install.sh LOCK.
# No network: all comes from /wheels, and each file must have the hash that the lock names. Bytecode is checked against
# nothing, so that it is the same in every build, and no installer stays.
set -eu
lock=$1
pip=$(echo /wheels/pip-*.whl)/pip
python3 -m venv --without-pip /opt/cloister
put() {
    python3 "$pip" --python /opt/cloister/bin/python install --quiet --no-index --no-compile --no-cache-dir \
        --root-user-action=ignore "$@"
}
put --find-links /wheels --require-hashes -r "$lock"
put --no-deps /wheels/cloister-*.whl
[ -z "${SIMULATOR:-}" ] || put --no-deps /wheels/cloister_simulator-*.whl
find /opt/cloister/lib -name direct_url.json -delete
PYTHONHASHSEED=0 python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/cloister/lib
