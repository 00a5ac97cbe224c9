package cli_test

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/findings/jsonreport"
	"github.com/cloudaudit/cloudaudit/internal/cli"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
)

// TestShardsOfAnOrganisation reads an organisation of 40 scopes as one, and as four shards that are merged: the same to the
// byte but for the run. Without one of the shards it is incomplete.
func TestShardsOfAnOrganisation(t *testing.T) {
	world := &ec2.World{Management: "100000000000"}
	for i := range 10 {
		a := ec2.Demo().Accounts[0]
		a.ID, a.Name, a.Status, a.Roles = fmt.Sprint(100000000000+i), fmt.Sprint("team-", i), "ACTIVE", []string{"audit"}
		a.Regions = append(a.Regions[:2:2], &ec2.Region{Name: "ap-south-1"}, &ec2.Region{Name: "sa-east-1"})
		a.Accelerators = nil
		world.Accounts = append(world.Accounts, a)
	}
	world.Complete()
	server := httptest.NewServer(emulate.WithFaults(world, nil))
	defer server.Close()
	id, secret := world.Keys(world.Management)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": server.URL, "AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
	dir := t.TempDir()
	run := func(want int, arguments ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if status := cli.Run(t.Context(), cli.System{Args: arguments, Getenv: os.Getenv, Stdout: &stdout, Stderr: &stderr}); status != want {
			t.Fatalf("%v: exit status %d, want %d\n%s", arguments, status, want, stderr.String())
		}
		// The run is what differs: it has an id and a time.
		before, after, ok := strings.Cut(stdout.String(), "\n  \"run\": {")
		if !ok || strings.Count(after, "}") != 2 {
			t.Fatalf("%v: the report does not end with its run:\n%s", arguments, after)
		}
		return before
	}
	scan := []string{"scan", "--provider", "aws", "--organization", "--role", "audit", "--format", "json"}
	whole := run(cli.ExitFindings, scan...)
	var files []string
	for i := 1; i <= 4; i++ {
		files = append(files, filepath.Join(dir, fmt.Sprint(i, ".json")))
		run(cli.ExitFindings, append(scan, "--shard", fmt.Sprintf("%d/4", i), "--output", "json="+files[i-1])...)
		report, err := os.Open(files[i-1])
		if err != nil {
			t.Fatal(err)
		}
		defer report.Close()
		r, err := jsonreport.Read(report)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(r.Scopes); n < 4 || n > 20 {
			t.Errorf("shard %d has %d of 40 scopes", i, n)
		}
	}
	if diff := cmp.Diff(whole, run(cli.ExitFindings, append([]string{"merge", "--format", "json"}, files...)...)); diff != "" {
		t.Errorf("(-one run +merged):\n%s", diff)
	}
	if n := strings.Count(whole, `"endpoints": `); n != 40 {
		t.Errorf("%d scopes, want 40", n)
	}
	for i := range files {
		some := append([]string{"merge", "--format", "json"}, files[:i]...)
		if got := run(cli.ExitFindings, append(some, files[i+1:]...)...); !strings.Contains(got, `"complete": false`) {
			t.Errorf("without shard %d it is complete", i+1)
		}
	}
}
