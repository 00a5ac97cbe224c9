// Package sarif writes a report as SARIF 2.1.0: one run for each scope, one rule for each check, and every result both at
// a line of the repository and at the resource in the cloud. The same report gives the same bytes, and a scope that could
// not be read never looks like one that is clean.
//
// GitHub code scanning reads less of SARIF than it says and more into it: it takes every result for an open alert, of
// whatever kind; it closes the alerts of a category that a successful run of it lacks; and it knows two results of one
// rule on one line as one. The profile GitHub is written for that; Full is for everything else.
package sarif

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/findings/jsonreport"
)

// Profile says for whom SARIF is written.
type Profile string

const (
	// Full has every scope and one result for each finding, also for those that are ignored and those that the baseline had
	// and that are gone. What could not be decided is of kind open. The file has the whole JSON report among its properties,
	// so that Read loses nothing.
	Full Profile = "full"
	// GitHub has what code scanning takes without loss:
	//
	//   - Findings of one check on one line are one result, which lists them. The uploader gives all of them the same
	//     primaryLocationLineHash, and code scanning would keep only one; a hash of our own would keep them apart, at the
	//     price of a warning for each and of alerts that move with it.
	//   - A scope that could not be read has no run, which leaves its alerts as they are. If no scope could be read the
	//     first stays, as a run that failed: code scanning refuses it, which is what there is to say.
	//   - A scope that was read in part has its run. Each part that could not be read is a result of its own, of the check
	//     for what is undetermined, because code scanning shows no notifications: what such a run no longer finds is closed
	//     with that alert in its place.
	//   - What is undetermined is a warning, and of kind fail.
	//   - What is ignored or gone is left out, and no result has a state: code scanning compares by itself.
	//   - The limits of code scanning hold; a notification says what was left out.
	GitHub Profile = "github"
)

// schema is where errata 01 of the standard has its schema.
const schema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

// limits bounds what is written of a report.
type limits struct {
	runs        int // of a file
	results     int // of a run
	tags        int // of a rule
	steps       int // of all code flows of a result
	description int // code points of a rule's descriptions
	compressed  int // bytes of the file after gzip
}

// Not more than this is written of the evidence of one result: the JSON report has all of it.
const (
	maxExposures = 100
	maxMerged    = 100 // findings whose properties are given
	maxLinked    = 20  // findings that the message links to
	maxAdmitted  = 20  // rules of one exposure
	maxNotices   = 100 // gaps of one scope
)

const unlimited = int(^uint(0) >> 1)

// limitsOf returns what a profile allows: for GitHub, what code scanning takes or shows
// (https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning).
func limitsOf(p Profile) limits {
	if p == GitHub {
		return limits{runs: 20, results: 5000, tags: 10, steps: 1000, description: 1024, compressed: 10 << 20}
	}
	return limits{runs: unlimited, results: unlimited, tags: unlimited, steps: 10000, description: unlimited, compressed: unlimited}
}

// Write writes r to w. It fails if a finding has no line in the repository, of its own or by r.Run.Anchor: a file with a
// result that has none is rejected as a whole.
func Write(w io.Writer, r *findings.Report, p Profile) error {
	if p != Full && p != GitHub {
		return fmt.Errorf("SARIF: profile is %q, want %q or %q", escape.Visible(string(p)), Full, GitHub)
	}
	in := r.Run.Repository
	var provenance []versionControlDetails
	if in.URI != "" {
		u, err := url.Parse(in.URI)
		if err != nil || !u.IsAbs() || u.User != nil {
			return errors.New("SARIF: the address of the repository is not an absolute URI without a user")
		}
		provenance = []versionControlDetails{{
			RepositoryURI: u.String(), RevisionID: name(in.Revision), Branch: name(in.Branch), MappedTo: artifactLocation{URIBaseID: sourceRoot},
		}}
	}
	doc, err := fitting(r, p, limitsOf(p), provenance)
	if err != nil {
		return fmt.Errorf("SARIF: %w", err)
	}
	_, err = w.Write(doc)
	return err
}

// fitting returns the file, with as many results as fit.
func fitting(r *findings.Report, p Profile, l limits, provenance []versionControlDetails) ([]byte, error) {
	for ; ; l.results /= 2 {
		doc, err := encode(r, p, l, provenance)
		switch {
		case err != nil:
			return nil, err
		case len(doc) <= l.compressed || gzipped(doc) <= l.compressed:
			return doc, nil
		case l.results <= 1:
			// A run without results would close all alerts.
			return nil, fmt.Errorf("more than %d bytes even with one result for each scope: scan fewer scopes into one file", l.compressed)
		}
	}
}

func encode(r *findings.Report, p Profile, l limits, provenance []versionControlDetails) ([]byte, error) {
	sw := writer{report: r, profile: p, limits: l, provenance: provenance, checks: findings.Checks(), places: map[place]findings.Location{}}
	for _, c := range sw.checks {
		for _, n := range c.CWE {
			if !slices.Contains(sw.weaknesses, n) {
				sw.weaknesses = append(sw.weaknesses, n)
			}
		}
	}
	slices.Sort(sw.weaknesses)
	sw.suppressing = slices.ContainsFunc(r.Findings, func(f findings.Finding) bool { return f.Suppressed != nil })
	runs, err := sw.runs()
	if err != nil {
		return nil, err
	}
	out := document{Schema: schema, Version: "2.1.0", Runs: runs}
	if p == Full {
		var whole bytes.Buffer
		if err := jsonreport.Write(&whole, r); err != nil {
			return nil, err
		}
		out.Properties = &logProperties{Report: whole.Bytes()}
	}
	var doc bytes.Buffer
	enc := json.NewEncoder(&doc)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(out); err != nil {
		return nil, err
	}
	return escape.JSON(doc.Bytes()), nil
}

// gzipped returns the size of doc as the uploader sends it.
func gzipped(doc []byte) int {
	var n counter
	z := gzip.NewWriter(&n)
	_, err := z.Write(doc)
	if err = errors.Join(err, z.Close()); err != nil {
		return len(doc) // a counter does not fail
	}
	return int(n)
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// writer holds what is the same for all runs of a report.
type writer struct {
	report     *findings.Report
	profile    Profile
	limits     limits
	provenance []versionControlDetails
	checks     []findings.Check
	weaknesses []int                       // of the CWE, sorted
	places     map[place]findings.Location // of the rules whose source is known
	// suppressing says that something is ignored: then all results say whether they are.
	suppressing bool
}

// place names a subject across the report.
type place struct{ provider, scope, id string }

// level returns the level at which the profile shows a finding of the given check.
func (w *writer) level(check string, l findings.Level) findings.Level {
	if w.profile == GitHub && check == findings.Undetermined {
		return findings.Warning
	}
	return l
}

func itoa(n int) string { return strconv.Itoa(n) }
