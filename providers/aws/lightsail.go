package aws

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lightsail"
	"github.com/aws/aws-sdk-go-v2/service/lightsail/types"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// lightsailInstance is what matters of an instance of Lightsail, which no call of EC2 shows.
type lightsailInstance struct {
	name  string
	v4    netip.Addr
	v6    []netip.Addr
	ports []lightsailPort
}

// lightsailPort is one rule of an instance's firewall, or rather of both of its firewalls: IPv4 and IPv6 are apart.
type lightsailPort struct {
	protocol string
	from, to int32
	sources  []netip.Prefix
	aliases  []string
	native   json.RawMessage
}

// nativePort is a rule of a Lightsail firewall as the API takes it.
type nativePort struct {
	Protocol        string   `json:"protocol"`
	FromPort        int32    `json:"fromPort"`
	ToPort          int32    `json:"toPort"`
	Cidrs           []string `json:"cidrs"`
	IPv6Cidrs       []string `json:"ipv6Cidrs"`
	CidrListAliases []string `json:"cidrListAliases"`
}

// port returns n with its sources read.
func (n nativePort) port() lightsailPort {
	// Lists are there, and empty, whether the API leaves them out or not.
	n.Cidrs, n.IPv6Cidrs, n.CidrListAliases = append([]string{}, n.Cidrs...), append([]string{}, n.IPv6Cidrs...), append([]string{}, n.CidrListAliases...)
	v := lightsailPort{protocol: n.Protocol, from: n.FromPort, to: n.ToPort, aliases: n.CidrListAliases}
	for _, s := range slices.Concat(n.Cidrs, n.IPv6Cidrs) {
		if !strings.Contains(s, "/") {
			if a := addr(&s); a.IsValid() {
				v.sources = append(v.sources, netip.PrefixFrom(a, a.BitLen()))
			}
			continue
		}
		if source := prefix(&s); source.IsValid() {
			v.sources = append(v.sources, source)
		}
	}
	// Plain strings and numbers always encode.
	v.native, _ = json.Marshal(n)
	return v
}

func (r *region) readLightsail(ctx context.Context) {
	if r.partition != "aws" {
		return // Lightsail is offered in that partition alone
	}
	const action = "lightsail:GetInstances"
	list := lightsail.NewFromConfig(r.config).GetInstances
	in := &lightsail.GetInstancesInput{}
	for {
		r.count(action)
		out, err := list(ctx, in)
		if absent(err) {
			return // Lightsail is not offered in this region
		}
		if err != nil {
			r.failed(action, err)
			break
		}
		for i := range out.Instances {
			r.lightsail = append(r.lightsail, lightsailOf(&out.Instances[i]))
		}
		if aws.ToString(out.NextPageToken) == "" {
			break
		}
		in.PageToken = out.NextPageToken
	}
	slices.SortFunc(r.lightsail, func(a, b lightsailInstance) int { return strings.Compare(a.name, b.name) })
}

func lightsailOf(i *types.Instance) lightsailInstance {
	out := lightsailInstance{name: aws.ToString(i.Name)}
	if i.IpAddressType != types.IpAddressTypeIpv6 {
		out.v4 = addr(i.PublicIpAddress)
	}
	if i.IpAddressType != types.IpAddressTypeIpv4 {
		for _, s := range i.Ipv6Addresses {
			if a := addr(&s); a.IsValid() {
				out.v6 = append(out.v6, a)
			}
		}
	}
	if i.Networking == nil {
		return out
	}
	for _, p := range i.Networking.Ports {
		if p.AccessDirection == types.AccessDirectionOutbound {
			continue
		}
		out.ports = append(out.ports, nativePort{
			Protocol: string(p.Protocol), FromPort: p.FromPort, ToPort: p.ToPort,
			Cidrs: p.Cidrs, IPv6Cidrs: p.Ipv6Cidrs, CidrListAliases: p.CidrListAliases,
		}.port())
	}
	// A position names a rule, so that it must not depend on the order of the answer.
	slices.SortFunc(out.ports, func(a, b lightsailPort) int {
		return cmp.Or(strings.Compare(a.protocol, b.protocol), cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to), strings.Compare(a.text(), b.text()))
	})
	return out
}

