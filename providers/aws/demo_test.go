package aws_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
	"github.com/cloudaudit/cloudaudit/providers/aws"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// lines writes what is exposed, one line an answer: who, where, what, how much, and through which rules.
func lines(snapshots []*cloud.Snapshot, ports ...uint16) []string {
	var out []string
	for _, s := range snapshots {
		for _, a := range (cloud.Question{Ports: ports}).Judge(s) {
			if a.Exposure == cloud.Blocked {
				continue
			}
			ids := map[string]bool{}
			for _, by := range a.AdmittedBy {
				ids[by.Rule.Ref.ID] = true
			}
			line := fmt.Sprintf("%s %s (%s) at %s %s", s.Scope.Region, a.Endpoint.Ref.ID, a.Endpoint.Name, a.Endpoint.Address(), traffic.FormatService(a.Service))
			if a.Front != a.Service {
				line += " front " + traffic.FormatService(a.Front)
			}
			line += fmt.Sprintf(": %s/%s by %s", a.Exposure, a.Coverage, strings.Join(slices.Sorted(maps.Keys(ids)), "+"))
			if a.Stage != "" {
				line += ", " + a.Stage
			}
			out = append(out, line)
		}
	}
	return out
}

func TestDemo(t *testing.T) {
	w := ec2.Demo()
	p, _ := serve(t, w, w.Management, aws.Config{Organization: true, Role: ec2.DemoRole, Ports: []uint16{11211}}, nil)
	want := []string{
		"eu-west-1 blog (blog) at 2a05:d018:1:2::9 udp/11211: reachable/world by blog#2",
		"eu-west-1 eni-0eu (cache-dublin) at 75.2.60.5 tcp/11211: reachable/world by sgr-0eu",
		"eu-west-1 eni-0eu (cache-dublin) at 99.83.190.51 tcp/11211: reachable/world by sgr-0eu",
		"us-east-1 eni-0cdn (arn:aws:ecs:us-east-1:111122223333:attachment/cdn-cache) at 54.84.10.17 tcp/11211: reachable/wide by sgr-0wide",
		"us-east-1 eni-0fragments (cache-fragments) at 54.84.10.12 udp/11211: reachable/world by sgr-0udp",
		"us-east-1 eni-0inspected (cache-inspected) at 54.84.10.50 tcp/11211: unknown/world by sgr-0tcp, middlebox",
		"us-east-1 eni-0muted (cache-write-only) at 54.84.10.30 udp/11211: oneway/world by sgr-0udp, nacl_out",
		"us-east-1 eni-0office (cache-office) at 54.84.10.14 tcp/11211: reachable/world by sgr-0list",
		"us-east-1 eni-0orders (cache-orders) at 54.84.10.90 tcp/11211 front tcp/443: reachable/world by sgr-0vpc",
		"us-east-1 eni-0partner (cache-partner) at 54.84.10.16 tcp/11211: reachable/narrow by sgr-0part",
		"us-east-1 eni-0pods (shop-node-1) at 2600:1f18:1:100:abcd::/80 tcp/11211: reachable/world by sgr-0six",
		"us-east-1 eni-0pods (shop-node-1) at 2600:1f18:1:100:abcd::/80 udp/11211: reachable/world by sgr-0six",
		"us-east-1 eni-0search (cache-search) at 54.84.10.13 tcp/11211: reachable/world by sgr-0high+sgr-0low",
		"us-east-1 eni-0sessions (cache-sessions) at 54.84.10.10 tcp/11211: reachable/world by sgr-0tcp",
		"eu-west-1 eni-0lab (lab-cache) at 3.250.20.10 tcp/11211: reachable/world by sgr-0lab",
		"eu-west-1 eni-0lab (lab-cache) at 3.250.20.10 udp/11211: reachable/world by sgr-0lab",
	}
	if diff := cmp.Diff(want, lines(readAll(t, p), 11211)); diff != "" {
		t.Errorf("exposures (-want +got):\n%s", diff)
	}
}
