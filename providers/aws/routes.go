package aws

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// routeTable is what matters of a route table.
type routeTable struct {
	id, vpc  string
	main     bool
	subnets  []string
	gateways []string
	routes   []route
}

// route is an active route. Its target is the id of a gateway, endpoint, interface or instance, or "local".
type route struct {
	to         netip.Prefix // or
	list       string
	target     string
	propagated bool
}

// endpoint says whether the route leads to a gateway endpoint, which exist for S3 and DynamoDB alone: its list holds their
// addresses, from which no one sends requests.
func (v route) endpoint() bool { return v.list != "" && strings.HasPrefix(v.target, "vpce-") }

func (r *region) readRouteTables(ctx context.Context) {
	in := &ec2.DescribeRouteTablesInput{MaxResults: aws.Int32(pageOfTables)}
	all(ctx, r, "ec2:DescribeRouteTables", r.ec2.DescribeRouteTables, in, paging[ec2.DescribeRouteTablesInput, ec2.DescribeRouteTablesOutput]{
		set:  func(in *ec2.DescribeRouteTablesInput, token *string) { in.NextToken = token },
		next: func(out *ec2.DescribeRouteTablesOutput) *string { return out.NextToken },
	}, func(out *ec2.DescribeRouteTablesOutput) {
		for i := range out.RouteTables {
			r.tables = append(r.tables, tableOf(&out.RouteTables[i]))
		}
	})
	slices.SortFunc(r.tables, func(a, b routeTable) int { return strings.Compare(a.id, b.id) })
}

func tableOf(t *types.RouteTable) routeTable {
	out := routeTable{id: aws.ToString(t.RouteTableId), vpc: aws.ToString(t.VpcId)}
	for _, a := range t.Associations {
		if a.AssociationState != nil && (a.AssociationState.State == types.RouteTableAssociationStateCodeDisassociated ||
			a.AssociationState.State == types.RouteTableAssociationStateCodeFailed) {
			continue
		}
		out.main = out.main || aws.ToBool(a.Main)
		if id := aws.ToString(a.SubnetId); id != "" {
			out.subnets = append(out.subnets, id)
		}
		if id := aws.ToString(a.GatewayId); id != "" {
			out.gateways = append(out.gateways, id)
		}
	}
	for i := range t.Routes {
		v := &t.Routes[i]
		if v.State != types.RouteStateActive && v.State != "" {
			continue // a blackhole or filtered route is no route
		}
		to := prefix(v.DestinationCidrBlock)
		if !to.IsValid() {
			to = prefix(v.DestinationIpv6CidrBlock)
		}
		one := route{to: to, list: aws.ToString(v.DestinationPrefixListId), propagated: v.Origin == types.RouteOriginEnableVgwRoutePropagation}
		for _, target := range []*string{
			v.GatewayId, v.NatGatewayId, v.TransitGatewayId, v.VpcPeeringConnectionId, v.EgressOnlyInternetGatewayId,
			v.CarrierGatewayId, v.LocalGatewayId, v.CoreNetworkArn, v.NetworkInterfaceId, v.InstanceId,
		} {
			one.target = cmp.Or(one.target, aws.ToString(target))
		}
		if one.to.IsValid() || one.list != "" {
			out.routes = append(out.routes, one)
		}
	}
	return out
}

// table returns the route table of a subnet: the one that it is associated with, or else the main one of its VPC.
func (b *builder) table(subnet, vpc string) (*routeTable, bool) {
	if t, ok := b.tableOfSubnet[subnet]; ok {
		return t, true
	}
	t, ok := b.tableOfVpc[vpc]
	return t, ok && !b.r.missing("ec2:DescribeRouteTables")
}

// routing says where the replies of a subnet can go, by destination.
type routing struct {
	open   *netipx.IPSet // through an internet gateway that is attached to the VPC
	opaque *netipx.IPSet // through something that decides by itself, or that could not be read
	doubt  doubt         // about opaque
}

