package sarif

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
)

// sourceRoot is the base of every URI: the root of the repository.
const sourceRoot = "%SRCROOT%"

// runBuilder makes the results of one run.
type runBuilder struct {
	*writer
	scope    *scope
	logicals []logicalLocation
	logical  map[string]int // positions in logicals, by fully qualified name
	notes    []notification
	total    int // results, if some were left out
}

// entry is one thing to report: a finding, or in the profile GitHub a gap.
type entry struct {
	finding     *findings.Finding // nil for a gap
	gap         cloud.Gap
	check       string
	level       findings.Level
	fingerprint string
	message     string
	title       string // what the message of another entry calls it
	ref, list   cloud.Ref
	physical    physicalLocation
}

// entries returns what there is to report of the scope, the most severe first.
func (b *runBuilder) entries() ([]entry, error) {
	var out []entry
	for _, f := range b.scope.found {
		if b.profile == GitHub && !f.Open() {
			continue // code scanning would take it for an open alert
		}
		s := f.Subject
		e := entry{
			finding: f, check: f.RuleID, level: b.level(f.RuleID, f.Level), fingerprint: f.Fingerprint, message: f.Message,
			title: s.ID, ref: cloud.Ref{Provider: s.Provider, Scope: s.Scope, Kind: s.Type, ID: s.ID}, list: listOf(s),
		}
		if s.Name != "" && s.List == "" {
			e.title = s.Name
		}
		if f.Carried {
			e.message = strings.TrimSuffix(e.message, ".") + "; its scope could not be read now, so it is shown as the baseline has it."
		}
		at := b.report.Run.Anchor
		if f.Location != nil {
			at = *f.Location
		}
		var err error
		if e.physical, err = physical(at); err != nil {
			return nil, fmt.Errorf("finding %s of %s: %w", f.RuleID, escape.Visible(s.ID), err)
		}
		if b.ruleIndex(f.RuleID) < 0 {
			return nil, fmt.Errorf("finding of %s: there is no check %q", escape.Visible(s.ID), escape.Visible(f.RuleID))
		}
		out = append(out, e)
	}
	if b.profile == GitHub && !b.scope.unread() {
		for _, g := range b.gaps() {
			sum := sha256.Sum256([]byte(strings.Join([]string{findings.Undetermined, b.scope.String(), "gap", g.Subject}, "\n")))
			e := entry{
				gap: g, check: findings.Undetermined, level: b.level(findings.Undetermined, findings.Note),
				fingerprint: hex.EncodeToString(sum[:16]), title: g.Subject,
				message: fmt.Sprintf("Whether the internet reaches memcached in '%s' is not fully known, for '%s' could not be read%s.",
					b.scope, bounded(g.Subject, maxName), because(g)),
			}
			var err error
			if e.physical, err = physical(b.report.Run.Anchor); err != nil {
				return nil, fmt.Errorf("what could not be read: %w", err)
			}
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(x, y entry) int { return bySeverity(x.level, y.level) })
	return out, nil
}

// gaps returns what could not be read of the scope, each subject once. There is always one if the scope is not complete.
func (b *runBuilder) gaps() []cloud.Gap {
	var out []cloud.Gap
	seen := map[string]bool{}
	for _, g := range b.scope.Gaps {
		if !seen[g.Subject] {
			seen[g.Subject] = true
			out = append(out, g)
		}
	}
	if len(out) == 0 && !b.scope.complete() {
		out = append(out, cloud.Gap{Subject: "a part of the scope", Cause: "the run ended before all of it was read"})
	}
	return out
}

// listOf returns what the subject belongs to; the zero Ref if it says so itself or nothing is known of it.
func listOf(s findings.Subject) cloud.Ref {
	if s.List == "" || s.List == s.ID {
		return cloud.Ref{}
	}
	return cloud.Ref{Provider: s.Provider, Scope: s.Scope, Kind: s.ListType, ID: s.List}
}

// results returns the results of the run.
func (b *runBuilder) results() ([]result, error) {
	entries, err := b.entries()
	if err != nil {
		return nil, err
	}
	groups := b.group(entries)
	if n := len(groups); n > b.limits.results {
		b.total = n
		groups = groups[:b.limits.results]
		b.notes = append(b.notes, notify(limitReached, findings.Warning,
			fmt.Sprintf("The run has '%d' results, and the file has the '%d' most severe of them", n, b.limits.results)))
	}
	// Every subject first, so that it is listed with what it is a part of even if the way to another leads past it.
	for _, e := range slices.Concat(groups...) {
		b.logicalsOf(e)
	}
	out := make([]result, 0, len(groups))
	for _, g := range groups {
		out = append(out, b.result(g))
	}
	return out, nil
}

// group joins what code scanning would take for one alert: the same check on the same line.
func (b *runBuilder) group(entries []entry) [][]entry {
	type key struct {
		check, uri string
		line       int
	}
	var out [][]entry
	at := map[key]int{}
	for _, e := range entries {
		k := key{e.check, e.physical.ArtifactLocation.URI, e.physical.Region.StartLine}
		i, ok := at[k]
		if !ok || b.profile != GitHub {
			i = len(out)
			at[k] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], e)
	}
	return out
}

