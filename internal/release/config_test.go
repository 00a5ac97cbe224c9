package release

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// TestConfiguration holds .goreleaser.yaml against the schema that the goreleaser of scripts/tools.sh writes with
// `goreleaser jsonschema`, which knows no key that it does not list.
func TestConfiguration(t *testing.T) {
	pins, err := os.ReadFile(filepath.Join(root, "scripts", "tools.sh"))
	if err != nil {
		t.Fatal(err)
	}
	pin := regexp.MustCompile(`(?m)^goreleaser=(\S+)$`).FindSubmatch(pins)
	if pin == nil {
		t.Fatal("scripts/tools.sh pins no goreleaser")
	}
	// Another version's may stand beside the checkout.
	others, err := filepath.Glob(filepath.Join(root, "..", "shared", "specs", "goreleaser-*-schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(others, filepath.Join("testdata", "goreleaser", "schema-"+string(pin[1])+".json")) {
		schema, err := jsonschema.NewCompiler().Compile(path)
		if err != nil {
			t.Fatalf("goreleaser's schema, to be written with the pinned version: %v", err)
		}
		if err := schema.Validate(document(t, data)); err != nil {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
		for right, wrong := range map[string]string{
			"mod_timestamp": "mod_timestmp", "goos: [linux, ": "goos: linux # [", "format_overrides": "format_override",
			"maintainer": "maintianer", "version: 2": "version: two",
		} {
			broken := bytes.Replace(data, []byte(right), []byte(wrong), 1)
			if bytes.Equal(broken, data) {
				t.Errorf("%q is not in the file any more", right)
			} else if err := schema.Validate(document(t, broken)); err == nil {
				t.Errorf("%s: %q is accepted", filepath.Base(path), wrong)
			}
		}
	}
}

// document returns YAML as the values that a JSON schema speaks of.
func document(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPackageScripts has shellcheck read what packages run as root.
func TestPackageScripts(t *testing.T) {
	shellcheck := needTool(t, "shellcheck", "apt-get install shellcheck")
	scripts, err := filepath.Glob(filepath.Join(root, "deploy", "package", "*.sh"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts of packages: %v", err)
	}
	if out, err := exec.Command(shellcheck, scripts...).CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
	for _, path := range scripts {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(data), "#!/bin/sh\n") {
			t.Errorf("%s is not a script of /bin/sh, which is all that a small image has", path)
		}
	}
}
