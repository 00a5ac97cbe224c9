package remedy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// Proof is what an edit does to every path that the list is on, over all protocols, ports and both families.
type Proof struct {
	Lost   traffic.Set `json:"lost"`   // what was admitted and is no more
	Loss   traffic.Set `json:"loss"`   // the part of Lost that should have stayed
	Trifle traffic.Set `json:"trifle"` // the part of Lost that should have stayed and that nobody misses, as Why says
	Why    string      `json:"why,omitempty"`
	Gained traffic.Set `json:"gained"` // what was not admitted and is, after any step
	Broken traffic.Set `json:"broken"` // what is lost after some step and comes back
	Left   traffic.Set `json:"left"`   // what is still admitted of what was asked for
	Words  []string    `json:"words"`
}

// Err returns why a way with this proof must not be taken, or nil. A loss is no such reason: it needs consent.
func (p *Proof) Err() error {
	var err error
	if !p.Gained.IsEmpty() {
		err = errors.Join(err, fmt.Errorf("it would open %s", p.Gained))
	}
	if !p.Broken.IsEmpty() {
		err = errors.Join(err, fmt.Errorf("it would interrupt %s", p.Broken))
	}
	if !p.Left.IsEmpty() {
		err = errors.Join(err, fmt.Errorf("it would leave open %s", p.Left))
	}
	return err
}

// words returns p in sentences.
func (p *Proof) words() []string {
	var out []string
	var services []string
	p.Lost.Each(func(_ *netipx.IPSet, from, to traffic.Service) bool {
		text := traffic.FormatService(from)
		if to != from {
			text += " to " + traffic.FormatService(to)
		}
		if len(services) == 0 || services[len(services)-1] != text {
			services = append(services, text)
		}
		return true
	})
	if p.Loss.IsEmpty() {
		out = append(out, "Closed: what the list admits from the internet to "+strings.Join(services, ", ")+", and nothing else.")
	} else {
		out = append(out, "LOSS: besides what was asked, these packets are no longer admitted: "+p.Loss.Words()+".")
	}
	if !p.Trifle.IsEmpty() {
		out = append(out, "Also closed, and missed by nobody: "+p.Why+".")
	}
	return append(out, "Opened: nothing, after any step. Left open of what was asked: nothing.")
}

// prove applies the edits of w to s one after the other and compares, after each, every path that they concern. What rules
// that stay admit of target on a path has to stay there; changes says which rules do not stay, and rules are those of them
// that w is about.
func prove(s *cloud.Snapshot, w providers.Way, target, keep traffic.Set, changes func(*cloud.List, *cloud.Rule) bool, rules []cloud.Rule) Proof {
	p := Proof{Why: w.Why}
	if len(w.Edits) == 0 {
		p.Left = target
		return p
	}
	list := w.Edits[0].List
	s = near(s, list, w.Edits[0].Guard)
	before := paths(s, s, list, w.Edits[0].Guard)
	others := make([]traffic.Set, len(before)) // what rules that stay admit of target
	for i := range before {
		_, others[i] = without(before[i].lists, changes).Admits(target)
	}
	now := s
	var ever traffic.Set
	for i, e := range w.Edits {
		now = now.With(e)
		var lost, wrong traffic.Set
		for n, after := range paths(s, now, list, e.Guard) {
			p.Gained = p.Gained.Union(after.certain.Subtract(before[n].certain)).Union(after.possible.Subtract(before[n].possible))
			less := before[n].certain.Subtract(after.certain).Union(before[n].possible.Subtract(after.possible))
			lost, wrong = lost.Union(less), wrong.Union(less.Intersect(keep.Union(others[n])))
		}
		ever = ever.Union(wrong)
		if i == len(w.Edits)-1 {
			p.Lost, p.Loss = lost, wrong.Subtract(w.Trifle)
			for n, after := range paths(s, now, list, e.Guard) {
				// Other rules that do not stay have their own proof; those that w is about are judged as they are now.
				_, rest := without(after.lists, func(l *cloud.List, r *cloud.Rule) bool {
					return changes(l, r) && !(l.Ref == list && among(rules, r))
				}).Admits(target)
				p.Left = p.Left.Union(rest.Subtract(others[n]))
			}
			p.Trifle, p.Broken = wrong.Intersect(w.Trifle), ever.Subtract(wrong)
		}
	}
	return p
}

// among says whether r is one of rules, as they are or as they have become.
func among(rules []cloud.Rule, r *cloud.Rule) bool {
	return slices.ContainsFunc(rules, func(m cloud.Rule) bool { return m.Ref == r.Ref || m.Is(r) })
}

