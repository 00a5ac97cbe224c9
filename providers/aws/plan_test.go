package aws_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/providers/aws"
	"github.com/cloudaudit/cloudaudit/providers/providertest"
	"github.com/cloudaudit/cloudaudit/remedy"
	"github.com/cloudaudit/cloudaudit/traffic"
)

func TestWhatIsNotFixed(t *testing.T) {
	t.Parallel()
	tagged := func(key, value string) func(*ec2.World) {
		return func(w *ec2.World) {
			for i := range w.Accounts[0].Regions[0].SecurityGroups {
				w.Accounts[0].Regions[0].SecurityGroups[i].Tags = []ec2.Tag{{Key: key, Value: value}}
			}
		}
	}
	named := func(name string) func(*ec2.World) {
		return func(w *ec2.World) {
			for i := range w.Accounts[0].Regions[0].SecurityGroups {
				w.Accounts[0].Regions[0].SecurityGroups[i].GroupName = fmt.Sprint(name, i)
			}
		}
	}
	for name, test := range map[string]struct {
		world  func(*ec2.World)
		reason string
	}{
		"CloudFormation":       {tagged("aws:cloudformation:stack-name", "shop"), "CloudFormation stack shop"},
		"an EKS cluster":       {tagged("aws:eks:cluster-name", "prod"), "EKS cluster prod"},
		"a Kubernetes cluster": {tagged("kubernetes.io/cluster/prod", "owned"), "Kubernetes cluster prod"},
		"a Service":            {named("k8s-elb-a1b2"), "Kubernetes Service"},
		"the controller":       {tagged("elbv2.k8s.aws/cluster", "prod"), "Load Balancer Controller of the cluster prod"},
		"Firewall Manager":     {named("FMManagedSecurityGroup"), "Firewall Manager"},
		"a balancer":           {named("default_elb_"), "Elastic Load Balancing"},
		"another service":      {tagged("aws:servicecatalog:product", "x"), "aws:servicecatalog:product"},
		"another account": {func(w *ec2.World) {
			r := w.Accounts[0].Regions[0]
			for i := range r.SecurityGroupRules {
				r.SecurityGroupRules[i].GroupOwnerID = "999988887777"
			}
		}, "belongs to account 999988887777"},
		"prefix lists": {func(w *ec2.World) {
			r := w.Accounts[0].Regions[0]
			r.PrefixLists[0].Entries = []string{"0.0.0.0/0"}
			r.SecurityGroupRules = slices.DeleteFunc(r.SecurityGroupRules, func(v ec2.SecurityGroupRule) bool { return v.PrefixListID == "" })
		}, "prefix list pl-1, which others use too"},
		"no room": {func(w *ec2.World) {
			fill(w, 54)
			r := w.Accounts[0].Regions[0]
			r.SecurityGroupRules = slices.DeleteFunc(r.SecurityGroupRules, func(v ec2.SecurityGroupRule) bool { return v.GroupID != "sg-1" || v.CidrIPv6 != "" })
		}, "of at most 60 inbound rules"},
	} {
		t.Run(name, func(t *testing.T) {
			w := parseRegion(t, fixScene)
			test.world(w)
			plan, _, _ := planOf(t, w, remedy.Options{}, nil)
			if len(plan.Hunks) > 0 || len(plan.Refused) == 0 {
				t.Fatalf("%d hunks, %d refusals", len(plan.Hunks), len(plan.Refused))
			}
			for _, r := range plan.Refused {
				if !strings.Contains(r.Reason, test.reason) && !strings.Contains(r.Reason, "few hosts") {
					t.Errorf("refused because %q, want %q", r.Reason, test.reason)
				}
			}
		})
	}
}

// TestPrefixListBesideOthers: a rule that cannot be changed does not keep the others of its group from being mended.
func TestPrefixListBesideOthers(t *testing.T) {
	t.Parallel()
	w := parseRegion(t, fixScene)
	w.Accounts[0].Regions[0].PrefixLists[0].Entries = []string{"0.0.0.0/0"}
	plan, p, _ := planOf(t, w, remedy.Options{}, nil)
	if len(plan.Hunks) != 2 || len(plan.Refused) != 1 || plan.Refused[0].Subject.ID != "sgr-list" {
		t.Fatalf("%d hunks, %+v", len(plan.Hunks), plan.Refused)
	}
	mend(t, p, plan, false)
}

