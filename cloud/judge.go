package cloud

import (
	"fmt"
	"strings"

	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/traffic"
)

// Exposure is the answer for one endpoint and service.
type Exposure string

// The exposures. Reachable outranks Unknown, that OneWay and ProviderOnly, and those Blocked.
const (
	Reachable    Exposure = "reachable"     // a request comes in and a reply gets out
	Unknown      Exposure = "unknown"       // something that could not be read, or is decided elsewhere, may admit
	OneWay       Exposure = "oneway"        // requests come in and no reply gets out
	ProviderOnly Exposure = "provider_only" // only the provider's own network keeps the internet away
	Blocked      Exposure = "blocked"       // nothing comes in
)

// Question is what is asked of every endpoint: TCP and UDP to each of Ports.
type Question struct {
	Ports []uint16
	// NoPlatformBlock leaves the blocks of the providers' own networks out of account.
	NoPlatformBlock bool
}

// Services returns the services that q asks about, in order.
func (q Question) Services() []traffic.Service {
	var out []traffic.Service
	for _, p := range []traffic.Proto{traffic.TCP, traffic.UDP} {
		for _, n := range q.Ports {
			out = append(out, p.Port(n))
		}
	}
	return out
}

// Target returns the packets that q asks about: the internet to its services.
func (q Question) Target() traffic.Set {
	var out traffic.Set
	for _, svc := range q.Services() {
		out = out.Union(traffic.Of(traffic.Internet(), svc, svc))
	}
	return out
}

// Admission is a rule that admits packets of an Answer.
type Admission struct {
	List *List
	Rule *Rule
	// Sources are the internet hosts that the rule admits to this endpoint. Where a balancer in front replaces the source,
	// they are all that come through it.
	Sources *netipx.IPSet
	Alone   bool // the rule by itself admits all that the answer's rules admit together
}

// Answer is the verdict for one endpoint and one service.
type Answer struct {
	Endpoint *Endpoint
	Service  traffic.Service // as memcached would see it
	Front    traffic.Service // as the client sends it
	Exposure Exposure
	Coverage Coverage
	Share    float64       // of the family's globally routable addresses, 0 to 1
	Sources  *netipx.IPSet // the internet hosts that Coverage counts; empty if blocked
	// AdmittedBy holds every firewall rule of the last hop that admits, in the order of the lists.
	AdmittedBy []Admission
	// Stage names what decides: for blocked the first layer that lets nothing through, for oneway the one that keeps
	// replies in, for unknown what is in doubt, for provider_only the platform's block.
	Stage string
	// Denied holds, for blocked, the deny rules that took packets at that stage.
	Denied []*Rule
	Hint   string // for unknown: what to grant or to look at
}

// Judge evaluates q for every endpoint of s, in the order of the endpoints and then of q.Services. Answers for services
// that a balancer does not forward to the endpoint are left out.
func (q Question) Judge(s *Snapshot) []Answer {
	j := judge{question: q, layers: map[layerKey]*layerResult{}}
	var out []Answer
	for i := range s.Endpoints {
		for _, svc := range q.Services() {
			if a, ok := j.answer(&s.Endpoints[i], svc); ok {
				out = append(out, a)
			}
		}
	}
	return out
}

// Step is one layer on the path to an endpoint, for an explanation.
type Step struct {
	Hop     *Hop
	Layer   *Layer
	Service traffic.Service // as the packet is addressed at this hop
	// In and Out are the sources before and after the layer: internet hosts, or what a balancer put in their place.
	In, Out  *netipx.IPSet
	Maybe    *netipx.IPSet // what may get through beyond Out
	Allowed  []Admission   // the rules that admit
	Denied   []Admission   // the rules that drop
	Replies  *netipx.IPSet // stateless layers: where replies may go; nil for the others
	ReplyAll bool          // Replies is all of the internet, or all that came in
}

