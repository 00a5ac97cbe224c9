package cloud_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// checkOften checks prop on twenty times as many worlds as rapid does by itself: one costs less than a millisecond, and a
// rare one is what a bug needs.
func checkOften(t *testing.T, prop func(*rapid.T)) {
	for range 20 {
		rapid.Check(t, prop)
	}
}

func TestJudgeAgainstSinglePackets(t *testing.T) {
	checkOften(t, func(t *rapid.T) {
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

func TestTraceAgainstSinglePackets(t *testing.T) {
	checkOften(t, func(t *rapid.T) {
		s := drawWorld(t)
		q := cloud.Question{Ports: []uint16{11211}, NoPlatformBlock: rapid.Bool().Draw(t, "no platform block")}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			for _, svc := range q.Services() {
				w, ok := route(e, svc, !q.NoPlatformBlock)
				answer, steps, found := q.Trace(e, svc)
				if found != ok {
					t.Fatalf("%s to %s has a path: %v, want %v", traffic.FormatService(svc), e.Ref, found, ok)
				}
				if !ok {
					continue
				}
				want, _ := judge(e, svc, !q.NoPlatformBlock)
				if got, want := describe(answer), want.describe(e); got != want {
					t.Fatalf("%s to %s:\n%s\nwant\n%s\n%s", traffic.FormatService(svc), e.Ref, got, want, dump(s))
				}
				if got, want := describeSteps(steps), w.describeSteps(); got != want {
					t.Fatalf("%s to %s:\n%s\nwant\n%s\n%s", traffic.FormatService(svc), e.Ref, got, want, dump(s))
				}
			}
		}
	})
}

// describeSteps writes down all of steps that the oracle knows.
func describeSteps(steps []cloud.Step) string {
	var out strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&out, "%s %s: %s in %s, out %s, maybe %s\n", s.Hop.Ref.ID, s.Layer.Name, traffic.FormatService(s.Service), named(s.In), named(s.Out), named(s.Maybe))
		for _, a := range s.Allowed {
			fmt.Fprintf(&out, "  allowed %s: %s\n", a.Rule.Ref.ID, named(a.Sources))
		}
		for _, a := range s.Denied {
			fmt.Fprintf(&out, "  denied %s: %s\n", a.Rule.Ref.ID, named(a.Sources))
		}
		if s.Layer.Stateless != (s.Replies != nil) {
			fmt.Fprintf(&out, "  stateless %v, replies %v\n", s.Layer.Stateless, s.Replies)
		}
		if s.Replies != nil {
			fmt.Fprintf(&out, "  replies %s, all %v\n", named(s.Replies), s.ReplyAll)
		}
	}
	return out.String()
}

// named returns the names of the stretches of which a has addresses.
func named(a *netipx.IPSet) string {
	var out []string
	for _, s := range stretches() {
		if a.Contains(s.rep) {
			out = append(out, s.name)
		}
	}
	return strings.Join(out, " ")
}

func (w way) describeSteps() string {
	var out strings.Builder
	names := func(s sources) string { return named(s.ips()) }
	gates, begin := w.segments()
	for n, part := range gates {
		open := begin[n]
		for _, g := range part {
			maybe := open.and(w.in(g, possible))
			fmt.Fprintf(&out, "%s %s: %s in %s, out %s, maybe %s\n", w.endpoint.Hops[g.hop].Ref.ID, g.layer.Name, traffic.FormatService(w.services[g.hop]),
				names(open), names(open.and(w.in(g, certain))), names(maybe))
			for _, what := range []string{"allowed", "denied"} {
				for _, list := range g.layer.Lists {
					for i := range list.Rules {
						r := &list.Rules[i]
						var of sources
						switch {
						case what == "allowed" && r.Verdict == cloud.Allow:
							of = maybe.where(func(i int) bool {
								return possible.credited(g.layer.Lists, r, packet{stretches()[i].rep, w.services[g.hop]})
							})
						case what == "denied" && r.Verdict == cloud.Deny:
							of = open.where(func(i int) bool {
								return drops(g.layer.Lists, r, packet{stretches()[i].rep, w.services[g.hop]})
							})
						}
						if len(of) > 0 {
							fmt.Fprintf(&out, "  %s %s: %s\n", what, r.Ref.ID, names(of))
						}
					}
				}
			}
			if g.layer.Stateless {
				replied := g.before.where(func(i int) bool {
					return slices.ContainsFunc(clientPorts(), func(port uint16) bool { return w.replied(g, certain, i, port) })
				})
				fmt.Fprintf(&out, "  replies %s, all %v\n", names(replied), len(replied) == len(g.before))
			}
			// What is behind the platform's block is explained as if it were not there.
			if g.layer.Kind != cloud.Platform || len(maybe) > 0 {
				open = maybe
			}
		}
	}
	return out.String()
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
