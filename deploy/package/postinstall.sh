#!/bin/sh
# Tells a running systemd of the units. Nothing is enabled and nothing is started: an audit needs credentials first.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
