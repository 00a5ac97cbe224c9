// Package archtest holds the test that keeps the imports between packages as they are meant to be. It has no code: what is
// allowed is the table in its test, and what is not in the table is an error.
package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/cloudaudit/cloudaudit/"

// allowed lists, for each package, the packages of this module that it may import; "…" stands for all of them.
var allowed = map[string][]string{
	"cmd/cloudaudit":         {"internal/cli"},
	"traffic":                {},
	"cloud":                  {"traffic"},
	"providers":              {"cloud"},
	"providers/aws":          {"providers", "cloud", "traffic"},
	"providers/do":           {"providers", "cloud", "traffic"},
	"providers/gcp":          {"providers", "cloud", "traffic"},
	"providers/providertest": {"providers", "cloud", "internal/emulate"},
	"findings":               {"cloud", "traffic"},
	"findings/escape":        {},
	"findings/outline":       {"findings", "cloud", "traffic"},
	"findings/findingstest":  {"findings", "cloud", "traffic"},
	"findings/sarif":         {"findings", "findings/escape", "cloud", "traffic"},
	"findings/jsonreport":    {"findings", "findings/escape", "cloud", "traffic"},
	"findings/text":          {"findings", "findings/escape", "findings/outline", "cloud", "traffic"},
	"findings/html":          {"findings", "findings/escape", "findings/outline", "cloud", "traffic"},
	"findings/markdown":      {"findings", "findings/escape", "findings/outline", "cloud", "traffic"},
	"internal/archtest":      {},
	"internal/cli":           {"…"},
	"internal/emulate":       {},
	"internal/emulate/do":    {"internal/emulate"},
	"internal/emulate/ec2":   {"internal/emulate"},
	"internal/emulate/gce":   {"internal/emulate"},
	"internal/emulate/moto":  {},
}

// pure packages judge or write: they know no clock of their own, no network, no environment and no cloud's SDK. Findings
// holds points in time as values, which the command line puts there.
var pure = []string{
	"traffic", "cloud", "findings", "findings/escape", "findings/outline", "findings/sarif", "findings/jsonreport",
	"findings/text", "findings/html", "findings/markdown",
}

// impure are the imports that a pure package must not have.
var impure = []string{
	"net", "net/http", "os", "os/exec", "syscall", "math/rand", "math/rand/v2", "crypto/rand",
	"github.com/hashicorp/go-hclog", "github.com/aws/", "github.com/digitalocean/", "cloud.google.com/", "google.golang.org/",
}

// meaningless are names that say nothing of what a package is for.
var meaningless = []string{"util", "utils", "common", "helper", "helpers", "model", "models", "types", "core", "pkg", "misc", "base"}

type listed struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) map[string]listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	packages := map[string]listed{}
	for dec := json.NewDecoder(out); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages[strings.TrimPrefix(p.ImportPath, module)] = p
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("go list: %v", err)
	}
	return packages
}

func TestImports(t *testing.T) {
	packages := list(t)
	for name, p := range packages {
		may, known := allowed[name]
		if !known {
			t.Errorf("package %s is not in the table", name)
			continue
		}
		for _, i := range p.Imports {
			inner, ok := strings.CutPrefix(i, module)
			if ok && !slices.Contains(may, inner) && !slices.Contains(may, "…") {
				t.Errorf("package %s must not import %s", name, inner)
			}
		}
		if slices.Contains(meaningless, path.Base(name)) {
			t.Errorf("package %s: the name says nothing", name)
		}
	}
	for name := range allowed {
		if _, ok := packages[name]; !ok {
			t.Errorf("package %s is in the table and nowhere else", name)
		}
	}
}

func TestPurity(t *testing.T) {
	packages := list(t)
	for _, name := range pure {
		for _, i := range packages[name].Imports {
			for _, bad := range impure {
				if i == bad || strings.HasSuffix(bad, "/") && strings.HasPrefix(i, bad) {
					t.Errorf("package %s is pure, and imports %s", name, i)
				}
			}
		}
	}
}
