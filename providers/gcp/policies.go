package gcp

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cloud.google.com/go/compute/apiv1/computepb"
	"go4.org/netipx"
	"google.golang.org/protobuf/proto"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// effectivePolicy is a policy in the answer of any of the three effective-firewall calls.
type effectivePolicy interface {
	GetName() string
	GetDisplayName() string
	GetType() string
	GetPriority() int32
	GetRules() []*computepb.FirewallPolicyRule
}

// groups resolves address groups; the bool is false for one that cannot be read.
type groups func(ctx context.Context, name string) (*netipx.IPSet, bool)

// policy translates a policy that applies to a network of project in region.
func policy(ctx context.Context, project, region string, p effectivePolicy, resolve groups) *list {
	l := &list{name: p.GetDisplayName(), order: p.GetPriority()}
	if l.name == "" {
		l.name = p.GetName()
	}
	scope := cloud.Scope{Provider: Name, Account: project}
	kind := "network-firewall-policy"
	switch p.GetType() {
	case "HIERARCHY":
		// The same policy for every project below an organization or folder, and one finding for all of them.
		l.kind, kind, scope.Account = hierarchical, "firewall-policy", "organization"
		l.owner = organization(l.name, p.GetName())
	case "SYSTEM_GLOBAL":
		l.kind, kind, l.owner = system, "system-firewall-policy", ownedByGoogle(l.name)
	case "SYSTEM_REGIONAL":
		l.kind, kind, scope.Region, l.owner = system, "system-firewall-policy", region, ownedByGoogle(l.name)
	case "NETWORK":
		l.kind = networkPolicy
	case "NETWORK_REGIONAL":
		l.kind, scope.Region = regionalPolicy, region
	default:
		l.kind, kind = unknownKind, "firewall-policy-of-unknown-type"
	}
	l.ref = scope.Ref(kind, p.GetName())
	rules := slices.Clone(p.GetRules())
	slices.SortStableFunc(rules, func(a, b *computepb.FirewallPolicyRule) int { return cmp.Compare(a.GetPriority(), b.GetPriority()) })
	for _, m := range rules {
		if r, ok := policyRule(ctx, scope, p.GetName(), m, resolve); ok {
			if l.kind == unknownKind {
				r.targets.doubt = true
			}
			l.rules = append(l.rules, r)
		}
	}
	l.finish()
	return l
}

