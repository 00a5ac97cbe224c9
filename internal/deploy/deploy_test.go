// Package deploy holds tests of what stands in no Go file: the GitHub Action, workflows and Kubernetes manifests. Whatever is
// handed to people to run has to be well-formed, pinned, and call the program as it is.
package deploy

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/cloudaudit/cloudaudit/internal/cli"
)

// actionlint returns where the tool is: installed, or where `make tools` puts it.
func actionlint(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("actionlint"); err == nil {
		return path
	}
	path, err := filepath.Abs("../../.tools/bin/actionlint")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("actionlint is needed: `make tools` installs it: %v", err)
	}
	return path
}

func workflows(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"../../.github/workflows/*.yml", "../../docs/workflows/*.yml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, paths...)
	}
	if len(out) < 6 {
		t.Fatalf("%d workflows", len(out))
	}
	return out
}

// TestWorkflows: actionlint, with shellcheck for what runs, finds nothing, and every action is pinned by its commit.
func TestWorkflows(t *testing.T) {
	paths := workflows(t)
	if _, err := exec.LookPath("shellcheck"); err != nil && os.Getenv("CI") != "" {
		t.Error("shellcheck is needed in CI")
	}
	if out, err := exec.Command(actionlint(t), append([]string{"-no-color", "-shellcheck=shellcheck", "-pyflakes="}, paths...)...).CombinedOutput(); err != nil {
		t.Errorf("actionlint: %v\n%s", err, out)
	}
	pinned := regexp.MustCompile(`^[\w./-]+@[0-9a-f]{40}( # v\d+\.\d+\.\d+)?$`)
	uses := regexp.MustCompile(`(?m)^\s*-?\s*uses:\s*(.+)$`)
	for _, path := range append(paths, "../../action.yml") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range uses.FindAllStringSubmatch(string(text), -1) {
			if !pinned.MatchString(u[1]) {
				t.Errorf("%s: %q is not pinned by a commit", path, u[1])
			}
		}
	}
}

// TestActionTakesInputsByEnvironment: no expression is a part of what a shell runs, every input reaches the script, and the
// script asks for no other.
func TestActionTakesInputsByEnvironment(t *testing.T) {
	text, err := os.ReadFile("../../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	var action struct {
		Inputs  map[string]struct{ Description, Default string }
		Outputs map[string]struct{ Description, Value string }
		Runs    struct {
			Using string
			Steps []struct {
				ID, Shell, Run string
				Env            map[string]string
			}
		}
	}
	var whole map[string]any
	if err := yaml.UnmarshalStrict(text, &whole); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &action); err != nil {
		t.Fatal(err)
	}
	if action.Runs.Using != "composite" || len(action.Runs.Steps) != 1 {
		t.Fatalf("it runs %+v", action.Runs)
	}
	step := action.Runs.Steps[0]
	if strings.Contains(step.Run, "${{") || step.Shell != "bash" {
		t.Errorf("a shell runs %q", step.Run)
	}
	script, err := os.ReadFile("../../scripts/action.sh")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for name := range action.Inputs {
		variable := "INPUT_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		known[variable] = true
		if step.Env[variable] != "${{ inputs."+name+" }}" || !bytes.Contains(script, []byte("$"+variable)) {
			t.Errorf("the input %s does not get to the script", name)
		}
	}
	for _, variable := range regexp.MustCompile(`INPUT_\w+`).FindAllString(string(script), -1) {
		if !known[variable] {
			t.Errorf("the script asks for %s, which is no input", variable)
		}
	}
	for name, o := range action.Outputs {
		if o.Value != "${{ steps."+step.ID+".outputs."+name+" }}" {
			t.Errorf("the output %s is %s", name, o.Value)
		}
	}
}

// TestManifests decodes the Kubernetes manifests strictly, and holds them to what hardened pods are and to flags that exist.
func TestManifests(t *testing.T) {
	paths, err := filepath.Glob("../../deploy/kubernetes/*.yaml")
	if err != nil || len(paths) < 2 {
		t.Fatalf("%v, %v", paths, err)
	}
	jobs := 0
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for document := range strings.SplitSeq(string(text), "\n---\n") {
			var kind struct{ APIVersion, Kind string }
			if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
				t.Fatal(err)
			}
			into := map[string]any{
				"v1/ServiceAccount": &core.ServiceAccount{}, "v1/ConfigMap": &core.ConfigMap{},
				"v1/PersistentVolumeClaim": &core.PersistentVolumeClaim{}, "batch/v1/CronJob": &batch.CronJob{},
			}[kind.APIVersion+"/"+kind.Kind]
			if into == nil {
				t.Errorf("%s: unexpected %+v", path, kind)
				continue
			}
			if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
				t.Errorf("%s: %s: %v", path, kind.Kind, err)
				continue
			}
			if job, ok := into.(*batch.CronJob); ok {
				jobs++
				checkJob(t, path, job)
			}
		}
	}
	if jobs != 3 {
		t.Errorf("%d jobs", jobs)
	}
}

func checkJob(t *testing.T, path string, job *batch.CronJob) {
	t.Helper()
	name := path + " " + job.Name
	spec := job.Spec.JobTemplate.Spec
	pod := spec.Template.Spec
	if job.Spec.ConcurrencyPolicy != batch.ForbidConcurrent || pod.RestartPolicy != core.RestartPolicyNever {
		t.Errorf("%s: two may run at once, or one again", name)
	}
	s := pod.SecurityContext
	if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault ||
		pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Errorf("%s: the pod is not hardened: %+v", name, s)
	}
	for _, c := range pod.Containers {
		x := c.SecurityContext
		if x == nil || x.ReadOnlyRootFilesystem == nil || !*x.ReadOnlyRootFilesystem || x.AllowPrivilegeEscalation == nil || *x.AllowPrivilegeEscalation ||
			x.Capabilities == nil || !slices.Equal(x.Capabilities.Drop, []core.Capability{"ALL"}) {
			t.Errorf("%s: the container is not hardened: %+v", name, x)
		}
		if c.Resources.Limits.Memory().IsZero() || !strings.Contains(c.Image, "@sha256:") {
			t.Errorf("%s: no limit of memory, or an image without a digest", name)
		}
		checkArguments(t, name, c.Args)
		if spec.Completions != nil {
			shards := ""
			for _, e := range c.Env {
				if e.Name == "CLOUDAUDIT_SHARDS" {
					shards = e.Value
				}
			}
			if want := int(*spec.Completions); shards != strconv.Itoa(want) || *spec.CompletionMode != batch.IndexedCompletion {
				t.Errorf("%s: %d completions and CLOUDAUDIT_SHARDS=%q", name, want, shards)
			}
		}
		for _, rule := range ruleNames(spec.PodFailurePolicy) {
			if rule != c.Name {
				t.Errorf("%s: the failure policy is about a container %q", name, rule)
			}
		}
	}
}

func ruleNames(p *batch.PodFailurePolicy) []string {
	var out []string
	if p != nil {
		for _, r := range p.Rules {
			if r.OnExitCodes != nil && r.OnExitCodes.ContainerName != nil {
				out = append(out, *r.OnExitCodes.ContainerName)
			}
		}
	}
	return out
}

// checkArguments parses args as the program does.
func checkArguments(t *testing.T, name string, args []string) {
	t.Helper()
	root := cli.Tree()
	root.SetOut(io.Discard)
	cmd, rest, err := root.Find(args)
	if err != nil || cmd == root {
		t.Errorf("%s: %v: %v", name, args, err)
		return
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Errorf("%s: %v: %v", name, args, err)
	}
}
