package sarif

import (
	"strings"
	"unicode/utf8"

	"github.com/cloudaudit/cloudaudit/findings/escape"
)

// What is written of a text from a cloud, in code points before anything is escaped, so that no escape is cut in two.
const (
	maxMessage = 2000
	maxName    = 500
	maxTitle   = 100
)

// bounded returns at most n code points of s, with an ellipsis for what is missing.
func bounded(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for i := range s {
		if n == 0 {
			return s[:i] + "…"
		}
		n--
	}
	return s
}

// name returns a text from a cloud for a property that is no message: visible and bounded.
func name(s string) string { return escape.Visible(bounded(s, maxName)) }

func names(list []string, most int) []string {
	out := make([]string, 0, min(len(list), most))
	for _, s := range list[:min(len(list), most)] {
		out = append(out, name(s))
	}
	return out
}

// plain returns s as a part of a plain text message: unlinked, and with the braces doubled in which placeholders stand
// (SARIF 2.1.0 §3.11.5).
func plain(s string) string { return strings.NewReplacer("{", "{{", "}", "}}").Replace(unlinked(s)) }

// unlinked returns s as plain text that no viewer takes for more than that: visible, without an embedded link and without
// a tag of HTML.
//
// §3.11.6 has no escape for a link outside of a link's own text, and viewers look for one with a pattern that knows no
// backslash; so the two characters that every form of it has side by side, "](", are kept apart by a space, and "<" from
// what would make a tag of it.
func unlinked(s string) string {
	s = escape.Visible(s)
	if !strings.ContainsAny(s, "](<") {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		b.WriteByte(s[i])
		if i+1 < len(s) && (s[i] == ']' && s[i+1] == '(' || s[i] == '<' && opensTag(s[i+1])) {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// opensTag says whether "<" before c begins a tag, a comment, a declaration or an autolink.
func opensTag(c byte) bool {
	return c == '/' || c == '!' || c == '?' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// sentence returns s as a message: plain, bounded, ending in a full stop.
func sentence(s string) string {
	return plain(strings.TrimSuffix(bounded(s, maxMessage), ".")) + "."
}

// link returns the embedded link to the location with the given id whose text is already plain.
func link(text string, id int) string {
	text = strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`).Replace(text)
	return "[" + text + "](" + itoa(id) + ")"
}

// utf16Length returns how many UTF-16 code units s takes. A byte that is not UTF-8 counts as the U+FFFD that it is written
// as.
func utf16Length(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xFFFF {
			n++
		}
	}
	return n
}

// line returns at most n code points of a line of a file, cut without a mark, for it stands for a region of that file.
func line(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return strings.TrimSuffix(bounded(s, n), "…")
}
