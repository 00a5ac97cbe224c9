package aws_test

import (
	"testing"

	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/providers/aws"
)

// TestNoProbeTag: the tag of an interface, or of its instance, keeps the probe away.
func TestNoProbeTag(t *testing.T) {
	tags := []ec2.Tag{{Key: "Name", Value: "cache"}, {Key: providers.NoProbeTag, Value: "yes"}}
	for name, c := range map[string]struct {
		change func(*ec2.Region)
		want   bool
	}{
		"no tag":       {func(*ec2.Region) {}, false},
		"another tag":  {func(r *ec2.Region) { r.NetworkInterfaces[0].TagSet = tags[:1] }, false},
		"an interface": {func(r *ec2.Region) { r.NetworkInterfaces[0].TagSet = tags }, true},
		"an instance": {func(r *ec2.Region) {
			r.NetworkInterfaces[0].TagSet = tags[:1]
			r.Instances = []ec2.Instance{{InstanceID: "i-1", State: "running", Tags: tags}}
		}, true},
	} {
		r := publicRegion("us-east-1", "54.84.1.2", open("sgr-1", "sg-1"))
		c.change(r)
		p, _ := serve(t, oneAccount(r), testAccount, aws.Config{}, nil)
		for _, s := range readAll(t, p) {
			for _, e := range s.Endpoints {
				if e.NoProbe != c.want {
					t.Errorf("%s: no probe is %v", name, e.NoProbe)
				}
			}
		}
	}
}
