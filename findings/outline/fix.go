package outline

import (
	"strings"

	"github.com/cloudaudit/cloudaudit/findings"
)

// Remedy says what closes f, or why cloudaudit does not, in a sentence without a full stop; nothing if that is not known.
func (f *Finding) Remedy() string {
	if len(f.Fixes) == 0 {
		if f.NoFix == nil {
			return ""
		}
		text := "not by cloudaudit: " + f.NoFix.Reason
		if f.NoFix.Instead != "" {
			text += "; " + f.NoFix.Instead
		}
		return text
	}
	return Remedy(&f.Fixes[0])
}

// Remedy says what x does, without a full stop.
func Remedy(x *findings.Fix) string {
	text := x.Name + ", " + Count(x.Changes, "change") + " of " + x.List + ": closes this"
	if n := len(x.Closes) - 1; n > 0 {
		text += " and " + Count(n, "other finding")
	}
	if x.Loss == "" {
		text += ", and nothing else"
	} else {
		text += ", and more than was asked"
	}
	text += "; --fix does it"
	if x.Flag != "" {
		text += " with " + strings.ReplaceAll(x.Flag, " ", " and ")
	}
	return text
}

// Outcome says what a fix has done, such as "3 findings closed and verified; 1 list partial".
func Outcome(r *findings.Repair) string {
	if r.Error != "" && len(r.Results) == 0 {
		return r.Error
	}
	counts := map[string]int{}
	for _, x := range r.Results {
		counts[x.State]++
	}
	parts := []string{Count(r.Fixed(), "finding") + " closed and verified"}
	for _, state := range []string{"partial", "drifted", "skipped", "failed"} {
		if n := counts[state]; n > 0 {
			parts = append(parts, Count(n, "list")+" "+state)
		}
	}
	if r.Error != "" {
		parts = append(parts, r.Error)
	}
	return strings.Join(parts, "; ")
}
