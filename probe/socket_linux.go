package probe

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// socket is one unconnected UDP socket, with its queue of ICMP errors (IP_RECVERR, ip(7)).
type socket struct {
	fd, wake int
	oob      []byte
	since    int // datagrams since the error queue was looked at

	mu     sync.Mutex
	closed bool
}

func newSocket(v6 bool) (*socket, error) {
	family, level, option := unix.AF_INET, unix.SOL_IP, unix.IP_RECVERR
	if v6 {
		family, level, option = unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("setsockopt", err)
	}
	// Replies and ICMP errors share this buffer; the kernel takes what it allows.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("eventfd", err)
	}
	return &socket{fd: fd, wake: wake, oob: make([]byte, 512)}, nil
}

// send sends b to one address. An error that is pending from another target is none of this one: it is taken by the
// failing call, and the datagram is sent again.
func (s *socket) send(b []byte, to netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	var err error
	for range 4 {
		err = unix.Sendto(s.fd, b, 0, sockaddr(to))
		switch err {
		case nil:
			return nil
		case unix.EAGAIN, unix.ENOBUFS: // the queue is full: it empties by itself
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}, 20)
			if err == unix.ENOBUFS {
				time.Sleep(time.Millisecond)
			}
		}
	}
	return os.NewSyscallError("sendto", err)
}

// receive waits for the next datagram or ICMP error. It returns net.ErrClosed after close.
func (s *socket) receive(buf []byte) (packet, error) {
	for {
		if s.since >= 64 {
			s.since = 0
			if p, ok := s.icmp(buf); ok {
				return p, nil
			}
		}
		n, _, flags, from, err := unix.Recvmsg(s.fd, buf, nil, unix.MSG_DONTWAIT)
		if err == nil {
			s.since++
			return packet{from: addrPort(from), n: n, cut: flags&unix.MSG_TRUNC != 0}, nil
		}
		if p, ok := s.icmp(buf); ok {
			return p, nil
		}
		if err != unix.EAGAIN { // an error that was pending: the queue has, or had, its cause
			continue
		}
		fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}, {Fd: int32(s.wake), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return packet{}, os.NewSyscallError("poll", err)
		}
		if fds[1].Revents != 0 {
			return packet{}, net.ErrClosed
		}
	}
}

// icmp takes the next error out of the queue.
func (s *socket) icmp(buf []byte) (packet, bool) {
	for {
		n, oobn, _, asked, err := unix.Recvmsg(s.fd, buf, s.oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return packet{}, false
		}
		p := packet{from: addrPort(asked), n: n}
		messages, err := unix.ParseSocketControlMessage(s.oob[:oobn])
		if err != nil {
			continue
		}
		for _, m := range messages {
			v4 := m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_RECVERR
			v6 := m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_RECVERR
			if !v4 && !v6 {
				continue
			}
			if e, ok := parseExtended(m.Data); ok {
				p.icmp = e
				return p, true
			}
		}
	}
}

// parseExtended reads struct sock_extended_err and the address behind it (linux/errqueue.h).
func parseExtended(b []byte) (*icmpError, bool) {
	const size = 16
	if len(b) < size || b[4] != unix.SO_EE_ORIGIN_ICMP && b[4] != unix.SO_EE_ORIGIN_ICMP6 {
		return nil, false
	}
	e := &icmpError{v6: b[4] == unix.SO_EE_ORIGIN_ICMP6, kind: b[5], code: b[6]}
	if b = b[size:]; len(b) < 2 {
		return e, true
	}
	switch binary.NativeEndian.Uint16(b) {
	case unix.AF_INET:
		if len(b) >= 8 {
			e.by = netip.AddrFrom4([4]byte(b[4:8]))
		}
	case unix.AF_INET6:
		if len(b) >= 24 {
			e.by = netip.AddrFrom16([16]byte(b[8:24]))
		}
	}
	return e, true
}

// close wakes receive up; free, which comes after receive has returned, gives the descriptors back.
func (s *socket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	_, _ = unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (s *socket) free() {
	_ = unix.Close(s.fd)
	_ = unix.Close(s.wake)
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// localFault says whether an error of send is this machine's, and not the network's.
func localFault(err error) bool {
	return !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.EACCES)
}
