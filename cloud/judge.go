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
	ReplyAll bool          // Replies is all of the internet, or all that a balancer puts in its place
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
	for _, part := range j.way(e, services).parts {
		open := part.sources
		for _, at := range part.stops {
			if at.layer.Kind == Platform && q.NoPlatformBlock {
				continue
			}
			step := Step{
				Hop: at.hop, Layer: at.layer, Service: at.service,
				In: open, Out: traffic.IntersectIPs(open, at.in[must]), Maybe: traffic.IntersectIPs(open, at.in[may]),
			}
			step.Allowed = admissions(at.allows[may], at.service, step.Maybe)
			step.Denied = admissions(at.denies, at.service, open)
			if at.layer.Stateless {
				step.Replies = at.out[must].Sources()
				step.ReplyAll = traffic.Subset(part.sources, step.Replies)
			}
			steps = append(steps, step)
			// The path goes on with what may get through, so that the layers behind a doubt are explained too; and past a
			// block by the provider's network, for what is behind it is what the verdict tells apart.
			if at.layer.Kind != Platform || !traffic.IsEmptyIPs(step.Maybe) {
				open = step.Maybe
			}
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
	if l.Stateless {
		r.cause = firmer(r.cause, doubtful(l.Reply, replies))
	}
	for m := must; m < modes; m++ {
		if r.cause == nil && m > must { // without a doubt all readings are one
			r.in[m], r.out[m], r.allows[m] = r.in[must], r.out[must], r.allows[must]
			continue
		}
		o := m.walk(l.Lists, 0, asked)
		r.in[m] = o.admitted.From(svc)
		if r.cause != nil {
			o.sort(l.Lists)
		}
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
	var first *Rule
	for _, list := range lists {
		for i := range list.Rules {
			if r := &list.Rules[i]; !r.Maybe.IsEmpty() && !r.Maybe.Intersect(asked).IsEmpty() {
				first = firmer(first, r)
			}
		}
	}
	return first
}

// firmer returns the first of two rules that leave something in doubt, but a dynamic one only after any other: it alone
// never makes a verdict unknown.
func firmer(a, b *Rule) *Rule {
	if a == nil || b != nil && a.Doubt == Dynamic && b.Doubt != Dynamic {
		return b
	}
	return a
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

// answer judges e for svc.
func (j *judge) answer(e *Endpoint, svc traffic.Service) (Answer, bool) {
	services, ok := path(e, svc)
	if !ok || len(e.Hops) == 0 {
		return Answer{}, false
	}
	a := Answer{Endpoint: e, Service: svc, Front: services[0], Coverage: None, Sources: traffic.IPs()}
	w := j.way(e, services)
	platform := !j.question.NoPlatformBlock
	cause := w.doubt(platform)
	flows := func(platform bool) (out [modes]flow) {
		out[must] = w.flow(must, platform)
		for m := must + 1; m < modes; m++ {
			if out[m] = out[must]; cause != nil { // without a doubt all readings are one
				out[m] = w.flow(m, platform)
			}
		}
		return out
	}
	has := func(s *netipx.IPSet) bool { return !traffic.IsEmptyIPs(s) }
	// set says that x is the verdict on sources, in the reading m of f.
	set := func(x Exposure, m mode, f flow, sources *netipx.IPSet) {
		a.Exposure, a.Sources = x, sources
		a.Coverage, a.Share = Cover(sources, e.Family)
		if m == some {
			a.Coverage, a.Share = Opaque, 0
		}
		a.AdmittedBy = w.admitting(m, f, sources)
	}
	// unknown says that the verdict is not known, and counts what is known.
	unknown := func(f [modes]flow, cause *Rule) {
		set(Unknown, may, f[may], f[may].in)
		a.Sources = f[known].in
		a.Coverage, a.Share = Cover(a.Sources, e.Family)
		a.Stage, a.Hint = cause.Cause, cause.Hint
	}

	f := flows(platform)
	for _, m := range []mode{must, some} {
		if has(f[m].both) {
			set(Reachable, m, f[m], f[m].both)
			return a, true
		}
	}
	if platform && !has(f[may].both) && w.hasPlatform() {
		// Nothing gets through; would it, but for the provider's own block?
		open := flows(false)
		for _, m := range []mode{must, some} {
			if has(open[m].both) {
				set(ProviderOnly, m, open[m], open[m].both)
				a.Stage = w.platform()
				return a, true
			}
		}
		if !has(f[may].in) {
			for _, m := range []mode{must, some} {
				if has(open[m].in) {
					set(ProviderOnly, m, open[m], open[m].in)
					a.Stage = w.platform()
					return a, true
				}
			}
			if has(open[may].in) {
				unknown(open, w.doubt(false))
				return a, true
			}
		}
	}
	if !has(f[may].both) {
		for _, m := range []mode{must, some} {
			if has(f[m].in) {
				set(OneWay, m, f[m], f[m].in)
				a.Stage = w.keptIn(m, platform)
				return a, true
			}
		}
	}
	if has(f[may].in) {
		unknown(f, cause)
		return a, true
	}
	a.Exposure = Blocked
	a.Stage, a.Denied = w.blocker(platform)
	return a, true
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
