package gcp

import (
	"testing"

	"github.com/cloudaudit/cloudaudit/providers"
)

// TestNoProbeLabel: the label of an instance keeps the probe away from it, and from no other.
func TestNoProbeLabel(t *testing.T) {
	w := simple()
	p := &w.Projects[0]
	tagged := machine("tagged", "us-central1-a", "net", "10.1.0.9", "34.68.1.9")
	tagged.Labels = map[string]string{providers.NoProbeLabel: ""}
	p.Instances = append(p.Instances, tagged)
	for _, e := range readWorld(t, w).Endpoints {
		if e.NoProbe != (e.Name == "tagged") {
			t.Errorf("%s: no probe is %v", e.Name, e.NoProbe)
		}
	}
}