// TestNothingIsBegunWithoutPermission: whoever may add rules and not remove them would leave a fix that cannot be undone.
func TestNothingIsBegunWithoutPermission(t *testing.T) {
	t.Parallel()
	for _, action := range []string{"ec2:AuthorizeSecurityGroupIngress", "ec2:ModifySecurityGroupRules", "ec2:RevokeSecurityGroupIngress"} {
		plan, p, faults := planOf(t, parseRegion(t, fixScene), remedy.Options{}, func(op string, _ *http.Request) emulate.Fault {
			return emulate.Fault{Refuse: strings.HasPrefix(op, action)}
		})
		outcome, err := providertest.Runner("aws", p, &providertest.Journal{}).Do(t.Context(), plan)
		if err != nil || outcome.OK() || !strings.Contains(outcome.Hunks[0].Reason, action+": UnauthorizedOperation") {
			t.Errorf("%s: %+v, %v", action, outcome, err)
		}
		for op := range faults.Calls() {
			if isWrite(op) {
				t.Errorf("without %s: %s was sent", action, op)
			}
		}
	}
}

// TestRefusalsThatAreNone: that a rule is there already, or is gone already, is tolerated if it is so.
func TestRefusalsThatAreNone(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]remedy.KeepPrivate{"InvalidPermission.Duplicate": {}, "InvalidSecurityGroupRuleId.NotFound": {None: true}} {
		w := parseRegion(t, strings.Replace(fixScene, "sgr-wide,", "sgr-low-2, FromPort: 22, ToPort: 22, IpProtocol: tcp, GroupId: sg-2, CidrIpv4: 7.7.7.7/32}\n- {SecurityGroupRuleId: sgr-wide,", 1))
		here := w.Accounts[0].Regions[0]
		var want []cloud.Rule
		done := 0
		plan, p, _ := planOf(t, w, remedy.Options{KeepPrivate: keep}, func(op string, _ *http.Request) emulate.Fault {
			switch {
			case done > 0 || !isWrite(op):
			case name == "InvalidPermission.Duplicate" && op == "ec2:AuthorizeSecurityGroupIngress":
				done++
				for _, r := range want {
					var v struct {
						IPProtocol, CidrIPv4 string
						FromPort, ToPort     *int
						Description          string
						Tags                 map[string]string
					}
					_ = json.Unmarshal(r.Native, &v)
					rule := ec2.SecurityGroupRule{
						SecurityGroupRuleID: "sgr-first-" + r.Ref.ID, GroupID: "sg-1", GroupOwnerID: testAccount, IPProtocol: v.IPProtocol, CidrIPv4: v.CidrIPv4,
						FromPort: v.FromPort, ToPort: v.ToPort, Description: v.Description,
					}
					for key, value := range v.Tags {
						rule.Tags = append(rule.Tags, ec2.Tag{Key: key, Value: value})
					}
					here.SecurityGroupRules = append(here.SecurityGroupRules, rule)
				}
			case name != "InvalidPermission.Duplicate" && op == "ec2:RevokeSecurityGroupIngress":
				done++
				here.SecurityGroupRules = slices.DeleteFunc(here.SecurityGroupRules, func(v ec2.SecurityGroupRule) bool { return v.SecurityGroupRuleID == want[0].Ref.ID })
			}
			return emulate.Fault{}
		})
		for _, h := range plan.Hunks {
			for _, e := range h.Ways[0].Edits {
				switch {
				case len(want) > 0:
				case name == "InvalidPermission.Duplicate" && len(e.Old) == 0:
					want = e.New
				case name != "InvalidPermission.Duplicate" && len(e.New) == 0:
					want = e.Old
				}
			}
		}
		mend(t, p, plan, false)
		if done != 1 {
			t.Errorf("%s was never answered", name)
		}
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	w := parseRegion(t, fixScene)
	hostile := "a'b\"; $(touch /tmp/x) `id`\n\u2028 \\"
	here := w.Accounts[0].Regions[0]
	here.SecurityGroupRules[0].Description = hostile
	here.SecurityGroupRules[0].Tags = []ec2.Tag{{Key: "k'$(x)", Value: hostile}}
	plan, p, _ := planOf(t, w, remedy.Options{}, nil)
	edits := plan.Hunks[0].Ways[0].Edits
	lines, err := plan.Hunks[0].Commands(p, 0)
	if err != nil || len(lines) != len(edits) {
		t.Fatalf("%d commands for %d edits, %v", len(lines), len(edits), err)
	}
	found := false
	for i, line := range lines {
		words, err := p.Commands(edits[i])
		if err != nil || len(words) != 1 || words[0][0] != "aws" || words[0][1] != "ec2" {
			t.Fatalf("%v, %v", words, err)
		}
		out, err := exec.Command("bash", "-c", `printf '%s\0' `+line).Output()
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		if diff := cmp.Diff(words[0], got); diff != "" {
			t.Errorf("a shell reads something else:\n%s", diff)
		}
		for _, word := range words[0] {
			var permissions []struct {
				IPRanges []struct{ Description string }
			}
			if strings.HasPrefix(word, "[") && json.Unmarshal([]byte(strings.ReplaceAll(word, "IpRanges", "IPRanges")), &permissions) == nil &&
				len(permissions) > 0 && len(permissions[0].IPRanges) > 0 && permissions[0].IPRanges[0].Description == hostile {
				found = true
			}
		}
	}
	if !found {
		t.Error("the description is in no command")
	}
	for kind, want := range map[string]string{"revoke": "aws ec2 revoke-security-group-ingress --region us-east-1 --group-id sg-1 --security-group-rule-ids sgr-udp"} {
		lines, err := commandsOf(p, cloud.Edit{List: plan.Hunks[0].List.Ref, Old: []cloud.Rule{{Ref: cloud.Ref{ID: "sgr-udp"}}}})
		if err != nil || lines != want {
			t.Errorf("%s: %q, %v", kind, lines, err)
		}
	}
	plan, p, _ = planOf(t, parseRegion(t, lightsailScene), remedy.Options{}, nil)
	if line, err := commandsOf(p, plan.Hunks[0].Ways[0].Edits[0]); err != nil || !strings.HasPrefix(line, "aws lightsail put-instance-public-ports --region us-east-1 --instance-name blog --port-infos") ||
		!strings.Contains(line, "lightsail-connect") || strings.Contains(line, ":11211,") {
		t.Errorf("%s, %v", line, err)
	}
}

