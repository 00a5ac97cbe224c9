// Package markdown writes a report as a job summary in GitHub Flavored Markdown. It stays below the size that GitHub takes
// from one step, whatever the report holds, and says how much it left out; names from a cloud stand in it as text only.
package markdown

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/findings/outline"
)

// Limit is the greatest number of bytes that Write writes. GitHub refuses a summary of more than 1 MiB a step
// (https://docs.github.com/actions/reference/workflow-commands-for-github-actions#step-isolation-and-limits); the rest is
// for what else the step has to say.
const Limit = 960 << 10

const (
	mostFindings = 500 // rows of the table of findings
	mostGaps     = 100
	mostRows     = 50  // evidence of one finding
	mostScopes   = 20  // accounts of one list
	longest      = 300 // characters of one name or sentence
	tail         = 4 << 10
)

// Write writes r to w.
func Write(w io.Writer, r *findings.Report) error {
	o := outline.Of(r, "")
	p := &page{}
	p.headline(o)
	p.repair(r.Repair)
	p.table(o)
	p.list("Gone since the baseline", o.Gone)
	p.list("Ignored", o.Ignored)
	p.gaps(o)
	p.details(o)
	p.quiet(o)
	p.advice(o)
	p.end()
	_, err := io.WriteString(w, p.text.String())
	return err
}

// page is a document that does not grow over Limit.
type page struct {
	text strings.Builder
	full bool // something did not fit
}

// add writes s if there is room for it and, always, for the end.
func (p *page) add(s string) bool {
	if p.text.Len()+len(s) > Limit-tail {
		p.full = true
		return false
	}
	p.text.WriteString(s)
	return true
}

func (p *page) end() {
	if p.full {
		p.text.WriteString("\n> [!NOTE]\n> The report is larger than a summary may be: what did not fit is left out here, and is in the JSON and SARIF reports.\n")
	}
}

func (p *page) headline(o *outline.Outline) {
	p.add("## cloudaudit: " + o.Headline() + "\n\n")
	text := o.Judged() + "."
	if o.Ports != "" {
		text = "Can the internet reach memcached, port " + o.Ports + "? " + text
	}
	p.add(text + "\n\n")
	if since := o.Since(); since != "" {
		p.add(since + ".\n\n")
	}
	if incomplete := o.Incomplete(); incomplete != "" {
		p.add("> [!WARNING]\n> **Incomplete.** " + incomplete + "\n\n")
	} else if len(o.Groups) == 0 && len(o.Ignored) == 0 && o.Endpoints > 0 {
		p.add("> [!TIP]\n> Nothing found: no packet from the internet gets to memcached's port.\n\n")
	}
}

func (p *page) table(o *outline.Outline) {
	if len(o.Groups) == 0 {
		return
	}
	p.add("| | Check | Rule | Where | Why |\n| --- | --- | --- | --- | --- |\n")
	rows, left := 0, 0
	for _, l := range []findings.Level{findings.Error, findings.Warning, findings.Note} {
		for _, g := range o.Groups {
			for i := range g.Findings {
				f := &g.Findings[i]
				if f.Level != l {
					continue
				}
				row := "| " + level(l) + " | " + check(f) + " | " + rule(f.Subject) + " | " + where(g.Scope.Scope) + " | " + sentence(f.Message) + " |\n"
				// The table may take half of the room, so that there is some for the details.
				if rows == mostFindings || p.text.Len()+len(row) > Limit/2 {
					left++
					continue
				}
				rows++
				p.add(row)
			}
		}
	}
	p.more(left, "finding")
}

// more says how many rows were left out of a table.
func (p *page) more(n int, noun string) {
	if n > 0 {
		p.add(fmt.Sprintf("\n… and %s that the JSON and SARIF reports have.\n", outline.Count(n, "more "+noun)))
	}
	p.add("\n")
}

