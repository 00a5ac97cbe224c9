package cloud_test

import (
	"net/netip"
	"slices"
	"sync"

	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// The oracle judges one packet at a time, by the words of the package comment, and resolves what is in doubt by trying
// every way in which it may turn out. It knows nothing of sets: sources are cut into stretches that every generated rule
// takes or leaves whole, and one address stands for each.

// stretch is a set of sources that no rule tells apart, and an address of it.
type stretch struct {
	name string
	rep  netip.Addr
	ips  *netipx.IPSet
}

// stretches returns the sources of the generated worlds: a partner, the two halves of the internet, two addresses of
// balancers, and the same for IPv6.
var stretches = sync.OnceValue(func() []stretch {
	set := func(text string) *netipx.IPSet {
		s, err := traffic.ParseIPs(text)
		if err != nil {
			panic(err)
		}
		return s
	}
	without := func(whole, parts string) *netipx.IPSet {
		var b netipx.IPSetBuilder
		b.AddSet(set(whole))
		b.RemoveSet(set(parts))
		s, err := b.IPSet()
		if err != nil {
			panic(err)
		}
		return s
	}
	addr := netip.MustParseAddr
	return []stretch{
		{"partner", addr("8.8.8.8"), set("8.8.8.0/24")},
		{"low", addr("1.1.1.1"), without("0.0.0.0/1", "8.8.8.0/24, 10.0.0.1, 10.0.0.2")},
		{"high", addr("130.0.0.1"), set("128.0.0.0/1")},
		{"balancer1", addr("10.0.0.1"), set("10.0.0.1")},
		{"balancer2", addr("10.0.0.2"), set("10.0.0.2")},
		{"partner6", addr("2001:4860::1"), set("2001:4860::/32")},
		{"rest6", addr("2a00::1"), without("::/0", "2001:4860::/32, fd00::1")},
		{"balancer6", addr("fd00::1"), set("fd00::1")},
	}
})

// sources is a set of stretches, by their position.
type sources []int

func (s sources) ips() *netipx.IPSet {
	all := stretches()
	out := traffic.IPs()
	for _, i := range s {
		out = traffic.UnionIPs(out, all[i].ips)
	}
	return out
}

func (s sources) where(ok func(i int) bool) sources {
	var out sources
	for _, i := range s {
		if ok(i) {
			out = append(out, i)
		}
	}
	return out
}

func (s sources) and(t sources) sources {
	return s.where(func(i int) bool { return slices.Contains(t, i) })
}

// internet returns the stretches with addresses on the internet of family f.
func internet(f traffic.Family) sources {
	var out sources
	for i, s := range stretches() {
		if f.Internet().Contains(s.rep) {
			out = append(out, i)
		}
	}
	return out
}

// of returns the stretches in prefixes.
func of(prefixes []netip.Prefix) sources {
	var out sources
	for i, s := range stretches() {
		if slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(s.rep) }) {
			out = append(out, i)
		}
	}
	return out
}

// clientPorts are enough ports for a client to choose from: every generated reply rule begins and ends at one of them.
func clientPorts() []uint16 { return []uint16{1, 442, 443, 444, 1023, 1024, 65534, 65535} }

type packet struct {
	src netip.Addr
	svc traffic.Service
}

func (p packet) in(s traffic.Set) bool { return s.From(p.svc).Contains(p.src) }

// decide asks lists about a packet, where matches says which rules match it, and returns the rule that decides, or nil.
func decide(lists []*cloud.List, matches func(*cloud.Rule) bool) *cloud.Rule {
next:
	for _, list := range lists {
		for i := range list.Rules {
			switch r := &list.Rules[i]; {
			case !matches(r):
			case r.Verdict == cloud.Pass:
				continue next
			default:
				return r
			}
		}
	}
	return nil
}

func admits(lists []*cloud.List, matches func(*cloud.Rule) bool) bool {
	r := decide(lists, matches)
	return r != nil && r.Verdict == cloud.Allow
}

// resolve calls try with each way in which the rules that are in doubt about p may turn out, as far as settle does not
// say how they do, until try returns false.
func resolve(lists []*cloud.List, p packet, settle func(*cloud.Rule) (matches, settled bool), try func(matches func(*cloud.Rule) bool) bool) {
	matching := map[*cloud.Rule]bool{}
	var doubtful []*cloud.Rule
	for _, list := range lists {
		for i := range list.Rules {
			r := &list.Rules[i]
			switch {
			case p.in(r.Match):
				matching[r] = true
			case !p.in(r.Maybe):
			case r.Verdict == cloud.Deny && r.Doubt == cloud.Dynamic: // never closes anything
			default:
				if m, settled := settle(r); settled {
					matching[r] = m
				} else {
					doubtful = append(doubtful, r)
				}
			}
		}
	}
	for way := range 1 << len(doubtful) {
		for i, r := range doubtful {
			matching[r] = way&(1<<i) != 0
		}
		if !try(func(r *cloud.Rule) bool { return matching[r] }) {
			return
		}
	}
}