// Trace returns the path of a packet to e for one service, layer by layer, with the answer that comes out of it. It is
// false if no packet to e is forwarded to svc.
func (q Question) Trace(e *Endpoint, svc traffic.Service) (Answer, []Step, bool) {
	j := judge{question: q, layers: map[layerKey]*layerResult{}}
	a, ok := j.answer(e, svc)
	if !ok {
		return a, nil, false
	}
	var steps []Step
	services, _ := path(e, svc)
	universe := e.Family.Internet()
	open := universe
	for h := range e.Hops {
		hop := &e.Hops[h]
		for l := range hop.Layers {
			layer := &hop.Layers[l]
			if layer.Kind == Platform && q.NoPlatformBlock {
				continue
			}
			r := j.layer(layer, services[h], universe)
			out := traffic.IntersectIPs(open, r.in[must])
			step := Step{Hop: hop, Layer: layer, Service: services[h], In: open, Out: out}
			step.Maybe = traffic.IntersectIPs(open, r.in[may])
			step.Allowed = admissions(r.allows[may], services[h], step.Maybe)
			step.Denied = admissions(r.denies, services[h], open)
			if layer.Stateless {
				step.Replies = r.out[must].Sources()
				step.ReplyAll = traffic.Subset(universe, step.Replies)
			}
			steps = append(steps, step)
			// Only what may get through is worth following: the path goes on with it so that the layers behind a doubt
			// are explained too.
			open = step.Maybe
		}
		if hop.Source != nil {
			universe = traffic.IPs(hop.Source...)
			open = universe
		}
	}
	return a, steps, true
}

// path returns the service at each hop of e for a packet that arrives for svc, or false if there is none.
func path(e *Endpoint, svc traffic.Service) ([]traffic.Service, bool) {
	services := make([]traffic.Service, len(e.Hops))
	for h := len(e.Hops) - 1; h >= 0; h-- {
		if forward := e.Hops[h].Forward; forward != nil {
			found := false
			for _, f := range forward {
				if f.Target == svc {
					svc, found = f.Front, true
					break
				}
			}
			if !found {
				return nil, false
			}
		}
		services[h] = svc
	}
	return services, true
}

// judge evaluates layers, each distinct one once.
type judge struct {
	question Question
	layers   map[layerKey]*layerResult
}

type layerKey struct {
	lists    string // the addresses of the layer's lists
	svc      traffic.Service
	universe string
}

// layerResult is what one layer makes of one service from one universe of sources.
type layerResult struct {
	in     [modes]*netipx.IPSet // sources that are admitted
	out    [modes]traffic.Set   // replies that may leave: destinations by protocol and client port
	allows [modes][]credit
	denies []credit // in the optimistic reading: what is taken for certain
	cause  *Rule    // the first rule that leaves something in doubt
}

// layer returns the result of l for packets from universe to svc.
func (j *judge) layer(l *Layer, svc traffic.Service, universe *netipx.IPSet) *layerResult {
	key := layerKey{addresses(l), svc, ""}
	if universe != traffic.V4.Internet() && universe != traffic.V6.Internet() {
		key.universe = traffic.FormatIPs(universe)
	} else if universe == traffic.V6.Internet() {
		key.universe = "6"
	}
	if r, ok := j.layers[key]; ok {
		return r
	}
	r := &layerResult{}
	asked := traffic.Of(universe, svc, svc)
	from, to := svc.Proto().Ports(1, 1<<16-1)
	replies := traffic.Of(universe, from, to) // the client picks its port: any will do
	r.cause = doubtful(l.Lists, asked)
	if r.cause == nil && l.Stateless {
		r.cause = doubtful(l.Reply, replies)
	}
	for m := must; m < modes; m++ {
		if r.cause == nil && m > must { // without a doubt all readings are one
			r.in[m], r.out[m], r.allows[m] = r.in[must], r.out[must], r.allows[must]
			continue
		}
		o := m.walk(l.Lists, 0, asked)
		r.in[m] = o.admitted.From(svc)
		r.allows[m], r.denies = o.allows, o.denies
		r.out[m] = replies
		if l.Stateless {
			r.out[m] = m.walk(l.Reply, 0, replies).admitted
		}
	}
	j.layers[key] = r
	return r
}

