#!/usr/bin/env bash
# Installs the real services that tests and the demo use: mosquitto (broker), Chromium (console), PostgreSQL (store of
# several coordinators), HAProxy (before them) and promtool (of Prometheus); as root also what `make campaign` breaks links and disks with:
# nftables, iproute2 and e2fsprogs.
set -euo pipefail
missing=()
[ -x /usr/sbin/mosquitto ] || command -v mosquitto >/dev/null || missing+=(mosquitto)
# Its shell without windows runs the same tests for two thirds of the processor time.
command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || missing+=(chromium-headless-shell)
[ -x /usr/sbin/haproxy ] || command -v haproxy >/dev/null || missing+=(haproxy)
command -v promtool >/dev/null || missing+=(prometheus)
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
if [ "$(id -u)" = 0 ]; then
  for tool in nft:nftables tc:iproute2 mkfs.ext4:e2fsprogs; do
    command -v "${tool%%:*}" >/dev/null || [ -x "/usr/sbin/${tool%%:*}" ] || missing+=("${tool##*:}")
  done
fi
[ "${#missing[@]}" = 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing ${missing[*]} from Debian" >&2
  log=$(mktemp)
  # A package that starts its daemon would take the default port; tests start their own.
  apt-get update -qq >"$log" 2>&1 || true # what is known already may do
  apt-cache show chromium-headless-shell >/dev/null 2>&1 || missing=("${missing[@]/chromium-headless-shell/chromium}")
  if ! { DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >>"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "could not install ${missing[*]}; the tests that need them are skipped" >&2
  fi
  rm -f "$log"
else
  echo "not installed: ${missing[*]}; install them (as root: apt-get install ${missing[*]}), their tests are skipped" >&2
fi
