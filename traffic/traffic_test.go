package traffic_test

import (
	"math/big"
	"net/netip"
	"testing"

	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/traffic"
)

func TestOperationsAgainstTruthTable(t *testing.T) {
	u := newUniverse()
	rapid.Check(t, func(t *rapid.T) {
		a, inA := u.drawSet(t, "a")
		b, inB := u.drawSet(t, "b")
		u.check(t, "a", a, inA)
		u.check(t, "a.Union(b)", a.Union(b), inA.with(union, inB))
		u.check(t, "a.Intersect(b)", a.Intersect(b), inA.with(intersect, inB))
		u.check(t, "a.Subtract(b)", a.Subtract(b), inA.with(subtract, inB))
		u.check(t, "a after the operations", a, inA) // sets are immutable
	})
}

func TestEqualMeansSamePackets(t *testing.T) {
	u := newUniverse()
	rapid.Check(t, func(t *rapid.T) {
		a, inA := u.drawSet(t, "a")
		b, inB := u.drawSet(t, "b")
		same := true
		for i := range inA {
			same = same && inA[i] == inB[i]
		}
		if a.Equal(b) != same || b.Equal(a) != same {
			t.Fatalf("a.Equal(b) = %v, b.Equal(a) = %v, want %v\na: %v\nb: %v", a.Equal(b), b.Equal(a), same, a, b)
		}
		// The same packets, put together one stretch at a time and backwards.
		var c traffic.Set
		for i := len(inA) - 1; i >= 0; i-- {
			c = c.Union(traffic.Of(u.ips(inA[i]), u.services[i][0], u.services[i][1]))
		}
		if !a.Equal(c) || a.String() != c.String() {
			t.Fatalf("the same packets differ: %v and %v", a, c)
		}
	})
}

func TestEqualSeesEachPart(t *testing.T) {
	one, two := mustIPs(t, "1.1.1.1"), mustIPs(t, "1.1.1.2")
	s := traffic.Of(one, 5, 9)
	for _, other := range []traffic.Set{{}, traffic.Of(one, 5, 8), traffic.Of(one, 4, 9), traffic.Of(two, 5, 9), s.Union(traffic.Of(two, 7, 7)), s.Union(traffic.Of(one, 11, 11))} {
		if s.Equal(other) || other.Equal(s) {
			t.Errorf("%v equals %v", s, other)
		}
	}
	if again := traffic.Of(mustIPs(t, "1.1.1.1"), 5, 9); !s.Equal(again) {
		t.Errorf("%v does not equal %v", s, again)
	}
}

func TestLaws(t *testing.T) {
	u := newUniverse()
	all, nothing := traffic.All(), traffic.Set{}
	not := func(s traffic.Set) traffic.Set { return all.Subtract(s) }
	rapid.Check(t, func(t *rapid.T) {
		a, _ := u.drawSet(t, "a")
		b, _ := u.drawSet(t, "b")
		c, _ := u.drawSet(t, "c")
		for _, law := range []struct {
			name        string
			left, right traffic.Set
		}{
			{"union commutes", a.Union(b), b.Union(a)},
			{"intersection commutes", a.Intersect(b), b.Intersect(a)},
			{"union associates", a.Union(b).Union(c), a.Union(b.Union(c))},
			{"intersection associates", a.Intersect(b).Intersect(c), a.Intersect(b.Intersect(c))},
			{"intersection distributes", a.Intersect(b.Union(c)), a.Intersect(b).Union(a.Intersect(c))},
			{"union distributes", a.Union(b.Intersect(c)), a.Union(b).Intersect(a.Union(c))},
			{"absorption by union", a.Union(a.Intersect(b)), a},
			{"absorption by intersection", a.Intersect(a.Union(b)), a},
			{"union is idempotent", a.Union(a), a},
			{"intersection is idempotent", a.Intersect(a), a},
			{"nothing is neutral to union", a.Union(nothing), a},
			{"all is neutral to intersection", a.Intersect(all), a},
			{"all absorbs union", a.Union(all), all},
			{"nothing absorbs intersection", a.Intersect(nothing), nothing},
			{"De Morgan, union", not(a.Union(b)), not(a).Intersect(not(b))},
			{"De Morgan, intersection", not(a.Intersect(b)), not(a).Union(not(b))},
			{"not is an involution", not(not(a)), a},
			{"difference is intersection with not", a.Subtract(b), a.Intersect(not(b))},
			{"what is taken away is gone", a.Subtract(b).Intersect(b), nothing},
			{"the parts make the whole", a.Subtract(b).Union(a.Intersect(b)), a},
		} {
			if !law.left.Equal(law.right) {
				t.Fatalf("%s: %v\nis not %v\na: %v\nb: %v\nc: %v", law.name, law.left, law.right, a, b, c)
			}
		}
	})
}

