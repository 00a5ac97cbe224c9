package annotations

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/findingstest"
)

func TestNoMoreThanGitHubShows(t *testing.T) {
	for _, complete := range []bool{true, false} {
		r := &findings.Report{Complete: complete}
		for _, level := range []findings.Level{findings.Error, findings.Warning, findings.Note} {
			for n := range 13 {
				r.Findings = append(r.Findings, findings.Finding{RuleID: "CA102", Level: level, Message: fmt.Sprint("finding ", n)})
			}
			r.Findings = append(r.Findings,
				findings.Finding{RuleID: "CA102", Level: level, Message: "gone", State: findings.Absent},
				findings.Finding{RuleID: "CA102", Level: level, Message: "ignored", Suppressed: &findings.Suppression{}})
		}
		var b strings.Builder
		if err := Write(&b, r); err != nil {
			t.Fatal(err)
		}
		for _, command := range []string{"error", "warning", "notice"} {
			if n := strings.Count(b.String(), "::"+command+" "); n != Most {
				t.Errorf("%d of %s, want %d", n, command, Most)
			}
		}
		more := "3 warnings more in"
		if !complete {
			more = "4 warnings more in"
		}
		if !strings.Contains(b.String(), more) || strings.Contains(b.String(), "gone") || strings.Contains(b.String(), "ignored") {
			t.Errorf("complete %v:\n%s", complete, b.String())
		}
		if got := strings.Contains(b.String(), "title=Incomplete::"); got == complete {
			t.Errorf("complete %v, and it says so: %v", complete, got)
		}
	}
}

func TestHostileNames(t *testing.T) {
	var b strings.Builder
	if err := Write(&b, findingstest.Renamed("a,b:c%0A\n::set-output name=x::y\r##[group]")); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		properties, text, ok := strings.Cut(strings.TrimSuffix(line, "\n")[2:], "::")
		if !strings.HasPrefix(line, "::") || !ok || strings.Contains(line, "##[") || strings.Contains(line, "%0A") {
			t.Errorf("a line is %q", line)
		}
		for p := range strings.SplitSeq(properties[strings.Index(properties, " ")+1:], ",") {
			if name, _, _ := strings.Cut(p, "="); name != "title" && name != "file" && name != "line" || strings.Contains(p, ":") {
				t.Errorf("a property is %q, of %q", p, text)
			}
		}
	}
	if strings.Count(b.String(), "\n") < 2 {
		t.Errorf("%q", b.String())
	}
}
