package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

// part is one datagram of a reply: the id of the request, a sequence, a total.
func part(request []byte, sequence, total uint16, payload string) []byte {
	b := make([]byte, frameLen, frameLen+len(payload))
	copy(b, request[:2])
	binary.BigEndian.PutUint16(b[2:], sequence)
	binary.BigEndian.PutUint16(b[4:], total)
	return append(b, payload...)
}

// handler is what a fake does with a datagram, the n-th.
type handler = func(s *udpServer, b []byte, from netip.AddrPort, n int)

// TestHostileUDP asks servers that lie, stall and flood.
func TestHostileUDP(t *testing.T) {
	elsewhere := func(t *testing.T) func(to netip.AddrPort, b []byte) {
		conn := listenUDP(t, fresh())
		return func(to netip.AddrPort, b []byte) { _, _ = conn.WriteToUDPAddrPort(b, to) }
	}
	for _, test := range []struct {
		name  string
		serve func(t *testing.T) handler
		want  string
		plain bool // without the measurement
		check func(t *testing.T, a *Answer, s *udpServer)
	}{
		{name: "right cookie from another address", want: "open/noop", plain: true, serve: func(t *testing.T) handler {
			send := elsewhere(t)
			return func(_ *udpServer, b []byte, from netip.AddrPort, _ int) { send(from, noopReply(b, 0)) }
		}, check: func(t *testing.T, a *Answer, _ *udpServer) {
			if a.RepliedFrom == "" || !strings.HasPrefix(a.RepliedFrom, "127.20.") || a.SpoofSuspected != 0 {
				t.Errorf("replied from %q", a.RepliedFrom)
			}
		}},
		{name: "wrong cookie from another address", want: "inconclusive/no_response", serve: func(t *testing.T) handler {
			send := elsewhere(t)
			return func(_ *udpServer, b []byte, from netip.AddrPort, _ int) {
				r := noopReply(b, 0)
				r[frameLen+12] ^= 1
				send(from, r)
			}
		}, check: func(t *testing.T, a *Answer, _ *udpServer) {
			if a.SpoofSuspected != 2 || a.Ignored != 0 {
				t.Errorf("suspected %d, ignored %d", a.SpoofSuspected, a.Ignored)
			}
		}},
		{name: "wrong cookie from the asked address", want: "other/unrecognised", serve: func(*testing.T) handler {
			return func(s *udpServer, b []byte, from netip.AddrPort, _ int) {
				r := noopReply(b, 0)
				r[frameLen+12] ^= 1
				s.send(from, r)
			}
		}},
		{name: "wrong request id", want: "inconclusive/no_response", serve: func(*testing.T) handler {
			return func(s *udpServer, b []byte, from netip.AddrPort, _ int) {
				r := noopReply(b, 0)
				r[1] ^= 1
				s.send(from, r)
			}
		}, check: ignored(2)},
		{name: "runt", want: "inconclusive/no_response", serve: func(*testing.T) handler {
			return func(s *udpServer, b []byte, from netip.AddrPort, _ int) { s.send(from, b[:3]) }
		}, check: ignored(2)},
		{name: "frame with total 0", want: "inconclusive/no_response", serve: func(*testing.T) handler {
			return func(s *udpServer, b []byte, from netip.AddrPort, _ int) {
				r := noopReply(b, 0)
				r[5] = 0
				s.send(from, r)
			}
		}, check: ignored(2)},
		{name: "frame with a reserved field", want: "inconclusive/no_response", serve: func(*testing.T) handler {
			return func(s *udpServer, b []byte, from netip.AddrPort, _ int) {
				r := noopReply(b, 0)
				r[7] = 1
				s.send(from, r)
			}
		}, check: ignored(2)},
		{name: "sequence 1 of 2 first", want: "open/noop", plain: true, serve: func(*testing.T) handler {
			return func(s *udpServer, b []byte, from netip.AddrPort, _ int) {
				s.send(from, part(b, 1, 2, "rest"))
				r := noopReply(b, 0)
				r[5] = 2
				s.send(from, r)
			}
		}},
		{name: "60,000 bytes behind the reply", want: "open/noop", plain: true, serve: func(*testing.T) handler {
			return func(s *udpServer, b []byte, from netip.AddrPort, _ int) {
				s.send(from, noopReply(b, 0), bytes.Repeat([]byte("A"), 60_000))
			}
		}, check: func(t *testing.T, a *Answer, _ *udpServer) {
			if a.Received > datagramBuffer {
				t.Errorf("kept %d bytes", a.Received)
			}
		}},
		{name: "error line from the asked address", want: "open/legacy", plain: true, serve: func(*testing.T) handler {
			return func(s *udpServer, b []byte, from netip.AddrPort, _ int) { s.send(from, part(b, 0, 1, "ERROR\r\n")) }
		}},
		{name: "error line from elsewhere", want: "inconclusive/no_response", serve: func(t *testing.T) handler {
			send := elsewhere(t)
			return func(_ *udpServer, b []byte, from netip.AddrPort, _ int) { send(from, part(b, 0, 1, "ERROR\r\n")) }
		}, check: func(t *testing.T, a *Answer, _ *udpServer) {
			if a.SpoofSuspected != 2 {
				t.Errorf("suspected %d", a.SpoofSuspected)
			}
		}},
		{name: "framed and nothing known", want: "other/unrecognised", serve: func(*testing.T) handler {
			return func(s *udpServer, b []byte, from netip.AddrPort, _ int) { s.send(from, part(b, 0, 1, "\x1b[2Jhello")) }
		}, check: func(t *testing.T, a *Answer, _ *udpServer) {
			if a.Reply != `\u{1b}[2Jhello` {
				t.Errorf("reply %q", a.Reply)
			}
		}},
		{name: "first datagram dropped", want: "open/noop", plain: true, serve: func(*testing.T) handler {
			return func(s *udpServer, b []byte, from netip.AddrPort, n int) {
				if n == 2 {
					s.send(from, noopReply(b, 0))
				}
			}
		}, check: func(t *testing.T, a *Answer, s *udpServer) {
			if a.Sent != 64 || s.payload.Load() != 64 {
				t.Errorf("sent %d, arrived %d", a.Sent, s.payload.Load())
			}
		}},
		{name: "another status", want: "compatible/status", serve: func(*testing.T) handler {
			return func(s *udpServer, b []byte, from netip.AddrPort, _ int) { s.send(from, noopReply(b, 0x81)) }
		}},
		{name: "sasl", want: "auth_required/sasl", serve: func(*testing.T) handler {
			return func(s *udpServer, b []byte, from netip.AddrPort, _ int) {
				if b[frameLen] == 0x80 {
					s.send(from, noopReply(b, 0x20), []byte("Auth failure."))
				}
			}
		}, check: func(t *testing.T, a *Answer, s *udpServer) {
			if a.Received != 45 || s.payload.Load() != 32+2*25 {
				t.Errorf("received %d, sent %d", a.Received, s.payload.Load())
			}
		}},
		{name: "sasl on the binary protocol only", want: "open/sasl_bypass", serve: func(*testing.T) handler {
			return func(s *udpServer, b []byte, from netip.AddrPort, _ int) {
				if b[frameLen] == 0x80 {
					s.send(from, noopReply(b, 0x20), []byte("Auth failure."))
					return
				}
				s.send(from, part(b, 0, 1, "VERSION 1.4.15\r\n"))
			}
		}, check: func(t *testing.T, a *Answer, s *udpServer) {
			if a.Version != "1.4.15" || s.payload.Load() != 32+25 || a.Proves() != "CA104" || a.Amplification != 0 {
				t.Errorf("%+v", a)
			}
		}},
		{name: "sasl, and the version from elsewhere", want: "auth_required/sasl", serve: func(t *testing.T) handler {
			send := elsewhere(t)
			return func(s *udpServer, b []byte, from netip.AddrPort, _ int) {
				if b[frameLen] == 0x80 {
					s.send(from, noopReply(b, 0x20))
					return
				}
				send(from, part(b, 0, 1, "VERSION 1.4.15\r\n"))
			}
		}},
		{name: "measurement in two datagrams, the second first", want: "open/noop", serve: measured(func(s *udpServer, b []byte, from netip.AddrPort) {
			s.send(from, part(b, 1, 2, "sion 1.5.5\r\nSTAT limit_maxbytes 1024\r\nEND\r\n"))
			s.send(from, part(b, 0, 2, "STAT curr_items 3\r\nSTAT ver"))
		}), check: func(t *testing.T, a *Answer, _ *udpServer) {
			want := len("STAT curr_items 3\r\nSTAT version 1.5.5\r\nSTAT limit_maxbytes 1024\r\nEND\r\n") + 16
			if a.Received != want || a.Sent != 15 || a.Datagrams != 2 || a.AtLeast || a.Version != "1.5.5" || a.Held == nil || a.Held.Limit != 1024 || a.Held.Items != 3 {
				t.Errorf("%+v %+v", a, a.Held)
			}
			if a.Amplification != tenth(float64(want)/15) || a.WireFactor != tenth(float64(want+56)/43) {
				t.Errorf("factors %v and %v", a.Amplification, a.WireFactor)
			}
			if a.Ceiling != 70.3 { // VALUE a 0 1024\r\n, 1,024, \r\nEND\r\n in one datagram
				t.Errorf("ceiling %v, %s", a.Ceiling, a.CeilingBasis)
			}
			if !strings.Contains(a.VersionText(), "UDP by default") {
				t.Errorf("says of 1.5.5: %q", a.VersionText())
			}
		}},
		{name: "measurement with two sequences of one id", want: "open/noop", serve: measured(func(s *udpServer, b []byte, from netip.AddrPort) {
			for _, text := range []string{"one", "two"} {
				s.send(from, part(b, 0, 2, text))
			}
			s.send(from, part(b, 1, 2, "end"))
		}), check: func(t *testing.T, a *Answer, _ *udpServer) {
			if !a.AtLeast || a.Datagrams != 2 || a.Received != 22 {
				t.Errorf("%+v", a)
			}
		}},
		{name: "measurement with total 1506", want: "open/noop", serve: measured(func(s *udpServer, b []byte, from netip.AddrPort) {
			for i := range uint16(1506) {
				s.send(from, part(b, i, 1506, strings.Repeat("A", 1392)))
			}
		}), check: func(t *testing.T, a *Answer, _ *udpServer) {
			if !a.AtLeast || a.Received > measureBytes+datagramBuffer || a.Received < measureBytes || !strings.Contains(a.Sentence(), "at least") {
				t.Errorf("%+v", a)
			}
		}},
		{name: "measurement from elsewhere", want: "open/noop", serve: func(t *testing.T) handler {
			send := elsewhere(t)
			return measured(func(_ *udpServer, b []byte, from netip.AddrPort) {
				send(from, part(b, 0, 1, "STAT version 1.4.0\r\n"))
			})(t)
		}, check: func(t *testing.T, a *Answer, _ *udpServer) {
			if a.Amplification != 0 || a.Version != "" || a.Sent != 47 {
				t.Errorf("%+v", a)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			addr := fresh()
			s := serveUDP(t, addr, test.serve(t))
			o := options(soon)
			o.Measure = !test.plain
			a := answerOf(t, ask(t, o, udpTo(addr)), addr, "udp")
			is(t, a, test.want)
			if test.check != nil {
				test.check(t, a, s)
			}
			if s.datagrams.Load() != int64(len(a.Exchanges)) {
				t.Errorf("%d datagrams arrived, %d reported", s.datagrams.Load(), len(a.Exchanges))
			}
		})
	}
}

// TestNobodyElseIsAsked answers the NOOP from the address of a third party: whoever holds a target must not choose to whom
// the probe sends anything.
func TestNobodyElseIsAsked(t *testing.T) {
	for _, test := range []struct {
		name   string
		status byte
		asked  int64 // datagrams to the target
	}{
		{"measurement", 0, 2},
		{"version", 0x20, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			addr := fresh()
			third := serveUDP(t, fresh(), func(*udpServer, []byte, netip.AddrPort, int) {})
			s := serveUDP(t, addr, func(_ *udpServer, b []byte, from netip.AddrPort, _ int) {
				if b[frameLen] == 0x80 {
					third.send(from, noopReply(b, test.status))
				}
			})
			o := options(soon)
			o.Allow = []netip.Prefix{netip.PrefixFrom(addr.Addr(), 32)}
			a := answerOf(t, ask(t, o, udpTo(addr)), addr, "udp")
			if !a.Answered || a.RepliedFrom == "" {
				t.Errorf("%+v", a)
			}
			if n := third.datagrams.Load(); n != 0 {
				t.Errorf("the third party was sent %d datagrams", n)
			}
			if n := s.datagrams.Load(); n != test.asked {
				t.Errorf("the target was sent %d datagrams, want %d", n, test.asked)
			}
		})
	}
}

