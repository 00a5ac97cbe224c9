package aws_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/providers/aws"
)

func port(n int) *int { return &n }

// open is a rule that lets the world in on tcp 11211.
func open(id, group string) ec2.SecurityGroupRule {
	return ec2.SecurityGroupRule{SecurityGroupRuleID: id, GroupID: group, IPProtocol: "tcp", FromPort: port(11211), ToPort: port(11211), CidrIPv4: "0.0.0.0/0"}
}

// publicRegion has one interface with a public address in a subnet that is open to the internet, behind group sg-1.
func publicRegion(name, address string, rules ...ec2.SecurityGroupRule) *ec2.Region {
	return &ec2.Region{
		Name:               name,
		Vpcs:               []ec2.Vpc{{VpcID: "vpc-1", CidrBlock: "10.0.0.0/16"}},
		SecurityGroupRules: rules,
		NetworkInterfaces: []ec2.NetworkInterface{{
			NetworkInterfaceID: "eni-1", VpcID: "vpc-1", SubnetID: "subnet-1", Groups: []ec2.Group{{GroupID: "sg-1"}},
			PrivateIPAddresses: []ec2.PrivateAddress{{PrivateIPAddress: "10.0.1.10", Primary: true, Association: &ec2.Association{PublicIP: address}}},
			Attachment:         &ec2.Attachment{InstanceID: "i-1", Status: "attached"},
		}},
		RouteTables: []ec2.RouteTable{{
			RouteTableID: "rtb-1", VpcID: "vpc-1", Associations: []ec2.RouteTableAssociation{{Main: true}},
			Routes: []ec2.Route{{DestinationCidrBlock: "10.0.0.0/16", GatewayID: "local"}, {DestinationCidrBlock: "0.0.0.0/0", GatewayID: "igw-1"}},
		}},
		InternetGateways: []ec2.InternetGateway{{InternetGatewayID: "igw-1", Attachments: []ec2.InternetGatewayAttachment{{VpcID: "vpc-1", State: "available"}}}},
	}
}

// oneAccount makes a world of one account with the regions.
func oneAccount(regions ...*ec2.Region) *ec2.World {
	w := &ec2.World{Accounts: []*ec2.Account{{ID: testAccount, Regions: regions}}}
	w.Complete()
	return w
}

func TestOpenRuleOnTheLastPage(t *testing.T) {
	r := publicRegion("us-east-1", "54.84.1.2")
	for i := range 620 {
		r.SecurityGroupRules = append(r.SecurityGroupRules, ec2.SecurityGroupRule{
			SecurityGroupRuleID: fmt.Sprintf("sgr-a%03d", i), GroupID: fmt.Sprintf("sg-a%03d", i), IPProtocol: "tcp", FromPort: port(443), ToPort: port(443), CidrIPv4: "0.0.0.0/0",
		})
	}
	r.SecurityGroupRules = append(r.SecurityGroupRules, open("sgr-last", "sg-1"))
	p, calls := serve(t, oneAccount(r), testAccount, aws.Config{Ports: []uint16{11211}}, nil)
	want := []string{"us-east-1 eni-1 () at 54.84.1.2 tcp/11211: reachable/world by sgr-last"}
	if diff := cmp.Diff(want, lines(readAll(t, p), 11211)); diff != "" {
		t.Error(diff)
	}
	if n := calls.Calls()["ec2:DescribeSecurityGroups"]; n != 4 {
		t.Errorf("621 groups took %d pages, want 4 of 200", n)
	}
	if n := calls.Calls()["ec2:DescribeSecurityGroupRules"]; n != 1 {
		t.Errorf("the ids of one group's rules took %d calls", n)
	}
}

