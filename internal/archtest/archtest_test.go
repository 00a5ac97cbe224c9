// Package archtest holds the test that keeps the imports between packages as they are meant to be. It has no code: what is
// allowed is the table in its test, and what is not in the table is an error.
package archtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/cloudaudit/cloudaudit/"
	root   = "../.."
)

// allowed lists, for each package, the packages of this module that it may import; "…" stands for all of them.
var allowed = map[string][]string{
	"cmd/cloudaudit":         {"internal/cli"},
	"traffic":                {},
	"cloud":                  {"traffic"},
	"providers":              {"cloud", "traffic"},
	"providers/aws":          {"providers", "cloud", "traffic"},
	"providers/do":           {"providers", "cloud", "traffic"},
	"providers/gcp":          {"providers", "cloud", "traffic"},
	"providers/providertest": {"providers", "cloud", "traffic", "remedy", "internal/emulate"},
	"remedy":                 {"providers", "cloud", "traffic"},
	"findings":               {"cloud", "traffic"},
	"findings/escape":        {},
	"findings/outline":       {"findings", "cloud", "traffic"},
	"findings/findingstest":  {"findings", "cloud", "traffic"},
	"findings/sarif":         {"findings", "findings/escape", "findings/jsonreport", "cloud", "traffic"},
	"findings/jsonreport":    {"findings", "findings/escape", "cloud", "traffic"},
	"findings/text":          {"findings", "findings/escape", "findings/outline", "cloud", "traffic"},
	"findings/html":          {"findings", "findings/escape", "findings/outline", "cloud", "traffic"},
	"findings/annotations":   {"findings", "findings/escape", "findings/outline"},
	"findings/markdown":      {"findings", "findings/escape", "findings/outline", "cloud", "traffic"},
	"internal/archtest":      {},
	"internal/config":        {"findings", "findings/escape", "traffic"},
	"internal/durable":       {},
	"internal/journal":       {"cloud", "internal/durable"},
	"internal/metrics":       {"findings", "cloud"},
	"internal/notify":        {"findings", "findings/escape", "findings/outline", "cloud"},
	"internal/state":         {"internal/durable"},
	"internal/release":       {"internal/cli"},
	"internal/deploy":        {"internal/cli"},
	"bench/probe":            {"probe"},
	"scripts/manual":         {"internal/cli"},
	"probe":                  {"findings", "findings/escape", "cloud", "traffic"},
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

// impure are the imports from the standard library that a pure package must not have.
var impure = []string{
	"net", "net/http", "os", "os/exec", "os/signal", "syscall", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand",
}

// foreign are the modules that pure packages may use, by themselves or through each other: no SDK, no logger.
var foreign = []string{"go4.org/netipx", "github.com/rivo/uniseg"}

// clock are the names of package time that read the clock or wait for it.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// meaningless are names that say nothing of what a package is for.
var meaningless = []string{"util", "utils", "common", "helper", "helpers", "model", "models", "types", "core", "pkg", "misc", "base"}

type listed struct {
	ImportPath, Dir  string
	Standard         bool
	Imports, GoFiles []string
}

// TestMain looks at every directory of the module. What go list reads for the tests, the cache of go test does not know
// of: it would go on saying ok after an import has changed.
func TestMain(m *testing.M) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if name := d.Name(); d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata") {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// list returns what go list says with arguments, by import path without the module's own.
func list(t *testing.T, arguments ...string) map[string]listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Standard,Imports,GoFiles"}, arguments...)...)
	cmd.Dir = root
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
	packages := list(t, "./...")
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
	arguments := []string{"-deps"}
	for _, name := range pure {
		arguments = append(arguments, "./"+name)
	}
	packages := list(t, arguments...)
	for name, p := range packages {
		inside := strings.HasPrefix(p.ImportPath, module)
		if inside && !slices.Contains(pure, name) {
			t.Errorf("a pure package depends on %s, which is not", name)
		}
		if !inside && !p.Standard && !slices.Contains(foreign, name) {
			t.Errorf("a pure package depends on %s", name)
		}
	}
	for _, name := range pure {
		p := packages[name]
		if len(p.GoFiles) == 0 {
			t.Errorf("package %s has no files", name)
		}
		for _, i := range p.Imports {
			if slices.Contains(impure, i) {
				t.Errorf("package %s is pure, and imports %s", name, i)
			}
		}
		for _, file := range p.GoFiles {
			for _, use := range clockUses(t, filepath.Join(p.Dir, file)) {
				t.Errorf("package %s is pure, and reads the clock: %s", name, use)
			}
		}
	}
}

// clockUses returns where the file at path reads the clock.
func clockUses(t *testing.T, path string) []string {
	t.Helper()
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	timeIs := ""
	for _, i := range f.Imports {
		if i.Path.Value == `"time"` {
			timeIs = "time"
			if i.Name != nil {
				timeIs = i.Name.Name
			}
		}
	}
	var uses []string
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && timeIs != "" && slices.Contains(clock, s.Sel.Name) {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == timeIs {
				uses = append(uses, files.Position(s.Pos()).String())
			}
		}
		return true
	})
	return uses
}

// TestClockUses makes sure that TestPurity would see a clock.
func TestClockUses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.go")
	source := "package a\n\nimport clock \"time\"\n\nvar now, zero, later = clock.Now, clock.Time{}, clock.Time.After\n"
	if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if uses := clockUses(t, path); len(uses) != 1 || uses[0] != path+":5:24" {
		t.Errorf("the clock is read at %v, want line 5 once", uses)
	}
}
