// Package traffic is the algebra of packet sets: which sources may send to which services. A Set is canonical and
// immutable, so that equal sets are equal values and every operation returns a new one.
package traffic

import (
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"sync"

	"go4.org/netipx"
)

// Proto is an IP protocol number as assigned by IANA (https://www.iana.org/assignments/protocol-numbers).
type Proto uint8

// The protocols that have a name in the text form.
const (
	ICMP   Proto = 1
	TCP    Proto = 6
	UDP    Proto = 17
	ICMPv6 Proto = 58
)

// Service is a protocol and a destination port on one line, proto<<16 | port, so that an interval of services is a range
// of ports of one protocol, all of several protocols, or everything. Where a protocol has no ports the low half is what
// the protocol has in their place (ICMP: type<<8 | code), or nothing.
type Service uint32

// Port returns the service of port n under p.
func (p Proto) Port(n uint16) Service { return Service(p)<<16 | Service(n) }

// Ports returns the services of the ports from to to, both included, under p, as the ends of an interval.
func (p Proto) Ports(from, to uint16) (Service, Service) { return p.Port(from), p.Port(to) }

// All returns the ends of the interval of every service under p.
func (p Proto) All() (Service, Service) { return p.Ports(0, maxPort) }

// Proto returns the protocol of s.
func (s Service) Proto() Proto { return Proto(s >> 16) }

// Port returns the port of s.
func (s Service) Port() uint16 { return uint16(s) }

const (
	maxPort    = 1<<16 - 1
	maxService = Service(1<<24 - 1)
)

// Set is a set of packets: a function from services to the sources that may send there. The zero Set is empty.
type Set struct {
	runs []run // ascending, disjoint, sources never empty, neighbours with equal sources joined
}

// run says that all services in [from, to] have the sources src.
type run struct {
	from, to Service
	src      *netipx.IPSet
}

// Of returns the packets from src to the services from to to, both included. It is empty if src is nil or empty, or if
// to comes before from.
func Of(src *netipx.IPSet, from, to Service) Set {
	to = min(to, maxService)
	if empty(src) || to < from {
		return Set{}
	}
	return Set{[]run{{from, to, src}}}
}

// All returns every packet: all sources of both families, all services.
func All() Set { return Of(anywhere(), 0, maxService) }

// Union returns the packets in s or in t.
func (s Set) Union(t Set) Set {
	if len(s.runs) == 0 {
		return t
	}
	if len(t.runs) == 0 {
		return s
	}
	return combine(s, t, UnionIPs)
}

// Intersect returns the packets in both s and t.
func (s Set) Intersect(t Set) Set {
	if !s.meetsServices(t) {
		return Set{}
	}
	return combine(s, t, IntersectIPs)
}

// Subtract returns the packets in s that are not in t.
func (s Set) Subtract(t Set) Set {
	if !s.meetsServices(t) {
		return s
	}
	return combine(s, t, subtractIPs)
}

// Equal says whether s and t hold the same packets.
func (s Set) Equal(t Set) bool {
	return slices.EqualFunc(s.runs, t.runs, func(a, b run) bool {
		return a.from == b.from && a.to == b.to && sameIPs(a.src, b.src)
	})
}

// IsEmpty says whether s holds no packet.
func (s Set) IsEmpty() bool { return len(s.runs) == 0 }

// From returns the sources that may send to svc; the set is empty, never nil, if there are none.
func (s Set) From(svc Service) *netipx.IPSet {
	i, found := slices.BinarySearchFunc(s.runs, svc, func(r run, svc Service) int {
		switch {
		case r.to < svc:
			return -1
		case r.from > svc:
			return 1
		}
		return 0
	})
	if !found {
		return none()
	}
	return s.runs[i].src
}

// Sources returns all sources that appear in s, whatever the service.
func (s Set) Sources() *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, r := range s.runs {
		b.AddSet(r.src)
	}
	return built(&b)
}

// Each calls yield with each maximal interval of services that has the same sources, in ascending order, until yield
// returns false.
func (s Set) Each(yield func(src *netipx.IPSet, from, to Service) bool) {
	for _, r := range s.runs {
		if !yield(r.src, r.from, r.to) {
			return
		}
	}
}

// meetsServices says whether some service is in both s and t. It is cheap, and spares most rules any work on addresses.
func (s Set) meetsServices(t Set) bool {
	for i, j := 0, 0; i < len(s.runs) && j < len(t.runs); {
		a, b := s.runs[i], t.runs[j]
		switch {
		case a.to < b.from:
			i++
		case b.to < a.from:
			j++
		default:
			return true
		}
	}
	return false
}

