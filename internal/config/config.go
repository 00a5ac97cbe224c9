// Package config reads cloudaudit.yaml. It is strict: whatever is not understood is an error with its line, for a key that
// is silently left out may be the one that a gate depends on.
package config

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"go4.org/netipx"

	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// Name is the file that is read if no other is named.
const Name = "cloudaudit.yaml"

// Example is a file that shows and explains every section.
//
//go:embed example.yaml
var Example string

// maxSize is far more than anybody writes by hand.
const maxSize = 1 << 20

// Config is what a file says.
type Config struct {
	File          string
	Flags         []Setting // in the order of the file
	Ignores       []Ignore
	Notifications []Notification
	KeepDays      int // for how many days the reports of scheduled runs are kept; 0 is for ever
	Heartbeat     Address
}

// Setting is the value of a flag.
type Setting struct {
	Flag   string
	Values []string // several for a flag that can be repeated
	Line   int
}

// Ignore says which findings are not to count, why, and until when. What is empty matches everything.
type Ignore struct {
	Rule, Resource string
	Source         *netipx.IPSet // nil matches everything
	Reason         string
	Expires        time.Time // the last day, in UTC
	Line           int
	Text           string // the first line of the entry, as it stands in the file
}

// Address is a URL, or the environment variable that holds one.
type Address struct{ URL, FromEnv string }

// Notification is someone who is told of a run.
type Notification struct {
	Address
	On    []string // new, cleared, incomplete
	Title string
}

// Load reads the content of a file. The error has a line for each mistake, as "file:line:column: what is wrong".
func Load(file string, data []byte) (*Config, error) {
	l := loader{file: file, config: &Config{File: file}, lines: strings.Split(string(data), "\n")}
	switch {
	case len(data) > maxSize:
		return nil, fmt.Errorf("%s: larger than %d bytes", file, maxSize)
	case !utf8.Valid(data):
		return nil, fmt.Errorf("%s: not UTF-8", file)
	}
	dec := yaml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return l.config, nil
	} else if err != nil {
		return nil, l.syntax(err)
	}
	var more yaml.Node
	if err := dec.Decode(&more); err == nil {
		l.fail(&more, "a second document: the file has one")
	} else if !errors.Is(err, io.EOF) {
		return nil, l.syntax(err)
	}
	if top := doc.Content[0]; top.Kind != yaml.ScalarNode || top.Tag != "!!null" {
		l.object(root(), top, "the file", l.top)
	}
	if len(l.errs) > 0 {
		return nil, errors.Join(l.errs...)
	}
	return l.config, nil
}

// loader walks a file.
type loader struct {
	file   string
	lines  []string
	config *Config
	errs   []error
}

func (l *loader) fail(n *yaml.Node, format string, args ...any) {
	l.errs = append(l.errs, fmt.Errorf("%s:%d:%d: %s", l.file, n.Line, n.Column, fmt.Sprintf(format, args...)))
}

// line returns a line of the file. YAML counts more characters as the end of a line than editors do.
func (l *loader) line(n int) string {
	if n < 1 || n > len(l.lines) {
		return ""
	}
	return strings.TrimRight(l.lines[n-1], "\r")
}

// syntax puts the line of a YAML error where an editor looks for it.
func (l *loader) syntax(err error) error {
	found := regexp.MustCompile(`^yaml: line (\d+): (.*)$`).FindStringSubmatch(err.Error())
	if found == nil {
		return fmt.Errorf("%s: %w", l.file, err)
	}
	n, _ := strconv.Atoi(found[1])
	hint := ""
	for i := max(0, n-2); i < min(n+1, len(l.lines)); i++ {
		if indent := l.lines[i][:len(l.lines[i])-len(strings.TrimLeft(l.lines[i], " \t"))]; strings.Contains(indent, "\t") {
			n, hint = i+1, "; YAML takes no tabs for indentation, only spaces"
			break
		}
	}
	return fmt.Errorf("%s:%d:1: %s%s", l.file, n, found[2], hint)
}

