package cli_test

import "golang.org/x/sys/unix"

const oldRename = unix.SYS_RENAME
