package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloudaudit/cloudaudit/findings/jsonreport"
	"github.com/cloudaudit/cloudaudit/internal/cli"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
)

// TestBrokenRegions reads three empty regions, of which one refuses a call, one throttles ten, and one answers with a page
// of HTML: the first and the third are gaps, and not clean.
func TestBrokenRegions(t *testing.T) {
	world := &ec2.World{Accounts: []*ec2.Account{{ID: "111122223333", Status: "ACTIVE", Regions: []*ec2.Region{
		{Name: "eu-north-1"}, {Name: "eu-west-1"}, {Name: "us-east-1"}, {Name: "us-west-2"},
	}}}}
	world.Complete()
	faults := emulate.WithFaults(world, func(operation string, r *http.Request) emulate.Fault {
		region := r.Header.Get("Authorization")
		if operation != "ec2:DescribeSecurityGroups" {
			return emulate.Fault{}
		}
		switch {
		case strings.Contains(region, "/eu-north-1/"):
			return emulate.Fault{Refuse: true}
		case strings.Contains(region, "/eu-west-1/"):
			return emulate.Fault{Throttle: 10}
		case strings.Contains(region, "/us-west-2/"):
			return emulate.Fault{Garbage: true}
		}
		return emulate.Fault{}
	})
	server := httptest.NewServer(faults)
	defer server.Close()
	id, secret := world.Keys("111122223333")
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": server.URL, "AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
	var stdout, stderr bytes.Buffer
	status := cli.Run(t.Context(), cli.System{
		Args: []string{"scan", "--provider", "aws", "--format", "json"}, Getenv: os.Getenv, Stdout: &stdout, Stderr: &stderr,
	})
	if status != cli.ExitIncomplete {
		t.Errorf("exit status %d, want %d\n%s", status, cli.ExitIncomplete, stderr.String())
	}
	report, err := jsonreport.Read(&stdout)
	if err != nil {
		t.Fatal(err)
	}
	if report.Complete {
		t.Error("the report says that it is complete")
	}
	got := map[string]bool{}
	for _, s := range report.Scopes {
		got[s.Region] = s.Complete
		for _, g := range s.Gaps {
			if g.Subject != "ec2:DescribeSecurityGroups" {
				t.Errorf("%s: gap %+v", s.Region, g)
			}
		}
	}
	want := map[string]bool{"eu-north-1": false, "eu-west-1": true, "us-east-1": true, "us-west-2": false}
	if !maps.Equal(got, want) {
		t.Errorf("complete: %v, want %v", got, want)
	}
	if n := faults.Calls()["ec2:DescribeSecurityGroups"]; n < 13 {
		t.Errorf("DescribeSecurityGroups was asked %d times: the throttled region was not waited for", n)
	}
}

// binary builds the program as it is released and returns its path.
func binary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cloudaudit")
	out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, "../../cmd/cloudaudit").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// TestBinaryHoldsNoUnusedOperations checks that the linker could leave out what is not called of the EC2 SDK: as soon as
// its client becomes an interface value, all 700 operations are linked, and the program is nearly twice as large.
func TestBinaryHoldsNoUnusedOperations(t *testing.T) {
	path := binary(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const method = "service/ec2.(*Client)."
	for _, used := range []string{"DescribeNetworkInterfaces", "DescribeSecurityGroups"} {
		if !bytes.Contains(data, []byte(method+used)) {
			t.Errorf("the binary lacks %s, so this test would find nothing", used)
		}
	}
	for _, unused := range []string{"RunInstances", "DescribeFpgaImages", "CreateVpc", "TerminateInstances"} {
		if bytes.Contains(data, []byte(method+unused)) {
			t.Errorf("the binary holds the unused operation %s", unused)
		}
	}
	t.Logf("%.1f MB", float64(len(data))/1e6)
}

// TestDemoIsValidSARIF checks the demo's SARIF by sarif-multitool, with the rules of GitHub on: nothing may remain.
func TestDemoIsValidSARIF(t *testing.T) {
	tool := filepath.Join("..", "..", "node_modules", "@microsoft", "sarif-multitool-linux", "Sarif.Multitool")
	if _, err := os.Stat(tool); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("sarif-multitool is not installed: run `make tools`")
		}
		t.Skip("sarif-multitool is not installed: run `make tools`")
	}
	config, err := filepath.Abs(filepath.Join("..", "..", "findings", "sarif", "testdata", "multitool.xml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, profile := range []string{"full", "github"} {
		t.Run(profile, func(t *testing.T) {
			environment := map[string]string{
				"SOURCE_DATE_EPOCH": "0", "GITHUB_REPOSITORY": "example/infrastructure", "GITHUB_SERVER_URL": "https://github.com",
				"GITHUB_SHA": "0123456789abcdef0123456789abcdef01234567", "GITHUB_REF_NAME": "main",
			}
			dir := t.TempDir()
			file := filepath.Join(dir, "demo.sarif")
			var stderr bytes.Buffer
			status := cli.Run(context.Background(), cli.System{
				Args:   []string{"demo", "--sarif-profile", profile, "--output", "sarif=" + file},
				Getenv: func(name string) string { return environment[name] }, Stdout: &bytes.Buffer{}, Stderr: &stderr,
			})
			if status != cli.ExitFindings {
				t.Fatalf("exit status %d\n%s", status, stderr.String())
			}
			log := filepath.Join(dir, "log.sarif")
			cmd := exec.Command(tool, "validate", file, "--config", config, "--rule-kind", "Sarif;Ghas",
				"--level", "Error;Warning;Note", "--kind", "Fail", "--output", log, "--log", "ForceOverwrite")
			// It is a .NET program: without this it wants the ICU library.
			cmd.Env = append(os.Environ(), "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1", "DOTNET_BUNDLE_EXTRACT_BASE_DIR="+dir)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("sarif-multitool: %v\n%s", err, out)
			}
			data, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			var doc struct {
				Runs []struct {
					Results []struct {
						RuleID  string          `json:"ruleId"`
						Message json.RawMessage `json:"message"`
					} `json:"results"`
				} `json:"runs"`
			}
			if err := json.Unmarshal(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), &doc); err != nil {
				t.Fatal(err)
			}
			if len(doc.Runs) == 0 {
				t.Fatal("the validator's log has no run")
			}
			for _, run := range doc.Runs {
				for _, r := range run.Results {
					t.Errorf("%s: %s", r.RuleID, r.Message)
				}
			}
		})
	}
}

// TestHelpOfEveryCommand checks that every command explains itself on standard output.
func TestHelpOfEveryCommand(t *testing.T) {
	for _, command := range []string{"scan", "explain", "snapshot", "merge", "config", "demo", "providers", "version", "completion", "help"} {
		var stdout, stderr bytes.Buffer
		status := cli.Run(t.Context(), cli.System{
			Args: []string{command, "--help"}, Getenv: func(string) string { return "" }, Stdout: &stdout, Stderr: &stderr,
		})
		if status != cli.ExitClean || !strings.Contains(stdout.String(), "Usage:") || stderr.Len() > 0 {
			t.Errorf("%s --help: status %d, %q", command, status, stderr.String())
		}
		for _, line := range slices.Collect(strings.Lines(stdout.String())) {
			if strings.Contains(line, "%!") {
				t.Errorf("%s --help: %q", command, line)
			}
		}
	}
}
