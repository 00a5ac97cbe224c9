package probe

import (
	"strings"

	"github.com/cloudaudit/cloudaudit/findings"
)

var _ findings.ProbeAnswer = (*Answer)(nil)

// Attach puts the answers of results to the exposures of report that they stand for, raises the findings that they prove,
// and says in their messages what else the answers of the first address show.
func Attach(report *findings.Report, results []Result) {
	answers := map[int]*Answer{} // by exposure
	for i := range results {
		x := &results[i]
		for _, at := range x.Exposures {
			if report.Exposures[at].Protocol == x.Protocol {
				answers[at] = &x.Answer
				report.Exposures[at].Probe = &x.Answer
			}
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
