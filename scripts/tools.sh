#!/usr/bin/env bash
# Installs what the tests use beside Go, into .tools and node_modules of this checkout, and says what it cannot install:
# moto (a stand-in for AWS) from PyPI, SARIF's validator and an API mock from npm. Does nothing if all is there.
set -euo pipefail
cd "$(dirname "$0")/.."

need() { # need COMMAND PACKAGE
  command -v "$1" >/dev/null && return
  echo "The tests need $1. On Debian or Ubuntu: apt-get install $2" >&2
  exit 1
}

need python3 'python3 python3-venv'
if ! python3 -c 'import moto.server, boto3' 2>/dev/null; then
  echo 'installing moto into .tools/venv'
  python3 -m venv .tools/venv
  .tools/venv/bin/pip install --quiet --requirement scripts/requirements.txt
fi

need memcached memcached
need npm 'nodejs npm'
if [ ! -d node_modules ] || [ package.json -nt node_modules/.package-lock.json ]; then
  echo 'installing the npm packages of package.json into node_modules'
  npm ci --no-audit --no-fund --loglevel=error
  touch node_modules/.package-lock.json
fi
