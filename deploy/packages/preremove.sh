#!/bin/sh
# deb: remove, upgrade NEWVERSION, ...; rpm: how many versions are left. Before an upgrade nothing stops.
set -e
case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
now=
if [ -d /run/systemd/system ]; then now=--now; fi
if command -v systemctl >/dev/null; then
	systemctl disable $now vodrelay.service vodrelay-drain.service vodrelay-drain.timer
fi
rm -f /usr/lib/systemd/system/vodrelay.service.d/before-systemd-253.conf
rmdir --ignore-fail-on-non-empty /usr/lib/systemd/system/vodrelay.service.d 2>/dev/null || true
