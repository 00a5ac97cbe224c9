package cli_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings/jsonreport"
	"github.com/cloudaudit/cloudaudit/internal/cli"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/do"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
	"github.com/cloudaudit/cloudaudit/internal/emulate/gce"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// killer is an emulated cloud that ends the process that writes to it, by SIGKILL, after the write with a given number.
type killer struct {
	emulate.Cloud
	mu      sync.Mutex
	process *os.Process
	after   int // the write after which the process dies; 0 lets it live
	early   bool
	refuse  bool // refuse that write instead
	writes  int
}

// isWrite says whether r changes something. AWS posts everything, and asks for permission by a dry run.
func isWrite(operation string, r *http.Request) bool {
	service, verb, _ := strings.Cut(operation, ":")
	if !slices.Contains([]string{"ec2", "sts", "elasticloadbalancing", "lightsail", "globalaccelerator", "organizations"}, service) {
		return r.Method != http.MethodGet
	}
	body, _ := io.ReadAll(r.Body) // a body that breaks off makes the cloud refuse it
	r.Body = io.NopCloser(bytes.NewReader(body))
	return slices.ContainsFunc([]string{"Authorize", "Modify", "Revoke", "Put", "Create", "Delete"}, func(w string) bool { return strings.HasPrefix(verb, w) }) &&
		!bytes.Contains(body, []byte("DryRun=true"))
}

func (k *killer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !isWrite(k.Operation(r), r) {
		k.Cloud.ServeHTTP(w, r)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.writes++
	if k.writes != k.after {
		k.Cloud.ServeHTTP(w, r)
		return
	}
	if k.refuse {
		k.Refuse(w, r)
		return
	}
	if !k.early {
		k.Cloud.ServeHTTP(httptest.NewRecorder(), r)
	}
	_ = k.process.Kill() // the answer never comes
	panic(http.ErrAbortHandler)
}

// fixable are the clouds of the demo, each with the variables by which the program finds it.
func fixable() map[string]func(url func(emulate.Cloud) string) map[string]string {
	return map[string]func(func(emulate.Cloud) string) map[string]string{
		"aws": func(url func(emulate.Cloud) string) map[string]string {
			world := ec2.Demo()
			id, secret := world.Keys(world.Accounts[0].ID)
			return map[string]string{
				"AWS_ENDPOINT_URL": url(world), "AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
				"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
			}
		},
		"do": func(url func(emulate.Cloud) string) map[string]string {
			return map[string]string{"DIGITALOCEAN_API_URL": url(do.Demo()), "DIGITALOCEAN_TOKEN": do.DemoToken}
		},
		"gcp": func(url func(emulate.Cloud) string) map[string]string {
			base := url(gce.Demo())
			return map[string]string{
				"GOOGLE_OAUTH_ACCESS_TOKEN": "emulated", "GOOGLE_CLOUD_PROJECT": "data-lab",
				"GOOGLE_COMPUTE_CUSTOM_ENDPOINT":             base + "/compute/v1/",
				"GOOGLE_NETWORK_SECURITY_CUSTOM_ENDPOINT":    base + "/networksecurity/v1/",
				"GOOGLE_RESOURCE_MANAGER_V3_CUSTOM_ENDPOINT": base + "/v3/",
			}
		},
	}
}

// scene is one emulated cloud with a place for journals.
type scene struct {
	t        *testing.T
	provider string
	killer   *killer
	env      map[string]string
	journal  string
}

func newScene(t *testing.T, provider string) *scene {
	t.Helper()
	s := &scene{t: t, provider: provider, killer: &killer{}, journal: filepath.Join(t.TempDir(), "fix.jsonl")}
	s.env = fixable()[provider](func(c emulate.Cloud) string {
		s.killer.Cloud = c
		server := httptest.NewServer(s.killer)
		t.Cleanup(server.Close)
		return server.URL
	})
	return s
}

// command returns the program with the variables of the cloud: the SDKs read those of the process.
func (s *scene) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), "cloudaudit", args...)
	cmd.Env = []string{"HOME=" + filepath.Dir(s.journal), "PATH=" + os.Getenv("PATH")}
	for name, value := range s.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// run runs the program to its end.
