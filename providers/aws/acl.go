package aws

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// networkACL is what matters of a network ACL.
type networkACL struct {
	id, vpc, name string
	standard      bool // the default one of its VPC
	subnets       []string
	entries       []aclEntry
}

// aclEntry is one numbered entry. Its ports are the packet's destination ports in either direction.
type aclEntry struct {
	number   int32
	egress   bool
	allow    bool
	protocol string
	cidr     netip.Prefix
	from, to *int32
}

func (r *region) readACLs(ctx context.Context) {
	in := &ec2.DescribeNetworkAclsInput{MaxResults: aws.Int32(pageOfAnything)}
	all(ctx, r, "ec2:DescribeNetworkAcls", r.ec2.DescribeNetworkAcls, in, paging[ec2.DescribeNetworkAclsInput, ec2.DescribeNetworkAclsOutput]{
		set:  func(in *ec2.DescribeNetworkAclsInput, token *string) { in.NextToken = token },
		next: func(out *ec2.DescribeNetworkAclsOutput) *string { return out.NextToken },
	}, func(out *ec2.DescribeNetworkAclsOutput) {
		for i := range out.NetworkAcls {
			v := aclOf(&out.NetworkAcls[i])
			r.acls[v.id] = v
		}
	})
}

func aclOf(a *types.NetworkAcl) networkACL {
	out := networkACL{id: aws.ToString(a.NetworkAclId), vpc: aws.ToString(a.VpcId), name: nameIn(a.Tags), standard: aws.ToBool(a.IsDefault)}
	for _, s := range a.Associations {
		out.subnets = append(out.subnets, aws.ToString(s.SubnetId))
	}
	for i := range a.Entries {
		e := &a.Entries[i]
		v := aclEntry{
			number: aws.ToInt32(e.RuleNumber), egress: aws.ToBool(e.Egress), allow: e.RuleAction == types.RuleActionAllow,
			protocol: aws.ToString(e.Protocol), cidr: prefix(e.CidrBlock),
		}
		if !v.cidr.IsValid() {
			v.cidr = prefix(e.Ipv6CidrBlock)
		}
		if e.PortRange != nil {
			v.from, v.to = e.PortRange.From, e.PortRange.To
		}
		out.entries = append(out.entries, v)
	}
	// IPv4 and IPv6 entries never meet; equal numbers in the two families keep a fixed order.
	slices.SortFunc(out.entries, func(a, b aclEntry) int {
		return cmp.Or(cmp.Compare(a.number, b.number), a.cidr.Addr().Compare(b.cidr.Addr()))
	})
	return out
}

// acl returns the network ACL of a subnet, which has exactly one: the default one of its VPC if it is named by none.
func (b *builder) acl(subnet, vpc string) (networkACL, bool) {
	if id, ok := b.aclOfSubnet[subnet]; ok {
		return b.r.acls[id], true
	}
	id, ok := b.aclOfVpc[vpc]
	return b.r.acls[id], ok && !b.r.missing("ec2:DescribeNetworkAcls")
}

// aclLists returns the lists of a network ACL, inbound and outbound.
func (r *region) aclLists(a networkACL) (in, out *cloud.List) {
	in = &cloud.List{Ref: r.scope.Ref("network-acl", a.id), Name: a.name}
	out = &cloud.List{Ref: in.Ref, Name: a.name}
	for _, e := range a.entries {
		if !e.cidr.IsValid() {
			continue
		}
		list, id := in, fmt.Sprintf("%s#%d", a.id, e.number)
		if e.egress {
			list, id = out, id+"-outbound"
		}
		if e.cidr.Addr().Is6() && e.number < 32768 {
			id += "-ipv6"
		}
		from, to := e.services()
		v := cloud.Rule{
			Ref: r.scope.Ref("network-acl-entry", id), Verdict: cloud.Deny,
			Match: traffic.Of(traffic.IPs(e.cidr), from, to), Text: e.text(),
		}
		if e.allow {
			v.Verdict = cloud.Allow
		}
		list.Rules = append(list.Rules, v)
	}
	// EC2 describes the implied last entry of each family that the VPC uses. Where there is none of IPv6, nothing is known of
	// IPv6, and an interface that has an IPv6 address all the same is in doubt.
	if !slices.ContainsFunc(a.entries, func(e aclEntry) bool { return e.cidr.Addr().Is6() }) {
		from, to, _ := allServices()
		for _, l := range []*cloud.List{in, out} {
			l.Rules = append(l.Rules, cloud.Rule{
				Ref: r.scope.Ref("network-acl-entry", a.id+"#ipv6"), Maybe: traffic.Of(traffic.V6.Internet(), from, to), Doubt: cloud.Unread,
				Cause: "network_acl_unreadable", Hint: "the network ACL " + a.id + " was described without any entry for IPv6: look at it in the console",
			})
		}
	}
	return in, out
}

// services returns what the entry matches: ports count for TCP and UDP alone.
func (e *aclEntry) services() (from, to traffic.Service) {
	proto, ok := protocol(e.protocol)
	if !ok || proto < 0 {
		from, to, _ = allServices()
		return from, to
	}
	p := traffic.Proto(proto)
	if (p == traffic.TCP || p == traffic.UDP) && e.from != nil && e.to != nil && *e.from >= 0 && *e.to <= 65535 {
		return p.Ports(uint16(*e.from), uint16(*e.to))
	}
	return p.All()
}

func (e *aclEntry) text() string {
	action, direction, what := "deny", "from", "all traffic"
	if e.allow {
		action = "allow"
	}
	if e.egress {
		direction = "to"
	}
	if proto, ok := protocol(e.protocol); ok && proto >= 0 {
		what = traffic.Proto(proto).String()
		if e.from != nil && e.to != nil {
			what += " " + strconv.Itoa(int(*e.from))
			if *e.from != *e.to {
				what += "-" + strconv.Itoa(int(*e.to))
			}
		}
	}
	return fmt.Sprintf("%d %s %s %s %s", e.number, action, what, direction, e.cidr)
}
