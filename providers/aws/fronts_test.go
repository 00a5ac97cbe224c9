package aws_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
	"github.com/cloudaudit/cloudaudit/providers/aws"
)

// behind is a private instance in a VPC with a subnet for balancers that is open to the internet.
const behind = `
region: us-east-1
vpcs: [{VpcId: vpc-1, CidrBlock: 10.0.0.0/16}]
subnets:
- {SubnetId: subnet-1, VpcId: vpc-1, CidrBlock: 10.0.1.0/24}
- {SubnetId: subnet-lb, VpcId: vpc-1, CidrBlock: 10.0.9.0/24}
network_interfaces:
- NetworkInterfaceId: eni-1
  VpcId: vpc-1
  SubnetId: subnet-1
  Groups: [{GroupId: sg-1}]
  PrivateIpAddresses: [{PrivateIpAddress: 10.0.1.10, Primary: true}]
  Attachment: {InstanceId: i-1}
route_tables:
- RouteTableId: rtb-main
  VpcId: vpc-1
  Associations: [{Main: true}]
  Routes: [{DestinationCidrBlock: 10.0.0.0/16, GatewayId: local}]
- RouteTableId: rtb-lb
  VpcId: vpc-1
  Associations: [{SubnetId: subnet-lb}]
  Routes: [{DestinationCidrBlock: 10.0.0.0/16, GatewayId: local}, {DestinationCidrBlock: 0.0.0.0/0, GatewayId: igw-1}]
internet_gateways: [{InternetGatewayId: igw-1, Attachments: [{VpcId: vpc-1, State: available}]}]
`

const (
	fromVPC   = "security_group_rules: [{SecurityGroupRuleId: sgr-1, GroupId: sg-1, IpProtocol: '-1', CidrIpv4: 10.0.0.0/16}]\n"
	fromWorld = "security_group_rules: [{SecurityGroupRuleId: sgr-1, GroupId: sg-1, IpProtocol: '-1', CidrIpv4: 0.0.0.0/0}]\n"
	fromOne   = "security_group_rules: [{SecurityGroupRuleId: sgr-1, GroupId: sg-1, IpProtocol: '-1', CidrIpv4: 5.5.5.0/24}]\n"
	fromLB    = "security_group_rules: [{SecurityGroupRuleId: sgr-1, GroupId: sg-1, IpProtocol: '-1', ReferencedGroupInfo: {GroupId: sg-lb}}, " +
		"{SecurityGroupRuleId: sgr-2, GroupId: sg-lb, IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIpv4: 5.5.5.0/24}]\n"
)

// front returns a balancer in the form of the scene.
func front(kind, scheme, groups, listener string) string {
	return fmt.Sprintf("load_balancers: [{Name: lb, Type: %s, Scheme: %s, VpcId: vpc-1, SecurityGroups: [%s], Subnets: [subnet-lb], PrivateIps: [10.0.9.5], PublicIps: [54.84.7.7], Listeners: [%s]}]\n",
		kind, scheme, groups, listener)
}

func listener(proto string, port int, target string) string {
	return fmt.Sprintf("{Protocol: %s, Port: %d, TargetGroup: {%s}}", proto, port, target)
}