// list writes findings that do not count.
func (p *page) list(title string, list []outline.Finding) {
	if len(list) == 0 {
		return
	}
	p.add("### " + title + "\n\n| Check | Rule | Where | What | Why |\n| --- | --- | --- | --- | --- |\n")
	left := 0
	for i := range list {
		f := &list[i]
		if i >= mostFindings || !p.add("| "+check(f)+" | "+rule(f.Subject)+" | "+where(f.Scope)+" | "+sentence(f.Message)+" | "+sentence(f.Why())+" |\n") {
			left++
		}
	}
	p.more(left, "finding")
}

func (p *page) gaps(o *outline.Outline) {
	if len(o.Gaps) == 0 && len(o.Skipped) == 0 {
		return
	}
	p.add("### Could not be read\n\n| What | Where | Cause | What to do |\n| --- | --- | --- | --- |\n")
	left := 0
	for i, g := range o.Gaps {
		if i >= mostGaps || !p.add("| "+code(g.Subject)+" | "+accounts(g.Scopes)+" | "+sentence(g.Cause)+" | "+sentence(g.Hint)+" |\n") {
			left++
		}
	}
	if len(o.Skipped) > 0 {
		p.add("| | " + accounts(o.Skipped) + " | The run ended before these were read. | Run it again. |\n")
	}
	p.more(left, "gap")
}

func (p *page) details(o *outline.Outline) {
	if len(o.Groups) == 0 {
		return
	}
	p.add("### Details\n\n")
	left := 0
	for _, g := range o.Groups {
		for i := range g.Findings {
			if left > 0 || !p.add(detail(g.Scope.Scope, &g.Findings[i])) {
				left++
			}
		}
	}
	p.more(left, "finding")
}

// detail is one finding with its evidence, folded.
func detail(s cloud.Scope, f *outline.Finding) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<details><summary>%s %s: %s in %s</summary>\n\n", icon(f.Level), check(f), rule(f.Subject), where(s))
	b.WriteString(sentence(f.Message) + "\n\n")
	if f.Subject.Text != "" {
		b.WriteString("Rule: " + code(f.Subject.Text) + "\n\n")
	}
	if f.Location != nil {
		b.WriteString("Source: " + code(fmt.Sprintf("%s:%d", f.Location.File, f.Location.Line)) + "\n\n")
	}
	if len(f.Evidence) > 0 {
		evidence(&b, f)
	}
	if text := f.Companions(); text != "" {
		b.WriteString(sentence(text) + "\n\n")
	}
	if len(f.Path) > 0 {
		b.WriteString("How a packet gets there:\n\n")
		for _, step := range f.Path {
			b.WriteString("1. " + code(step.Stage) + " " + sentence(step.Text) + "\n")
		}
		b.WriteString("\n")
	}
	remedy(&b, f)
	b.WriteString("</details>\n\n")
	return b.String()
}

// remedy says what closes f, with the commands for it.
func remedy(b *strings.Builder, f *outline.Finding) {
	if len(f.Fixes) == 0 {
		if text := f.Remedy(); text != "" {
			b.WriteString("**Fix:** " + sentence(text) + ".\n\n")
		}
		return
	}
	for i := range f.Fixes {
		x := &f.Fixes[i]
		title := "Fix"
		if i > 0 {
			title = "Or"
		}
		b.WriteString("**" + title + ":** " + sentence(outline.Remedy(x)) + ".\n\n")
		for _, c := range x.Commands {
			b.WriteString("<pre>" + escape.Markdown(c) + "</pre>\n\n")
		}
		for _, text := range x.Proof {
			b.WriteString("- " + sentence(text) + "\n")
		}
		b.WriteString("\n")
	}
}

