package release

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	root    = "../.."
	version = "1.2.3" // of the release that the tests build
)

// recipe is what the tests read of .goreleaser.yaml.
type recipe struct {
	Env    []string
	Before struct{ Hooks []string }
	Builds []struct {
		Main, Binary   string
		Flags, Ldflags []string
		ModTimestamp   string `yaml:"mod_timestamp"`
	}
	Nfpms []map[string]any
}

// commit is the commit that the checkout is at, as goreleaser's templates name it.
type commit struct {
	Version, CommitDate, CommitTimestamp string
}

// needTool returns the path of a program. Where it is missing the test is skipped, but in CI it fails.
func needTool(t *testing.T, name, from string) string {
	t.Helper()
	if path, err := filepath.Abs(filepath.Join(root, ".tools", "bin", name)); err == nil {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		lack(t, fmt.Sprintf("%s is not here: %s", name, from))
	}
	return path
}

// lack ends a test that cannot be had here. In CI everything can.
func lack(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// output runs a command in dir and returns what it writes; if it fails, so does the test.
func output(t *testing.T, dir string, env []string, name string, arguments ...string) string {
	t.Helper()
	cmd := exec.Command(name, arguments...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// git runs git in the checkout, whoever owns that.
func git(t *testing.T, arguments ...string) string {
	t.Helper()
	return output(t, root, nil, "git", append([]string{"-c", "safe.directory=*"}, arguments...)...)
}

// now returns the commit that the checkout is at.
func now(t *testing.T) commit {
	t.Helper()
	needTool(t, "git", "a release is built from a git checkout")
	if _, err := os.Stat(filepath.Join(root, ".git")); err != nil {
		lack(t, "a release is built from a git checkout, and this is none")
	}
	seconds := strings.TrimSpace(git(t, "log", "-1", "--format=%ct"))
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return commit{Version: version, CommitDate: time.Unix(n, 0).UTC().Format(time.RFC3339), CommitTimestamp: seconds}
}

// fill carries out the templates in every string of v.
func fill(v any, with commit) (any, error) {
	switch v := v.(type) {
	case string:
		t, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{
			"envOrDefault": func(_, otherwise string) string { return otherwise },
		}).Parse(v)
		if err != nil {
			return nil, err
		}
		var b strings.Builder
		err = t.Execute(&b, with)
		return b.String(), err
	case []any:
		for i := range v {
			var err error
			if v[i], err = fill(v[i], with); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for key := range v {
			var err error
			if v[key], err = fill(v[key], with); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// readRecipe returns .goreleaser.yaml with its templates of builds, hooks and packages filled in.
func readRecipe(t *testing.T, with commit) recipe {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	whole := map[string]any{}
	if err := yaml.Unmarshal(data, &whole); err != nil {
		t.Fatal(err)
	}
	part := map[string]any{}
	for _, key := range []string{"env", "before", "builds", "nfpms"} {
		if list, ok := whole[key].([]any); ok && key == "nfpms" {
			for _, one := range list {
				if one, ok := one.(map[string]any); ok {
					delete(one, "file_name_template") // that is of goreleaser's own
				}
			}
		}
		if part[key], err = fill(whole[key], with); err != nil {
			t.Fatalf(".goreleaser.yaml: %s: %v", key, err)
		}
	}
	if data, err = yaml.Marshal(part); err != nil {
		t.Fatal(err)
	}
	var r recipe
	if err := yaml.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Builds) != 1 || len(r.Nfpms) != 1 {
		t.Fatalf(".goreleaser.yaml has %d builds and %d sets of packages; these tests know of one each", len(r.Builds), len(r.Nfpms))
	}
	return r
}