func ignored(n int) func(*testing.T, *Answer, *udpServer) {
	return func(t *testing.T, a *Answer, _ *udpServer) {
		if a.Ignored != n || a.SpoofSuspected != 0 {
			t.Errorf("ignored %d, suspected %d; want %d and 0", a.Ignored, a.SpoofSuspected, n)
		}
	}
}

// measured is a server that answers the NOOP, and stats by reply.
func measured(reply func(s *udpServer, b []byte, from netip.AddrPort)) func(*testing.T) handler {
	return func(*testing.T) handler {
		return func(s *udpServer, b []byte, from netip.AddrPort, _ int) {
			if b[frameLen] == 0x80 {
				s.send(from, noopReply(b, 0))
				return
			}
			reply(s, b, from)
		}
	}
}

// TestCopiesDelayNobody floods the probe with copies of a reply while it asks others.
func TestCopiesDelayNobody(t *testing.T) {
	flood := fresh()
	serveUDP(t, flood, func(s *udpServer, b []byte, from netip.AddrPort, _ int) {
		for range 500 {
			s.send(from, noopReply(b, 0))
		}
	})
	targets := []Target{udpTo(flood)}
	for range 50 {
		addr := fresh()
		serveUDP(t, addr, func(s *udpServer, b []byte, from netip.AddrPort, _ int) { s.send(from, noopReply(b, 0)) })
		targets = append(targets, udpTo(addr))
	}
	o := options(time.Minute) // nothing may have to be sent twice
	o.Measure = false
	start := time.Now()
	out := ask(t, o, targets...)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
	if len(out.Results) != len(targets) {
		t.Errorf("%d results", len(out.Results))
	}
	for _, r := range out.Results {
		is(t, &r.Answer, "open/noop")
		if r.Answer.Received != 32 {
			t.Errorf("%s: received %d", r.Addr, r.Answer.Received)
		}
	}
}