// repair says what a fix has done.
func (p *page) repair(r *findings.Repair) {
	if r == nil {
		return
	}
	p.add("### Fix\n\n" + sentence(outline.Outcome(r)) + ".\n\n")
	if len(r.Results) == 0 {
		return
	}
	p.add("| | List | Findings | |\n| --- | --- | --- | --- |\n")
	left := 0
	for i, x := range r.Results {
		var closed []string
		for _, f := range x.Findings {
			closed = append(closed, sentence(f.RuleID)+" "+code(f.Subject.ID))
		}
		mark := "🟠"
		if x.State == "fixed" {
			mark = "🟢"
		}
		if i >= mostFindings || !p.add("| "+mark+" "+sentence(x.State)+" | "+rule(x.List)+" | "+strings.Join(closed[:min(len(closed), mostRows)], "<br>")+" | "+sentence(x.Reason)+" |\n") {
			left++
		}
	}
	p.more(left, "list")
	if r.Journal != "" {
		p.add("Undone by " + code("cloudaudit undo "+r.Journal) + "\n\n")
	}
}

func evidence(b *strings.Builder, f *outline.Finding) {
	b.WriteString("| Address | Service | Verdict | Internet | Resource | Reason |\n| --- | --- | --- | --- | --- | --- |\n")
	rows := 0
	for _, e := range f.Evidence {
		reason := e.Reason
		if e.Hint != "" {
			reason += " → " + e.Hint
		}
		if len(e.Assumes) > 0 {
			reason += " Assumed, because it could not be read: " + strings.Join(e.Assumes, ", ") + "."
		}
		for _, r := range e.Rows {
			if rows++; rows > mostRows {
				continue
			}
			resource := code(outline.Resource(r.Resource))
			if r.Via != "" {
				resource += " via " + code(r.Via)
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", code(r.Address), code(strings.Join(r.Services, " ")), verdict(r.Verdict), sentence(r.Amount), resource, sentence(reason))
		}
	}
	if rows > mostRows {
		fmt.Fprintf(b, "\n… and %d more\n", rows-mostRows)
	}
	b.WriteString("\n")
}

func (p *page) quiet(o *outline.Outline) {
	if len(o.Quiet) > 0 {
		p.add("### Read, and nothing found\n\n" + accounts(o.Quiet) + "\n\n")
	}
}

// advice says once for each check why it matters and what to do.
func (p *page) advice(o *outline.Outline) {
	written := false
	for _, c := range o.Checks {
		if c.Fix == "" {
			continue
		}
		if !written {
			p.add("### What to do\n\n")
			written = true
		}
		p.add(fmt.Sprintf("- %s **%s %s**: %s\n  %s ([source](%s))\n", icon(c.Level), c.ID, c.Name, c.Short, c.Fix, c.Source))
	}
}

func icon(l findings.Level) string {
	switch l {
	case findings.Error:
		return "🔴"
	case findings.Warning:
		return "🟠"
	}
	return "🔵"
}

func level(l findings.Level) string { return icon(l) + " " + sentence(string(l)) }

func verdict(x cloud.Exposure) string { return sentence(string(x)) }

func check(f *outline.Finding) string {
	text := "<b>" + sentence(f.RuleID) + "</b> " + sentence(f.Check.Name)
	if mark := f.Mark(); mark != "" {
		text += " (" + sentence(mark) + ")"
	}
	return text
}

// rule names the subject of a finding, on one line.
func rule(s findings.Subject) string {
	text := code(s.ID)
	if s.Name != "" && s.Name != s.ID {
		text += " (" + sentence(s.Name) + ")"
	}
	if list := outline.List(s); list != "" {
		text += " of " + sentence(list)
	}
	return text
}

func where(s cloud.Scope) string {
	return sentence(strings.TrimSpace(s.Provider + " " + s.Account + " " + s.Region))
}

func accounts(list []outline.Account) string {
	var b strings.Builder
	for i, a := range list {
		if i > 0 {
			b.WriteString("; ")
		}
		if i == mostScopes {
			fmt.Fprintf(&b, "and %d more", len(list)-i)
			break
		}
		b.WriteString(sentence(a.String()))
	}
	return b.String()
}

// sentence and code make text from a cloud safe and no longer than it has to be.
func sentence(s string) string { return escape.Markdown(cut(s)) }

func code(s string) string { return escape.Code(cut(s)) }

func cut(s string) string {
	if utf8.RuneCountInString(s) <= longest {
		return s
	}
	return string([]rune(s)[:longest]) + "…"
}
