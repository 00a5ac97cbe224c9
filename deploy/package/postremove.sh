#!/bin/sh
# Tells a running systemd that the units are gone. State and configuration of an administrator stay; purging takes both.
# DPKG_ROOT is where dpkg removes from, when that is not the running system.
set -e
if [ -d "${DPKG_ROOT:-}/run/systemd/system" ]; then
	systemctl daemon-reload
fi
if [ "${1:-}" = purge ]; then
	rm -rf "${DPKG_ROOT:-}/var/lib/private/cloudaudit" "${DPKG_ROOT:-}/var/lib/cloudaudit"
	rm -f "${DPKG_ROOT:-}/etc/systemd/system/timers.target.wants/cloudaudit.timer"
fi
