package aws_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	sdkaws "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
	"github.com/cloudaudit/cloudaudit/internal/emulate/moto"
	"github.com/cloudaudit/cloudaudit/providers/aws"
	"github.com/cloudaudit/cloudaudit/providers/providertest"
	"github.com/cloudaudit/cloudaudit/remedy"
)

// motoGroup makes, in the moto server at url, an instance with a public IPv4 and an IPv6 address behind a group with every
// kind of rule that a fix has to keep apart. It returns a client, the group's id, and the ids of the rules by name.
func motoGroup(t *testing.T, url string) (*sdk.Client, string, map[string]string) {
	t.Helper()
	c := sdk.New(sdk.Options{BaseEndpoint: &url, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("testing", "testing", "")})
	ctx := t.Context()
	vpc := must(c.CreateVpc(ctx, &sdk.CreateVpcInput{CidrBlock: sdkaws.String("10.0.0.0/16"), AmazonProvidedIpv6CidrBlock: sdkaws.Bool(true)})).Vpc
	six := strings.Replace(*vpc.Ipv6CidrBlockAssociationSet[0].Ipv6CidrBlock, "/56", "/64", 1)
	subnet := must(c.CreateSubnet(ctx, &sdk.CreateSubnetInput{VpcId: vpc.VpcId, CidrBlock: sdkaws.String("10.0.1.0/24"), Ipv6CidrBlock: &six})).Subnet
	gateway := must(c.CreateInternetGateway(ctx, &sdk.CreateInternetGatewayInput{})).InternetGateway
	must(c.AttachInternetGateway(ctx, &sdk.AttachInternetGatewayInput{InternetGatewayId: gateway.InternetGatewayId, VpcId: vpc.VpcId}))
	table := must(c.CreateRouteTable(ctx, &sdk.CreateRouteTableInput{VpcId: vpc.VpcId})).RouteTable
	must(c.CreateRoute(ctx, &sdk.CreateRouteInput{RouteTableId: table.RouteTableId, DestinationCidrBlock: sdkaws.String("0.0.0.0/0"), GatewayId: gateway.InternetGatewayId}))
	must(c.CreateRoute(ctx, &sdk.CreateRouteInput{RouteTableId: table.RouteTableId, DestinationIpv6CidrBlock: sdkaws.String("::/0"), GatewayId: gateway.InternetGatewayId}))
	must(c.AssociateRouteTable(ctx, &sdk.AssociateRouteTableInput{RouteTableId: table.RouteTableId, SubnetId: subnet.SubnetId}))
	// AWS adds these to the default network ACL of a VPC with IPv6; moto does not.
	acl := must(c.DescribeNetworkAcls(ctx, &sdk.DescribeNetworkAclsInput{Filters: []types.Filter{{Name: sdkaws.String("vpc-id"), Values: []string{*vpc.VpcId}}}})).NetworkAcls[0]
	for _, egress := range []bool{false, true} {
		must(c.CreateNetworkAclEntry(ctx, &sdk.CreateNetworkAclEntryInput{
			NetworkAclId: acl.NetworkAclId, RuleNumber: sdkaws.Int32(101), Egress: &egress, RuleAction: types.RuleActionAllow, Protocol: sdkaws.String("-1"), Ipv6CidrBlock: sdkaws.String("::/0"),
		}))
	}
	list := must(c.CreateManagedPrefixList(ctx, &sdk.CreateManagedPrefixListInput{
		PrefixListName: sdkaws.String("partners"), AddressFamily: sdkaws.String("IPv4"), MaxEntries: sdkaws.Int32(3), Entries: []types.AddPrefixListEntry{{Cidr: sdkaws.String("5.5.5.0/24")}},
	})).PrefixList
	app := must(c.CreateSecurityGroup(ctx, &sdk.CreateSecurityGroupInput{GroupName: sdkaws.String("app"), Description: sdkaws.String("app"), VpcId: vpc.VpcId})).GroupId
	group := must(c.CreateSecurityGroup(ctx, &sdk.CreateSecurityGroupInput{GroupName: sdkaws.String("memcached"), Description: sdkaws.String("m"), VpcId: vpc.VpcId})).GroupId
	rules := map[string]string{}
	add := func(name, protocol string, from, to int32, source types.IpPermission) {
		source.IpProtocol, source.FromPort, source.ToPort = &protocol, &from, &to
		made := must(c.AuthorizeSecurityGroupIngress(ctx, &sdk.AuthorizeSecurityGroupIngressInput{
			GroupId: group, IpPermissions: []types.IpPermission{source},
			TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeSecurityGroupRule, Tags: []types.Tag{{Key: sdkaws.String("rule"), Value: &name}}}},
		}))
		rules[name] = *made.SecurityGroupRules[0].SecurityGroupRuleId
	}
	v4 := func(cidr, description string) types.IpPermission {
		return types.IpPermission{IpRanges: []types.IpRange{{CidrIp: &cidr, Description: &description}}}
	}
	add("all", "tcp", 0, 65535, v4("0.0.0.0/0", "all of it"))
	add("vpn", "tcp", 0, 65535, v4("10.0.0.0/8", "vpn"))
	add("app", "tcp", 0, 65535, types.IpPermission{UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: app}}})
	add("list", "tcp", 0, 65535, types.IpPermission{PrefixListIds: []types.PrefixListId{{PrefixListId: list.PrefixListId}}})
	add("all6", "tcp", 0, 65535, types.IpPermission{Ipv6Ranges: []types.Ipv6Range{{CidrIpv6: sdkaws.String("::/0"), Description: sdkaws.String("six")}}})
	add("udp", "udp", 11211, 11211, v4("0.0.0.0/0", "memcached"))
	add("udp6", "udp", 11211, 11211, types.IpPermission{Ipv6Ranges: []types.Ipv6Range{{CidrIpv6: sdkaws.String("::/0"), Description: sdkaws.String("six")}}})
	add("https", "tcp", 443, 443, v4("0.0.0.0/0", "https"))
	image := must(c.DescribeImages(ctx, &sdk.DescribeImagesInput{Owners: []string{"amazon"}})).Images[0].ImageId
	instance := must(c.RunInstances(ctx, &sdk.RunInstancesInput{
		ImageId: image, InstanceType: types.InstanceTypeT3Micro, MinCount: sdkaws.Int32(1), MaxCount: sdkaws.Int32(1),
		NetworkInterfaces: []types.InstanceNetworkInterfaceSpecification{{
			DeviceIndex: sdkaws.Int32(0), SubnetId: subnet.SubnetId, Groups: []string{*group}, AssociatePublicIpAddress: sdkaws.Bool(false),
		}},
	})).Instances[0].NetworkInterfaces[0].NetworkInterfaceId
	must(c.AssignIpv6Addresses(ctx, &sdk.AssignIpv6AddressesInput{NetworkInterfaceId: instance, Ipv6AddressCount: sdkaws.Int32(1)}))
	address := must(c.AllocateAddress(ctx, &sdk.AllocateAddressInput{Domain: types.DomainTypeVpc}))
	must(c.AssociateAddress(ctx, &sdk.AssociateAddressInput{AllocationId: address.AllocationId, NetworkInterfaceId: instance}))
	return c, *group, rules
}

