// Command cloudaudit says which packets from the public internet can reach memcached in the clouds that you own, and which
// rule lets them in. All that it does stands in internal/cli; this is the process around it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/cloudaudit/cloudaudit/internal/cli"
)

// version is set by the linker for released binaries.
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(cli.Run(ctx, cli.System{
		Args: os.Args[1:], Getenv: os.Getenv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Version: version,
	}))
}
