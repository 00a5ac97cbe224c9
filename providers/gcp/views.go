package gcp

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// enforcement is the order in which a network asks its VPC rules and its network policies.
type enforcement uint8

const (
	afterClassic  enforcement = iota // AFTER_CLASSIC_FIREWALL, the default: VPC rules first
	beforeClassic                    // BEFORE_CLASSIC_FIREWALL: network policies first
	unknownOrder                     // could not be read
)

// view is what filters the packets to the interfaces of a network in a region, or to one interface: lists in the order in
// which Google asks them.
type view struct {
	lists []*list
	// narrowed: Google left out the rules whose target service accounts and secure tags are not the interface's.
	narrowed bool
}

// newView puts the lists of a network in order: organization and folders, then Google's own, then VPC rules and network
// policies as the network wants it, global ones before those of the region
// (https://cloud.google.com/firewall/docs/firewall-policies-rule-eval-order). Ties holds the names of the associations of
// those that their priority does not put in order.
func newView(lists []*list, order enforcement, ties map[*list]string) *view {
	names := map[*list]string{}
	for _, l := range lists {
		if names[l] = l.ref.ID; ties[l] != "" {
			names[l] = ties[l]
		}
	}
	if order == unknownOrder && orderMatters(lists) {
		for i, l := range lists {
			if l.kind >= classic {
				lists[i] = l.inDoubt()
				names[lists[i]] = names[l]
			}
		}
	}
	rank := func(l *list) int {
		if l.kind == classic && order == beforeClassic {
			return int(regionalPolicy) + 1
		}
		return int(l.kind)
	}
	slices.SortStableFunc(lists, func(a, b *list) int {
		if c := cmp.Compare(rank(a), rank(b)); c != 0 {
			return c
		}
		if a.kind == hierarchical {
			return 0 // the order of the answer is that of evaluation
		}
		return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(names[a], names[b]))
	})
	return &view{lists: lists}
}

// orderMatters says whether it matters which of VPC rules and network policies come first: not if one of them decides nothing.
func orderMatters(lists []*list) bool {
	var vpc, policies bool
	for _, l := range lists {
		for i := range l.rules {
			if r := &l.rules[i]; r.Verdict != cloud.Pass {
				vpc = vpc || l.kind == classic
				policies = policies || l.kind > classic
			}
		}
	}
	return vpc && policies
}

// inDoubt returns l with every rule in doubt.
func (l *list) inDoubt() *list {
	out := *l
	out.rules = slices.Clone(l.rules)
	for i := range out.rules {
		out.rules[i].targets.doubt = true
	}
	out.finish()
	return &out
}

// unreadList stands where lists could not be read: anything may be allowed there, and anything denied.
func unreadList(scope cloud.Scope, kind listKind, what, hint string) *list {
	r := rule{handedOver: true, Rule: cloud.Rule{
		Ref: scope.Ref("unread", what), Verdict: cloud.Allow, Maybe: traffic.All(), Doubt: cloud.Unread, Cause: undecided,
		Hint: hint, Implied: true, Text: what + " could not be read",
	}}
	l := &list{ref: r.Ref, name: what, kind: kind, rules: []rule{r}}
	l.finish()
	return l
}

// unread says whether l stands for what could not be read.
func (l *list) unread() bool { return l.ref.Kind == "unread" }

// subject is an interface as the rules see it, at one of its addresses.
type subject struct {
	vm      *instance
	network string
	// destinations the packets may bear when the firewall sees them: first what is documented or most likely.
	destinations []netip.Addr
	proxied      bool
	carries      *traffic.Set // what arrives at all; nil: anything
	bound        *boundTags   // which rules for secure tags are the instance's; nil: not known
}

// boundTags are the rules with target secure tags that concern one interface, as Google says.
type boundTags struct {
	known bool
	rules map[ruleKey]bool
}

// ruleKey names a policy rule across the different effective-firewall calls.
type ruleKey struct {
	kind     listKind
	policy   string
	priority string
}

func keyOf(l *list, r *rule) ruleKey {
	_, priority, _ := strings.Cut(r.Ref.ID, "/")
	return ruleKey{l.kind, l.ref.ID, priority}
}

// concern says whether a rule concerns a subject.
type concern byte

const (
	no       concern = '0'
	yes      concern = '1'
	perhaps  concern = '2'
	somewhat concern = '3' // yes, and its network context is in doubt
)

