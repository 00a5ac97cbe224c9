// Package cli is the command line: it wires providers, judgement and writers together, and turns what happened into an
// exit status. Everything that it needs of its surroundings comes in through System, so that a test runs it as a function.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/providers"
)

// The exit statuses. Findings beat an incomplete reading, and the report says both.
const (
	ExitClean       = 0   // nothing at or above --fail-on
	ExitFindings    = 1   // findings at or above --fail-on
	ExitUsage       = 2   // usage or configuration
	ExitIncomplete  = 3   // something could not be read, and nothing gates
	ExitNotFixed    = 4   // a fix was not fully applied and verified
	ExitInterrupted = 130 // a signal ended the run; what was read by then is reported
)

// System is what the program sees of its surroundings.
type System struct {
	Args    []string
	Getenv  func(string) string
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Version string // of the release, or empty
	// Now and Sleep are the clock; nil is that of the machine.
	Now   func() time.Time
	Sleep func(context.Context, time.Duration) error
}

func (sys System) now() time.Time {
	if sys.Now != nil {
		return sys.Now()
	}
	return time.Now()
}

func (sys System) sleep(ctx context.Context, d time.Duration) error {
	if sys.Sleep != nil {
		return sys.Sleep(ctx, d)
	}
	return providers.Sleep(ctx, d)
}

// exit is an error that carries an exit status. With a nil err there is nothing left to say.
type exit struct {
	status int
	err    error
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// Run runs the command line and returns the exit status.
func Run(ctx context.Context, sys System) int {
	root := newRoot(sys)
	root.SetArgs(sys.Args)
	root.SetOut(sys.Stdout)
	root.SetErr(sys.Stderr)
	err := root.ExecuteContext(ctx)
	status := exitStatusOf(err)
	if e, ok := errors.AsType[*exit](err); err == nil || ok && e.err == nil {
		return status
	}
	fmt.Fprintf(sys.Stderr, "cloudaudit: %s\n", escape.Terminal(err.Error()))
	if hint, ok := errors.AsType[*providers.Hint](err); ok {
		fmt.Fprintf(sys.Stderr, "hint: %s\n", escape.Terminal(hint.Next))
	}
	return status
}

// exitStatusOf returns the exit status of a command that has ended with err.
func exitStatusOf(err error) int {
	if err == nil {
		return ExitClean
	}
	if e, ok := errors.AsType[*exit](err); ok {
		return e.status
	}
	return ExitUsage
}

const about = `cloudaudit answers one question about the clouds you own: which packets from the public internet can reach
memcached (port 11211, TCP and UDP), which rule lets them in, and what is the smallest change that stops exactly those?

It reads security groups, firewalls, network ACLs, routes and addresses in AWS, DigitalOcean and Google Cloud, and decides
exposure exactly: split ranges, prefix lists, IPv6, priorities, deny rules and balancers are all taken for what they are.`

const exitStatuses = `Exit status:
  0    nothing at or above --fail-on
  1    findings at or above --fail-on
  2    usage or configuration
  3    incomplete (something could not be read), and nothing gates
  4    a fix was not fully applied and verified
  130  interrupted; what was read by then is reported, marked incomplete`

func newRoot(sys System) *cobra.Command {
	root := &cobra.Command{
		Use:           "cloudaudit",
		Short:         "Find which rule lets the internet reach memcached in your clouds",
		Long:          about + "\n\n" + exitStatuses,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			next := "see `cloudaudit --help`"
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				next = "did you mean `cloudaudit " + like[0] + "`? " + next
			}
			return &providers.Hint{Err: fmt.Errorf("no command %q", args[0]), Next: next}
		},
		SuggestionsMinimumDistance: 2,
		Example: `  cloudaudit demo                          try it on emulated clouds, without any account
  cloudaudit scan                          audit every cloud for which there are credentials
  cloudaudit scan --provider aws --region eu-west-1 --format sarif > cloudaudit.sarif
  cloudaudit explain 54.84.1.2             why this address is open, or what keeps it closed
  cloudaudit scan --fix --dry-run          the smallest change that closes what is open, with its proof`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &providers.Hint{Err: err, Next: "see `" + cmd.CommandPath() + " --help`"}
	})
	root.AddCommand(newScan(sys), newExplain(sys), newSnapshot(sys), newMerge(sys), newConfig(sys), newDemo(sys), newProbe(sys), newUndo(sys), newRecover(sys), newGitHub(sys), newProviders(sys), newVersion(sys))
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return fromEnvironment(cmd, sys.Getenv) }
	return root
}

// isTerminal says whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// terminalWidth returns the number of columns of w, or 0 if it is not a terminal.
func terminalWidth(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			return width
		}
	}
	return 0
}

// colored decides by the value of --color whether to colour what goes to w.
func colored(choice string, w io.Writer, getenv func(string) string) (bool, error) {
	switch choice {
	case "always":
		return true, nil
	case "never":
		return false, nil
	case "auto":
		return isTerminal(w) && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb", nil
	}
	return false, badChoice("color", choice, "auto", "never", "always")
}

func badChoice(flag, value string, choices ...string) error {
	last := len(choices) - 1
	return &providers.Hint{
		Err:  fmt.Errorf("--%s %q: want %s or %s", flag, value, strings.Join(choices[:last], ", "), choices[last]),
		Next: "see `cloudaudit scan --help`",
	}
}
