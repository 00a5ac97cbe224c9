package traffic_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/traffic"
)

func TestStringReadsBack(t *testing.T) {
	u := newUniverse()
	rapid.Check(t, func(t *rapid.T) {
		s, _ := u.drawSet(t, "set")
		readsBack(t, s)
	})
}

func TestStringReadsBackWithAnyAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s traffic.Set
		for range rapid.IntRange(0, 4).Draw(t, "parts") {
			proto := traffic.Proto(rapid.Uint8().Draw(t, "proto"))
			from := proto.Port(rapid.Uint16().Draw(t, "port"))
			s = s.Union(traffic.Of(drawIPs(t), from, from+traffic.Service(rapid.IntRange(0, 1<<18).Draw(t, "length"))))
		}
		readsBack(t, s)
	})
}

// drawIPs draws a few prefixes and ranges of both families.
func drawIPs(t *rapid.T) *netipx.IPSet {
	var b netipx.IPSetBuilder
	addr := func(size int) netip.Addr {
		a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "address"))
		return a
	}
	for range rapid.IntRange(0, 3).Draw(t, "addresses") {
		size := rapid.SampledFrom([]int{4, 16}).Draw(t, "size")
		if rapid.Bool().Draw(t, "prefix") {
			b.AddPrefix(netip.PrefixFrom(addr(size), rapid.IntRange(0, 8*size).Draw(t, "bits")))
			continue
		}
		from, to := addr(size), addr(size)
		if to.Less(from) {
			from, to = to, from
		}
		b.AddRange(netipx.IPRangeFrom(from, to))
	}
	s, err := b.IPSet()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// readsBack fails unless the text and JSON forms of s say what s is, and say it in one way.
func readsBack(t interface{ Fatalf(string, ...any) }, s traffic.Set) {
	text := s.String()
	again, err := traffic.Parse(text)
	if err != nil {
		t.Fatalf("%q does not read back: %v", text, err)
	}
	if !again.Equal(s) || again.String() != text {
		t.Fatalf("%q reads back as %q", text, again.String())
	}
	type doc struct {
		Set traffic.Set `json:"set,omitzero"`
	}
	data, err := json.Marshal(doc{s})
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if s.IsEmpty() != (string(data) == "{}") {
		t.Fatalf("%q is %s in JSON", text, data)
	}
	var in doc
	if err := json.Unmarshal(data, &in); err != nil || !in.Set.Equal(s) {
		t.Fatalf("%s reads back as %q (%v)", data, in.Set.String(), err)
	}
}