// object walks a mapping of k's keys and calls set for each.
func (l *loader) object(k key, n *yaml.Node, what string, set func(key, *yaml.Node)) {
	if !l.is(n, yaml.MappingNode, what, "a mapping of keys to values") {
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.Anchor != "" {
			l.fail(name, "a key has to be a plain word")
			continue
		}
		if first, twice := seen[name.Value]; twice {
			l.fail(name, "key %q stands here already, in line %d", escape.Visible(name.Value), first)
			continue
		}
		seen[name.Value] = name.Line
		at := slices.IndexFunc(k.keys, func(c key) bool { return c.name == name.Value })
		if at < 0 {
			l.fail(name, "unknown key %q in %s%s", escape.Visible(name.Value), what, suggestion(name.Value, k.keys))
			continue
		}
		set(k.keys[at], value)
	}
	for _, c := range k.keys {
		if c.required && seen[c.name] == 0 {
			l.fail(n, "%s has no %q: %s", what, c.name, c.about)
		}
	}
	count := func(names []string) (n int) {
		for _, name := range names {
			if seen[name] > 0 {
				n++
			}
		}
		return n
	}
	if len(k.anyOf) > 0 && count(k.anyOf) == 0 {
		l.fail(n, "%s needs at least one of %s", what, strings.Join(k.anyOf, ", "))
	}
	if len(k.oneOf) > 0 && count(k.oneOf) != 1 {
		l.fail(n, "%s needs exactly one of %s", what, strings.Join(k.oneOf, ", "))
	}
}

// is says whether n is of a kind, and without what YAML has and this file has no use for.
func (l *loader) is(n *yaml.Node, kind yaml.Kind, what, want string) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		l.fail(n, "%s: anchors and aliases are not taken here; write it out", what)
	case n.Style&yaml.TaggedStyle != 0:
		l.fail(n, "%s: tags such as %s are not taken here", what, escape.Visible(n.Tag))
	case n.Kind != kind || kind == yaml.ScalarNode && n.Tag == "!!null":
		l.fail(n, "%s: want %s", what, want)
	default:
		return true
	}
	return false
}

// top takes a key of the file.
func (l *loader) top(k key, n *yaml.Node) {
	c := l.config
	switch k.name {
	case "ignores":
		for item := range l.items(k, n) {
			e := Ignore{Line: item.Line, Text: l.line(item.Line)}
			l.object(k, item, "an ignore", func(k key, n *yaml.Node) {
				value := l.scalar(k, n)
				switch k.name {
				case "rule":
					e.Rule = value
				case "resource":
					e.Resource = value
				case "source":
					e.Source, _ = traffic.ParseIPs(value) // scalar has said what is wrong with it
				case "reason":
					e.Reason = value
				case "expires":
					e.Expires, _ = time.Parse(time.DateOnly, value) // likewise
				}
			})
			c.Ignores = append(c.Ignores, e)
		}
	case "notifications":
		for item := range l.items(k, n) {
			var e Notification
			l.object(k, item, "a notification", func(k key, n *yaml.Node) {
				switch k.name {
				case "on":
					e.On = l.list(k, n)
				case "title":
					e.Title = l.scalar(k, n)
				default:
					l.address(&e.Address, k, n)
				}
			})
			if len(e.On) == 0 {
				e.On = []string{"new", "cleared", "incomplete"}
			}
			c.Notifications = append(c.Notifications, e)
		}
	case "state":
		l.object(k, n, "state", func(k key, n *yaml.Node) {
			value := l.scalar(k, n)
			if k.flag != "" {
				c.Flags = append(c.Flags, Setting{Flag: k.flag, Values: []string{value}, Line: n.Line})
			} else {
				c.KeepDays, _ = strconv.Atoi(value) // scalar has said what is wrong with it
			}
		})
	case "heartbeat":
		l.object(k, n, "heartbeat", func(k key, n *yaml.Node) { l.address(&c.Heartbeat, k, n) })
	default:
		s := Setting{Flag: k.name, Line: n.Line}
		if k.kind == texts || k.kind == choices {
			s.Values = l.list(k, n)
		} else {
			s.Values = []string{l.scalar(k, n)}
		}
		c.Flags = append(c.Flags, s)
	}
}

func (l *loader) address(a *Address, k key, n *yaml.Node) {
	value := l.scalar(k, n)
	if k.name == "url_from_env" {
		a.FromEnv = value
		return
	}
	a.URL = value
	if u, err := url.Parse(value); value != "" && (err != nil || !u.IsAbs()) {
		// The address may be a secret: it is not shown.
		l.fail(n, "url: want an address with a scheme, such as slack://… or https://…")
	}
}

