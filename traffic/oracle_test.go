package traffic_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/traffic"
)

// The oracle is a truth table over a small universe. The edges below cut services and addresses into stretches; every
// set of these tests is made of whole stretches, so that a table with one entry a stretch says all there is to say of it.

// serviceEdges returns the first service of each stretch. They stand around the edges of ports and protocols.
func serviceEdges() []traffic.Service {
	var out []traffic.Service
	for _, p := range []traffic.Proto{0, 5, 6, 7, 17, 255} {
		for _, n := range []uint16{0, 1, 2, 11210, 11211, 11212, 11213, 65534, 65535} {
			out = append(out, p.Port(n))
		}
	}
	for _, p := range []traffic.Proto{1, 8, 16, 18, 254} {
		out = append(out, p.Port(0))
	}
	slices.Sort(out)
	return out
}

const lastService = traffic.Service(1<<24 - 1)

// addressEdges returns the first address of each stretch, a family at a time, and the last address of the family.
func addressEdges() [][]netip.Addr {
	const lastV6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
	texts := [][]string{
		{"0.0.0.0", "9.255.255.255", "10.0.0.0", "10.0.0.1", "10.0.1.0", "11.0.0.0", "128.0.0.0", "255.255.255.255", "255.255.255.255"},
		{"::", "::1", "::ffff:0.0.0.0", "::1:0:0:0", "2001:db8::", "2001:db9::", "8000::", lastV6, lastV6},
	}
	var out [][]netip.Addr
	for _, family := range texts {
		var edges []netip.Addr
		for _, text := range family {
			edges = append(edges, netip.MustParseAddr(text))
		}
		out = append(out, edges)
	}
	return out
}

// universe is the stretches, each with its first and its last packet.
type universe struct {
	services  [][2]traffic.Service
	addresses []netipx.IPRange
}

func newUniverse() universe {
	var u universe
	edges := serviceEdges()
	for i, from := range edges {
		to := lastService
		if i+1 < len(edges) {
			to = edges[i+1] - 1
		}
		u.services = append(u.services, [2]traffic.Service{from, to})
	}
	for _, family := range addressEdges() {
		last := family[len(family)-1]
		for i, from := range family[:len(family)-1] {
			to := last
			if i+2 < len(family) {
				to = family[i+1].Prev()
			}
			u.addresses = append(u.addresses, netipx.IPRangeFrom(from, to))
		}
	}
	return u
}

// table says for each stretch of services which stretches of addresses are in a set, a bit each.
type table []uint32

func (u universe) none() table { return make(table, len(u.services)) }

func (u universe) all() table {
	t := u.none()
	for i := range t {
		t[i] = 1<<len(u.addresses) - 1
	}
	return t
}

func (t table) with(op func(a, b uint32) uint32, v table) table {
	out := make(table, len(t))
	for i := range t {
		out[i] = op(t[i], v[i])
	}
	return out
}

func union(a, b uint32) uint32     { return a | b }
func intersect(a, b uint32) uint32 { return a & b }
func subtract(a, b uint32) uint32  { return a &^ b }

// ips returns the addresses of the stretches in bits.
func (u universe) ips(bits uint32) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for i, r := range u.addresses {
		if bits&(1<<i) != 0 {
			b.AddRange(r)
		}
	}
	s, err := b.IPSet()
	if err != nil {
		panic(err)
	}
	return s
}

// drawBox draws a set of one interval of services, and its table.
func (u universe) drawBox(t *rapid.T, label string) (traffic.Set, table) {
	i := rapid.IntRange(0, len(u.services)-1).Draw(t, label+" from")
	j := rapid.IntRange(0, len(u.services)-1).Draw(t, label+" to")
	bits := rapid.Uint32Range(0, 1<<len(u.addresses)-1).Draw(t, label+" sources")
	truth := u.none()
	for k := i; k <= j; k++ {
		truth[k] = bits
	}
	return traffic.Of(u.ips(bits), u.services[i][0], u.services[j][1]), truth
}

// drawSet draws a set that several operations made, and its table.
func (u universe) drawSet(t *rapid.T, label string) (traffic.Set, table) {
	set, truth := traffic.Set{}, u.none()
	if rapid.Bool().Draw(t, label+" full") {
		set, truth = traffic.All(), u.all()
	}
	for range rapid.IntRange(0, 6).Draw(t, label+" steps") {
		box, boxTruth := u.drawBox(t, label)
		switch rapid.SampledFrom([]string{"union", "union", "subtract", "intersect"}).Draw(t, label+" op") {
		case "union":
			set, truth = set.Union(box), truth.with(union, boxTruth)
		case "subtract":
			set, truth = set.Subtract(box), truth.with(subtract, boxTruth)
		case "intersect":
			set, truth = set.Intersect(box), truth.with(intersect, boxTruth)
		}
	}
	return set, truth
}

// check fails unless s holds the packets of truth and no others, and is in canonical form.
func (u universe) check(t *rapid.T, what string, s traffic.Set, truth table) {
	var everyone uint32
	for i, ends := range u.services {
		everyone |= truth[i]
		for _, svc := range ends {
			from := s.From(svc)
			for k, r := range u.addresses {
				want := truth[i]&(1<<k) != 0
				for _, a := range []netip.Addr{r.From(), r.To()} {
					if from.Contains(a) != want {
						t.Fatalf("%s: %v to %s is in the set: %v, want %v\nset: %v", what, a, traffic.FormatService(svc), !want, want, s)
					}
				}
			}
			if !from.Equal(u.ips(truth[i])) {
				t.Fatalf("%s: %s has the sources %s, want %s", what, traffic.FormatService(svc), traffic.FormatIPs(from), traffic.FormatIPs(u.ips(truth[i])))
			}
		}
	}
	if !s.Sources().Equal(u.ips(everyone)) {
		t.Fatalf("%s: the sources are %s, want %s", what, traffic.FormatIPs(s.Sources()), traffic.FormatIPs(u.ips(everyone)))
	}
	if s.IsEmpty() != (everyone == 0) || s.IsZero() != s.IsEmpty() {
		t.Fatalf("%s: is empty: %v, want %v", what, s.IsEmpty(), everyone == 0)
	}
	if got, want := shape(s), u.shape(truth); got != want {
		t.Fatalf("%s: the form is\n%swant\n%s", what, got, want)
	}
}

// shape lists the intervals that Each yields.
func shape(s traffic.Set) string {
	var out strings.Builder
	s.Each(func(src *netipx.IPSet, from, to traffic.Service) bool {
		fmt.Fprintf(&out, "%d-%d from %s\n", from, to, traffic.FormatIPs(src))
		return true
	})
	return out.String()
}

// shape lists what Each should yield: the longest intervals with the same sources, in order.
func (u universe) shape(truth table) string {
	var out strings.Builder
	for i := 0; i < len(truth); {
		j := i
		for j+1 < len(truth) && truth[j+1] == truth[i] {
			j++
		}
		if truth[i] != 0 {
			fmt.Fprintf(&out, "%d-%d from %s\n", u.services[i][0], u.services[j][1], traffic.FormatIPs(u.ips(truth[i])))
		}
		i = j + 1
	}
	return out.String()
}
