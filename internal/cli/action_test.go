package cli_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/cloudaudit/cloudaudit/internal/emulate/do"
)

// action is one run of the GitHub Action's script, as a runner does it.
type action struct {
	t         *testing.T
	dir       string // the workspace
	directory string // of the action
	env       map[string]string
}

func newAction(t *testing.T, s *scene) *action {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	a := &action{t: t, dir: t.TempDir(), directory: root, env: map[string]string{
		"INPUT_PROVIDER": "do", "INPUT_PORT": "11211", "INPUT_FAIL_ON": "warning", "INPUT_NEW_ONLY": "false", "INPUT_PROBE": "false",
		"INPUT_PLAN_FILE": "cloudaudit-plan.json", "INPUT_JOURNAL_FILE": "cloudaudit-journal.jsonl", "INPUT_SARIF_FILE": "cloudaudit.sarif",
		"INPUT_JSON_FILE": "cloudaudit.json", "INPUT_INSTALL": "none", "INPUT_SUMMARY": "true", "INPUT_ANNOTATIONS": "true",
		"INPUT_CONFIG": "", "INPUT_ARGS": "", "INPUT_BASELINE": "", "INPUT_FIX": "", "FROM_FORK": "",
	}}
	for name, value := range s.env {
		a.env[name] = value
	}
	return a
}

// run returns the exit status, what the runner gets to read, the outputs and the summary.
func (a *action) run() (int, string, map[string]string, string) {
	a.t.Helper()
	temp := a.t.TempDir()
	a.env["CLOUDAUDIT_ACTION"], a.env["RUNNER_TEMP"] = a.directory, temp
	a.env["GITHUB_OUTPUT"], a.env["GITHUB_STEP_SUMMARY"] = filepath.Join(temp, "output"), filepath.Join(temp, "summary")
	for _, file := range []string{"GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"} {
		if err := os.WriteFile(a.env[file], nil, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(a.t.Context(), "bash", filepath.Join(a.directory, "scripts/action.sh"))
	cmd.Dir = a.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "GOFLAGS=" + os.Getenv("GOFLAGS")}
	for name, value := range a.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		a.t.Fatal(err)
	}
	text, err := os.ReadFile(a.env["GITHUB_OUTPUT"])
	if err != nil {
		a.t.Fatal(err)
	}
	outputs := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if _, twice := outputs[name]; !ok || twice {
			a.t.Errorf("output %q", line)
		}
		outputs[name] = value
	}
	summary, err := os.ReadFile(a.env["GITHUB_STEP_SUMMARY"])
	if err != nil {
		a.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out), outputs, string(summary)
}

// commands returns the lines that the runner takes for commands, as it does: those that begin with :: after blanks, but for
// what stands between ::stop-commands:: and its token.
func commands(out string) []string {
	var found []string
	stopped := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		switch {
		case stopped != "":
			if line == "::"+stopped+"::" {
				stopped = ""
			}
		case strings.HasPrefix(line, "::stop-commands::"):
			stopped = strings.TrimPrefix(line, "::stop-commands::")
		case strings.HasPrefix(line, "::"), strings.Contains(line, "##["):
			found = append(found, line)
		}
	}
	return found
}

func TestAction(t *testing.T) {
	t.Parallel()
	a := newAction(t, newScene(t, "do"))
	status, out, outputs, summary := a.run()
	if status != 1 || outputs["exit-code"] != "1" || outputs["complete"] != "true" || outputs["sarif-file"] != "cloudaudit.sarif" || outputs["json-file"] != "cloudaudit.json" {
		t.Errorf("status %d, outputs %v\n%s", status, outputs, out)
	}
	if n := len(regexp.MustCompile(`(?m)^::(error|warning|notice) title=CA`).FindAllString(out, -1)); outputs["findings"] != fmt.Sprint(n) || n == 0 || outputs["new-findings"] != outputs["findings"] {
		t.Errorf("%d annotations, outputs %v", n, outputs)
	}
	if !strings.Contains(summary, "## cloudaudit: ") || len(summary) > 1<<20 {
		t.Errorf("the summary has %d bytes", len(summary))
	}

	// A night later nothing is new, and the step succeeds.
	if err := os.Rename(filepath.Join(a.dir, "cloudaudit.json"), filepath.Join(a.dir, "last.json")); err != nil {
		t.Fatal(err)
	}
	a.env["INPUT_BASELINE"], a.env["INPUT_NEW_ONLY"] = "last.json", "true"
	if status, out, outputs, _ := a.run(); status != 0 || outputs["new-findings"] != "0" {
		t.Errorf("nothing new: status %d, outputs %v\n%s", status, outputs, out)
	}
	a.env["INPUT_BASELINE"], a.env["INPUT_NEW_ONLY"] = "", "false"

	// Plan, apply, and what is left.
	a.env["INPUT_FIX"] = "plan"
	if status, out, outputs, _ := a.run(); status != 1 || outputs["plan-file"] != "cloudaudit-plan.json" || outputs["journal-file"] != "" {
		t.Errorf("plan: status %d, outputs %v\n%s", status, outputs, out)
	}
	a.env["INPUT_FIX"] = "apply"
	if status, out, outputs, summary := a.run(); status != 1 || outputs["journal-file"] != "cloudaudit-journal.jsonl" || !strings.Contains(summary, "### Fix") {
		t.Errorf("apply: status %d, outputs %v\n%s", status, outputs, out)
	}

	// A pull request from a fork has no credentials: nothing is run, and nothing fails.
	a.env["FROM_FORK"] = "true"
	status, out, outputs, summary = a.run()
	if status != 0 || len(outputs) != 0 || summary != "" || !strings.HasPrefix(out, "::notice title=cloudaudit::") {
		t.Errorf("from a fork: status %d, outputs %v\n%s", status, outputs, out)
	}
}

