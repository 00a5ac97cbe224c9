package escape

import (
	"bytes"
	"encoding/json"
	"errors"
	"html"
	"maps"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"":                             "",
		"cache-1 (Zürich) 東京":          "cache-1 (Zürich) 東京",
		"\x1b[31mred\x1b[0m":           `\u{1b}[31mred\u{1b}[0m`,
		"a\nb\r\tc\x00\x7f":            `a\u{0a}b\u{0d}\u{09}c\u{00}\u{7f}`,
		"csi \u009b31m":                `csi \u{9b}31m`,
		"evil\u202etxt.exe":            `evil\u{202e}txt.exe`,
		"iso\u2066late\u2069":          `iso\u{2066}late\u{2069}`,
		"line\u2028par\u2029nel\u0085": `line\u{2028}par\u{2029}nel\u{85}`,
		"zero\u200bwidth\ufeff":        `zero\u{200b}width\u{feff}`,
		"tag\U000e0041":                `tag\u{e0041}`,
		"filler\u3164\u2800":           `filler\u{3164}\u{2800}`,
		"bad\xffutf8":                  `bad\x{ff}utf8`,
		"\ufffd":                       `\u{fffd}`,
	} {
		if got := Visible(in); got != want {
			t.Errorf("Visible(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTerminal(t *testing.T) {
	for in, want := range map[string]string{
		"::error::x":          `\u{3a}:error::x`,
		"  ::error file=a::x": `  \u{3a}:error file=a::x`,
		"::/0":                "::/0",
		"2001:db8::1":         "2001:db8::1",
		"x ##[error]y":        `x #\u{23}[error]y`,
		"###vso[task]":        `#\u{23}\u{23}vso[task]`,
		"x\n::error::y":       `x\u{0a}::error::y`,
	} {
		if got := Terminal(in); got != want {
			t.Errorf("Terminal(%q) = %q, want %q", in, got, want)
		}
	}
	if got, want := Line("\t ::1"), "\t \\u{3a}:1"; got != want {
		t.Errorf("Line = %q, want %q", got, want)
	}
}

func TestMarkdown(t *testing.T) {
	for in, want := range map[string]string{
		"sgr-0a1b (tcp/11211), 'x'": "sgr-0a1b (tcp/11211), 'x'",
		"a|b`c":                     "a&#124;b&#96;c",
		"<script>":                  "&#60;script&#62;",
		"[x](y)":                    "&#91;x&#93;(y)",
		"http://x":                  "http&#58;//x",
		"WWW.x.org":                 "WWW&#46;x.org",
		"- item":                    "&#45; item",
		"12. item":                  "12&#46; item",
		"12.5":                      "12&#46;5",
		"    code ":                 "&#32;   code&#32;",
		"@octocat":                  "&#64;<!-- -->octocat",
		"fixes #1":                  "fixes &#35;<!-- -->1",
	} {
		if got := Markdown(in); got != want {
			t.Errorf("Markdown(%q) = %q, want %q", in, got, want)
		}
	}
}

// anyText draws text of which much is hostile.
func anyText() *rapid.Generator[string] {
	return rapid.Map(rapid.SliceOf(rapid.OneOf(
		rapid.String(),
		rapid.SampledFrom([]string{
			"\x1b[2J", "\n", "\r\n", "::error::", "##[error]", "##", "#", ":", "::", " ", "\u202e", "\u2028", "\u0085", "\xc0", "\xff",
			"<script>", "</code>", "<!--", "-->", "|", "`", "``", "*", "_", "[a](b)", "![a](b)", "&amp;", "&#", "@a", "www.a.b", "https://a", "1.", "-", "    ", "\\", "%0A",
		}),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
	)), func(parts []string) string { return strings.Join(parts, "") })
}

// command is what GitHub and Azure Pipelines read as a command.
var command = regexp.MustCompile(`^\s*::.*::|##\[|##vso\[`)

func checkVisible(t interface{ Fatalf(string, ...any) }, in, out string) {
	if !utf8.ValidString(out) {
		t.Fatalf("%q became %q, which is not UTF-8", in, out)
	}
	for _, r := range out {
		if unicode.Is(unicode.C, r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control, unicode.Other_Default_Ignorable_Code_Point) {
			t.Fatalf("%q became %q, which has %U", in, out, r)
		}
	}
}

func checkText(t interface{ Fatalf(string, ...any) }, s string) {
	checkVisible(t, s, Visible(s))
	checkVisible(t, s, Terminal(s))
	if got := Visible(Visible(s)); got != Visible(s) {
		t.Fatalf("Visible is not idempotent: %q, then %q", Visible(s), got)
	}
	if got := Terminal(Terminal(s)); got != Terminal(s) {
		t.Fatalf("Terminal is not idempotent: %q, then %q", Terminal(s), got)
	}
	if got := Terminal(s); command.MatchString(got) {
		t.Fatalf("Terminal(%q) = %q holds a command", s, got)
	}
	if got := Line(Visible(s)); command.MatchString(got) {
		t.Fatalf("Line(%q) = %q holds a command", s, got)
	}
	checkJSON(t, s)
	md := Markdown(s)
	checkVisible(t, s, md)
	bare := regexp.MustCompile(`(&#(64|35);)<!-- -->`).ReplaceAllString(md, "$1")
	if strings.ContainsAny(regexp.MustCompile(`&#\d+;`).ReplaceAllString(bare, ""), "&<>\"`*_[]{}|\\#~$!:@") {
		t.Fatalf("Markdown(%q) = %q leaves something that means something", s, md)
	}
	if got := html.UnescapeString(bare); got != Visible(s) {
		t.Fatalf("Markdown(%q) = %q reads as %q", s, md, got)
	}
}

func checkJSON(t interface{ Fatalf(string, ...any) }, s string) {
	var doc bytes.Buffer
	enc := json.NewEncoder(&doc)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(map[string]string{s: s}); err != nil {
		t.Fatalf("%v", err)
	}
	safe := JSON(doc.Bytes())
	checkVisible(t, s, strings.TrimSuffix(string(safe), "\n"))
	if command.Match(safe) {
		t.Fatalf("JSON(%q) = %q holds a command", doc.Bytes(), safe)
	}
	var before, after map[string]string
	if err := errors.Join(json.Unmarshal(doc.Bytes(), &before), json.Unmarshal(safe, &after)); err != nil || !maps.Equal(before, after) {
		t.Fatalf("JSON(%q) = %q means something else: %v", doc.Bytes(), safe, err)
	}
}

func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkText(t, anyText().Draw(t, "text")) })
}

func FuzzText(f *testing.F) {
	f.Add("\x1b]0;t\x07::error::<b>|`\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) { checkText(t, s) })
}
