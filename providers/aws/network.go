package aws

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/cloudaudit/cloudaudit/providers"
)

// Page sizes: the largest that each operation takes, but for groups and rules, whose pages are large already.
const (
	pageOfGroups    = 200
	pageOfRules     = 1000
	pageOfTables    = 100
	pageOfLists     = 100
	pageOfAnything  = 1000
	valuesPerFilter = 200
)

// iface is what matters of a network interface.
type iface struct {
	id, name, vpc, subnet, owner string
	description, kind, requester string
	instance                     string
	device                       int32
	denyIgw, noProbe             bool
	groups                       []string
	addresses                    []address
	v6                           []netip.Addr
	prefixes                     []netip.Prefix
}

// address is a private IPv4 address with what is bound to it.
type address struct {
	private, public, carrier netip.Addr
	primary                  bool
	allocation               string // of an elastic IP
}

// primary returns the interface's primary private address.
func (n *iface) primary() netip.Addr {
	for _, a := range n.addresses {
		if a.primary {
			return a.private
		}
	}
	if len(n.addresses) > 0 {
		return n.addresses[0].private
	}
	return netip.Addr{}
}

func (r *region) readInterfaces(ctx context.Context) {
	// Service-managed interfaces can be hidden account-wide unless they are asked for.
	in := &ec2.DescribeNetworkInterfacesInput{MaxResults: aws.Int32(pageOfAnything), IncludeManagedResources: aws.Bool(true)}
	all(ctx, r, "ec2:DescribeNetworkInterfaces", r.ec2.DescribeNetworkInterfaces, in, paging[ec2.DescribeNetworkInterfacesInput, ec2.DescribeNetworkInterfacesOutput]{
		set:  func(in *ec2.DescribeNetworkInterfacesInput, token *string) { in.NextToken = token },
		next: func(out *ec2.DescribeNetworkInterfacesOutput) *string { return out.NextToken },
	}, func(out *ec2.DescribeNetworkInterfacesOutput) {
		for i := range out.NetworkInterfaces {
			r.interfaces = append(r.interfaces, interfaceOf(&out.NetworkInterfaces[i]))
		}
	})
	slices.SortFunc(r.interfaces, func(a, b iface) int { return strings.Compare(a.id, b.id) })
}

func interfaceOf(n *types.NetworkInterface) iface {
	out := iface{
		id: aws.ToString(n.NetworkInterfaceId), name: nameIn(n.TagSet), vpc: aws.ToString(n.VpcId), subnet: aws.ToString(n.SubnetId),
		owner: aws.ToString(n.OwnerId), description: aws.ToString(n.Description), kind: string(n.InterfaceType),
		requester: aws.ToString(n.RequesterId), noProbe: tagged(n.TagSet), denyIgw: aws.ToBool(n.DenyAllIgwTraffic),
	}
	if a := n.Attachment; a != nil {
		out.instance, out.device = aws.ToString(a.InstanceId), aws.ToInt32(a.DeviceIndex)
	}
	for _, g := range n.Groups {
		out.groups = append(out.groups, aws.ToString(g.GroupId))
	}
	slices.Sort(out.groups)
	for _, p := range n.PrivateIpAddresses {
		a := address{private: addr(p.PrivateIpAddress), primary: aws.ToBool(p.Primary)}
		if p.Association != nil {
			a.public, a.carrier = addr(p.Association.PublicIp), addr(p.Association.CarrierIp)
			a.allocation = aws.ToString(p.Association.AllocationId)
		}
		if a.private.IsValid() || a.public.IsValid() {
			out.addresses = append(out.addresses, a)
		}
	}
	if x := n.Association; x != nil {
		out.bind(address{private: addr(n.PrivateIpAddress), public: addr(x.PublicIp), carrier: addr(x.CarrierIp), primary: true, allocation: aws.ToString(x.AllocationId)})
	}
	for _, v := range n.Ipv6Addresses {
		if a := addr(v.Ipv6Address); a.IsValid() {
			out.v6 = append(out.v6, a)
		}
	}
	for _, v := range n.Ipv6Prefixes {
		if p := prefix(v.Ipv6Prefix); p.IsValid() {
			out.prefixes = append(out.prefixes, p)
		}
	}
	return out
}

// bind adds the interface's own association, which is that of its primary address: some emulations show it nowhere else.
func (n *iface) bind(a address) {
	if !a.public.IsValid() && !a.carrier.IsValid() {
		return
	}
	if slices.ContainsFunc(n.addresses, func(was address) bool { return was.public == a.public && was.carrier == a.carrier }) {
		return
	}
	i := slices.IndexFunc(n.addresses, func(was address) bool { return was.private == a.private })
	if i < 0 {
		n.addresses = append(n.addresses, a)
		return
	}
	n.addresses[i] = a
}

