#!/bin/sh
# Takes Titan's service away. The configuration, certificates and logs stay unless --purge is given.
set -eu

root='' yes=no purge=no
while [ $# -gt 0 ]; do
  case $1 in
    --root) root=${2:?--root needs a folder}; root=${root%/}; shift ;;
    --purge) purge=yes ;;
    -y | --yes) yes=yes ;;
    -h | --help)
      echo "Usage: uninstall.sh [--purge] [--yes] [--root DIR]"
      echo "  --purge   also remove /etc/titan, /var/lib/titan, /var/log/titan and the user titan"
      echo "  --yes     do not ask"
      exit 0
      ;;
    *) echo "uninstall.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
  esac
  shift
done

[ "$(id -u)" = 0 ] || { echo "titan: run this as root (sudo $0)." >&2; exit 1; }
if [ $yes = no ]; then
  what="the service and program of Titan"
  [ $purge = no ] || what="$what, its configuration, certificates, state and logs"
  printf 'Remove %s? [y/N] ' "$what"
  read -r answer || answer=
  case $answer in y | Y | yes) ;; *) echo "titan: nothing was removed."; exit 1 ;; esac
fi

if [ -z "$root" ] && [ -d /run/systemd/system ]; then
  # Stopping drains: requests in flight are finished.
  systemctl disable --quiet --now titan.socket titan.service 2>/dev/null || true
fi
rm -f "$root/etc/systemd/system/titan.service" "$root/etc/systemd/system/titan.socket" "$root/etc/sysctl.d/60-titan.conf"
rm -rf "$root/usr/local/lib/titan"
[ ! -h "$root/usr/local/bin/titan" ] || rm -f "$root/usr/local/bin/titan"
[ -n "$root" ] || [ ! -d /run/systemd/system ] || systemctl daemon-reload

if [ $purge = yes ]; then
  rm -rf "$root/etc/titan" "$root/var/lib/titan" "$root/var/log/titan"
  if grep -q '^titan:' "$root/etc/passwd" 2>/dev/null; then
    if [ -n "$root" ]; then chroot "$root" userdel titan; else userdel titan; fi
  fi
  echo "titan: removed, with everything that belonged to it."
else
  echo "titan: removed; /etc/titan stays (remove it with --purge)."
fi
