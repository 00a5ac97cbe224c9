package aws_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/providers/aws"
	"github.com/cloudaudit/cloudaudit/providers/providertest"
	"github.com/cloudaudit/cloudaudit/remedy"
)

// fixScene has every kind of rule that is fixed, each with neighbours that must stay, in two groups and a Lightsail
// instance.
const fixScene = `
vpcs: [{VpcId: vpc-1, CidrBlock: 10.0.0.0/16, Ipv6: "2600:1f18:1:100::/56"}]
security_groups:
- {GroupId: sg-1, GroupName: web, VpcId: vpc-1, Tags: [{Key: team, Value: shop}]}
- {GroupId: sg-2, GroupName: cache, VpcId: vpc-1}
security_group_rules:
- {SecurityGroupRuleId: sgr-wide, GroupId: sg-1, IpProtocol: tcp, FromPort: 0, ToPort: 65535, CidrIpv4: 0.0.0.0/0, Description: "all of $(it)'s", Tags: [{Key: team, Value: shop}]}
- {SecurityGroupRuleId: sgr-wide6, GroupId: sg-1, IpProtocol: tcp, FromPort: 0, ToPort: 65535, CidrIpv6: "::/0"}
- {SecurityGroupRuleId: sgr-vpn, GroupId: sg-1, IpProtocol: tcp, FromPort: 0, ToPort: 65535, CidrIpv4: 10.0.0.0/8, Description: vpn}
- {SecurityGroupRuleId: sgr-app, GroupId: sg-1, IpProtocol: tcp, FromPort: 0, ToPort: 65535, ReferencedGroupInfo: {GroupId: sg-2}}
- {SecurityGroupRuleId: sgr-list, GroupId: sg-1, IpProtocol: tcp, FromPort: 0, ToPort: 65535, PrefixListId: pl-1}
- {SecurityGroupRuleId: sgr-udp, GroupId: sg-1, IpProtocol: udp, FromPort: 11211, ToPort: 11211, CidrIpv4: 0.0.0.0/0, Description: memcached}
- {SecurityGroupRuleId: sgr-https, GroupId: sg-1, IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIpv4: 0.0.0.0/0}
- {SecurityGroupRuleId: sgr-out, GroupId: sg-1, IsEgress: true, IpProtocol: "-1", CidrIpv4: 0.0.0.0/0}
- {SecurityGroupRuleId: sgr-low, GroupId: sg-2, IpProtocol: udp, FromPort: 11211, ToPort: 12000, CidrIpv4: 0.0.0.0/1}
- {SecurityGroupRuleId: sgr-high, GroupId: sg-2, IpProtocol: udp, FromPort: 11000, ToPort: 11211, CidrIpv4: 128.0.0.0/1}
- {SecurityGroupRuleId: sgr-six, GroupId: sg-2, IpProtocol: udp, FromPort: 11211, ToPort: 11211, CidrIpv6: "::/0"}
network_interfaces:
- NetworkInterfaceId: eni-1
  VpcId: vpc-1
  SubnetId: subnet-1
  Groups: [{GroupId: sg-1}, {GroupId: sg-2}]
  PrivateIpAddresses: [{PrivateIpAddress: 10.0.1.10, Primary: true, Association: {PublicIp: 54.84.1.2, IpOwnerId: "111122223333"}}]
  Ipv6Addresses: [{Ipv6Address: "2600:1f18:1:100::10"}]
  Attachment: {InstanceId: i-1}
route_tables:
- RouteTableId: rtb-main
  VpcId: vpc-1
  Associations: [{Main: true}]
  Routes:
  - {State: active, GatewayId: igw-1, DestinationCidrBlock: 0.0.0.0/0}
  - {State: active, GatewayId: igw-1, DestinationIpv6CidrBlock: "::/0"}
internet_gateways: [{InternetGatewayId: igw-1, Attachments: [{VpcId: vpc-1, State: available}]}]
prefix_lists: {pl-1: [5.5.5.0/24]}
`