// doubtful returns the first rule of lists that leaves packets of asked in doubt, dynamic ones last.
func doubtful(lists []*List, asked traffic.Set) *Rule {
	var dynamic *Rule
	for _, list := range lists {
		for i := range list.Rules {
			r := &list.Rules[i]
			switch {
			case r.Maybe.IsEmpty() || r.Maybe.Intersect(asked).IsEmpty():
			case r.Doubt != Dynamic:
				return r
			case dynamic == nil:
				dynamic = r
			}
		}
	}
	return dynamic
}

// addresses identifies the lists of l. Equal addresses are equal lists, as long as the snapshot lives.
func addresses(l *Layer) string {
	var b strings.Builder
	for _, list := range l.Lists {
		fmt.Fprintf(&b, "%p ", list)
	}
	if l.Stateless {
		b.WriteByte('|')
		for _, list := range l.Reply {
			fmt.Fprintf(&b, "%p ", list)
		}
	}
	return b.String()
}

// flow is what gets through all hops under one mode.
type flow struct {
	in   *netipx.IPSet // internet hosts whose request is delivered
	both *netipx.IPSet // of those, the ones to whom a reply can go
	last *netipx.IPSet // the sources that the last hop admits, as it sees them
}

// flow joins the results of the layers of e.
//
// A hop that replaces the source splits the path: what the internet gets through is what enters that hop, if the rest of
// the path admits what the hop puts in its place, and replies come back if they do on both parts.
func (j *judge) flow(e *Endpoint, services []traffic.Service, m mode, platform bool) flow {
	universe := e.Family.Internet()
	in := universe
	var replies *traffic.Set
	var front *flow

	pass := func() flow {
		f := flow{in: in, both: in, last: in}
		if replies != nil {
			f.both = traffic.IntersectIPs(in, replies.Sources())
		}
		return f
	}
	for h := range e.Hops {
		for l := range e.Hops[h].Layers {
			layer := &e.Hops[h].Layers[l]
			if layer.Kind == Platform && !platform {
				continue
			}
			r := j.layer(layer, services[h], universe)
			in = traffic.IntersectIPs(in, r.in[m])
			if layer.Stateless {
				out := r.out[m] // by client port: one and the same has to get out of every layer
				if replies != nil {
					out = out.Intersect(*replies)
				}
				replies = &out
			}
		}
		if source := e.Hops[h].Source; source != nil {
			f := pass()
			front = front.through(f)
			universe = traffic.IPs(source...)
			in, replies = universe, nil
		}
	}
	return *front.through(pass())
}

// through returns what the internet gets through when f, where the sources are replaced ones, follows front.
func (front *flow) through(f flow) *flow {
	if front == nil {
		return &f
	}
	out := flow{in: traffic.IPs(), both: traffic.IPs(), last: f.last}
	if !traffic.IsEmptyIPs(f.in) {
		out.in = front.in
	}
	if !traffic.IsEmptyIPs(f.both) {
		out.both = front.both
	}
	return &out
}

