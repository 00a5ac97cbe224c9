package ec2_test

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/lightsail"
	lightsailtypes "github.com/aws/aws-sdk-go-v2/service/lightsail/types"

	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
)

// TestRuleWrites writes rules with the SDK: what is made can be read with its id, description and tags, a rule that is
// modified keeps them, and whatever EC2 refuses is refused without any change.
func TestRuleWrites(t *testing.T) {
	w, err := ec2.ParseRegion(production, []byte(`
security_groups: [{GroupId: sg-1, VpcId: vpc-1}]
security_group_rules:
- {SecurityGroupRuleId: sgr-1, GroupId: sg-1, IpProtocol: tcp, FromPort: 0, ToPort: 65535, CidrIpv4: 0.0.0.0/0, Description: all, Tags: [{Key: a, Value: b}]}
lightsail_instances:
- {name: blog, networking: {ports: [{protocol: tcp, fromPort: 22, toPort: 22, cidrs: [0.0.0.0/0]}]}}
`))
	if err != nil {
		t.Fatal(err)
	}
	w.Settle, w.RulesPerGroup = 1, 3
	config := at(t, w, w, production, "us-east-1")
	c, ctx := sdk.NewFromConfig(config), t.Context()
	rules := func() []types.SecurityGroupRule {
		t.Helper()
		out, err := c.DescribeSecurityGroupRules(ctx, &sdk.DescribeSecurityGroupRulesInput{})
		if err != nil {
			t.Fatal(err)
		}
		return out.SecurityGroupRules
	}
	authorize := func(cidr string, dry bool) (*sdk.AuthorizeSecurityGroupIngressOutput, error) {
		return c.AuthorizeSecurityGroupIngress(ctx, &sdk.AuthorizeSecurityGroupIngressInput{
			GroupId: aws.String("sg-1"), DryRun: aws.Bool(dry),
			IpPermissions: []types.IpPermission{{
				IpProtocol: aws.String("6"), FromPort: aws.Int32(11212), ToPort: aws.Int32(65535),
				IpRanges: []types.IpRange{{CidrIp: aws.String(cidr), Description: aws.String("more")}},
			}},
			TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeSecurityGroupRule, Tags: []types.Tag{{Key: aws.String("x"), Value: aws.String("y")}}}},
		})
	}
	modify := func(id string, r types.SecurityGroupRuleRequest, dry bool) error {
		_, err := c.ModifySecurityGroupRules(ctx, &sdk.ModifySecurityGroupRulesInput{
			GroupId: aws.String("sg-1"), DryRun: aws.Bool(dry),
			SecurityGroupRules: []types.SecurityGroupRuleUpdate{{SecurityGroupRuleId: aws.String(id), SecurityGroupRule: &r}},
		})
		return err
	}
	revoke := func(id string, dry bool) error {
		_, err := c.RevokeSecurityGroupIngress(ctx, &sdk.RevokeSecurityGroupIngressInput{GroupId: aws.String("sg-1"), SecurityGroupRuleIds: []string{id}, DryRun: aws.Bool(dry)})
		return err
	}
	low := types.SecurityGroupRuleRequest{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(0), ToPort: aws.Int32(11210), CidrIpv4: aws.String("0.0.0.0/0"), Description: aws.String("all")}

	_, err = authorize("1.2.3.4/24", true)
	for _, err := range []error{err, modify("sgr-1", low, true), revoke("sgr-1", true)} {
		if code(err) != "DryRunOperation" {
			t.Errorf("a dry run: %v", err)
		}
	}
	if len(rules()) != 1 {
		t.Fatal("a dry run was carried out")
	}
	made, err := authorize("1.2.3.4/24", false)
	if err != nil || len(made.SecurityGroupRules) != 1 {
		t.Fatalf("%+v, %v", made, err)
	}
	if len(rules()) != 1 {
		t.Error("a change shows at once, although it settles")
	}
	got := rules()
	if len(got) != 2 || *got[1].SecurityGroupRuleId != *made.SecurityGroupRules[0].SecurityGroupRuleId || *got[1].CidrIpv4 != "1.2.3.0/24" ||
		*got[1].IpProtocol != "tcp" || *got[1].Description != "more" || *got[1].Tags[0].Value != "y" {
		t.Errorf("made %+v", got[1])
	}
	if err := modify("sgr-1", low, false); err != nil {
		t.Fatal(err)
	}
	rules()
	if got = rules(); *got[0].SecurityGroupRuleId != "sgr-1" || *got[0].ToPort != 11210 || *got[0].Tags[0].Key != "a" || *got[0].Description != "all" {
		t.Errorf("modified %+v", got[0])
	}

	_, again := authorize("1.2.3.0/24", false)
	six := low
	six.CidrIpv4, six.CidrIpv6 = nil, aws.String("::/0")
	same := types.SecurityGroupRuleRequest{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(11212), ToPort: aws.Int32(65535), CidrIpv4: aws.String("1.2.3.0/24")}
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"a rule that is there":           {again, "InvalidPermission.Duplicate"},
		"modified to a rule that is":     {modify("sgr-1", same, false), "InvalidPermission.Duplicate"},
		"another kind of source":         {modify("sgr-1", six, false), "InvalidParameterValue"},
		"a modified rule that is gone":   {modify("sgr-9", low, false), "InvalidSecurityGroupRuleId.NotFound"},
		"a revoked rule that is gone":    {revoke("sgr-9", false), "InvalidSecurityGroupRuleId.NotFound"},
		"a dry run of what is not there": {revoke("sgr-9", true), "InvalidSecurityGroupRuleId.NotFound"},
	} {
		if code(test.err) != test.want {
			t.Errorf("%s: %v", name, test.err)
		}
	}
	for n, want := range []string{"<nil>", "RulesPerSecurityGroupLimitExceeded"} {
		if _, err := authorize(fmt.Sprintf("9.9.%d.0/24", n), false); code(err) != want {
			t.Errorf("rule %d: %v", n+3, err)
		}
	}
	if err := revoke("sgr-1", false); err != nil {
		t.Fatal(err)
	}
	rules()
	if got = rules(); len(got) != 2 || *got[0].SecurityGroupRuleId == "sgr-1" {
		t.Errorf("after a revoke %+v", got)
	}

	ls := lightsail.NewFromConfig(config)
	if _, err := ls.PutInstancePublicPorts(ctx, &lightsail.PutInstancePublicPortsInput{
		InstanceName: aws.String("blog"), PortInfos: []lightsailtypes.PortInfo{{Protocol: "udp", FromPort: 1, ToPort: 2, Cidrs: []string{"5.5.5.0/24"}}},
	}); err != nil {
		t.Fatal(err)
	}
	instances, err := ls.GetInstances(ctx, &lightsail.GetInstancesInput{})
	if err != nil {
		t.Fatal(err)
	}
	if ports := instances.Instances[0].Networking.Ports; len(ports) != 1 || ports[0].Protocol != "udp" || ports[0].AccessDirection != "inbound" {
		t.Errorf("ports %+v", ports)
	}
}