func TestLongPrefixList(t *testing.T) {
	r := publicRegion("us-east-1", "54.84.1.2", ec2.SecurityGroupRule{
		SecurityGroupRuleID: "sgr-1", GroupID: "sg-1", IPProtocol: "udp", FromPort: port(0), ToPort: port(65535), PrefixListID: "pl-1",
	})
	l := ec2.PrefixList{PrefixListID: "pl-1", PrefixListName: "everyone", Version: 7}
	for i := range 250 {
		l.Entries = append(l.Entries, fmt.Sprintf("10.9.%d.0/24", i))
	}
	l.Entries = append(l.Entries, "0.0.0.0/0")
	r.PrefixLists = []ec2.PrefixList{l, {PrefixListID: "pl-unused", Entries: []string{"0.0.0.0/0"}}}
	p, calls := serve(t, oneAccount(r), testAccount, aws.Config{}, nil)
	snapshots := readAll(t, p)
	want := []string{"us-east-1 eni-1 () at 54.84.1.2 udp/11211: reachable/world by sgr-1"}
	if diff := cmp.Diff(want, lines(snapshots, 11211)); diff != "" {
		t.Error(diff)
	}
	if n := calls.Calls()["ec2:GetManagedPrefixListEntries"]; n != 3 {
		t.Errorf("251 entries took %d pages, want 3 of 100, and none for a list that no rule names", n)
	}
	for _, l := range snapshots[0].Lists {
		for _, v := range l.Rules {
			if v.Ref.ID == "sgr-1" && v.Text != "udp 0-65535 from pl-1 (everyone, version 7)" {
				t.Errorf("text is %q", v.Text)
			}
		}
	}
}

func TestManagedInterfacesAreAskedFor(t *testing.T) {
	r := publicRegion("us-east-1", "54.84.1.2", open("sgr-1", "sg-1"))
	r.NetworkInterfaces[0].Operator = &ec2.Operator{Managed: true, Principal: "eks.amazonaws.com"}
	w := oneAccount(r)
	w.Accounts[0].HideManaged = true
	p, _ := serve(t, w, testAccount, aws.Config{}, nil)
	if got := lines(readAll(t, p), 11211); len(got) != 1 {
		t.Errorf("exposures: %q", got)
	}
}

// form returns the parameters of a request of the query protocol, leaving its body as it is.
func form(r *http.Request) url.Values {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	values, err := url.ParseQuery(string(body))
	if err != nil {
		panic(err)
	}
	return values
}

func TestEveryListIsPaged(t *testing.T) {
	w := ec2.Demo()
	var mu sync.Mutex
	sizes := map[string]string{}
	p, _ := serve(t, w, w.Management, aws.Config{Organization: true, Role: ec2.DemoRole}, func(op string, r *http.Request) emulate.Fault {
		if strings.HasPrefix(op, "ec2:") || strings.HasPrefix(op, "elasticloadbalancing:") {
			f := form(r)
			mu.Lock()
			defer mu.Unlock()
			sizes[op] = f.Get("MaxResults") + f.Get("PageSize")
			if op == "ec2:DescribeNetworkInterfaces" || op == "ec2:DescribeInstances" {
				if f.Get("IncludeManagedResources") != "true" {
					t.Errorf("%s leaves managed resources out", op)
				}
			}
		}
		return emulate.Fault{}
	})
	readAll(t, p)
	for op, size := range sizes {
		if size == "" && !slices.Contains([]string{
			// These have no pages.
			"ec2:DescribeRegions", "ec2:DescribeVpcBlockPublicAccessOptions",
			"elasticloadbalancing:DescribeTargetHealth", "elasticloadbalancing:DescribeTargetGroupAttributes",
		}, op) {
			t.Errorf("%s is asked without a page size", op)
		}
	}
	if sizes["ec2:DescribeRouteTables"] != "100" || sizes["ec2:GetManagedPrefixListEntries"] != "100" {
		t.Errorf("page sizes %v: route tables and entries come by 100 at most", sizes)
	}
}

