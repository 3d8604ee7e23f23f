#!/bin/sh
# deb: configure OLDVERSION, or abort-...; rpm: how many versions there are now. The service is neither enabled
# nor started: it would take events out of the queue before somebody has said where to. One that runs is
# restarted.
set -e
case "$1" in
configure | [0-9]*) ;;
*) exit 0 ;;
esac

dropin=/usr/lib/systemd/system/vodrelay.service.d/before-systemd-253.conf
version=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
if [ "${version:-253}" -lt 253 ]; then
	mkdir -p "$(dirname $dropin)"
	ln -sf /usr/share/vodrelay/before-systemd-253.conf $dropin
else
	rm -f $dropin
fi

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart vodrelay.service || true # why it does not start is in its log
fi