// reading is what a verdict may count.
type reading int

const (
	certain  reading = iota // admitted however doubts turn out
	dynamic                 // the same, but what a dynamic allow names is taken to match
	sized                   // admitted if doubts turn out well, of which only unread ones count
	possible                // admitted if doubts turn out well
	readings
)

// settle returns how w turns out by decree under r.
func (r reading) settle(w *cloud.Rule) (matches, settled bool) {
	switch {
	case w.Verdict != cloud.Allow:
		return false, false
	case r == dynamic && w.Doubt == cloud.Dynamic:
		return true, true
	case r == sized && w.Doubt != cloud.Unread:
		return false, true
	}
	return false, false
}

// admitted says whether lists admit p under r.
func (r reading) admitted(lists []*cloud.List, p packet) bool {
	every, some := true, false
	resolve(lists, p, r.settle, func(matches func(*cloud.Rule) bool) bool {
		if admits(lists, matches) {
			some = true
		} else {
			every = false
		}
		return true
	})
	if r == certain || r == dynamic {
		return every
	}
	return some
}

// credited says whether rule admits p under r whatever other rules admit: it would if all other allow rules were gone, in
// some way in which the passes turn out. It is not credited with what is not admitted at all.
func (r reading) credited(lists []*cloud.List, rule *cloud.Rule, p packet) bool {
	if !r.admitted(lists, p) {
		return false
	}
	well := r == sized || r == possible
	settle := func(w *cloud.Rule) (bool, bool) {
		if m, settled := r.settle(w); settled {
			return m, true
		}
		switch w.Verdict {
		case cloud.Allow:
			return well, true
		case cloud.Deny:
			return !well, true
		}
		return false, false
	}
	found := false
	resolve(lists, p, settle, func(matches func(*cloud.Rule) bool) bool {
		found = admits(lists, func(w *cloud.Rule) bool {
			return matches(w) && (w.Verdict != cloud.Allow || w == rule)
		})
		return !found
	})
	return found
}

// drops says whether the deny rule decides about p if all doubts turn out well, in some way in which the passes do.
func drops(lists []*cloud.List, rule *cloud.Rule, p packet) bool {
	settle := func(w *cloud.Rule) (bool, bool) { return w.Verdict == cloud.Allow, w.Verdict != cloud.Pass }
	found := false
	resolve(lists, p, settle, func(matches func(*cloud.Rule) bool) bool {
		found = decide(lists, matches) == rule
		return !found
	})
	return found
}

// way is what the oracle makes of the path to an endpoint.
type way struct {
	endpoint *cloud.Endpoint
	services []traffic.Service // at each hop
	platform bool              // the platform's blocks count
}

// route returns the way of a packet to svc of e, if there is one: from the front, which every hop maps on.
func route(e *cloud.Endpoint, svc traffic.Service, platform bool) (way, bool) {
	fronts := []traffic.Service{svc}
	for _, h := range e.Hops {
		for _, f := range h.Forward {
			fronts = append(fronts, f.Front)
		}
	}
fronts:
	for _, front := range fronts {
		w := way{endpoint: e, platform: platform}
		at := front
		for _, h := range e.Hops {
			w.services = append(w.services, at)
			if h.Forward == nil {
				continue
			}
			i := slices.IndexFunc(h.Forward, func(f cloud.Forward) bool { return f.Front == at })
			if i < 0 {
				continue fronts
			}
			at = h.Forward[i].Target
		}
		if at == svc {
			return w, true
		}
	}
	return way{}, false
}

// gate is a layer on a way, with the sources that may stand before it.
type gate struct {
	hop    int
	layer  *cloud.Layer
	before sources
}

// segments returns the layers of w, cut where a hop replaces the source, and the sources that each part begins with.
func (w way) segments() (gates [][]gate, begin []sources) {
	before := internet(w.endpoint.Family)
	gates, begin = [][]gate{nil}, []sources{before}
	for h := range w.endpoint.Hops {
		hop := &w.endpoint.Hops[h]
		for l := range hop.Layers {
			if layer := &hop.Layers[l]; w.platform || layer.Kind != cloud.Platform {
				last := &gates[len(gates)-1]
				*last = append(*last, gate{h, layer, before})
			}
		}
		if hop.Source != nil {
			before = of(hop.Source)
			gates, begin = append(gates, nil), append(begin, before)
		}
	}
	return gates, begin
}