// answer judges e for svc.
func (j *judge) answer(e *Endpoint, svc traffic.Service) (Answer, bool) {
	services, ok := path(e, svc)
	if !ok || len(e.Hops) == 0 {
		return Answer{}, false
	}
	a := Answer{Endpoint: e, Service: svc, Front: services[0], Coverage: None, Sources: traffic.IPs()}
	platform := !j.question.NoPlatformBlock
	var flows [modes]flow
	flows[must] = j.flow(e, services, must, platform)
	for m := must + 1; m < modes; m++ {
		if flows[m] = flows[must]; j.doubted(e, services) {
			flows[m] = j.flow(e, services, m, platform)
		}
	}
	has := func(s *netipx.IPSet) bool { return !traffic.IsEmptyIPs(s) }

	if has(flows[must].both) {
		a.set(Reachable, flows[must].both)
		a.AdmittedBy = j.admitting(e, services, must, flows[must], flows[must].both)
		return a, true
	}
	if has(flows[some].both) {
		a.set(Reachable, flows[some].both)
		a.Coverage, a.Share = Opaque, 0
		a.AdmittedBy = j.admitting(e, services, some, flows[some], flows[some].both)
		return a, true
	}
	if !has(flows[may].both) && platform {
		// Nothing gets through; would it, but for the provider's own block?
		for _, m := range []mode{must, some} {
			if open := j.flow(e, services, m, false); has(open.both) {
				a.set(ProviderOnly, open.both)
				if m == some {
					a.Coverage, a.Share = Opaque, 0
				}
				a.AdmittedBy = j.admitting(e, services, m, open, open.both)
				a.Stage, _ = j.blocker(e, services)
				return a, true
			}
		}
		if open := j.flow(e, services, may, false); has(open.in) && !has(flows[may].in) {
			a.set(Unknown, j.flow(e, services, known, false).in)
			a.AdmittedBy = j.admitting(e, services, may, open, open.in)
			a.Stage, a.Hint = j.doubt(e, services)
			return a, true
		}
	}
	if !has(flows[may].both) {
		for _, m := range []mode{must, some} {
			if has(flows[m].in) {
				a.set(OneWay, flows[m].in)
				if m == some {
					a.Coverage, a.Share = Opaque, 0
				}
				a.AdmittedBy = j.admitting(e, services, m, flows[m], flows[m].in)
				a.Stage = j.keptIn(e, services, flows[m].in)
				return a, true
			}
		}
	}
	if has(flows[may].in) {
		a.set(Unknown, flows[known].in)
		a.AdmittedBy = j.admitting(e, services, may, flows[may], flows[may].in)
		a.Stage, a.Hint = j.doubt(e, services)
		return a, true
	}
	a.Exposure = Blocked
	a.Stage, a.Denied = j.blocker(e, services)
	return a, true
}

// doubted says whether any layer of e leaves something in doubt; without one, all modes are the same.
func (j *judge) doubted(e *Endpoint, services []traffic.Service) bool {
	return j.firstDoubt(e, services) != nil
}

// set fills in what follows from the sources that the verdict counts.
func (a *Answer) set(x Exposure, sources *netipx.IPSet) {
	a.Exposure, a.Sources = x, sources
	a.Coverage, a.Share = Cover(sources, a.Endpoint.Family)
}

// admitting returns the rules of the last hop's firewall layers that admit packets of f.
func (j *judge) admitting(e *Endpoint, services []traffic.Service, m mode, f flow, sources *netipx.IPSet) []Admission {
	h := len(e.Hops) - 1
	universe, replaced := lastUniverse(e)
	through := f.last
	if !replaced {
		through = sources
	}
	var out []Admission
	for l := range e.Hops[h].Layers {
		layer := &e.Hops[h].Layers[l]
		if layer.Kind != Firewall {
			continue
		}
		r := j.layer(layer, services[h], universe)
		for _, a := range admissions(r.allows[m], services[h], through) {
			a.Alone = traffic.Subset(through, a.Sources)
			if replaced {
				a.Sources = sources
			}
			out = append(out, a)
		}
	}
	return out
}

// lastUniverse returns the sources that the last hop of e may see, and whether they stand in for internet hosts.
func lastUniverse(e *Endpoint) (*netipx.IPSet, bool) {
	for h := len(e.Hops) - 2; h >= 0; h-- {
		if source := e.Hops[h].Source; source != nil {
			return traffic.IPs(source...), true
		}
	}
	return e.Family.Internet(), false
}

