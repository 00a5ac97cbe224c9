package cli_test

import "golang.org/x/sys/unix"

// oldRename is none: this machine has only the later calls.
const oldRename = unix.SYS_RENAMEAT