// result returns the result for entries of one check on one line.
func (b *runBuilder) result(group []entry) result {
	first := group[0]
	r := result{
		RuleID: first.check, RuleIndex: b.ruleIndex(first.check), Kind: "fail", Level: string(first.level),
		// Code scanning wants the text; the id and its argument are for those who translate.
		Message:             resultMessage{ID: "default", Arguments: []string{unlinked(bounded(first.title, maxName))}},
		Locations:           []location{{PhysicalLocation: first.physical.inContext(), LogicalLocations: b.logicalsOf(first)}},
		PartialFingerprints: partialFingerprints{fingerprint(group)},
		Properties:          b.properties(group),
	}
	if first.check == findings.Undetermined && b.profile == Full {
		// Nothing has failed yet, and what has not failed has no level (SARIF 2.1.0 §3.27.9).
		r.Kind, r.Level = "open", "none"
	}
	if f := first.finding; f != nil && b.profile == Full {
		r.BaselineState = string(f.State)
		if b.suppressing {
			r.Suppressions = b.suppressions(f.Suppressed)
		}
	}
	if len(group) == 1 {
		r.Message.Text, r.RelatedLocations = b.alone(first)
	} else {
		r.Message.Text, r.RelatedLocations = b.together(group)
	}
	r.CodeFlows = b.codeFlows(group)
	return r
}

// suppressions returns why a result is ignored: an empty list if it is not (SARIF 2.1.0 §3.27.23).
func (b *runBuilder) suppressions(s *findings.Suppression) *[]suppression {
	out := []suppression{}
	if s != nil {
		entry := suppression{
			Kind: "external", Status: "accepted", Justification: plain(bounded(s.Reason, maxMessage)),
			Properties: suppressionProperties{Expires: s.Expires},
		}
		if s.At != nil {
			if p, err := physical(*s.At); err == nil { // an ignore may be in a file outside of the repository
				entry.Location = &location{PhysicalLocation: p}
			}
		}
		out = append(out, entry)
	}
	return &out
}

// fingerprint returns what the result is known by in every run: that of its finding, or one of the set of them. It does
// not depend on files and lines.
func fingerprint(group []entry) string {
	if len(group) == 1 {
		return group[0].fingerprint
	}
	var all []string
	for _, e := range group {
		all = append(all, e.fingerprint)
	}
	slices.Sort(all)
	sum := sha256.Sum256([]byte(strings.Join(all, "\n")))
	return hex.EncodeToString(sum[:16])
}

// alone returns the message of one finding, in which the other rules that have to change with it are links.
func (b *runBuilder) alone(e entry) (string, []location) {
	message := sentence(e.message)
	if e.finding == nil {
		return message, nil
	}
	type linked struct {
		at int
		id string
	}
	// From the back, for they are named at the end, and in their order; no link can come to lie in another.
	var links []linked
	end := len(message)
	for _, id := range slices.Backward(e.finding.With) {
		if i := strings.LastIndex(message[:end], "'"+plain(id)+"'"); i >= 0 && len(links) < maxLinked {
			links = append(links, linked{i, id})
			end = i
		}
	}
	slices.Reverse(links)
	var out strings.Builder
	var related []location
	from := 0
	for i, l := range links {
		quoted := "'" + plain(l.id) + "'"
		out.WriteString(message[from:l.at])
		out.WriteString(link(quoted, i+1))
		from = l.at + len(quoted)
		ref := e.ref
		ref.ID = l.id
		at := b.placeOf(ref, e.physical)
		if p, err := physical(b.report.Run.Anchor); err == nil {
			at = b.placeOf(ref, p)
		}
		related = append(related, b.related(i+1, at, []logicalLocation{b.logicalOf(ref, e.list)},
			fmt.Sprintf("The rule '%s' admits the same packets", bounded(l.id, maxName))))
	}
	out.WriteString(message[from:])
	return out.String(), related
}

