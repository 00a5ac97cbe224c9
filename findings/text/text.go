// Package text writes a report for people who read it on a terminal: what is open, by which rule, for what reason, and
// what was not read. No name from a cloud reaches the terminal but through package escape, and no colour is written unless
// it is asked for.
package text

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/findings/outline"
)

// Options say how text is shown.
type Options struct {
	Color bool
	// Width is the number of columns of the terminal; running text is wrapped to it. 0 does not wrap.
	Width int
	// Severity is the least level that is shown. The zero Level shows everything.
	Severity findings.Level
}

// How much evidence is shown: the JSON report has all of it.
const (
	mostRows   = 10 // of one finding
	mostScopes = 12 // accounts of one list
)

// Write writes r to w.
func Write(w io.Writer, r *findings.Report, opts Options) error {
	p := &printer{color: opts.Color, width: opts.Width, fixes: map[string]bool{}}
	o := outline.Of(r, opts.Severity)
	for _, g := range o.Groups {
		p.group(g)
	}
	p.aside("Gone since the baseline", "✔ ", green, o.Gone)
	p.aside("Ignored", "○ ", dim, o.Ignored)
	p.gaps(o)
	p.quiet(o)
	p.advice(o)
	p.repair(r.Repair)
	p.summary(o)
	_, err := w.Write(p.out.Bytes())
	return err
}

func (p *printer) group(g outline.Group) {
	name := strings.TrimSpace(g.Scope.Provider + "  " + g.Scope.Account + "  " + g.Scope.Region)
	counts := fmt.Sprintf("%s, %d blocked · %s", outline.Count(g.Scope.Endpoints, "public endpoint"), g.Scope.Blocked, outline.Count(g.Scope.Rules, "rule"))
	parts := []part{{name, bold}, {"   " + counts, dim}}
	if !g.Scope.Complete {
		parts = append(parts, part{"   incomplete", magenta})
	}
	p.line(0, parts...)
	p.rule()
	for i := range g.Findings {
		if i > 0 {
			p.blank()
		}
		p.finding(&g.Findings[i])
	}
	p.blank()
}

func (p *printer) finding(f *outline.Finding) {
	s := f.Subject
	head := []part{
		{levelMark(f.Level) + " " + string(f.Level), levelStyle(f.Level)},
		{"  " + strings.TrimSpace(f.RuleID+" "+f.Check.Name), levelStyle(f.Level)},
	}
	if f.Location != nil {
		head = append(head, part{fmt.Sprintf("  %s:%d", f.Location.File, f.Location.Line), cyan})
	}
	if mark := f.Mark(); mark != "" {
		head = append(head, part{"  " + mark, magenta})
	}
	p.line(0, head...)

	what := []part{{outline.Kind(s.Type) + " ", plain}, {s.ID, bold}}
	if s.Name != "" && s.Name != s.ID {
		what = append(what, part{" (" + s.Name + ")", plain})
	}
	if list := outline.List(s); list != "" {
		what = append(what, part{" of " + list, plain})
	}
	p.subject(what, s.Text)
	if len(f.Evidence) == 0 {
		p.paragraph(2, "", f.Message, plain)
	}
	left := mostRows
	hidden := 0
	for i := range f.Evidence {
		e := &f.Evidence[i]
		if left == 0 {
			hidden += len(e.Rows)
			continue
		}
		left -= p.evidence(e, left)
	}
	if hidden > 0 {
		p.line(4, part{"… " + andMore(hidden) + " for other reasons", dim})
	}
	p.companions(f)
	p.remedy(f)
}

// remedy writes what closes f, and the commands for it where they are not written yet. On a terminal a command that does
// not fit into two lines is cut: piped into a file it is whole, as it is in the other formats.
func (p *printer) remedy(f *outline.Finding) {
	text := f.Remedy()
	if text == "" || len(f.Fixes) == 0 && f.Level == findings.Note {
		return
	}
	p.paragraph(2, "⚒ ", text, plain)
	if len(f.Fixes) == 0 {
		return
	}
	key := f.Subject.Provider + " " + f.Subject.Scope + " " + f.Fixes[0].List
	if p.fixes[key] {
		p.line(4, part{"the commands are above, with the first finding that they close", dim})
		return
	}
	p.fixes[key] = true
	if loss := f.Fixes[0].Loss; loss != "" {
		p.line(4, part{p.cut("it also closes " + loss), magenta})
	}
	for _, c := range f.Fixes[0].Commands {
		p.line(4, part{p.cut("$ " + c), cyan})
	}
}

// cut returns text that fits into two lines of the terminal.
func (p *printer) cut(text string) string {
	if most := max(2*p.width-8, 40); p.width > 0 && width(text) > most {
		return string([]rune(text)[:min(most, utf8.RuneCountInString(text))]) + " …"
	}
	return text
}

// repair writes what a fix has done.
func (p *printer) repair(r *findings.Repair) {
	if r == nil {
		return
	}
	p.line(0, part{"Fix", bold})
	p.rule()
	for _, x := range r.Results {
		style := magenta
		if x.State == "fixed" {
			style = green
		}
		name := x.List.ID
		if x.List.Name != "" && x.List.Name != x.List.ID {
			name += " (" + x.List.Name + ")"
		}
		p.line(0, part{strings.ToUpper(x.State), style}, part{"  " + outline.Kind(x.List.Type) + " " + name, plain})
		for _, f := range x.Findings {
			p.line(2, part{f.RuleID + " " + f.Subject.ID, dim})
		}
		if x.Reason != "" {
			p.paragraph(2, "→ ", x.Reason, plain)
		}
	}
	p.paragraph(0, "", outline.Outcome(r)+".", bold)
	if r.Journal != "" {
		p.line(0, part{"undone by: cloudaudit undo " + r.Journal, dim})
	}
	p.blank()
}

