package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/jsonreport"
	"github.com/cloudaudit/cloudaudit/findings/outline"
	"github.com/cloudaudit/cloudaudit/internal/config"
	"github.com/cloudaudit/cloudaudit/internal/durable"
	"github.com/cloudaudit/cloudaudit/internal/metrics"
	"github.com/cloudaudit/cloudaudit/internal/notify"
	"github.com/cloudaudit/cloudaudit/internal/state"
	"github.com/cloudaudit/cloudaudit/providers"
)

// nightFlags are those of runs that nobody watches.
type nightFlags struct {
	dir       string
	retain    int
	metrics   string
	heartbeat string
}

func (x *nightFlags) register(f *pflag.FlagSet) {
	f.StringVar(&x.dir, "state-dir", "", "keep the baseline and reports of scheduled runs in this `directory`, in which one run is at work at a time; it is made if need be")
	f.IntVar(&x.retain, "retain", 30, "with --state-dir: keep this `number` of reports, the newest; 0 is all")
	f.StringVar(&x.metrics, "metrics", "", "write this `file` for the textfile collector of Prometheus' node exporter")
	f.StringVar(&x.heartbeat, "heartbeat", "", "ask this `URL` after a run that has come to its end, and below it /fail after one that has not")
}

// night is what a scheduled run has beside its report: what the runs before it have left, and who is to be told. What goes
// wrong with telling is a warning: it changes neither the report nor the exit status.
type night struct {
	sys       System
	flags     *nightFlags
	file      *config.Config // nil if there is none
	heartbeat string         // "" for none
	started   time.Time

	dir  *state.Dir       // nil without --state-dir
	old  *findings.Report // what dir knows of the runs before; nil without --state-dir
	told map[string]notify.Known

	done *findings.Report // all that this run knows, as soon as that is written
}

// notified is the file of what those who are notified have been told.
type notified struct {
	Schema  string                  `json:"schema"`
	Readers map[string]notify.Known `json:"readers"` // by digests of their addresses
}

const notifiedSchema = "cloudaudit.notified/v1"

// run calls do with what a scheduled run has, and ends that.
func (x *nightFlags) run(ctx context.Context, sys System, file *config.Config, do func(*night) error) error {
	n, err := x.begin(sys, file)
	if err != nil {
		return err
	}
	defer n.close()
	err = n.open()
	if _, held := errors.AsType[*state.HeldError](err); held {
		return err // metrics and heartbeat are of the other run
	}
	if err == nil {
		err = do(n)
	}
	n.end(ctx, err)
	return err
}

// begin checks what the flags say. If that succeeds, end has to be called.
func (x *nightFlags) begin(sys System, file *config.Config) (*night, error) {
	n := &night{sys: sys, flags: x, file: file, started: sys.now(), told: map[string]notify.Known{}}
	if x.retain < 0 {
		return nil, fmt.Errorf("--retain %d: want a number that is not negative", x.retain)
	}
	if x.metrics != "" {
		if info, err := os.Stat(filepath.Dir(x.metrics)); err != nil || !info.IsDir() {
			return nil, &providers.Hint{Err: fmt.Errorf("--metrics %s: %s is not a directory", x.metrics, filepath.Dir(x.metrics)), Next: "make it first"}
		}
	}
	n.heartbeat = x.heartbeat
	if n.heartbeat == "" && file != nil {
		n.heartbeat = n.address("heartbeat", file.Heartbeat)
	}
	if n.heartbeat != "" {
		if _, err := notify.ParseHeartbeat(n.heartbeat); err != nil {
			return nil, fmt.Errorf("--heartbeat: %w", err)
		}
	}
	return n, nil
}