// together returns the message of several findings of one check on one line: the first in words, the others as links.
func (b *runBuilder) together(group []entry) (string, []location) {
	var related []location
	var others []string
	for i, e := range group[1:min(len(group), maxLinked+1)] {
		others = append(others, link("'"+plain(bounded(e.title, maxTitle))+"'", i+1))
		related = append(related, b.related(i+1, e.physical, b.logicalsOf(e), e.message))
	}
	if rest := len(group) - 1 - len(others); rest > 0 {
		others = append(others, fmt.Sprintf("%d more", rest))
	}
	tail := strings.Join(others, ", ")
	if n := len(others); n > 1 {
		tail = strings.Join(others[:n-1], ", ") + " and " + others[n-1]
	}
	return strings.TrimSuffix(sentence(group[0].message), ".") + "; the same check fails for " + tail + ".", related
}

func (b *runBuilder) related(id int, at physicalLocation, logical []logicalLocation, message string) location {
	return location{ID: &id, PhysicalLocation: at, LogicalLocations: logical, Message: &text{Text: sentence(message)}}
}

// placeOf returns the place in the repository of what ref names, or otherwise if it is not known.
func (b *runBuilder) placeOf(ref cloud.Ref, otherwise physicalLocation) physicalLocation {
	if known, ok := b.places[place{ref.Provider, ref.Scope, ref.ID}]; ok {
		if p, err := physical(known); err == nil {
			return p
		}
	}
	return otherwise
}

// logicalsOf returns where in the cloud e is.
func (b *runBuilder) logicalsOf(e entry) []logicalLocation {
	ref := e.ref
	if e.finding == nil {
		s := b.scope.Scope.Scope
		ref = s.Ref("scope", cmp.Or(s.Region, s.Account))
	}
	return []logicalLocation{b.logicalOf(ref, e.list)}
}

// logicalOf returns the logical location of what ref names, as a part of parent unless that is zero, and lists both in
// the run.
func (b *runBuilder) logicalOf(ref, parent cloud.Ref) logicalLocation {
	full := name(qualified(ref))
	at, ok := b.logical[full]
	if !ok {
		l := logicalLocation{Name: name(ref.ID), FullyQualifiedName: full, Kind: "resource"}
		if !parent.IsZero() && parent != ref {
			l.ParentIndex = b.logicalOf(parent, cloud.Ref{}).Index
		}
		at = len(b.logicals)
		b.logical[full] = at
		b.logicals = append(b.logicals, l)
	}
	l := b.logicals[at]
	l.ParentIndex = nil
	l.Index = &at
	return l
}

// codeFlows returns the ways of the packets, each from the internet to the host.
func (b *runBuilder) codeFlows(group []entry) []codeFlow {
	var out []codeFlow
	left, all := b.limits.steps, 0
	for _, e := range group[:min(len(group), maxLinked+1)] {
		if e.finding == nil || len(e.finding.Path) == 0 {
			continue
		}
		all += len(e.finding.Path)
		steps := e.finding.Path[:min(len(e.finding.Path), left)]
		if len(steps) == 0 {
			continue
		}
		left -= len(steps)
		out = append(out, codeFlow{[]threadFlow{{b.steps(e, steps)}}})
	}
	if all > b.limits.steps {
		b.notes = append(b.notes, notify(limitReached, findings.Warning,
			fmt.Sprintf("The path to '%s' has '%d' steps and '%d' are shown", bounded(group[0].title, maxName), all, b.limits.steps)))
	}
	return out
}

func (b *runBuilder) steps(e entry, way []findings.Step) []threadFlowLocation {
	var out []threadFlowLocation
	for i, s := range way {
		l := location{PhysicalLocation: e.physical, Message: &text{Text: sentence(s.Text)}}
		step := threadFlowLocation{NestingLevel: 1, ExecutionOrder: i + 1, Importance: "important"}
		if s.Stage == "internet" || s.Stage == "endpoint" {
			step.NestingLevel, step.Importance = 0, "essential"
		}
		if s.Ref == e.ref || i == len(way)-1 {
			step.Importance = "essential"
		}
		if !s.Ref.IsZero() {
			l.PhysicalLocation = b.placeOf(s.Ref, e.physical)
			l.LogicalLocations = []logicalLocation{b.logicalOf(s.Ref, cloud.Ref{})}
		}
		step.Location = l
		out = append(out, step)
	}
	return out
}

// errNoLine is a finding without a line in the repository.
var errNoLine = errors.New("it has no line in the repository, and the report has no line that stands for it")

