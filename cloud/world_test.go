package cloud_test

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// builder draws a snapshot: lists that layers share, and endpoints with everything that a path can have.
type builder struct {
	t     *rapid.T
	scope cloud.Scope
	rules int
	lists []*cloud.List
	reply []*cloud.List
}

func drawWorld(t *rapid.T) *cloud.Snapshot {
	w := &builder{t: t, scope: cloud.Scope{Provider: "aws", Account: "111122223333", Region: "eu-west-1"}}
	for range rapid.SampledFrom([]int{3, 4, 5, 2, 1}).Draw(t, "lists") {
		w.lists = append(w.lists, w.list("list", w.services()))
	}
	for range rapid.IntRange(1, 2).Draw(t, "reply lists") {
		w.reply = append(w.reply, w.list("reply", w.replies()))
	}
	s := &cloud.Snapshot{Scope: w.scope, Lists: w.lists}
	for range rapid.IntRange(1, 2).Draw(t, "endpoints") {
		s.Endpoints = append(s.Endpoints, w.endpoint(len(s.Endpoints)))
	}
	for range rapid.IntRange(0, 1).Draw(t, "gaps") {
		s.Gaps = append(s.Gaps, cloud.Gap{Subject: "ec2:Describe", Cause: rapid.String().Draw(t, "cause"), Hint: "grant it"})
	}
	return s
}

type interval struct{ from, to traffic.Service }

// services are what rules are about; most hold the service that is asked about.
func (w *builder) services() []interval {
	tcp, udp := traffic.TCP.Port, traffic.UDP.Port
	return []interval{
		{tcp(0), udp(65535)},
		{0, 1<<24 - 1},
		{tcp(11211), tcp(11211)},
		{udp(11211), udp(11211)},
		{tcp(80), tcp(80)},
		{tcp(80), tcp(11211)},
		{udp(0), udp(11210)},
		{tcp(11212), udp(65535)},
		{traffic.Proto(132).Port(0), traffic.Proto(132).Port(65535)},
	}
}

// replies are what reply rules are about. Port 0 is no client's.
func (w *builder) replies() []interval {
	tcp, udp := traffic.TCP.Port, traffic.UDP.Port
	return []interval{
		{0, 1<<24 - 1},
		{tcp(0), tcp(65535)},
		{tcp(0), tcp(0)},
		{udp(0), udp(0)},
		{tcp(1024), tcp(65535)},
		{tcp(443), tcp(443)},
		{udp(1), udp(65535)},
		{udp(65535), udp(65535)},
		{tcp(1), tcp(1023)},
	}
}

func (w *builder) list(kind string, services []interval) *cloud.List {
	l := &cloud.List{Ref: w.scope.Ref(kind, fmt.Sprintf("%s-%d", kind, w.rules)), Name: rapid.SampledFrom([]string{"", "<web> & \"co\""}).Draw(w.t, "name")}
	for range rapid.SampledFrom([]int{2, 3, 1, 4, 0}).Draw(w.t, "rules") {
		l.Rules = append(l.Rules, w.rule(services))
	}
	return l
}

func (w *builder) rule(services []interval) cloud.Rule {
	w.rules++
	r := cloud.Rule{
		Ref:     w.scope.Ref("rule", fmt.Sprintf("r-%d", w.rules)),
		Verdict: rapid.SampledFrom([]cloud.Verdict{cloud.Allow, cloud.Allow, cloud.Deny, cloud.Pass}).Draw(w.t, "verdict"),
	}
	match := func() traffic.Set {
		i := rapid.SampledFrom(services).Draw(w.t, "services")
		return traffic.Of(w.sources().ips(), i.from, i.to)
	}
	doubt := rapid.SampledFrom([]cloud.Doubt{"", "", "", cloud.Unread, cloud.Unsized, cloud.Dynamic}).Draw(w.t, "doubt")
	if doubt == "" || rapid.Bool().Draw(w.t, "also certain") {
		r.Match = match()
	}
	if doubt != "" {
		r.Maybe, r.Doubt, r.Cause, r.Hint = match(), doubt, "cause-"+r.Ref.ID, "look"
	}
	if rapid.Bool().Draw(w.t, "native") {
		r.Native, r.Text = json.RawMessage(`{"CidrIp":["0.0.0.0/0"],"n":1}`), "from anywhere"
	}
	r.Implied = rapid.Bool().Draw(w.t, "implied")
	return r
}

