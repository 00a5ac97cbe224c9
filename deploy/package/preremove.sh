#!/bin/sh
# Stops what an administrator has enabled, when the package goes and not when it is replaced by another version. deb passes
# "remove" or "upgrade", rpm the number of versions that stay, apk nothing of use.
# DPKG_ROOT is where dpkg removes from, when that is not the running system.
set -e
case "${1:-}" in
	upgrade | 1) exit 0 ;;
esac
if [ -d "${DPKG_ROOT:-}/run/systemd/system" ]; then
	systemctl --quiet disable --now cloudaudit.timer || true
	systemctl --quiet stop cloudaudit.service || true
fi