// TestBrokenRegions reads three regions of which one refuses, one throttles, and one is broken.
func TestBrokenRegions(t *testing.T) {
	t.Parallel() // a throttled operation waits
	w := oneAccount(
		publicRegion("eu-west-1", "3.250.1.1", open("sgr-1", "sg-1")),
		publicRegion("us-east-1", "54.84.1.1", open("sgr-2", "sg-1")),
		publicRegion("us-west-2", "54.200.1.1", open("sgr-3", "sg-1")),
	)
	p, _ := serve(t, w, testAccount, aws.Config{Regions: []string{"us-west-2", "us-east-1", "eu-west-1"}}, func(op string, r *http.Request) emulate.Fault {
		switch {
		case !strings.HasPrefix(op, "ec2:"):
			return emulate.Fault{}
		case w.Region(r) == "eu-west-1":
			return emulate.Fault{Refuse: true}
		case w.Region(r) == "us-east-1" && op == "ec2:DescribeNetworkAcls":
			return emulate.Fault{Throttle: 10}
		case w.Region(r) == "us-west-2":
			return emulate.Fault{Garbage: true}
		}
		return emulate.Fault{}
	})
	snapshots := readAll(t, p)
	if len(snapshots) != 3 || snapshots[0].Scope.Region != "eu-west-1" {
		t.Fatalf("%d snapshots", len(snapshots))
	}
	for _, i := range []int{0, 2} {
		if len(snapshots[i].Gaps) < 7 {
			t.Errorf("%v: gaps %+v", snapshots[i].Scope, snapshots[i].Gaps)
		}
	}
	for _, g := range snapshots[0].Gaps {
		if !strings.Contains(g.Hint, "grant "+g.Subject) || !strings.Contains(g.Cause, "UnauthorizedOperation") {
			t.Errorf("refused: %+v", g)
		}
	}
	if g := snapshots[2].Gaps[0]; g.Cause != "HTTP status 500, and no answer that AWS would give" {
		t.Errorf("broken: %+v", g)
	}
	want := []string{"us-east-1 eni-1 () at 54.84.1.1 tcp/11211: reachable/world by sgr-2"}
	if diff := cmp.Diff(want, lines(snapshots, 11211)); diff != "" || len(snapshots[1].Gaps) != 0 {
		t.Errorf("%s\ngaps of the throttled region: %+v", diff, snapshots[1].Gaps)
	}
}

// TestUnreadIsUnknown refuses, one at a time, what decides about an open interface: it stays in the report.
func TestUnreadIsUnknown(t *testing.T) {
	for op, want := range map[string]string{
		"ec2:DescribeNetworkAcls":                 "unknown/world by sgr-1, network_acl_unreadable",
		"ec2:DescribeRouteTables":                 "unknown/world by sgr-1, route_table_unreadable",
		"ec2:DescribeInternetGateways":            "unknown/world by sgr-1, internet_gateway_unreadable",
		"ec2:GetManagedPrefixListEntries":         "unknown/none by sgr-1, prefix_list_unreadable",
		"ec2:DescribeSecurityGroups":              "unknown/none by sg-1#unread, security_group_unreadable",
		"ec2:DescribeVpcBlockPublicAccessOptions": "reachable/world by sgr-1",
		"ec2:DescribeSecurityGroupRules":          "reachable/world by sg-1#0",
		"ec2:DescribeSubnets":                     "reachable/world by sgr-1",
	} {
		t.Run(op, func(t *testing.T) {
			r := publicRegion("us-east-1", "54.84.1.2", ec2.SecurityGroupRule{
				SecurityGroupRuleID: "sgr-1", GroupID: "sg-1", IPProtocol: "tcp", FromPort: port(11211), ToPort: port(11211), PrefixListID: "pl-1",
			})
			r.PrefixLists = []ec2.PrefixList{{PrefixListID: "pl-1", Entries: []string{"0.0.0.0/0"}}}
			p, _ := serve(t, oneAccount(r), testAccount, aws.Config{}, func(operation string, _ *http.Request) emulate.Fault {
				return emulate.Fault{Refuse: operation == op}
			})
			snapshots := readAll(t, p)
			got := lines(snapshots, 11211)
			if op == "ec2:DescribeSecurityGroups" {
				got = got[:1] // and the same over UDP
			}
			if diff := cmp.Diff([]string{"us-east-1 eni-1 () at 54.84.1.2 tcp/11211: " + want}, got); diff != "" {
				t.Error(diff)
			}
			if len(snapshots[0].Gaps) != 1 || snapshots[0].Gaps[0].Subject != op {
				t.Errorf("gaps %+v, want %s", snapshots[0].Gaps, op)
			}
			assumes := snapshots[0].Endpoints[0].Assumes
			if wanted := op == "ec2:DescribeVpcBlockPublicAccessOptions"; wanted != slices.Contains(assumes, "vpc-block-public-access-off") {
				t.Errorf("assumes %q", assumes)
			}
		})
	}
}

