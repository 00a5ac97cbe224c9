package probe

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
)

func prefixes(text ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range text {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestAdmit(t *testing.T) {
	for _, test := range []struct {
		addr  string
		allow []netip.Prefix
		ok    bool
	}{
		{"54.84.1.2:11211", nil, true},
		{"[2600:1f18::1]:11211", nil, true},
		{"54.84.1.2:0", nil, false},
		{"54.84.1.2:11211", prefixes("54.84.0.0/16"), true},
		{"54.84.1.2:11211", prefixes("54.85.0.0/16"), false},
		{"54.84.1.2:11211", prefixes("2600::/16"), false},
		{"[::ffff:54.84.1.2]:11211", prefixes("54.84.0.0/16"), true},
		{"127.0.0.1:11211", nil, false},
		{"127.0.0.1:11211", prefixes("127.0.0.0/8"), true},
		{"127.0.0.1:11211", prefixes("0.0.0.0/0"), false},
		{"127.0.0.1:11211", prefixes("126.0.0.0/7"), false},
		{"[::ffff:127.0.0.1]:11211", nil, false},
		{"[::1]:11211", nil, false},
		{"[::1]:11211", prefixes("::1/128"), true},
		{"[::1]:11211", prefixes("::/0"), false},
		{"10.0.0.1:11211", nil, false},
		{"10.0.0.1:11211", prefixes("10.0.0.0/8"), true},
		{"169.254.169.254:80", nil, false},
		{"100.64.0.1:11211", nil, false},
		{"192.0.2.1:11211", nil, false},
		{"[fe80::1]:11211", nil, false},
		{"[fe80::1%eth0]:11211", prefixes("fe80::/10"), false},
		{"[fd00::1]:11211", prefixes("fd00::/8"), true},
		{"224.0.0.1:11211", prefixes("224.0.0.0/4"), false},
		{"[ff02::1]:11211", prefixes("ff02::/16"), false},
		{"255.255.255.255:11211", prefixes("255.255.255.255/32"), false},
		{"0.0.0.0:11211", prefixes("0.0.0.0/8"), false},
		{"[::]:11211", prefixes("::/128"), false},
	} {
		if err := Admit(netip.MustParseAddrPort(test.addr), test.allow); (err == nil) != test.ok {
			t.Errorf("%s with %v: %v", test.addr, test.allow, err)
		}
	}
	if Admit(netip.AddrPort{}, nil) == nil {
		t.Error("no address is admitted")
	}
}

func TestTargets(t *testing.T) {
	exposure := func(address, protocol string, front int, v cloud.Exposure, c cloud.Coverage) findings.Exposure {
		return findings.Exposure{Address: address, Protocol: protocol, Port: 11211, FrontPort: front, Verdict: v, Coverage: c}
	}
	report := &findings.Report{Exposures: []findings.Exposure{
		exposure("54.84.1.2", "tcp", 11211, cloud.Reachable, cloud.World),
		exposure("54.84.1.2", "udp", 11211, cloud.Unknown, cloud.Opaque),
		exposure("54.84.1.3", "tcp", 80, cloud.ProviderOnly, cloud.Wide), // behind a balancer
		exposure("54.84.1.4", "tcp", 11211, cloud.OneWay, cloud.World),
		exposure("54.84.1.5", "tcp", 11211, cloud.Reachable, cloud.Narrow),
		exposure("54.84.1.0/24", "tcp", 11211, cloud.Reachable, cloud.World),
		exposure("lb.example.com\x1b[31m", "tcp", 11211, cloud.Reachable, cloud.World),
		exposure("54.84.1.6", "tcp", 11211, cloud.Reachable, cloud.World), // carries the tag
		exposure("10.0.0.1", "tcp", 11211, cloud.Reachable, cloud.World),
		exposure("2600:1f18::1", "udp", 11211, cloud.Reachable, cloud.World),
		exposure("54.84.1.2", "tcp", 11211, cloud.Reachable, cloud.World), // the same once more
	}}
	targets, left := Targets(report, nil, func(x *findings.Exposure) bool { return x.Address == "54.84.1.6" })
	want := []Target{
		{Addr: netip.MustParseAddrPort("54.84.1.2:11211"), TCP: true, UDP: true, Exposures: []int{0, 1, 10}},
		{Addr: netip.MustParseAddrPort("54.84.1.3:80"), TCP: true, Exposures: []int{2}},
		{Addr: netip.MustParseAddrPort("[2600:1f18::1]:11211"), UDP: true, Exposures: []int{9}},
	}
	if len(targets) != len(want) {
		t.Fatalf("%+v", targets)
	}
	for i := range want {
		if g, w := targets[i], want[i]; g.Addr != w.Addr || g.TCP != w.TCP || g.UDP != w.UDP || !slices.Equal(g.Exposures, w.Exposures) {
			t.Errorf("%+v, want %+v", g, w)
		}
	}
	if len(left) != 6 {
		t.Errorf("left %v", left)
	}
	text := Announce(targets, left, Options{Control: netip.MustParseAddrPort("54.84.1.9:11211")})
	for _, part := range []string{
		"3 addresses will be asked, at most 50 a second",
		"2 ports over TCP with at most 96 bytes in 5 connections each", "2 ports over UDP with at most 114 bytes in 4 datagrams each; 420 bytes in all",
		"the control address 54.84.1.9:11211 will be asked first and last",
		"its verdict is oneway: tcp 54.84.1.4:11211", "narrow", "no-probe", "10.0.0.1:11211", `lb.example.com\u{1b}[31m`,
	} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Errorf("a control character in %q", text)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{Rate: -1}, {Rate: math.NaN()}, {Timeout: -1}, {Workers: -1}, {Control: netip.MustParseAddrPort("127.0.0.1:11211")}} {
		if _, err := Run(t.Context(), nil, o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	o, err := Options{}.complete()
	if err != nil || o.Rate != 50 || o.Timeout != 2*time.Second || o.Workers != 512 {
		t.Errorf("%+v, %v", o, err)
	}
	if o, _ := (Options{Rate: 1000}).complete(); o.Workers != 8000 {
		t.Errorf("%d workers for 1,000 a second", o.Workers)
	}
}

// TestPace asks the pacer by a clock of its own.
func TestPace(t *testing.T) {
	run := func(perSecond float64, targets []Target) (at []time.Duration, order []netip.AddrPort) {
		q := newPacer(perSecond).queue(targets)
		start := time.Unix(0, 0)
		for now := start; ; {
			target, wait, ok := q.next(now)
			if !ok {
				return at, order
			}
			if wait > 0 {
				now = now.Add(wait)
				continue
			}
			at, order = append(at, now.Sub(start)), append(order, target.Addr)
		}
	}
	spread := func(n int, format func(i int) netip.Addr) []Target {
		var out []Target
		for i := range n {
			out = append(out, tcpOnly(netip.AddrPortFrom(format(i), 11211)))
		}
		return out
	}
	networks := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{54, byte(i >> 8), byte(i), 1}) }
	one := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{54, 1, 1, byte(i)}) }
	loop := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 1, 1, byte(i)}) }

	at, order := run(50, spread(500, networks))
	if len(at) != 500 {
		t.Fatalf("%d asked", len(at))
	}
	for i := range at {
		// 10 at once, and 50 a second from then on.
		if most := at[i].Seconds()*50 + burst + 1e-6; float64(i+1) > most {
			t.Fatalf("%d asked after %s", i+1, at[i])
		}
	}
	if last := at[499]; last > 10*time.Second {
		t.Errorf("the last after %s", last)
	}
	if slices.IsSortedFunc(order, netip.AddrPort.Compare) {
		t.Error("asked in order")
	}
	at, _ = run(50, spread(100, one))
	for i := 1; i < len(at); i++ {
		if at[i]-at[i-1] < perNetwork {
			t.Fatalf("two of one network within %s", at[i]-at[i-1])
		}
	}
	if at, _ = run(math.Inf(1), spread(200, loop)); at[199] != 0 {
		t.Errorf("loopback waits: %s", at[199])
	}
	six := func(i int) netip.Addr {
		return netip.AddrFrom16([16]byte{0x26, 0, 0x1f, 0x18, 0, 1, byte(i), 15: byte(i)})
	}
	if at, _ = run(math.Inf(1), spread(20, six)); at[19] != 19*perNetwork {
		t.Errorf("20 of one /48 within %s", at[19])
	}
	// A network that was asked in one round waits in the next.
	p := newPacer(math.Inf(1))
	now := time.Unix(0, 0)
	if _, wait, _ := p.queue(spread(1, one)).next(now); wait != 0 {
		t.Errorf("the first waits %s", wait)
	}
	if _, wait, _ := p.queue(spread(1, one)).next(now); wait != perNetwork {
		t.Errorf("the second waits %s", wait)
	}
}

