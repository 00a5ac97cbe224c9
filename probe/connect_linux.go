package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// connector opens connections. All connects wait for their answer in one place, so that a target that drops packets costs
// a file descriptor and no goroutine.
type connector struct {
	epoll, wake int
	stopped     chan struct{}
	unwatch     func() bool

	mu      sync.Mutex
	waiting map[int]*connecting
	order   []*connecting // by deadline, for all timeouts of a run are the same; holes where the answer came
	ending  bool
	closed  bool // the descriptors are somebody else's
}

// connecting is a connect that has no answer yet.
type connecting struct {
	ctx      context.Context
	fd       int
	deadline time.Time
	done     connected
}

// openConnects returns how many connects may be under way: wanted, as far as three quarters of the files that this process
// may open suffice.
func openConnects(wanted, _ int) int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return min(wanted, 512)
	}
	return int(max(1, min(uint64(wanted), limit.Cur/4*3)))
}

// newConnector starts a connector for at most n connects at once, which gives up what it waits for when ctx ends.
func newConnector(ctx context.Context, n int) (*connector, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("probe: epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("probe: eventfd: %w", err)
	}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)}); err != nil {
		_ = unix.Close(epoll)
		_ = unix.Close(wake)
		return nil, fmt.Errorf("probe: epoll: %w", err)
	}
	// The kernel grows a table of descriptors by doubling it, and stops the process each time until no reader is left.
	if high, err := unix.FcntlInt(uintptr(wake), unix.F_DUPFD_CLOEXEC, n+64); err == nil {
		_ = unix.Close(high)
	}
	c := &connector{epoll: epoll, wake: wake, stopped: make(chan struct{}), waiting: map[int]*connecting{}}
	c.unwatch = context.AfterFunc(ctx, c.poke)
	go c.loop()
	return c, nil
}

// dial connects to addr within timeout and calls done, from here or from the connector's goroutine. It does not wait.
func (c *connector) dial(ctx context.Context, addr netip.AddrPort, timeout time.Duration, done connected) {
	family, to := unix.AF_INET, sockaddr(addr)
	if addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		done(nil, os.NewSyscallError("socket", err))
		return
	}
	err = unix.Connect(fd, to)
	switch err {
	case nil:
		done(opened(fd))
		return
	case unix.EINPROGRESS, unix.EINTR:
	default:
		_ = unix.Close(fd)
		done(nil, os.NewSyscallError("connect", err))
		return
	}
	x := &connecting{ctx: ctx, fd: fd, deadline: time.Now().Add(timeout), done: done}
	c.mu.Lock()
	first := len(c.order) == 0
	c.waiting[fd] = x
	c.order = append(c.order, x)
	err = unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLONESHOT, Fd: int32(fd)})
	if err != nil {
		c.forget(x)
	}
	c.mu.Unlock()
	if err != nil {
		_ = unix.Close(fd)
		done(nil, os.NewSyscallError("epoll_ctl", err))
		return
	}
	if first || ctx.Err() != nil {
		c.poke()
	}
}

// forget takes x out of what is waited for; the caller holds the lock and closes or keeps the descriptor. Its place in the
// order is left empty.
func (c *connector) forget(x *connecting) {
	delete(c.waiting, x.fd)
	x.fd = -1
}

// poke makes the loop look at the deadlines again.
func (c *connector) poke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	_, _ = unix.Write(c.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // full means that it is awake
}

func (c *connector) loop() {
	defer close(c.stopped)
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(c.epoll, events, c.patience())
		if err != nil { // a signal: the others say that the descriptor is none
			n = 0
		}
		for _, e := range events[:n] {
			if int(e.Fd) == c.wake {
				var b [8]byte
				_, _ = unix.Read(c.wake, b[:])
				continue
			}
			c.mu.Lock()
			x := c.waiting[int(e.Fd)]
			if x == nil {
				c.mu.Unlock()
				continue
			}
			fd := x.fd
			c.forget(x)
			c.mu.Unlock()
			if err := pending(fd); err != nil {
				_ = unix.Close(fd)
				x.done(nil, err)
				continue
			}
			_ = unix.EpollCtl(c.epoll, unix.EPOLL_CTL_DEL, fd, nil) // the descriptor lives on as a copy
			x.done(opened(fd))
		}
		if c.expire(time.Now()) {
			return
		}
	}
}

// patience returns for how many milliseconds nothing has to be done.
func (c *connector) patience() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skip()
	if len(c.order) == 0 {
		return -1
	}
	return int(max(0, time.Until(c.order[0].deadline)+time.Millisecond) / time.Millisecond)
}

// expire ends the connects whose time or run is over. It returns true when the connector was closed.
func (c *connector) expire(now time.Time) bool {
	for {
		x, err := c.overdue(now)
		if x == nil {
			break
		}
		x.done(nil, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending && len(c.waiting) == 0
}

// overdue takes the first connect whose time or run is over out of what is waited for.
func (c *connector) overdue(now time.Time) (*connecting, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skip()
	if len(c.order) == 0 {
		return nil, nil
	}
	x := c.order[0]
	err := x.ctx.Err()
	if err == nil {
		if now.Before(x.deadline) {
			return nil, nil
		}
		// An ICMP error that met a busy socket was only noted.
		if err = pending(x.fd); err == nil {
			err = os.ErrDeadlineExceeded
		}
	}
	_ = unix.Close(x.fd)
	c.forget(x)
	return x, err
}

// skip drops the holes at the head of the order; the caller holds the lock.
func (c *connector) skip() {
	for len(c.order) > 0 && c.order[0].fd < 0 {
		c.order[0] = nil
		c.order = c.order[1:]
	}
}

// close ends the loop; nobody dials any more.
func (c *connector) close() {
	c.mu.Lock()
	c.ending = true
	c.mu.Unlock()
	c.poke()
	<-c.stopped
	c.unwatch()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	_ = unix.Close(c.epoll)
	_ = unix.Close(c.wake)
}

// pending returns the error of a connect. A reset is none: the other side had accepted, and what it said before is still to
// be read.
func pending(fd int) error {
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 && syscall.Errno(errno) != unix.ECONNRESET {
		err = syscall.Errno(errno)
	}
	return os.NewSyscallError("connect", err)
}

// opened makes a net.Conn of a connected descriptor, which it takes over.
func opened(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	return net.FileConn(f)
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
