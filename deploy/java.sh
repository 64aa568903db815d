#!/bin/sh
# Sees that Java 17 is there, or a later one that Flink runs on: Flink needs it, and nothing of Cloister does.
set -eu

version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p') || version=
if [ "${version:-0}" -ge 17 ]; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing openjdk-17-jre-headless ..."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openjdk-17-jre-headless >/dev/null
else
    echo "Java 17 is missing: run 'sudo apt-get install openjdk-17-jre-headless', then make again" >&2
    exit 1
fi
