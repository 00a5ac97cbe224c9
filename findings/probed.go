package findings

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// ProbeAnswer is what asking the address of an exposure has shown. Its JSON form is the report's probe object.
type ProbeAnswer interface {
	// Sentence is the answer in words, without a full stop.
	Sentence() string
	// Proves returns the id of the check that the answer is evidence for: MemcachedAnswersTCP, MemcachedAmplifier, or "".
	Proves() string
}

// Raise reports findings under the check that the answers of the probe are evidence for. An answer may raise a finding and
// never lowers, closes or hides one: verdicts and coverages are those of the configuration, and stay. A finding keeps its
// fingerprint, so that a run without a probe does not look as if something had been mended.
func (r *Report) Raise() {
	for i := range r.Exposures {
		if x := &r.Exposures[i]; x.Probe != nil {
			x.Reason += sentence(" asked: " + x.Probe.Sentence())
		}
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		var proof *Exposure
		for _, at := range f.Exposures {
			x := &r.Exposures[at]
			if x.Probe == nil || x.Probe.Proves() == "" {
				continue
			}
			if proof == nil || rank(x.Probe.Proves()) < rank(proof.Probe.Proves()) {
				proof = x
			}
		}
		if proof == nil || !raisable(f.RuleID, proof) {
			continue
		}
		check, _ := CheckOf(proof.Probe.Proves())
		f.RuleID, f.Level = check.ID, check.Level
		f.Message = strings.TrimSuffix(f.Message, ".") + "; asked at '" + proof.Address + "', " + proof.Probe.Sentence() + "."
	}
	slices.SortFunc(r.Findings, compareFindings)
}

// raisable says whether an answer from x raises a finding of a check: where the world gets in by the rules, where there are
// none, and where it was not known whether anybody does. A range that is large or small stays what it is.
func raisable(id string, x *Exposure) bool {
	switch id {
	case ReachableFromInternet, NoFirewall:
		return true
	case ProviderNetworkOnly, Undetermined:
		return x.Coverage == cloud.World
	}
	return false
}

// rank orders the ids of checks by the evidence that they stand for, the strongest first.
func rank(id string) int { return slices.Index(byEvidence(), id) }

func compareFindings(a, b Finding) int {
	return cmp.Or(
		cmp.Compare(rank(a.RuleID), rank(b.RuleID)),
		cmp.Compare(a.Subject.Provider, b.Subject.Provider),
		cmp.Compare(a.Subject.Scope, b.Subject.Scope),
		cmp.Compare(a.Subject.List, b.Subject.List),
		cmp.Compare(a.Subject.Type, b.Subject.Type),
		cmp.Compare(a.Subject.ID, b.Subject.ID),
		cmp.Compare(a.State, b.State), // one that is absent may be of the rule of one that is not
		cmp.Compare(a.Fingerprint, b.Fingerprint),
	)
}

// recorded is an answer that was read back from a report: it is kept as it was written, and raises nothing again.
type recorded struct{ json.RawMessage }

func (recorded) Sentence() string { return "an earlier run recorded an answer" }
func (recorded) Proves() string   { return "" }

// UnmarshalJSON reads an exposure of an earlier report.
func (x *Exposure) UnmarshalJSON(data []byte) error {
	type plain Exposure // without this method
	in := struct {
		*plain
		Probe json.RawMessage `json:"probe"`
	}{plain: (*plain)(x)}
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	x.Probe = nil
	if len(in.Probe) > 0 && !bytes.Equal(in.Probe, []byte("null")) {
		x.Probe = recorded{in.Probe}
	}
	return nil
}
