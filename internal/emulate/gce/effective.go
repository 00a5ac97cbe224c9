package gce

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/protobuf/proto"
)

// effective is a policy in the answer to one of the three effective-firewall calls, which differ in their message types
// only.
type effective struct {
	kind     string // HIERARCHY, SYSTEM_REGIONAL, NETWORK or NETWORK_REGIONAL
	priority *int32 // of the association; hierarchical policies have none
	policy   Policy
	rules    []*computepb.FirewallPolicyRule
}

// effectivePolicies returns what applies to a network: hierarchical policies in evaluation order, then the others as the
// scene lists them, the regional ones only for a region.
func (p *Project) effectivePolicies(network, region string) []effective {
	var out []effective
	add := func(kind string, policies []Policy) {
		for _, pol := range policies {
			regional := pol.Region != ""
			switch {
			case kind == "NETWORK" && regional:
				if pol.Region != region {
					continue
				}
			case kind == "SYSTEM_REGIONAL" && (region == "" || pol.Region != "" && pol.Region != region):
				continue
			}
			if pol.Network != "" && p.network(pol.Network) != network {
				continue
			}
			e := effective{kind: kind, policy: pol, rules: p.ruleMessages(pol)}
			if kind == "NETWORK" && regional {
				e.kind = "NETWORK_REGIONAL"
			}
			if kind != "HIERARCHY" {
				e.priority = proto.Int32(1000)
				if pol.AssociationPriority != nil {
					e.priority = proto.Int32(*pol.AssociationPriority)
				}
			}
			out = append(out, e)
		}
	}
	add("HIERARCHY", p.HierarchicalPolicies)
	add("SYSTEM_REGIONAL", p.SystemRegionalPolicies)
	add("NETWORK", p.NetworkPolicies)
	return out
}

// ruleMessages returns the rules of a policy with the four that every policy ends with.
func (p *Project) ruleMessages(pol Policy) []*computepb.FirewallPolicyRule {
	rules := make([]*computepb.FirewallPolicyRule, 0, len(pol.Rules)+4)
	for _, r := range pol.Rules {
		rules = append(rules, p.ruleMessage(r))
	}
	for i, end := range []struct{ direction, ips string }{
		{"EGRESS", "::/0"}, {"INGRESS", "::/0"}, {"EGRESS", "0.0.0.0/0"}, {"INGRESS", "0.0.0.0/0"},
	} {
		match := &computepb.FirewallPolicyRuleMatcher{
			Layer4Configs: []*computepb.FirewallPolicyRuleMatcherLayer4Config{{IpProtocol: proto.String("all")}},
		}
		if end.direction == "INGRESS" {
			match.SrcIpRanges = []string{end.ips}
		} else {
			match.DestIpRanges = []string{end.ips}
		}
		rules = append(rules, &computepb.FirewallPolicyRule{
			Kind: proto.String("compute#firewallPolicyRule"), Priority: proto.Int32(2147483644 + int32(i)),
			Action: proto.String("goto_next"), Direction: proto.String(end.direction), Disabled: proto.Bool(false),
			Match: match, EnableLogging: proto.Bool(false),
		})
	}
	return rules
}