// policyRule translates one rule of a policy; the bool is false for rules that concern no packet to an instance.
func policyRule(ctx context.Context, scope cloud.Scope, policy string, m *computepb.FirewallPolicyRule, resolve groups) (rule, bool) {
	if m.GetDisabled() || m.GetDirection() == "EGRESS" || m.GetTargetType() == "INTERNAL_MANAGED_LB" {
		return rule{}, false
	}
	match := m.GetMatch()
	tags, ignored := inEffect(m.GetTargetSecureTags())
	if ignored {
		return rule{}, false // every target tag is gone
	}
	_, gone := inEffect(match.GetSrcSecureTags())
	gone = gone && len(match.GetSrcIpRanges()) == 0
	others := len(match.GetSrcAddressGroups()) + len(match.GetSrcRegionCodes()) + len(match.GetSrcFqdns()) + len(match.GetSrcThreatIntelligences())
	if gone && others == 0 {
		return rule{}, false // likewise every source tag
	}

	id := policy + "/" + strconv.Itoa(int(m.GetPriority()))
	r := rule{Rule: cloud.Rule{
		Ref: scope.Ref("firewall-policy-rule", id), Name: m.GetRuleName(), Native: native(writtenRule(m)),
		Concerns: concerned(m.GetTargetServiceAccounts(), tags, m.GetTargetResources(), match.GetDestIpRanges(), match.GetDestAddressGroups(),
			match.GetDestFqdns(), match.GetDestRegionCodes(), match.GetDestThreatIntelligences(), defined(match.GetDestNetworkContext())),
	}}
	r.targets = targets{
		accounts: m.GetTargetServiceAccounts(), secure: tags,
		// That the rule is ignored is documented for ranges beside such tags, and not for sources of another kind.
		doubt: gone || m.GetTargetType() != "" && m.GetTargetType() != "INSTANCES",
	}
	for _, n := range m.GetTargetResources() {
		r.targets.networks = append(r.targets.networks, path(n))
	}

	var s services
	for _, l4 := range match.GetLayer4Configs() {
		s.add(l4.GetIpProtocol(), l4.GetPorts())
	}
	src := sourcesOf(ctx, match, resolve)
	doubt := src.doubt
	r.Match, r.Maybe = s.from(src.ips)
	if !r.Maybe.IsEmpty() {
		doubt = cloud.Unread
	}
	switch {
	case src.unread:
		r.Maybe = r.Maybe.Union(s.any().Subtract(r.Match))
		doubt = cloud.Unread
	case src.dynamic:
		r.Maybe = r.Maybe.Union(s.any().Subtract(r.Match))
		if doubt == "" {
			doubt = cloud.Dynamic
		}
	}
	if src.unread && src.dynamic && m.GetAction() == "allow" {
		// Some internet hosts match for certain, whatever the group holds.
		doubt = cloud.Dynamic
	}
	src.limit(&r)
	if r.context && src.unknownContext {
		r.Match, r.Maybe, doubt = traffic.Set{}, r.anyhow, cloud.Unread
	}
	readDestination(ctx, &r, match, resolve)

	verb := m.GetAction()
	switch verb {
	case "allow":
	case "deny":
		r.Verdict = cloud.Deny
	case "goto_next":
		r.Verdict = cloud.Pass
	default:
		// apply_security_profile_group: the inspection decides, and admits what it cannot inspect
		// (https://cloud.google.com/firewall/docs/about-intrusion-prevention). An action that is not known here is as much
		// of a riddle.
		r.handedOver = true
		r.Maybe, r.Match, doubt = r.Maybe.Union(r.Match), traffic.Set{}, cloud.Unread
	}
	if !r.Maybe.IsEmpty() {
		r.Doubt, r.Cause, r.Hint = doubt, undecided, src.hint
		if r.handedOver {
			r.Hint = fmt.Sprintf("rule %s hands the packets to %s: look there whether it lets them through", id, cmp.Or(m.GetSecurityProfileGroup(), verb))
		}
	}
	r.Text = fmt.Sprintf("%d %s %s from %s%s", m.GetPriority(), verb, s.text(), sourceText(src.names),
		targetText(m.GetTargetServiceAccounts(), tags, prefixed("network ", baseNames(m.GetTargetResources()))))
	return r, true
}

// writtenRule returns what has to be written to make m again.
func writtenRule(m *computepb.FirewallPolicyRule) *computepb.FirewallPolicyRule {
	m = proto.CloneOf(m)
	m.Kind, m.RuleTupleCount = nil, nil
	if m.GetDescription() == "" {
		m.Description = nil
	}
	return m
}

// defined returns the words that are not empty.
func defined(words ...string) []string {
	return slices.DeleteFunc(words, func(w string) bool { return w == "" })
}

// inEffect returns the names of the secure tags that are in effect; gone says that there are tags, and none is.
func inEffect(tags []*computepb.FirewallPolicyRuleSecureTag) (names []string, gone bool) {
	for _, t := range tags {
		if t.GetState() != "INEFFECTIVE" {
			names = append(names, t.GetName())
		}
	}
	return names, len(tags) > 0 && len(names) == 0
}

// policySources are the sources of a policy rule.
type policySources struct {
	ips            *netipx.IPSet
	unread         bool // further addresses, in a group that cannot be read
	dynamic        bool // further addresses that only Google knows
	doubt          cloud.Doubt
	hint           string
	names          []string
	context        string
	unknownContext bool
}

