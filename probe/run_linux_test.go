package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// block returns n addresses of one 127.x network.
func block(second byte, n int) []netip.AddrPort {
	out := make([]netip.AddrPort, n)
	for i := range out {
		out[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, second, byte(i / 250), byte(i%250 + 1)}), port)
	}
	return out
}

// dropAll drops what is sent to the port of 127.second.0.0/16.
func dropAll(t *testing.T, second byte) {
	firewall(t, fmt.Sprintf("ip daddr 127.%d.0.0/16 meta l4proto { tcp, udp } th dport 11211 drop", second))
}

// TestWholeRun asks 10,000 addresses at once: 1,000 answer, 4,500 are closed and 4,500 drop everything.
func TestWholeRun(t *testing.T) {
	if limit := openConnects(1<<20, 0); limit < 4000 {
		skip(t, fmt.Sprintf("this process may open %d files only", limit))
	}
	open, closed, dropped := block(30, 1000), block(31, 4500), block(32, 4500)
	dropAll(t, 32)
	for _, addr := range open {
		serveTCP(t, addr, func(c *counting, _ int) { _, _ = io.WriteString(c, "VERSION 1.6.18\r\n") })
		serveUDP(t, addr, func(s *udpServer, b []byte, from netip.AddrPort, _ int) { s.send(from, noopReply(b, 0)) })
	}
	var targets []Target
	for _, addr := range slices.Concat(open, closed, dropped) {
		targets = append(targets, Target{Addr: addr, TCP: true, UDP: true})
	}
	o := options(time.Second)
	o.Measure = false
	var calls, last int
	o.Progress = func(done, total int) {
		calls++
		last = done
		if total != len(targets) || done > total {
			t.Errorf("progress %d of %d", done, total)
		}
	}
	runtime.GC()
	out := ask(t, o, targets...)
	got := map[string]int{}
	for _, r := range out.Results {
		got[r.Protocol+" "+string(r.Answer.Verdict)+"/"+r.Answer.Detail]++
		if want := fmt.Sprintf("127.%d.", map[Verdict]int{Open: 30, Closed: 31, Filtered: 32, Inconclusive: 32}[r.Answer.Verdict]); !strings.HasPrefix(r.Addr.String(), want) {
			t.Errorf("%s %s is %s/%s", r.Protocol, r.Addr, r.Answer.Verdict, r.Answer.Detail)
		}
	}
	want := map[string]int{
		"tcp open/ascii": 1000, "tcp closed/refused": 4500, "tcp filtered/timeout": 4500,
		"udp open/noop": 1000, "udp closed/refused": 4500, "udp inconclusive/no_response": 4500,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !out.Complete || len(out.Left) != 0 || out.Stopped != nil {
		t.Errorf("complete %t, left %d, stopped %v", out.Complete, len(out.Left), out.Stopped)
	}
	if calls != len(targets) || last != len(targets) {
		t.Errorf("%d calls of progress, the last with %d", calls, last)
	}
}

// TestInterrupt ends a run in the middle.
func TestInterrupt(t *testing.T) {
	open, dropped := block(33, 20), block(34, 300)
	dropAll(t, 34)
	var targets []Target
	for _, addr := range open {
		serveTCP(t, addr, func(c *counting, _ int) { _, _ = io.WriteString(c, "VERSION 1.6.18\r\n") })
		serveUDP(t, addr, func(s *udpServer, b []byte, from netip.AddrPort, _ int) {
			if b[frameLen] == 0x80 { // the measurement stays without a reply: what is known by then counts
				s.send(from, noopReply(b, 0))
			}
		})
		targets = append(targets, Target{Addr: addr, TCP: true, UDP: true})
	}
	for _, addr := range dropped {
		targets = append(targets, Target{Addr: addr, TCP: true, UDP: true})
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	o := options(time.Minute)
	o.Rate = 200
	o.Workers = 10 // 160 places for 320 targets: not all are begun
	var done atomic.Int32
	o.Progress = func(int, int) { done.Add(1) }
	answered := make(chan struct{})
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for done.Load() < 3 {
			<-tick.C
		}
		cancel(errors.New("interrupt signal"))
		close(answered)
	}()
	start := time.Now()
	out, err := Run(ctx, targets, o)
	if err != nil {
		t.Fatal(err)
	}
	<-answered
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	if out.Complete || out.Stopped == nil || out.Stopped.Error() != "interrupt signal" {
		t.Errorf("complete %t, stopped by %v", out.Complete, out.Stopped)
	}
	if len(out.Results) < 3 {
		t.Errorf("%d results kept", len(out.Results))
	}
	for _, r := range out.Results {
		if r.Answer.Verdict != Open {
			t.Errorf("%s %s is %s/%s", r.Protocol, r.Addr, r.Answer.Verdict, r.Answer.Detail)
		}
	}
	asked, unasked := 0, 0
	for _, l := range out.Left {
		if !l.Gap || !strings.Contains(l.Reason, "interrupt signal") {
			t.Errorf("left without the reason: %s", l)
		}
		switch {
		case strings.HasPrefix(l.Reason, "not asked"):
			unasked += 2
		case strings.HasPrefix(l.Reason, "asked"):
			asked++
		}
	}
	if unasked == 0 || asked == 0 || len(out.Results)+asked+unasked != 2*len(targets) {
		t.Errorf("%d results, %d asked in vain and %d not asked of %d questions", len(out.Results), asked, unasked, 2*len(targets))
	}
}

// TestInterruptedBefore sends nothing at all.
func TestInterruptedBefore(t *testing.T) {
	addr := fresh()
	tcp := serveTCP(t, addr, func(*counting, int) {})
	udp := serveUDP(t, addr, func(*udpServer, []byte, netip.AddrPort, int) {})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out, err := Run(ctx, []Target{{Addr: addr, TCP: true, UDP: true}}, options(soon))
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Results) != 0 || len(out.Left) != 1 || out.Complete || tcp.connects.Load()+udp.datagrams.Load() != 0 {
		t.Errorf("%+v", out)
	}
}

