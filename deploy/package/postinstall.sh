#!/bin/sh
# Tells a running systemd of the units. Nothing is enabled and nothing is started: an audit needs credentials first.
# DPKG_ROOT is where dpkg installs to, when that is not the running system.
set -e
if [ -d "${DPKG_ROOT:-}/run/systemd/system" ]; then
	systemctl daemon-reload
fi
