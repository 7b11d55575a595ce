#!/bin/sh
# Installs Titan as a systemd service from the self-contained bundle (`npm run bundle`, or a release's tarball). Safe to run again: an
# upgrade keeps the configuration, and a running Titan drains before the new version takes over.
set -eu

usage() {
  cat <<'TEXT'
Usage: install.sh [options]

  --bundle DIR    the bundle; default: the one that this script lies in, else the newest in bundle/
  --root DIR      install into a root folder instead of / (images, tests); nothing is started
  --no-start      install, but neither enable nor start the service
  --no-sysctl     leave the kernel's settings alone
  -h, --help      this text
TEXT
}

here=$(CDPATH='' cd -- "$(dirname "$0")" && pwd -P)
bundle='' root='' start=yes sysctl=yes
while [ $# -gt 0 ]; do
  case $1 in
    --bundle) bundle=${2:?--bundle needs a folder}; shift ;;
    --root) root=${2:?--root needs a folder}; root=${root%/}; start=no; shift ;;
    --no-start) start=no ;;
    --no-sysctl) sysctl=no ;;
    -h | --help) usage; exit 0 ;;
    *) echo "install.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
  esac
  shift
done

say() { echo "titan: $*"; }
fail() { echo "titan: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "run this as root (sudo $0)."
if [ -z "$bundle" ]; then
  if [ -x "$here/../../bin/titan" ]; then
    bundle=$here/../..
  else
    # shellcheck disable=SC2012 # names are ours: no blanks in them
    bundle=$(ls -td "$here"/../../bundle/titan-*/ 2>/dev/null | head -n 1)
    [ -n "$bundle" ] || fail "there is no bundle: make one with \`npm run bundle\`, or name it with --bundle."
  fi
fi
bundle=$(CDPATH='' cd -- "$bundle" && pwd -P)
if [ ! -x "$bundle/bin/titan" ] || [ ! -f "$bundle/VERSION" ]; then fail "$bundle is not a bundle of Titan."; fi
version=$(cat "$bundle/VERSION")

# 1. A user of its own, without a home or a shell.
in_root() { if [ -n "$root" ]; then chroot "$root" "$@"; else "$@"; fi; }
if ! grep -q '^titan:' "$root/etc/passwd" 2>/dev/null; then
  in_root useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin titan
  say "made the user titan"
fi
group=$(sed -n 's/^titan:[^:]*:\([0-9]*\):.*/\1/p' "$root/etc/group")
[ -n "$group" ] || fail "there is a user titan but no group titan."

# 2. The program, each version in a folder of its own: a process that drains keeps reading its own version.
lib=$root/usr/local/lib/titan
mkdir -p "$lib" "$root/usr/local/bin"
rm -rf "$lib/.new"
cp -R "$bundle" "$lib/.new"
chown -R 0:0 "$lib/.new"
chmod -R u=rwX,go=rX "$lib/.new"
if [ -e "$lib/$version" ]; then
  # The same version again: the folder that a running Titan may use is moved, not overwritten.
  rm -rf "$lib/.old-$version"
  mv "$lib/$version" "$lib/.old-$version"
fi
mv "$lib/.new" "$lib/$version"
previous=$(readlink "$lib/current" 2>/dev/null || true)
ln -sfn "$version" "$lib/.current"
mv -T "$lib/.current" "$lib/current"
ln -sfn ../lib/titan/current/bin/titan "$root/usr/local/bin/titan"
say "installed version $version in /usr/local/lib/titan"

# 3. The configuration, only where there is none. Readable by the service, not by others: it may hold secrets.
mkdir -p "$root/etc/titan/tls"
chown "0:$group" "$root/etc/titan" "$root/etc/titan/tls"
chmod 750 "$root/etc/titan" "$root/etc/titan/tls"
if [ ! -e "$root/etc/titan/config.json" ]; then
  cp "$here/config.json" "$root/etc/titan/config.json"
  chown "0:$group" "$root/etc/titan/config.json"
  chmod 640 "$root/etc/titan/config.json"
  say "wrote /etc/titan/config.json"
else
  say "kept /etc/titan/config.json"
fi
in_root /usr/local/bin/titan check --config /etc/titan/config.json || fail "the configuration has errors (above); the service was not started."

# 4. The service.
units=$root/etc/systemd/system
mkdir -p "$units"
for unit in titan.service titan.socket; do
  # A changed socket unit is the administrator's: its ports belong to the configuration.
  if [ "$unit" = titan.socket ] && [ -e "$units/$unit" ]; then continue; fi
  cp "$here/$unit" "$units/$unit"
  chmod 644 "$units/$unit"
done
if [ $sysctl = yes ]; then
  mkdir -p "$root/etc/sysctl.d"
  cp "$here/60-titan.conf" "$root/etc/sysctl.d/60-titan.conf"
  chmod 644 "$root/etc/sysctl.d/60-titan.conf"
  if [ -z "$root" ] && command -v sysctl >/dev/null; then
    sysctl -q -p /etc/sysctl.d/60-titan.conf || say "some kernel settings were refused (a container?); the others are in use"
  fi
fi

if [ -n "$root" ]; then
  say "installed into $root; nothing was started"
elif [ ! -d /run/systemd/system ]; then
  say "systemd does not run here: start Titan with \`/usr/local/bin/titan serve --config /etc/titan/config.json\`"
else
  systemctl daemon-reload
  if [ $start = yes ]; then
    systemctl enable --quiet titan.service
    # Restart drains the old version; systemd waits for READY of the new one.
    systemctl restart titan.service || fail "the service did not start: see \`journalctl -u titan -n 50\`."
    say "running: \`systemctl status titan\`, \`curl http://localhost:8080/_health\`"
  else
    say "installed; start it with \`systemctl enable --now titan\`"
  fi
fi

# 5. Older versions go, but the one before stays for a way back: `ln -sfn VERSION /usr/local/lib/titan/current`.
for old in "$lib"/* "$lib"/.old-*; do
  name=${old##*/}
  if [ ! -d "$old" ] || [ -h "$old" ] || [ "$name" = "$version" ] || [ "$name" = "$previous" ]; then continue; fi
  rm -rf "$old"
done
