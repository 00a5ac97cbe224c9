package gce

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxRanges is how many ranges a rule may have
// (https://cloud.google.com/firewall/docs/quotas#limits).
const maxRanges = 5000

// lastPriority is the greatest priority of a rule of a policy that is not one of the four that every policy ends with.
const lastPriority = 2147483547

// resourceName is what Compute Engine takes for a name (RFC 1035).
var resourceName = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)

// body reads a message from the request, on top of was where the request is a JSON merge patch, in which arrays are
// replaced as a whole (https://cloud.google.com/compute/docs/api/how-tos/performance#patch).
func (c *call) body(into, was proto.Message) *failure {
	text, err := io.ReadAll(io.LimitReader(c.r.Body, 1<<20))
	var doc map[string]any
	if err == nil {
		err = json.Unmarshal(text, &doc)
	}
	if err == nil && was != nil {
		var have map[string]any
		text, err = protojson.Marshal(was)
		if err == nil {
			err = json.Unmarshal(text, &have)
		}
		if err == nil {
			text, err = json.Marshal(merge(have, doc))
		}
	}
	if err == nil {
		err = protojson.Unmarshal(text, into)
	}
	if err != nil {
		return &failure{http.StatusBadRequest, "parseError", "Parse Error: " + err.Error()}
	}
	return nil
}

// merge applies a JSON merge patch (RFC 7396).
func merge(have, patch map[string]any) map[string]any {
	if have == nil {
		have = map[string]any{}
	}
	for name, value := range patch {
		sub, ok := value.(map[string]any)
		switch {
		case value == nil:
			delete(have, name)
		case ok:
			was, _ := have[name].(map[string]any)
			have[name] = merge(was, sub)
		default:
			have[name] = value
		}
	}
	return have
}

// kept says which field of a request the world would lose, if any: a scene does not hold everything that the API takes.
func kept(request, stored proto.Message) *failure {
	var lost string
	have := stored.ProtoReflect()
	request.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch f.JSONName() {
		case "id", "kind", "selfLink", "creationTimestamp", "network", "ruleTupleCount":
			return true
		}
		if f.Message() != nil && !f.IsList() && !f.IsMap() {
			if missing := kept(v.Message().Interface(), have.Get(f).Message().Interface()); missing != nil {
				lost = f.JSONName() + "." + missing.message
			}
		} else if !have.Get(f).Equal(v) {
			lost = f.JSONName()
		}
		return lost == ""
	})
	if lost == "" {
		return nil
	}
	return &failure{http.StatusNotImplemented, "notImplemented", lost}
}

func insertFirewall(c *call) {
	p, ok := c.project()
	if !ok {
		return
	}
	m := &computepb.Firewall{}
	if wrong := c.body(m, nil); wrong != nil {
		computeError(c.w, wrong.code, wrong.reason, wrong.message)
		return
	}
	c.operate("insert", "projects/"+p.ID+"/global/firewalls/"+m.GetName(), "projects/"+p.ID+"/global", func() (func(), *failure, *failure) {
		f, wrong := p.firewall(m)
		if wrong != nil {
			return nil, nil, wrong
		}
		if p.firewallNamed(f.Name) >= 0 {
			return nil, nil, &failure{http.StatusConflict, "alreadyExists", "The resource 'projects/" + p.ID + "/global/firewalls/" + f.Name + "' already exists"}
		}
		if p.FirewallQuota > 0 && len(p.Firewalls) >= p.FirewallQuota {
			message := fmt.Sprintf("Quota 'FIREWALLS' exceeded.  Limit: %d.0 globally.", p.FirewallQuota)
			if c.world.Settle > 0 {
				return nil, &failure{http.StatusForbidden, "QUOTA_EXCEEDED", message}, nil
			}
			return nil, nil, &failure{http.StatusForbidden, "quotaExceeded", message}
		}
		return func() { p.Firewalls = append(p.Firewalls, f) }, nil, nil
	})
}

func (p *Project) firewallNamed(name string) int {
	return slices.IndexFunc(p.Firewalls, func(f Firewall) bool { return f.Name == name })
}

