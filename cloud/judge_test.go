package cloud_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

func TestJudgeAgainstSinglePackets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawWorld(t)
		q := cloud.Question{Ports: []uint16{11211}, NoPlatformBlock: rapid.Bool().Draw(t, "no platform block")}
		answers := q.Judge(s)
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			for _, svc := range q.Services() {
				want, ok := judge(e, svc, !q.NoPlatformBlock)
				if !ok {
					if _, _, ok := q.Trace(e, svc); ok {
						t.Fatalf("%s to %s has a path, want none", traffic.FormatService(svc), e.Ref)
					}
					continue
				}
				if len(answers) == 0 || answers[0].Endpoint != e || answers[0].Service != svc {
					t.Fatalf("no answer for %s to %s", traffic.FormatService(svc), e.Ref)
				}
				if got, want := describe(answers[0]), want.describe(e); got != want {
					t.Fatalf("%s to %s:\n%s\nwant\n%s\n%s", traffic.FormatService(svc), e.Ref, got, want, dump(s))
				}
				answers = answers[1:]
			}
		}
		if len(answers) > 0 {
			t.Fatalf("an answer too many: %s", describe(answers[0]))
		}
	})
}

// describe writes down all of a that the oracle knows.
func describe(a cloud.Answer) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s %.6f at %q, sources %s", a.Exposure, a.Coverage, a.Share, a.Stage, traffic.FormatIPs(a.Sources))
	for _, by := range a.AdmittedBy {
		fmt.Fprintf(&out, "\n  by %s, alone %v: %s", by.Rule.Ref.ID, by.Alone, traffic.FormatIPs(by.Sources))
		if !slices.ContainsFunc(by.List.Rules, func(r cloud.Rule) bool { return r.Ref == by.Rule.Ref }) {
			fmt.Fprintf(&out, " (not in %s)", by.List.Ref)
		}
	}
	var denied []string
	for _, r := range a.Denied {
		if !slices.Contains(denied, r.Ref.ID) {
			denied = append(denied, r.Ref.ID)
		}
	}
	fmt.Fprintf(&out, "\n  denied by %v", denied)
	return out.String()
}

func (v verdict) describe(e *cloud.Endpoint) string {
	var out strings.Builder
	ips := func(s sources) string { return traffic.FormatIPs(traffic.IntersectIPs(s.ips(), e.Family.Internet())) }
	coverage, share := cloud.Cover(v.sources.ips(), e.Family)
	if v.opaque {
		coverage, share = cloud.Opaque, 0
	}
	fmt.Fprintf(&out, "%s %s %.6f at %q, sources %s", v.exposure, coverage, share, v.stage, ips(v.sources))
	for _, by := range v.by {
		fmt.Fprintf(&out, "\n  by %s, alone %v: %s", by.rule, by.alone, ips(by.sources))
	}
	fmt.Fprintf(&out, "\n  denied by %v", v.denied)
	return out.String()
}

// dump writes down what was drawn.
func dump(s *cloud.Snapshot) string {
	var out strings.Builder
	lists := func(what string, lists []*cloud.List) {
		for _, l := range lists {
			fmt.Fprintf(&out, "    %s %s\n", what, l.Ref.ID)
			for _, r := range l.Rules {
				fmt.Fprintf(&out, "      %s %s %s; maybe (%s) %s\n", r.Ref.ID, r.Verdict, r.Match, r.Doubt, r.Maybe)
			}
		}
	}
	for _, e := range s.Endpoints {
		fmt.Fprintf(&out, "%s IPv%d\n", e.Ref.ID, e.Family)
		for _, h := range e.Hops {
			fmt.Fprintf(&out, "  hop, forward %v, source %v\n", h.Forward, h.Source)
			for _, l := range h.Layers {
				fmt.Fprintf(&out, "   %s %s, stateless %v\n", l.Kind, l.Name, l.Stateless)
				lists("list", l.Lists)
				lists("reply", l.Reply)
			}
		}
	}
	return out.String()
}
