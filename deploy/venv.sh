#!/bin/sh
# Makes a virtual environment from a lock file: venv.sh PYTHON FOLDER LOCK [OPTIONS OF PIP]
set -eu
python=$1 folder=$2 lock=$3
shift 3

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Cloister needs Python 3.11 or later; $("$python" --version 2>&1) was found. Name another: make PYTHON=python3.12" >&2
    exit 1
}
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    # Debian and Ubuntu ship these apart from python3.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
    else
        echo "python3 lacks its venv module: run 'sudo apt-get install python3-venv', then make again" >&2
        exit 1
    fi
fi
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
echo "installing $lock into $folder (pinned, with hashes) ..."
"$folder/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$lock" "$@"
