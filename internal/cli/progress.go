package cli

import (
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/schollz/progressbar/v3"

	"github.com/cloudaudit/cloudaudit/findings/escape"
)

// progress shows on a terminal how many scopes are done of all, and which are being read. The zero progress shows nothing.
type progress struct {
	mu      sync.Mutex
	bar     *progressbar.ProgressBar
	total   int
	reading []string
}

// newProgress returns the progress that --progress asks for.
func newProgress(choice string, sys System) (*progress, error) {
	switch choice {
	case "never":
		return &progress{}, nil
	case "auto":
		if !isTerminal(sys.Stderr) || sys.Getenv("TERM") == "dumb" {
			return &progress{}, nil
		}
		return showProgress(sys.Stderr), nil
	}
	return nil, badChoice("progress", choice, "auto", "never")
}

func showProgress(w io.Writer) *progress {
	return &progress{bar: progressbar.NewOptions(1,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription("listing scopes"),
		progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(20),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionSetPredictTime(false),
	)}
}

// expect adds n scopes to what is still to do.
func (p *progress) expect(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil {
		return
	}
	p.total += n
	p.bar.ChangeMax(max(1, p.total))
}

// begin says that scope is being read.
func (p *progress) begin(scope string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reading = append(p.reading, scope)
	p.describe()
}

// done says that scope has been read.
func (p *progress) done(scope string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reading = slices.DeleteFunc(p.reading, func(s string) bool { return s == scope })
	p.describe()
	if p.bar != nil {
		_ = p.bar.Add(1) // an error only says that the terminal is gone
	}
}

func (p *progress) describe() {
	if p.bar == nil {
		return
	}
	text := "reading " + strings.Join(p.reading[:min(2, len(p.reading))], ", ")
	if len(p.reading) > 2 {
		text += ", …"
	}
	p.bar.Describe(escape.Terminal(text))
}

// count returns a function that shows how much of something else is done.
func (p *progress) count(what string) func(done, total int) {
	if p.bar == nil {
		return nil
	}
	return func(done, total int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.bar.Describe(what)
		p.bar.ChangeMax(max(1, total))
		_ = p.bar.Set(done) // an error only says that the terminal is gone
	}
}

// end takes the progress off the terminal.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
