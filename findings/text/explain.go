package text

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/outline"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// Explained is an answer with the path that led to it, as cloud.Question.Trace returns them.
type Explained struct {
	Answer cloud.Answer
	Steps  []cloud.Step
}

// mostRules is how many rules of one list are shown beside those that decide.
const mostRules = 12

// Explain writes the path of a packet for each of answers: every hop, layer and rule that has something to say about it,
// and which of them decides.
func Explain(w io.Writer, answers []Explained, opts Options) error {
	p := &printer{color: opts.Color, width: opts.Width}
	for i := range answers {
		if i > 0 {
			p.blank()
		}
		p.explain(&answers[i])
	}
	_, err := w.Write(p.out.Bytes())
	return err
}

func (p *printer) explain(x *Explained) {
	a := &x.Answer
	e := a.Endpoint
	p.line(0, part{e.Address() + "  " + traffic.FormatService(a.Front), bold}, part{"  " + string(a.Exposure), verdictStyle(a.Exposure)}, part{amount(a), plain})
	p.line(0, part{outline.Resource(findings.Resource{Type: e.Ref.Kind, ID: e.Ref.ID, Name: e.Name, Instance: e.Instance}) +
		", " + strings.ReplaceAll(e.Ref.Kind, "-", " ") + " in " + e.Ref.Provider + " " + e.Ref.Scope, dim})
	p.line(0, part{"│", dim})
	p.line(0, part{"○ ", dim}, part{fmt.Sprintf("the IPv%d internet sends to %s, %s", e.Family, e.Address(), traffic.FormatService(a.Front)), plain})

	decided := decider(a, x.Steps)
	for i := range x.Steps {
		s := &x.Steps[i]
		if i == 0 || x.Steps[i-1].Hop != s.Hop {
			if i > 0 {
				p.leave(x.Steps[i-1].Hop, x.Steps[i-1].Service, s.Service)
			}
			p.hop(e, s)
		}
		p.step(a, s, i == decided)
		if traffic.IsEmptyIPs(s.Maybe) && i < len(x.Steps)-1 {
			p.line(0, part{"│", dim})
			p.line(0, part{"┊ ", dim}, part{"not asked any more: " + strings.Join(stages(x.Steps[i+1:]), ", "), dim})
			p.butFor(a)
			break
		}
	}
	p.line(0, part{"│", dim})
	p.line(0, part{"● ", verdictStyle(a.Exposure)}, part{string(a.Exposure), verdictStyle(a.Exposure)}, part{": ", plain}, part{findings.Reason(*a), bold})
	if a.Hint != "" {
		p.paragraph(2, "→ ", a.Hint, magenta)
	}
	if len(e.Assumes) > 0 {
		p.paragraph(2, "", "Assumed, because it could not be read: "+strings.Join(e.Assumes, ", ")+".", dim)
	}
}

// butFor writes the rules that would let the packet in if the provider did not block it.
func (p *printer) butFor(a *cloud.Answer) {
	if a.Exposure != cloud.ProviderOnly {
		return
	}
	p.line(0, part{"┊ ", dim}, part{"but for that block it would be admitted by", yellow})
	var rows table
	for _, by := range a.AdmittedBy {
		list := "of " + by.List.Name
		switch {
		case by.Rule.Implied:
			list = ""
		case by.List.Name == "":
			list += by.List.Ref.ID
		}
		rows = append(rows, []part{{"┊    ", dim}, {by.Rule.Verdict.String(), yellow}, {by.Rule.Ref.ID, bold}, {by.Rule.Text, plain}, {list, dim}})
	}
	p.table(0, rows)
}

func amount(a *cloud.Answer) string {
	if a.Exposure == cloud.Blocked {
		return ""
	}
	return "  " + outline.Amount(a.Coverage, a.Share)
}

func stages(steps []cloud.Step) []string {
	var names []string
	for _, s := range steps {
		if !slices.Contains(names, s.Layer.Name) {
			names = append(names, s.Layer.Name)
		}
	}
	return names
}

// decider returns the step that makes the verdict what it is.
func decider(a *cloud.Answer, steps []cloud.Step) int {
	last := -1
	for i := range steps {
		s := &steps[i]
		switch a.Exposure {
		case cloud.Reachable: // the last firewall is the one whose rules are to blame
			if s.Layer.Kind == cloud.Firewall {
				last = i
			}
		case cloud.OneWay:
			if s.Layer.Stateless && s.Layer.ReplyName == a.Stage {
				last = i
			}
		case cloud.Unknown:
			if last < 0 && slices.ContainsFunc(s.Layer.Lists, func(l *cloud.List) bool {
				return slices.ContainsFunc(l.Rules, func(r cloud.Rule) bool { return r.Cause == a.Stage && !r.Maybe.IsEmpty() })
			}) {
				last = i
			}
		case cloud.Blocked, cloud.ProviderOnly:
			if last < 0 && s.Layer.Name == a.Stage && (traffic.IsEmptyIPs(s.Maybe) || a.Exposure == cloud.ProviderOnly) {
				last = i
			}
		}
	}
	if last < 0 { // layers that stop everything only together
		last = slices.IndexFunc(steps, func(s cloud.Step) bool { return s.Layer.Name == a.Stage })
	}
	return last
}