// TestBothAtOnce holds that an address that several exposures name is asked once.
func TestBothAtOnce(t *testing.T) {
	addr := fresh()
	tcp := serveTCP(t, addr, func(c *counting, _ int) { _, _ = io.WriteString(c, "VERSION 1.6.18\r\n") })
	udp := serveUDP(t, addr, func(s *udpServer, b []byte, from netip.AddrPort, _ int) { s.send(from, noopReply(b, 0)) })
	mapped := netip.AddrPortFrom(netip.AddrFrom16(addr.Addr().As16()), addr.Port())
	o := options(soon)
	o.Measure = false
	out := ask(t, o, Target{Addr: addr, TCP: true, Exposures: []int{3}}, Target{Addr: addr, UDP: true, Exposures: []int{5}}, Target{Addr: mapped, TCP: true, Exposures: []int{7}})
	if len(out.Results) != 2 || tcp.connects.Load() != 1 || udp.datagrams.Load() != 1 {
		t.Errorf("%d results, %d connects, %d datagrams", len(out.Results), tcp.connects.Load(), udp.datagrams.Load())
	}
	if got := out.Results[0].Exposures; !slices.Equal(got, []int{3, 5, 7}) {
		t.Errorf("exposures %v", got)
	}
}

// TestNothingOutsideAllow counts at a server that the policy keeps out.
func TestNothingOutsideAllow(t *testing.T) {
	addr := fresh()
	tcp := serveTCP(t, addr, func(*counting, int) {})
	udp := serveUDP(t, addr, func(*udpServer, []byte, netip.AddrPort, int) {})
	for _, allow := range [][]netip.Prefix{
		nil, {netip.MustParsePrefix("127.0.0.1/32")}, {netip.MustParsePrefix("0.0.0.0/0")},
	} {
		o := options(soon)
		o.Allow = allow
		out := ask(t, o, Target{Addr: addr, TCP: true, UDP: true})
		if len(out.Results) != 0 || len(out.Left) != 1 || out.Left[0].Gap || !out.Complete {
			t.Errorf("%v: %+v", allow, out)
		}
	}
	if n := tcp.connects.Load() + udp.datagrams.Load(); n != 0 {
		t.Errorf("%d packets arrived", n)
	}
}

// TestStale gives an address to another instance while it is asked.
func TestStale(t *testing.T) {
	kept, moved, gone := fresh(), fresh(), fresh()
	for _, addr := range []netip.AddrPort{kept, moved} {
		serveTCP(t, addr, func(c *counting, _ int) { _, _ = io.WriteString(c, "VERSION 1.6.18\r\n") })
		serveUDP(t, addr, func(s *udpServer, b []byte, from netip.AddrPort, _ int) { s.send(from, noopReply(b, 0)) })
	}
	never := serveTCP(t, gone, func(*counting, int) {})
	for _, second := range []string{"another token", "an error"} {
		readings := 0
		o := options(soon)
		o.Measure = false
		o.Owned = func(_ context.Context, targets []Target) ([]string, error) {
			readings++
			tokens := make([]string, len(targets))
			for i, target := range targets {
				tokens[i] = "i-1"
				switch {
				case target.Addr == gone:
					tokens[i] = ""
				case target.Addr == moved && readings > 1:
					tokens[i] = "i-2"
				}
			}
			if readings > 1 && second == "an error" {
				return nil, errors.New("throttled")
			}
			return tokens, nil
		}
		out := ask(t, o, Target{Addr: kept, TCP: true, UDP: true}, Target{Addr: moved, TCP: true, UDP: true}, Target{Addr: gone, TCP: true})
		if readings != 2 || len(out.Results) != 4 || len(out.Left) != 1 || out.Left[0].Addr != gone || never.connects.Load() != 0 {
			t.Fatalf("%d readings: %+v", readings, out)
		}
		for _, r := range out.Results {
			if r.Addr == kept && second == "another token" {
				if r.Answer.Verdict != Open {
					t.Errorf("%+v", r)
				}
				continue
			}
			is(t, &r.Answer, "stale/")
			if a := r.Answer; a.Sent+a.Received != 0 || len(a.Exchanges) != 0 || a.Version != "" || a.Answered {
				t.Errorf("bytes were kept: %+v", a)
			}
		}
	}
}

