package cli_test

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/jsonreport"
	"github.com/cloudaudit/cloudaudit/internal/cli"
	"github.com/cloudaudit/cloudaudit/internal/emulate/moto"
)

// TestScanOfMoto runs the program on a scene in moto: it has to name exactly the open rules.
func TestScanOfMoto(t *testing.T) {
	url := moto.Start(t)
	cases := moto.Scene(t, url)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
	var stdout, stderr bytes.Buffer
	status := cli.Run(t.Context(), cli.System{
		Args:   []string{"scan", "--provider", "aws", "--region", "us-east-1", "--region", "eu-west-1", "--format", "json"},
		Getenv: os.Getenv, Stdout: &stdout, Stderr: &stderr,
	})
	if status != cli.ExitFindings {
		t.Errorf("exit status %d, want %d\n%s", status, cli.ExitFindings, stderr.String())
	}
	report, err := jsonreport.Read(&stdout)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, c := range cases {
		check := ""
		switch {
		case c.Name == "partner-list":
			check = findings.NarrowPublicRange
		case c.Latent:
			check = findings.OpenRuleLatent
		case len(c.Opens) > 0:
			check = findings.ReachableFromInternet
		default:
			continue
		}
		for _, rule := range c.Rules {
			want[rule] = check
		}
	}
	got := map[string]string{}
	for _, f := range report.Findings {
		got[f.Subject.ID] = f.RuleID
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings by rule (-want +got):\n%s", diff)
	}
	checks := slices.Sorted(maps.Values(want))
	if len(slices.Compact(checks)) < 3 {
		t.Errorf("the scene raises only %v", checks)
	}
}