func (p *printer) hop(e *cloud.Endpoint, s *cloud.Step) {
	name := s.Hop.Name
	if name == "" {
		name = strings.ReplaceAll(s.Hop.Ref.Kind, "-", " ") + " " + s.Hop.Ref.ID
		if s.Hop.Ref == e.Ref && e.Name != "" {
			name += " (" + e.Name + ")"
		}
	}
	p.line(0, part{"│", dim})
	p.line(0, part{"├─ ", dim}, part{name, bold}, part{"  as " + traffic.FormatService(s.Service), dim})
}

// leave says what a hop does to a packet that it passes on.
func (p *printer) leave(h *cloud.Hop, in, out traffic.Service) {
	text := "passes it on"
	if in != out {
		text = "forwards " + traffic.FormatService(in) + " to " + traffic.FormatService(out)
	}
	if h.Source != nil {
		text += ", with " + sources(traffic.IPs(h.Source...)) + " in place of the client's address"
	}
	p.line(0, part{"│  ", dim}, part{"↪ " + text, plain})
}

// step writes a layer, the rules in it that concern the packet, and what comes out.
func (p *printer) step(a *cloud.Answer, s *cloud.Step, decides bool) {
	mark, st := "✔", plain
	verdict := "admits " + share(s.Out, s.In, a)
	switch {
	case traffic.IsEmptyIPs(s.In):
		mark, st, verdict = "·", dim, "nothing comes this far"
	case traffic.IsEmptyIPs(s.Maybe):
		mark, verdict = "✖", "drops it"
	case traffic.IsEmptyIPs(s.Out) && slices.ContainsFunc(s.Allowed, func(by cloud.Admission) bool { return by.Rule.Doubt == cloud.Dynamic }):
		verdict = "admits a part that only the cloud knows"
	case traffic.IsEmptyIPs(s.Out):
		mark, verdict = "?", "may admit "+share(s.Maybe, s.In, a)
	case !traffic.Subset(s.Maybe, s.Out):
		verdict += ", and may admit more"
	}
	reply := s.Replies != nil && a.Exposure == cloud.OneWay && s.Layer.ReplyName == a.Stage
	if decides && !reply {
		st = verdictStyle(a.Exposure) // colour is kept for what decides
	}
	head := []part{{"│  ", dim}, {mark + " " + s.Layer.Name, st}, {"  " + verdict, plain}}
	if decides && !reply {
		head = append(head, part{"  ◀ decides", st})
	}
	// A fact of the network that changes nothing needs no details, and one about replies alone is told by its replies.
	idle := s.Layer.Kind == cloud.Mask && !traffic.IsEmptyIPs(s.In) && traffic.Subset(s.In, s.Out)
	if !idle || s.Replies == nil || s.Layer.Name != s.Layer.ReplyName {
		p.line(0, head...)
	}
	if !idle {
		for _, l := range s.Layer.Lists {
			p.list(a, s, l, decides && !reply)
		}
	}
	if s.Replies == nil {
		return
	}
	mark, st, verdict = "✔", plain, "lets replies out"
	switch {
	case traffic.IsEmptyIPs(s.Replies):
		mark, verdict = "✖", "lets no reply out"
	case !s.ReplyAll:
		mark, verdict = "▲", "lets replies out to "+sources(s.Replies)+" only"
	}
	if decides && reply {
		st = verdictStyle(a.Exposure)
	}
	head = []part{{"│  ", dim}, {mark + " " + s.Layer.ReplyName, st}, {"  " + verdict, plain}}
	if decides && reply {
		head = append(head, part{"  ◀ decides", st})
	}
	p.line(0, head...)
	if !s.ReplyAll {
		for _, l := range s.Layer.Reply {
			p.replyList(l)
		}
	}
}

// replyList writes the rules of l, which decides on replies to any port of a client.
func (p *printer) replyList(l *cloud.List) {
	p.line(0, part{"│    ", dim}, part{listName(l), plain})
	var rows table
	for i := range l.Rules[:min(mostRules, len(l.Rules))] {
		r := &l.Rules[i]
		rows = append(rows, []part{{"│     ", dim}, {r.Verdict.String(), plain}, {r.Ref.ID, bold}, {r.Text, plain}})
	}
	p.table(0, rows)
	switch n := len(l.Rules); {
	case n > mostRules:
		p.line(0, part{"│       ", dim}, part{"… " + andMore(n-mostRules), dim})
	case n == 0:
		p.line(0, part{"│       ", dim}, part{"no rules", dim})
	}
}

func listName(l *cloud.List) string {
	name := strings.ReplaceAll(l.Ref.Kind, "-", " ") + " " + l.Ref.ID
	if l.Name != "" && l.Name != l.Ref.ID {
		name += " (" + l.Name + ")"
	}
	return name
}

