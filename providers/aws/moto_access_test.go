package aws_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate/moto"
	"github.com/cloudaudit/cloudaudit/providers/aws"
)

// policy is an IAM policy document.
type policy struct {
	Version   string
	Statement []struct {
		Effect   string
		Action   any
		Resource string
	}
}

// printed returns the read policy that the project prints, without one action.
func printed(t *testing.T, without string) json.RawMessage {
	t.Helper()
	data, err := os.ReadFile("../../deploy/iam/aws-read-policy.json")
	if err != nil {
		t.Fatal(err)
	}
	var p policy
	if err := json.Unmarshal(data, &p); err != nil {
		t.Fatal(err)
	}
	for i, s := range p.Statement {
		actions, ok := s.Action.([]any)
		if !ok {
			t.Fatalf("statement %d has the action %v", i, s.Action)
		}
		p.Statement[i].Action = slices.DeleteFunc(actions, func(a any) bool { return a == without })
	}
	out, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// lacking are the operations that moto does not offer.
func lacking() []string {
	return []string{"ec2:DescribeVpcBlockPublicAccessOptions", "lightsail:GetInstances", "globalaccelerator:ListAccelerators"}
}

// gaps returns the subjects of the gaps of snapshots, without those that moto does not offer.
func gaps(snapshots []*cloud.Snapshot) []string {
	var out []string
	for _, s := range snapshots {
		for _, g := range s.Gaps {
			if !slices.Contains(lacking(), g.Subject) {
				out = append(out, g.Subject)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestMotoUnderThePrintedPolicy reads as a user who may do what the printed policy allows and nothing else, and as users
// who lack one action of it each: what is refused is a gap that names the action.
func TestMotoUnderThePrintedPolicy(t *testing.T) {
	t.Parallel() // it waits for another process
	url := moto.Start(t)
	moto.Scene(t, url)
	want := open11211(readAll(t, atMoto(url, aws.Config{Regions: []string{"us-east-1"}})))

	refused := []string{
		"ec2:DescribeNetworkInterfaces", "ec2:DescribeSecurityGroups", "ec2:DescribeSecurityGroupRules", "ec2:DescribeSubnets",
		"ec2:DescribeRouteTables", "ec2:DescribeNetworkAcls", "ec2:DescribeInternetGateways", "ec2:DescribeInstances",
		"ec2:GetManagedPrefixListEntries", "elasticloadbalancing:DescribeLoadBalancers",
	}
	a := moto.Access{Policies: []json.RawMessage{printed(t, "")}}
	for _, action := range refused {
		a.Policies = append(a.Policies, printed(t, action))
	}
	granted := moto.Enforce(t, url, a)
	as := func(n int) []*cloud.Snapshot {
		u := granted.Users[n]
		return readAll(t, aws.New(aws.Config{Regions: []string{"us-east-1"}, Options: []func(*config.LoadOptions) error{
			config.WithBaseEndpoint(url), config.WithRegion("us-east-1"),
			config.WithSharedConfigFiles(nil), config.WithSharedCredentialsFiles(nil),
			config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(u.ID, u.Secret, "")),
		}}))
	}
	snapshots := as(0)
	if got := gaps(snapshots); len(got) > 0 {
		t.Errorf("under the printed policy these are refused: %v", got)
	}
	if diff := cmp.Diff(want, open11211(snapshots)); diff != "" {
		t.Errorf("exposures under the printed policy (-without enforcement +got):\n%s", diff)
	}
	for i, action := range refused {
		snapshots := as(i + 1)
		if got := gaps(snapshots); !slices.Contains(got, action) {
			t.Errorf("without %s the gaps are %v", action, got)
		}
		for _, s := range snapshots {
			for _, g := range s.Gaps {
				if g.Subject == action && !strings.Contains(g.Hint, action) {
					t.Errorf("without %s the hint is %q", action, g.Hint)
				}
			}
		}
	}
}

// TestMotoOrganization walks an organization of three members, of which one lacks the role: it is a gap, and the others are
// read, as is the management account itself.
func TestMotoOrganization(t *testing.T) {
	t.Parallel() // it waits for another process
	url := moto.Start(t)
	moto.Scene(t, url)
	may := json.RawMessage(`{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:GetCallerIdentity", "organizations:*", "ec2:*", "elasticloadbalancing:*", "lightsail:*", "globalaccelerator:*"], "Resource": "*"}]}`)
	granted := moto.Enforce(t, url, moto.Access{
		Policies: []json.RawMessage{may}, Role: "audit",
		Accounts: []moto.Member{{Name: "shop", Role: true}, {Name: "legacy", Role: false}, {Name: "lab", Role: true}},
	})
	u := granted.Users[0]
	snapshots := readAll(t, aws.New(aws.Config{
		Organization: true, Role: "audit", Regions: []string{"us-east-1"}, Options: []func(*config.LoadOptions) error{
			config.WithBaseEndpoint(url), config.WithRegion("us-east-1"),
			config.WithSharedConfigFiles(nil), config.WithSharedCredentialsFiles(nil),
			config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(u.ID, u.Secret, "")),
		},
	}))
	got := map[string][]string{}
	for _, s := range snapshots {
		got[s.Scope.Account] = append(got[s.Scope.Account], gaps([]*cloud.Snapshot{s})...)
	}
	for i, id := range granted.Accounts {
		refused := len(got[id]) > 0
		if _, listed := got[id]; !listed {
			t.Errorf("account %s is not among the scopes %v", id, got)
		}
		if role := i != 1; role == refused {
			t.Errorf("account %s, role %v: gaps %v", id, role, got[id])
		}
	}
	if g, ok := got[granted.Management]; !ok || len(g) > 0 {
		t.Errorf("the management account %s: listed %v, gaps %v", granted.Management, ok, g)
	}
	if len(got) != 4 {
		t.Errorf("scopes of %d accounts, want 4", len(got))
	}
}
