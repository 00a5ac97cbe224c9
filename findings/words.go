package findings

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// nameOf returns what people call the endpoint's resource.
func nameOf(e *cloud.Endpoint) string {
	switch {
	case e.Name != "":
		return e.Name
	case e.Instance != "":
		return e.Instance
	}
	return e.Ref.ID
}

// reason is a's verdict in one sentence.
func reason(a cloud.Answer, admittedBy []string) string {
	by := "admitted by " + join(quoted(admittedBy), 4)
	if len(admittedBy) == 0 || slices.Equal(admittedBy, []string{"none"}) {
		by = "no firewall is in front"
	}
	switch a.Exposure {
	case cloud.Reachable:
		return sentence(by)
	case cloud.OneWay:
		return sentence(by + fmt.Sprintf(", but '%s' keeps replies in", a.Stage))
	case cloud.ProviderOnly:
		return sentence(by + fmt.Sprintf(", and only the provider's '%s' keeps the internet away", a.Stage))
	case cloud.Blocked:
		if len(a.Denied) > 0 {
			return sentence(fmt.Sprintf("blocked at '%s' by %s", a.Stage, join(quoted(ids(a.Denied)), 4)))
		}
		return sentence(fmt.Sprintf("blocked at '%s'", a.Stage))
	}
	by = "may be " + by
	if len(admittedBy) == 0 || admittedBy[0] == "none" {
		by = "nothing that could be read decides"
	}
	return sentence(by + fmt.Sprintf(", and '%s' leaves it in doubt", a.Stage))
}

// Reason returns a's verdict in one sentence, with the ids of the rules that decide.
func Reason(a cloud.Answer) string {
	var by []string
	for _, r := range a.AdmittedBy {
		if !slices.Contains(by, r.Rule.Ref.ID) {
			by = append(by, r.Rule.Ref.ID)
		}
	}
	return reason(a, by)
}

// StepOf says in words what a layer does to a packet.
func StepOf(s cloud.Step) Step {
	out := Step{Stage: s.Layer.Name}
	rules := func(by []cloud.Admission) string {
		var names []string
		for _, a := range by {
			name := "'" + a.Rule.Ref.ID + "'"
			if a.Rule.Text != "" {
				name += " (" + a.Rule.Text + ")"
			}
			names = append(names, name)
		}
		return join(names, 4)
	}
	at := traffic.FormatService(s.Service)
	if s.Hop.Name != "" {
		at += " at '" + s.Hop.Name + "'"
	}
	switch {
	case traffic.IsEmptyIPs(s.Maybe):
		out.Text = "drops " + at
		if len(s.Denied) > 0 {
			out.Text += " by " + rules(s.Denied)
		}
	case traffic.IsEmptyIPs(s.Out) && slices.ContainsFunc(s.Allowed, func(a cloud.Admission) bool { return a.Rule.Doubt == cloud.Dynamic }):
		out.Text = "admits " + at + " from a part of the internet that only the cloud knows, by " + rules(s.Allowed)
	case traffic.IsEmptyIPs(s.Out):
		out.Text = "may admit " + at + " by " + rules(s.Allowed)
	default:
		out.Text = "admits " + at
		if s.Layer.Kind == cloud.Firewall || s.Layer.Kind == cloud.Filter {
			out.Text += " by " + rules(s.Allowed)
		}
	}
	if len(s.Allowed) > 0 && !traffic.IsEmptyIPs(s.Maybe) {
		out.Ref = s.Allowed[0].Rule.Ref
	} else if len(s.Denied) > 0 {
		out.Ref = s.Denied[0].Rule.Ref
	}
	if s.Replies != nil && !s.ReplyAll {
		if traffic.IsEmptyIPs(s.Replies) {
			out.Text += ", and lets no reply out"
		} else {
			out.Text += ", and lets replies out to a part of the internet only"
		}
	}
	out.Text = sentence(out.Text)
	return out
}

