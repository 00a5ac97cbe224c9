package probe

import (
	"strings"
	"testing"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
)

// TestAttach: answers go to the exposures of their protocol, raise what they prove, and old versions are named.
func TestAttach(t *testing.T) {
	report := func() *findings.Report {
		return &findings.Report{
			Exposures: []findings.Exposure{
				{Address: "54.84.1.2", Protocol: "tcp", Port: 11211, Verdict: cloud.Reachable, Coverage: cloud.World},
				{Address: "54.84.1.2", Protocol: "udp", Port: 11211, Verdict: cloud.Reachable, Coverage: cloud.World},
			},
			Findings: []findings.Finding{{RuleID: findings.ReachableFromInternet, Message: "It is open.", Exposures: []int{0, 1}}},
		}
	}
	tcp := Result{Protocol: "tcp", Exposures: []int{0, 1}, Answer: Answer{Product: "memcached", Version: "1.4.15"}}
	tcp.Answer.conclude(Open, ASCII)
	udp := Result{Protocol: "udp", Exposures: []int{0, 1}}

	udp.Answer.conclude(Closed, Refused)
	r := report()
	Attach(r, []Result{tcp, udp}, nil)
	if f := r.Findings[0]; f.RuleID != findings.MemcachedAnswersTCP || !strings.Contains(f.Message, "1.4.15 opens UDP by default") {
		t.Errorf("TCP alone: %s %q", f.RuleID, f.Message)
	}
	if a, ok := r.Exposures[1].Probe.(*Answer); !ok || a.Verdict != Closed {
		t.Errorf("the exposure over UDP has %+v", r.Exposures[1].Probe)
	}

	udp.Answer.conclude(Open, NOOP)
	r = report()
	Attach(r, []Result{tcp, udp}, nil)
	if f := r.Findings[0]; f.RuleID != findings.MemcachedAmplifier || f.Level != findings.Error {
		t.Errorf("TCP and UDP: %+v", f)
	}

	tcp.Answer.conclude(Filtered, Timeout)
	udp.Answer.conclude(Inconclusive, NoResponse)
	r = report()
	Attach(r, []Result{tcp, udp}, nil)
	if f := r.Findings[0]; f.RuleID != findings.ReachableFromInternet || strings.Contains(f.Message, "safe") {
		t.Errorf("silence: %s %q", f.RuleID, f.Message)
	}
}
