package aws_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
	"github.com/cloudaudit/cloudaudit/providers/aws"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// vector is a configuration with the right answer. testdata/vectors.yaml explains the fields.
type vector struct {
	ID        string              `yaml:"id"`
	Title     string              `yaml:"title"`
	Target    string              `yaml:"target"`
	Config    yaml.Node           `yaml:"config"`
	Expect    map[string]string   `yaml:"expect"`
	Admitting map[string][]string `yaml:"admitting_rules"`
	Blocker   string              `yaml:"blocker"`
}

func vectors(t *testing.T) (port uint16, all []vector) {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Port    uint16   `yaml:"port"`
		Vectors []vector `yaml:"vectors"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) < 30 {
		t.Fatalf("only %d vectors", len(file.Vectors))
	}
	return file.Port, file.Vectors
}

// TestVectors runs every vector through the emulated APIs and the provider.
func TestVectors(t *testing.T) {
	port, all := vectors(t)
	for _, v := range all {
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			var text bytes.Buffer
			if err := yaml.NewEncoder(&text).Encode(&v.Config); err != nil {
				t.Fatal(err)
			}
			world, err := ec2.ParseRegion(testAccount, text.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			for name, ports := range map[string][]uint16{"the port": {port}, "every port": nil} {
				p, _ := serve(t, world, testAccount, aws.Config{Ports: ports}, nil)
				snapshots := readAll(t, p)
				if len(snapshots) != 1 || len(snapshots[0].Gaps) != 0 {
					t.Fatalf("%s: %d snapshots, gaps %+v", name, len(snapshots), snapshots[0].Gaps)
				}
				check(t, v, port, snapshots[0])
			}
		})
	}
}

// check compares the strongest answer for the vector's target, by family and protocol, with what is expected.
func check(t *testing.T, v vector, port uint16, s *cloud.Snapshot) {
	t.Helper()
	rank := []cloud.Exposure{cloud.Blocked, cloud.ProviderOnly, cloud.OneWay, cloud.Unknown, cloud.Reachable}
	target := strings.TrimPrefix(v.Target, "lightsail:")
	verdicts := map[string]cloud.Exposure{}
	got := map[string]string{}
	admitted := map[string][]string{}
	stages := map[string]bool{}
	for _, p := range []string{"v4.tcp", "v4.udp", "v6.tcp", "v6.udp"} {
		got[p], verdicts[p] = "blocked", cloud.Blocked
	}
	families := map[traffic.Family]bool{}
	for _, a := range (cloud.Question{Ports: []uint16{port}}).Judge(s) {
		if a.Endpoint.Ref.ID != target {
			continue
		}
		families[a.Endpoint.Family] = true
		key := fmt.Sprintf("v%d.%s", a.Endpoint.Family, a.Service.Proto())
		if a.Exposure == cloud.Blocked {
			stages[a.Stage] = true
			continue
		}
		if slices.Index(rank, a.Exposure) <= slices.Index(rank, verdicts[key]) {
			continue
		}
		verdicts[key], got[key] = a.Exposure, fmt.Sprintf("%s/%s", a.Exposure, a.Coverage)
		ids := map[string]bool{}
		for _, by := range a.AdmittedBy {
			ids[by.Rule.Ref.ID] = true
		}
		admitted[key] = slices.Sorted(maps.Keys(ids))
	}
	if len(families) < 2 {
		stages["no_public_address"] = true // an absent address has no endpoint
	}
	if diff := cmp.Diff(v.Expect, got); diff != "" {
		t.Errorf("%s: verdicts (-want +got):\n%s", v.Title, diff)
	}
	for key, want := range v.Admitting {
		if diff := cmp.Diff(slices.Sorted(slices.Values(want)), admitted[key]); diff != "" {
			t.Errorf("%s: rules that admit %s (-want +got):\n%s", v.Title, key, diff)
		}
	}
	if v.Blocker != "" && !stages[v.Blocker] {
		t.Errorf("%s: blocked by %v, want %s", v.Title, slices.Sorted(maps.Keys(stages)), v.Blocker)
	}
}
