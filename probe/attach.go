package probe

import (
	"strings"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
)

var _ findings.ProbeAnswer = (*Answer)(nil)

// Attach puts the answers of results to the exposures of report that they stand for, raises the findings that they prove,
// and says in their messages what else the answers of the first address show.
//
// Inside says whether an address of this machine is one of the provider's, and may be nil. What is asked from there has not
// come past the provider's own network: it is no proof for an exposure that only that network blocks, or of which it is not
// known whether anything is admitted.
func Attach(report *findings.Report, results []Result, inside func(provider, source string) bool) {
	answers := map[int]*Answer{} // by exposure
	for i := range results {
		x := &results[i]
		for _, at := range x.Exposures {
			exposure := &report.Exposures[at]
			if exposure.Protocol != x.Protocol {
				continue
			}
			a := x.Answer
			if (exposure.Verdict == cloud.ProviderOnly || exposure.Verdict == cloud.Unknown) && a.Proves() != "" &&
				inside != nil && inside(exposure.Provider, a.Source) {
				a.inside = true
				a.Note = join(a.Note, "asked from inside the provider, which proves nothing about the internet")
			}
			answers[at], exposure.Probe = &a, &a
		}
	}
	report.Raise()
	for i := range report.Findings {
		f := &report.Findings[i]
		var tcp, udp *Answer
		first := ""
		for _, at := range f.Exposures {
			x := &report.Exposures[at]
			if answers[at] == nil || first != "" && first != x.Address {
				continue
			}
			first = x.Address
			if x.Protocol == "udp" {
				udp = answers[at]
			} else {
				tcp = answers[at]
			}
		}
		if note := beside(tcp, udp); note != "" {
			f.Message = strings.TrimSuffix(f.Message, ".") + "; " + note + "."
		}
	}
}
