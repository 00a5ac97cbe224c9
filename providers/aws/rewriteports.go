package aws

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// rewritePorts puts the whole firewall of a Lightsail instance anew, without the asked ports, for that is one write and the
// API has no other that changes a rule. Private sources need no rule: the firewall filters what comes by the public address
// (https://docs.aws.amazon.com/lightsail/latest/userguide/understanding-firewall-and-port-mappings-in-amazon-lightsail.html).
func rewritePorts(c providers.Change) ([]providers.Way, error) {
	e := cloud.Edit{List: c.List.Ref, Old: slices.Clone(c.List.Rules)}
	for i := range c.List.Rules {
		r := &c.List.Rules[i]
		if !slices.ContainsFunc(c.Rules, func(changed cloud.Rule) bool { return changed.Ref == r.Ref }) {
			e.New = append(e.New, *r)
			continue
		}
		var n nativePort
		if err := json.Unmarshal(r.Native, &n); err != nil {
			return nil, fmt.Errorf("rule %s is not what the API documents: %w", r.Ref.ID, providers.ErrInexpressible)
		}
		for _, piece := range cutPort(c, n) {
			p := piece.port()
			ref := r.Ref
			ref.ID = fmt.Sprintf("%s#new-%d", c.List.Ref.ID, len(e.New)+1)
			rule := p.rule(ref)
			if !slices.ContainsFunc(e.New, func(have cloud.Rule) bool { return have.Is(&rule) }) {
				e.New = append(e.New, rule)
			}
		}
	}
	var b netipx.IPSetBuilder
	b.AddSet(traffic.All().Sources())
	b.RemoveSet(traffic.Internet())
	from, to, _ := allServices()
	return []providers.Way{{
		Name: "putting the ports anew", Edits: []cloud.Edit{e},
		Trifle: traffic.Of(set(&b), from, to), Why: "sources that are not on the internet, whose packets the firewall of an instance never sees",
	}}, nil
}

// cutPort returns what has to stay of n: the ports around the asked ones, with all sources and aliases, and the asked ones
// from sources that are kept by name.
func cutPort(c providers.Change, n nativePort) []nativePort {
	source := traffic.IPs(n.port().sources...)
	var out []nativePort
	cut := func(proto traffic.Proto, low, high uint16) {
		from, to := proto.Ports(low, high)
		next := from
		piece := func(first, last traffic.Service) {
			if first <= last {
				v := n
				v.Protocol, v.FromPort, v.ToPort = proto.String(), int32(first.Port()), int32(last.Port())
				out = append(out, v)
			}
		}
		c.Drop.Intersect(traffic.Of(source, from, to)).Each(func(_ *netipx.IPSet, first, last traffic.Service) bool {
			piece(next, first-1)
			next = last + 1
			c.Keep.Intersect(traffic.Of(traffic.IntersectIPs(source, traffic.Internet()), first, last)).Each(func(kept *netipx.IPSet, first, last traffic.Service) bool {
				v := nativePort{Protocol: proto.String(), FromPort: int32(first.Port()), ToPort: int32(last.Port())}
				for _, p := range kept.Prefixes() {
					if p.Addr().Is4() {
						v.Cidrs = append(v.Cidrs, p.String())
					} else {
						v.IPv6Cidrs = append(v.IPv6Cidrs, p.String())
					}
				}
				out = append(out, v)
				return true
			})
			return true
		})
		if next <= to {
			piece(next, to)
		}
	}
	low, high := uint16(max(n.FromPort, 0)), uint16(min(max(n.ToPort, 0), 65535))
	switch strings.ToLower(n.Protocol) {
	case "udp":
		cut(traffic.UDP, low, high)
	case "all":
		cut(traffic.TCP, low, high)
		cut(traffic.UDP, low, high)
		if low == 0 && high == 65535 {
			for _, name := range []string{"icmp", "icmpv6"} {
				v := n
				v.Protocol, v.FromPort, v.ToPort = name, -1, -1
				// Each has a family, and a rule without sources would be one from anywhere.
				if name == "icmp" {
					v.IPv6Cidrs = nil
				} else {
					v.Cidrs, v.CidrListAliases = nil, nil
				}
				if len(v.Cidrs)+len(v.IPv6Cidrs)+len(v.CidrListAliases) > 0 {
					out = append(out, v)
				}
			}
		}
	default:
		cut(traffic.TCP, low, high)
	}
	return out
}