func nameIn(tags []types.Tag) string {
	for _, t := range tags {
		if aws.ToString(t.Key) == "Name" {
			return aws.ToString(t.Value)
		}
	}
	return ""
}

// tagged says whether the owner wants no probe.
func tagged(tags []types.Tag) bool {
	return slices.ContainsFunc(tags, func(t types.Tag) bool { return aws.ToString(t.Key) == providers.NoProbeTag })
}

// addr returns the address that s holds, or the zero Addr.
func addr(s *string) netip.Addr {
	a, err := netip.ParseAddr(aws.ToString(s))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

// prefix returns the prefix that s holds in canonical form, or the zero Prefix.
func prefix(s *string) netip.Prefix {
	p, err := netip.ParsePrefix(aws.ToString(s))
	if err != nil {
		return netip.Prefix{}
	}
	return p.Masked()
}

// subnet is what matters of a subnet.
type subnet struct {
	vpc, owner string
	cidr       netip.Prefix
	block      string // internetGatewayBlockMode as the subnet shows it, "" if it does not
}

func (r *region) readSubnets(ctx context.Context) {
	in := &ec2.DescribeSubnetsInput{MaxResults: aws.Int32(pageOfAnything)}
	all(ctx, r, "ec2:DescribeSubnets", r.ec2.DescribeSubnets, in, paging[ec2.DescribeSubnetsInput, ec2.DescribeSubnetsOutput]{
		set:  func(in *ec2.DescribeSubnetsInput, token *string) { in.NextToken = token },
		next: func(out *ec2.DescribeSubnetsOutput) *string { return out.NextToken },
	}, func(out *ec2.DescribeSubnetsOutput) {
		for _, s := range out.Subnets {
			v := subnet{vpc: aws.ToString(s.VpcId), owner: aws.ToString(s.OwnerId), cidr: prefix(s.CidrBlock)}
			if s.BlockPublicAccessStates != nil {
				v.block = string(s.BlockPublicAccessStates.InternetGatewayBlockMode)
			}
			r.subnets[aws.ToString(s.SubnetId)] = v
		}
	})
}

// readGateways notes which VPC each internet gateway is attached to.
func (r *region) readGateways(ctx context.Context) {
	in := &ec2.DescribeInternetGatewaysInput{MaxResults: aws.Int32(pageOfAnything)}
	all(ctx, r, "ec2:DescribeInternetGateways", r.ec2.DescribeInternetGateways, in, paging[ec2.DescribeInternetGatewaysInput, ec2.DescribeInternetGatewaysOutput]{
		set:  func(in *ec2.DescribeInternetGatewaysInput, token *string) { in.NextToken = token },
		next: func(out *ec2.DescribeInternetGatewaysOutput) *string { return out.NextToken },
	}, func(out *ec2.DescribeInternetGatewaysOutput) {
		for _, g := range out.InternetGateways {
			r.gateways[aws.ToString(g.InternetGatewayId)] = ""
			for _, a := range g.Attachments {
				// EC2 says "available" where its model says "attached".
				if a.State == types.AttachmentStatusAttached || a.State == "available" {
					r.gateways[aws.ToString(g.InternetGatewayId)] = aws.ToString(a.VpcId)
				}
			}
		}
	})
}

// readInstanceNames asks for the names and tags of the instances behind interfaces that an asked-for group opens.
func (r *region) readInstanceNames(ctx context.Context) {
	wanted := map[string]bool{}
	for i := range r.interfaces {
		n := &r.interfaces[i]
		if n.instance == "" {
			continue
		}
		for _, g := range n.groups {
			if v := r.groups[g]; v != nil && v.asked {
				wanted[n.instance] = true
			}
		}
	}
	for ids := range slices.Chunk(sorted(wanted), valuesPerFilter) {
		in := &ec2.DescribeInstancesInput{
			MaxResults: aws.Int32(pageOfAnything), IncludeManagedResources: aws.Bool(true),
			Filters: []types.Filter{{Name: aws.String("instance-id"), Values: ids}},
		}
		all(ctx, r, "ec2:DescribeInstances", r.ec2.DescribeInstances, in, paging[ec2.DescribeInstancesInput, ec2.DescribeInstancesOutput]{
			set:  func(in *ec2.DescribeInstancesInput, token *string) { in.NextToken = token },
			next: func(out *ec2.DescribeInstancesOutput) *string { return out.NextToken },
		}, func(out *ec2.DescribeInstancesOutput) {
			for _, reservation := range out.Reservations {
				for _, i := range reservation.Instances {
					r.instances[aws.ToString(i.InstanceId)] = nameIn(i.Tags)
					if tagged(i.Tags) {
						r.noProbe[aws.ToString(i.InstanceId)] = true
					}
				}
			}
		})
	}
}