// list writes the rules of l that match the service, in their order, and counts the others.
func (p *printer) list(a *cloud.Answer, s *cloud.Step, l *cloud.List, decides bool) {
	fact := s.Layer.Kind == cloud.Mask || s.Layer.Kind == cloud.Platform // nobody keeps rules for it
	if !fact {
		p.line(0, part{"│    ", dim}, part{listName(l), plain})
	}
	var rows table
	other, more := 0, 0
	for i := range l.Rules {
		r := &l.Rules[i]
		must, maybe := r.Match.From(s.Service), r.Maybe.From(s.Service)
		if traffic.IsEmptyIPs(must) && traffic.IsEmptyIPs(maybe) {
			other++
			continue
		}
		effect, counts := effect(a, s, r, traffic.UnionIPs(must, maybe))
		if len(rows) >= mostRules && !counts {
			more++
			continue
		}
		text := r.Text
		if text == "" {
			text = "from " + sources(traffic.UnionIPs(must, maybe))
		}
		st := plain
		switch {
		case !counts:
			st = dim
		case decides && r.Verdict != cloud.Pass:
			effect += " ◀"
			st = verdictStyle(a.Exposure)
		}
		rows = append(rows, []part{{"│     ", dim}, {r.Verdict.String(), st}, {r.Ref.ID, bold}, {text, plain}, {effect, st}})
	}
	p.table(0, rows)
	if more > 0 {
		p.line(0, part{"│       ", dim}, part{"… " + andMore(more) + " without effect", dim})
	}
	switch {
	case fact:
	case other > 0 && len(rows) == 0:
		p.line(0, part{"│       ", dim}, part{"none for " + traffic.FormatService(s.Service) + ", " + outline.Count(other, "rule") + " for other packets", dim})
	case other > 0:
		p.line(0, part{"│       ", dim}, part{outline.Count(other, "rule") + " for other packets", dim})
	case len(rows) == 0:
		p.line(0, part{"│       ", dim}, part{"no rules", dim})
	}
}

// effect says what r does to the packets of s, of which it matches those from matched; counts is false if it does nothing.
func effect(a *cloud.Answer, s *cloud.Step, r *cloud.Rule, matched *netipx.IPSet) (text string, counts bool) {
	of := func(by []cloud.Admission) *netipx.IPSet {
		if i := slices.IndexFunc(by, func(b cloud.Admission) bool { return b.Rule == r }); i >= 0 {
			return by[i].Sources
		}
		return nil
	}
	doubt := ""
	if r.Cause != "" && !traffic.IsEmptyIPs(r.Maybe.From(s.Service)) {
		doubt = " (in doubt: " + r.Cause + ")"
	}
	if hit := of(s.Allowed); hit != nil {
		if doubt != "" && r.Doubt == cloud.Dynamic {
			return "admits a part that only the cloud knows", true
		}
		if doubt != "" {
			return "may admit " + share(hit, s.In, a) + doubt, true
		}
		return "admits " + share(hit, s.In, a), true
	}
	if hit := of(s.Denied); hit != nil {
		return "drops " + share(hit, s.In, a) + doubt, true
	}
	switch {
	case traffic.IsEmptyIPs(traffic.IntersectIPs(matched, universe(a, s))):
		if universe(a, s) == a.Endpoint.Family.Internet() {
			return "no internet host matches", false
		}
		return "no such source comes here", false
	case traffic.IsEmptyIPs(traffic.IntersectIPs(matched, s.In)):
		return "stopped before", false
	case r.Verdict == cloud.Pass:
		return "goes on to the next list" + doubt, true
	case doubt != "":
		return "in doubt: " + r.Cause, true
	case r.Verdict == cloud.Deny:
		return "nothing left to drop", false
	}
	return "decided above", false
}

// universe returns the sources that the hop of s may see.
func universe(a *cloud.Answer, s *cloud.Step) *netipx.IPSet {
	seen := a.Endpoint.Family.Internet()
	for i := range a.Endpoint.Hops {
		h := &a.Endpoint.Hops[i]
		if h == s.Hop {
			break
		}
		if h.Source != nil {
			seen = traffic.IPs(h.Source...)
		}
	}
	return seen
}

// share says how much of what came in a set of sources is: in words, as a part of the internet, or address by address.
func share(part, in *netipx.IPSet, a *cloud.Answer) string {
	if traffic.Subset(in, part) {
		return "all of it"
	}
	if c, n := cloud.Cover(part, a.Endpoint.Family); c != cloud.None {
		if c == cloud.Narrow {
			return sources(part)
		}
		return outline.Amount(c, n)
	}
	return sources(part)
}

// sources lists at most four prefixes and counts the rest.
func sources(a *netipx.IPSet) string {
	prefixes := a.Prefixes()
	const most = 4
	var parts []string
	for _, p := range prefixes[:min(most, len(prefixes))] {
		parts = append(parts, prefix(p))
	}
	if n := len(prefixes) - most; n > 0 {
		return strings.Join(parts, ", ") + " " + andMore(n)
	}
	return strings.Join(parts, ", ")
}

func prefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
