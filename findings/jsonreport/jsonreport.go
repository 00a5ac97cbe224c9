// Package jsonreport writes a report as the JSON document that other programs build on. The same report gives the same
// bytes, and within one version of Schema no field changes its meaning.
package jsonreport

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
)

// Schema names the form that Write writes.
const Schema = "cloudaudit.report/v1"

type document struct {
	Schema string `json:"schema"`
	*findings.Report
}

// Write writes r to w as one indented document with a line feed at its end. Lists are never null, and what a terminal
// would not show is written as a \u escape.
func Write(w io.Writer, r *findings.Report) error {
	var doc bytes.Buffer
	enc := json.NewEncoder(&doc)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(document{Schema, filled(r)}); err != nil {
		return fmt.Errorf("JSON report: %w", err)
	}
	_, err := w.Write(escape.JSON(doc.Bytes()))
	return err
}

// filled returns r with empty lists for those that are nil.
func filled(r *findings.Report) *findings.Report {
	out := *r
	out.Scopes = append([]findings.Scope{}, r.Scopes...)
	for i := range out.Scopes {
		out.Scopes[i].Gaps = append([]cloud.Gap{}, out.Scopes[i].Gaps...)
	}
	out.Exposures = append([]findings.Exposure{}, r.Exposures...)
	for i := range out.Exposures {
		x := &out.Exposures[i]
		x.AdmittedBy, x.Assumes = append([]string{}, x.AdmittedBy...), append([]string{}, x.Assumes...)
	}
	out.Findings = append([]findings.Finding{}, r.Findings...)
	for i := range out.Findings {
		f := &out.Findings[i]
		f.Exposures, f.With = append([]int{}, f.Exposures...), append([]string{}, f.With...)
		f.Fixes = append([]findings.Fix{}, f.Fixes...)
		if r.Shard == nil {
			f.Sources = findings.Sources{}
		}
	}
	if r.Shard == nil {
		out.Covers = nil
	}
	return &out
}

// Read reads what Write wrote. Fields that it does not know are left out: a later version may have added them.
func Read(r io.Reader) (*findings.Report, error) {
	doc := document{Report: &findings.Report{}}
	dec := json.NewDecoder(r)
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("JSON report: %w", err)
	}
	if doc.Schema != Schema {
		return nil, fmt.Errorf("JSON report: schema is %q, want %q", escape.Visible(doc.Schema), Schema)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("JSON report: something follows the document")
	}
	if !doc.Shard.Valid() {
		return nil, errors.New("JSON report: the shard is none")
	}
	report := filled(doc.Report)
	for i := range report.Findings {
		f := &report.Findings[i]
		for _, at := range f.Exposures {
			if at < 0 || at >= len(report.Exposures) {
				return nil, fmt.Errorf("JSON report: finding %d has exposure %d, of %d", i, at, len(report.Exposures))
			}
		}
		if f.Scope == (cloud.Scope{}) {
			f.Scope = scopeOf(report, f)
		}
	}
	return report, nil
}

// scopeOf returns where f is reported, which older documents do not say: where its evidence is, or else its
// subject. Accounts have no slash in them.
func scopeOf(r *findings.Report, f *findings.Finding) cloud.Scope {
	if len(f.Exposures) > 0 {
		x := &r.Exposures[f.Exposures[0]]
		return cloud.Scope{Provider: x.Provider, Account: x.Account, Region: x.Region}
	}
	account, region, _ := strings.Cut(f.Subject.Scope, "/")
	return cloud.Scope{Provider: f.Subject.Provider, Account: account, Region: region}
}
