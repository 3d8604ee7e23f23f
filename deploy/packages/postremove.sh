#!/bin/sh
# deb: remove, purge, upgrade, ...; rpm: how many versions are left. Parcels, events and the configuration stay
# when the package is removed, and go when it is purged, which rpm does not know. The user stays: a later one
# with its number would own what file sinks have written elsewhere.
set -e
if [ "$1" = purge ]; then
	rm -rf /var/lib/vodrelay /var/log/vodrelay /etc/vodrelay
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