// services returns the services that the rule matches, as closed intervals. "all" is TCP and UDP in the rule's range of
// ports, and every protocol if the range is that of all ports.
func (p *lightsailPort) services() [][2]traffic.Service {
	ports := func(proto traffic.Proto) [2]traffic.Service {
		from, to := proto.Ports(uint16(max(p.from, 0)), uint16(min(max(p.to, 0), 65535)))
		return [2]traffic.Service{from, to}
	}
	whole := func(proto traffic.Proto) [2]traffic.Service {
		from, to := proto.All()
		return [2]traffic.Service{from, to}
	}
	switch strings.ToLower(p.protocol) {
	case "tcp":
		return [][2]traffic.Service{ports(traffic.TCP)}
	case "udp":
		return [][2]traffic.Service{ports(traffic.UDP)}
	case "icmp":
		return [][2]traffic.Service{whole(traffic.ICMP)}
	case "icmpv6":
		return [][2]traffic.Service{whole(traffic.ICMPv6)}
	case "all":
		if p.from <= 0 && p.to >= 65535 {
			from, to, _ := allServices()
			return [][2]traffic.Service{{from, to}}
		}
		return [][2]traffic.Service{ports(traffic.TCP), ports(traffic.UDP)}
	}
	from, to, _ := allServices()
	return [][2]traffic.Service{{from, to}}
}

// lightsail returns the firewalls of the Lightsail instances, and an endpoint for each of their public addresses.
func (b *builder) lightsail() (lists []*cloud.List, endpoints []cloud.Endpoint) {
	for i := range b.r.lightsail {
		n := &b.r.lightsail[i]
		l := &cloud.List{Ref: b.r.scope.Ref("lightsail-firewall", n.name), Name: n.name}
		for k := range n.ports {
			l.Rules = append(l.Rules, n.ports[k].rule(b.r.scope.Ref("lightsail-port", fmt.Sprintf("%s#%d", n.name, k))))
		}
		lists = append(lists, l)
		addresses := slices.Clone(n.v6)
		if n.v4.IsValid() {
			addresses = append(addresses, n.v4)
		}
		for _, a := range addresses {
			ref := b.r.scope.Ref("lightsail-instance", n.name)
			f := traffic.FamilyOf(a)
			endpoints = append(endpoints, cloud.Endpoint{
				Ref: ref, Name: n.name, Instance: n.name, Family: f, Addr: a, Public: f.Internet().Contains(a),
				Hops: []cloud.Hop{{Ref: ref, Name: "Lightsail instance " + n.name, Layers: []cloud.Layer{
					{Name: "lightsail_firewall", Kind: cloud.Firewall, Lists: []*cloud.List{l}},
				}}},
			})
		}
	}
	return lists, endpoints
}

// rule returns p as a rule.
func (p *lightsailPort) rule(ref cloud.Ref) cloud.Rule {
	v := cloud.Rule{Ref: ref, Text: p.text(), Native: p.native}
	for _, s := range p.services() {
		v.Match = v.Match.Union(traffic.Of(traffic.IPs(p.sources...), s[0], s[1]))
		if len(p.aliases) > 0 {
			v.Maybe = v.Maybe.Union(traffic.Of(traffic.V4.Internet(), s[0], s[1]))
		}
	}
	if !v.Maybe.IsEmpty() {
		v.Doubt, v.Cause = cloud.Unsized, "lightsail_alias"
		v.Hint = "the rule admits " + strings.Join(p.aliases, ", ") + ", whose addresses AWS keeps: check that the port should be open to it"
	}
	return v
}

func (p *lightsailPort) text() string {
	what := p.protocol
	if what != "icmp" && what != "icmpv6" {
		what += fmt.Sprintf(" %d", p.from)
		if p.to != p.from {
			what += fmt.Sprintf("-%d", p.to)
		}
	}
	sources := make([]string, 0, len(p.sources)+len(p.aliases))
	for _, s := range p.sources {
		sources = append(sources, s.String())
	}
	sources = append(sources, p.aliases...)
	if len(sources) == 0 {
		return what + " from nowhere"
	}
	return what + " from " + strings.Join(sources, ", ")
}
