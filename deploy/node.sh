#!/bin/sh
# What the Node.js client needs, from its lock into clients/node/node_modules. Node.js itself is not ours to install:
# without it, or with one that is too old, the tests of that client are skipped and say what they need.
set -eu

recent='const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'
if ! command -v npm >/dev/null || ! node -e "$recent" 2>/dev/null; then
    echo "Node.js 20.19 or later with npm is missing: tests that need it are skipped" >&2
    exit 0
fi
cd clients/node
echo "installing clients/node/package-lock.json (pinned, with hashes) ..."
if npm ci --no-audit --no-fund --loglevel=error >/dev/null; then
    touch node_modules/installed
else
    echo "npm could not install it: tests that need it are skipped" >&2
fi