// admissions returns the rules of credits with the sources of through that each is credited with for svc, one entry a
// rule, in order.
func admissions(credits []credit, svc traffic.Service, through *netipx.IPSet) []Admission {
	var out []Admission
	at := map[*Rule]int{}
	for _, c := range credits {
		sources := traffic.IntersectIPs(c.set.From(svc), through)
		if traffic.IsEmptyIPs(sources) {
			continue
		}
		if i, ok := at[c.rule]; ok {
			out[i].Sources = traffic.UnionIPs(out[i].Sources, sources)
			continue
		}
		at[c.rule] = len(out)
		out = append(out, Admission{List: c.list, Rule: c.rule, Sources: sources})
	}
	return out
}

// blocker returns the stage that lets nothing in: the first layer that by itself admits no one, or else the first of those
// that together do. Denied are the deny rules that took packets there.
func (j *judge) blocker(e *Endpoint, services []traffic.Service) (stage string, denied []*Rule) {
	type stop struct {
		layer *Layer
		r     *layerResult
	}
	var segment []stop // the layers that see the same sources
	result := func(s stop) (string, []*Rule) {
		for _, c := range s.r.denies {
			denied = append(denied, c.rule)
		}
		return s.layer.Name, denied
	}
	universe := e.Family.Internet()
	for h := range e.Hops {
		for l := range e.Hops[h].Layers {
			layer := &e.Hops[h].Layers[l]
			if layer.Kind == Platform && j.question.NoPlatformBlock {
				continue
			}
			s := stop{layer, j.layer(layer, services[h], universe)}
			if traffic.IsEmptyIPs(s.r.in[may]) {
				return result(s)
			}
			segment = append(segment, s)
		}
		if source := e.Hops[h].Source; source != nil || h == len(e.Hops)-1 {
			open := universe
			for i, s := range segment {
				rest := traffic.IntersectIPs(open, s.r.in[may])
				if !traffic.IsEmptyIPs(rest) {
					open = rest
					continue
				}
				for _, earlier := range segment[:i] {
					if traffic.IsEmptyIPs(traffic.IntersectIPs(earlier.r.in[may], s.r.in[may])) {
						return result(earlier)
					}
				}
				return result(s)
			}
			segment = nil
			universe = traffic.IPs(source...)
		}
	}
	return "", nil
}

// keptIn returns the stage that keeps replies to sources in.
func (j *judge) keptIn(e *Endpoint, services []traffic.Service, sources *netipx.IPSet) string {
	universe := e.Family.Internet()
	to := sources
	var last string
	var replies *traffic.Set
	for h := range e.Hops {
		for l := range e.Hops[h].Layers {
			layer := &e.Hops[h].Layers[l]
			if !layer.Stateless {
				continue
			}
			last = layer.ReplyName
			out := j.layer(layer, services[h], universe).out[may]
			if replies != nil {
				out = out.Intersect(*replies)
			}
			replies = &out
			if traffic.IsEmptyIPs(traffic.IntersectIPs(to, out.Sources())) {
				return last
			}
		}
		if source := e.Hops[h].Source; source != nil {
			universe = traffic.IPs(source...)
			to, replies = universe, nil
		}
	}
	return last
}

// doubt returns what the first rule that leaves something in doubt says of it.
func (j *judge) doubt(e *Endpoint, services []traffic.Service) (stage, hint string) {
	if r := j.firstDoubt(e, services); r != nil {
		return r.Cause, r.Hint
	}
	return "", ""
}

// firstDoubt returns the first rule on the way to e that leaves something in doubt, dynamic ones last: they alone never
// make a verdict unknown.
func (j *judge) firstDoubt(e *Endpoint, services []traffic.Service) *Rule {
	universe := e.Family.Internet()
	var dynamic *Rule
	for h := range e.Hops {
		for l := range e.Hops[h].Layers {
			r := j.layer(&e.Hops[h].Layers[l], services[h], universe).cause
			switch {
			case r == nil:
			case r.Doubt != Dynamic:
				return r
			case dynamic == nil:
				dynamic = r
			}
		}
		if source := e.Hops[h].Source; source != nil {
			universe = traffic.IPs(source...)
		}
	}
	return dynamic
}
