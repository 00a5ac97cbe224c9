package gcp

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cloud.google.com/go/compute/apiv1/computepb"
	"go4.org/netipx"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
)

// The kinds of lists that can be written to.
const (
	networkKind = "network"
	policyKind  = "network-firewall-policy"
)

// draft is a rule in the form in which it is written: a VPC firewall rule, or a rule of a network firewall policy.
type draft struct {
	vpc    *computepb.Firewall
	policy *computepb.FirewallPolicyRule
}

// entry is a protocol with ports; none means any.
type entry struct {
	protocol string
	ports    []string
}

// draftOf reads the native form of a rule of list.
func draftOf(list cloud.Ref, r *cloud.Rule) (draft, error) {
	var d draft
	var into proto.Message
	switch list.Kind {
	case networkKind:
		d.vpc = &computepb.Firewall{}
		into = d.vpc
	case policyKind:
		d.policy = &computepb.FirewallPolicyRule{}
		into = d.policy
	default:
		return d, fmt.Errorf("a %s is not changed by cloudaudit: %w", list.Kind, providers.ErrInexpressible)
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(r.Native, into); err != nil {
		return d, fmt.Errorf("rule %s is not what the API documents: %w", r.Ref.ID, providers.ErrInexpressible)
	}
	return d, nil
}

// clone returns a copy of d that can be changed.
func (d draft) clone() draft {
	if d.vpc != nil {
		return draft{vpc: proto.CloneOf(d.vpc)}
	}
	return draft{policy: proto.CloneOf(d.policy)}
}

// message returns what is written.
func (d draft) message() proto.Message {
	if d.vpc != nil {
		return d.vpc
	}
	return d.policy
}

// entries returns the protocols and ports of a rule.
func (d draft) entries() []entry {
	var out []entry
	for _, a := range d.vpc.GetAllowed() {
		out = append(out, entry{a.GetIPProtocol(), a.GetPorts()})
	}
	for _, a := range d.vpc.GetDenied() {
		out = append(out, entry{a.GetIPProtocol(), a.GetPorts()})
	}
	for _, l4 := range d.policy.GetMatch().GetLayer4Configs() {
		out = append(out, entry{l4.GetIpProtocol(), l4.GetPorts()})
	}
	return out
}

// setEntries makes d a rule that allows, or denies, entries.
func (d draft) setEntries(verdict cloud.Verdict, entries []entry) {
	if d.policy != nil {
		d.policy.Action = proto.String(verdict.String())
		d.policy.Match.Layer4Configs = nil
		for _, e := range entries {
			d.policy.Match.Layer4Configs = append(d.policy.Match.Layer4Configs, &computepb.FirewallPolicyRuleMatcherLayer4Config{
				IpProtocol: proto.String(e.protocol), Ports: e.ports,
			})
		}
		return
	}
	d.vpc.Allowed, d.vpc.Denied = nil, nil
	for _, e := range entries {
		if verdict == cloud.Deny {
			d.vpc.Denied = append(d.vpc.Denied, &computepb.Denied{IPProtocol: proto.String(e.protocol), Ports: e.ports})
		} else {
			d.vpc.Allowed = append(d.vpc.Allowed, &computepb.Allowed{IPProtocol: proto.String(e.protocol), Ports: e.ports})
		}
	}
}

// ranges returns the ranges that a rule has as sources.
func (d draft) ranges() []string {
	if d.vpc != nil {
		return d.vpc.GetSourceRanges()
	}
	return d.policy.GetMatch().GetSrcIpRanges()
}

// setRanges gives d other ranges as sources.
func (d draft) setRanges(ranges []string) {
	if d.vpc != nil {
		d.vpc.SourceRanges = ranges
	} else {
		d.policy.Match.SrcIpRanges = ranges
	}
}

// byInstance says whether a rule also has instances as sources, by their tags or service accounts.
func (d draft) byInstance() bool {
	return len(d.vpc.GetSourceTags())+len(d.vpc.GetSourceServiceAccounts())+len(d.policy.GetMatch().GetSrcSecureTags()) > 0
}

// byName says whether a rule also has sources that are named, or asks how a packet came.
func (d draft) byName() bool {
	m := d.policy.GetMatch()
	return len(m.GetSrcAddressGroups())+len(m.GetSrcFqdns())+len(m.GetSrcRegionCodes())+len(m.GetSrcThreatIntelligences())+
		len(m.GetSrcNetworks())+len(m.GetSrcNetworkContext())+len(m.GetSrcNetworkType()) > 0
}

// beside returns a rule for whom d is for, with no more sources than ranges, that is still to get its name or priority.
func (d draft) beside(verdict cloud.Verdict, entries []entry, ranges []string) draft {
	out := d.clone()
	switch {
	case out.vpc != nil:
		out.vpc.Name, out.vpc.LogConfig, out.vpc.Disabled, out.vpc.Params = nil, nil, nil, nil
		if verdict == cloud.Deny {
			out.vpc.SourceTags, out.vpc.SourceServiceAccounts = nil, nil
		}
	default:
		was := out.policy.GetMatch()
		out.policy.RuleName, out.policy.EnableLogging, out.policy.Disabled, out.policy.TlsInspect = nil, nil, nil, nil
		for _, t := range out.policy.GetTargetSecureTags() {
			t.State = nil
		}
		out.policy.Match = &computepb.FirewallPolicyRuleMatcher{
			DestIpRanges: was.GetDestIpRanges(), DestAddressGroups: was.GetDestAddressGroups(), DestFqdns: was.GetDestFqdns(),
			DestRegionCodes: was.GetDestRegionCodes(), DestThreatIntelligences: was.GetDestThreatIntelligences(),
			DestNetworkContext: was.DestNetworkContext, DestNetworkType: was.DestNetworkType,
		}
		if verdict != cloud.Deny {
			out.policy.Match.SrcSecureTags = was.GetSrcSecureTags()
		}
	}
	out.setRanges(ranges)
	out.setEntries(verdict, entries)
	return out
}

// describe gives d a description.
func (d draft) describe(text string) {
	if d.vpc != nil {
		d.vpc.Description = proto.String(text)
	} else {
		d.policy.Description = proto.String(text)
	}
}

// rule returns d as a rule of list.
func (d draft) rule(list cloud.Ref) (cloud.Rule, error) {
	account, region, _ := strings.Cut(list.Scope, "/")
	scope := cloud.Scope{Provider: list.Provider, Account: account, Region: region}
	if d.vpc != nil {
		return vpcRule(scope, d.vpc, priorityOf(d.vpc)).Rule, nil
	}
	unread := func(context.Context, string) (*netipx.IPSet, bool) { return nil, false }
	r, ok := policyRule(context.Background(), scope, list.ID, d.policy, unread)
	if !ok {
		return cloud.Rule{}, fmt.Errorf("rule %s/%d concerns nobody: %w", list.ID, d.policy.GetPriority(), providers.ErrInexpressible)
	}
	return r.Rule, nil
}

// priorityOf returns the priority of a VPC rule.
func priorityOf(f *computepb.Firewall) int32 {
	if f.Priority == nil {
		return 1000
	}
	return f.GetPriority()
}

// without returns entries without ports of asked, which is false if one of the entries stands for more protocols than can
// be listed.
func without(entries []entry, asked map[string][]uint16) ([]entry, bool) {
	var out []entry
	for _, e := range entries {
		name := e.protocol
		if protos, ok := protocols(name); ok && len(protos) == 1 {
			name = protos[0].String()
		}
		cut := asked[name]
		switch {
		case strings.EqualFold(e.protocol, "all"):
			return nil, false
		case len(cut) == 0:
			out = append(out, e)
			continue
		}
		ports := e.ports
		if len(ports) == 0 {
			ports = []string{"0-65535"}
		}
		var left []string
		for _, text := range ports {
			from, to, ok := portRange(text)
			if !ok {
				return nil, false
			}
			if !slices.ContainsFunc(cut, func(p uint16) bool { return p >= from && p <= to }) {
				left = append(left, text)
				continue
			}
			next := int(from)
			for _, p := range cut {
				if p < from || p > to {
					continue
				}
				if next < int(p) {
					left = append(left, ports16(next, int(p)-1))
				}
				next = int(p) + 1
			}
			if next <= int(to) {
				left = append(left, ports16(next, int(to)))
			}
		}
		if len(left) > 0 { // without ports the entry would stand for all
			out = append(out, entry{e.protocol, left})
		}
	}
	return out, true
}

// ports16 returns a range of ports as the API takes it.
func ports16(from, to int) string {
	if from == to {
		return strconv.Itoa(from)
	}
	return strconv.Itoa(from) + "-" + strconv.Itoa(to)
}
