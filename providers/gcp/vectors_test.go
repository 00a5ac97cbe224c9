package gcp

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/cloudaudit/cloudaudit/internal/emulate/gce"
)

// TestVectors reads every configuration of testdata/vectors.yaml over HTTP and compares verdict, coverage, admitting rules
// and the stage that blocks.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/vectors.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Port    uint16
		Vectors []struct {
			ID, Title, Target, Blocker string
			Config                     gce.Project
			Expect                     map[string]string
			Admitting                  map[string][]string `yaml:"admitting_rules"`
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) < 34 || file.Port != 11211 {
		t.Fatalf("%d vectors for port %d", len(file.Vectors), file.Port)
	}
	for i := range file.Vectors {
		v := &file.Vectors[i]
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			s := readWorld(t, &gce.World{Projects: []gce.Project{v.Config}})
			var stages []string
			for what, want := range v.Expect {
				got := ask(s, v.Target, what)
				if got.text != want {
					t.Errorf("%s: %s is %s (admitted by %v, stages %v), want %s", v.Title, what, got.text, got.admitted, got.stages, want)
				}
				if got.text == "blocked" {
					stages = append(stages, got.stages...)
				}
				if rules, ok := v.Admitting[what]; ok {
					var ids []string
					for _, r := range rules {
						ids = append(ids, strings.TrimPrefix(r, "firewalls/"))
					}
					slices.Sort(ids)
					if diff := cmp.Diff(ids, got.admitted); diff != "" {
						t.Errorf("%s: %s admitting rules:\n%s", v.Title, what, diff)
					}
				}
			}
			if blocker := strings.TrimPrefix(v.Blocker, "firewalls/"); blocker != "" && !slices.Contains(stages, blocker) {
				t.Errorf("%s: blocked by %v, want %s", v.Title, stages, blocker)
			}
		})
	}
}