// concerns decides whether r of l concerns s.
func (s *subject) concerns(v *view, l *list, r *rule) concern {
	t := &r.targets
	result := yes
	doubt := func() { result = perhaps }
	if s.carries != nil && r.Match.Union(r.Maybe).Union(r.anyhow).Intersect(*s.carries).IsEmpty() {
		return no
	}
	if len(t.tags) > 0 && !meet(t.tags, s.vm.tags) {
		return no
	}
	if len(t.accounts) > 0 && (l.kind == classic || !v.narrowed) && !meet(t.accounts, s.vm.accounts) {
		return no
	}
	if len(t.networks) > 0 && !slices.Contains(t.networks, s.network) {
		if !slices.ContainsFunc(t.networks, func(n string) bool { return byNumber(n, s.network) }) {
			return no
		}
		doubt()
	}
	if len(t.secure) > 0 && !v.narrowed {
		switch {
		case s.bound == nil || !s.bound.known:
			doubt()
		case !s.bound.rules[keyOf(l, r)]:
			return no
		}
	}
	if t.doubt {
		doubt()
	}
	if r.destination != nil {
		inside := 0
		for _, d := range s.destinations {
			if d.IsValid() && r.destination.Contains(d) {
				inside++
			}
		}
		switch {
		case inside == len(s.destinations):
		case len(s.destinations) > 0 && r.destination.Contains(s.destinations[0]):
		case inside > 0 || r.destDoubt:
			// Which address the firewall sees is not documented for every way in.
			doubt()
		default:
			return no
		}
	}
	if result == yes && r.context && s.proxied {
		return somewhat
	}
	return result
}

func meet(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool { return slices.Contains(b, x) })
}

// sameNetwork says whether the path a is that of the network b, with its project by ID or by number.
func sameNetwork(a, b string) bool { return a == b || byNumber(a, b) }

// byNumber says whether the path a, whose project is a number, may be the path b, whose project is a name.
func byNumber(a, b string) bool {
	id := projectOf(a)
	return id != "" && strings.Trim(id, "0123456789") == "" && baseName(a) == baseName(b)
}

// filters returns the lists that filter the packets of s: of every list the rules that concern it. Equal selections give
// the same list, so that the evaluation meets each only once.
func (r *reader) filters(v *view, s *subject) []*cloud.List {
	var out []*cloud.List
	for _, l := range v.lists {
		choice := make([]byte, len(l.rules))
		all := true
		for i := range l.rules {
			c := s.concerns(v, l, &l.rules[i])
			choice[i] = byte(c)
			all = all && c == yes && !l.rules[i].handedOver
		}
		if all {
			out = append(out, l.full)
			continue
		}
		key := selection{l, string(choice)}
		picked, ok := r.picked[key]
		if !ok {
			picked = l.pick(choice)
			r.picked[key] = picked
		}
		out = append(out, picked)
	}
	return out
}

// selection is a choice of rules of a list.
type selection struct {
	list   *list
	choice string
}

// pick returns the rules of l that choice says.
func (l *list) pick(choice []byte) *cloud.List {
	out := &cloud.List{Ref: l.ref, Name: l.name}
	for i := range l.rules {
		r := &l.rules[i]
		switch concern(choice[i]) {
		case no:
		case yes:
			out.Rules = append(out.Rules, r.decisions(r.Rule)...)
		case perhaps:
			out.Rules = append(out.Rules, r.decisions(doubted(r.Rule, r.Match.Union(r.Maybe),
				"it is not known whether rule "+r.Ref.ID+" concerns the instance"))...)
		case somewhat:
			out.Rules = append(out.Rules, r.decisions(doubted(r.Rule, r.anyhow,
				"it is not documented whether Google's proxies match the network context of rule "+r.Ref.ID))...)
		}
	}
	return out
}

// decisions returns what stands for r in a list. A rule that ends the evaluation with an outcome that nobody here knows is
// two: it may drop its packets, so that no later rule admits them for certain, and it may admit them.
func (r *rule) decisions(as cloud.Rule) []cloud.Rule {
	if !r.handedOver {
		return []cloud.Rule{as}
	}
	drop := as
	drop.Verdict = cloud.Deny
	return []cloud.Rule{drop, as}
}

// doubted returns r as a rule of which it is not known whether it matches any of set.
func doubted(r cloud.Rule, set traffic.Set, hint string) cloud.Rule {
	r.Match, r.Maybe, r.Doubt = traffic.Set{}, set, cloud.Unread
	if r.Cause == "" {
		r.Cause = undecided
	}
	if r.Hint == "" {
		r.Hint = hint
	}
	return r
}