// changeFirewall answers a patch or an update, which resets what it does not name.
func changeFirewall(c *call) {
	p, at, ok := c.firewall()
	if !ok {
		return
	}
	m := &computepb.Firewall{}
	var was proto.Message
	if c.r.Method == http.MethodPatch {
		was = p.firewallMessage(p.Firewalls[at])
	}
	if wrong := c.body(m, was); wrong != nil {
		computeError(c.w, wrong.code, wrong.reason, wrong.message)
		return
	}
	c.operate(strings.ToLower(c.r.Method), c.apiPath(), "projects/"+p.ID+"/global", func() (func(), *failure, *failure) {
		f, wrong := p.firewall(m)
		if wrong == nil && (f.Name != p.Firewalls[at].Name || p.network(f.Network) != p.network(p.Firewalls[at].Network)) {
			wrong = invalid("Invalid value for field 'resource': the name and the network of a firewall cannot be changed")
		}
		return func() {
			if at := p.firewallNamed(f.Name); at >= 0 {
				p.Firewalls[at] = f
			}
		}, nil, wrong
	})
}

func deleteFirewall(c *call) {
	p, at, ok := c.firewall()
	if !ok {
		return
	}
	name := p.Firewalls[at].Name
	c.operate("delete", c.apiPath(), "projects/"+p.ID+"/global", func() (func(), *failure, *failure) {
		return func() {
			p.Firewalls = slices.DeleteFunc(slices.Clone(p.Firewalls), func(f Firewall) bool { return f.Name == name })
		}, nil, nil
	})
}

// firewall returns the firewall rule that the request names, or answers that there is none.
func (c *call) firewall() (*Project, int, bool) {
	p, ok := c.project()
	if !ok {
		return nil, 0, false
	}
	at := p.firewallNamed(c.vars["firewall"])
	if at < 0 {
		c.notFound(c.apiPath())
	}
	return p, at, at >= 0
}

// firewall reads a firewall rule as the API takes it, and says what is wrong with it.
func (p *Project) firewall(m *computepb.Firewall) (Firewall, *failure) {
	network := strings.TrimPrefix(m.GetNetwork(), linkPrefix)
	network = strings.TrimPrefix(network, "projects/"+p.ID+"/global/networks/")
	priority := int32(1000)
	if m.Priority != nil {
		priority = m.GetPriority()
	}
	f := Firewall{
		Name: m.GetName(), Network: network, Description: m.GetDescription(), Direction: m.GetDirection(), Priority: &priority,
		Disabled: m.GetDisabled(), SourceRanges: m.GetSourceRanges(), DestinationRanges: m.GetDestinationRanges(),
		SourceTags: m.GetSourceTags(), SourceServiceAccounts: m.GetSourceServiceAccounts(), TargetTags: m.GetTargetTags(),
		TargetServiceAccounts: m.GetTargetServiceAccounts(),
		LogConfig:             LogConfig{Enable: m.GetLogConfig().GetEnable(), Metadata: m.GetLogConfig().GetMetadata()},
	}
	for _, a := range m.GetAllowed() {
		f.Allowed = append(f.Allowed, Protocol{a.GetIPProtocol(), a.GetPorts()})
	}
	for _, d := range m.GetDenied() {
		f.Denied = append(f.Denied, Protocol{d.GetIPProtocol(), d.GetPorts()})
	}
	if f.Direction != "EGRESS" && len(f.SourceRanges)+len(f.SourceTags)+len(f.SourceServiceAccounts) == 0 {
		f.SourceRanges = []string{"0.0.0.0/0"}
	}
	switch {
	case !resourceName.MatchString(f.Name):
		return f, invalid("Invalid value for field 'resource.name': '%s'. Must be a match of regex '%s'", f.Name, resourceName)
	case !slices.ContainsFunc(p.Networks, func(n Network) bool { return p.network(n.Name) == p.network(network) }):
		return f, &failure{http.StatusNotFound, "notFound", "The resource '" + p.network(network) + "' was not found"}
	case (len(f.Allowed) == 0) == (len(f.Denied) == 0):
		return f, invalid("Invalid value for field 'resource': exactly one of allowed and denied must be specified")
	case priority < 0 || priority > 65535:
		return f, invalid("Invalid value for field 'resource.priority': '%d'. Must be between 0 and 65535.", priority)
	case len(f.TargetTags) > 0 && len(f.TargetServiceAccounts)+len(f.SourceServiceAccounts) > 0:
		return f, invalid("Invalid value for field 'resource': tags and service accounts cannot be used together")
	case len(m.GetDescription()) > 2048:
		return f, invalid("Invalid value for field 'resource.description': it is too long")
	}
	if wrong := wrongRanges(f.SourceRanges, f.DestinationRanges); wrong != nil {
		return f, wrong
	}
	for _, protocol := range slices.Concat(f.Allowed, f.Denied) {
		if wrong := wrongPorts(protocol.IPProtocol, protocol.Ports); wrong != nil {
			return f, wrong
		}
	}
	return f, kept(m, p.firewallMessage(f))
}