// TestCalls counts what a region costs.
func TestCalls(t *testing.T) {
	plain := publicRegion("us-east-1", "54.84.1.2", ec2.SecurityGroupRule{SecurityGroupRuleID: "sgr-1", GroupID: "sg-1", IPProtocol: "tcp", FromPort: port(443), ToPort: port(443), CidrIPv4: "0.0.0.0/0"})
	every := map[string]int{
		"ec2:DescribeNetworkInterfaces": 1, "ec2:DescribeSecurityGroups": 1, "ec2:DescribeSubnets": 1, "ec2:DescribeRouteTables": 1,
		"ec2:DescribeNetworkAcls": 1, "ec2:DescribeInternetGateways": 1, "ec2:DescribeVpcBlockPublicAccessOptions": 1,
		"elasticloadbalancing:DescribeLoadBalancers": 2, "lightsail:GetInstances": 1,
	}
	account := map[string]int{"sts:GetCallerIdentity": 1, "globalaccelerator:ListAccelerators": 1}

	t.Run("nothing open", func(t *testing.T) {
		p, calls := serve(t, oneAccount(plain), testAccount, aws.Config{Regions: []string{"us-east-1"}, Ports: []uint16{11211}}, nil)
		readAll(t, p)
		want := maps.Clone(every)
		maps.Copy(want, account)
		if diff := cmp.Diff(want, calls.Calls()); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
	t.Run("something open", func(t *testing.T) {
		p, calls := serve(t, oneAccount(publicRegion("us-east-1", "54.84.1.2", open("sgr-1", "sg-1"))), testAccount,
			aws.Config{Regions: []string{"us-east-1"}, Ports: []uint16{11211}}, nil)
		readAll(t, p)
		want := maps.Clone(every)
		maps.Copy(want, map[string]int{"ec2:DescribeSecurityGroupRules": 1, "ec2:DescribeInstances": 1})
		total := 0
		for _, n := range want {
			total += n
		}
		if total > 12 {
			t.Errorf("%d list operations for a region", total)
		}
		maps.Copy(want, account)
		if diff := cmp.Diff(want, calls.Calls()); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
	t.Run("further regions", func(t *testing.T) {
		w := oneAccount(publicRegion("us-east-1", "54.84.1.2"), publicRegion("eu-west-1", "3.250.1.1"), &ec2.Region{Name: "me-south-1", OptInStatus: "not-opted-in"})
		p, calls := serve(t, w, testAccount, aws.Config{}, nil)
		if n := len(readAll(t, p)); n != 2 {
			t.Errorf("%d regions, want the two enabled ones", n)
		}
		want := map[string]int{"sts:GetCallerIdentity": 1, "globalaccelerator:ListAccelerators": 1, "ec2:DescribeRegions": 1}
		for op, n := range every {
			want[op] = 2 * n
		}
		if diff := cmp.Diff(want, calls.Calls()); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

// actions returns the actions that a policy of deploy/iam allows.
func actions(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/iam/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Statement []struct {
			Effect string
			Action any
		}
	}
	if err := json.Unmarshal(text, &policy); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range policy.Statement {
		if s.Effect != "Allow" {
			t.Errorf("%s: effect %s", name, s.Effect)
		}
		switch a := s.Action.(type) {
		case string:
			out = append(out, a)
		case []any:
			for _, v := range a {
				out = append(out, v.(string))
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestPolicies compares what is asked with what the policies grant: nothing is missing, and nothing is granted for nothing.
func TestPolicies(t *testing.T) {
	w := ec2.Demo()
	p, calls := serve(t, w, w.Management, aws.Config{Organization: true, Role: ec2.DemoRole}, nil)
	readAll(t, p)
	asked := slices.Sorted(maps.Keys(calls.Calls()))
	granted := slices.Concat(aws.Permissions(), aws.OrganizationPermissions())
	slices.Sort(granted)
	if diff := cmp.Diff(granted, asked); diff != "" {
		t.Errorf("permissions that are listed (-) and asked (+):\n%s", diff)
	}
	if diff := cmp.Diff(aws.Permissions(), actions(t, "aws-read-policy.json")); diff != "" {
		t.Errorf("deploy/iam/aws-read-policy.json:\n%s", diff)
	}
	if diff := cmp.Diff(aws.OrganizationPermissions(), actions(t, "aws-organization-policy.json")); diff != "" {
		t.Errorf("deploy/iam/aws-organization-policy.json:\n%s", diff)
	}
}

func TestSharedVPC(t *testing.T) {
	const owner = "999988887777"
	r := publicRegion("us-east-1", "54.84.1.2", open("sgr-1", "sg-1"))
	r.Vpcs[0].OwnerID = owner
	r.Subnets = []ec2.Subnet{{SubnetID: "subnet-1", VpcID: "vpc-1", CidrBlock: "10.0.1.0/24", OwnerID: owner}}
	r.InternetGateways = nil // the owner's, and not described to others
	shown := func(mode string) []string {
		r.Subnets[0].BlockPublicAccessStates = &ec2.BlockPublicAccessStates{InternetGatewayBlockMode: mode}
		p, _ := serve(t, oneAccount(r), testAccount, aws.Config{}, nil)
		return lines(readAll(t, p), 11211)
	}
	if diff := cmp.Diff([]string{"us-east-1 eni-1 () at 54.84.1.2 tcp/11211: reachable/world by sgr-1"}, shown("off")); diff != "" {
		t.Error(diff)
	}
	if got := shown("block-ingress"); len(got) != 0 {
		t.Errorf("the owner blocks public access: %q", got)
	}
	// The participant's own block does not concern a subnet of someone else.
	r.BlockPublicAccess.InternetGatewayBlockMode = "block-bidirectional"
	if got := shown("off"); len(got) != 1 {
		t.Errorf("exposures: %q", got)
	}
}

func TestForeignGroupOfAParticipant(t *testing.T) {
	r := publicRegion("us-east-1", "54.84.1.2", open("sgr-1", "sg-1"))
	r.NetworkInterfaces[0].OwnerID = "999988887777"
	r.SecurityGroups = []ec2.SecurityGroup{{GroupID: "sg-1", GroupName: "theirs", OwnerID: "999988887777", VpcID: "vpc-1"}}
	p, _ := serve(t, oneAccount(r), testAccount, aws.Config{}, nil)
	if got := lines(readAll(t, p), 11211); len(got) != 1 {
		t.Errorf("the owner of the VPC sees %q", got)
	}
}

func TestBlockPublicAccessDisagreement(t *testing.T) {
	for _, c := range []struct{ account, subnet, want string }{
		{"off", "off", "reachable/world by sgr-1"},
		{"off", "block-ingress", "unknown/world by sgr-1, vpc_bpa"},
		{"block-ingress", "off", "unknown/world by sgr-1, vpc_bpa"},
		{"block-ingress", "block-ingress", ""},
		{"block-bidirectional", "", ""},
	} {
		r := publicRegion("us-east-1", "54.84.1.2", open("sgr-1", "sg-1"))
		r.BlockPublicAccess.InternetGatewayBlockMode = c.account
		r.Subnets = []ec2.Subnet{{SubnetID: "subnet-1", VpcID: "vpc-1", CidrBlock: "10.0.1.0/24"}}
		if c.subnet != "" {
			r.Subnets[0].BlockPublicAccessStates = &ec2.BlockPublicAccessStates{InternetGatewayBlockMode: c.subnet}
		}
		p, _ := serve(t, oneAccount(r), testAccount, aws.Config{}, nil)
		var want []string
		if c.want != "" {
			want = []string{"us-east-1 eni-1 () at 54.84.1.2 tcp/11211: " + c.want}
		}
		if diff := cmp.Diff(want, lines(readAll(t, p), 11211)); diff != "" {
			t.Errorf("%+v:\n%s", c, diff)
		}
	}
}

func TestBlockPublicAccessExclusions(t *testing.T) {
	const arn = "arn:aws:ec2:us-east-1:" + testAccount
	for _, c := range []struct {
		resource, mode, state string
		open                  bool
	}{
		{arn + ":subnet/subnet-1", "allow-bidirectional", "create-complete", true},
		{arn + ":vpc/vpc-1", "allow-bidirectional", "update-complete", true},
		{arn + ":vpc/vpc-1", "allow-egress", "create-complete", false},
		{arn + ":vpc/vpc-1", "allow-bidirectional", "delete-complete", false},
		{arn + ":vpc/vpc-2", "allow-bidirectional", "create-complete", false},
	} {
		r := publicRegion("us-east-1", "54.84.1.2", open("sgr-1", "sg-1"))
		r.BlockPublicAccess = ec2.BlockPublicAccess{
			InternetGatewayBlockMode: "block-ingress",
			Exclusions:               []ec2.Exclusion{{ResourceArn: c.resource, InternetGatewayExclusionMode: c.mode, State: c.state}},
		}
		p, _ := serve(t, oneAccount(r), testAccount, aws.Config{}, nil)
		if got := lines(readAll(t, p), 11211); (len(got) == 1) != c.open {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestLightsailPages(t *testing.T) {
	r := &ec2.Region{Name: "us-east-1"}
	for i := range 150 {
		v := ec2.LightsailInstance{Name: fmt.Sprintf("web-%03d", i), IPAddressType: "ipv4", PublicIPAddress: fmt.Sprintf("3.3.3.%d", i)}
		if i == 149 {
			v.Networking.Ports = []ec2.LightsailPort{{Protocol: "all", FromPort: 0, ToPort: 65535, Cidrs: []string{"0.0.0.0/0"}}}
		}
		r.LightsailInstances = append(r.LightsailInstances, v)
	}
	p, _ := serve(t, oneAccount(r), testAccount, aws.Config{}, nil)
	want := []string{
		"us-east-1 web-149 (web-149) at 3.3.3.149 tcp/11211: reachable/world by web-149#0",
		"us-east-1 web-149 (web-149) at 3.3.3.149 udp/11211: reachable/world by web-149#0",
	}
	if diff := cmp.Diff(want, lines(readAll(t, p), 11211)); diff != "" {
		t.Error(diff)
	}
}

func TestOrganization(t *testing.T) {
	w := &ec2.World{Management: "111111111111", Accounts: []*ec2.Account{
		{ID: "111111111111", Regions: []*ec2.Region{publicRegion("us-east-1", "54.84.1.1", open("sgr-1", "sg-1"))}},
		{ID: "222222222222", Roles: []string{"audit"}, Regions: []*ec2.Region{publicRegion("eu-west-1", "3.250.1.1", open("sgr-2", "sg-1")), {Name: "us-east-1"}}},
		{ID: "333333333333", Regions: []*ec2.Region{publicRegion("us-east-1", "54.84.1.3", open("sgr-3", "sg-1"))}},
		{ID: "444444444444", Status: "SUSPENDED", Regions: []*ec2.Region{publicRegion("us-east-1", "54.84.1.4", open("sgr-4", "sg-1"))}},
	}}
	w.Complete()
	check := func(t *testing.T, c aws.Config, want []cloud.Scope) {
		c.Organization, c.Role = true, "audit"
		p, _ := serve(t, w, w.Management, c, nil)
		snapshots := readAll(t, p)
		var got []cloud.Scope
		var gaps []cloud.Gap
		for _, s := range snapshots {
			got = append(got, s.Scope)
			gaps = append(gaps, s.Gaps...)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("scopes:\n%s", diff)
		}
		if len(gaps) != 1 || gaps[0].Subject != "sts:AssumeRole" || !strings.HasPrefix(gaps[0].Cause, "AccessDenied: ") {
			t.Errorf("gaps: %+v", gaps)
		}
	}
	t.Run("all regions", func(t *testing.T) {
		check(t, aws.Config{}, []cloud.Scope{
			{Provider: "aws", Account: "111111111111", Region: "us-east-1"},
			{Provider: "aws", Account: "222222222222", Region: "eu-west-1"},
			{Provider: "aws", Account: "222222222222", Region: "us-east-1"},
			{Provider: "aws", Account: "333333333333"},
		})
	})
	t.Run("no role is named", func(t *testing.T) {
		p, _ := serve(t, w, w.Management, aws.Config{Organization: true}, nil)
		_, err := p.Scopes(t.Context())
		var hint *providers.Hint
		if !errors.As(err, &hint) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("not the management account", func(t *testing.T) {
		p, _ := serve(t, w, "222222222222", aws.Config{Organization: true, Role: "audit"}, nil)
		_, err := p.Scopes(t.Context())
		var hint *providers.Hint
		if !errors.As(err, &hint) || !strings.Contains(err.Error(), "organizations:ListAccounts: AccessDeniedException") {
			t.Errorf("error %v", err)
		}
	})
}

// TestGovCloud reads a partition that has neither Lightsail nor Global Accelerator, through a role of that partition.
func TestGovCloud(t *testing.T) {
	w := &ec2.World{Partition: "aws-us-gov", Management: "111111111111", Accounts: []*ec2.Account{
		{ID: "111111111111", Regions: []*ec2.Region{publicRegion("us-gov-west-1", "54.84.1.1", open("sgr-1", "sg-1"))}},
		{ID: "222222222222", Roles: []string{"audit"}, Regions: []*ec2.Region{publicRegion("us-gov-west-1", "3.250.1.1", open("sgr-2", "sg-1"))}},
	}}
	w.Complete()
	p, calls := serve(t, w, w.Management, aws.Config{Organization: true, Role: "audit", Regions: []string{"us-gov-west-1"}}, nil)
	want := []string{
		"us-gov-west-1 eni-1 () at 54.84.1.1 tcp/11211: reachable/world by sgr-1",
		"us-gov-west-1 eni-1 () at 3.250.1.1 tcp/11211: reachable/world by sgr-2",
	}
	if diff := cmp.Diff(want, lines(readAll(t, p), 11211)); diff != "" {
		t.Error(diff)
	}
	for op := range calls.Calls() {
		if strings.HasPrefix(op, "lightsail:") || strings.HasPrefix(op, "globalaccelerator:") {
			t.Errorf("%s was asked", op)
		}
	}
}

// TestEnvironment finds endpoint, region and credentials where the SDK looks for them.
func TestEnvironment(t *testing.T) {
	w := oneAccount(publicRegion("us-east-1", "54.84.1.2", open("sgr-1", "sg-1")))
	_, server := serveURL(t, w)
	id, secret := w.Keys(testAccount)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": server + "/aws/", "AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_PROFILE": "", "AWS_SESSION_TOKEN": "",
	} {
		t.Setenv(name, value)
	}
	if got := lines(readAll(t, aws.New(aws.Config{})), 11211); len(got) != 1 {
		t.Errorf("exposures %q", got)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	_, err := aws.New(aws.Config{}).Scopes(t.Context())
	var hint *providers.Hint
	if !errors.Is(err, providers.ErrNotConfigured) || !errors.As(err, &hint) {
		t.Errorf("without credentials: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "unknown")
	_, err = aws.New(aws.Config{}).Scopes(t.Context())
	if errors.Is(err, providers.ErrNotConfigured) || !errors.As(err, &hint) || !strings.Contains(err.Error(), "InvalidClientTokenId") {
		t.Errorf("with unknown credentials: %v", err)
	}
}

func TestFound(t *testing.T) {
	nothing := func(string) bool { return false }
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i+1 < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	if got := aws.Found(env("AWS_PROFILE", "audit"), nothing); got != "AWS_PROFILE" {
		t.Errorf("profile: %q", got)
	}
	if got := aws.Found(env(), nothing); got != "" {
		t.Errorf("nothing: %q", got)
	}
	if got := aws.Found(env("AWS_CONFIG_FILE", "/x/config"), func(path string) bool { return path == "/x/config" }); got != "/x/config" {
		t.Errorf("file: %q", got)
	}
}
