package aws

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// group is a security group with its inbound rules.
type group struct {
	id, name, owner string
	description     string
	tags            map[string]string
	rules           []rule
	asked           bool // the rules are to be named by their ids
}

// rule is one inbound rule with one source.
type rule struct {
	id       string // "" where DescribeSecurityGroups alone was asked
	protocol string
	from, to *int32
	cidr     netip.Prefix // one of the four is set
	list     string
	group    string
	unknown  bool // a source that is none of the above

	description string
	native      json.RawMessage
}

func (r *region) readGroups(ctx context.Context) {
	in := &ec2.DescribeSecurityGroupsInput{MaxResults: aws.Int32(pageOfGroups)}
	all(ctx, r, "ec2:DescribeSecurityGroups", r.ec2.DescribeSecurityGroups, in, paging[ec2.DescribeSecurityGroupsInput, ec2.DescribeSecurityGroupsOutput]{
		set:  func(in *ec2.DescribeSecurityGroupsInput, token *string) { in.NextToken = token },
		next: func(out *ec2.DescribeSecurityGroupsOutput) *string { return out.NextToken },
	}, func(out *ec2.DescribeSecurityGroupsOutput) {
		for i := range out.SecurityGroups {
			g := &out.SecurityGroups[i]
			v := &group{
				id: aws.ToString(g.GroupId), name: aws.ToString(g.GroupName), owner: aws.ToString(g.OwnerId),
				description: aws.ToString(g.Description), tags: tagsOf(g.Tags),
			}
			for j := range g.IpPermissions {
				v.rules = append(v.rules, unfold(&g.IpPermissions[j])...)
			}
			slices.SortStableFunc(v.rules, compareRules)
			r.groups[v.id] = v
		}
	})
}

// unfold makes rules, one a source, of the permissions that DescribeSecurityGroups joins by protocol and ports.
func unfold(p *types.IpPermission) []rule {
	base := rule{protocol: aws.ToString(p.IpProtocol), from: p.FromPort, to: p.ToPort}
	var out []rule
	add := func(set func(*rule), description *string) {
		v := base
		v.description = aws.ToString(description)
		set(&v)
		out = append(out, v)
	}
	for _, s := range p.IpRanges {
		add(func(v *rule) { v.source(s.CidrIp) }, s.Description)
	}
	for _, s := range p.Ipv6Ranges {
		add(func(v *rule) { v.source(s.CidrIpv6) }, s.Description)
	}
	for _, s := range p.PrefixListIds {
		add(func(v *rule) { v.list = aws.ToString(s.PrefixListId) }, s.Description)
	}
	for _, s := range p.UserIdGroupPairs {
		add(func(v *rule) { v.group = aws.ToString(s.GroupId) }, s.Description)
	}
	return out
}

func (v *rule) source(cidr *string) {
	v.cidr = prefix(cidr)
	v.unknown = !v.cidr.IsValid()
}

// compareRules orders rules by what they match, so that a position among them is as stable as the rules themselves.
func compareRules(a, b rule) int {
	port := func(p *int32) int32 {
		if p == nil {
			return -2
		}
		return *p
	}
	return cmp.Or(
		strings.Compare(a.protocol, b.protocol), cmp.Compare(port(a.from), port(b.from)), cmp.Compare(port(a.to), port(b.to)),
		a.cidr.Addr().Compare(b.cidr.Addr()), cmp.Compare(a.cidr.Bits(), b.cidr.Bits()),
		strings.Compare(a.list, b.list), strings.Compare(a.group, b.group), strings.Compare(a.id, b.id),
	)
}

// readRuleIDs asks for the rules, by their ids, of the groups that may end up in a finding: those that hold a rule which
// admits, or may admit, some of the internet to a port that will be asked about, and those in front of the targets of
// balancers and accelerators, where any rule may do.
func (r *region) readRuleIDs(ctx context.Context) {
	asked := r.asked()
	behind := r.behindFronts()
	var ids []string
	for _, id := range sorted(r.groups) {
		g := r.groups[id]
		g.asked = (behind[id] || r.watched(id)) && len(g.rules) > 0 || slices.ContainsFunc(g.rules, func(v rule) bool {
			match, maybe, _ := r.sources(&v)
			from, to, _ := v.services()
			return !traffic.Of(traffic.UnionIPs(match, maybe), from, to).Intersect(asked).IsEmpty()
		})
		if g.asked {
			ids = append(ids, id)
		}
	}
	rules := map[string][]rule{}
	for chunk := range slices.Chunk(ids, valuesPerFilter) {
		in := &ec2.DescribeSecurityGroupRulesInput{
			MaxResults: aws.Int32(pageOfRules),
			Filters:    []types.Filter{{Name: aws.String("group-id"), Values: chunk}},
		}
		if !all(ctx, r, "ec2:DescribeSecurityGroupRules", r.ec2.DescribeSecurityGroupRules, in, paging[ec2.DescribeSecurityGroupRulesInput, ec2.DescribeSecurityGroupRulesOutput]{
			set:  func(in *ec2.DescribeSecurityGroupRulesInput, token *string) { in.NextToken = token },
			next: func(out *ec2.DescribeSecurityGroupRulesOutput) *string { return out.NextToken },
		}, func(out *ec2.DescribeSecurityGroupRulesOutput) {
			for i := range out.SecurityGroupRules {
				if v := &out.SecurityGroupRules[i]; !aws.ToBool(v.IsEgress) {
					id := aws.ToString(v.GroupId)
					rules[id] = append(rules[id], ruleOf(v))
				}
			}
		}) {
			return // the groups keep their rules, by position
		}
	}
	for _, id := range ids {
		r.groups[id].rules = rules[id]
		slices.SortFunc(rules[id], func(a, b rule) int { return strings.Compare(a.id, b.id) })
	}
}