func TestString(t *testing.T) {
	world := mustIPs(t, "0.0.0.0/0")
	both := mustIPs(t, "0.0.0.0/0, ::/0")
	of := traffic.Of
	tcp, udp := traffic.TCP.Port, traffic.UDP.Port
	for _, c := range []struct {
		set  traffic.Set
		want string
	}{
		{traffic.Set{}, "nothing"},
		{traffic.All(), "all from 0.0.0.0/0, ::/0"},
		{of(world, tcp(0), tcp(65535)), "tcp from 0.0.0.0/0"},
		{of(world, tcp(1), tcp(65535)), "tcp/1-65535 from 0.0.0.0/0"},
		{of(world, tcp(0), tcp(65534)), "tcp/0-65534 from 0.0.0.0/0"},
		{of(world, tcp(0), udp(65535)), "6-17 from 0.0.0.0/0"},
		{of(world, tcp(5), udp(7)), "tcp/5-65535 from 0.0.0.0/0; 7-16 from 0.0.0.0/0; udp/0-7 from 0.0.0.0/0"},
		{of(world, tcp(65535), traffic.Proto(7).Port(0)), "tcp/65535 from 0.0.0.0/0; 7/0 from 0.0.0.0/0"},
		{of(world, traffic.Proto(254).Port(65535), lastService), "254/65535 from 0.0.0.0/0; 255 from 0.0.0.0/0"},
		{of(world, 0, lastService-1), "0-254 from 0.0.0.0/0; 255/0-65534 from 0.0.0.0/0"},
		{of(both, udp(11211), udp(11211)).Union(of(world, tcp(11211), tcp(11211))), "tcp/11211 from 0.0.0.0/0; udp/11211 from 0.0.0.0/0, ::/0"},
		{of(world, traffic.ICMP.Port(8<<8), traffic.ICMP.Port(8<<8)), "icmp/2048 from 0.0.0.0/0"},
		{of(mustIPs(t, "::1"), traffic.ICMPv6.Port(0), traffic.ICMPv6.Port(65535)), "icmpv6 from ::1"},
		{of(mustIPs(t, "10.0.0.1-10.0.0.4"), 1, 1), "0/1 from 10.0.0.1-10.0.0.4"},
	} {
		if got := c.set.String(); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
		readsBack(t, c.set)
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"tcp/11211 from 0.0.0.0/0":                                   "tcp/11211 from 0.0.0.0/0",
		" tcp/11211  from  0.0.0.0/1,128.0.0.0/1 ":                   "tcp/11211 from 0.0.0.0/0",
		"6/11211 from 10.1.2.3/8":                                    "tcp/11211 from 10.0.0.0/8",
		"udp/3 from ::1; tcp/1-2 from 1.1.1.1; tcp/2-9 from 1.1.1.1": "tcp/1-9 from 1.1.1.1; udp/3 from ::1",
		"all from ::ffff:8.8.8.8":                                    "all from 8.8.8.8",
		"58 from 2001:db8::/32":                                      "icmpv6 from 2001:db8::/32",
		"icmp-udp from 1.1.1.1":                                      "1-17 from 1.1.1.1",
		"6-6 from 1.1.1.1":                                           "tcp from 1.1.1.1",
		"0-255 from 1.1.1.1":                                         "all from 1.1.1.1",
		"all from nowhere":                                           "nothing",
		" nothing ":                                                  "nothing",
		"tcp/5 from 1.1.1.1-1.1.1.1":                                 "tcp/5 from 1.1.1.1",
		"tcp/5 from ::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff":      "tcp/5 from ::/0",
	} {
		got, err := traffic.Parse(text)
		if err != nil || got.String() != want {
			t.Errorf("%q is %q (%v), want %q", text, got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                              `want "SERVICE from SOURCE"`,
		"tcp/11211":                     `packet set "tcp/11211"`,
		"all from 0.0.0.0/0;":           `want "SERVICE from SOURCE"`,
		"ftp/1 from 1.1.1.1":            `protocol "ftp"`,
		"ftp from 1.1.1.1":              `protocol "ftp"`,
		"256 from 1.1.1.1":              `protocol "256"`,
		"TCP from 1.1.1.1":              `protocol "TCP"`,
		"6-x from 1.1.1.1":              `protocol "x"`,
		"x-6 from 1.1.1.1":              `protocol "x"`,
		"17-6 from 1.1.1.1":             `protocols "17-6": the range is the wrong way round`,
		"tcp/65536 from 1.1.1.1":        `port "65536"`,
		"tcp/-1 from 1.1.1.1":           `port "-1"`,
		"tcp/ from 1.1.1.1":             `port ""`,
		"tcp/9-1 from 1.1.1.1":          `port "9-1": the range is the wrong way round`,
		"tcp/1-2-3 from 1.1.1.1":        `port "1-2-3"`,
		"all from ":                     `source ""`,
		"all from 1.1.1.1,":             `source ""`,
		"all from 1.1.1.1/33":           `source "1.1.1.1/33"`,
		"all from ::ffff:1.1.1.0/120":   `write an IPv4 prefix as IPv4`,
		"all from fe80::1%eth0":         `an address with a zone is not a source`,
		"all from fe80::1%eth0-fe80::2": `an address with a zone is not a source`,
		"all from 1.1.1.2-1.1.1.1":      `source "1.1.1.2-1.1.1.1"`,
		"all from 1.1.1.1-::2":          `source "1.1.1.1-::2"`,
		"all from example.org":          `source "example.org"`,
	} {
		if got, err := traffic.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %q with the error %v, want one that says %s", text, got, err, want)
		}
	}
	s := traffic.All()
	if err := s.UnmarshalText([]byte("tcp")); err == nil {
		t.Error("UnmarshalText takes what Parse refuses")
	}
}

// An IPv4-mapped address is IPv4 where a person writes it as an address. A set that a cloud gave may still hold such
// addresses as IPv6, and reads back all the same.
func TestMappedAddressesReadBack(t *testing.T) {
	for _, text := range []string{"::ffff:8.8.8.8/128", "::ffff:8.8.8.0/120", "::ffff:0.0.0.0/96", "::/0", "::fffe:0:0/95"} {
		readsBack(t, traffic.Of(traffic.IPs(netip.MustParsePrefix(text)), 1, 1))
	}
}

func TestFormatService(t *testing.T) {
	for svc, want := range map[traffic.Service]string{
		traffic.TCP.Port(11211): "tcp/11211", traffic.UDP.Port(0): "udp/0", traffic.Proto(132).Port(7): "132/7",
	} {
		if got := traffic.FormatService(svc); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestFormatIPs(t *testing.T) {
	for text, want := range map[string]string{
		"nowhere": "nowhere", "8.8.8.8/32": "8.8.8.8", "::1/128": "::1", "1.1.1.2-1.1.1.3": "1.1.1.2/31",
		"2.2.2.2, 1.1.1.1": "1.1.1.1, 2.2.2.2",
	} {
		if got := traffic.FormatIPs(mustIPs(t, text)); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if got := traffic.FormatIPs(nil); got != "nowhere" {
		t.Errorf("nil: %s", got)
	}
}

func TestParsePorts(t *testing.T) {
	for text, want := range map[string][]uint16{
		"11211":                   {11211},
		" 11214-11215 , 11211 ":   {11211, 11214, 11215},
		"11211,11211,11210-11212": {11210, 11211, 11212},
		"65534-65535":             {65534, 65535},
		"1":                       {1},
	} {
		if got, err := traffic.ParsePorts(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v (%v), want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":          `port ""`,
		"0":         "ports start at 1",
		"0-5":       "ports start at 1",
		"65536":     "want a number from 0 to 65535",
		"11211,":    `port ""`,
		"5-4":       "the wrong way round",
		"memcached": `port "memcached"`,
	} {
		if got, err := traffic.ParsePorts(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v with the error %v, want one that says %q", text, got, err, want)
		}
	}
	if all, err := traffic.ParsePorts("1-65535"); err != nil || len(all) != 65535 {
		t.Errorf("all ports: %d (%v)", len(all), err)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"nothing", "all from 0.0.0.0/0, ::/0", "tcp/11211 from 0.0.0.0/1, 128.0.0.0/1; udp/11000-12000 from 10.0.0.0/8",
		"6-17 from ::1-::4", "icmp/2048 from nowhere", "255/65535 from 255.255.255.255", "all from ::ffff:1.2.3.4-::ffff:1.2.3.9",
		"tcp from fe80::1%x-fe80::2%x", "tcp/1 from ::fffe:0:0-::ffff:0.0.0.7",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := traffic.Parse(text)
		if err != nil {
			return
		}
		readsBack(t, s)
	})
}

func FuzzParseIPs(f *testing.F) {
	for _, seed := range []string{
		"nowhere", "0.0.0.0/0", "10.0.0.1, 10.0.0.3-10.0.0.9", "::ffff:1.2.3.4", "::ffff:1.2.3.4-::ffff:1.2.3.9", "2001:db8::1/32",
		"fe80::1%x-fe80::2%x", "1.2.3.4/0",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := traffic.ParseIPs(text)
		if err != nil {
			return
		}
		again, err := traffic.ParseIPs(traffic.FormatIPs(s))
		if err != nil || !again.Equal(s) {
			t.Fatalf("%q is %s, which reads back as %s (%v)", text, traffic.FormatIPs(s), traffic.FormatIPs(again), err)
		}
	})
}

func FuzzParsePorts(f *testing.F) {
	for _, seed := range []string{"11211", "11211,11214-11215", "1-65535", " 5 , 3-4 ", "0", "9-1", "-", ","} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ports, err := traffic.ParsePorts(text)
		if err != nil {
			return
		}
		if len(ports) == 0 || !slices.IsSorted(ports) || ports[0] == 0 || len(slices.Compact(slices.Clone(ports))) != len(ports) {
			t.Fatalf("%q: %v is not a list of ports, each once and in order", text, ports)
		}
	})
}

func TestWords(t *testing.T) {
	for text, want := range map[string]string{
		"nothing":                  "nothing",
		"tcp/11211 from 8.0.0.0/8": "tcp/11211 from 8.0.0.0/8",
		"0-5 from 8.0.0.0/8; tcp/80 from 8.0.0.0/8; 47 from 8.0.0.0/8; udp from ::/0": "tcp/80, protocols 0-5, 47 from 8.0.0.0/8; udp from ::/0",
		"7-16 from 8.0.0.0/8; 18 from 9.0.0.0/8":                                      "protocols 7-16 from 8.0.0.0/8; protocols 18 from 9.0.0.0/8",
	} {
		s, err := traffic.Parse(text)
		if got := s.Words(); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
}
