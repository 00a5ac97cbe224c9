package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/html"
	"github.com/cloudaudit/cloudaudit/findings/jsonreport"
	"github.com/cloudaudit/cloudaudit/findings/markdown"
	"github.com/cloudaudit/cloudaudit/findings/sarif"
	"github.com/cloudaudit/cloudaudit/findings/text"
	"github.com/cloudaudit/cloudaudit/internal/durable"
	"github.com/cloudaudit/cloudaudit/providers"
)

// writer writes a report in one format.
type writer func(w io.Writer, r *findings.Report) error

func formatNames() []string { return []string{"text", "json", "sarif", "html", "markdown"} }

// output is one place that the report goes to.
type output struct {
	path  string // "-" is standard output
	write writer
}

// plan is everything that one scan writes.
type plan struct {
	sys     System
	outputs []output
}

// plan checks formats and paths before anything is read.
func (o *outputFlags) plan(sys System, color string) (*plan, error) {
	onStdout, err := o.writer(o.format, sys, sys.Stdout, color)
	if err != nil {
		return nil, err
	}
	p := &plan{sys: sys, outputs: []output{{"-", onStdout}}}
	for _, spec := range o.outputs {
		format, path, ok := strings.Cut(spec, "=")
		if !ok || path == "" {
			return nil, &providers.Hint{Err: fmt.Errorf("--output %q: want FORMAT=PATH", spec), Next: "for example --output sarif=cloudaudit.sarif"}
		}
		write, err := o.writer(format, sys, nil, "never")
		if err != nil {
			return nil, err
		}
		if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
			return nil, &providers.Hint{Err: fmt.Errorf("--output %s: %s is not a directory", spec, filepath.Dir(path)), Next: "make it first"}
		}
		p.outputs = append(p.outputs, output{path, write})
	}
	return p, nil
}

// writer returns the writer of a format; to is where it will write, if that matters.
func (o *outputFlags) writer(format string, sys System, to io.Writer, color string) (writer, error) {
	switch format {
	case "text":
		useColor, err := colored(color, to, sys.Getenv)
		if err != nil {
			return nil, err
		}
		opts := text.Options{Color: useColor, Width: terminalWidth(to)}
		return func(w io.Writer, r *findings.Report) error { return text.Write(w, r, opts) }, nil
	case "json":
		return jsonreport.Write, nil
	case "html":
		return html.Write, nil
	case "markdown":
		return markdown.Write, nil
	case "sarif":
		profile := sarif.Profile(o.sarifProfile)
		if profile != sarif.Full && profile != sarif.GitHub {
			return nil, badChoice("sarif-profile", o.sarifProfile, "full", "github")
		}
		return func(w io.Writer, r *findings.Report) error { return sarif.Write(w, r, profile) }, nil
	}
	return nil, badChoice("format", format, formatNames()...)
}

// write writes r everywhere. One place that cannot be written to does not keep the report from the others.
func (p *plan) write(r *findings.Report) error {
	var errs []error
	for _, o := range p.outputs {
		var b bytes.Buffer
		if err := o.write(&b, r); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, put(p.sys, o.path, b.Bytes()))
	}
	if err := errors.Join(errs...); err != nil {
		return &exit{ExitUsage, fmt.Errorf("write the report: %w", err)}
	}
	return nil
}

// put writes data to standard output, or to a file in one step: whoever reads path sees the old content or the new one.
func put(sys System, path string, data []byte) error {
	if path == "-" {
		_, err := sys.Stdout.Write(data)
		return err
	}
	mode := os.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	return durable.Replace(path, data, mode)
}

// saveSnapshots writes snapshots to path.
func saveSnapshots(sys System, path string, snapshots []*cloud.Snapshot) error {
	var b bytes.Buffer
	if err := cloud.WriteSnapshots(&b, snapshots); err != nil {
		return err
	}
	return put(sys, path, b.Bytes())
}

func compareScopes(a, b cloud.Scope) int {
	return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Region, b.Region))
}

// newRun describes this run. With SOURCE_DATE_EPOCH set, nothing in it differs from one run to the next
// (https://reproducible-builds.org/specs/source-date-epoch/).
func newRun(sys System) findings.Run {
	run := findings.Run{Version: versionOf(sys), Anchor: anchor(sys)}
	if repository := sys.Getenv("GITHUB_REPOSITORY"); repository != "" {
		run.Repository = findings.Repository{
			URI:      sys.Getenv("GITHUB_SERVER_URL") + "/" + repository,
			Revision: sys.Getenv("GITHUB_SHA"), Branch: sys.Getenv("GITHUB_REF_NAME"),
		}
	}
	if sys.Getenv("SOURCE_DATE_EPOCH") == "" {
		run.ID = uuid.NewString()
		run.Started = sys.now().UTC()
	}
	return run
}

// anchor returns the line that stands for whatever has no line of its own: of the configuration, or else of the workflow
// that runs the scan. Code scanning rejects a file of results if one of them has no line in the repository.
func anchor(sys System) findings.Location {
	const config = "cloudaudit.yaml"
	at := func(path string) (findings.Location, bool) {
		data, err := os.ReadFile(filepath.Join(sys.Getenv("GITHUB_WORKSPACE"), path))
		if err != nil {
			return findings.Location{}, false
		}
		for i, line := range strings.Split(string(data), "\n") {
			line = strings.TrimRight(line, "\r")
			if trimmed := strings.TrimSpace(line); trimmed != "" && !strings.HasPrefix(trimmed, "#") && trimmed != "---" {
				return findings.Location{File: path, Line: i + 1, Text: line}, true
			}
		}
		return findings.Location{}, false
	}
	paths := []string{config}
	// owner/repository/.github/workflows/audit.yml@refs/heads/main
	if ref, _, ok := strings.Cut(sys.Getenv("GITHUB_WORKFLOW_REF"), "@"); ok {
		if parts := strings.SplitN(ref, "/", 3); len(parts) == 3 && filepath.IsLocal(parts[2]) {
			paths = append(paths, parts[2])
		}
	}
	for _, path := range paths {
		if l, ok := at(path); ok {
			return l
		}
	}
	return findings.Location{File: paths[len(paths)-1], Line: 1}
}