func TestFronts(t *testing.T) {
	const (
		byInstance = "TargetType: instance, Protocol: TCP, Port: 80, Targets: [{Id: i-1, Port: 11211}]"
		byAddress  = "TargetType: ip, Protocol: TCP, Port: 11211, Targets: [{Id: 10.0.1.10}]"
		at         = "us-east-1 eni-1 () at 54.84.7.7 "
	)
	for name, c := range map[string]struct {
		scene string
		want  []string
	}{
		"network, instances see the client": {
			fromWorld + front("network", "internet-facing", "", listener("TCP", 443, byInstance)),
			[]string{at + "tcp/11211 front tcp/443: reachable/world by sgr-1"},
		},
		"network, instances see the client, and the group knows only the VPC": {
			fromVPC + front("network", "internet-facing", "", listener("TCP", 443, byInstance)), nil,
		},
		"network, addresses see the balancer": {
			fromVPC + front("network", "internet-facing", "", listener("TCP", 443, byAddress)),
			[]string{at + "tcp/11211 front tcp/443: reachable/world by sgr-1"},
		},
		"network, addresses see the balancer, and the group knows only a partner": {
			fromOne + front("network", "internet-facing", "", listener("TCP", 443, byAddress)), nil,
		},
		"network, UDP always keeps the client": {
			fromVPC + front("network", "internet-facing", "", listener("UDP", 443, strings.Replace(byAddress, "Protocol: TCP", "Protocol: UDP", 1))), nil,
		},
		"network, both protocols": {
			fromWorld + front("network", "internet-facing", "", listener("TCP_UDP", 1, strings.Replace(byAddress, "Protocol: TCP", "Protocol: TCP_UDP", 1))),
			[]string{at + "tcp/11211 front tcp/1: reachable/world by sgr-1", at + "udp/11211 front udp/1: reachable/world by sgr-1"},
		},
		"network, two listeners": {
			fromWorld + front("network", "internet-facing", "", listener("TCP", 1, byInstance)+", "+listener("TCP", 2, byInstance)),
			[]string{at + "tcp/11211 front tcp/1: reachable/world by sgr-1", at + "tcp/11211 front tcp/2: reachable/world by sgr-1"},
		},
		"network, other target port": {
			fromWorld + front("network", "internet-facing", "", listener("TCP", 11211, strings.ReplaceAll(byInstance, "11211", "8080"))), nil,
		},
		"network, its group is the gate": {
			fromLB + front("network", "internet-facing", "sg-lb", listener("TCP", 443, byAddress)),
			[]string{at + "tcp/11211 front tcp/443: reachable/narrow by sgr-1"},
		},
		"network, internal": {
			fromVPC + front("network", "internal", "", listener("TCP", 443, byAddress)), nil,
		},
		"classic": {
			fromVPC + front("classic", "internet-facing", "", listener("TCP", 443, "Protocol: TCP, Port: 11211, Targets: [{Id: i-1}]")),
			[]string{at + "tcp/11211 front tcp/443: reachable/world by sgr-1"},
		},
		"application": {
			fromVPC + front("application", "internet-facing", "", listener("HTTP", 80, byInstance)),
			[]string{at + "tcp/11211 front tcp/80: reachable/world by sgr-1"},
		},
		"a target elsewhere": {
			fromVPC + front("network", "internet-facing", "", listener("TCP", 443, strings.Replace(byAddress, "10.0.1.10", "10.99.0.1", 1))),
			[]string{"us-east-1 10.99.0.1 (10.99.0.1) at 54.84.7.7 tcp/11211 front tcp/443: unknown/world by , load_balancer_target"},
		},
		"accelerator, other port": {
			fromWorld + "accelerators: [{Name: a, IpAddresses: [75.2.1.1], Listeners: [{Protocol: UDP, FromPort: 1, ToPort: 100, PortOverrides: [{ListenerPort: 53, EndpointPort: 11211}], Endpoints: [{EndpointId: i-1, ClientIPPreservationEnabled: true}]}]}]\n",
			[]string{"us-east-1 eni-1 () at 75.2.1.1 udp/11211 front udp/53: reachable/world by sgr-1"},
		},
		"accelerator, range": {
			fromOne + "accelerators: [{Name: a, IpAddresses: [75.2.1.1], Listeners: [{Protocol: TCP, FromPort: 1, ToPort: 65535, Endpoints: [{EndpointId: i-1, ClientIPPreservationEnabled: true}]}]}]\n",
			[]string{"us-east-1 eni-1 () at 75.2.1.1 tcp/11211: reachable/narrow by sgr-1"},
		},
		"accelerator, overridden away": {
			fromWorld + "accelerators: [{Name: a, Listeners: [{Protocol: TCP, FromPort: 11211, ToPort: 11211, PortOverrides: [{ListenerPort: 11211, EndpointPort: 80}], Endpoints: [{EndpointId: i-1, ClientIPPreservationEnabled: true}]}]}]\n",
			nil,
		},
		"accelerator, disabled": {
			fromWorld + "accelerators: [{Name: a, Enabled: false, Listeners: [{Protocol: TCP, FromPort: 11211, ToPort: 11211, Endpoints: [{EndpointId: i-1, ClientIPPreservationEnabled: true}]}]}]\n",
			nil,
		},
		"accelerator, unknown endpoint": {
			fromWorld + "accelerators: [{Name: a, IpAddresses: [75.2.1.1], Listeners: [{Protocol: TCP, FromPort: 11211, ToPort: 11211, Endpoints: [{EndpointId: eipalloc-1}]}]}]\n",
			[]string{"us-east-1 eipalloc-1 (eipalloc-1) at 75.2.1.1 tcp/11211: unknown/world by , accelerator_endpoint"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := serve(t, parseRegion(t, behind+c.scene), testAccount, aws.Config{}, nil)
			snapshots := readAll(t, p)
			if diff := cmp.Diff(c.want, lines(snapshots, 11211)); diff != "" {
				t.Errorf("exposures (-want +got):\n%s", diff)
			}
			if len(snapshots[0].Gaps) > 0 {
				t.Errorf("gaps %+v", snapshots[0].Gaps)
			}
		})
	}
}

