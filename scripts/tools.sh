#!/usr/bin/env bash
# Installs what the tests use beside Go, into .tools and node_modules of this checkout, and says what it cannot install:
# moto (a stand-in for AWS) from PyPI, SARIF's validator and an API mock from npm, nfpm (it builds the packages) and
# actionlint from their Go modules. Does nothing if all is there. With the argument goreleaser it installs that instead: it takes long to build.
set -euo pipefail
cd "$(dirname "$0")/.."

# goreleaser builds the packages of a release with the nfpm that it contains: keep the two of one age.
nfpm=v2.45.2
goreleaser=v2.15.1
actionlint=v1.7.12

built() { # built COMMAND PACKAGE VERSION
  local has
  has=$(go version -m ".tools/bin/$1" 2>/dev/null | awk '$1 == "mod" { print $3 }' || true)
  [ "$has" = "$3" ] && return
  echo "building $1 $3 into .tools/bin"
  GOBIN="$PWD/.tools/bin" go install "$2@$3"
}

if [ "${1:-}" = goreleaser ]; then
  built goreleaser github.com/goreleaser/goreleaser/v2 "$goreleaser"
  exit
fi

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

built nfpm github.com/goreleaser/nfpm/v2/cmd/nfpm "$nfpm"
built actionlint github.com/rhysd/actionlint/cmd/actionlint "$actionlint"
