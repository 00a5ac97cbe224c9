// Package html writes a report as one page that a browser shows without asking anyone for anything: no script, no font,
// no picture, and a content security policy that allows none. Names from a cloud are text in it, by html/template and
// with what does not show written out.
package html

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/findings/outline"
)

//go:embed page.css
var style string

//go:embed page.html
var page string

// How much a page shows, so that a browser can: the JSON report has all of it.
const (
	mostRows      = 200 // evidence of one finding
	mostExposures = 5000
)

// view is what page.html is given.
type view struct {
	*outline.Outline
	Policy  template.HTMLAttr
	Style   template.CSS
	Version string
	When    string
	Levels  []levelCount
	Exposed []exposure
	Left    int // exposures that are not shown
	Clean   bool
	Repair  *findings.Repair
	Lists   []titled // findings that do not count
}

type titled struct {
	Title    string
	Findings []outline.Finding
}

type levelCount struct {
	Level findings.Level
	Count int
	Noun  string
}

// exposure is a row of the table of exposures, with the findings that it is evidence of.
type exposure struct {
	findings.Exposure
	Service, Amount, Where, Resource string
	Findings                         []string // fingerprints
}

// Write writes r to w. What is in r.Run is shown, so that a page that has to be reproducible has none of it.
func Write(w io.Writer, r *findings.Report) error {
	o := outline.Of(r, "")
	v := view{
		Outline: o, Repair: r.Repair, Style: template.CSS(style), Policy: policy(), Version: r.Run.Version, When: when(r.Run),
		Clean: o.Complete && len(o.Groups) == 0 && len(o.Ignored) == 0 && o.Endpoints > 0,
	}
	for _, l := range []titled{{"Gone since the baseline", o.Gone}, {"Ignored", o.Ignored}} {
		if len(l.Findings) > 0 {
			v.Lists = append(v.Lists, l)
		}
	}
	for _, l := range []findings.Level{findings.Error, findings.Warning, findings.Note} {
		v.Levels = append(v.Levels, levelCount{l, o.Levels[l], strings.TrimPrefix(outline.Count(o.Levels[l], string(l)), fmt.Sprint(o.Levels[l], " "))})
	}
	evidenceOf := map[int][]string{}
	for _, f := range r.Findings {
		for _, at := range f.Exposures {
			if at < mostExposures {
				evidenceOf[at] = append(evidenceOf[at], f.Fingerprint)
			}
		}
	}
	for i := range r.Exposures[:min(mostExposures, len(r.Exposures))] {
		x := r.Exposures[i]
		v.Exposed = append(v.Exposed, exposure{
			Exposure: x, Service: outline.Service(&x), Amount: outline.Amount(x.Coverage, x.Share),
			Where:    strings.TrimSpace(x.Provider + " " + x.Account + " " + x.Region),
			Resource: outline.Resource(x.Resource), Findings: evidenceOf[i],
		})
	}
	v.Left = len(r.Exposures) - len(v.Exposed)

	t, err := template.New("page").Funcs(functions()).Parse(page)
	if err != nil {
		return fmt.Errorf("HTML report: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, v); err != nil {
		return fmt.Errorf("HTML report: %w", err)
	}
	_, err = w.Write(out.Bytes())
	return err
}

// policy allows the one style sheet that stands in the page, by its hash, and nothing else (Content Security Policy
// Level 3, §2.3.1). The style element holds exactly the text that is hashed.
func policy() template.HTMLAttr {
	sum := sha256.Sum256([]byte(style))
	return template.HTMLAttr(fmt.Sprintf(`content="default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action 'none'"`,
		base64.StdEncoding.EncodeToString(sum[:])))
}

func when(run findings.Run) string {
	switch {
	case run.Started.IsZero():
		return ""
	case run.Finished.IsZero():
		return run.Started.UTC().Format(time.RFC3339)
	}
	return run.Started.UTC().Format(time.RFC3339) + ", " + run.Finished.Sub(run.Started).Round(time.Second).String()
}

// functions are what page.html calls. Every string from a report passes through v there.
func functions() template.FuncMap {
	return template.FuncMap{
		"v":        func(s any) string { return escape.Visible(fmt.Sprint(s)) },
		"kind":     outline.Kind,
		"list":     outline.List,
		"resource": outline.Resource,
		"count":    outline.Count,
		"remedy":   func(x findings.Fix) string { return outline.Remedy(&x) },
		"outcome":  outline.Outcome,
		"join":     func(list []string, by string) string { return strings.Join(list, by) },
		"where": func(s cloud.Scope) string {
			return strings.TrimSpace(s.Provider + " " + s.Account + " " + s.Region)
		},
		"first": func(rows []outline.Row) []outline.Row { return rows[:min(mostRows, len(rows))] },
		"rest":  func(rows []outline.Row) int { return max(0, len(rows)-mostRows) },
	}
}