func (s *scene) run(args ...string) (int, string, string) {
	var stdout, stderr bytes.Buffer
	cmd := s.command(args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// killed runs the program until the cloud ends it.
func (s *scene) killed(args ...string) error {
	cmd := s.command(args...)
	s.killer.mu.Lock()
	err := cmd.Start()
	s.killer.process = cmd.Process
	s.killer.mu.Unlock()
	if err != nil {
		s.t.Fatal(err)
	}
	return cmd.Wait()
}

// snapshots reads the cloud.
func (s *scene) snapshots() []*cloud.Snapshot {
	s.t.Helper()
	_, out, stderr := s.run("snapshot", "--provider", s.provider)
	snapshots, err := cloud.ReadSnapshots(strings.NewReader(out))
	if err != nil {
		s.t.Fatalf("%v\n%s", err, stderr)
	}
	return snapshots
}

// digests returns what every list is, for comparison.
func digests(snapshots []*cloud.Snapshot) map[cloud.Ref]string {
	out := map[cloud.Ref]string{}
	for _, s := range snapshots {
		for _, l := range s.Lists {
			out[l.Ref] = l.Digest()
		}
	}
	return out
}

// admitted returns what every list admits to those whom its rules concern, at most.
func admitted(snapshots []*cloud.Snapshot) map[string]traffic.Set {
	out := map[string]traffic.Set{}
	for _, s := range snapshots {
		for _, l := range s.Lists {
			concerned := map[string]bool{"": true}
			for _, r := range l.Rules {
				concerned[r.Concerns] = true
			}
			for c := range concerned {
				_, possible := (&cloud.Layer{Lists: []*cloud.List{l.For(c)}}).Admits(traffic.All())
				out[l.Ref.String()+" "+c] = possible
			}
		}
	}
	return out
}

// TestKilledAfterEveryWrite ends the program by SIGKILL at every single write of a fix, before the cloud has carried it out
// and after: nothing is ever wider than before, and recover ends exactly where the fix would have, or exactly before it.
func TestKilledAfterEveryWrite(t *testing.T) {
	t.Parallel()
	for provider := range fixable() {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			whole := newScene(t, provider)
			before, wide := digests(whole.snapshots()), admitted(whole.snapshots())
			fix := []string{"scan", "--provider", provider, "--fix", "--yes", "--max-changes", "0", "--attach-firewall", "--allow-loss", "--format", "json"}
			if status, _, stderr := whole.run(append(fix, "--journal", whole.journal)...); status != cli.ExitClean && status != cli.ExitFindings {
				t.Fatalf("an uninterrupted fix ends with status %d\n%s", status, stderr)
			}
			after, writes := digests(whole.snapshots()), whole.killer.writes
			if writes < 2 {
				t.Fatalf("the scene takes %d writes: too few to be interrupted", writes)
			}
			for n := 1; n <= writes; n++ {
				for _, rollback := range []bool{false, true} {
					s := newScene(t, provider)
					s.killer.after, s.killer.early = n, (n%2 == 0) == rollback
					if err := s.killed(append(fix, "--journal", s.journal)...); err == nil || !strings.Contains(err.Error(), "killed") {
						t.Fatalf("write %d: the program was not killed: %v", n, err)
					}
					for list, now := range admitted(s.snapshots()) {
						was, there := wide[list]
						if more := now.Subtract(was); there && !more.IsEmpty() {
							t.Errorf("killed at write %d: %s admits more than before: %s", n, list, more)
						}
					}
					args, want := []string{"recover", s.journal}, after
					if rollback {
						args, want = []string{"recover", "--rollback", "--yes", s.journal}, before
					}
					status, _, stderr := s.run(args...)
					if got := digests(s.snapshots()); status != cli.ExitClean || !sameLists(got, want) {
						t.Errorf("killed at write %d of %d (carried out: %v): %v ends with status %d, and the lists differ: %v\n%s",
							n, writes, !s.killer.early, args[:len(args)-1], status, differing(got, want), stderr)
					}
					if count := s.killer.writes; rollback {
						if status, _, stderr := s.run("undo", "--yes", s.journal); status != cli.ExitClean || s.killer.writes != count {
							t.Errorf("killed at write %d: a second undo: status %d, %d writes\n%s", n, status, s.killer.writes-count, stderr)
						}
					}
				}
			}
		})
	}
}