// TestUDPMemoryFlat holds that large datagrams cost no memory.
func TestUDPMemoryFlat(t *testing.T) {
	var targets []Target
	for range 50 {
		addr := fresh()
		junk := bytes.Repeat([]byte("A"), 60_000)
		serveUDP(t, addr, func(s *udpServer, b []byte, from netip.AddrPort, _ int) { s.send(from, part(b, 0, 9, string(junk))) })
		targets = append(targets, udpTo(addr))
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	out := ask(t, options(soon), targets...)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if len(out.Results) != len(targets) || after.HeapAlloc > before.HeapAlloc+4<<20 {
		t.Errorf("%d results, and the heap grew from %d to %d bytes", len(out.Results), before.HeapAlloc, after.HeapAlloc)
	}
}

// TestRejectedUDP asks through rules that reject, over both families.
func TestRejectedUDP(t *testing.T) {
	host, admin, net, nobody := fresh(), fresh(), fresh(), fresh()
	firewall(t,
		"ip daddr "+host.Addr().String()+" udp dport 11211 reject with icmp type host-unreachable",
		"ip daddr "+admin.Addr().String()+" udp dport 11211 reject with icmp type admin-prohibited",
		"ip daddr "+net.Addr().String()+" udp dport 11211 reject with icmp type net-prohibited",
		"ip6 daddr ::1 udp dport 11221 reject with icmpv6 type admin-prohibited",
		"ip6 daddr ::1 udp dport 11222 reject with icmpv6 type no-route",
	)
	six := func(p uint16) netip.AddrPort { return netip.AddrPortFrom(netip.IPv6Loopback(), p) }
	out := ask(t, options(soon), udpTo(host), udpTo(admin), udpTo(net), udpTo(nobody), udpTo(six(11221)), udpTo(six(11222)), udpTo(six(11223)))
	for _, test := range []struct {
		addr       netip.AddrPort
		want, icmp string
	}{
		{host, "filtered/rejected", "3/1"},
		{admin, "filtered/rejected", "3/13"},
		{net, "filtered/rejected", "3/9"},
		{nobody, "closed/refused", "3/3"},
		{six(11221), "filtered/rejected", "1/1"},
		{six(11222), "filtered/rejected", "1/0"},
		{six(11223), "closed/refused", "1/4"},
	} {
		a := answerOf(t, out, test.addr, "udp")
		is(t, a, test.want)
		if !strings.HasPrefix(a.ICMP, test.icmp) || len(a.Exchanges) != 1 {
			t.Errorf("%s: ICMP %q in %d datagrams, want %s in 1", test.addr, a.ICMP, len(a.Exchanges), test.icmp)
		}
	}
}

// TestReplyBeatsICMP holds that a reply with the cookie counts, whether an ICMP error comes before or after it.
func TestReplyBeatsICMP(t *testing.T) {
	for _, first := range []string{"icmp", "reply"} {
		r := &run{Options: Options{Timeout: time.Hour}, out: Outcome{}}
		u, err := newUDP(r, false)
		if err != nil {
			t.Fatal(err)
		}
		addr := fresh()
		listenUDP(t, addr) // it never answers by itself
		answered := make(chan *question, 1)
		q := &question{Target: udpTo(addr), network: "udp", budget: udpBudget(), done: func(q *question, cut bool) { answered <- q }}
		u.ask(context.Background(), q)
		u.mu.Lock()
		a := u.targets[addr]
		reply := noopReply(udpNOOP(a.id, uint32(a.cookie)), 0)
		unreachable := packet{from: addr, icmp: &icmpError{kind: 3, code: 3}}
		if first == "icmp" {
			u.unreachable(unreachable, udpNOOP(a.id, uint32(a.cookie)))
			u.received(addr, reply, false, time.Now())
		} else {
			u.received(addr, reply, false, time.Now())
			u.unreachable(unreachable, udpNOOP(a.id, uint32(a.cookie)))
		}
		u.mu.Unlock()
		is(t, &(<-answered).answer, "open/noop")
		u.close()
	}
}

// TestICMPAboutAnother holds that an error that quotes another request says nothing of ours, and one that quotes none does.
func TestICMPAboutAnother(t *testing.T) {
	for name, test := range map[string]struct {
		quoted func(a *udpAsk) []byte
		want   stage
	}{
		"ours":    {func(a *udpAsk) []byte { return udpNOOP(a.id, uint32(a.cookie)) }, rejected},
		"another": {func(a *udpAsk) []byte { return udpNOOP(a.id+1, uint32(a.cookie)) }, asked},
		"nothing": {func(*udpAsk) []byte { return nil }, rejected},
	} {
		r := &run{Options: Options{Timeout: time.Hour}, out: Outcome{}}
		u, err := newUDP(r, false)
		if err != nil {
			t.Fatal(err)
		}
		addr := fresh()
		listenUDP(t, addr) // it never answers
		u.ask(context.Background(), &question{Target: udpTo(addr), network: "udp", budget: udpBudget(), done: func(*question, bool) {}})
		u.mu.Lock()
		a := u.targets[addr]
		u.unreachable(packet{from: addr, icmp: &icmpError{kind: 3, code: 3}}, test.quoted(a))
		if a.stage != test.want {
			t.Errorf("%s: stage %d, want %d", name, a.stage, test.want)
		}
		u.mu.Unlock()
		u.close()
	}
}

// TestPendingErrorBlamesNobody sends to many closed ports and one open one: the kernel reports the error of one datagram
// when the next is sent.
func TestPendingErrorBlamesNobody(t *testing.T) {
	open := fresh()
	serveUDP(t, open, func(s *udpServer, b []byte, from netip.AddrPort, _ int) { s.send(from, noopReply(b, 0)) })
	targets := []Target{udpTo(open)}
	for range 200 {
		targets = append(targets, udpTo(fresh()))
	}
	o := options(soon)
	o.Measure = false
	out := ask(t, o, targets...)
	for _, r := range out.Results {
		want := "closed/refused"
		if r.Addr == open {
			want = "open/noop"
		}
		is(t, &r.Answer, want)
	}
}