// described returns the rules of a group as `aws ec2 describe-security-group-rules` shows them.
func described(t *testing.T, c *sdk.Client, group string) *ec2.Region {
	t.Helper()
	out := must(c.DescribeSecurityGroupRules(t.Context(), &sdk.DescribeSecurityGroupRulesInput{Filters: []types.Filter{{Name: sdkaws.String("group-id"), Values: []string{group}}}}))
	r := &ec2.Region{SecurityGroups: []ec2.SecurityGroup{{GroupID: group}}}
	for _, v := range out.SecurityGroupRules {
		rule := ec2.SecurityGroupRule{
			SecurityGroupRuleID: *v.SecurityGroupRuleId, GroupID: group, IsEgress: *v.IsEgress, IPProtocol: *v.IpProtocol, Description: sdkaws.ToString(v.Description),
			CidrIPv4: sdkaws.ToString(v.CidrIpv4), CidrIPv6: sdkaws.ToString(v.CidrIpv6), PrefixListID: sdkaws.ToString(v.PrefixListId),
		}
		if v.FromPort != nil {
			from, to := int(*v.FromPort), int(*v.ToPort)
			rule.FromPort, rule.ToPort = &from, &to
		}
		if v.ReferencedGroupInfo != nil {
			rule.ReferencedGroupInfo = &ec2.ReferencedGroup{GroupID: sdkaws.ToString(v.ReferencedGroupInfo.GroupId)}
		}
		for _, tag := range v.Tags {
			rule.Tags = append(rule.Tags, ec2.Tag{Key: *tag.Key, Value: *tag.Value})
		}
		r.SecurityGroupRules = append(r.SecurityGroupRules, rule)
	}
	return r
}

