package cloud

import (
	"slices"

	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/traffic"
)

// way is the path to an endpoint for one service, with what each layer on it makes of the packets. A hop that replaces the
// source cuts it into parts: what the internet gets through is what gets through the first part, if the others admit what
// the hop puts in its place, and replies come back if they do on all parts.
type way struct {
	parts  []part
	target *Hop // the last one, whose firewalls are to blame
}

// part is a stretch of a way on which sources stay what they are.
type part struct {
	sources *netipx.IPSet // where its packets can come from: the internet, or what a hop put in its place
	stops   []stop
}

// stop is a layer on a way.
type stop struct {
	hop     *Hop
	layer   *Layer
	service traffic.Service // as the packet is addressed there
	*layerResult
}

// way returns the path through the hops of e, where packets are addressed to services.
func (j *judge) way(e *Endpoint, services []traffic.Service) way {
	w := way{parts: []part{{sources: e.Family.Internet()}}, target: &e.Hops[len(e.Hops)-1]}
	for h := range e.Hops {
		hop, last := &e.Hops[h], &w.parts[len(w.parts)-1]
		for l := range hop.Layers {
			layer := &hop.Layers[l]
			last.stops = append(last.stops, stop{hop, layer, services[h], j.layer(layer, services[h], last.sources)})
		}
		if hop.Source != nil && hop != w.target {
			w.parts = append(w.parts, part{sources: traffic.IPs(hop.Source...)})
		}
	}
	return w
}

// flow is what gets through a way in one reading.
type flow struct {
	in   *netipx.IPSet // internet hosts whose request is delivered
	both *netipx.IPSet // of those, the ones to whom a reply can go
	last *netipx.IPSet // the sources that the last part admits, as it sees them
}

// flow joins the results of the layers of w; the platform's blocks are left out of account where platform is false.
func (w way) flow(m mode, platform bool) flow {
	out := w.parts[0].flow(m, platform)
	for _, p := range w.parts[1:] {
		f := p.flow(m, platform)
		if traffic.IsEmptyIPs(f.in) {
			out.in = f.in
		}
		if traffic.IsEmptyIPs(f.both) {
			out.both = f.both
		}
		out.last = f.in
	}
	return out
}

func (p part) flow(m mode, platform bool) flow {
	in := p.sources
	var replies *traffic.Set // by client port: one and the same has to get out of every layer
	for _, s := range p.stops {
		if s.layer.Kind == Platform && !platform {
			continue
		}
		in = traffic.IntersectIPs(in, s.in[m])
		if s.layer.Stateless {
			replies = s.also(replies, m)
		}
	}
	both := in
	if replies != nil {
		both = traffic.IntersectIPs(in, replies.Sources())
	}
	return flow{in: in, both: both, last: in}
}

// also returns the replies that get out of s too; nil stands for all.
func (s stop) also(replies *traffic.Set, m mode) *traffic.Set {
	out := s.out[m]
	if replies != nil {
		out = out.Intersect(*replies)
	}
	return &out
}

// doubt returns the first rule of w that leaves something in doubt, dynamic ones last; without one, all readings are one.
func (w way) doubt(platform bool) *Rule {
	var first *Rule
	for _, p := range w.parts {
		for _, s := range p.stops {
			if s.cause != nil && (platform || s.layer.Kind != Platform) {
				first = firmer(first, s.cause)
			}
		}
	}
	return first
}

// admitting returns the rules of the last hop's firewall layers that admit packets of f, which are from sources.
func (w way) admitting(m mode, f flow, sources *netipx.IPSet) []Admission {
	replaced := len(w.parts) > 1
	through := sources
	if replaced {
		through = f.last
	}
	var out []Admission
	for _, s := range w.parts[len(w.parts)-1].stops {
		if s.layer.Kind != Firewall || s.hop != w.target {
			continue
		}
		for _, a := range admissions(s.allows[m], s.service, through) {
			a.Alone = traffic.Subset(through, a.Sources)
			if replaced {
				a.Sources = sources
			}
			out = append(out, a)
		}
	}
	return out
}

// hasPlatform says whether the platform has a block on w.
func (w way) hasPlatform() bool {
	for _, p := range w.parts {
		for _, s := range p.stops {
			if s.layer.Kind == Platform {
				return true
			}
		}
	}
	return false
}

// platform returns the first block of the platform that keeps something away.
func (w way) platform() string {
	var first string
	for _, p := range w.parts {
		for _, s := range p.stops {
			if s.layer.Kind != Platform {
				continue
			}
			if !traffic.Subset(p.sources, s.in[may]) {
				return s.layer.Name
			}
			if first == "" {
				first = s.layer.Name
			}
		}
	}
	return first
}

// blocker returns the stage that lets nothing in, and the deny rules that took packets there. It is the first layer of a
// part that by itself admits no one; or else, of the first layer that leaves nothing of what those before it admit, and
// the first of those that admits nothing that it does, the earlier.
func (w way) blocker(platform bool) (stage string, denied []*Rule) {
	result := func(s stop) (string, []*Rule) {
		for _, c := range s.denies {
			denied = append(denied, c.rule)
		}
		return s.layer.Name, denied
	}
	for _, p := range w.parts {
		if !platform {
			p.stops = slices.DeleteFunc(slices.Clone(p.stops), func(s stop) bool { return s.layer.Kind == Platform })
		}
		for _, s := range p.stops {
			if traffic.IsEmptyIPs(s.in[may]) {
				return result(s)
			}
		}
		open := p.sources
		for i, s := range p.stops {
			rest := traffic.IntersectIPs(open, s.in[may])
			if !traffic.IsEmptyIPs(rest) {
				open = rest
				continue
			}
			for _, earlier := range p.stops[:i] {
				if traffic.IsEmptyIPs(traffic.IntersectIPs(earlier.in[may], s.in[may])) {
					return result(earlier)
				}
			}
			return result(s)
		}
	}
	return "", nil
}

// keptIn returns the stage that keeps in the replies to those whose requests get in.
func (w way) keptIn(m mode, platform bool) string {
	for _, p := range w.parts {
		to := p.flow(m, platform).in
		var replies *traffic.Set
		for _, s := range p.stops {
			if !s.layer.Stateless || s.layer.Kind == Platform && !platform {
				continue
			}
			replies = s.also(replies, may)
			if traffic.IsEmptyIPs(traffic.IntersectIPs(to, replies.Sources())) {
				return s.layer.ReplyName
			}
		}
	}
	return ""
}
