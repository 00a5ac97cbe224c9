package cloud

import (
	"math/big"

	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/traffic"
)

// Coverage is how much of the internet a set of sources is.
type Coverage string

// The coverages, from most to least; Opaque is apart.
const (
	World  Coverage = "world"  // 99 % or more of the family's globally routable addresses
	Wide   Coverage = "wide"   // at least 1/256 of them (IPv4: 14.5 million), 1/8192 for IPv6 (a /16 of 2000::/3)
	Narrow Coverage = "narrow" // more than none
	Opaque Coverage = "opaque" // not empty, and only the cloud knows its size
	None   Coverage = "none"   // no computable member
)

// Cover returns the coverage of sources in the internet of family f, and its share of it, from 0 to 1.
func Cover(sources *netipx.IPSet, f traffic.Family) (Coverage, float64) {
	part := traffic.Size(traffic.IntersectIPs(sources, f.Internet()))
	whole := traffic.Size(f.Internet())
	share, _ := new(big.Rat).SetFrac(part, whole).Float64()

	// atLeast says part/whole >= num/den in whole numbers: the thresholds are exact.
	atLeast := func(num, den int64) bool {
		return new(big.Int).Mul(part, big.NewInt(den)).Cmp(new(big.Int).Mul(whole, big.NewInt(num))) >= 0
	}
	wide := int64(256)
	if f == traffic.V6 {
		wide = 8192
	}
	switch {
	case part.Sign() == 0:
		return None, 0
	case atLeast(99, 100):
		return World, share
	case atLeast(1, wide):
		return Wide, share
	}
	return Narrow, share
}

// Less says whether c covers less than d; Opaque counts as Wide, for it is neither all nor little.
func (c Coverage) Less(d Coverage) bool { return c.rank() < d.rank() }

func (c Coverage) rank() int {
	switch c {
	case World:
		return 3
	case Wide, Opaque:
		return 2
	case Narrow:
		return 1
	}
	return 0
}
