package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/findings/outline"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/remedy"
)

// mostServed is how many endpoints of a list the plan names.
const mostServed = 8

// shown returns text as a terminal may have it.
func shown(text string) string { return escape.Terminal(text) }

// readPlan reads what savePlan wrote.
func readPlan(path string) (*remedy.Plan, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &providers.Hint{Err: fmt.Errorf("--plan: %w", err), Next: "make one with `cloudaudit scan --fix --dry-run --plan " + path + "`"}
	}
	var p remedy.Plan
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, &providers.Hint{Err: fmt.Errorf("--plan %s: %w", path, err), Next: "a plan is what `cloudaudit scan --fix --dry-run --plan FILE` writes"}
	}
	if err := p.Validate(); err != nil {
		return nil, &providers.Hint{Err: fmt.Errorf("--plan %s: %w", path, err), Next: "make it again: a plan is carried out as it was made, or not at all"}
	}
	return &p, nil
}

// savePlan writes p to the file that --plan names.
func (m *mender) savePlan(p *remedy.Plan) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(p); err != nil {
		return fmt.Errorf("--plan: %w", err)
	}
	if err := put(m.sys, m.flags.mend.plan, escape.JSON(b.Bytes())); err != nil {
		return &exit{ExitUsage, fmt.Errorf("--plan: %w", err)}
	}
	return nil
}

// show writes on standard error what p does and why that is right.
func (m *mender) show(p *remedy.Plan, report *findings.Report) error {
	called := map[string]string{}
	for i := range report.Findings {
		f := &report.Findings[i]
		called[f.Fingerprint] = f.RuleID + " " + f.Subject.ID
	}
	name := func(fingerprint string) string {
		if text, ok := called[fingerprint]; ok {
			return text
		}
		return fingerprint
	}
	var b strings.Builder
	if len(p.Hunks) == 0 {
		b.WriteString("Plan: nothing is to be changed.\n")
	} else {
		fmt.Fprintf(&b, "Plan %s: %s in %s. Private sources that are kept: %s.\n",
			p.ID, outline.Count(p.Changes(), "change"), outline.Count(len(p.Hunks), "list"), p.Kept)
	}
	for n := range p.Hunks {
		h := &p.Hunks[n]
		title := h.Scope.String() + "  " + h.List.Ref.Kind + " " + h.List.Ref.ID
		if h.List.Name != "" && h.List.Name != h.List.Ref.ID {
			title += " (" + h.List.Name + ")"
		}
		fmt.Fprintf(&b, "\n%d. %s\n", n+1, title)
		for _, f := range h.Findings {
			fmt.Fprintf(&b, "   closes   %s\n", name(f))
		}
		for i, s := range h.Serves {
			if i == mostServed {
				fmt.Fprintf(&b, "            … and %d more\n", len(h.Serves)-i)
				break
			}
			label := "in front of"
			if i > 0 {
				label = ""
			}
			fmt.Fprintf(&b, "   %-11s %s\n", label, strings.TrimSpace(s.Address+" "+s.Name))
		}
		w := &h.Ways[0]
		fmt.Fprintf(&b, "   by       %s, %s\n", w.Name, outline.Count(len(w.Edits), "change"))
		for _, other := range h.Ways[1:] {
			fmt.Fprintf(&b, "   or else  %s, %s, if the cloud does not keep that\n", other.Name, outline.Count(len(other.Edits), "change"))
		}
		commands, err := h.Commands(m.rewriters[h.Scope.Provider], 0)
		if err != nil {
			return err
		}
		for _, c := range commands {
			fmt.Fprintf(&b, "   $ %s\n", c)
		}
		for _, text := range w.Proof.Words {
			fmt.Fprintf(&b, "   - %s\n", text)
		}
	}
	if len(p.Refused) > 0 {
		b.WriteString("\nLeft alone:\n")
	}
	for _, r := range p.Refused {
		fmt.Fprintf(&b, "   %s: %s\n", name(r.Finding), r.Reason)
		if r.Instead != "" {
			fmt.Fprintf(&b, "      → %s\n", r.Instead)
		}
	}
	b.WriteString("\n")
	most := 2 * terminalWidth(m.sys.Stderr) // a command may be long: on a terminal two lines of it are enough to review
	for line := range strings.Lines(b.String()) {
		line = shown(strings.TrimSuffix(line, "\n"))
		if letters := []rune(line); most > 2 && len(letters) > most {
			line = string(letters[:most-2]) + " …"
		}
		fmt.Fprintln(m.sys.Stderr, line)
	}
	return nil
}