// sameLists compares lists by what they are; one that the fix made has an id of its own in every run.
func sameLists(got, want map[cloud.Ref]string) bool {
	return slices.Equal(slices.Sorted(maps.Values(got)), slices.Sorted(maps.Values(want)))
}

func differing(got, want map[cloud.Ref]string) []string {
	var out []string
	for ref, digest := range want {
		if got[ref] != digest {
			out = append(out, ref.String())
		}
	}
	return out
}

// TestEveryWriteRefused refuses every single write of a fix in turn: the fix says so by its status and its report, the other
// lists are fixed, and undo puts back what was written.
func TestEveryWriteRefused(t *testing.T) {
	t.Parallel()
	for provider := range fixable() {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			whole := newScene(t, provider)
			before := digests(whole.snapshots())
			fix := []string{"scan", "--provider", provider, "--fix", "--yes", "--max-changes", "0", "--format", "json"}
			whole.run(append(fix, "--journal", whole.journal)...)
			writes := whole.killer.writes
			for n := 1; n <= writes; n++ {
				s := newScene(t, provider)
				s.killer.after, s.killer.refuse = n, true
				status, out, stderr := s.run(append(fix, "--journal", s.journal)...)
				report, err := jsonreport.Read(strings.NewReader(out))
				if err != nil {
					t.Fatal(err)
				}
				var states []string
				for _, r := range report.Repair.Results {
					states = append(states, r.State)
				}
				failed := slices.DeleteFunc(slices.Clone(states), func(s string) bool { return s != "failed" && s != "skipped" })
				fixed := slices.DeleteFunc(slices.Clone(states), func(s string) bool { return s != "fixed" })
				if status != cli.ExitNotFixed || len(failed) != 1 || len(fixed) != len(states)-1 {
					t.Errorf("write %d of %d refused: status %d, %v\n%s", n, writes, status, states, stderr)
				}
				status, _, stderr = s.run("undo", "--yes", s.journal)
				if got := digests(s.snapshots()); status != cli.ExitClean || !sameLists(got, before) {
					t.Errorf("write %d of %d refused: undo ends with status %d, and the lists differ: %v\n%s", n, writes, status, differing(got, before), stderr)
				}
			}
		})
	}
}

// TestExpiredFixIsUndone ends a fix that has to be confirmed before its process can undo it: the next fix does.
func TestExpiredFixIsUndone(t *testing.T) {
	t.Parallel()
	s := newScene(t, "do")
	before := digests(s.snapshots())
	s.killer.after = 3
	if err := s.killed("scan", "--provider", "do", "--fix", "--yes", "--confirm-within", "1ms", "--format", "json"); err == nil {
		t.Fatal("the program was not killed")
	}
	if sameLists(digests(s.snapshots()), before) {
		t.Fatal("nothing was written")
	}
	status, out, stderr := s.run("scan", "--provider", "do", "--fix", "--yes", "--max-changes", "1", "--format", "json")
	if got := digests(s.snapshots()); status != cli.ExitNotFixed || !sameLists(got, before) {
		t.Errorf("status %d, and the lists differ: %v\n%s", status, differing(got, before), stderr)
	}
	// What was opened again is in the report.
	_, now, _ := s.run("scan", "--provider", "do", "--format", "json")
	if n := strings.Count(out, `"rule_id"`); n != strings.Count(now, `"rule_id"`) || n == 0 {
		t.Errorf("%d findings, and there are %d", n, strings.Count(now, `"rule_id"`))
	}
	if !strings.Contains(stderr, "was not confirmed by") || !strings.Contains(out, "at most 1 are allowed by --max-changes") {
		t.Errorf("it says\n%s", stderr)
	}
}
