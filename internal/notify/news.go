// Package notify tells people and watchdogs of a run. A message has what its reader has not been told before, and no error
// of this package names the address that it was to be sent to: the address is the key to it.
package notify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/findings/outline"
)

// What a reader may be told of, as the configuration names it.
const (
	New        = "new"
	Cleared    = "cleared"
	Incomplete = "incomplete"
)

// Known is what a reader knows. Its JSON form is kept from one run to the next.
type Known struct {
	Open   map[string]string `json:"open"`   // lines on findings that are there, by fingerprint
	Unread map[string]string `json:"unread"` // causes why scopes could not be read, by scope
}

// News is what a reader does not know yet, each a line.
type News struct {
	New, Cleared     []string
	Unread, ReadBack []string // scopes that cannot be read any more, and those that can again
	counts           map[findings.Level]int
}

// Of returns what r says to somebody who knows nothing yet: findings of a level and above that are there and not ignored.
func Of(r *findings.Report, atLeast findings.Level) Known {
	k := Known{Open: map[string]string{}, Unread: map[string]string{}}
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Open() && f.Level.AtLeast(atLeast) {
			k.Open[f.Fingerprint] = line(r, f)
		}
	}
	for _, s := range r.Scopes {
		if s.Complete {
			continue
		}
		cause := "it is not known why"
		if len(s.Gaps) > 0 {
			cause = s.Gaps[0].Subject + ": " + s.Gaps[0].Cause
		}
		k.Unread[s.Scope.String()] = plain(cause)
	}
	return k
}

// Since returns what r says that is new to somebody who knows k, and what they know then. A finding is cleared if it is in
// r no more; r has to have those too that stay as they were because nobody could look. A finding that is ignored from now
// on is neither.
func (k Known) Since(r *findings.Report, atLeast findings.Level) (News, Known) {
	now := Of(r, atLeast)
	news := News{counts: map[findings.Level]int{}}
	there := map[string]bool{}
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.State == findings.Absent {
			continue
		}
		there[f.Fingerprint] = true
		text, open := now.Open[f.Fingerprint]
		if !open {
			continue
		}
		news.counts[f.Level]++
		if was, told := k.Open[f.Fingerprint]; !told {
			news.New = append(news.New, text)
		} else if f.Carried {
			now.Open[f.Fingerprint] = was // it has the evidence
		}
	}
	for fingerprint, text := range k.Open {
		if !there[fingerprint] {
			news.Cleared = append(news.Cleared, text)
		}
	}
	slices.Sort(news.Cleared)
	for _, scope := range sorted(now.Unread) {
		if _, told := k.Unread[scope]; !told {
			news.Unread = append(news.Unread, plain(scope)+": "+now.Unread[scope])
		}
	}
	complete := map[string]bool{}
	for _, s := range r.Scopes {
		complete[s.Scope.String()] = s.Complete
	}
	for _, scope := range sorted(k.Unread) {
		if complete[scope] {
			news.ReadBack = append(news.ReadBack, plain(scope))
		} else if _, again := now.Unread[scope]; !again {
			now.Unread[scope] = k.Unread[scope] // nobody has tried
		}
	}
	return news, now
}

func sorted(m map[string]string) []string {
	var out []string
	for key := range m {
		out = append(out, key)
	}
	slices.Sort(out)
	return out
}

// Only leaves out what is not in on.
func (n News) Only(on []string) News {
	if !slices.Contains(on, New) {
		n.New = nil
	}
	if !slices.Contains(on, Cleared) {
		n.Cleared = nil
	}
	if !slices.Contains(on, Incomplete) {
		n.Unread, n.ReadBack = nil, nil
	}
	return n
}

// IsEmpty says whether there is nothing to tell.
func (n News) IsEmpty() bool { return len(n.New)+len(n.Cleared)+len(n.Unread)+len(n.ReadBack) == 0 }

// The bounds of a message, in characters: services that are meant for short texts take it as it is.
const (
	maxLines   = 10
	maxLine    = 200
	maxMessage = 1000
)

// Message returns n in words: counts first, then as many of the lines as there is room for.
func (n News) Message() string {
	text := ""
	for lines := maxLines; lines >= 0; lines-- {
		if text = n.message(lines); utf8.RuneCountInString(text) <= maxMessage {
			break
		}
	}
	return text
}

func (n News) message(lines int) string {
	var b strings.Builder
	var parts []string
	sections := []struct {
		head  string
		lines []string
		one   string
	}{
		{"New", n.New, "new"},
		{"Cleared", n.Cleared, "cleared"},
		{"Could not be read, and stays as it was", n.Unread, "not read"},
		{"Read again", n.ReadBack, "read again"},
	}
	for _, s := range sections {
		if len(s.lines) > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", len(s.lines), s.one))
		}
	}
	fmt.Fprintf(&b, "memcached exposure: %s. Open now: %s.\n", strings.Join(parts, ", "), n.open())
	for _, s := range sections {
		if len(s.lines) == 0 || lines == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s:\n", s.head)
		for _, l := range s.lines[:min(lines, len(s.lines))] {
			fmt.Fprintf(&b, "- %s\n", cut(l))
		}
		if more := len(s.lines) - lines; more > 0 {
			fmt.Fprintf(&b, "- and %d more\n", more)
		}
	}
	return b.String()
}

// open counts all that is open.
func (n News) open() string {
	var parts []string
	for _, l := range []findings.Level{findings.Error, findings.Warning, findings.Note} {
		if c := n.counts[l]; c > 0 {
			parts = append(parts, outline.Count(c, string(l)))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "nothing")
}

// line says a finding in one line, with the first of the addresses that it is about.
func line(r *findings.Report, f *findings.Finding) string {
	s := f.Subject
	what := plain(string(f.Level)+" "+f.RuleID) + ": " + plain(s.ID)
	switch list := outline.List(s); {
	case list != "":
		what += " of " + plain(list)
	case s.Name != "" && s.Name != s.ID:
		what += " (" + plain(s.Name) + ")"
	}
	what += ", " + plain(s.Provider+" "+s.Scope)
	var addresses []string
	for _, at := range f.Exposures {
		if a := r.Exposures[at].Address; !slices.Contains(addresses, a) {
			addresses = append(addresses, a)
		}
	}
	if len(addresses) > 0 {
		x := &r.Exposures[f.Exposures[0]]
		what += fmt.Sprintf(": %s %s", plain(x.Address), outline.Service(x))
	}
	if more := len(addresses) - 1; more > 0 {
		what += fmt.Sprintf(" and %s more", outline.Count(more, "address"))
	}
	return cut(what)
}

// plain makes text from a cloud safe in what chat services take for a message: it shows as itself, it names nobody, and it
// is no link.
func plain(s string) string {
	return strings.NewReplacer(
		"<", "‹", ">", "›", "@", "＠", "`", "'", "*", "∗", "~", "∼", "|", "¦", "](", "] (", "://", ":/ /", "&", "＆",
	).Replace(escape.Line(escape.Visible(s)))
}

func cut(s string) string {
	if utf8.RuneCountInString(s) <= maxLine {
		return s
	}
	return string([]rune(s)[:maxLine-1]) + "…"
}