const lightsailScene = `
lightsail_instances:
- name: blog
  publicIpAddress: 3.3.3.3
  ipv6Addresses: ["2a05:d018:1:2::9"]
  networking:
    ports:
    - {protocol: tcp, fromPort: 0, toPort: 65535, cidrs: [0.0.0.0/0], ipv6Cidrs: ["::/0"]}
    - {protocol: udp, fromPort: 11211, toPort: 11211, cidrs: [0.0.0.0/0], ipv6Cidrs: ["::/0"]}
    - {protocol: tcp, fromPort: 22, toPort: 22, cidrs: [9.9.9.9/32], cidrListAliases: [lightsail-connect]}
`

func noWait(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func fixer(t testing.TB, w *ec2.World, match func(string, *http.Request) emulate.Fault, ports ...uint16) (*aws.Provider, *emulate.Faults) {
	t.Helper()
	if len(ports) == 0 {
		ports = []uint16{11211}
	}
	return serve(t, w, testAccount, aws.Config{Regions: []string{"us-east-1"}, Ports: ports, Sleep: noWait}, match)
}

func isWrite(op string) bool {
	return slices.ContainsFunc(aws.WritePermissions(), func(action string) bool { return action == op })
}

// everything adds a rule for all protocols to the scene.
func everything(w *ec2.World) {
	r := w.Accounts[0].Regions[0]
	r.SecurityGroupRules = append(r.SecurityGroupRules,
		ec2.SecurityGroupRule{SecurityGroupRuleID: "sgr-all", GroupID: "sg-2", GroupOwnerID: testAccount, IPProtocol: "-1", CidrIPv4: "0.0.0.0/0", Description: "everything"})
}

func TestFixerConformance(t *testing.T) {
	for name, c := range map[string]struct {
		scene string
		world func(*ec2.World)
		keep  remedy.KeepPrivate
		loss  bool
	}{
		"ranges, ports, both families":    {fixScene, func(*ec2.World) {}, remedy.KeepPrivate{}, false},
		"rules of which nothing remains":  {fixScene, func(*ec2.World) {}, remedy.KeepPrivate{None: true}, false},
		"changes that show late":          {fixScene, func(w *ec2.World) { w.Settle = 3 }, remedy.KeepPrivate{}, false},
		"a source that cannot be changed": {fixScene, func(w *ec2.World) { w.KeepsIPv6 = true }, remedy.KeepPrivate{}, false},
		"all protocols":                   {fixScene, everything, remedy.KeepPrivate{}, true},
		"60 of 60 rules at the peak":      {fixScene, func(w *ec2.World) { fill(w, 60-15) }, remedy.KeepPrivate{}, false},
		"room without link-local sources": {fixScene, func(w *ec2.World) { fill(w, 60-13) }, remedy.KeepPrivate{}, false},
		"several ports":                   {fixScene, everything, remedy.KeepPrivate{}, true},
		"Lightsail, all protocols": {lightsailScene, func(w *ec2.World) {
			p := &w.Accounts[0].Regions[0].LightsailInstances[0].Networking.Ports[0]
			p.Protocol, p.CidrListAliases = "all", []string{"lightsail-connect"}
		}, remedy.KeepPrivate{}, true},
		"Lightsail": {lightsailScene, func(*ec2.World) {}, remedy.KeepPrivate{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ports := []uint16{11211}
			if name == "several ports" {
				ports = []uint16{443, 11211, 11212}
			}
			providertest.RunFixer(t, providertest.FixerCloud{
				Open: func(t *testing.T, match func(string, *http.Request) emulate.Fault) (providers.Fixer, *emulate.Faults, func()) {
					w := parseRegion(t, c.scene)
					c.world(w)
					p, faults := fixer(t, w, match, ports...)
					return p, faults, func() { meddle(w) }
				},
				Options: remedy.Options{Ports: ports, KeepPrivate: c.keep}, Writes: isWrite, AllowLoss: c.loss,
			})
		})
	}
}

// fill adds n rules of IPv4 to the first group.
func fill(w *ec2.World, n int) {
	r := w.Accounts[0].Regions[0]
	for i := range n {
		port := 20000 + i
		r.SecurityGroupRules = append(r.SecurityGroupRules, ec2.SecurityGroupRule{
			SecurityGroupRuleID: fmt.Sprint("sgr-fill-", i), GroupID: "sg-1", GroupOwnerID: testAccount, IPProtocol: "tcp", FromPort: &port, ToPort: &port, CidrIPv4: "1.1.1.1/32",
		})
	}
}

// meddle adds a rule to every group and instance, as someone else would.
func meddle(w *ec2.World) {
	r := w.Accounts[0].Regions[0]
	port := 8443
	for _, g := range r.SecurityGroups {
		r.SecurityGroupRules = append(r.SecurityGroupRules, ec2.SecurityGroupRule{
			SecurityGroupRuleID: "sgr-else-" + g.GroupID, GroupID: g.GroupID, GroupOwnerID: testAccount, IPProtocol: "tcp", FromPort: &port, ToPort: &port, CidrIPv4: "1.1.1.1/32",
		})
	}
	for i := range r.LightsailInstances {
		n := &r.LightsailInstances[i].Networking
		n.Ports = append(slices.Clone(n.Ports), ec2.LightsailPort{Protocol: "tcp", FromPort: 8443, ToPort: 8443, Cidrs: []string{"1.1.1.1/32"}, AccessDirection: "inbound"})
	}
}

// TestFixPermissionsAreDocumented: the policy that people attach is the list that is tested.
func TestFixPermissionsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../deploy/iam/aws-fix-policy.json")
	if err != nil {
		t.Fatal(err)
	}
	var p struct{ Statement []struct{ Action any } }
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range p.Statement {
		got = append(got, strings.Fields(strings.Trim(fmt.Sprint(s.Action), "[]"))...)
	}
	slices.Sort(got)
	if !slices.Equal(got, aws.WritePermissions()) {
		t.Errorf("documented %v, needed %v", got, aws.WritePermissions())
	}
}

