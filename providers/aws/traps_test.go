package aws_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
	"github.com/cloudaudit/cloudaudit/providers/aws"
)

// TestTraps holds constructs that look open and are not, or are open and do not look it.
func TestTraps(t *testing.T) {
	const at = "us-east-1 eni-1 () at 54.84.1.2 "
	rule := func(proto string, from, to *int, cidr string) ec2.SecurityGroupRule {
		return ec2.SecurityGroupRule{SecurityGroupRuleID: "sgr-1", GroupID: "sg-1", IPProtocol: proto, FromPort: from, ToPort: to, CidrIPv4: cidr}
	}
	for name, c := range map[string]struct {
		rules  []ec2.SecurityGroupRule
		change func(*ec2.Region)
		want   []string
	}{
		"sctp opens nothing of TCP and UDP": {rules: []ec2.SecurityGroupRule{rule("132", nil, nil, "0.0.0.0/0")}},
		"after a correct fix": {rules: []ec2.SecurityGroupRule{
			rule("tcp", port(1), port(11210), "0.0.0.0/0"),
			{SecurityGroupRuleID: "sgr-2", GroupID: "sg-1", IPProtocol: "tcp", FromPort: port(11212), ToPort: port(65535), CidrIPv4: "0.0.0.0/0"},
		}},
		"port 0 is a number":         {rules: []ec2.SecurityGroupRule{rule("udp", port(0), port(0), "0.0.0.0/0")}},
		"one end of a range":         {rules: []ec2.SecurityGroupRule{rule("udp", port(1), port(11211), "0.0.0.0/0")}, want: []string{at + "udp/11211: reachable/world by sgr-1"}},
		"private sources alone":      {rules: []ec2.SecurityGroupRule{rule("tcp", port(11211), port(11211), "100.64.0.0/10")}},
		"a quarter of the internet":  {rules: []ec2.SecurityGroupRule{rule("tcp", port(11211), port(11211), "0.0.0.0/2")}, want: []string{at + "tcp/11211: reachable/wide by sgr-1"}},
		"host bits are masked":       {rules: []ec2.SecurityGroupRule{rule("tcp", port(11211), port(11211), "8.8.8.8/24")}, want: []string{at + "tcp/11211: reachable/narrow by sgr-1"}},
		"ICMP types are not a range": {rules: []ec2.SecurityGroupRule{rule("icmp", port(3), port(-1), "0.0.0.0/0")}},
		"a detached gateway": {
			rules: []ec2.SecurityGroupRule{open("sgr-1", "sg-1")}, change: func(r *ec2.Region) { r.InternetGateways[0].Attachments = nil },
		},
		"a gateway of another VPC": {
			rules: []ec2.SecurityGroupRule{open("sgr-1", "sg-1")}, change: func(r *ec2.Region) { r.InternetGateways[0].Attachments[0].VpcID = "vpc-2" },
		},
		"a blackhole": {
			rules: []ec2.SecurityGroupRule{open("sgr-1", "sg-1")}, change: func(r *ec2.Region) { r.RouteTables[0].Routes[1].State = "blackhole" },
		},
		"halves to a transit gateway shadow the default": {
			rules: []ec2.SecurityGroupRule{open("sgr-1", "sg-1")}, change: func(r *ec2.Region) {
				r.RouteTables[0].Routes = append(r.RouteTables[0].Routes,
					ec2.Route{DestinationCidrBlock: "0.0.0.0/1", TransitGatewayID: "tgw-1"}, ec2.Route{DestinationCidrBlock: "128.0.0.0/1", TransitGatewayID: "tgw-1"})
			},
		},
		"a static route beats a propagated one": {
			rules: []ec2.SecurityGroupRule{open("sgr-1", "sg-1")}, change: func(r *ec2.Region) {
				r.RouteTables[0].Routes = append([]ec2.Route{{DestinationCidrBlock: "0.0.0.0/0", GatewayID: "vgw-1", Origin: "EnableVgwRoutePropagation"}}, r.RouteTables[0].Routes...)
			},
			want: []string{at + "tcp/11211: reachable/world by sgr-1"},
		},
		"the main table of another VPC": {
			rules: []ec2.SecurityGroupRule{open("sgr-1", "sg-1")}, change: func(r *ec2.Region) {
				r.RouteTables = append(r.RouteTables, ec2.RouteTable{
					RouteTableID: "rtb-0", VpcID: "vpc-2", Associations: []ec2.RouteTableAssociation{{Main: true}},
				})
			},
			want: []string{at + "tcp/11211: reachable/world by sgr-1"},
		},
		"a NAT gateway carries no requests": {
			rules: []ec2.SecurityGroupRule{open("sgr-1", "sg-1")}, change: func(r *ec2.Region) {
				r.RouteTables[0].Routes[1] = ec2.Route{DestinationCidrBlock: "0.0.0.0/0", NatGatewayID: "nat-1"}
			},
		},
		"an appliance has the default route": {
			rules: []ec2.SecurityGroupRule{open("sgr-1", "sg-1")}, change: func(r *ec2.Region) {
				r.RouteTables[0].Routes[1] = ec2.Route{DestinationCidrBlock: "0.0.0.0/0", NetworkInterfaceID: "eni-9", InstanceID: "i-9"}
			},
			want: []string{at + "tcp/11211: unknown/world by sgr-1, middlebox"},
		},
		"a route by prefix list": {
			rules: []ec2.SecurityGroupRule{open("sgr-1", "sg-1")}, change: func(r *ec2.Region) {
				r.PrefixLists = []ec2.PrefixList{{PrefixListID: "pl-1", Entries: []string{"8.8.8.0/24"}}}
				r.RouteTables[0].Routes[1] = ec2.Route{DestinationPrefixListID: "pl-1", GatewayID: "igw-1"}
			},
			want: []string{at + "tcp/11211: reachable/narrow by sgr-1"},
		},
		"a gateway endpoint takes nothing away": {
			rules: []ec2.SecurityGroupRule{open("sgr-1", "sg-1")}, change: func(r *ec2.Region) {
				r.RouteTables[0].Routes = append(r.RouteTables[0].Routes, ec2.Route{DestinationPrefixListID: "pl-s3", GatewayID: "vpce-1"})
			},
			want: []string{at + "tcp/11211: reachable/world by sgr-1"},
		},
		"IPv6 through an egress-only gateway": {
			rules: []ec2.SecurityGroupRule{{SecurityGroupRuleID: "sgr-6", GroupID: "sg-1", IPProtocol: "-1", CidrIPv6: "::/0"}}, change: func(r *ec2.Region) {
				r.Vpcs[0].IPv6 = "2600:1f18:1:100::/56"
				r.NetworkInterfaces[0].IPv6Addresses = []ec2.IPv6Address{{IPv6Address: "2600:1f18:1:100::10"}}
				r.RouteTables[0].Routes = append(r.RouteTables[0].Routes, ec2.Route{DestinationIPv6CidrBlock: "::/0", EgressOnlyInternetGatewayID: "eigw-1"})
			},
		},
		"a network ACL that says nothing of IPv6": {
			rules: []ec2.SecurityGroupRule{{SecurityGroupRuleID: "sgr-6", GroupID: "sg-1", IPProtocol: "tcp", FromPort: port(11211), ToPort: port(11211), CidrIPv6: "::/0"}}, change: func(r *ec2.Region) {
				r.NetworkInterfaces[0].IPv6Addresses = []ec2.IPv6Address{{IPv6Address: "2600:1f18:1:100::10"}}
				r.RouteTables[0].Routes = append(r.RouteTables[0].Routes, ec2.Route{DestinationIPv6CidrBlock: "::/0", GatewayID: "igw-1"})
				r.UndescribedIPv6 = true
			},
			want: []string{"us-east-1 eni-1 () at 2600:1f18:1:100::10 tcp/11211: unknown/world by sgr-6, network_acl_unreadable"},
		},
		"a network ACL with the implied entries alone": {
			rules: []ec2.SecurityGroupRule{{SecurityGroupRuleID: "sgr-6", GroupID: "sg-1", IPProtocol: "tcp", FromPort: port(11211), ToPort: port(11211), CidrIPv6: "::/0"}}, change: func(r *ec2.Region) {
				r.NetworkInterfaces[0].IPv6Addresses = []ec2.IPv6Address{{IPv6Address: "2600:1f18:1:100::10"}}
				r.RouteTables[0].Routes = append(r.RouteTables[0].Routes, ec2.Route{DestinationIPv6CidrBlock: "::/0", GatewayID: "igw-1"})
			},
		},
		"a carrier address": {
			rules: []ec2.SecurityGroupRule{open("sgr-1", "sg-1")}, change: func(r *ec2.Region) {
				r.NetworkInterfaces[0].PrivateIPAddresses[0].Association = &ec2.Association{CarrierIP: "155.146.1.1"}
				r.RouteTables[0].Routes[1] = ec2.Route{DestinationCidrBlock: "0.0.0.0/0", CarrierGatewayID: "cagw-1"}
			},
			want: []string{"us-east-1 eni-1 () at 155.146.1.1 tcp/11211: unknown/world by sgr-1, carrier_gateway"},
		},
		"a deny behind the allow is dead": {
			rules: []ec2.SecurityGroupRule{open("sgr-1", "sg-1")}, change: func(r *ec2.Region) {
				acl(r, ec2.NetworkACLEntry{RuleNumber: 200, RuleAction: "deny", Protocol: "6", CidrBlock: "0.0.0.0/0", PortRange: &ec2.PortRange{From: 11211, To: 11211}})
			},
			want: []string{at + "tcp/11211: reachable/world by sgr-1"},
		},
		"a deny of half the internet": {
			rules: []ec2.SecurityGroupRule{open("sgr-1", "sg-1")}, change: func(r *ec2.Region) {
				acl(r, ec2.NetworkACLEntry{RuleNumber: 9, RuleAction: "deny", Protocol: "6", CidrBlock: "0.0.0.0/1"})
			},
			want: []string{at + "tcp/11211: reachable/wide by sgr-1"},
		},
		"an RDS instance with the memcached plug-in": {
			rules: []ec2.SecurityGroupRule{open("sgr-1", "sg-1")}, change: func(r *ec2.Region) {
				r.NetworkInterfaces[0].Attachment = &ec2.Attachment{InstanceOwnerID: "amazon-rds", Status: "attached"}
				r.NetworkInterfaces[0].RequesterID, r.NetworkInterfaces[0].RequesterManaged = "amazon-rds", true
				r.NetworkInterfaces[0].Description = "RDSNetworkInterface"
			},
			want: []string{"us-east-1 eni-1 (RDSNetworkInterface) at 54.84.1.2 tcp/11211: reachable/world by sgr-1"},
		},
		"a reference, in a VPC with addresses that are routable": {
			rules: []ec2.SecurityGroupRule{{SecurityGroupRuleID: "sgr-1", GroupID: "sg-1", IPProtocol: "-1", ReferencedGroupInfo: &ec2.ReferencedGroup{GroupID: "sg-1"}}},
			change: func(r *ec2.Region) {
				r.Vpcs[0].CidrBlock, r.RouteTables[0].Routes[0].DestinationCidrBlock = "52.0.0.0/16", "52.0.0.0/16"
				r.NetworkInterfaces[0].PrivateIPAddresses[0].PrivateIPAddress = "52.0.1.10"
			},
		},
		"a list of another account": {
			rules: []ec2.SecurityGroupRule{{SecurityGroupRuleID: "sgr-1", GroupID: "sg-1", IPProtocol: "17", FromPort: port(11211), ToPort: port(11211), PrefixListID: "pl-gone"}},
			want:  []string{at + "udp/11211: unknown/none by sgr-1, prefix_list_unreadable"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := publicRegion("us-east-1", "54.84.1.2", c.rules...)
			if c.change != nil {
				c.change(r)
			}
			p, _ := serve(t, oneAccount(r), testAccount, aws.Config{}, nil)
			snapshots := readAll(t, p)
			if diff := cmp.Diff(c.want, lines(snapshots, 11211)); diff != "" {
				t.Errorf("exposures (-want +got):\n%s", diff)
			}
			if gap := name == "a list of another account"; (len(snapshots[0].Gaps) > 0) != gap {
				t.Errorf("gaps %+v", snapshots[0].Gaps)
			}
		})
	}
}

// acl gives the region's VPC a default network ACL that allows everything but for e.
func acl(r *ec2.Region, e ec2.NetworkACLEntry) {
	r.NetworkACLs = []ec2.NetworkACL{{
		NetworkACLID: "acl-1", VpcID: "vpc-1", IsDefault: true, Entries: []ec2.NetworkACLEntry{
			{RuleNumber: 100, RuleAction: "allow", Protocol: "-1", CidrBlock: "0.0.0.0/0"},
			{RuleNumber: 100, Egress: true, RuleAction: "allow", Protocol: "-1", CidrBlock: "0.0.0.0/0"},
			e,
		},
	}}
}