// wrongRanges says what is wrong with ranges: each list is IPv4 or IPv6, and not both.
func wrongRanges(lists ...[]string) *failure {
	for _, ranges := range lists {
		if len(ranges) > maxRanges {
			return invalid("Invalid value for field 'resource': %d ranges of at most %d", len(ranges), maxRanges)
		}
		for i, text := range ranges {
			prefix, err := netip.ParsePrefix(text)
			if err != nil || prefix.Masked() != prefix {
				return invalid("Invalid value for field 'resource': '%s' is not an address range", text)
			}
			if first, err := netip.ParsePrefix(ranges[0]); i > 0 && err == nil && first.Addr().Is4() != prefix.Addr().Is4() {
				return invalid("Invalid value for field 'resource': IPv4 and IPv6 ranges in one rule")
			}
		}
	}
	return nil
}

// wrongPorts says what is wrong with the ports of a protocol.
func wrongPorts(protocol string, ports []string) *failure {
	if protocol == "" || len(ports) > 0 && !slices.Contains([]string{"tcp", "udp", "sctp", "6", "17", "132"}, protocol) {
		return invalid("Invalid value for field 'resource': ports of protocol '%s'", protocol)
	}
	for _, text := range ports {
		first, last, ranged := strings.Cut(text, "-")
		if !ranged {
			last = first
		}
		a, err1 := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || a > b {
			return invalid("Invalid value for field 'resource': '%s' is not a port or a range of ports", text)
		}
	}
	return nil
}

// changeRule answers addRule, patchRule and removeRule of a firewall policy.
func changeRule(c *call) {
	var holders []*Project
	target := "locations/global/firewallPolicies/" + c.vars["policy"]
	scope := "locations/global"
	policies := func(p *Project) []Policy { return p.HierarchicalPolicies }
	if c.vars["project"] == "" {
		for i := range c.world.Projects { // the same policy for all of them
			holders = append(holders, &c.world.Projects[i])
		}
	} else {
		p, ok := c.project()
		if !ok {
			return
		}
		holders, policies = []*Project{p}, func(p *Project) []Policy { return p.NetworkPolicies }
		scope = "projects/" + p.ID + "/" + where("", c.vars["region"])
		target = scope + "/firewallPolicies/" + c.vars["policy"]
	}
	find := func() (found []*Policy, owner *Project) {
		for _, p := range holders {
			for i, all := 0, policies(p); i < len(all); i++ {
				if pol := &all[i]; pol.Name == c.vars["policy"] && (c.vars["project"] == "" || pol.Region == c.vars["region"]) {
					found, owner = append(found, pol), p
				}
			}
		}
		return found, owner
	}
	found, owner := find()
	if len(found) == 0 {
		c.notFound(target)
		return
	}
	verb := c.apiPath()[strings.LastIndexByte(c.apiPath(), '/')+1:]
	at := -1
	if verb != "addRule" {
		priority, err := strconv.ParseInt(c.r.URL.Query().Get("priority"), 10, 32)
		at = slices.IndexFunc(found[0].Rules, func(r PolicyRule) bool { return int64(r.Priority) == priority })
		if err != nil || at < 0 {
			computeError(c.w, http.StatusBadRequest, "invalid", "Invalid value for field 'priority': the policy has no such rule")
			return
		}
	}
	m := &computepb.FirewallPolicyRule{}
	if verb != "removeRule" {
		var was proto.Message
		if verb == "patchRule" {
			was = owner.ruleMessage(found[0].Rules[at])
		}
		if wrong := c.body(m, was); wrong != nil {
			computeError(c.w, wrong.code, wrong.reason, wrong.message)
			return
		}
	}
	c.operate(verb, target, scope, func() (func(), *failure, *failure) {
		if verb == "removeRule" {
			priority := found[0].Rules[at].Priority
			return func() {
				all, _ := find()
				for _, pol := range all {
					pol.Rules = slices.DeleteFunc(slices.Clone(pol.Rules), func(r PolicyRule) bool { return r.Priority == priority })
				}
			}, nil, nil
		}
		rule, wrong := owner.policyRule(m)
		same := slices.IndexFunc(found[0].Rules, func(r PolicyRule) bool { return r.Priority == rule.Priority })
		if wrong == nil && same >= 0 && same != at {
			wrong = invalid("Invalid value for field 'resource.priority': '%d'. The policy has a rule of this priority.", rule.Priority)
		}
		return func() {
			all, _ := find()
			for _, pol := range all {
				pol.Rules = slices.DeleteFunc(slices.Clone(pol.Rules), func(r PolicyRule) bool { return r.Priority == rule.Priority })
				pol.Rules = append(pol.Rules, rule)
				slices.SortFunc(pol.Rules, func(a, b PolicyRule) int { return int(a.Priority) - int(b.Priority) })
			}
		}, nil, wrong
	})
}