// planOf plans the mending of port 11211 in w.
func planOf(t testing.TB, w *ec2.World, o remedy.Options, match func(string, *http.Request) emulate.Fault) (*remedy.Plan, *aws.Provider, *emulate.Faults) {
	t.Helper()
	p, faults := fixer(t, w, match)
	o.Ports, o.AllowLoss = []uint16{11211}, true // the runner decides about losses
	return planBy(t, p, o), p, faults
}

func planBy(t testing.TB, p *aws.Provider, o remedy.Options) *remedy.Plan {
	t.Helper()
	snapshots := readAll(t, p)
	return remedy.New(snapshots, providertest.Findings(o.Ports, snapshots), map[string]providers.Rewriter{"aws": p}, o)
}

// mend carries out plan and verifies it, and returns the journal.
func mend(t failer, f providers.Fixer, plan *remedy.Plan, loss bool) (*remedy.Runner, *providertest.Journal) {
	t.Helper()
	j := &providertest.Journal{}
	r := providertest.Runner("aws", f, j)
	r.AllowLoss = loss
	outcome, err := r.Do(t.Context(), plan)
	if err == nil {
		err = r.Verify(t.Context(), plan, outcome)
	}
	if err != nil || !outcome.OK() {
		t.Fatalf("%+v, %v", outcome, err)
	}
	return r, j
}

func undo(t failer, r *remedy.Runner, j *providertest.Journal) {
	t.Helper()
	h, err := remedy.ReadHistory(j.Records)
	if err == nil {
		err = r.Undo(t.Context(), h, false)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// failer is a test, or one draw of it.
type failer interface {
	Helper()
	Context() context.Context
	Fatal(...any)
	Fatalf(string, ...any)
}
