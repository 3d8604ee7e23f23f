#!/bin/sh
# Before the files, some of which belong to the group.
set -e
if ! getent passwd vodrelay >/dev/null; then
	useradd --system --user-group --no-create-home --home-dir /var/lib/vodrelay --shell /usr/sbin/nologin vodrelay
fi
