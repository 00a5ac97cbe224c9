//go:build !linux

package probe

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// connector opens connections, each in a goroutine of its own.
type connector struct {
	wg sync.WaitGroup
}

// openConnects returns how many connects may be under way: as many as there are workers.
func openConnects(_, workers int) int { return workers }

// newConnector returns a connector; every dial watches its own context.
func newConnector(context.Context) (*connector, error) { return &connector{}, nil }

// dial connects to addr within timeout and calls done.
func (c *connector) dial(ctx context.Context, addr netip.AddrPort, timeout time.Duration, done connected) {
	c.wg.Go(func() {
		dialer := net.Dialer{Timeout: timeout, KeepAlive: -1}
		done(dialer.DialContext(ctx, "tcp", addr.String()))
	})
}

func (c *connector) close() { c.wg.Wait() }
