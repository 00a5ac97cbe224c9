package cloud

import (
	"cmp"
	"slices"

	"github.com/cloudaudit/cloudaudit/traffic"
)

// mode is one reading of what is in doubt. Admission grows with what allows match and shrinks with what denies match, so
// that the two ends, pessimistic and optimistic, bound every possible truth.
type mode uint8

const (
	must  mode = iota // what is admitted for certain
	some              // and what a dynamic allow admits, which is something, but nobody can say what
	known             // what may be admitted, as far as its size is known
	may               // what may be admitted
	modes
)

// allows returns what an allow r matches under m.
func (m mode) allows(r *Rule) traffic.Set {
	switch {
	case r.Maybe.IsEmpty() || m == must,
		m == some && r.Doubt != Dynamic,
		m == known && r.Doubt != Unread:
		return r.Match
	}
	return r.Match.Union(r.Maybe)
}

// denies returns what a deny of r matches under m. A dynamic deny never closes anything: it cannot cover the internet, so
// what an allow below it admits stays open to most.
func (m mode) denies(r *Rule) traffic.Set {
	if r.Maybe.IsEmpty() || r.Doubt == Dynamic || m == known || m == may {
		return r.Match
	}
	return r.Match.Union(r.Maybe)
}

// credit is what one rule decides of the packets that were asked about, in some way in which the passes turn out: for an
// allow, what it admits whatever other allows admit, for what two rules admit both must be credited with; for a deny, what
// it takes and no allow had admitted. What an allow is credited with counts as far as the outcome admits it.
type credit struct {
	list *List
	rule *Rule
	set  traffic.Set
}

// outcome is what a layer's lists make of a set of packets.
type outcome struct {
	admitted traffic.Set
	allows   []credit
	denies   []credit
}

// walk asks lists in turn about the packets of open, beginning at rule from of the first list.
//
// A packet is admitted if some allow matches it before any deny does, and before a pass takes it past that allow. Allows
// therefore leave open as it is: they take nothing from later rules that matters, and each gets its full credit.
func (m mode) walk(lists []*List, from int, open traffic.Set) outcome {
	var out outcome
	for n, list := range lists {
		var parked traffic.Set // what a pass has taken to the next list
		for i := from; i < len(list.Rules) && !open.IsEmpty(); i++ {
			r := &list.Rules[i]
			switch r.Verdict {
			case Allow:
				if hit := open.Intersect(m.allows(r)); !hit.IsEmpty() {
					out.admitted = out.admitted.Union(hit)
					out.allows = append(out.allows, credit{list, r, hit})
				}
			case Deny:
				if hit := open.Intersect(m.denies(r)); !hit.IsEmpty() {
					open = open.Subtract(hit)
					out.deny(credit{list, r, hit})
				}
			case Pass:
				hit := open.Intersect(r.Match)
				parked, open = parked.Union(hit), open.Subtract(hit)
				// Whether a pass that is in doubt helps or harms depends on what comes after it: try both.
				if doubt := open.Intersect(r.Maybe); !doubt.IsEmpty() {
					open = open.Subtract(doubt)
					out.join(m, m.walk(lists[n:], i+1, doubt), m.walk(lists[n+1:], 0, doubt))
				}
			}
		}
		open = open.Union(parked)
		from = 0
	}
	return out
}

// join adds to out what is admitted both ways, or either way, by m.
func (out *outcome) join(m mode, a, b outcome) {
	for _, c := range slices.Concat(a.denies, b.denies) {
		out.deny(c)
	}
	both := a.admitted.Union(b.admitted)
	if m == must || m == some {
		both = a.admitted.Intersect(b.admitted)
	}
	out.admitted = out.admitted.Union(both)
	out.allows = slices.Concat(out.allows, a.allows, b.allows)
}

// deny adds c to out, less what an allow has admitted before.
func (out *outcome) deny(c credit) {
	if c.set = c.set.Subtract(out.admitted); !c.set.IsEmpty() {
		out.denies = append(out.denies, c)
	}
}

// sort puts the credits of out in the order of lists, for walk comes to some rules out of turn where a pass is in doubt.
func (out *outcome) sort(lists []*List) {
	place := map[*Rule]int{}
	for _, list := range lists {
		for i := range list.Rules {
			place[&list.Rules[i]] = len(place)
		}
	}
	byPlace := func(a, b credit) int { return cmp.Compare(place[a.rule], place[b.rule]) }
	slices.SortStableFunc(out.allows, byPlace)
	slices.SortStableFunc(out.denies, byPlace)
}