func tcpOnly(a netip.AddrPort) Target { return Target{Addr: a, TCP: true} }

// TestTogether: what the answers of one address over both protocols make of a finding, and say beside it.
func TestTogether(t *testing.T) {
	answer := func(v Verdict, detail string) *Answer {
		a := &Answer{Source: "198.51.100.1"}
		a.conclude(v, detail)
		return a
	}
	open, tls, auth := answer(Open, ASCII), answer(TLS, string(Open)), answer(AuthRequired, SASL)
	amplifies, bypass, closed, unknown := answer(Open, NOOP), answer(Open, SASLBypass), answer(Closed, Refused), answer(Inconclusive, NoResponse)
	for _, test := range []struct {
		base     string
		tcp, udp *Answer
		inside   bool
		id, note string
	}{
		{"CA102", open, amplifies, false, "CA104", "proved by an answer to 198.51.100.1"},
		{"CA102", open, closed, false, "CA103", "proved by an answer to 198.51.100.1"},
		{"CA102", tls, closed, false, "CA103", ""},
		{"CA102", open, unknown, false, "CA103", "UDP unknown"},
		{"CA102", auth, bypass, false, "CA104", "authentication does not cover UDP"},
		{"CA102", answer(TLS, ClientCert), amplifies, false, "CA104", "authentication does not cover UDP"},
		{"CA102", auth, closed, false, "CA102", "wants authentication"},
		{"CA105", answer(Compatible, ErrorLine), unknown, false, "CA105", "speaks memcached over TCP; UDP unknown"},
		{"CA105", answer(Compatible, ErrorLine), amplifies, false, "CA104", ""},
		{"CA102", closed, amplifies, false, "CA104", "UDP suffices"},
		{"CA102", closed, closed, false, "CA102", "no memcached over TCP"},
		{"CA102", answer(Other, "redis"), unknown, false, "CA102", "UDP unknown"},
		{"CA102", answer(Stale, ""), answer(Stale, ""), false, "CA102", ""},
		{"CA106", open, amplifies, false, "CA106", "proved"},
		{"CA110", open, amplifies, false, "CA110", ""},
		{"CA107", open, nil, false, "CA103", ""},
		{"CA107", open, amplifies, true, "CA107", "from inside the provider"},
		{"CA105", open, amplifies, true, "CA105", "from inside the provider"},
		{"CA102", open, amplifies, true, "CA104", "proved by an answer"},
		{"CA109", nil, amplifies, false, "CA104", ""},
		{"CA102", nil, nil, false, "CA102", ""},
	} {
		r := &findings.Report{Findings: []findings.Finding{{RuleID: test.base, Message: "It is open.", Exposures: []int{0, 1}}}}
		var results []Result
		for i, a := range []*Answer{test.tcp, test.udp} {
			protocol := []string{"tcp", "udp"}[i]
			verdict := cloud.ProviderOnly
			if test.base == findings.ReachableFromInternet {
				verdict = cloud.Reachable
			}
			r.Exposures = append(r.Exposures, findings.Exposure{
				Provider: "do", Address: "54.84.1.2", Protocol: protocol, Verdict: verdict, Coverage: cloud.World, Reason: "Admitted.",
			})
			if a != nil {
				results = append(results, Result{Protocol: protocol, Exposures: []int{0, 1}, Answer: *a})
			}
		}
		Attach(r, results, func(provider, source string) bool { return test.inside && provider == "do" && source == "198.51.100.1" })
		said := r.Findings[0].Message + " " + r.Exposures[0].Reason
		if f := r.Findings[0]; f.RuleID != test.id || !strings.Contains(said, test.note) {
			t.Errorf("%s, %+v, %+v: %s, %q; want %s, %q", test.base, test.tcp, test.udp, f.RuleID, f.Message, test.id, test.note)
		}
	}
}

