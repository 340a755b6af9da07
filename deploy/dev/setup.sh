#!/usr/bin/env bash
# Makes .venv from a bare python3: venv, then uv, then the pinned packages with their hashes.
set -euo pipefail
cd "$(dirname "$0")/../.."
python="${PYTHON:-python3}"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "error: $("$python" --version) is too old; Python 3.11 or newer is needed (PYTHON=python3.12 make setup)" >&2
  exit 1
}
if ! "$python" -m venv .venv 2>/dev/null; then
  rm -rf .venv
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
    "$python" -m venv .venv
  else
    echo "error: $python cannot make a virtual environment; install the package python3-venv" >&2
    exit 1
  fi
fi
# uv installs in seconds what takes pip half a minute; without it pip does the same work.
if .venv/bin/python -m pip install --quiet --require-hashes -r requirements/uv.txt &&
   .venv/bin/uv pip sync --quiet --python .venv/bin/python --require-hashes requirements/dev.txt; then
  install=(.venv/bin/uv pip install --quiet --python .venv/bin/python)
else
  echo "uv is not usable here, pip goes on" >&2
  .venv/bin/python -m pip install --quiet --require-hashes -r requirements/dev.txt
  install=(.venv/bin/python -m pip install --quiet)
fi
"${install[@]}" --no-deps --no-build-isolation --editable .
echo "ready: .venv ($(.venv/bin/python --version))" >&2