// TestActionWithHostileValues: whatever an input or a resource's name holds, it is a value.
func TestActionWithHostileValues(t *testing.T) {
	t.Parallel()
	const hostile = "x\n::set-output name=findings::0\n::add-mask::a\n`touch pwned`$(touch pwned)\r%0A::error::owned##[group]"
	s := newScene(t, "do")
	world := s.killer.Cloud.(*do.World)
	for _, team := range world.Teams {
		for i := range team.Scene.Firewalls {
			team.Scene.Firewalls[i].Name += hostile
		}
		for i := range team.Scene.Droplets {
			team.Scene.Droplets[i].Name += hostile
		}
	}
	a := newAction(t, s)
	status, out, outputs, summary := a.run()
	if status != 1 || outputs["findings"] == "0" || len(outputs) != 9 {
		t.Errorf("status %d, outputs %v\n%s", status, outputs, out)
	}
	ours := regexp.MustCompile(`^::(error|warning|notice) title=(CA\d+ \w+|Incomplete)::`)
	for _, c := range commands(out) {
		if !ours.MatchString(c) || strings.Contains(c, "%0A") || strings.Contains(c, "##[") {
			t.Errorf("the runner gets the command %q", c)
		}
	}
	if len(commands(summary)) > 0 {
		t.Errorf("the summary has commands: %q", commands(summary))
	}

	for name, value := range map[string]string{
		"INPUT_PROVIDER": "do\"; touch pwned #", "INPUT_PORT": "$(touch pwned)", "INPUT_FAIL_ON": "--help", "INPUT_CONFIG": "`touch pwned`",
		"INPUT_BASELINE": "none\n--fix", "INPUT_NEW_ONLY": "true; touch pwned", "INPUT_ARGS": "--timeout=$(touch pwned)\n", "INPUT_INSTALL": "curl x | sh",
		"INPUT_FIX": "apply --yes", "INPUT_SARIF_FILE": "no/../such/$(touch pwned)\nfindings=0",
	} {
		b := newAction(t, s)
		b.env[name] = value
		status, out, outputs, _ := b.run()
		if status != 2 || outputs["findings"] != "" {
			t.Errorf("%s=%q: status %d, outputs %v\n%s", name, value, status, outputs, out)
		}
		for _, c := range commands(out) {
			if !strings.HasPrefix(c, "::error title=cloudaudit::") {
				t.Errorf("%s=%q: the runner gets the command %q", name, value, c)
			}
		}
		if _, err := os.Stat(filepath.Join(b.dir, "pwned")); err == nil {
			t.Errorf("%s=%q was run", name, value)
		}
	}
}

// TestActionInstalls: from the action's own source, and from a release only if it has the digest that the action has.
func TestActionInstalls(t *testing.T) {
	t.Parallel()
	s := newScene(t, "do")
	a := newAction(t, s)
	a.env["INPUT_INSTALL"] = "source"
	if status, out, outputs, _ := a.run(); status != 1 || outputs["complete"] != "true" {
		t.Errorf("source: status %d, outputs %v\n%s", status, outputs, out)
	}

	a = newAction(t, s)
	a.env["INPUT_INSTALL"] = "binary"
	if status, out, _, _ := a.run(); status != 2 || !strings.Contains(out, "no digest of a release") {
		t.Errorf("without a release: status %d\n%s", status, out)
	}
	a.directory = t.TempDir()
	archive, name := release(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/owner/cloudaudit/releases/download/v1.2.3/"+name {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(archive)
	}))
	defer server.Close()
	a.env["GITHUB_SERVER_URL"], a.env["ACTION_REPOSITORY"] = server.URL, "owner/cloudaudit"
	script, err := os.ReadFile("../../scripts/action.sh")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(archive)
	for digest, want := range map[string]string{hex.EncodeToString(sum[:]): "", strings.Repeat("0", 64): "not what was released"} {
		if err := os.MkdirAll(filepath.Join(a.directory, "scripts"), 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"action.sh": string(script), "action-checksums.txt": "# digests\n" + digest + "  " + name + "\n"} {
			if err := os.WriteFile(filepath.Join(a.directory, "scripts", file), []byte(text), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		status, out, _, _ := a.run()
		if want == "" && status != 0 || want != "" && (status != 2 || !strings.Contains(out, want)) {
			t.Errorf("digest %s: status %d\n%s", digest, status, out)
		}
	}
}

// release returns an archive as a release has it, with a program that does nothing.
func release(t *testing.T) ([]byte, string) {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	program := []byte("#!/bin/sh\nexit 0\n")
	if err := archive.WriteHeader(&tar.Header{Name: "cloudaudit", Mode: 0o755, Size: int64(len(program))}); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), fmt.Sprintf("cloudaudit_1.2.3_%s_%s.tar.gz", runtime.GOOS, runtime.GOARCH)
}
