package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/jsonreport"
	"github.com/cloudaudit/cloudaudit/internal/cli"
	"github.com/cloudaudit/cloudaudit/internal/emulate/moto"
)

// memcached starts Debian's memcached at an address of the loopback interface, on port 11211 of TCP and UDP.
func memcached(t *testing.T, addr string) {
	t.Helper()
	path, err := exec.LookPath("memcached")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("memcached is not installed: apt-get install memcached")
		}
		t.Skip("memcached is not installed: apt-get install memcached")
	}
	args := []string{"-l", addr, "-p", "11211", "-U", "11211"}
	if u, err := user.Current(); err == nil && u.Uid == "0" {
		args = append(args, "-u", "nobody")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	for give := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if c, err := net.Dial("tcp", addr+":11211"); err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(give) {
			t.Fatalf("memcached does not listen at %s", addr)
		}
	}
}

// probed is what these tests read of a report.
type probed struct {
	Complete  bool
	Exposures []struct {
		Address, Protocol string
		Resource          struct{ ID string }
		Probe             *struct {
			Verdict, Detail string
			Amplification   float64
			Sent, Received  int
		}
	}
	Findings []struct {
		RuleID    string `json:"rule_id"`
		Message   string
		Subject   struct{ ID string }
		Exposures []int
	}
}

// TestProbeOfMoto scans moto with --probe: memcached behind an instance's Elastic IP is found to amplify, and nothing is
// sent to an address outside of what is allowed.
func TestProbeOfMoto(t *testing.T) {
	url := moto.Start(t)
	cases := moto.Scene(t, url)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
	scan := func(args ...string) (probed, string) {
		var stdout, stderr bytes.Buffer
		status := cli.Run(t.Context(), cli.System{
			Args:   append([]string{"scan", "--provider", "aws", "--region", "us-east-1", "--format", "json"}, args...),
			Getenv: os.Getenv, Stdout: &stdout, Stderr: &stderr,
		})
		if status != cli.ExitFindings {
			t.Fatalf("exit status %d\n%s", status, stderr.String())
		}
		var r probed
		if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		return r, stderr.String()
	}
	before, said := scan()
	if strings.Contains(said, "Probe:") {
		t.Errorf("without --probe it says %q", said)
	}
	address := map[string]string{} // by interface
	for _, x := range before.Exposures {
		if net.ParseIP(x.Address).To4() != nil {
			address[x.Resource.ID] = x.Address
		}
	}
	var amplifier, other moto.Case
	for _, c := range cases {
		switch c.Name {
		case "everything":
			amplifier = c
		case "udp":
			other = c
		}
	}
	memcached(t, address[amplifier.Interface])

	// Another open address is outside of what is allowed, and counts what it gets.
	counter, err := net.ListenPacket("udp", address[other.Interface]+":11211")
	if err != nil {
		t.Fatal(err)
	}
	var packets atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 64); ; packets.Add(1) {
			if _, _, err := counter.ReadFrom(buf); err != nil {
				return
			}
		}
	}()
	r, said := scan("--probe", "--probe-allow", address[amplifier.Interface]+"/32", "--probe-timeout", "500ms")
	_ = counter.Close()
	<-done
	if n := packets.Load(); n != 0 {
		t.Errorf("%d packets went to an address outside of --probe-allow", n)
	}
	for _, want := range []string{"Probe: 1 address will be asked", "outside --probe-allow: "} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q: %s", want, said)
		}
	}
	checks := map[string]string{}
	for _, f := range r.Findings {
		checks[f.Subject.ID] = f.RuleID
		if f.RuleID == findings.MemcachedAmplifier && !strings.Contains(f.Message, "times what it gets") {
			t.Errorf("the message lacks the factor: %s", f.Message)
		}
	}
	if got := checks[amplifier.Rules[0]]; got != findings.MemcachedAmplifier {
		t.Errorf("the rule in front of memcached is %s, want %s", got, findings.MemcachedAmplifier)
	}
	if got := checks[other.Rules[0]]; got != findings.ReachableFromInternet {
		t.Errorf("the rule that was not probed is %s, want %s", got, findings.ReachableFromInternet)
	}
	for _, x := range r.Exposures {
		what := fmt.Sprintf("%s %s", x.Resource.ID, x.Protocol)
		switch {
		case x.Resource.ID != amplifier.Interface:
			if x.Probe != nil {
				t.Errorf("%s was asked: %+v", what, x.Probe)
			}
		case x.Probe == nil:
			t.Errorf("%s was not asked", what)
		case x.Protocol == "udp" && (x.Probe.Detail != "noop" || x.Probe.Sent != 15 || x.Probe.Amplification < 50):
			t.Errorf("%s: %+v", what, x.Probe)
		case x.Protocol == "tcp" && x.Probe.Detail != "ascii":
			t.Errorf("%s: %+v", what, x.Probe)
		}
	}
	if len(before.Exposures) != len(r.Exposures) {
		t.Errorf("%d exposures without the probe, %d with it", len(before.Exposures), len(r.Exposures))
	}

	// A security group does not keep this machine's loopback from answering: what still answers after the fix is not fixed.
	var stdout, stderr bytes.Buffer
	status := cli.Run(t.Context(), cli.System{
		Args: []string{
			"scan", "--provider", "aws", "--region", "us-east-1", "--format", "json", "--fix", "--yes", "--allow-loss", "--max-changes", "0",
			"--journal", filepath.Join(t.TempDir(), "fix.jsonl"), "--probe", "--probe-allow", address[amplifier.Interface] + "/32", "--probe-timeout", "500ms",
		},
		Getenv: os.Getenv, Stdout: &stdout, Stderr: &stderr,
	})
	if status != cli.ExitNotFixed {
		t.Errorf("exit status %d, want %d\n%s", status, cli.ExitNotFixed, stderr.String())
	}
	report, err := jsonreport.Read(&stdout)
	if err != nil {
		t.Fatal(err)
	}
	fixed := 0
	for _, res := range report.Repair.Results {
		of := slices.ContainsFunc(res.Findings, func(f findings.Brief) bool { return slices.Contains(amplifier.Rules, f.Subject.ID) })
		switch {
		case of && (res.State != "partial" || !strings.Contains(res.Reason, "still answers at "+address[amplifier.Interface])):
			t.Errorf("the list in front of memcached is %s: %s", res.State, res.Reason)
		case !of && res.State != "fixed":
			t.Errorf("%s is %s: %s", res.List.ID, res.State, res.Reason)
		default:
			fixed++
		}
	}
	if fixed < 2 {
		t.Errorf("%d lists are as they should be\n%s", fixed, stdout.String())
	}
}