func (p *Project) ruleMessage(r PolicyRule) *computepb.FirewallPolicyRule {
	m := &computepb.FirewallPolicyRule{
		Kind: proto.String("compute#firewallPolicyRule"), Priority: proto.Int32(r.Priority), Action: proto.String(r.Action),
		Direction: proto.String("INGRESS"), Disabled: proto.Bool(r.Disabled), Description: str(r.Description),
		TargetType: str(r.TargetType), TargetServiceAccounts: r.TargetServiceAccounts,
		TargetSecureTags: secureTags(r.TargetSecureTags), SecurityProfileGroup: str(r.SecurityProfileGroup),
		EnableLogging: proto.Bool(r.EnableLogging), RuleName: str(r.RuleName),
		Match: &computepb.FirewallPolicyRuleMatcher{
			SrcIpRanges: r.Match.SrcIPRanges, SrcFqdns: r.Match.SrcFQDNs, SrcRegionCodes: r.Match.SrcRegionCodes,
			SrcThreatIntelligences: r.Match.SrcThreatIntelligences, SrcSecureTags: secureTags(r.Match.SrcSecureTags),
			SrcNetworkContext: str(r.Match.SrcNetworkContext), SrcNetworkType: str(r.Match.SrcNetworkType),
			DestIpRanges: r.Match.DestIPRanges, DestFqdns: r.Match.DestFQDNs, DestRegionCodes: r.Match.DestRegionCodes,
			DestThreatIntelligences: r.Match.DestThreatIntelligences,
		},
	}
	if r.Direction != "" {
		m.Direction = proto.String(r.Direction)
	}
	for _, n := range r.TargetResources {
		m.TargetResources = append(m.TargetResources, linkPrefix+p.network(n))
	}
	for _, l4 := range r.Match.Layer4Configs {
		m.Match.Layer4Configs = append(m.Match.Layer4Configs, &computepb.FirewallPolicyRuleMatcherLayer4Config{
			IpProtocol: str(l4.IPProtocol), Ports: l4.Ports,
		})
	}
	for _, n := range r.Match.SrcNetworks {
		m.Match.SrcNetworks = append(m.Match.SrcNetworks, linkPrefix+p.network(n))
	}
	for _, g := range r.Match.SrcAddressGroups {
		m.Match.SrcAddressGroups = append(m.Match.SrcAddressGroups, p.addressGroup(g))
	}
	for _, g := range r.Match.DestAddressGroups {
		m.Match.DestAddressGroups = append(m.Match.DestAddressGroups, p.addressGroup(g))
	}
	return m
}

// addressGroup returns the name of an address group as a rule holds it.
func (p *Project) addressGroup(name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	return "projects/" + p.ID + "/locations/global/addressGroups/" + name
}

func secureTags(tags []SecureTag) []*computepb.FirewallPolicyRuleSecureTag {
	var out []*computepb.FirewallPolicyRuleSecureTag
	for _, t := range tags {
		state := t.State
		if state == "" {
			state = "EFFECTIVE"
		}
		out = append(out, &computepb.FirewallPolicyRuleSecureTag{Name: proto.String(t.Name), State: proto.String(state)})
	}
	return out
}

// firewallsOf returns the VPC firewall rules of a network, in the scene's order.
func (p *Project) firewallsOf(network string) []*computepb.Firewall {
	var out []*computepb.Firewall
	for _, f := range p.Firewalls {
		if p.network(f.Network) == network {
			out = append(out, p.firewallMessage(f))
		}
	}
	return out
}

// displayName is what the effective-firewall calls give as display and short name: hierarchical policies have one besides
// their number.
func (e effective) displayName() *string {
	if e.policy.ShortName != "" {
		return &e.policy.ShortName
	}
	return &e.policy.Name
}

// getPolicy answers with a network firewall policy of the project, global or of a region, and its association.
func getPolicy(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	for _, pol := range p.NetworkPolicies {
		if pol.Name != c.vars["policy"] || pol.Region != c.vars["region"] {
			continue
		}
		link := p.link(where("", pol.Region) + "/firewallPolicies/" + pol.Name)
		m := &computepb.FirewallPolicy{
			Kind: proto.String("compute#firewallPolicy"), Id: proto.Uint64(number(link)), Name: proto.String(pol.Name),
			SelfLink: proto.String(link), Rules: p.ruleMessages(pol), Fingerprint: proto.String("BPHf-8c4DWQ="),
		}
		if pol.Region != "" {
			m.Region = proto.String(p.link("regions/" + pol.Region))
		}
		if pol.Network != "" {
			a := &computepb.FirewallPolicyAssociation{
				Name: proto.String(cmp.Or(pol.AssociationName, pol.Name)), AttachmentTarget: proto.String(linkPrefix + p.network(pol.Network)),
				FirewallPolicyId: proto.String(strconv.FormatUint(number(link), 10)),
			}
			m.Associations = []*computepb.FirewallPolicyAssociation{a}
		}
		c.answer(m)
		return
	}
	c.notFound("projects/" + p.ID + "/" + where("", c.vars["region"]) + "/firewallPolicies/" + c.vars["policy"])
}

