package sarif

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/findings/jsonreport"
)

// Read reads what Write wrote, and refuses what another tool wrote. Whole says that nothing is lost: the file is of the
// profile Full. Of the profile GitHub the report has the scopes and the findings, without their evidence.
func Read(r io.Reader) (report *findings.Report, whole bool, err error) {
	var doc struct {
		Version string `json:"version"`
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name string `json:"name"`
				} `json:"driver"`
			} `json:"tool"`
			AutomationDetails automationDetails `json:"automationDetails"`
			Results           []struct {
				RuleID        string           `json:"ruleId"`
				BaselineState findings.State   `json:"baselineState"`
				Message       text             `json:"message"`
				Properties    resultProperties `json:"properties"`
			} `json:"results"`
			Properties runProperties `json:"properties"`
		} `json:"runs"`
		Properties *logProperties `json:"properties"`
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, false, err
	}
	if err := json.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), &doc); err != nil {
		return nil, false, fmt.Errorf("SARIF: %w", err)
	}
	if doc.Version != "2.1.0" {
		return nil, false, fmt.Errorf("SARIF: version is %q, want %q", escape.Visible(doc.Version), "2.1.0")
	}
	report = &findings.Report{Complete: true, Scopes: []findings.Scope{}, Exposures: []findings.Exposure{}, Findings: []findings.Finding{}}
	for i, run := range doc.Runs {
		if name := run.Tool.Driver.Name; name != "cloudaudit" {
			return nil, false, fmt.Errorf("SARIF: run %d is by %q, not by cloudaudit", i+1, escape.Visible(name))
		}
	}
	if doc.Properties != nil && len(doc.Properties.Report) > 0 {
		report, err = jsonreport.Read(bytes.NewReader(doc.Properties.Report))
		return report, err == nil, err
	}
	for i, run := range doc.Runs {
		if run.Properties.ResultsTotal > 0 {
			return nil, false, fmt.Errorf("SARIF: run %d has %d of %d results", i+1, len(run.Results), run.Properties.ResultsTotal)
		}
		p := run.Properties
		scope := p.Scope
		if scope == (cloud.Scope{}) {
			if scope, err = scopeOf(run.AutomationDetails.ID); err != nil {
				return nil, false, err
			}
		}
		report.Ports = p.Ports
		report.Complete = report.Complete && p.Complete
		report.Scopes = append(report.Scopes, findings.Scope{
			Scope: scope, Complete: p.Complete, Endpoints: p.Endpoints, Blocked: p.Blocked, Rules: p.Rules, Gaps: []cloud.Gap{},
		})
		for j, result := range run.Results {
			if n := result.Properties.FindingsTotal; n > 0 {
				return nil, false, fmt.Errorf("SARIF: result %d of run %d has %d of %d findings", j+1, i+1, len(result.Properties.Findings), n)
			}
			check, ok := findings.CheckOf(result.RuleID)
			if !ok {
				return nil, false, fmt.Errorf("SARIF: there is no check %q", escape.Visible(result.RuleID))
			}
			for _, p := range result.Properties.Findings {
				if p.Subject == nil {
					continue // what could not be read
				}
				f := findings.Finding{
					RuleID: check.ID, Level: check.Level, Fingerprint: p.Fingerprint, Message: p.Message, Scope: scope,
					State: result.BaselineState, Carried: p.Carried, Exposures: []int{}, With: append([]string{}, p.With...),
					Subject: findings.Subject{
						Provider: p.Subject.Provider, Scope: p.Subject.Scope, Type: p.Subject.Type, ID: p.Subject.ID, Name: p.Subject.Name,
						List: p.Subject.List, ListType: p.Subject.ListType, ListName: p.Subject.ListName, Text: p.Subject.Text,
					},
				}
				if f.Message == "" {
					f.Message = unlinkedMessage(result.Message.Text)
				}
				if p.Alone != nil {
					f.Alone = *p.Alone
				}
				report.Findings = append(report.Findings, f)
			}
		}
	}
	if len(doc.Runs) == 0 {
		return nil, false, errors.New("SARIF: the file has no run, and does not say who wrote it")
	}
	return report, false, nil
}

// scopeOf returns the scope that automation has named a run after.
func scopeOf(id string) (cloud.Scope, error) {
	parts := strings.Split(id, "/")
	if len(parts) < 4 || len(parts) > 5 || parts[0] != "cloudaudit" {
		return cloud.Scope{}, fmt.Errorf("SARIF: the run %q is not named after a scope", escape.Visible(id))
	}
	parts = parts[1 : len(parts)-1]
	for i := range parts {
		part, err := url.PathUnescape(parts[i])
		if err != nil {
			return cloud.Scope{}, fmt.Errorf("SARIF: the run %q is not named after a scope: %w", escape.Visible(id), err)
		}
		parts[i] = part
	}
	s := cloud.Scope{Provider: parts[0], Account: parts[1]}
	if len(parts) == 3 {
		s.Region = parts[2]
	}
	return s, nil
}

// unlinkedMessage returns a message as it was before alone has made links of the ids in it.
func unlinkedMessage(s string) string {
	var out strings.Builder
	for {
		from := strings.Index(s, "['")
		to := strings.Index(s, "'](")
		end := -1
		if to >= 0 {
			end = strings.IndexByte(s[to:], ')')
		}
		if from < 0 || to < from || end < 0 {
			break
		}
		out.WriteString(s[:from])
		out.WriteString(strings.NewReplacer(`\\`, `\`, `\[`, "[", `\]`, "]").Replace(s[from+1 : to+1]))
		s = s[to+end+1:]
	}
	return strings.NewReplacer("{{", "{", "}}", "}").Replace(out.String() + s)
}