// sourcesOf reads the sources of a rule. Ranges, address groups, regions, names, threat lists and secure tags are
// alternatives; the network context has to match as well
// (https://cloud.google.com/firewall/docs/firewall-policies-rule-details).
func sourcesOf(ctx context.Context, m *computepb.FirewallPolicyRuleMatcher, resolve groups) policySources {
	s := policySources{context: m.GetSrcNetworkContext()}
	if s.context == "" {
		s.context = m.GetSrcNetworkType() // its older name
	}
	if s.context == "UNSPECIFIED" {
		s.context = ""
	}
	var ok bool
	ranges := m.GetSrcIpRanges()
	if s.ips, ok = addresses(ranges); !ok {
		s.unread, s.hint = true, "a source range is not understood: look at the rule"
	}
	for _, g := range m.GetSrcAddressGroups() {
		ips, ok := resolve(ctx, g)
		if !ok {
			s.unread = true
			s.hint = "grant networksecurity.addressGroups.get for " + groupName(g)
			continue
		}
		s.ips = traffic.UnionIPs(s.ips, ips)
	}
	others := slices.Concat(
		prefixed("region ", m.GetSrcRegionCodes()), prefixed("", m.GetSrcFqdns()), prefixed("list ", m.GetSrcThreatIntelligences()))
	if s.dynamic = len(others) > 0; s.dynamic && s.hint == "" {
		s.hint = "only Google knows which addresses " + sourceText(others) + " stands for"
	}
	var tagged []string
	for _, t := range m.GetSrcSecureTags() {
		tagged = append(tagged, "tag "+t.GetName()) // tags are on instances, not on hosts of the internet
	}
	s.names = slices.Concat(ranges, prefixed("group ", baseNames(m.GetSrcAddressGroups())), others, tagged,
		prefixed("network ", baseNames(m.GetSrcNetworks())))
	if len(s.names) == 0 {
		s.ips, s.names = everywhere(), []string{"anywhere"}
	}
	if s.context != "" {
		s.names = append(s.names, "context "+s.context)
	}
	return s
}

// limit applies the network context to r. Whether packets are of the internet is decided by how they arrived, through an
// external address or not, whatever source they bear (https://cloud.google.com/firewall/docs/understand-network-contexts).
func (s *policySources) limit(r *rule) {
	if s.context == "" {
		return
	}
	r.context, r.anyhow = true, r.Match.Union(r.Maybe)
	internet := traffic.Of(traffic.Internet(), 0, lastService)
	switch s.context {
	case "INTERNET":
		r.Match, r.Maybe = r.Match.Intersect(internet), r.Maybe.Intersect(internet)
	case "NON_INTERNET", "INTRA_VPC", "VPC_NETWORKS":
		r.Match, r.Maybe = r.Match.Subtract(internet), r.Maybe.Subtract(internet)
	default:
		s.unknownContext = true
		s.hint = "network context " + s.context + " is not known: look at the rule"
	}
}

// readDestination reads the destinations that a rule is limited to.
func readDestination(ctx context.Context, r *rule, m *computepb.FirewallPolicyRuleMatcher, resolve groups) {
	dynamic := len(m.GetDestFqdns()) + len(m.GetDestRegionCodes()) + len(m.GetDestThreatIntelligences())
	if len(m.GetDestIpRanges())+len(m.GetDestAddressGroups())+dynamic == 0 {
		return
	}
	ips, ok := addresses(m.GetDestIpRanges())
	r.destination, r.destDoubt = ips, !ok || dynamic > 0
	for _, g := range m.GetDestAddressGroups() {
		ips, ok := resolve(ctx, g)
		if !ok {
			r.destDoubt = true
			continue
		}
		r.destination = traffic.UnionIPs(r.destination, ips)
	}
}

// groupName returns the resource name of an address group as a rule holds it, with or without the service in front.
func groupName(link string) string {
	for _, start := range []string{"projects/", "organizations/"} {
		if i := strings.Index(link, start); i >= 0 {
			return link[i:]
		}
	}
	return link
}

func baseNames(links []string) []string {
	out := make([]string, 0, len(links))
	for _, l := range links {
		out = append(out, baseName(l))
	}
	return out
}