// Watch makes Read name all rules of these groups by their ids, whatever they admit.
func (p *Provider) Watch(lists []cloud.Ref) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ref := range lists {
		p.watching[ref] = true
	}
}

// watched says whether the rules of a group are to be named by their ids, whatever they admit.
func (r *region) watched(id string) bool { return r.watching[r.scope.Ref("security-group", id)] }

// asked returns the packets that will be asked about.
func (r *region) asked() traffic.Set {
	q := cloud.Question{Ports: r.ports}
	if len(r.ports) > 0 {
		return q.Target()
	}
	var out traffic.Set
	for _, p := range []traffic.Proto{traffic.TCP, traffic.UDP} {
		from, to := p.All()
		out = out.Union(traffic.Of(traffic.Internet(), from, to))
	}
	return out
}

// nativeRule is a rule as the API has it, with all that is needed to restore it. Its id is that of the rule's Ref: a rule
// that is made again has another, and is the same rule. Description and tags are always there, so that a rule is another
// one if they are.
type nativeRule struct {
	GroupID           string            `json:"GroupId"`
	GroupOwnerID      string            `json:"GroupOwnerId"`
	IPProtocol        string            `json:"IpProtocol"`
	FromPort          *int32            `json:"FromPort,omitempty"` // not of protocols without ports, types or codes
	ToPort            *int32            `json:"ToPort,omitempty"`
	CidrIPv4          string            `json:"CidrIpv4,omitempty"`
	CidrIPv6          string            `json:"CidrIpv6,omitempty"`
	PrefixListID      string            `json:"PrefixListId,omitempty"`
	ReferencedGroupID string            `json:"ReferencedGroupId,omitempty"`
	Description       string            `json:"Description"`
	Tags              map[string]string `json:"Tags"`
}

