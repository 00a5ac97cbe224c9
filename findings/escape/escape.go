// Package escape makes text from a cloud safe to show: whoever may name a resource decides what stands in its name, and
// must not decide what a terminal, a browser or a workflow log does. What a writer puts out has either been written by
// this project or has gone through here.
//
// All functions are idempotent as far as control characters go: a text that is visible stays as it is.
package escape

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Visible returns s with every character written out that does not show as itself: controls (C0 with line feeds and tabs,
// DEL, C1), format characters (bidirectional overrides, zero width, tags), line and paragraph separators, spaces other
// than U+0020, private and unassigned code points, and what fonts draw as nothing. U+202E becomes \u{202e}; a byte that is
// not UTF-8 becomes \x{ff}. The result is one line of valid UTF-8.
func Visible(s string) string {
	at := strings.IndexFunc(s, hidden)
	if at < 0 {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:at])
	for i := at; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x{%02x}`, s[i])
		case hidden(r):
			fmt.Fprintf(&b, `\u{%02x}`, r)
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// hidden says whether r must not be written as it is. U+FFFD is hidden, so that bytes that are not UTF-8 are found.
func hidden(r rune) bool {
	return r == utf8.RuneError || !unicode.IsPrint(r) ||
		unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) || r == '\u2800'
}

// Terminal returns s for a terminal or the log of a workflow: Visible, and broken where a runner would read a command,
// whether s stands alone on its line or not.
func Terminal(s string) string {
	s = Visible(s)
	if trimmed := strings.TrimLeft(s, " "); strings.HasPrefix(trimmed, "::") && strings.Contains(trimmed[2:], "::") {
		s = Line(s)
	}
	return hashes(s)
}

// Line returns a whole line of output, without its end, so that no runner reads a command from it. GitHub takes "::" at
// the beginning of a line, after any white space, and "##[" anywhere (actions/runner, ActionCommand.cs); Azure Pipelines
// takes "##vso[" anywhere. What the line is made of has to be visible already.
func Line(s string) string {
	if trimmed := strings.TrimLeftFunc(s, unicode.IsSpace); strings.HasPrefix(trimmed, "::") {
		s = s[:len(s)-len(trimmed)] + `\u{3a}` + trimmed[1:]
	}
	return hashes(s)
}

// hashes breaks the beginning of the older form of workflow commands.
func hashes(s string) string {
	if !strings.Contains(s, "##") {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if s[i] == '#' && i > 0 && s[i-1] == '#' {
			b.WriteString(`\u{23}`)
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Markdown returns s as text in GitHub Flavored Markdown: visible, on one line, and every character that could mean
// something as a character reference, which is text in paragraphs, tables, headings and HTML blocks alike
// (CommonMark 0.31, §2.5: references "cannot be used in place of symbols indicating structure"). It is not for code spans
// or attributes: see Code.
func Markdown(s string) string {
	s = Visible(s)
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '@', r == '#':
			// GitHub looks for people to notify and issues to close in the rendered text: an empty comment keeps it apart.
			fmt.Fprintf(&b, "&#%d;<!-- -->", r)
		case strings.ContainsRune("&<>\"`*_[]{}|\\~$!:", r),
			strings.ContainsRune("-+=.)", r) && opens(s[:i]),
			r == '.' && strings.HasSuffix(strings.ToLower(s[:i]), "www"),
			r == ' ' && (i == 0 || i == len(s)-1):
			fmt.Fprintf(&b, "&#%d;", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// opens says whether a mark that follows s would make a list or a heading of the line.
func opens(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}

// JSON returns a JSON document that means the same as doc, and in which every character of a string is visible and nothing
// reads as a workflow command: what does not show as itself, and the second of two #, is written as \u and four digits.
// doc has to be one that encoding/json wrote: it has dealt with what is not UTF-8, and with the controls below U+0020.
func JSON(doc []byte) []byte {
	var out bytes.Buffer
	out.Grow(len(doc))
	for i := 0; i < len(doc); {
		r, n := utf8.DecodeRune(doc[i:])
		switch {
		case r == '\n', r < utf8.RuneSelf && unicode.IsPrint(r) && (r != '#' || i == 0 || doc[i-1] != '#'):
			out.WriteByte(doc[i])
		case r == '#' || hidden(r):
			for _, unit := range utf16.AppendRune(nil, r) {
				fmt.Fprintf(&out, `\u%04x`, unit)
			}
		default:
			out.Write(doc[i : i+n])
		}
		i += n
	}
	return out.Bytes()
}

// Code returns s as code in GitHub Flavored Markdown, also in a table or an HTML block. GitHub looks for no people, issues
// and emoji in it.
func Code(s string) string { return "<code>" + Markdown(s) + "</code>" }
