// Package annotations writes a report as the annotations that GitHub shows beside the code and the run: the most severe
// findings, as workflow commands. It writes no more of them than GitHub shows of one step, says how many it leaves out, and
// nothing that a cloud says is a command of its own.
package annotations

import (
	"fmt"
	"io"
	"strings"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/findings/outline"
)

// Most is how many annotations of a level GitHub shows of one step
// (https://docs.github.com/actions/reference/limits#workflow-runs).
const Most = 10

// Write writes r to w. Findings that are ignored or gone are left out.
func Write(w io.Writer, r *findings.Report) error {
	var b strings.Builder
	for _, l := range []struct {
		level   findings.Level
		command string
	}{{findings.Error, "error"}, {findings.Warning, "warning"}, {findings.Note, "notice"}} {
		most, n := Most, 0
		if l.level == findings.Warning && !r.Complete {
			most--
			b.WriteString("::warning title=Incomplete::Not everything that was asked for could be read. What was not read is not clean.\n")
		}
		for i := range r.Findings {
			f := &r.Findings[i]
			if f.Level != l.level || !f.Open() {
				continue
			}
			if n++; n > most {
				continue
			}
			check, _ := findings.CheckOf(f.RuleID)
			properties := "title=" + property(strings.TrimSpace(f.RuleID+" "+check.Name))
			if f.Location != nil {
				properties = fmt.Sprintf("file=%s,line=%d,", property(f.Location.File), f.Location.Line) + properties
			}
			fmt.Fprintf(&b, "::%s %s::%s\n", l.command, properties, data(f.Message))
		}
		if n > most {
			fmt.Fprintf(&b, "%s more in the summary and the report\n", outline.Count(n-most, string(l.level)))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// data and property write text as the runner reads it in a command and in a property of one
// (https://docs.github.com/actions/reference/workflow-commands-for-github-actions; actions/toolkit, command.ts).
func data(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(escape.Line(escape.Visible(s)))
}

func property(s string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(data(s))
}
