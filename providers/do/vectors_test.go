package do

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/cloudaudit/cloudaudit/cloud"
	world "github.com/cloudaudit/cloudaudit/internal/emulate/do"
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
			Config                     struct {
				Scene         world.Scene `yaml:",inline"`
				PlatformBlock bool        `yaml:"platform_block_11211"`
			}
			Expect    map[string]string
			Admitting map[string][]string `yaml:"admitting_rules"`
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) < 15 || file.Port != 11211 {
		t.Fatalf("%d vectors for port %d", len(file.Vectors), file.Port)
	}
	for _, v := range file.Vectors {
		t.Run(v.ID, func(t *testing.T) {
			// "<firewall name>/inbound_rules[n]" is the rule that reports call "<firewall id>#n".
			names := map[string]string{"(no firewall attached)": "none"}
			for _, f := range v.Config.Scene.Firewalls {
				names[f.Name] = f.ID
			}
			id := func(rule string) string {
				if name, n, ok := strings.Cut(rule, "/inbound_rules["); ok {
					return names[name] + "#" + strings.TrimSuffix(n, "]")
				}
				if known, ok := names[rule]; ok {
					return known
				}
				return rule
			}

			s := single(t, v.Config.Scene)
			question := cloud.Question{Ports: []uint16{file.Port}, NoPlatformBlock: !v.Config.PlatformBlock}
			var stages []string
			for what, want := range v.Expect {
				got := askWith(question, s, v.Target, what)
				if got.text != want {
					t.Errorf("%s: %s is %s (admitted by %v, stages %v), want %s", v.Title, what, got.text, got.admitted, got.stages, want)
				}
				if got.text == "blocked" {
					stages = append(stages, got.stages...)
				}
				if rules, ok := v.Admitting[what]; ok {
					var ids []string
					for _, r := range rules {
						ids = append(ids, id(r))
					}
					slices.Sort(ids)
					slices.Sort(got.admitted)
					if diff := cmp.Diff(ids, got.admitted); diff != "" {
						t.Errorf("%s: %s admitting rules:\n%s", v.Title, what, diff)
					}
				}
			}
			if v.Blocker != "" && !slices.Contains(stages, id(v.Blocker)) {
				t.Errorf("%s: blocked by %v, want %s", v.Title, stages, id(v.Blocker))
			}
		})
	}
}