// physical returns the place in the repository that l names.
func physical(l findings.Location) (physicalLocation, error) {
	if l.File == "" {
		return physicalLocation{}, errNoLine
	}
	file := path.Clean(l.File)
	if !fs.ValidPath(file) || file == "." || strings.Contains(file, `\`) {
		return physicalLocation{}, fmt.Errorf("%q is not a path within the repository, with forward slashes", escape.Visible(l.File))
	}
	parts := strings.Split(file, "/")
	for i := range parts {
		// A colon in the first part would make a scheme of it (RFC 3986 §4.2).
		parts[i] = strings.ReplaceAll(url.PathEscape(parts[i]), ":", "%3A")
	}
	n := max(l.Line, 1)
	// The byte-order mark of a file is in no column (SARIF 2.1.0 §3.30.2).
	content := l.Text
	if n == 1 {
		content = strings.TrimPrefix(content, "\ufeff")
	}
	content = line(content, maxSnippet)
	return physicalLocation{
		ArtifactLocation: artifactLocation{URI: strings.Join(parts, "/"), URIBaseID: sourceRoot},
		Region:           region{StartLine: n, StartColumn: 1, EndLine: n, EndColumn: 1 + utf16Length(content), Snippet: text{Text: content}},
	}, nil
}

// inContext returns p with its context, which has to be larger than the region: the line with its end. A line that was
// too long to be shown has none.
func (p physicalLocation) inContext() physicalLocation {
	n := p.Region.StartLine
	if utf8.RuneCountInString(p.Region.Snippet.Text) >= maxSnippet {
		return p
	}
	p.ContextRegion = &region{StartLine: n, StartColumn: 1, EndLine: n + 1, EndColumn: 1, Snippet: text{Text: p.Region.Snippet.Text + "\n"}}
	return p
}

// maxSnippet is how many code points of a line are shown and marked.
const maxSnippet = 1000

// properties returns the evidence of the findings.
func (b *runBuilder) properties(group []entry) resultProperties {
	var p resultProperties
	seen := map[int]bool{}
	for i, e := range group {
		if e.finding != nil {
			for _, at := range e.finding.Exposures {
				if seen[at] || at < 0 || at >= len(b.report.Exposures) {
					continue
				}
				seen[at] = true
				if len(p.Exposures) < maxExposures {
					p.Exposures = append(p.Exposures, exposureOf(&b.report.Exposures[at]))
				}
			}
		}
		if i < maxMerged {
			of := propertiesOf(e)
			if len(group) > 1 {
				of.Message = escape.Visible(bounded(e.message, maxMessage))
			}
			p.Findings = append(p.Findings, of)
		}
	}
	if len(group) > len(p.Findings) {
		p.FindingsTotal = len(group)
	}
	if len(seen) > len(p.Exposures) {
		p.ExposuresTotal = len(seen)
	}
	return p
}

func propertiesOf(e entry) findingProperties {
	if e.finding == nil {
		return findingProperties{Fingerprint: e.fingerprint, Unread: name(e.gap.Subject)}
	}
	s, alone := e.finding.Subject, e.finding.Alone
	p := findingProperties{
		Fingerprint: e.fingerprint, Carried: e.finding.Carried, Alone: &alone, With: names(e.finding.With, maxAdmitted),
		Subject: &subject{
			Provider: name(s.Provider), Scope: name(s.Scope), Type: name(s.Type), ID: name(s.ID), Name: name(s.Name),
			List: name(s.List), ListType: name(s.ListType), ListName: name(s.ListName), Text: name(s.Text),
		},
	}
	switch f := e.finding; {
	case len(f.Fixes) > 0:
		x := f.Fixes[0]
		p.Fix = &fix{Name: name(x.Name), List: name(x.List), Changes: x.Changes, Loss: bounded(x.Loss, maxCommand), Flag: x.Flag, Commands: []string{}}
		for _, c := range x.Commands {
			// A command that was cut would be another one.
			if utf8.RuneCountInString(c) > maxCommand {
				c = "# longer than a report for code scanning has room for: the JSON report has it"
			}
			p.Fix.Commands = append(p.Fix.Commands, escape.Visible(c))
		}
	case f.NoFix != nil:
		p.NoFix = bounded(strings.TrimSuffix(f.NoFix.Reason+"; "+f.NoFix.Instead, "; "), maxCommand)
	}
	return p
}

// maxCommand is how many code points of a command or of a loss are shown.
const maxCommand = 8000

func exposureOf(x *findings.Exposure) exposure {
	return exposure{
		Resource: name(x.Resource.ID), Address: name(x.Address), Family: x.Family, Protocol: name(x.Protocol), Port: x.Port,
		FrontPort: x.FrontPort, Via: name(x.Via), Verdict: string(x.Verdict), Coverage: string(x.Coverage), Share: x.Share,
		AdmittedBy: names(x.AdmittedBy, maxAdmitted), Stage: name(x.Stage),
	}
}