func TestOf(t *testing.T) {
	world := traffic.IPs(netip.MustParsePrefix("0.0.0.0/0"))
	tcp := traffic.TCP.Port
	for _, c := range []struct {
		name string
		set  traffic.Set
		want string
	}{
		{"one port", traffic.Of(world, tcp(11211), tcp(11211)), "tcp/11211 from 0.0.0.0/0"},
		{"no sources", traffic.Of(traffic.IPs(), tcp(1), tcp(2)), "nothing"},
		{"nil sources", traffic.Of(nil, tcp(1), tcp(2)), "nothing"},
		{"the wrong way round", traffic.Of(world, tcp(2), tcp(1)), "nothing"},
		{"beyond the last protocol", traffic.Of(world, traffic.Proto(255).Port(65535), lastService+10), "255/65535 from 0.0.0.0/0"},
		{"nothing but beyond", traffic.Of(world, lastService+1, lastService+10), "nothing"},
		{"everything", traffic.All(), "all from 0.0.0.0/0, ::/0"},
	} {
		if got := c.set.String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestFromIsNeverNil(t *testing.T) {
	for _, s := range []traffic.Set{{}, traffic.All(), traffic.Of(traffic.Internet(), traffic.TCP.Port(11211), traffic.TCP.Port(11211))} {
		for _, svc := range []traffic.Service{0, traffic.TCP.Port(11210), traffic.TCP.Port(11211), traffic.TCP.Port(11212), lastService, lastService + 1} {
			if s.From(svc) == nil {
				t.Errorf("%v: the sources of %d are nil", s, svc)
			}
		}
	}
}

func TestEachStops(t *testing.T) {
	world := traffic.IPs(netip.MustParsePrefix("0.0.0.0/0"))
	s := traffic.Of(world, 1, 1).Union(traffic.Of(world, 3, 3)).Union(traffic.Of(world, 5, 5))
	var seen []traffic.Service
	s.Each(func(_ *netipx.IPSet, from, _ traffic.Service) bool {
		seen = append(seen, from)
		return len(seen) < 2
	})
	if len(seen) != 2 || seen[0] != 1 || seen[1] != 3 {
		t.Errorf("saw %v, want [1 3]", seen)
	}
}

func TestAddressSets(t *testing.T) {
	ips := func(text string) *netipx.IPSet { return mustIPs(t, text) }
	for _, c := range []struct {
		a, b, union, intersection string
		subset                    bool // a of b
	}{
		{"10.0.0.0/8", "10.0.0.0/16", "10.0.0.0/8", "10.0.0.0/16", false},
		{"10.0.0.0/16", "10.0.0.0/8", "10.0.0.0/8", "10.0.0.0/16", true},
		{"10.0.0.0/8", "nowhere", "10.0.0.0/8", "nowhere", false},
		{"nowhere", "10.0.0.0/8", "10.0.0.0/8", "nowhere", true},
		{"nowhere", "nowhere", "nowhere", "nowhere", true},
		{"0.0.0.0/1", "128.0.0.0/1", "0.0.0.0/0", "nowhere", false},
		{"0.0.0.0/0, ::/0", "2000::/3", "0.0.0.0/0, ::/0", "2000::/3", false},
		{"2000::/3", "0.0.0.0/0, ::/0", "0.0.0.0/0, ::/0", "2000::/3", true},
		{"10.0.0.0/8", "::a00:0/104", "10.0.0.0/8, ::a00:0/104", "nowhere", false},
	} {
		a, b := ips(c.a), ips(c.b)
		if got := traffic.UnionIPs(a, b); !got.Equal(ips(c.union)) {
			t.Errorf("%s with %s: %s, want %s", c.a, c.b, traffic.FormatIPs(got), c.union)
		}
		if got := traffic.IntersectIPs(a, b); !got.Equal(ips(c.intersection)) {
			t.Errorf("%s in %s: %s, want %s", c.a, c.b, traffic.FormatIPs(got), c.intersection)
		}
		if got := traffic.Subset(a, b); got != c.subset {
			t.Errorf("%s is a subset of %s: %v, want %v", c.a, c.b, got, c.subset)
		}
	}
	some := ips("10.0.0.0/8")
	if got := traffic.UnionIPs(nil, some); !got.Equal(some) {
		t.Errorf("nil with a set is %s", traffic.FormatIPs(got))
	}
	if got := traffic.IntersectIPs(nil, some); !traffic.IsEmptyIPs(got) {
		t.Errorf("nil in a set is %s", traffic.FormatIPs(got))
	}
	if !traffic.Subset(some, some) || !traffic.Subset(nil, some) || traffic.Subset(some, nil) || !traffic.IsEmptyIPs(nil) {
		t.Error("a set is a subset of itself, nil is one of every set, and only an empty set is one of nil")
	}
}

func TestInvalidPrefixPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("IPs takes an invalid prefix")
		}
	}()
	traffic.IPs(netip.Prefix{})
}