// Commands returns e as commands of the AWS command line
// (https://docs.aws.amazon.com/cli/latest/reference/ec2/authorize-security-group-ingress.html and its neighbours).
func (p *Provider) Commands(e cloud.Edit) ([][]string, error) {
	region := scopeOf(e.List).Region
	if e.List.Kind == "lightsail-firewall" {
		return [][]string{{"aws", "lightsail", "put-instance-public-ports", "--region", region, "--instance-name", e.List.ID, "--port-infos", jsonOf(natives(e.New))}}, nil
	}
	command := func(name string, more ...string) []string {
		return append([]string{"aws", "ec2", name, "--region", region, "--group-id", e.List.ID}, more...)
	}
	w, err := writeOf(&e)
	if err != nil {
		return nil, err
	}
	switch {
	case w.authorize != nil:
		out := command("authorize-security-group-ingress", "--ip-permissions", jsonOf(permissionsOf(w.authorize)))
		if tags := w.authorize[0].Tags; len(tags) > 0 {
			list := []map[string]string{}
			for _, key := range sorted(tags) {
				list = append(list, map[string]string{"Key": key, "Value": tags[key]})
			}
			out = append(out, "--tag-specifications", jsonOf([]any{map[string]any{"ResourceType": "security-group-rule", "Tags": list}}))
		}
		return [][]string{out}, nil
	case w.modify != nil:
		return [][]string{command("modify-security-group-rules", "--security-group-rules", jsonOf([]any{map[string]any{
			"SecurityGroupRuleId": w.ids[0], "SecurityGroupRule": requestOf(w.modify),
		}}))}, nil
	}
	return [][]string{command("revoke-security-group-ingress", append([]string{"--security-group-rule-ids"}, w.ids...)...)}, nil
}

// requestOf returns v as the command line takes a rule's new content.
func requestOf(v *nativeRule) map[string]any {
	out := map[string]any{"IpProtocol": v.IPProtocol, "Description": v.Description}
	from, to := v.ports()
	out["FromPort"], out["ToPort"] = from, to
	if v.CidrIPv6 != "" {
		out["CidrIpv6"] = v.CidrIPv6
	} else {
		out["CidrIpv4"] = v.CidrIPv4
	}
	return out
}

// permissionsOf returns rules as the command line takes them.
func permissionsOf(rules []nativeRule) []map[string]any {
	var out []map[string]any
	for i := range rules {
		v := &rules[i]
		from, to := v.ports()
		source, kind := map[string]any{"CidrIp": v.CidrIPv4}, "IpRanges"
		if v.CidrIPv6 != "" {
			source, kind = map[string]any{"CidrIpv6": v.CidrIPv6}, "Ipv6Ranges"
		}
		if v.Description != "" {
			source["Description"] = v.Description
		}
		out = append(out, map[string]any{"IpProtocol": v.IPProtocol, "FromPort": from, "ToPort": to, kind: []any{source}})
	}
	return out
}

// jsonOf returns v as JSON on one line.
func jsonOf(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("aws: " + strconv.Quote(err.Error())) // it is made of strings and numbers
	}
	return string(text)
}

// natives returns what is written of rules.
func natives(rules []cloud.Rule) []json.RawMessage {
	out := make([]json.RawMessage, len(rules))
	for i := range rules {
		out[i] = rules[i].Native
	}
	return out
}
