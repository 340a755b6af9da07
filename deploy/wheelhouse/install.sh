#!/usr/bin/env bash
# Installs the gateway agent from the files beside this script; nothing is fetched from anywhere.
#   sudo ./install.sh [/opt/hybridtwin]     PYTHON=python3.11 for an interpreter other than python3
# A second time it replaces the installation only when the new one works; configuration and state are not touched.
set -euo pipefail
cd "$(dirname "$0")"
target=$(realpath -m "${1:-/opt/hybridtwin}")
python=${PYTHON:-python3}
fail() { echo "install: $1" >&2; exit 1; }

sha256sum --quiet --strict --check SHA256SUMS || fail "a file was damaged on its way: copy the folder again"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is older than 3.11: name another by PYTHON="
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python has no venv: on Debian, install the package python3-venv"
room=$(df --output=avail -k "$(d=$target; while [ ! -d "$d" ]; do d=$(dirname "$d"); done; echo "$d")" | tail -1)
[ "$room" -gt 800000 ] || fail "less than 800 MB are free where $target lies"

# Programs name the interpreter of their folder: it is built where it will stay, and the old one kept until it works.
old=
if [ -e "$target" ]; then
  [ -x "$target/bin/twinedge" ] || fail "$target is something else: name another folder"
  old="$target.before"
  rm -rf "$old"
  mv "$target" "$old"
fi
undo() { rm -rf "$target"; [ -z "$old" ] || mv "$old" "$target"; }
trap 'undo; echo "install: nothing was changed" >&2' ERR
trap 'trap - ERR; undo; exit 130' INT TERM
"$python" -m venv "$target"
pip=("$target/bin/python" -m pip --disable-pip-version-check install --quiet --no-index --find-links wheels)
"${pip[@]}" --require-hashes -r requirements.txt
"${pip[@]}" --no-deps wheels/hybridtwin-*.whl
"$target/bin/twinedge" --version
trap - ERR INT TERM
[ -z "$old" ] || rm -rf "$old"
cat <<END
installed in $target; next:
  $target/bin/twinedge init              # find devices, write site.yaml
  $target/bin/twinedge join ...          # the line that \`twinctl gateway invite\` printed
  sudo $target/bin/twinedge service install
END