// routing partitions the internet of family f by the best route: the longest prefix, a static route before a propagated
// one, a CIDR before a prefix list. carrier is for addresses of a carrier gateway, which the internet gateway does not
// serve.
func (r *region) routing(t *routeTable, vpc string, f traffic.Family, carrier bool) routing {
	type entry struct {
		to netip.Prefix
		*route
	}
	out := routing{open: traffic.IPs(), opaque: traffic.IPs()}
	var entries []entry
	for i := range t.routes {
		v := &t.routes[i]
		switch {
		case v.to.IsValid():
			entries = append(entries, entry{v.to, v})
		case v.endpoint():
		default:
			l, ok := r.lists[v.list]
			if !ok {
				// What the list takes from other routes is not known either.
				out.opaque, out.doubt = f.Internet(), doubtf(cloud.Unread, "prefix_list_unreadable", unreadList(v.list).hint)
				return out
			}
			for _, p := range l.addresses.Prefixes() {
				entries = append(entries, entry{p, v})
			}
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int {
		rank := func(e entry) int {
			switch {
			case e.list != "":
				return 2
			case e.propagated:
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(b.to.Bits(), a.to.Bits()), cmp.Compare(rank(a), rank(b)))
	})
	var open, opaque, taken netipx.IPSetBuilder
	for _, e := range entries {
		if traffic.FamilyOf(e.to.Addr()) != f {
			continue
		}
		into, why := r.target(e.route, vpc, carrier)
		if into == throughGateway || into == throughOther {
			var part netipx.IPSetBuilder
			part.AddPrefix(e.to)
			part.RemoveSet(set(&taken))
			if into == throughGateway {
				open.AddSet(set(&part))
			} else {
				opaque.AddSet(set(&part))
				if out.doubt.cause == "" {
					out.doubt = why
				}
			}
		}
		taken.AddPrefix(e.to)
	}
	out.open = traffic.IntersectIPs(set(&open), f.Internet())
	out.opaque = traffic.IntersectIPs(set(&opaque), f.Internet())
	return out
}

// set returns what b holds; only valid prefixes ever went in.
func set(b *netipx.IPSetBuilder) *netipx.IPSet {
	s, err := b.IPSet()
	if err != nil {
		panic("aws: " + err.Error())
	}
	return s
}

type through uint8

const (
	throughNothing through = iota // stays inside, or cannot carry an answer to a request from the internet
	throughGateway
	throughOther
)

// target says what the target of a route means for replies to the internet.
func (r *region) target(v *route, vpc string, carrier bool) (through, doubt) {
	switch {
	case strings.HasPrefix(v.target, "igw-"):
		if carrier {
			return throughNothing, doubt{}
		}
		at, known := r.gateways[v.target]
		switch {
		case at == vpc && vpc != "":
			return throughGateway, doubt{}
		case known:
			return throughNothing, doubt{}
		case r.missing("ec2:DescribeInternetGateways"):
			return throughOther, doubtf(cloud.Unread, "internet_gateway_unreadable", "grant ec2:DescribeInternetGateways")
		case r.shared(vpc):
			return throughGateway, doubt{} // the gateway is the owner's; its route would be a blackhole were it detached
		}
		return throughNothing, doubt{}
	case strings.HasPrefix(v.target, "cagw-"):
		if carrier {
			return throughOther, doubtf(cloud.Unread, "carrier_gateway", "the carrier's network decides: look at what it lets in")
		}
	case strings.HasPrefix(v.target, "vpce-"), strings.HasPrefix(v.target, "eni-"), strings.HasPrefix(v.target, "i-"):
		return throughOther, middlebox(v.target)
	}
	return throughNothing, doubt{}
}

func middlebox(target string) doubt {
	return doubtf(cloud.Unread, "middlebox", "packets pass "+target+", which decides by itself: look at its rules")
}

// shared says whether the VPC is known to belong to another account.
func (r *region) shared(vpc string) bool {
	for _, s := range r.subnets {
		if s.vpc == vpc && s.owner != "" && s.owner != r.scope.Account {
			return true
		}
	}
	return false
}

// edge returns the target to which the route table of an internet gateway of the VPC sends packets for destination, or ""
// if they go straight there.
func (b *builder) edge(vpc string, destination netip.Addr) string {
	for _, t := range b.edges[vpc] {
		best := route{target: "local", to: netip.PrefixFrom(destination, 0)}
		for _, v := range t.routes {
			if v.to.IsValid() && v.to.Contains(destination) && v.to.Bits() >= best.to.Bits() {
				best = v
			}
		}
		if best.target != "local" {
			return best.target
		}
	}
	return ""
}
