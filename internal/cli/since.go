package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/findings/jsonreport"
	"github.com/cloudaudit/cloudaudit/findings/sarif"
	"github.com/cloudaudit/cloudaudit/providers"
)

// sinceFlags say what a report is compared with.
type sinceFlags struct {
	baseline string
	newOnly  bool
}

func (s *sinceFlags) register(f *pflag.FlagSet) {
	f.StringVar(&s.baseline, "baseline", "", "earlier JSON or SARIF report in this `file`: say what is new, unchanged and gone since")
	f.BoolVar(&s.newOnly, "new-only", false, "with --baseline or --state-dir: show new findings only, and exit with status 1 for them only")
}

// read returns the baseline, or before if none is given: what the last run has left, or nil.
func (s *sinceFlags) read(sys System, before *findings.Report) (*findings.Report, error) {
	if s.baseline == "" {
		if s.newOnly && before == nil {
			return nil, &providers.Hint{
				Err: errors.New("--new-only needs a --baseline to know what is new"), Next: "give it an earlier JSON or SARIF report, or let a scan keep one with --state-dir",
			}
		}
		return before, nil
	}
	old, _, err := readReport(s.baseline)
	if err != nil {
		return nil, &providers.Hint{
			Err:  fmt.Errorf("--baseline %s: %w", s.baseline, err),
			Next: "a baseline is what `cloudaudit scan --output json=FILE` or `--output sarif=FILE` writes, of this version or an earlier one",
		}
	}
	if old.NewOnly || old.Severity != "" {
		fmt.Fprintf(sys.Stderr, "the baseline %s was written with --new-only or --severity: what it leaves out counts as new\n", escape.Terminal(s.baseline))
	}
	return old, nil
}

// readReport reads a report of either form. Whole says that it is all that the report was.
func readReport(path string) (report *findings.Report, whole bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	data, err := io.ReadAll(bufio.NewReader(f))
	if err != nil {
		return nil, false, err
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	var kind struct {
		Schema  *string         `json:"schema"`
		Version *string         `json:"version"`
		Runs    json.RawMessage `json:"runs"`
	}
	switch err := json.Unmarshal(data, &kind); {
	case err != nil:
		return nil, false, fmt.Errorf("neither a JSON nor a SARIF report: %w", err)
	case kind.Runs != nil:
		report, whole, err = sarif.Read(bytes.NewReader(data))
		if err != nil {
			return nil, false, err
		}
	case kind.Schema == nil:
		return nil, false, errors.New("neither a JSON nor a SARIF report of cloudaudit")
	default:
		report, err = jsonreport.Read(bytes.NewReader(data))
		if err != nil {
			return nil, false, err
		}
		whole = true
	}
	for _, f := range report.Findings {
		if _, ok := findings.CheckOf(f.RuleID); !ok || f.Fingerprint == "" {
			return nil, false, fmt.Errorf("there is no check %q: the report is of a later version, or broken", escape.Visible(f.RuleID))
		}
	}
	return report, whole, nil
}

// conclusion is what becomes of a report: what scan and merge have in common.
type conclusion struct {
	run          findings.Run
	old          *findings.Report // what it is compared with; nil is nothing
	newOnly      bool
	allowPartial bool
	quiet        bool
	show, gate   findings.Level
	plan         *plan
	night        *night // nil if nothing is left to a next run
}

// write compares, gates, shows and writes a report.
func (c *conclusion) write(ctx context.Context, report *findings.Report) error {
	if c.old != nil {
		report.Since(c.old)
	}
	all := *report
	all.Findings = slices.Clone(report.Findings)
	if c.newOnly {
		report.OnlyNew()
	}
	report.Run = c.run
	report.Run.Exit = status(ctx, report, c.gate, c.allowPartial)
	if !report.Run.Started.IsZero() {
		report.Run.Finished = c.plan.sys.now().UTC()
	}
	all.Run = report.Run
	report.Keep(c.show)
	if c.quiet {
		c.plan.silence(&all, c.newOnly, c.show)
	}
	if err := c.plan.write(report); err != nil {
		return err
	}
	if c.night != nil {
		if err := c.night.keep(ctx, &all, c.old, c.show); err != nil {
			return err
		}
	}
	if report.Run.Exit != ExitClean {
		return &exit{status: report.Run.Exit}
	}
	return nil
}

// shardOf returns the shard that the flag asks for, or else the one that Kubernetes or AWS Batch gave this process; nil is
// everything.
//
// A pod of an indexed Job knows its index and not how many there are: that has to be set as CLOUDAUDIT_SHARDS
// (https://kubernetes.io/docs/tasks/job/indexed-parallel-processing-static/). A child of an array job knows both
// (https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html).
func shardOf(flag string, getenv func(string) string) (*findings.Shard, error) {
	if flag != "" {
		s, err := findings.ParseShard(flag)
		if err != nil {
			return nil, fmt.Errorf("--%w", err)
		}
		return s, nil
	}
	for _, v := range []struct{ index, size string }{
		{"JOB_COMPLETION_INDEX", "CLOUDAUDIT_SHARDS"},
		{"AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"},
	} {
		index, size := getenv(v.index), getenv(v.size)
		if index == "" || size == "" {
			continue
		}
		i, err := strconv.Atoi(index)
		if err != nil {
			return nil, fmt.Errorf("environment variable %s: %q is not a number", v.index, index)
		}
		s, err := findings.ParseShard(fmt.Sprintf("%d/%s", i+1, size))
		if err != nil {
			return nil, fmt.Errorf("environment variables %s and %s: %w", v.index, v.size, err)
		}
		return s, nil
	}
	if getenv("CLOUDAUDIT_SHARDS") != "" {
		return nil, errors.New("environment variable CLOUDAUDIT_SHARDS is set and JOB_COMPLETION_INDEX is not: which shard is this?")
	}
	return nil, nil
}

// ofShard leaves out of listings the scopes that are not in shard.
func ofShard(listings []listing, shard *findings.Shard) {
	for i := range listings {
		listings[i].scopes = slices.DeleteFunc(slices.Clone(listings[i].scopes), func(s cloud.Scope) bool { return !shard.Has(s) })
	}
}