// TestSentences holds that no sentence but that of an answer claims one, and none calls a port safe.
func TestSentences(t *testing.T) {
	all := map[Verdict][]string{
		Open: {ASCII, Binary, NOOP, Legacy, SASLBypass}, AuthRequired: {SASL, ASCII},
		TLS:        {string(Open), SASL, ASCII, string(Compatible), ClientCert, Unidentified},
		Compatible: {ErrorLine, Status, Busy}, Other: {"redis", "http", "ssh", "smtp", "tls", Unrecognised},
		Closed: {Refused}, Filtered: {Timeout, Rejected}, Inconclusive: {NoResponse, Unidentified, LocalError}, Stale: {""},
	}
	seen := map[string]string{}
	for verdict, details := range all {
		for _, detail := range details {
			var a Answer
			a.conclude(verdict, detail)
			text := a.Sentence()
			name := string(verdict) + "/" + detail
			if text == "" || strings.Contains(text, "safe") || strings.HasSuffix(text, ".") {
				t.Errorf("%s: %q", name, text)
			}
			if verdict == Filtered || verdict == Inconclusive && detail == NoResponse {
				if !strings.Contains(text, "does not follow") {
					t.Errorf("%s: %q", name, text)
				}
			}
			if other, ok := seen[text]; ok && verdict != Compatible && !(verdict == Open) {
				t.Errorf("%s and %s: %q", name, other, text)
			}
			seen[text] = name
			answered := verdict == Open || verdict == AuthRequired || verdict == Compatible ||
				verdict == TLS && detail != ClientCert && detail != Unidentified
			if a.Answered != answered {
				t.Errorf("%s: answered %t", name, a.Answered)
			}
			if proves := a.Proves() != ""; proves != (verdict == Open || verdict == TLS && detail == string(Open)) {
				t.Errorf("%s proves %q", name, a.Proves())
			}
		}
	}
	if text := PublishedText(); !strings.Contains(text, "51,200") || !strings.Contains(text, "not tried") || !strings.Contains(text, "https://") {
		t.Error(text)
	}
}