// message is the finding in one sentence.
func (o *offender) message(check Check, exposures []Exposure, f Finding) string {
	who := "'" + f.Subject.ID + "'"
	if f.Subject.ListName != "" {
		who += " of '" + f.Subject.ListName + "'"
	} else if f.Subject.List != "" && f.Subject.List != f.Subject.ID {
		who += " of '" + f.Subject.List + "'"
	}
	if o.endpoint != nil && f.Subject.Name != "" {
		who = "'" + f.Subject.Name + "' (" + f.Subject.ID + ")"
	}
	who = kindName(f.Subject.Type) + " " + who
	if len(f.Exposures) == 0 {
		return sentence(fmt.Sprintf("%s admits the internet to %s, and no public endpoint is behind it today", who, join(o.services, 4)))
	}
	var what, where []string
	largest := 0.0
	coverage := cloud.None
	for _, i := range f.Exposures {
		x := exposures[i]
		service := fmt.Sprintf("%s/%d", x.Protocol, x.Port)
		if !slices.Contains(what, service) {
			what = append(what, service)
		}
		place := "'" + x.Address + "'"
		if x.FrontPort != x.Port {
			place = fmt.Sprintf("'%s' port %d", x.Address, x.FrontPort)
		}
		if !slices.Contains(where, place) {
			where = append(where, place)
		}
		for _, family := range []traffic.Family{traffic.V4, traffic.V6} {
			if _, share := cloud.Cover(o.sources, family); int(family) == x.Family {
				largest = max(largest, share)
			}
		}
		if coverage.Less(x.Coverage) || coverage == cloud.None {
			coverage = x.Coverage
		}
	}
	slices.Sort(what)
	port := join(what, 4)
	behind := join(where, 3)
	switch check.ID {
	case NoFirewall:
		tail := ""
		if x := exposures[f.Exposures[0]]; x.Verdict == cloud.ProviderOnly {
			tail = fmt.Sprintf("; only the provider's own block ('%s') keeps the internet away", x.Stage)
		}
		verb := "is"
		if len(what) > 1 {
			verb = "are"
		}
		return sentence(fmt.Sprintf("%s is behind no firewall: %s of %s %s open to the internet%s", who, port, behind, verb, tail))
	case Undetermined:
		x := exposures[f.Exposures[0]]
		tail := ""
		if x.Hint != "" {
			tail = ": " + strings.TrimSuffix(x.Hint, ".")
		}
		if o.endpoint != nil {
			return sentence(fmt.Sprintf("Whether the internet reaches %s of %s is decided by '%s'%s", port, behind, x.Stage, tail))
		}
		return sentence(fmt.Sprintf("%s may admit the internet to %s of %s, which '%s' leaves in doubt%s", who, port, behind, x.Stage, tail))
	}
	amount := percent(largest) + " of the internet"
	if coverage == cloud.Opaque {
		amount = "an unknown part of the internet"
	}
	text := fmt.Sprintf("%s admits %s to %s of %s", who, amount, port, behind)
	switch check.ID {
	case OneWay:
		text += fmt.Sprintf(", and '%s' keeps replies in", exposures[f.Exposures[0]].Stage)
	case ProviderNetworkOnly:
		text += fmt.Sprintf(", and only the provider's own block ('%s') keeps it away", exposures[f.Exposures[0]].Stage)
	}
	if len(f.With) > 0 {
		verb := "do"
		if len(f.With) == 1 {
			verb = "does"
		}
		text += "; so " + verb + " " + join(quoted(f.With), 3)
	}
	return sentence(text)
}

func percent(share float64) string {
	switch {
	case share >= 0.9995:
		return "100 %"
	case share >= 0.0005:
		return fmt.Sprintf("%.3g %%", share*100)
	}
	return "less than 0.1 %"
}

func kindName(kind string) string {
	return capital(strings.ReplaceAll(kind, "-", " "))
}

func quoted(ids []string) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = "'" + id + "'"
	}
	return out
}

func ids(rules []*cloud.Rule) []string {
	var out []string
	for _, r := range rules {
		if !slices.Contains(out, r.Ref.ID) {
			out = append(out, r.Ref.ID)
		}
	}
	return out
}

// join lists at most n items and counts the rest.
func join(items []string, n int) string {
	if len(items) > n {
		rest := len(items) - n
		items = append(slices.Clone(items[:n]), fmt.Sprintf("%d more", rest))
	}
	switch len(items) {
	case 0:
		return ""
	case 1:
		return items[0]
	}
	return strings.Join(items[:len(items)-1], ", ") + " and " + items[len(items)-1]
}

// sentence starts text with a capital and ends it with a full stop.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return capital(text) + "."
}

// capital starts text with a capital letter.
func capital(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	if first == utf8.RuneError {
		return text
	}
	return string(unicode.ToUpper(first)) + text[size:]
}