// open takes the state directory and reads what is in it.
func (n *night) open() error {
	if n.flags.dir == "" {
		return nil
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	n.dir, err = state.Open(n.flags.dir, fmt.Sprintf("process %d on %s since %s", os.Getpid(), host, n.started.UTC().Format(time.RFC3339)))
	if err != nil {
		if _, held := errors.AsType[*state.HeldError](err); held {
			err = &providers.Hint{Err: err, Next: "wait until it has ended; runs that are to be at work at the same time need a directory each"}
		}
		return err
	}
	broken := func(name string, err error) error {
		return &providers.Hint{
			Err:  fmt.Errorf("what the last run has left cannot be read: %s: %w", n.dir.Path(name), err),
			Next: "look at it and move it away: without it, everything is new to the next run",
		}
	}
	n.old = &findings.Report{}
	if old, _, err := readReport(n.dir.Path(state.Baseline)); err == nil {
		n.old = old
	} else if !errors.Is(err, fs.ErrNotExist) {
		return broken(state.Baseline, err)
	}
	data, err := n.dir.Load(state.Notified)
	if err != nil || data == nil {
		return err
	}
	var file notified
	if err := json.Unmarshal(data, &file); err != nil {
		return broken(state.Notified, err)
	}
	if file.Schema != notifiedSchema {
		return broken(state.Notified, fmt.Errorf("the schema is %q, want %q", file.Schema, notifiedSchema))
	}
	n.told = file.Readers
	return nil
}

// address returns a URL of the configuration, or "" with a warning if the variable that should have it is empty.
func (n *night) address(what string, a config.Address) string {
	if a.FromEnv == "" {
		return a.URL
	}
	url := n.sys.Getenv(a.FromEnv)
	if url == "" {
		n.warn("%s: the environment variable %s is not set", what, a.FromEnv)
	}
	return url
}

func (n *night) warn(format string, arguments ...any) {
	fmt.Fprintln(n.sys.Stderr, "warning: "+shown(fmt.Sprintf(format, arguments...)))
}

// close gives the state directory free.
func (n *night) close() {
	if n.dir != nil {
		if err := n.dir.Close(); err != nil {
			n.warn("%v", err)
		}
	}
}

// keep leaves all that this run knows to the next one, and tells who is to be told. Old is what the report was compared
// with, nil if it was with nothing.
func (n *night) keep(ctx context.Context, report, old *findings.Report, atLeast findings.Level) error {
	var name string
	if n.dir != nil {
		name = state.ReportName(n.started, uuid.NewString()[:8])
		if err := n.save(name, report); err != nil {
			return err
		}
	}
	if old != nil {
		n.gone(report, old)
		report.Remember(old)
	}
	if n.dir != nil {
		if err := n.save(state.Baseline, report); err != nil {
			return err
		}
		var before time.Time
		if n.file != nil && n.file.KeepDays > 0 {
			before = n.started.AddDate(0, 0, -n.file.KeepDays)
		}
		if err := n.dir.Prune(n.flags.retain, before, name); err != nil {
			n.warn("old reports stay: %v", err)
		}
	}
	n.done = report
	n.notify(ctx, report, old, atLeast)
	return nil
}

func (n *night) save(name string, r *findings.Report) error {
	var b bytes.Buffer
	err := jsonreport.Write(&b, r)
	if err == nil {
		err = n.dir.Save(name, b.Bytes())
	}
	if err != nil {
		return &exit{ExitUsage, fmt.Errorf("the report is written, and the state is not: %w", err)}
	}
	return nil
}

// gone says which scopes the last run knew and this one did not look for.
func (n *night) gone(report, old *findings.Report) {
	if n.dir == nil || report.Shard != nil {
		return
	}
	known, broken := map[cloud.Scope]bool{}, map[string]bool{}
	for _, s := range report.Scopes {
		known[s.Scope] = true
		broken[s.Provider] = broken[s.Provider] || !s.Complete
	}
	for _, s := range old.Scopes {
		if !known[s.Scope] && !broken[s.Provider] {
			n.warn("%s was there in the last run, and this one has not looked for it: what was found there stays in the baseline", s.Scope)
		}
	}
}

// notify tells those whom the configuration names what they do not know yet, and notes what they know then.
func (n *night) notify(ctx context.Context, report, old *findings.Report, atLeast findings.Level) {
	if n.file == nil || len(n.file.Notifications) == 0 || ctx.Err() != nil {
		return // what was not told today is told tomorrow
	}
	if old == nil {
		n.warn("nobody is notified: what is new is known only with --state-dir or --baseline")
		return
	}
	told := make([]notify.Known, len(n.file.Notifications))
	keys := make([]string, len(n.file.Notifications))
	failed := make([]error, len(n.file.Notifications))
	missing := false
	var group errgroup.Group
	for i, to := range n.file.Notifications {
		address := n.address(fmt.Sprintf("notification %d", i+1), to.Address)
		if address == "" {
			missing = true
			continue
		}
		digest := sha256.Sum256([]byte(address + "\x00" + strings.Join(to.On, ",")))
		keys[i] = hex.EncodeToString(digest[:8])
		known, ok := n.told[keys[i]]
		if !ok {
			known = notify.Of(old, atLeast)
		}
		news, next := known.Since(report, atLeast)
		told[i] = next
		if news = news.Only(to.On); news.IsEmpty() {
			continue
		}
		title := to.Title
		if title == "" {
			title = "cloudaudit"
		}
		group.Go(func() error {
			failed[i] = notify.Send(ctx, address, title, news.Message(), n.sys.sleep)
			if failed[i] != nil {
				told[i] = known
			}
			return nil
		})
	}
	_ = group.Wait() // no function of the group returns an error
	later := ""
	if n.dir != nil {
		later = ", and is tried again by the next run"
	}
	for i, err := range failed {
		if err != nil {
			n.warn("notification %d was not sent%s: %v", i+1, later, err)
		}
	}
	if n.dir == nil {
		return
	}
	file := notified{Schema: notifiedSchema, Readers: map[string]notify.Known{}}
	if missing {
		file.Readers = n.told // it is not known whose of these is the address that is missing
	}
	for i, key := range keys {
		if key != "" {
			file.Readers[key] = told[i]
		}
	}
	data, err := json.MarshalIndent(file, "", "  ")
	if err == nil {
		err = n.dir.Save(state.Notified, append(data, '\n'))
	}
	if err != nil {
		n.warn("what was told is not noted, and may be told again: %v", err)
	}
}

// end writes the metrics and asks the heartbeat's address. Err is what the run has ended with.
func (n *night) end(ctx context.Context, err error) {
	status := exitStatusOf(err)
	succeeded := status == ExitClean || status == ExitFindings || status == ExitIncomplete
	if n.flags.metrics != "" {
		run := metrics.Run{Started: n.started, Finished: n.sys.now(), Exit: status, Succeeded: succeeded, Version: versionOf(n.sys)}
		if status != ExitInterrupted {
			run.Report = n.done
		}
		if err := n.measure(run); err != nil {
			n.warn("%v", err)
		}
	}
	if n.heartbeat == "" {
		return
	}
	if ctx.Err() != nil { // who has interrupted the run does not wait for long
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
	}
	if err := notify.Ping(ctx, n.heartbeat, succeeded, n.sys.sleep); err != nil {
		n.warn("heartbeat: %v", err)
	}
}

func (n *night) measure(run metrics.Run) error {
	old, err := os.ReadFile(n.flags.metrics)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("metrics: %w", err)
	}
	data, err := metrics.Write(run, old)
	if data == nil {
		return err
	}
	if err != nil {
		n.warn("%v", err)
	}
	if err := durable.Replace(n.flags.metrics, data, 0o644); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// news counts what is to be said of a report to somebody who wants to hear of news only.
func news(r *findings.Report, atLeast findings.Level) (fresh, cleared int) {
	for i := range r.Findings {
		switch f := &r.Findings[i]; {
		case f.Suppressed != nil || !f.Level.AtLeast(atLeast):
		case f.State == findings.New || f.State == "":
			fresh++
		case f.State == findings.Absent:
			cleared++
		}
	}
	return fresh, cleared
}

// silence leaves standard output out of the plan if there is nothing to say there.
func (p *plan) silence(r *findings.Report, newOnly bool, atLeast findings.Level) {
	fresh, cleared := news(r, atLeast)
	if newOnly && cleared > 0 {
		fmt.Fprintf(p.sys.Stderr, "%s cleared since the last run\n", outline.Count(cleared, "finding"))
		cleared = 0 // the report does not have them
	}
	if fresh+cleared == 0 && r.Complete && r.Repair == nil {
		p.outputs = slices.DeleteFunc(p.outputs, func(o output) bool { return o.path == "-" })
	}
}
