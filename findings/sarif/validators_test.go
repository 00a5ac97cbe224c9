package sarif

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/findingstest"
)

// files returns what the validators are shown: both profiles of the report, with and without what differs from run to run.
// They are in parts of at most five runs: code scanning takes twenty, and rule GH1004 of sarif-multitool still knows five.
func files(t *testing.T) map[string][]byte {
	out := map[string][]byte{}
	for _, p := range []Profile{Full, GitHub} {
		compared := findingstest.Compared()
		compared.Run = report().Run
		// The validator takes no more than five runs a file.
		compared.Scopes = slices.DeleteFunc(compared.Scopes, func(s findings.Scope) bool { return s.Provider == "do" })
		compared.Findings = slices.DeleteFunc(compared.Findings, func(f findings.Finding) bool { return f.Scope.Provider == "do" })
		compared.Baseline.ID = "2f3c1a52-70cc-4a3c-8f0e-0d3c2c1c9a11"
		compared.Shard, compared.Notices = &findings.Shard{Of: 3, Parts: []int{1, 3}}, []string{"cloudaudit.yaml:3: an ignore has expired"}
		out[fmt.Sprintf("%s-compared.sarif", p)] = written(t, compared, p)
		all := report()
		for i, scopes := range slices.Collect(slices.Chunk(all.Scopes, 5)) {
			part := *all
			part.Scopes = scopes
			part.Findings = slices.DeleteFunc(slices.Clone(all.Findings), func(f findings.Finding) bool {
				return !slices.ContainsFunc(scopes, func(s findings.Scope) bool { return s.Scope == f.Scope })
			})
			out[fmt.Sprintf("%s-%d.sarif", p, i)] = written(t, &part, p)
			part.Run.ID = "7d0b1f6e-2f0e-4c43-9d0a-0f6a4b1d7c11"
			part.Run.Anchor = findings.Location{File: ".github/workflows/audit.yml", Line: 1}
			part.Run.Version = "devel"
			out[fmt.Sprintf("%s-%d-once.sarif", p, i)] = written(t, &part, p)
		}
	}
	return out
}

const root = "../.."

// schemas returns the schemas to validate with: those of the standard and of GitHub's uploader, or else the one that comes
// with sarif-multitool.
func schemas(t *testing.T) []string {
	var out []string
	for _, name := range []string{"sarif-schema-2.1.0.json", "codeql-action-sarif-schema-2.1.0.json"} {
		path := filepath.Join(root, "..", "shared", "specs", name)
		if _, err := os.Stat(path); err == nil {
			out = append(out, path)
		}
	}
	if len(out) == 0 {
		out = append(out, filepath.Join(filepath.Dir(multitool(t)), "sarif-2.1.0.json"))
	}
	return out
}

// multitool returns the path of SARIF's validator. Its own wrapper would split arguments at semicolons.
func multitool(t *testing.T) string {
	t.Helper()
	system, suffix := runtime.GOOS, ""
	if system == "windows" {
		system, suffix = "win32", ".exe"
	}
	path, err := filepath.Abs(filepath.Join(root, "node_modules", "@microsoft", "sarif-multitool-"+system, "Sarif.Multitool"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		_, missing := os.Stat(filepath.Join(root, "node_modules"))
		if os.Getenv("CI") == "" && errors.Is(missing, fs.ErrNotExist) {
			t.Skip("sarif-multitool is not installed: run make test")
		}
		t.Fatalf("sarif-multitool is not installed: run make test: %v", err)
	}
	return path
}

// mend takes out of GitHub's copy of the schema the anyOf that stands there among the properties of a region, where it is
// not a schema; GitHub's uploader takes no notice of it.
func mend(schema any) {
	for _, key := range []string{"definitions", "region", "properties"} {
		object, ok := schema.(map[string]any)
		if !ok {
			return
		}
		schema = object[key]
	}
	if properties, ok := schema.(map[string]any); ok {
		delete(properties, "anyOf")
	}
}

func TestSchema(t *testing.T) {
	for _, path := range schemas(t) {
		compiler := jsonschema.NewCompiler()
		compiler.AssertFormat()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
		if err != nil {
			t.Fatal(err)
		}
		mend(doc)
		if err := compiler.AddResource("file:///sarif.json", doc); err != nil {
			t.Fatal(err)
		}
		s, err := compiler.Compile("file:///sarif.json")
		if err != nil {
			t.Fatal(err)
		}
		for name, file := range files(t) {
			log, err := jsonschema.UnmarshalJSON(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Validate(log); err != nil {
				t.Errorf("%s by %s: %v", name, filepath.Base(path), err)
			}
		}
		bad, err := jsonschema.UnmarshalJSON(bytes.NewReader(bytes.ReplaceAll(files(t)["full-0.sarif"], []byte(`"startLine"`), []byte(`"beginLine"`))))
		if err != nil {
			t.Fatal(err)
		}
		if s.Validate(bad) == nil {
			t.Errorf("%s finds nothing wrong with a wrong file", filepath.Base(path))
		}
	}
}

// TestMultitool wants no result at all of sarif-multitool, with its rules for GitHub and down to its notes; its exit status
// says nothing about them.
func TestMultitool(t *testing.T) {
	tool := multitool(t)
	all := files(t)
	if got := validated(t, tool, all); len(got) > 0 {
		t.Errorf("sarif-multitool has %d results, such as %s", len(got), got[0])
	}
	bad := bytes.ReplaceAll(all["github-0.sarif"], []byte(`"uri": "network.tf"`), []byte(`"uri": "aws://network"`))
	got := validated(t, tool, map[string][]byte{"bad.sarif": bad})
	if !slices.ContainsFunc(got, func(s string) bool { return bytes.Contains([]byte(s), []byte("GH1005")) }) {
		t.Errorf("sarif-multitool does not find a location that is no path: %s", got)
	}
}

// validated returns the results of sarif-multitool for some files.
func validated(t *testing.T, tool string, files map[string][]byte) []string {
	t.Helper()
	dir := t.TempDir()
	config, err := filepath.Abs(filepath.Join("testdata", "multitool.xml"))
	if err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(dir, "report.json")
	args := []string{"validate"}
	for name, file := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	args = append(args, "--config", config, "--rule-kind", "Sarif;Ghas", "--level", "Error;Warning;Note", "--kind", "Fail", "--output", report)
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Env = append(os.Environ(), "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1", "DOTNET_BUNDLE_EXTRACT_BASE_DIR="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var log struct {
		Runs []struct {
			Invocations []struct {
				ExecutionSuccessful bool `json:"executionSuccessful"`
			}
			Artifacts []struct{}
			Results   []json.RawMessage
		}
	}
	if err := json.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), &log); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, run := range log.Runs {
		for _, r := range run.Results {
			out = append(out, string(r))
		}
		for _, i := range run.Invocations {
			if !i.ExecutionSuccessful {
				out = append(out, "the validation itself failed")
			}
		}
	}
	if len(log.Runs) == 0 {
		t.Fatal("sarif-multitool reports no run")
	}
	return out
}