// combine applies op to the sources of s and of t on every stretch of services on which both are constant:
//
//	s      ├──a──┤     ├────b────┤
//	t         ├────c──────┤
//	cuts   ├──┼──┼─────┼──┼──────┤
//
// It is the only place where a Set with more than one run is made, and so where canonical form is kept.
func combine(s, t Set, op func(a, b *netipx.IPSet) *netipx.IPSet) Set {
	cuts := make([]Service, 0, 2*(len(s.runs)+len(t.runs)))
	for _, runs := range [][]run{s.runs, t.runs} {
		for _, r := range runs {
			cuts = append(cuts, r.from, r.to+1)
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)

	var out []run
	var i, j int
	for k := 0; k+1 < len(cuts); k++ {
		from, to := cuts[k], cuts[k+1]-1
		src := op(at(s.runs, &i, from), at(t.runs, &j, from))
		if empty(src) {
			continue
		}
		if n := len(out); n > 0 && out[n-1].to+1 == from && sameIPs(out[n-1].src, src) {
			out[n-1].to = to
			continue
		}
		out = append(out, run{from, to, src})
	}
	return Set{out}
}

// at returns the sources of svc in runs, moving *i on to the first run that does not end before svc.
func at(runs []run, i *int, svc Service) *netipx.IPSet {
	for *i < len(runs) && runs[*i].to < svc {
		*i++
	}
	if *i < len(runs) && runs[*i].from <= svc {
		return runs[*i].src
	}
	return none()
}

// UnionIPs returns the addresses in a or in b.
func UnionIPs(a, b *netipx.IPSet) *netipx.IPSet {
	switch {
	case empty(a) || a == b:
		return b
	case empty(b):
		return a
	}
	var out netipx.IPSetBuilder
	out.AddSet(a)
	out.AddSet(b)
	return built(&out)
}

// IntersectIPs returns the addresses in both a and b.
func IntersectIPs(a, b *netipx.IPSet) *netipx.IPSet {
	switch {
	case empty(a) || empty(b):
		return none()
	case a == b || sameIPs(b, anywhere()):
		return a
	case sameIPs(a, anywhere()):
		return b
	}
	var out netipx.IPSetBuilder
	out.AddSet(a)
	out.Intersect(b)
	return built(&out)
}

func subtractIPs(a, b *netipx.IPSet) *netipx.IPSet {
	switch {
	case empty(a) || a == b:
		return none()
	case empty(b):
		return a
	}
	var out netipx.IPSetBuilder
	out.AddSet(a)
	out.RemoveSet(b)
	return built(&out)
}

// IPs returns the addresses of the given prefixes.
func IPs(prefixes ...netip.Prefix) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, p := range prefixes {
		b.AddPrefix(p)
	}
	return built(&b)
}

// Subset says whether every address of a is in b.
func Subset(a, b *netipx.IPSet) bool { return empty(subtractIPs(a, b)) }

// IsEmptyIPs says whether a holds no address; nil holds none.
func IsEmptyIPs(a *netipx.IPSet) bool { return empty(a) }

func empty(a *netipx.IPSet) bool { return a == nil || len(a.Ranges()) == 0 }

func sameIPs(a, b *netipx.IPSet) bool { return a == b || a.Equal(b) }

// built returns what b holds. The builder reports an error only for prefixes and ranges that are not valid, and every
// caller here adds only valid ones.
func built(b *netipx.IPSetBuilder) *netipx.IPSet {
	s, err := b.IPSet()
	if err != nil {
		panic(fmt.Sprintf("traffic: an invalid prefix got through: %v", err))
	}
	return s
}

var (
	none     = sync.OnceValue(func() *netipx.IPSet { return IPs() })
	anywhere = sync.OnceValue(func() *netipx.IPSet {
		return IPs(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
	})
)

// Size returns the number of addresses in a.
func Size(a *netipx.IPSet) *big.Int {
	n := new(big.Int)
	if a == nil {
		return n
	}
	one := big.NewInt(1)
	for _, r := range a.Ranges() {
		from, to := r.From().As16(), r.To().As16()
		d := new(big.Int).SetBytes(to[:])
		d.Sub(d, new(big.Int).SetBytes(from[:]))
		n.Add(n, d.Add(d, one))
	}
	return n
}