func networkFirewalls(c *call) {
	p, n, ok := c.network()
	if !ok {
		return
	}
	path := p.network(n.Name)
	m := &computepb.NetworksGetEffectiveFirewallsResponse{Firewalls: p.firewallsOf(path)}
	for _, e := range p.effectivePolicies(path, "") {
		m.FirewallPolicys = append(m.FirewallPolicys, &computepb.NetworksGetEffectiveFirewallsResponseEffectiveFirewallPolicy{
			Name: proto.String(e.policy.Name), DisplayName: e.displayName(), ShortName: e.displayName(),
			Type: proto.String(e.kind), Priority: e.priority, Rules: e.rules,
		})
	}
	c.answer(m)
}

func regionFirewalls(c *call) {
	network := c.r.URL.Query().Get("network")
	if i := strings.Index(network, "projects/"); i >= 0 {
		network = network[i:]
	}
	parts := strings.Split(network, "/")
	c.vars["network"] = parts[len(parts)-1]
	if network == "" {
		computeError(c.w, http.StatusBadRequest, "required", "Required field 'network' not specified")
		return
	}
	p, n, ok := c.network()
	if !ok {
		return
	}
	path := p.network(n.Name)
	m := &computepb.RegionNetworkFirewallPoliciesGetEffectiveFirewallsResponse{Firewalls: p.firewallsOf(path)}
	for _, e := range p.effectivePolicies(path, c.vars["region"]) {
		m.FirewallPolicys = append(m.FirewallPolicys,
			&computepb.RegionNetworkFirewallPoliciesGetEffectiveFirewallsResponseEffectiveFirewallPolicy{
				Name: proto.String(e.policy.Name), DisplayName: e.displayName(), Type: proto.String(e.kind),
				Priority: e.priority, Rules: e.rules,
			})
	}
	c.answer(m)
}

// instanceFirewalls answers for one interface: rules whose target service accounts or secure tags are not those of the
// instance are left out, as Google documents.
func instanceFirewalls(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	vm, ok := p.instance(c.vars["instance"])
	if !ok || vm.Zone != c.vars["zone"] {
		c.notFound("projects/" + p.ID + "/zones/" + c.vars["zone"] + "/instances/" + c.vars["instance"])
		return
	}
	asked := c.r.URL.Query().Get("networkInterface")
	at := -1
	for i, nic := range vm.NetworkInterfaces {
		if nic.Name == asked || nic.Name == "" && asked == "nic"+strconv.Itoa(i) {
			at = i
		}
	}
	if at < 0 {
		computeError(c.w, http.StatusBadRequest, "invalid", "Invalid value for field 'networkInterface': '"+asked+"'.")
		return
	}
	path := p.network(vm.NetworkInterfaces[at].Network)
	owner := p
	if host, ok := c.world.find(project("/" + path)); ok {
		owner = host
	}
	m := &computepb.InstancesGetEffectiveFirewallsResponse{Firewalls: owner.firewallsOf(path)}
	for _, e := range owner.effectivePolicies(path, vm.Region) {
		rules := slices.DeleteFunc(e.rules, func(r *computepb.FirewallPolicyRule) bool { return !targets(r, vm) })
		m.FirewallPolicys = append(m.FirewallPolicys, &computepb.InstancesGetEffectiveFirewallsResponseEffectiveFirewallPolicy{
			Name: proto.String(e.policy.Name), DisplayName: e.displayName(), ShortName: e.displayName(),
			Type: proto.String(e.kind), Priority: e.priority, Rules: rules,
		})
	}
	c.answer(m)
}

// targets says whether the target service accounts and secure tags of a policy rule include an instance.
func targets(r *computepb.FirewallPolicyRule, vm Instance) bool {
	account := len(r.GetTargetServiceAccounts()) == 0
	for _, email := range r.GetTargetServiceAccounts() {
		account = account || slices.Contains(vm.ServiceAccounts, email)
	}
	tag := len(r.GetTargetSecureTags()) == 0
	for _, t := range r.GetTargetSecureTags() {
		tag = tag || t.GetState() == "EFFECTIVE" && slices.Contains(vm.SecureTags, t.GetName())
	}
	return account && tag
}