// in returns the sources before g that its layer admits under r.
func (w way) in(g gate, r reading) sources {
	return g.before.where(func(i int) bool {
		return r.admitted(g.layer.Lists, packet{stretches()[i].rep, w.services[g.hop]})
	})
}

// replied says whether a reply from g's hop to the client port of stretch i gets out of g's layer under r.
func (w way) replied(g gate, r reading, i int, port uint16) bool {
	return !g.layer.Stateless || r.admitted(g.layer.Reply, packet{stretches()[i].rep, w.services[g.hop].Proto().Port(port)})
}

// through returns the sources of begin that get through gates under r, and those of them that get a reply.
func (w way) through(gates []gate, begin sources, r reading) (in, both sources) {
	in = begin
	for _, g := range gates {
		in = in.and(w.in(g, r))
	}
	both = in.where(func(i int) bool {
		return slices.ContainsFunc(clientPorts(), func(port uint16) bool {
			return !slices.ContainsFunc(gates, func(g gate) bool { return !w.replied(g, r, i, port) })
		})
	})
	return in, both
}

// delivered returns the internet's sources whose requests arrive under r, those of them that get a reply, and the sources
// that get through the last part of the way.
func (w way) delivered(r reading) (in, both, last sources) {
	gates, begin := w.segments()
	in, both = w.through(gates[0], begin[0], r)
	last = in
	for i := 1; i < len(gates); i++ {
		inner, answered := w.through(gates[i], begin[i], r)
		if len(inner) == 0 {
			in = nil
		}
		if len(answered) == 0 {
			both = nil
		}
		last = inner
	}
	return in, both, last
}

// verdict is what the oracle says of an endpoint and service.
type verdict struct {
	exposure cloud.Exposure
	opaque   bool
	sources  sources
	by       []admission
	stage    string
	denied   []string // ids, sorted
}

type admission struct {
	rule    string // id
	sources sources
	alone   bool
}

// judge returns the verdict of the contract: what certainly gets through both ways is reachable; what only the platform
// keeps away is the provider's; what gets in and certainly not back is one way; what may get in is unknown.
func judge(e *cloud.Endpoint, svc traffic.Service, platform bool) (verdict, bool) {
	w, ok := route(e, svc, platform)
	if !ok {
		return verdict{}, false
	}
	open := way{endpoint: e, services: w.services} // without the platform's blocks
	mayIn, mayBoth, _ := w.delivered(possible)
	v := verdict{exposure: cloud.Blocked}
	rule := func(x cloud.Exposure, w way, r reading, counts, found sources, stage string) {
		v.exposure, v.opaque, v.sources, v.stage = x, r == dynamic, counts, stage
		v.by = w.admittedBy(r, found)
	}
	for _, r := range []reading{certain, dynamic} {
		if _, both, _ := w.delivered(r); len(both) > 0 {
			rule(cloud.Reachable, w, r, both, both, "")
			return v, true
		}
	}
	if platform && len(mayBoth) == 0 {
		for _, r := range []reading{certain, dynamic} {
			if _, both, _ := open.delivered(r); len(both) > 0 {
				rule(cloud.ProviderOnly, open, r, both, both, w.platformStage())
				return v, true
			}
		}
	}
	if platform && len(mayIn) == 0 {
		for _, r := range []reading{certain, dynamic} {
			if in, _, _ := open.delivered(r); len(in) > 0 {
				rule(cloud.ProviderOnly, open, r, in, in, w.platformStage())
				return v, true
			}
		}
		if in, _, _ := open.delivered(possible); len(in) > 0 {
			known, _, _ := open.delivered(sized)
			rule(cloud.Unknown, open, possible, known, in, open.doubt())
			return v, true
		}
	}
	if len(mayBoth) == 0 {
		for _, r := range []reading{certain, dynamic} {
			if in, _, _ := w.delivered(r); len(in) > 0 {
				rule(cloud.OneWay, w, r, in, in, w.keptIn(r))
				return v, true
			}
		}
	}
	if len(mayIn) > 0 {
		known, _, _ := w.delivered(sized)
		rule(cloud.Unknown, w, possible, known, mayIn, w.doubt())
		return v, true
	}
	v.stage, v.denied = w.blocker()
	return v, true
}

