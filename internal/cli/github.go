package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/findings/outline"
	"github.com/cloudaudit/cloudaudit/providers"
)

// mostAnnotations is how many annotations of a level GitHub shows of one step
// (https://docs.github.com/rest/checks/runs).
const mostAnnotations = 10

// newGitHub is the command by which the GitHub Action tells the runner what a report says.
func newGitHub(sys System) *cobra.Command {
	var outputs string
	var annotate bool
	cmd := &cobra.Command{
		Use:    "github REPORT",
		Short:  "Tell a GitHub Actions runner what a report says",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			report, _, err := readReport(args[0])
			if err != nil {
				return &providers.Hint{Err: fmt.Errorf("%s: %w", args[0], err), Next: "give it what `cloudaudit scan --output json=FILE` writes"}
			}
			if outputs != "" {
				f, err := os.OpenFile(outputs, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
				if err != nil {
					return err
				}
				_, err = f.WriteString(actionOutputs(report))
				if err := errors.Join(err, f.Close()); err != nil {
					return err
				}
			}
			if !annotate {
				return nil
			}
			_, err = fmt.Fprint(sys.Stdout, annotations(report))
			return err
		},
	}
	cmd.Flags().StringVar(&outputs, "outputs", "", "append the counts to this `file`, as name=value")
	cmd.Flags().BoolVar(&annotate, "annotations", true, "write annotations")
	return cmd
}

// actionOutputs are the outputs of the action that the report says: numbers and words, one a line.
func actionOutputs(r *findings.Report) string {
	all, fresh := 0, 0
	levels := map[findings.Level]int{}
	for i := range r.Findings {
		f := &r.Findings[i]
		if !f.Open() {
			continue
		}
		all++
		levels[f.Level]++
		if f.State == "" || f.State == findings.New {
			fresh++
		}
	}
	return fmt.Sprintf("complete=%t\nfindings=%d\nnew-findings=%d\nerrors=%d\nwarnings=%d\nnotes=%d\n",
		r.Complete, all, fresh, levels[findings.Error], levels[findings.Warning], levels[findings.Note])
}

// annotations returns the most severe findings as workflow commands, as many of each level as GitHub shows, and says how many
// it leaves out (https://docs.github.com/actions/reference/workflow-commands-for-github-actions).
func annotations(r *findings.Report) string {
	var b strings.Builder
	for _, l := range []struct {
		level   findings.Level
		command string
	}{{findings.Error, "error"}, {findings.Warning, "warning"}, {findings.Note, "notice"}} {
		n := 0
		for i := range r.Findings {
			f := &r.Findings[i]
			if f.Level != l.level || !f.Open() {
				continue
			}
			if n++; n > mostAnnotations {
				continue
			}
			check, _ := findings.CheckOf(f.RuleID)
			properties := "title=" + property(strings.TrimSpace(f.RuleID+" "+check.Name))
			if f.Location != nil {
				properties = fmt.Sprintf("file=%s,line=%d,", property(f.Location.File), f.Location.Line) + properties
			}
			fmt.Fprintf(&b, "::%s %s::%s\n", l.command, properties, data(f.Message))
		}
		if n > mostAnnotations {
			fmt.Fprintf(&b, "%s more in the summary and the report\n", outline.Count(n-mostAnnotations, string(l.level)))
		}
	}
	if !r.Complete {
		b.WriteString("::warning title=Incomplete::Not everything that was asked for could be read. What was not read is not clean.\n")
	}
	return b.String()
}

// data and property write text as the runner reads it in a command and in a property of one.
func data(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(escape.Line(escape.Visible(s)))
}

func property(s string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(data(s))
}