// items yields the items of a list of objects.
func (l *loader) items(k key, n *yaml.Node) func(func(*yaml.Node) bool) {
	return func(yield func(*yaml.Node) bool) {
		if !l.is(n, yaml.SequenceNode, k.name, "a list") {
			return
		}
		for _, item := range n.Content {
			if !yield(item) {
				return
			}
		}
	}
}

// list returns the values of a list, or of one value.
func (l *loader) list(k key, n *yaml.Node) []string {
	if n.Kind != yaml.SequenceNode {
		return []string{l.scalar(k, n)}
	}
	if !l.is(n, yaml.SequenceNode, k.name, "a list") {
		return nil
	}
	if len(n.Content) == 0 {
		l.fail(n, "%s: the list is empty; leave the key out", k.name)
	}
	var out []string
	for _, item := range n.Content {
		out = append(out, l.scalar(k, item))
	}
	return out
}

// scalar returns a value as it is written, or "" if it is none of k's.
func (l *loader) scalar(k key, n *yaml.Node) string {
	if !l.is(n, yaml.ScalarNode, k.name, wants(k)) {
		return ""
	}
	ok := true
	switch v := n.Value; k.kind {
	case text, texts:
		ok = v != "" && (n.Tag == "!!str" || n.Tag == "!!int" || n.Tag == "!!float" || n.Tag == "!!timestamp")
	case truth:
		ok = n.Tag == "!!bool" && (v == "true" || v == "false")
	case whole:
		_, err := strconv.ParseUint(v, 10, 31)
		ok = err == nil && n.Tag == "!!int"
	case number:
		f, err := strconv.ParseFloat(v, 64)
		ok = err == nil && f >= 0 && (n.Tag == "!!int" || n.Tag == "!!float")
	case duration:
		ok = n.Tag == "!!str" && durations().MatchString(v)
		if _, err := time.ParseDuration(v); err != nil {
			ok = false
		}
	case date:
		_, err := time.Parse(time.DateOnly, v)
		ok = err == nil
	case network:
		ips, err := traffic.ParseIPs(v)
		ok = err == nil && !traffic.IsEmptyIPs(ips)
	case choice, choices:
		if ok = n.Tag == "!!str" && slices.Contains(k.choices, v); !ok {
			l.fail(n, "%s: %q: want %s%s", k.name, escape.Visible(v), wants(k), nearest(v, k.choices))
			return ""
		}
	}
	if !ok {
		l.fail(n, "%s: %q: want %s", k.name, escape.Visible(n.Value), wants(k))
		return ""
	}
	return n.Value
}

// durations matches what time.ParseDuration takes and is not negative.
func durations() *regexp.Regexp { return regexp.MustCompile(durationPattern) }

const durationPattern = `^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`

// wants says what a value of k is.
func wants(k key) string {
	switch k.kind {
	case truth:
		return "true or false"
	case whole:
		return "a whole number from 0"
	case number:
		return "a number from 0"
	case duration:
		return "a duration such as 10m or 1h30m"
	case date:
		return "a day such as 2027-03-31"
	case network:
		return "networks such as 203.0.113.0/24, 2001:db8::/32"
	case choice, choices:
		return "one of " + strings.Join(k.choices, ", ")
	}
	return "a text that is not empty"
}

// suggestion names the key that was most likely meant.
func suggestion(name string, keys []key) string {
	var names []string
	for _, k := range keys {
		names = append(names, k.name)
	}
	return nearest(name, names)
}

// nearest names the word that is nearest to one that is not among them.
func nearest(word string, words []string) string {
	best, distance := "", len(word)/3+2
	for _, w := range words {
		if d := edits(strings.ToLower(strings.ReplaceAll(word, "_", "-")), w); d < distance {
			best, distance = w, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// edits returns how many letters have to be put in, taken out or replaced to make b of a.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			cost := corner
			if a[i] != b[j] {
				cost++
			}
			row[j+1] = min(row[j]+1, above+1, cost)
			corner = above
		}
	}
	return row[len(b)]
}