// tagsOf returns tags as a map.
func tagsOf(tags []types.Tag) map[string]string {
	out := map[string]string{}
	for _, t := range tags {
		out[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return out
}

// portless says whether the API shows ports of a protocol that mean nothing.
func portless(name string) bool {
	p, ok := protocol(name)
	return ok && !slices.Contains([]int{int(traffic.TCP), int(traffic.UDP), int(traffic.ICMP), int(traffic.ICMPv6)}, p)
}

func ruleOf(v *types.SecurityGroupRule) rule {
	out := rule{
		id: aws.ToString(v.SecurityGroupRuleId), protocol: aws.ToString(v.IpProtocol), from: v.FromPort, to: v.ToPort,
		list: aws.ToString(v.PrefixListId), description: aws.ToString(v.Description),
	}
	native := nativeRule{
		GroupID: aws.ToString(v.GroupId), GroupOwnerID: aws.ToString(v.GroupOwnerId),
		IPProtocol: out.protocol, FromPort: v.FromPort, ToPort: v.ToPort, CidrIPv4: aws.ToString(v.CidrIpv4), CidrIPv6: aws.ToString(v.CidrIpv6),
		PrefixListID: out.list, Description: out.description, Tags: tagsOf(v.Tags),
	}
	if portless(out.protocol) {
		native.FromPort, native.ToPort = nil, nil
	}
	switch {
	case v.CidrIpv4 != nil:
		out.source(v.CidrIpv4)
	case v.CidrIpv6 != nil:
		out.source(v.CidrIpv6)
	case v.ReferencedGroupInfo != nil:
		out.group = aws.ToString(v.ReferencedGroupInfo.GroupId)
		native.ReferencedGroupID = out.group
	case out.list == "":
		out.unknown = true
	}
	// Plain strings and numbers always encode.
	out.native, _ = json.Marshal(native)
	return out
}

// services returns the services that the rule matches, and whether that is certain.
//
// Ports count for TCP and UDP alone; ICMP has a type and a code in their place, -1 for any; every other protocol is matched
// as a whole (IpPermission in the EC2 API reference).
func (v *rule) services() (from, to traffic.Service, certain bool) {
	proto, ok := protocol(v.protocol)
	if !ok {
		return allServices()
	}
	if proto < 0 {
		return allServices()
	}
	p := traffic.Proto(proto)
	from, to = p.All()
	switch p {
	case traffic.TCP, traffic.UDP:
		if v.from == nil || v.to == nil || *v.from < 0 || *v.to > 65535 {
			return from, to, false // EC2 never says so; if it does, the ports are not known
		}
		from, to = p.Ports(uint16(*v.from), uint16(max(*v.to, 0)))
	case traffic.ICMP, traffic.ICMPv6:
		if v.from != nil && *v.from >= 0 && *v.from <= 255 {
			from, to = p.Ports(uint16(*v.from)<<8, uint16(*v.from)<<8|255)
			if v.to != nil && *v.to >= 0 && *v.to <= 255 {
				from, to = p.Ports(uint16(*v.from)<<8|uint16(*v.to), uint16(*v.from)<<8|uint16(*v.to))
			}
		}
	}
	return from, to, true
}

func allServices() (from, to traffic.Service, certain bool) {
	from, _ = traffic.Proto(0).All()
	_, to = traffic.Proto(255).All()
	return from, to, true
}

// protocol returns the number of a protocol given by name or number, -1 for all; false if it is neither.
func protocol(s string) (int, bool) {
	switch strings.ToLower(s) {
	case "tcp":
		return int(traffic.TCP), true
	case "udp":
		return int(traffic.UDP), true
	case "icmp":
		return int(traffic.ICMP), true
	case "icmpv6":
		return int(traffic.ICMPv6), true
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= -1 && n <= 255
}

// sources returns the addresses that the rule's source certainly and possibly holds, and why they are not certain.
func (r *region) sources(v *rule) (match, maybe *netipx.IPSet, doubt doubt) {
	switch {
	case v.cidr.IsValid():
		return traffic.IPs(v.cidr), traffic.IPs(), doubt
	case v.list != "":
		l, ok := r.lists[v.list]
		if !ok {
			return traffic.IPs(), traffic.All().Sources(), unreadList(v.list)
		}
		return l.addresses, traffic.IPs(), doubt
	case v.group != "":
		return r.members(v.group), traffic.IPs(), doubt
	}
	return traffic.IPs(), traffic.All().Sources(), doubtf(cloud.Unsized, "security_group_rule_unreadable",
		"this rule has a source of a kind that is not known: look at it in the console")
}

// members returns the private addresses of the members of a group, which is what a reference to the group matches. It
// never matches a host of the internet, even where a VPC uses addresses that are routable there.
func (r *region) members(id string) *netipx.IPSet {
	if r.byGroup == nil {
		builders := map[string]*netipx.IPSetBuilder{}
		for i := range r.interfaces {
			n := &r.interfaces[i]
			for _, g := range n.groups {
				if builders[g] == nil {
					builders[g] = &netipx.IPSetBuilder{}
				}
				for _, a := range n.addresses {
					if a.private.IsValid() {
						builders[g].Add(a.private)
					}
				}
			}
		}
		r.speakers(builders)
		r.byGroup = map[string]*netipx.IPSet{}
		for g, b := range builders {
			b.RemoveSet(traffic.Internet())
			r.byGroup[g] = set(b)
		}
	}
	if s, ok := r.byGroup[id]; ok {
		return s
	}
	return traffic.IPs()
}

// text is the rule as the console shows it.
func (r *region) text(v *rule) string {
	var b strings.Builder
	proto, ok := protocol(v.protocol)
	switch {
	case ok && proto < 0:
		b.WriteString("all traffic")
	case ok:
		b.WriteString(traffic.Proto(proto).String())
	default:
		b.WriteString("protocol " + strconv.Quote(v.protocol))
	}
	if proto == int(traffic.TCP) || proto == int(traffic.UDP) {
		if v.from != nil && v.to != nil {
			fmt.Fprintf(&b, " %d", *v.from)
			if *v.to != *v.from {
				fmt.Fprintf(&b, "-%d", *v.to)
			}
		}
	}
	b.WriteString(" from ")
	switch {
	case v.cidr.IsValid():
		b.WriteString(v.cidr.String())
	case v.list != "":
		b.WriteString(v.list)
		if l := r.lists[v.list]; l.name != "" && l.name != v.list {
			fmt.Fprintf(&b, " (%s, version %d)", l.name, l.version)
		} else if l.version > 0 {
			fmt.Fprintf(&b, " (version %d)", l.version)
		}
	case v.group != "":
		b.WriteString("group " + v.group)
	default:
		b.WriteString("a source that is not known")
	}
	return b.String()
}