// TestOwnersUnknown asks nobody whose owner could not be read.
func TestOwnersUnknown(t *testing.T) {
	addr := fresh()
	tcp := serveTCP(t, addr, func(*counting, int) {})
	o := options(soon)
	o.Owned = func(context.Context, []Target) ([]string, error) { return nil, errors.New("throttled") }
	out := ask(t, o, tcpTo(addr))
	if len(out.Results) != 0 || len(out.Left) != 1 || !strings.Contains(out.Left[0].Reason, "throttled") || out.Complete || tcp.connects.Load() != 0 {
		t.Errorf("%+v", out)
	}
}

// TestControl asks an address that is known to answer, first and last.
func TestControl(t *testing.T) {
	silent, control, mute := fresh(), fresh(), fresh()
	firewall(t, "ip daddr { "+silent.Addr().String()+", "+mute.Addr().String()+" } meta l4proto { tcp, udp } th dport 11211 drop")
	var mu sync.Mutex
	var order []string
	serveTCP(t, control, func(c *counting, _ int) {
		mu.Lock()
		order = append(order, "control")
		mu.Unlock()
		_, _ = io.WriteString(c, "VERSION 1.6.18\r\n")
	})
	for _, test := range []struct {
		control netip.AddrPort
		note    string
	}{
		{control, ""},
		{mute, "this vantage point cannot see the port: the control address did not answer either"},
		{netip.AddrPort{}, "not verified: no control address was given"},
	} {
		o := options(soon)
		o.Control = test.control
		out := ask(t, o, tcpTo(silent))
		a := answerOf(t, out, silent, "tcp")
		is(t, a, "filtered/timeout")
		if a.Note != test.note {
			t.Errorf("note %q, want %q", a.Note, test.note)
		}
		if test.control.IsValid() && len(out.Control) != 2 {
			t.Errorf("the control address was asked %d times", len(out.Control))
		}
	}
	if len(order) != 2 {
		t.Errorf("the control address was asked %d times", len(order))
	}
	o := options(soon)
	o.Control = netip.MustParseAddrPort("10.0.0.1:11211")
	if _, err := Run(t.Context(), []Target{tcpTo(silent)}, o); err == nil || !strings.Contains(err.Error(), "control address 10.0.0.1:11211") {
		t.Errorf("a control address that must not be asked: %v", err)
	}
}

// TestControlKeepsTheBudget: asking first and last is one budget, which the servers count, whether the control address is
// silent, hard to identify or a target too; and what it said the first time has to do where there is not enough for a second.
func TestControlKeepsTheBudget(t *testing.T) {
	other := fresh()
	serveTCP(t, other, func(c *counting, _ int) { _, _ = io.WriteString(c, "VERSION 1.6.18\r\n") })
	serveUDP(t, other, func(*udpServer, []byte, netip.AddrPort, int) {})
	control := fresh()
	tcp := serveTCP(t, control, func(*counting, int) {})
	udp := serveUDP(t, control, func(*udpServer, []byte, netip.AddrPort, int) {})
	o := options(soon)
	o.Control = control
	out := ask(t, o, Target{Addr: other, TCP: true, UDP: true})
	if len(out.Control) != 2 || tcp.connects.Load() != 3 || udp.datagrams.Load() != 2 {
		t.Errorf("%d answers of the control address, %d connects, %d datagrams", len(out.Control), tcp.connects.Load(), udp.datagrams.Load())
	}
	if a := answerOf(t, out, other, "udp"); !strings.Contains(a.Note, "cannot see the port") {
		t.Errorf("note %q", a.Note)
	}

	both, third := fresh(), fresh()
	serveUDP(t, third, func(*udpServer, []byte, netip.AddrPort, int) {})
	tcp = serveTCP(t, both, func(*counting, int) {})
	udp = serveUDP(t, both, func(*udpServer, []byte, netip.AddrPort, int) {})
	o.Control = both
	out = ask(t, o, Target{Addr: third, UDP: true}, Target{Addr: both, TCP: true, UDP: true})
	if len(out.Control) != 0 || tcp.connects.Load() != 3 || udp.datagrams.Load() != 2 {
		t.Errorf("a control address that is a target: asked %d times besides, %d connects, %d datagrams", len(out.Control), tcp.connects.Load(), udp.datagrams.Load())
	}
	if a := answerOf(t, out, third, "udp"); !strings.Contains(a.Note, "cannot see the port") {
		t.Errorf("note %q", a.Note)
	}
}

