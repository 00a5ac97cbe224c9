package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/cloudaudit/cloudaudit/internal/journal"
	"github.com/cloudaudit/cloudaudit/remedy"
)

// interactive says whether there is someone to ask: what is asked goes to standard error, the answer comes from standard
// input.
func (sys System) interactive() bool {
	in, ok := sys.Stdin.(io.Writer) // a file is both
	return ok && isTerminal(in) && isTerminal(sys.Stderr)
}

// asked asks a question and says whether the answer is want. It does not wait longer than ctx.
func (sys System) asked(ctx context.Context, question, want string) bool {
	fmt.Fprint(sys.Stderr, question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(sys.Stdin).ReadString('\n') // without an answer it is empty, and not what is wanted
		answer <- strings.TrimSpace(line)
	}()
	select {
	case got := <-answer:
		return got == want
	case <-ctx.Done():
		fmt.Fprintln(sys.Stderr)
		return false
	}
}

// confirmation is the file by which `cloudaudit recover --keep` tells a waiting process that its changes are to stay.
func confirmation(path string) string { return path + ".keep" }

// awaitConfirmation waits until the run is confirmed, or its time is up and it is undone.
func (m *mender) awaitConfirmation(ctx context.Context, runner *remedy.Runner, path string) (bool, error) {
	if err := runner.Deadline(); err != nil {
		return false, err
	}
	within := m.flags.mend.confirmWithin
	fmt.Fprintf(m.sys.Stderr, "everything is undone in %s unless `cloudaudit recover --keep %s` confirms it", within, shown(path))
	kept := make(chan bool, 1)
	waiting, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if m.sys.interactive() {
		go func() {
			kept <- m.sys.asked(waiting, ", or you type keep here: ", "keep")
		}()
	} else {
		fmt.Fprintln(m.sys.Stderr)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		confirmed := false
		select {
		case confirmed = <-kept:
		case <-tick.C:
			_, err := os.Stat(confirmation(path))
			confirmed = err == nil
		case <-waiting.Done():
			if ctx.Err() != nil {
				return false, fmt.Errorf("interrupted while it waited to be confirmed: `cloudaudit recover --keep %s` keeps it, `cloudaudit undo %s` takes it back", path, path)
			}
			_, err := os.Stat(confirmation(path))
			confirmed = err == nil
			if !confirmed {
				h, err := readHistory(path)
				if err != nil {
					return false, err
				}
				fmt.Fprintln(m.sys.Stderr, "not confirmed in time: undoing")
				return false, runner.Undo(ctx, h, false)
			}
		}
		if confirmed {
			fmt.Fprintln(m.sys.Stderr, "confirmed")
			_ = os.Remove(confirmation(path)) // the journal says it now, and a file that stays does no harm
			return true, runner.Confirm()
		}
	}
}

// readHistory reads what the journal at path tells.
func readHistory(path string) (*remedy.History, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	records, err := journal.Read(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return remedy.ReadHistory(records)
}