// TestMotoFix fixes a group in software that no one here wrote: only the internet to 11211 is gone, rules keep their ids, a
// second run writes nothing, and undo restores every rule.
func TestMotoFix(t *testing.T) {
	t.Parallel() // it waits for another process
	url := moto.Start(t)
	c, group, rules := motoGroup(t, url)
	p := atMoto(url, aws.Config{Regions: []string{"us-east-1"}, Ports: []uint16{11211}, Sleep: noWait})
	before := described(t, c, group)
	plan := planBy(t, p, remedy.Options{Ports: []uint16{11211}})
	if len(plan.Hunks) != 1 || len(plan.Hunks[0].Rules) != 4 {
		t.Fatalf("%d hunks, %+v", len(plan.Hunks), plan.Refused)
	}
	_, j := mend(t, p, plan, false)

	was, now := answers(before), described(t, c, group)
	is := answers(now)
	for _, q := range universe() {
		key := fmt.Sprint(group, q)
		closes, may := q.asked()
		// A partner in the list of prefixes is none of the internet that is asked about, and the oracle sees networks only.
		switch {
		case is[key] && !was[key]:
			t.Errorf("%s got through to nothing before", key)
		case was[key] && !is[key] && !may:
			t.Errorf("%s is lost", key)
		case is[key] && closes:
			t.Errorf("%s is still open", key)
		}
	}
	ids := map[string]bool{}
	for _, v := range now.SecurityGroupRules {
		ids[v.SecurityGroupRuleID] = true
	}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		// moto does not change the source of a rule of IPv6, so that one is made anew.
		if !ids[rules[name]] && name != "udp6" {
			t.Errorf("the rule %s does not live on", name)
		}
	}
	for _, line := range stored(before, true) {
		id, _, _ := strings.Cut(line, " ")
		untouched := !slices.Contains([]string{rules["all"], rules["all6"], rules["udp"], rules["udp6"]}, id)
		if untouched && !slices.Contains(stored(now, true), line) {
			t.Errorf("a sibling was touched: %s", line)
		}
	}
	again := planBy(t, p, remedy.Options{Ports: []uint16{11211}})
	if len(again.Hunks) > 0 {
		t.Errorf("a second run would write %d changes", again.Changes())
	}
	// Another process undoes it, which has not seen the group open.
	undo(t, providertest.Runner("aws", atMoto(url, aws.Config{Regions: []string{"us-east-1"}, Ports: []uint16{11211}, Sleep: noWait}), j), j)
	if diff := cmp.Diff(stored(before, false), stored(described(t, c, group), false)); diff != "" {
		t.Errorf("undone:\n%s", diff)
	}
}