// TestLocalErrors stops when this machine cannot send: here its own firewall drops what goes out.
func TestLocalErrors(t *testing.T) {
	var targets []Target
	for _, addr := range block(35, 400) {
		targets = append(targets, udpTo(addr)) // the kernel hides from a connect that its SYN was dropped here
	}
	outgoing(t, "ip daddr 127.35.0.0/16 drop")
	o := options(soon)
	o.Rate = 500
	out := ask(t, o, targets...)
	if !errors.Is(out.Stopped, ErrLocal) || out.Complete {
		t.Fatalf("stopped by %v, complete %t", out.Stopped, out.Complete)
	}
	for _, r := range out.Results {
		is(t, &r.Answer, "inconclusive/local_error")
	}
	asked := map[netip.AddrPort]bool{}
	for _, r := range out.Results {
		asked[r.Addr] = true
	}
	left := map[netip.AddrPort]bool{}
	for _, l := range out.Left {
		if !l.Gap || !strings.Contains(l.Reason, "5 %") {
			t.Errorf("left without the reason: %s", l)
		}
		left[l.Addr] = true
	}
	if len(out.Results) < 20 || len(left) < 300 || len(left)+len(asked) < len(targets) {
		t.Errorf("%d results, %d left", len(out.Results), len(left))
	}
}

// outgoing adds a rule for what this machine sends.
func outgoing(t *testing.T, rule string) {
	t.Helper()
	firewallAt(t, "output", rule)
}

// TestNoRoute asks an address that this machine has no route to.
func TestNoRoute(t *testing.T) {
	o := options(soon)
	o.Allow = append(o.Allow, netip.MustParsePrefix("10.0.0.0/8"))
	addr := netip.MustParseAddrPort("10.1.2.3:11211") // the namespace has loopback alone
	out := ask(t, o, Target{Addr: addr, TCP: true, UDP: true})
	is(t, answerOf(t, out, addr, "tcp"), "inconclusive/local_error")
	is(t, answerOf(t, out, addr, "udp"), "inconclusive/local_error")
}

// TestConnectErrors holds the table of what an error of connect shows.
func TestConnectErrors(t *testing.T) {
	routed := func() error { return nil }
	lost := func() error { return syscall.ENETUNREACH }
	for _, test := range []struct {
		err   error
		route func() error
		want  string
	}{
		{syscall.ECONNREFUSED, routed, "closed/refused"},
		{syscall.EMFILE, routed, "inconclusive/local_error"},
		{syscall.ENFILE, routed, "inconclusive/local_error"},
		{syscall.ENOBUFS, routed, "inconclusive/local_error"},
		{syscall.EADDRNOTAVAIL, routed, "inconclusive/local_error"},
		{syscall.EPERM, routed, "inconclusive/local_error"},
		{syscall.EHOSTUNREACH, routed, "filtered/rejected"},
		{syscall.EACCES, routed, "filtered/rejected"},
		{syscall.ENETUNREACH, routed, "filtered/rejected"},
		{syscall.ENETUNREACH, lost, "inconclusive/local_error"},
		{syscall.ETIMEDOUT, routed, "filtered/timeout"},
		{context.DeadlineExceeded, routed, "filtered/timeout"},
		{&net.OpError{Op: "dial", Err: &timeoutError{}}, routed, "filtered/timeout"},
		{errors.New("anything else"), routed, "inconclusive/local_error"},
	} {
		verdict, detail := judgeConnect(&net.OpError{Op: "dial", Err: test.err}, test.route)
		if got := string(verdict) + "/" + detail; got != test.want {
			t.Errorf("%v: %s, want %s", test.err, got, test.want)
		}
	}
}

type timeoutError struct{}

func (*timeoutError) Error() string { return "i/o timeout" }
func (*timeoutError) Timeout() bool { return true }

// TestFewFiles runs with hardly any files to open: fewer at once, and nothing is lost.
func TestFewFiles(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	open := 0
	for fd := range 256 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			open = fd + 1
		}
	}
	few := limit
	few.Cur = uint64(open+40) * 4 / 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	dropAll(t, 36)
	var targets []Target
	for _, addr := range block(36, 60) {
		targets = append(targets, tcpTo(addr))
	}
	out := ask(t, options(50*time.Millisecond), targets...)
	if len(out.Results) != len(targets) || !out.Complete {
		t.Fatalf("%d results: %v", len(out.Results), out.Stopped)
	}
	for _, r := range out.Results {
		is(t, &r.Answer, "filtered/timeout")
	}
}
