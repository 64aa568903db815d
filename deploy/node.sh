#!/bin/sh
# What a package.json asks for, from its lock into node_modules beside it: node.sh FOLDER. Node.js itself is not ours to
# install: without it, or with one that is too old, the tests that need it are skipped and say what they need.
set -eu

recent='const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'
if ! command -v npm >/dev/null || ! node -e "$recent" 2>/dev/null; then
    echo "Node.js 20.19 or later with npm is missing: tests that need it are skipped" >&2
    exit 0
fi
cd "$1"
echo "installing $1/package-lock.json (pinned, with hashes) ..."
if npm ci --no-audit --no-fund --loglevel=error >/dev/null; then
    touch node_modules/installed
else
    echo "npm could not install it: tests that need it are skipped" >&2
fi