// TestAcceleratorInFrontOfAnInternalBalancer follows a chain: the balancer does not face the internet, the accelerator does.
func TestAcceleratorInFrontOfAnInternalBalancer(t *testing.T) {
	w := parseRegion(t, behind+fromVPC+front("network", "internal", "", listener("TCP", 443, "TargetType: ip, Protocol: TCP, Port: 11211, Targets: [{Id: 10.0.1.10}]")))
	arn := w.Accounts[0].Regions[0].LoadBalancers[0].LoadBalancerArn
	w.Accounts[0].Accelerators = []ec2.Accelerator{{
		Arn: "arn:aws:globalaccelerator::" + testAccount + ":accelerator/a", Name: "a", Enabled: true, IPAddresses: []string{"75.2.1.1"},
		Listeners: []ec2.AcceleratorListener{{
			Arn: "arn:aws:globalaccelerator::" + testAccount + ":accelerator/a/listener/l", Protocol: "TCP", FromPort: 443, ToPort: 443,
			EndpointGroups: []ec2.EndpointGroup{{Region: "us-east-1", Endpoints: []ec2.AcceleratorEndpoint{{EndpointID: arn, ClientIPPreservationEnabled: true}}}},
		}},
	}}
	p, _ := serve(t, w, testAccount, aws.Config{}, nil)
	want := []string{"us-east-1 eni-1 () at 75.2.1.1 tcp/11211 front tcp/443: reachable/world by sgr-1"}
	if diff := cmp.Diff(want, lines(readAll(t, p), 11211)); diff != "" {
		t.Error(diff)
	}
}

// TestNetworkInFrontOfApplicationBalancer follows the other chain.
func TestNetworkInFrontOfApplicationBalancer(t *testing.T) {
	w := parseRegion(t, behind+fromVPC+front("network", "internet-facing", "", listener("TCP", 443, "TargetType: alb, Protocol: TCP, Port: 80, Targets: []"))+
		"") // the application balancer is added below
	r := w.Accounts[0].Regions[0]
	alb := ec2.LoadBalancer{
		LoadBalancerArn:  "arn:aws:elasticloadbalancing:us-east-1:" + testAccount + ":loadbalancer/app/inner/1",
		LoadBalancerName: "inner", Type: "application", Scheme: "internal", VpcID: "vpc-1", DNSName: "inner.example",
		AvailabilityZones: []ec2.AvailabilityZone{{ZoneName: "us-east-1a", SubnetID: "subnet-lb"}},
	}
	group := ec2.TargetGroup{
		TargetGroupArn: "arn:aws:elasticloadbalancing:us-east-1:" + testAccount + ":targetgroup/inner/1", TargetGroupName: "inner",
		TargetType: "instance", Protocol: "HTTP", Port: 11211, VpcID: "vpc-1", LoadBalancerArns: []string{alb.LoadBalancerArn},
		Targets: []ec2.Target{{ID: "i-1", State: "healthy"}},
	}
	alb.Listeners = []ec2.Listener{{
		ListenerArn: "arn:aws:elasticloadbalancing:us-east-1:" + testAccount + ":listener/app/inner/1/1", LoadBalancerArn: alb.LoadBalancerArn, Protocol: "HTTP", Port: 80,
		DefaultActions: []ec2.Action{{Type: "forward", TargetGroupArn: group.TargetGroupArn}},
	}}
	r.TargetGroups[0].Targets = []ec2.Target{{ID: alb.LoadBalancerArn, Port: 80, State: "healthy"}}
	r.TargetGroups = append(r.TargetGroups, group)
	r.LoadBalancers = append(r.LoadBalancers, alb)
	p, _ := serve(t, w, testAccount, aws.Config{}, nil)
	want := []string{"us-east-1 eni-1 () at 54.84.7.7 tcp/11211 front tcp/443: reachable/world by sgr-1"}
	if diff := cmp.Diff(want, lines(readAll(t, p), 11211)); diff != "" {
		t.Error(diff)
	}
}

