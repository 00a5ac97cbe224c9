//go:build !linux

package probe

import (
	"errors"
	"net"
	"net/netip"
)

// socket is one unconnected UDP socket. It tells of no ICMP errors, for which there is no portable way: what rejects a
// datagram is as silent here as what drops it.
type socket struct {
	conn   *net.UDPConn
	failed int // reads in a row
}

func newSocket(v6 bool) (*socket, error) {
	network := "udp4"
	if v6 {
		network = "udp6"
	}
	conn, err := net.ListenUDP(network, nil)
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadBuffer(4 << 20)
	return &socket{conn: conn}, nil
}

// send sends b to one address.
func (s *socket) send(b []byte, to netip.AddrPort) error {
	_, err := s.conn.WriteToUDPAddrPort(b, to)
	return err
}

// receive waits for the next datagram. It returns net.ErrClosed after close.
func (s *socket) receive(buf []byte) (packet, error) {
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if err == nil {
			s.failed = 0
			return packet{from: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), n: n, cut: n == len(buf)}, nil
		}
		// Some systems report another target's ICMP error here. One that does not go away is the socket's own.
		if s.failed++; errors.Is(err, net.ErrClosed) || s.failed > 1000 {
			return packet{}, net.ErrClosed
		}
	}
}

func (s *socket) close() { _ = s.conn.Close() }

func (s *socket) free() {}

func localFault(error) bool { return true }