// without returns lists as a layer without the rules that change.
func without(lists []*cloud.List, changes func(*cloud.List, *cloud.Rule) bool) *cloud.Layer {
	out := &cloud.Layer{Lists: make([]*cloud.List, len(lists))}
	for i, l := range lists {
		m := *l
		m.Rules = slices.DeleteFunc(slices.Clone(l.Rules), func(r cloud.Rule) bool { return changes(l, &r) })
		out.Lists[i] = &m
	}
	return out
}

// left returns what list, which is that of h as s shows it, still admits of what p is about to those whom the rules concern,
// besides what is spared.
func left(p *Plan, h *Hunk, s *cloud.Snapshot, list cloud.Ref) traffic.Set {
	places := paths(s, s, list, nil)
	elsewhere := func(l *cloud.List, r *cloud.Rule) bool { return p.asks(l, r) && !(l.Ref == list && among(h.Rules, r)) }
	has := func(place admission, is func(*cloud.Rule) bool) bool {
		return slices.ContainsFunc(place.lists, func(l *cloud.List) bool {
			return l.Ref == list && slices.ContainsFunc(l.Rules, func(r cloud.Rule) bool { return is(&r) })
		})
	}
	var out traffic.Set
	look := func(spare traffic.Set, is func(*cloud.Rule) bool) (found bool) {
		for _, place := range places {
			if has(place, is) {
				_, possible := without(place.lists, elsewhere).Admits(p.Target.Subtract(spare))
				out, found = out.Union(possible), true
			}
		}
		return found
	}
	if len(h.Rules) == 0 {
		look(h.Spare, func(*cloud.Rule) bool { return true })
	}
	for i := range h.Rules {
		was := &h.Rules[i]
		if !look(h.Spares[i], func(r *cloud.Rule) bool { return r.Ref == was.Ref }) { // others have taken its place
			look(h.Spares[i], func(r *cloud.Rule) bool { return r.Concerns == was.Concerns })
		}
	}
	return out
}

// admission is what one place admits of all packets.
type admission struct {
	certain, possible traffic.Set
	lists             []*cloud.List
}

// near returns s with no endpoints but those that list is in front of, or that guard is about: a proof is about these, and
// an account may have many others.
func near(s *cloud.Snapshot, list cloud.Ref, guard *cloud.Guard) *cloud.Snapshot {
	out := *s
	out.Endpoints, out.Lists = nil, nil
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if behind(e, list) || guard != nil && slices.Contains(guard.Endpoints, e.Ref) {
			out.Endpoints = append(out.Endpoints, *e)
		}
	}
	for _, l := range s.Lists {
		if l.Ref == list {
			out.Lists = append(out.Lists, l)
		}
	}
	return &out
}

// paths returns what every layer that the list is in admits in now, and what the list by itself does, for each whom rules of
// it concern: of a list whose rules are for different ones, only for those that no layer tells of. The places are those of
// the same snapshot before any change, so that equal positions are equal places.
func paths(was, now *cloud.Snapshot, list cloud.Ref, guard *cloud.Guard) []admission {
	var out []admission
	add := func(l cloud.Layer) {
		certain, possible := l.Admits(traffic.All())
		out = append(out, admission{certain: certain, possible: possible, lists: l.Lists})
	}
	seen := map[string]bool{}
	told := map[string]bool{} // by Concerns
	for i, e := range was.Endpoints {
		for h, hop := range e.Hops {
			for n, layer := range hop.Layers {
				concerned := false
				key := ""
				for _, l := range layer.Lists {
					concerned = concerned || l.Ref == list || guard != nil && l.Ref == guard.Was.Ref && slices.Contains(guard.Endpoints, e.Ref)
					key += fmt.Sprintf("%p ", l)
				}
				if guard != nil {
					key += e.Ref.String()
				}
				if !concerned || seen[key] {
					continue
				}
				seen[key] = true
				add(now.Endpoints[i].Hops[h].Layers[n])
				for _, l := range layer.Lists {
					for r := range l.Rules {
						told[l.Rules[r].Concerns] = told[l.Rules[r].Concerns] || l.Ref == list
					}
				}
			}
		}
	}
	for _, l := range was.Lists {
		if l.Ref != list {
			continue
		}
		several := slices.ContainsFunc(l.Rules, func(r cloud.Rule) bool { return r.Concerns != "" })
		for _, m := range now.Lists {
			if m.Ref != list {
				continue
			}
			whom := map[string]bool{}
			for i := range l.Rules {
				if c := l.Rules[i].Concerns; !whom[c] && !(several && told[c]) {
					whom[c] = true
					add(cloud.Layer{Lists: []*cloud.List{m.For(c)}})
				}
			}
		}
	}
	return out
}