func TestSize(t *testing.T) {
	for text, want := range map[string]string{
		"nowhere":              "0",
		"0.0.0.0":              "1",
		"10.0.0.0/8":           "16777216",
		"0.0.0.0/0":            "4294967296",
		"::/0":                 "340282366920938463463374607431768211456",
		"0.0.0.0/0, ::/0":      "340282366920938463463374607436063178752",
		"10.0.0.0-10.0.0.2":    "3",
		"1.1.1.1, 10.0.0.0/31": "3",
	} {
		if got := traffic.Size(mustIPs(t, text)).String(); got != want {
			t.Errorf("%s: %s addresses, want %s", text, got, want)
		}
	}
	if got := traffic.Size(nil); got.Sign() != 0 {
		t.Errorf("nil has %v addresses", got)
	}
}

func TestFamilyOf(t *testing.T) {
	for text, want := range map[string]traffic.Family{
		"8.8.8.8": traffic.V4, "::ffff:8.8.8.8": traffic.V4, "2001:4860::1": traffic.V6, "::": traffic.V6,
	} {
		if got := traffic.FamilyOf(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: family %d, want %d", text, got, want)
		}
	}
}

// special are the networks that are not of the internet, as IANA's registries give them.
func special() (v4, v6 []netip.Prefix) {
	for _, text := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"224.0.0.0/4", "240.0.0.0/4",
	} {
		v4 = append(v4, netip.MustParsePrefix(text))
	}
	for _, text := range []string{"2001:db8::/32", "3fff::/20", "2001:2::/48", "2001:10::/28", "2001:20::/28"} {
		v6 = append(v6, netip.MustParsePrefix(text))
	}
	return v4, v6
}

func TestInternetIsWhatIsLeft(t *testing.T) {
	v4, v6 := special()
	for _, c := range []struct {
		family  traffic.Family
		whole   string
		special []netip.Prefix
	}{
		{traffic.V4, "0.0.0.0/0", v4},
		{traffic.V6, "2000::/3", v6},
	} {
		internet := c.family.Internet()
		whole := traffic.IPs(netip.MustParsePrefix(c.whole))
		if got := traffic.UnionIPs(internet, traffic.IPs(c.special...)); !got.Equal(whole) {
			t.Errorf("IPv%d: internet and special networks together are %s, want %s", c.family, traffic.FormatIPs(got), c.whole)
		}
		left := traffic.Size(whole)
		for _, p := range c.special { // no two overlap: sizes add up
			left.Sub(left, traffic.Size(traffic.IPs(p)))
			r := netipx.RangeOfPrefix(p)
			for _, a := range []netip.Addr{r.From(), r.To()} {
				if internet.Contains(a) {
					t.Errorf("%v of %v is on the internet", a, p)
				}
			}
		}
		if got := traffic.Size(internet); got.Cmp(left) != 0 {
			t.Errorf("IPv%d: %v addresses, want %v", c.family, got, left)
		}
		if !traffic.Subset(internet, traffic.Internet()) {
			t.Errorf("Internet lacks addresses of IPv%d", c.family)
		}
	}
	if both := traffic.UnionIPs(traffic.V4.Internet(), traffic.V6.Internet()); !both.Equal(traffic.Internet()) {
		t.Errorf("the internet is %s, want both families", traffic.FormatIPs(traffic.Internet()))
	}
}

func TestInternetCounts(t *testing.T) {
	v4 := traffic.V4.Internet()
	if got := len(v4.Ranges()); got != 13 {
		t.Errorf("IPv4: %d intervals, want 13", got)
	}
	if got := len(v4.Prefixes()); got != 116 {
		t.Errorf("IPv4: %d prefixes, want 116", got)
	}
	share, _ := new(big.Rat).SetFrac(traffic.Size(v4), new(big.Int).Lsh(big.NewInt(1), 32)).Float64()
	if share < 0.8615 || share > 0.8625 {
		t.Errorf("IPv4: %.4f of the space, want 86.2 %%", share)
	}
}

func TestInternetHolds(t *testing.T) {
	for text, want := range map[string]bool{
		"8.8.8.8": true, "1.0.0.0": true, "0.255.255.255": false, "9.255.255.255": true, "10.0.0.0": false,
		"11.0.0.0": true, "100.63.255.255": true, "100.64.0.0": false, "100.127.255.255": false, "100.128.0.0": true,
		"172.15.255.255": true, "172.16.0.0": false, "172.31.255.255": false, "172.32.0.0": true,
		"192.0.1.0": true, "192.88.99.1": false, "198.17.255.255": true, "198.18.0.0": false, "198.20.0.0": true,
		"223.255.255.255": true, "224.0.0.0": false, "255.255.255.255": false,
		"::1": false, "1fff::": false, "2000::": true, "2001:db8::1": false, "2001:db9::": true, "fe80::1": false, "fc00::1": false,
		"ff02::1": false, "3fff:fff::": false, "3fff:1000::": true, "4000::": false,
		"2002:808:808::1": true, // 6to4
		"2001:0:1::1":     true, // Teredo
		"64:ff9b::808:1":  false, "::ffff:8.8.8.8": false,
	} {
		if got := traffic.Internet().Contains(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is on the internet: %v, want %v", text, got, want)
		}
	}
}

func mustIPs(t testing.TB, text string) *netipx.IPSet {
	t.Helper()
	s, err := traffic.ParseIPs(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
