package ec2_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	ga "github.com/aws/aws-sdk-go-v2/service/globalaccelerator"
	"github.com/aws/aws-sdk-go-v2/service/lightsail"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithy "github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
)

// at serves h and returns the configuration of the account's auditor in a region.
func at(t *testing.T, h http.Handler, w *ec2.World, account, region string) aws.Config {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	id, secret := w.Keys(account)
	return aws.Config{
		Region: region, BaseEndpoint: aws.String(server.URL), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, ""),
	}
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return fmt.Sprint(err)
}

const production = "111122223333"

// TestReadBack reads every answer about the demo with the SDK, and compares fields of each service with the scene.
func TestReadBack(t *testing.T) {
	w := ec2.Demo()
	c := at(t, w, w, production, "us-east-1")
	ctx := t.Context()
	cloud := sdk.NewFromConfig(c)
	scene := w.Accounts[0].Regions[0]

	interfaces, err := cloud.DescribeNetworkInterfaces(ctx, &sdk.DescribeNetworkInterfacesInput{})
	if err != nil {
		t.Fatal(err)
	}
	if len(interfaces.NetworkInterfaces) != len(scene.NetworkInterfaces) {
		t.Errorf("%d interfaces of %d", len(interfaces.NetworkInterfaces), len(scene.NetworkInterfaces))
	}
	for _, n := range interfaces.NetworkInterfaces {
		switch *n.NetworkInterfaceId {
		case "eni-0fragments":
			if len(n.PrivateIpAddresses) != 2 || *n.PrivateIpAddresses[1].Association.PublicIp != "54.84.10.12" || n.PrivateIpAddresses[0].Association != nil {
				t.Errorf("addresses %+v", n.PrivateIpAddresses)
			}
			if *n.Attachment.InstanceId != "i-0fragments" || n.Association != nil || *n.Groups[0].GroupName != "memcached-fragments" || n.Status != "in-use" {
				t.Errorf("interface %+v", n)
			}
		case "eni-0pods":
			if len(n.Ipv6Prefixes) != 1 || *n.Ipv6Prefixes[0].Ipv6Prefix != "2600:1f18:1:100:abcd::/80" {
				t.Errorf("prefixes %+v", n.Ipv6Prefixes)
			}
		case "eni-orders-1":
			if n.InterfaceType != types.NetworkInterfaceTypeNetworkLoadBalancer || !strings.HasPrefix(*n.Description, "ELB net/orders/") || *n.Association.PublicIp != "54.84.10.90" {
				t.Errorf("the balancer's interface: %+v", n)
			}
		}
	}

	groups, err := cloud.DescribeSecurityGroups(ctx, &sdk.DescribeSecurityGroupsInput{GroupIds: []string{"sg-0search", "sg-0default"}})
	if err != nil {
		t.Fatal(err)
	}
	search, standard := groups.SecurityGroups[0], groups.SecurityGroups[1]
	if len(search.IpPermissions) != 1 || len(search.IpPermissions[0].IpRanges) != 2 || *search.IpPermissions[0].FromPort != 11000 {
		t.Errorf("two rules for the same ports are one permission with two ranges, got %+v", search.IpPermissions)
	}
	if p := standard.IpPermissions[0]; p.FromPort != nil || *p.IpProtocol != "-1" || *p.UserIdGroupPairs[0].GroupId != "sg-0default" || *p.UserIdGroupPairs[0].UserId != production {
		t.Errorf("the default group's own rule: %+v", p)
	}
	if len(standard.IpPermissionsEgress) != 1 {
		t.Errorf("outbound: %+v", standard.IpPermissionsEgress)
	}

	rules, err := cloud.DescribeSecurityGroupRules(ctx, &sdk.DescribeSecurityGroupRulesInput{
		Filters: []types.Filter{{Name: aws.String("group-id"), Values: []string{"sg-0old"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if v := rules.SecurityGroupRules[0]; len(rules.SecurityGroupRules) != 1 || *v.FromPort != -1 || *v.ToPort != -1 || *v.GroupOwnerId != production || *v.CidrIpv4 != "0.0.0.0/0" {
		t.Errorf("a rule for all protocols has ports -1: %+v", v)
	}

	tables, err := cloud.DescribeRouteTables(ctx, &sdk.DescribeRouteTablesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range tables.RouteTables {
		if *v.RouteTableId == "rtb-0edge" && (*v.Associations[0].GatewayId != "igw-0prod" || v.Associations[0].AssociationState.State != "associated" || v.Routes[1].State != types.RouteStateActive) {
			t.Errorf("edge table %+v", v)
		}
	}
	acls, err := cloud.DescribeNetworkAcls(ctx, &sdk.DescribeNetworkAclsInput{})
	if err != nil {
		t.Fatal(err)
	}
	subnets := map[string]int{}
	for _, a := range acls.NetworkAcls {
		for _, s := range a.Associations {
			subnets[*s.SubnetId]++
		}
		last := a.Entries[len(a.Entries)-1]
		if *last.RuleNumber != 32768 || *last.Ipv6CidrBlock != "::/0" || last.RuleAction != types.RuleActionDeny {
			t.Errorf("%s ends with %+v", *a.NetworkAclId, last)
		}
		if *a.NetworkAclId == "acl-0locked" && *a.Entries[0].PortRange.From != 11211 {
			t.Errorf("entry %+v", a.Entries[0])
		}
	}
	if len(subnets) != 6 || slices.Max([]int{subnets["subnet-0public"], subnets["subnet-0locked"]}) != 1 {
		t.Errorf("every subnet has exactly one network ACL, got %v", subnets)
	}
	gateways, err := cloud.DescribeInternetGateways(ctx, &sdk.DescribeInternetGatewaysInput{})
	if err != nil || *gateways.InternetGateways[0].Attachments[0].VpcId != "vpc-0prod" {
		t.Errorf("gateways %+v, %v", gateways, err)
	}
	vpcs, err := cloud.DescribeVpcs(ctx, &sdk.DescribeVpcsInput{})
	if err != nil || *vpcs.Vpcs[0].Ipv6CidrBlockAssociationSet[0].Ipv6CidrBlock != "2600:1f18:1:100::/56" {
		t.Errorf("VPCs %+v, %v", vpcs, err)
	}
	lists, err := cloud.DescribeManagedPrefixLists(ctx, &sdk.DescribeManagedPrefixListsInput{})
	if err != nil || *lists.PrefixLists[0].PrefixListId != "pl-0office" || *lists.PrefixLists[0].MaxEntries != 6 {
		t.Errorf("prefix lists %+v, %v", lists, err)
	}
	instances, err := cloud.DescribeInstances(ctx, &sdk.DescribeInstancesInput{InstanceIds: []string{"i-0orders"}})
	if err != nil || *instances.Reservations[0].Instances[0].Tags[0].Value != "cache-orders" || instances.Reservations[0].Instances[0].State.Name != "running" {
		t.Errorf("instances %+v, %v", instances, err)
	}

	second := elbv2.NewFromConfig(c)
	balancers, err := second.DescribeLoadBalancers(ctx, &elbv2.DescribeLoadBalancersInput{})
	if err != nil {
		t.Fatal(err)
	}
	arn := balancers.LoadBalancers[0].LoadBalancerArn
	listeners, err := second.DescribeListeners(ctx, &elbv2.DescribeListenersInput{LoadBalancerArn: arn})
	if err != nil || *listeners.Listeners[0].Port != 443 || len(listeners.Listeners[0].DefaultActions[0].ForwardConfig.TargetGroups) != 1 {
		t.Errorf("listeners %+v, %v", listeners, err)
	}
	target := listeners.Listeners[0].DefaultActions[0].TargetGroupArn
	targets, err := second.DescribeTargetGroups(ctx, &elbv2.DescribeTargetGroupsInput{})
	if err != nil || *targets.TargetGroups[0].TargetGroupArn != *target || targets.TargetGroups[0].LoadBalancerArns[0] != *arn {
		t.Errorf("target groups %+v, %v", targets, err)
	}
	health, err := second.DescribeTargetHealth(ctx, &elbv2.DescribeTargetHealthInput{TargetGroupArn: target})
	if err != nil || *health.TargetHealthDescriptions[0].Target.Id != "10.0.4.11" || health.TargetHealthDescriptions[0].TargetHealth.State != "healthy" {
		t.Errorf("health %+v, %v", health, err)
	}
	attributes, err := second.DescribeTargetGroupAttributes(ctx, &elbv2.DescribeTargetGroupAttributesInput{TargetGroupArn: target})
	if err != nil || !slices.ContainsFunc(attributes.Attributes, func(a elbtypes.TargetGroupAttribute) bool {
		return *a.Key == "preserve_client_ip.enabled" && *a.Value == "false"
	}) {
		t.Errorf("attributes %+v, %v", attributes, err)
	}
	if first, err := elb.NewFromConfig(c).DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{}); err != nil || len(first.LoadBalancerDescriptions) != 0 {
		t.Errorf("classic balancers %+v, %v", first, err)
	}
}

func TestSisterServices(t *testing.T) {
	w := ec2.Demo()
	ctx := t.Context()
	home := at(t, w, w, production, "us-west-2")
	accelerators, err := ga.NewFromConfig(home).ListAccelerators(ctx, &ga.ListAcceleratorsInput{})
	if err != nil || len(accelerators.Accelerators) != 1 || accelerators.Accelerators[0].IpSets[0].IpAddresses[0] != "75.2.60.5" {
		t.Fatalf("accelerators %+v, %v", accelerators, err)
	}
	listeners, err := ga.NewFromConfig(home).ListListeners(ctx, &ga.ListListenersInput{AcceleratorArn: accelerators.Accelerators[0].AcceleratorArn})
	if err != nil || *listeners.Listeners[0].PortRanges[0].FromPort != 11211 {
		t.Fatalf("listeners %+v, %v", listeners, err)
	}
	groups, err := ga.NewFromConfig(home).ListEndpointGroups(ctx, &ga.ListEndpointGroupsInput{ListenerArn: listeners.Listeners[0].ListenerArn})
	if err != nil || *groups.EndpointGroups[0].EndpointGroupRegion != "eu-west-1" || *groups.EndpointGroups[0].EndpointDescriptions[0].EndpointId != "i-0eu" {
		t.Fatalf("endpoint groups %+v, %v", groups, err)
	}
	dublin := at(t, w, w, production, "eu-west-1")
	if _, err := ga.NewFromConfig(dublin).ListAccelerators(ctx, &ga.ListAcceleratorsInput{}); code(err) != "InvalidSignatureException" {
		t.Errorf("accelerators asked in another region: %v", err)
	}
	instances, err := lightsail.NewFromConfig(dublin).GetInstances(ctx, &lightsail.GetInstancesInput{})
	if err != nil || *instances.Instances[0].Name != "blog" || instances.Instances[0].Networking.Ports[2].Ipv6Cidrs[0] != "::/0" {
		t.Errorf("lightsail %+v, %v", instances, err)
	}
	accounts, err := organizations.NewFromConfig(dublin).ListAccounts(ctx, &organizations.ListAccountsInput{})
	if err != nil || len(accounts.Accounts) != 2 || accounts.Accounts[0].State != "ACTIVE" {
		t.Errorf("accounts %+v, %v", accounts, err)
	}
	if o, err := organizations.NewFromConfig(dublin).DescribeOrganization(ctx, &organizations.DescribeOrganizationInput{}); err != nil || *o.Organization.MasterAccountId != production {
		t.Errorf("organization %+v, %v", o, err)
	}
	member := at(t, w, w, "222233334444", "eu-west-1")
	if _, err := organizations.NewFromConfig(member).ListAccounts(ctx, &organizations.ListAccountsInput{}); code(err) != "AccessDeniedException" {
		t.Errorf("a member lists accounts: %v", err)
	}
	if me, err := sts.NewFromConfig(member).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}); err != nil || *me.Account != "222233334444" {
		t.Errorf("identity %+v, %v", me, err)
	}
	assume := func(role string) (*sts.AssumeRoleOutput, error) {
		return sts.NewFromConfig(dublin).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::222233334444:role/" + role), RoleSessionName: aws.String("x")})
	}
	if _, err := assume("other"); code(err) != "AccessDenied" {
		t.Errorf("a role that does not exist: %v", err)
	}
	keys, err := assume(ec2.DemoRole)
	if err != nil {
		t.Fatal(err)
	}
	member.Credentials = credentials.NewStaticCredentialsProvider(*keys.Credentials.AccessKeyId, *keys.Credentials.SecretAccessKey, *keys.Credentials.SessionToken)
	options, err := sdk.NewFromConfig(member).DescribeVpcBlockPublicAccessOptions(ctx, &sdk.DescribeVpcBlockPublicAccessOptionsInput{})
	if err != nil || options.VpcBlockPublicAccessOptions.InternetGatewayBlockMode != types.InternetGatewayBlockModeBlockBidirectional {
		t.Errorf("options %+v, %v", options, err)
	}
	exclusions, err := sdk.NewFromConfig(member).DescribeVpcBlockPublicAccessExclusions(ctx, &sdk.DescribeVpcBlockPublicAccessExclusionsInput{})
	if err != nil || len(exclusions.VpcBlockPublicAccessExclusions) != 1 || exclusions.VpcBlockPublicAccessExclusions[0].State != "create-complete" {
		t.Errorf("exclusions %+v, %v", exclusions, err)
	}
}

// TestPaging holds the bounds of MaxResults, and that pages follow one another without loss.
func TestPaging(t *testing.T) {
	w := ec2.Demo()
	c := sdk.NewFromConfig(at(t, w, w, production, "us-east-1"))
	ctx := t.Context()
	refused := func(what string, err error, want string) {
		t.Helper()
		if code(err) != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	_, err := c.DescribeRouteTables(ctx, &sdk.DescribeRouteTablesInput{MaxResults: aws.Int32(101)})
	refused("101 route tables", err, "InvalidParameterValue")
	_, err = c.DescribeNetworkInterfaces(ctx, &sdk.DescribeNetworkInterfacesInput{MaxResults: aws.Int32(4)})
	refused("4 interfaces", err, "InvalidParameterValue")
	_, err = c.GetManagedPrefixListEntries(ctx, &sdk.GetManagedPrefixListEntriesInput{PrefixListId: aws.String("pl-0office"), MaxResults: aws.Int32(200)})
	refused("200 entries", err, "InvalidParameterValue")
	_, err = c.GetManagedPrefixListEntries(ctx, &sdk.GetManagedPrefixListEntriesInput{PrefixListId: aws.String("pl-gone")})
	refused("a list that is not shared", err, "InvalidPrefixListID.NotFound")
	_, err = c.DescribeSecurityGroups(ctx, &sdk.DescribeSecurityGroupsInput{GroupIds: []string{"sg-0old"}, MaxResults: aws.Int32(10)})
	refused("ids and pages", err, "InvalidParameterCombination")
	_, err = c.DescribeSecurityGroups(ctx, &sdk.DescribeSecurityGroupsInput{GroupIds: []string{"sg-gone"}})
	refused("an unknown group", err, "InvalidGroup.NotFound")
	_, err = c.DescribeSecurityGroups(ctx, &sdk.DescribeSecurityGroupsInput{Filters: []types.Filter{{Name: aws.String("colour"), Values: []string{"red"}}}})
	refused("an unknown filter", err, "InvalidParameterValue")
	_, err = c.DescribeSubnets(ctx, &sdk.DescribeSubnetsInput{MaxResults: aws.Int32(5), NextToken: aws.String("nonsense")})
	refused("a token of nobody", err, "InvalidParameterValue")

	var got []string
	pages := 0
	for in := (&sdk.DescribeNetworkInterfacesInput{MaxResults: aws.Int32(5)}); ; pages++ {
		out, err := c.DescribeNetworkInterfaces(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range out.NetworkInterfaces {
			got = append(got, *n.NetworkInterfaceId)
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	var want []string
	for _, n := range w.Accounts[0].Regions[0].NetworkInterfaces {
		want = append(want, n.NetworkInterfaceID)
	}
	if diff := cmp.Diff(want, got); diff != "" || pages != 2 {
		t.Errorf("%d further pages:\n%s", pages, diff)
	}
}

// TestErrors holds the shape of refusals and throttling in every protocol.
func TestErrors(t *testing.T) {
	w := ec2.Demo()
	calls := map[string]func(context.Context, aws.Config) error{
		"ec2:DescribeSubnets": func(ctx context.Context, c aws.Config) error {
			_, err := sdk.NewFromConfig(c).DescribeSubnets(ctx, &sdk.DescribeSubnetsInput{})
			return err
		},
		"elasticloadbalancing:DescribeLoadBalancers": func(ctx context.Context, c aws.Config) error {
			_, err := elbv2.NewFromConfig(c).DescribeLoadBalancers(ctx, &elbv2.DescribeLoadBalancersInput{})
			return err
		},
		"lightsail:GetInstances": func(ctx context.Context, c aws.Config) error {
			_, err := lightsail.NewFromConfig(c).GetInstances(ctx, &lightsail.GetInstancesInput{})
			return err
		},
		"organizations:ListAccounts": func(ctx context.Context, c aws.Config) error {
			_, err := organizations.NewFromConfig(c).ListAccounts(ctx, &organizations.ListAccountsInput{})
			return err
		},
	}
	for fault, want := range map[emulate.Fault]map[string]string{
		{Refuse: true}: {
			"ec2:DescribeSubnets": "UnauthorizedOperation", "elasticloadbalancing:DescribeLoadBalancers": "AccessDenied",
			"lightsail:GetInstances": "AccessDeniedException", "organizations:ListAccounts": "AccessDeniedException",
		},
		{Throttle: 1}: {
			"ec2:DescribeSubnets": "RequestLimitExceeded", "elasticloadbalancing:DescribeLoadBalancers": "Throttling",
			"lightsail:GetInstances": "ThrottlingException", "organizations:ListAccounts": "TooManyRequestsException",
		},
	} {
		for op, call := range calls {
			faults := emulate.WithFaults(w, func(string, *http.Request) emulate.Fault { return fault })
			c := at(t, faults, w, production, "us-east-1")
			c.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
			if err := call(t.Context(), c); code(err) != want[op] {
				t.Errorf("%+v %s: %v, want %s", fault, op, err, want[op])
			}
			if faults.Calls()[op] != 1 {
				t.Errorf("%s was counted as %v", op, faults.Calls())
			}
		}
	}
	c := at(t, w, w, "000000000000", "us-east-1")
	if err := calls["ec2:DescribeSubnets"](t.Context(), c); code(err) != "AuthFailure" {
		t.Errorf("an unknown key: %v", err)
	}
	if err := calls["ec2:DescribeSubnets"](t.Context(), at(t, w, w, production, "me-south-1")); code(err) != "AuthFailure" {
		t.Errorf("a region that is not enabled: %v", err)
	}
}

func TestParseRejects(t *testing.T) {
	for name, text := range map[string]string{
		"unknown key":                "region: us-east-1\ncolour: red\n",
		"unknown balancer":           "load_balancers: [{Name: lb, Type: round}]\n",
		"more addresses than places": "load_balancers: [{Name: lb, Type: network, PrivateIps: [10.0.0.1]}]\n",
	} {
		if _, err := ec2.ParseRegion(production, []byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