// sources draws stretches, often all of them.
func (w *builder) sources() sources {
	n := len(stretches())
	bits := 1<<n - 1
	if rapid.Bool().Draw(w.t, "some") {
		bits = rapid.IntRange(0, 1<<n-1).Draw(w.t, "sources")
	}
	var out sources
	for i := range n {
		if bits&(1<<i) != 0 {
			out = append(out, i)
		}
	}
	return out
}

func (w *builder) endpoint(n int) cloud.Endpoint {
	e := cloud.Endpoint{
		Ref: w.scope.Ref("network-interface", fmt.Sprintf("eni-%d", n)), Name: "cache", Instance: "i-1", Family: traffic.V4,
		Addr: netip.MustParseAddr("54.84.1.2"), Public: true, Assumes: []string{"vpc-block-public-access-off"},
	}
	if rapid.IntRange(0, 3).Draw(w.t, "family") == 0 {
		e.Family, e.Addr, e.Prefix = traffic.V6, netip.Addr{}, netip.MustParsePrefix("2600:1f18::/80")
	}
	hops := rapid.SampledFrom([]int{1, 1, 2, 3}).Draw(w.t, "hops")
	for h := range hops {
		hop := cloud.Hop{Ref: w.scope.Ref("hop", fmt.Sprint(h)), Name: "hop"}
		for range rapid.SampledFrom([]int{1, 2, 3, 0}).Draw(w.t, "layers") {
			hop.Layers = append(hop.Layers, w.layer())
		}
		hop.Forward = w.forward()
		if h < hops-1 && rapid.Bool().Draw(w.t, "replaces the source") {
			hop.Source = rapid.SampledFrom([][]netip.Prefix{
				{netip.MustParsePrefix("10.0.0.1/32")},
				{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.0.2/32")},
				{netip.MustParsePrefix("fd00::1/128"), netip.MustParsePrefix("8.8.8.0/24")},
				{},
			}).Draw(w.t, "source")
			e.Via = hop.Ref
		}
		e.Hops = append(e.Hops, hop)
	}
	return e
}

func (w *builder) forward() []cloud.Forward {
	tcp, udp := traffic.TCP.Port, traffic.UDP.Port
	return rapid.SampledFrom([][]cloud.Forward{
		nil, nil, nil,
		{{Front: tcp(80), Target: tcp(11211)}, {Front: udp(11211), Target: udp(11211)}},
		{{Front: tcp(11211), Target: tcp(11211)}, {Front: tcp(81), Target: tcp(80)}},
		{{Front: tcp(11211), Target: tcp(80)}},
		{},
	}).Draw(w.t, "forward")
}

func (w *builder) layer() cloud.Layer {
	w.rules++
	l := cloud.Layer{
		Name: fmt.Sprintf("layer-%d", w.rules),
		Kind: rapid.SampledFrom([]cloud.Kind{cloud.Firewall, cloud.Firewall, cloud.Filter, cloud.Mask, cloud.Platform}).Draw(w.t, "kind"),
	}
	l.Lists = w.pick(w.lists)
	if rapid.IntRange(0, 2).Draw(w.t, "stateless") == 0 {
		l.Stateless, l.ReplyName, l.Reply = true, l.Name+"-reply", w.pick(w.reply)
	}
	return l
}

// pick draws a few of lists, none twice.
func (w *builder) pick(lists []*cloud.List) []*cloud.List {
	var out []*cloud.List
	for _, i := range rapid.Permutation(seq(len(lists))).Draw(w.t, "order")[:min(len(lists), rapid.SampledFrom([]int{1, 2, 3, 0}).Draw(w.t, "picked"))] {
		out = append(out, lists[i])
	}
	return out
}

func seq(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}
