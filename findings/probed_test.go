package findings

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// said is an answer of the probe.
type said struct {
	Words string `json:"words"`
	check string
}

func (s *said) Sentence() string { return s.Words }
func (s *said) Proves() string   { return s.check }

// TestRaise: an answer raises what the world gets in by, or what it was not known about; it never lowers anything, and leaves
// what is large or small what it is.
func TestRaise(t *testing.T) {
	udp, tcp, closed := &said{"it amplifies", MemcachedAmplifier}, &said{"it answers", MemcachedAnswersTCP}, &said{"nothing listened", ""}
	for _, c := range []struct {
		name     string
		base     string
		coverage cloud.Coverage
		answers  []ProbeAnswer
		want     string
	}{
		{"UDP", ReachableFromInternet, cloud.World, []ProbeAnswer{closed, udp}, MemcachedAmplifier},
		{"TCP", ReachableFromInternet, cloud.World, []ProbeAnswer{tcp, closed}, MemcachedAnswersTCP},
		{"both", ReachableFromInternet, cloud.World, []ProbeAnswer{tcp, udp}, MemcachedAmplifier},
		{"closed", ReachableFromInternet, cloud.World, []ProbeAnswer{closed, closed}, ReachableFromInternet},
		{"not asked", ReachableFromInternet, cloud.World, []ProbeAnswer{nil, nil}, ReachableFromInternet},
		{"no firewall", NoFirewall, cloud.World, []ProbeAnswer{nil, udp}, MemcachedAmplifier},
		{"only the provider", ProviderNetworkOnly, cloud.World, []ProbeAnswer{tcp, nil}, MemcachedAnswersTCP},
		{"undetermined", Undetermined, cloud.World, []ProbeAnswer{tcp, nil}, MemcachedAnswersTCP},
		{"wide", WideRange, cloud.Wide, []ProbeAnswer{tcp, udp}, WideRange},
		{"narrow", NarrowPublicRange, cloud.Narrow, []ProbeAnswer{tcp, nil}, NarrowPublicRange},
		{"one way", OneWay, cloud.World, []ProbeAnswer{tcp, nil}, OneWay},
	} {
		check, _ := CheckOf(c.base)
		r := &Report{
			Findings: []Finding{{RuleID: c.base, Level: check.Level, Message: "It is open.", Fingerprint: "f", Exposures: []int{0, 1}}},
		}
		for _, a := range c.answers {
			r.Exposures = append(r.Exposures, Exposure{Address: "54.84.1.2", Coverage: c.coverage, Verdict: cloud.Reachable, Reason: "Admitted.", Probe: a})
		}
		r.Raise()
		f := r.Findings[0]
		if want, _ := CheckOf(c.want); f.RuleID != c.want || f.Level != want.Level || f.Fingerprint != "f" {
			t.Errorf("%s: %s %s, fingerprint %s; want %s", c.name, f.RuleID, f.Level, f.Fingerprint, c.want)
		}
		if raised := c.want != c.base; raised != strings.Contains(f.Message, "asked at '54.84.1.2'") {
			t.Errorf("%s: message %q", c.name, f.Message)
		}
		for i, x := range r.Exposures {
			if c.answers[i] != nil && !strings.HasSuffix(x.Reason, c.answers[i].Sentence()+".") {
				t.Errorf("%s: reason %q", c.name, x.Reason)
			}
			if x.Verdict != cloud.Reachable || x.Coverage != c.coverage {
				t.Errorf("%s: the verdict became %s/%s", c.name, x.Verdict, x.Coverage)
			}
		}
	}
}

// TestRaiseSorts: what was raised comes first.
func TestRaiseSorts(t *testing.T) {
	r := &Report{
		Findings: []Finding{
			{RuleID: ReachableFromInternet, Subject: Subject{ID: "a"}, Exposures: []int{0}},
			{RuleID: ReachableFromInternet, Subject: Subject{ID: "b"}, Exposures: []int{1}},
		},
		Exposures: []Exposure{{}, {Probe: &said{"it amplifies", MemcachedAmplifier}}},
	}
	r.Raise()
	if r.Findings[0].Subject.ID != "b" {
		t.Errorf("the first finding is %+v", r.Findings[0])
	}
}

// TestRecordedAnswer: an answer in a report that is read back stays as it was written, and proves nothing anew.
func TestRecordedAnswer(t *testing.T) {
	text, err := json.Marshal(Exposure{Address: "54.84.1.2", AdmittedBy: []string{"sgr-1"}, Probe: &said{"it amplifies", MemcachedAmplifier}})
	if err != nil {
		t.Fatal(err)
	}
	var x Exposure
	if err := json.Unmarshal(text, &x); err != nil {
		t.Fatal(err)
	}
	if x.Address != "54.84.1.2" || x.Probe == nil || x.Probe.Proves() != "" || x.Probe.Sentence() == "" {
		t.Errorf("read back: %+v", x)
	}
	again, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != string(text) {
		t.Errorf("written again: %s, was %s", again, text)
	}
	if err := json.Unmarshal([]byte(`{"address": "a", "probe": null}`), &x); err != nil || x.Probe != nil {
		t.Errorf("null is read as %v, %v", x.Probe, err)
	}
}
