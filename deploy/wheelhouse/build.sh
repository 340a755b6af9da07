#!/usr/bin/env bash
# Gathers what a gateway without internet needs: our wheel, every pinned package, and the script that installs them.
#   build.sh FOLDER     PLATFORM=manylinux_2_28_aarch64 PYTHON_VERSION=3.11 for a gateway unlike this machine
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
house=${1:?where to: build.sh FOLDER}
python=.venv/bin/python
options=(--quiet --require-hashes --only-binary :all: -r requirements/edge.txt -d "$house.part/wheels")
if [ -n "${PLATFORM:-}" ]; then
  # A wheel for a newer C library may not run where an older one does: ask for the older ones, too.
  arch=${PLATFORM##*_}
  case $arch in 64) arch=x86_64 ;; esac
  options+=(--platform "$PLATFORM" --platform "manylinux_2_17_$arch" --platform "manylinux2014_$arch")
  options+=(--python-version "${PYTHON_VERSION:-3.11}" --implementation cp)
fi
rm -rf "$house.part"
mkdir -p "$house.part/wheels"
$python -m pip --disable-pip-version-check download "${options[@]}"
$python -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation -w "$house.part/wheels" .
cp requirements/edge.txt "$house.part/requirements.txt"
cp "$here/install.sh" "$house.part/install.sh"
(cd "$house.part" && sha256sum requirements.txt install.sh wheels/* > SHA256SUMS)
rm -rf "$house"
mv "$house.part" "$house"
echo "$(du -sh "$house" | cut -f1) in $house ($(ls "$house/wheels" | wc -l) wheels); on the gateway: sudo ./install.sh /opt/hybridtwin"