// policyRule reads a rule of a policy as the API takes it, and says what is wrong with it.
func (p *Project) policyRule(m *computepb.FirewallPolicyRule) (PolicyRule, *failure) {
	tags := func(in []*computepb.FirewallPolicyRuleSecureTag) []SecureTag {
		var out []SecureTag
		for _, t := range in {
			out = append(out, SecureTag{Name: t.GetName(), State: t.GetState()})
		}
		return out
	}
	networks := func(links []string) []string {
		var out []string
		for _, l := range links {
			out = append(out, strings.TrimPrefix(l, linkPrefix))
		}
		return out
	}
	match := m.GetMatch()
	r := PolicyRule{
		Priority: m.GetPriority(), Action: m.GetAction(), Direction: m.GetDirection(), Disabled: m.GetDisabled(),
		Description: m.GetDescription(), RuleName: m.GetRuleName(), EnableLogging: m.GetEnableLogging(), TargetType: m.GetTargetType(),
		TargetResources: networks(m.GetTargetResources()), TargetServiceAccounts: m.GetTargetServiceAccounts(),
		TargetSecureTags: tags(m.GetTargetSecureTags()), SecurityProfileGroup: m.GetSecurityProfileGroup(),
		Match: Match{
			SrcIPRanges: match.GetSrcIpRanges(), SrcAddressGroups: match.GetSrcAddressGroups(), SrcFQDNs: match.GetSrcFqdns(),
			SrcRegionCodes: match.GetSrcRegionCodes(), SrcThreatIntelligences: match.GetSrcThreatIntelligences(),
			SrcSecureTags: tags(match.GetSrcSecureTags()), SrcNetworkContext: match.GetSrcNetworkContext(),
			SrcNetworkType: match.GetSrcNetworkType(), SrcNetworks: networks(match.GetSrcNetworks()),
			DestIPRanges: match.GetDestIpRanges(), DestAddressGroups: match.GetDestAddressGroups(), DestFQDNs: match.GetDestFqdns(),
			DestRegionCodes: match.GetDestRegionCodes(), DestThreatIntelligences: match.GetDestThreatIntelligences(),
		},
	}
	for _, l4 := range match.GetLayer4Configs() {
		r.Match.Layer4Configs = append(r.Match.Layer4Configs, Layer4{l4.GetIpProtocol(), l4.GetPorts()})
		if wrong := wrongPorts(l4.GetIpProtocol(), l4.GetPorts()); wrong != nil {
			return r, wrong
		}
	}
	switch {
	case m.Priority == nil || r.Priority < 0 || r.Priority > lastPriority:
		return r, invalid("Invalid value for field 'resource.priority': '%d'.", r.Priority)
	case !slices.Contains([]string{"allow", "deny", "goto_next", "apply_security_profile_group"}, r.Action):
		return r, invalid("Invalid value for field 'resource.action': '%s'.", r.Action)
	case r.Direction != "INGRESS" && r.Direction != "EGRESS":
		return r, invalid("Invalid value for field 'resource.direction': '%s'.", r.Direction)
	case len(r.Match.Layer4Configs) == 0:
		return r, invalid("Invalid value for field 'resource.match.layer4Configs': it is empty")
	}
	if wrong := wrongRanges(r.Match.SrcIPRanges, r.Match.DestIPRanges); wrong != nil {
		return r, wrong
	}
	if stored := p.ruleMessage(r); len(m.GetTargetSecureTags()) == 0 {
		return r, kept(m, stored)
	}
	return r, nil // what is stored of a tag also has its state
}
