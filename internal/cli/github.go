package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/annotations"
	"github.com/cloudaudit/cloudaudit/providers"
)

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
			return annotations.Write(sys.Stdout, report)
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
