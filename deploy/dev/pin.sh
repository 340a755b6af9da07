#!/usr/bin/env bash
# Compiles requirements/*.txt from pyproject.toml: every version pinned with hashes, no index address.
set -euo pipefail
cd "$(dirname "$0")/../.."
compile() {
  .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade "$@"
}
compile pyproject.toml --all-extras --group dev -o requirements/dev.txt
for extra in edge cloud ctl; do compile pyproject.toml --extra "$extra" -o "requirements/$extra.txt"; done
compile pyproject.toml --all-extras --group dev --group bench -c requirements/dev.txt -o requirements/bench.txt
compile --group pyproject.toml:fuzz -o requirements/fuzz.txt
compile --group pyproject.toml:protos -o requirements/protos.txt
echo uv | compile - -o requirements/uv.txt