// subject writes what a finding is about and what the rule says, on one line if there is room.
func (p *printer) subject(what []part, rule string) {
	used := 2
	for _, s := range what {
		used += width(escape.Terminal(s.text))
	}
	switch {
	case rule == "":
		p.line(2, what...)
	case p.width <= 0 || used+2+width(escape.Terminal(rule)) <= p.width:
		p.line(2, append(what, part{": " + rule, plain})...)
	default:
		p.line(2, what...)
		p.paragraph(2, "", rule, plain)
	}
}

// evidence writes at most n rows of e and returns how many it wrote.
func (p *printer) evidence(e *outline.Evidence, n int) int {
	rows := e.Rows[:min(n, len(e.Rows))]
	var t table
	for _, r := range rows {
		resource := outline.Resource(r.Resource)
		if r.Via != "" {
			resource += " via " + r.Via
		}
		t = append(t, []part{
			{r.Address, plain}, {strings.Join(r.Services, " "), plain}, {string(r.Verdict), verdictStyle(r.Verdict)}, {r.Amount, plain}, {resource, dim},
		})
	}
	p.table(4, t)
	if hidden := len(e.Rows) - len(rows); hidden > 0 {
		p.line(4, part{"… " + andMore(hidden), dim})
	}
	p.paragraph(4, "└ ", e.Reason, dim)
	if e.Hint != "" {
		p.paragraph(6, "→ ", e.Hint, magenta)
	}
	if len(e.Assumes) > 0 {
		p.paragraph(6, "", "Assumed, because it could not be read: "+strings.Join(e.Assumes, ", ")+".", dim)
	}
	return len(rows)
}

func (p *printer) companions(f *outline.Finding) {
	if text := f.Companions(); text != "" {
		p.paragraph(2, "⇄ ", text, plain)
	}
}

// aside writes findings that do not count, each in a few lines.
func (p *printer) aside(title, mark string, s style, list []outline.Finding) {
	if len(list) == 0 {
		return
	}
	p.line(0, part{title, bold})
	p.rule()
	for i := range list {
		f := &list[i]
		p.line(0, part{mark + strings.TrimSpace(f.RuleID+" "+f.Check.Name), s}, part{"  " + f.Scope.String(), dim})
		p.paragraph(2, "", f.Message, plain)
		if why := f.Why(); why != "" {
			p.paragraph(2, "→ ", why, plain)
		}
	}
	p.blank()
}

// gaps writes what could not be read.
func (p *printer) gaps(o *outline.Outline) {
	if len(o.Gaps) == 0 && len(o.Skipped) == 0 {
		return
	}
	p.line(0, part{"Could not be read", bold})
	p.rule()
	for _, g := range o.Gaps {
		p.line(0, part{"! " + g.Subject, magenta})
		p.paragraph(2, "", g.Cause, plain)
		p.accounts(2, "in ", g.Scopes)
		if g.Hint != "" {
			p.paragraph(2, "→ ", g.Hint, bold)
		}
	}
	if len(o.Skipped) > 0 {
		p.line(0, part{"! the run ended before these were read", magenta})
		p.accounts(2, "", o.Skipped)
	}
	p.blank()
}

func (p *printer) accounts(indent int, mark string, accounts []outline.Account) {
	for i, a := range accounts {
		if i == mostScopes {
			p.line(indent, part{"… " + andMore(len(accounts)-i), dim})
			return
		}
		p.paragraph(indent, mark, a.String(), dim)
	}
}

func (p *printer) quiet(o *outline.Outline) {
	if len(o.Quiet) == 0 {
		return
	}
	p.line(0, part{"Read, and nothing found", bold})
	p.rule()
	p.accounts(0, "✔ ", o.Quiet)
	p.blank()
}

// advice writes how to fix what was found, once for each check.
func (p *printer) advice(o *outline.Outline) {
	if len(o.Checks) == 0 {
		return
	}
	p.line(0, part{"What to do", bold})
	p.rule()
	for _, c := range o.Checks {
		if c.Fix != "" {
			p.line(0, part{c.ID + " " + c.Name, levelStyle(c.Level)})
			p.paragraph(2, "", c.Short, dim)
			p.paragraph(2, "→ ", c.Fix, plain)
		}
	}
	p.blank()
}

func (p *printer) summary(o *outline.Outline) {
	p.rule()
	var head []part
	for _, l := range []findings.Level{findings.Error, findings.Warning, findings.Note} {
		if n := o.Levels[l]; n > 0 {
			head = append(head, part{levelMark(l) + " " + outline.Count(n, string(l)) + "   ", levelStyle(l)})
		}
	}
	switch {
	case len(head) == 0 && o.Hidden == 0 && len(o.Ignored) == 0 && o.Complete && o.Endpoints > 0:
		head = append(head, part{"✔ nothing found: no packet from the internet gets to memcached's port", green})
	case len(head) == 0:
		head = append(head, part{"no findings", bold})
	}
	if o.Hidden > 0 {
		head = append(head, part{fmt.Sprintf("(%d below the severity that was asked for)", o.Hidden), dim})
	}
	p.line(0, head...)
	if text := o.Since(); text != "" {
		p.line(0, part{text, plain})
	}
	p.line(0, part{o.Judged(), plain})
	if text := o.Incomplete(); text != "" {
		p.line(0, part{"INCOMPLETE ", magenta}, part{text, bold})
	}
}
