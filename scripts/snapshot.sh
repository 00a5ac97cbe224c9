#!/usr/bin/env bash
# Builds what a release consists of into dist, as the release workflow does, and publishes nothing. An SBOM needs syft and
# the image needs docker with buildx; what is not here is left out and said. Nothing is signed: a keyless signature goes
# into a public log.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "$(git remote)" ]; then
  echo 'goreleaser takes the owner of the release from a git remote, and this checkout has none: git remote add origin URL' >&2
  exit 2
fi
skip=sign
if ! command -v syft >/dev/null; then
  echo 'no SBOM: syft is not installed' >&2
  skip+=,sbom
fi
if ! docker buildx version >/dev/null 2>&1; then
  echo 'no image: docker with buildx is not installed' >&2
  skip+=,docker
fi
scripts/tools.sh goreleaser
.tools/bin/goreleaser release --snapshot --clean --skip="$skip"
