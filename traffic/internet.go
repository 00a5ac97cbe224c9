package traffic

import (
	"net/netip"
	"sync"

	"go4.org/netipx"
)

// Family is an IP version, 4 or 6.
type Family uint8

// The two families.
const (
	V4 Family = 4
	V6 Family = 6
)

// FamilyOf returns the family of a; an IPv4 address written as IPv6 is IPv4.
func FamilyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return V4
	}
	return V6
}

// Internet returns the globally routable addresses of both families: what is left of the address space once the
// networks are removed that IANA's special-purpose registries declare not globally reachable, and multicast
// (https://www.iana.org/assignments/iana-ipv4-special-registry, https://www.iana.org/assignments/iana-ipv6-special-registry).
// 6to4 and Teredo stay: their hosts are on the internet.
func Internet() *netipx.IPSet { return internet().both }

// Internet returns the part of Internet that is of family f.
func (f Family) Internet() *netipx.IPSet {
	if f == V4 {
		return internet().v4
	}
	return internet().v6
}

type families struct{ both, v4, v6 *netipx.IPSet }

var internet = sync.OnceValue(func() families {
	minus := func(whole string, parts ...string) *netipx.IPSet {
		var b netipx.IPSetBuilder
		b.AddPrefix(netip.MustParsePrefix(whole))
		for _, p := range parts {
			b.RemovePrefix(netip.MustParsePrefix(p))
		}
		return built(&b)
	}
	v4 := minus("0.0.0.0/0",
		"0.0.0.0/8",       // this network, RFC 791
		"10.0.0.0/8",      // private use, RFC 1918
		"100.64.0.0/10",   // carrier-grade NAT, RFC 6598
		"127.0.0.0/8",     // loopback, RFC 1122
		"169.254.0.0/16",  // link local, RFC 3927
		"172.16.0.0/12",   // private use, RFC 1918
		"192.0.0.0/24",    // IETF protocol assignments, RFC 6890
		"192.0.2.0/24",    // documentation, RFC 5737
		"192.88.99.0/24",  // 6to4 relay anycast, deprecated, RFC 7526
		"192.168.0.0/16",  // private use, RFC 1918
		"198.18.0.0/15",   // benchmarking, RFC 2544
		"198.51.100.0/24", // documentation, RFC 5737
		"203.0.113.0/24",  // documentation, RFC 5737
		"224.0.0.0/4",     // multicast, RFC 1112
		"240.0.0.0/4",     // reserved, and the limited broadcast, RFC 1112
	)
	v6 := minus("2000::/3", // global unicast, RFC 4291; nothing outside is assigned for it
		"2001:2::/48",   // benchmarking, RFC 5180
		"2001:10::/28",  // ORCHID, deprecated, RFC 4843
		"2001:20::/28",  // ORCHIDv2, RFC 7343
		"2001:db8::/32", // documentation, RFC 3849
		"3fff::/20",     // documentation, RFC 9637
	)
	return families{both: UnionIPs(v4, v6), v4: v4, v6: v6}
})