// TestBalancerWithoutInterfaces knows a balancer by its own description alone, as some emulations have it.
func TestBalancerWithoutInterfaces(t *testing.T) {
	w := parseRegion(t, behind+fromVPC+front("network", "internet-facing", "", listener("TCP", 443, "TargetType: ip, Protocol: TCP, Port: 11211, Targets: [{Id: 10.0.1.10}]")))
	r := w.Accounts[0].Regions[0]
	r.NetworkInterfaces = r.NetworkInterfaces[:1]
	p, _ := serve(t, w, testAccount, aws.Config{}, nil)
	got := lines(readAll(t, p), 11211)
	if len(got) != 1 || !strings.Contains(got[0], "at us-east-1a.lb-") || !strings.HasSuffix(got[0], ".elb.us-east-1.amazonaws.com tcp/11211 front tcp/443: reachable/world by sgr-1") {
		t.Errorf("exposures %q", got)
	}
}

// TestNetworkACLBetweenBalancerAndTarget: an ACL filters at the edge of its subnet, and nothing within.
func TestNetworkACLBetweenBalancerAndTarget(t *testing.T) {
	const acl = "network_acls: [{NetworkAclId: acl-1, VpcId: vpc-1, IsDefault: true, Entries: [" +
		"{RuleNumber: 1, RuleAction: deny, Protocol: '6', CidrBlock: 0.0.0.0/0, PortRange: {From: 11211, To: 11211}}, " +
		"{RuleNumber: 2, RuleAction: allow, Protocol: '-1', CidrBlock: 0.0.0.0/0}, {RuleNumber: 2, Egress: true, RuleAction: allow, Protocol: '-1', CidrBlock: 0.0.0.0/0}]}]\n"
	scene := behind + fromVPC + acl + front("network", "internet-facing", "", listener("TCP", 443, "TargetType: ip, Protocol: TCP, Port: 11211, Targets: [{Id: 10.0.1.10}]"))
	for subnet, want := range map[string]int{"subnet-1": 0, "subnet-lb": 1} {
		w := parseRegion(t, strings.Replace(scene, "SubnetId: subnet-1\n", "SubnetId: "+subnet+"\n", 1))
		p, _ := serve(t, w, testAccount, aws.Config{}, nil)
		if got := lines(readAll(t, p), 11211); len(got) != want {
			t.Errorf("target in %s: %q, want %d", subnet, got, want)
		}
	}
}

// TestUnreadFrontsAreUnknown refuses what is asked about a balancer, one at a time: the way through it stays in the report.
func TestUnreadFrontsAreUnknown(t *testing.T) {
	for op, want := range map[string]string{
		"elasticloadbalancing:DescribeLoadBalancers":         "us-east-1 eni-lb-1 (ELB net/lb/",
		"elasticloadbalancing:DescribeListeners":             "us-east-1 lb (lb) at 54.84.7.7 tcp/11211: unknown/world",
		"elasticloadbalancing:DescribeTargetGroups":          "us-east-1 lb (lb) at 54.84.7.7 tcp/11211: unknown/world",
		"elasticloadbalancing:DescribeTargetHealth":          "us-east-1 lb (lb) at 54.84.7.7 tcp/11211 front tcp/443: unknown/world",
		"elasticloadbalancing:DescribeTargetGroupAttributes": "us-east-1 lb (lb) at 54.84.7.7 tcp/11211 front tcp/443: unknown/world",
	} {
		w := parseRegion(t, behind+fromVPC+front("network", "internet-facing", "", listener("TCP", 443, "TargetType: ip, Protocol: TCP, Port: 11211, Targets: [{Id: 10.0.1.10}]")))
		p, _ := serve(t, w, testAccount, aws.Config{}, func(operation string, _ *http.Request) emulate.Fault {
			return emulate.Fault{Refuse: operation == op}
		})
		got := lines(readAll(t, p), 11211)
		if len(got) == 0 || !strings.HasPrefix(got[0], want) || !strings.Contains(got[0], "unknown") {
			t.Errorf("%s: %q", op, got)
		}
	}
}