// admittedBy returns the rules of the last hop's firewalls that admit some of found under r. Behind a hop that replaces the
// source they are asked about what it puts in its place, and each is credited with all of found.
func (w way) admittedBy(r reading, found sources) []admission {
	gates, _ := w.segments()
	last := len(w.endpoint.Hops) - 1
	asked := found
	if len(gates) > 1 {
		_, _, asked = w.delivered(r)
	}
	var out []admission
	for _, g := range gates[len(gates)-1] {
		if g.hop != last || g.layer.Kind != cloud.Firewall {
			continue
		}
		for _, list := range g.layer.Lists {
			for i := range list.Rules {
				rule := &list.Rules[i]
				if rule.Verdict != cloud.Allow {
					continue
				}
				credit := asked.where(func(i int) bool {
					return r.credited(g.layer.Lists, rule, packet{stretches()[i].rep, w.services[g.hop]})
				})
				if len(credit) == 0 {
					continue
				}
				a := admission{rule: rule.Ref.ID, sources: credit, alone: len(credit) == len(asked)}
				if len(gates) > 1 {
					a.sources = found
				}
				out = append(out, a)
			}
		}
	}
	return out
}

// platformStage returns the platform's first block that may keep something away, or else its first.
func (w way) platformStage() string {
	gates, _ := w.segments()
	all := slices.DeleteFunc(slices.Concat(gates...), func(g gate) bool { return g.layer.Kind != cloud.Platform })
	for _, g := range all {
		if len(w.in(g, possible)) < len(g.before) {
			return g.layer.Name
		}
	}
	return all[0].layer.Name
}

// keptIn returns the first stage from which on no client port is left for replies to what gets in.
func (w way) keptIn(r reading) string {
	gates, begin := w.segments()
	for n, part := range gates {
		in, _ := w.through(part, begin[n], r)
		for k, g := range part {
			if !g.layer.Stateless {
				continue
			}
			if !slices.ContainsFunc(in, func(i int) bool {
				return slices.ContainsFunc(clientPorts(), func(port uint16) bool {
					return !slices.ContainsFunc(part[:k+1], func(g gate) bool { return !w.replied(g, possible, i, port) })
				})
			}) {
				return g.layer.ReplyName
			}
		}
	}
	return ""
}

// doubt returns the cause of the first rule that is in doubt about something it is asked, dynamic ones last.
func (w way) doubt() string {
	gates, _ := w.segments()
	var late string
	for _, g := range slices.Concat(gates...) {
		ask := func(lists []*cloud.List, ports ...uint16) (cause string, found bool) {
			for _, list := range lists {
				for _, r := range list.Rules {
					for _, i := range g.before {
						for _, port := range ports {
							p := packet{stretches()[i].rep, w.services[g.hop].Proto().Port(port)}
							switch {
							case !p.in(r.Maybe):
							case r.Doubt != cloud.Dynamic:
								return r.Cause, true
							case late == "":
								late = r.Cause
							}
						}
					}
				}
			}
			return "", false
		}
		if cause, found := ask(g.layer.Lists, w.services[g.hop].Port()); found {
			return cause
		}
		if g.layer.Stateless {
			if cause, found := ask(g.layer.Reply, clientPorts()...); found {
				return cause
			}
		}
	}
	return late
}

// blocker returns the stage that lets nothing in, in the words of the decision procedure for AWS: a layer that admits no
// one; or the earlier of two that have nothing in common; or the one that takes what the others leave.
func (w way) blocker() (stage string, denied []string) {
	gates, begin := w.segments()
	result := func(g gate) (string, []string) {
		for _, list := range g.layer.Lists {
			for i := range list.Rules {
				r := &list.Rules[i]
				if r.Verdict == cloud.Deny && slices.ContainsFunc(g.before, func(i int) bool {
					return drops(g.layer.Lists, r, packet{stretches()[i].rep, w.services[g.hop]})
				}) {
					denied = append(denied, r.Ref.ID)
				}
			}
		}
		return g.layer.Name, denied
	}
	for n, part := range gates {
		for _, g := range part {
			if len(w.in(g, possible)) == 0 {
				return result(g)
			}
		}
		for k, g := range part {
			if in, _ := w.through(part[:k+1], begin[n], possible); len(in) > 0 {
				continue
			}
			for _, earlier := range part[:k] {
				if len(w.in(earlier, possible).and(w.in(g, possible))) == 0 {
					return result(earlier)
				}
			}
			return result(g)
		}
	}
	return "", nil
}