func commandsOf(p *aws.Provider, e cloud.Edit) (string, error) {
	words, err := p.Commands(e)
	if err != nil || len(words) != 1 {
		return "", fmt.Errorf("%d commands: %w", len(words), err)
	}
	return remedy.Quote(words[0]), nil
}

// stepping is a fixer that makes a rule, takes the wide one away, and then the one that it made.
type stepping struct{ *aws.Provider }

func (s stepping) Rewrite(c providers.Change) ([]providers.Way, error) {
	r := c.Rules[0]
	half := r
	half.Ref.ID = "sg-1#new-1"
	half.Native = json.RawMessage(strings.Replace(string(r.Native), "0.0.0.0/0", "8.0.0.0/8", 1))
	half.Match = r.Match.Intersect(traffic.Of(traffic.IPs(netip.MustParsePrefix("8.0.0.0/8")), 0, traffic.Proto(255).Port(65535)))
	return []providers.Way{{Name: "in steps", Edits: []cloud.Edit{
		{List: c.List.Ref, New: []cloud.Rule{half}}, {List: c.List.Ref, Old: []cloud.Rule{r}}, {List: c.List.Ref, Old: []cloud.Rule{half}},
	}}}, nil
}

// TestUndoOfRulesThatComeBack: rules that undo makes again have other ids, by which earlier writes are then undone.
func TestUndoOfRulesThatComeBack(t *testing.T) {
	t.Parallel()
	w := parseRegion(t, fixScene)
	here := w.Accounts[0].Regions[0]
	here.SecurityGroupRules = slices.DeleteFunc(here.SecurityGroupRules, func(v ec2.SecurityGroupRule) bool {
		return !slices.Contains([]string{"sgr-udp", "sgr-https", "sgr-app"}, v.SecurityGroupRuleID)
	})
	was := stored(here, false)
	p, _ := fixer(t, w, nil)
	o := remedy.Options{Ports: []uint16{11211}, KeepPrivate: remedy.KeepPrivate{None: true}}
	snapshots := readAll(t, p)
	plan := remedy.New(snapshots, providertest.Findings(o.Ports, snapshots), map[string]providers.Rewriter{"aws": stepping{p}}, o)
	if len(plan.Hunks) != 1 || plan.Changes() != 3 {
		t.Fatalf("%d hunks, %+v", len(plan.Hunks), plan.Refused)
	}
	r, j := mend(t, p, plan, false)
	undo(t, r, j)
	if diff := cmp.Diff(was, stored(here, false)); diff != "" {
		t.Errorf("undone:\n%s", diff)
	}
	if ids := strings.Join(stored(here, true), " "); strings.Contains(ids, "sgr-udp ") {
		t.Error("the rule has its old id: this checks nothing")
	}
}
