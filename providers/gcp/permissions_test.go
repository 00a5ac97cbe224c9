package gcp

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/gce"
	"github.com/cloudaudit/cloudaudit/providers/providertest"
	"github.com/cloudaudit/cloudaudit/remedy"
)

// TestPermissions compares what the code says that it needs with the role that the project ships and with what reading
// asks for: on a healthy cloud, and where it falls back to other calls.
func TestPermissions(t *testing.T) {
	asked := map[string]bool{}
	for _, c := range []struct {
		world   *gce.World
		config  Config
		refused []string
	}{
		{gce.Demo(), Config{Organizations: []string{gce.Demo().Organization}}, nil},
		{balancers(), Config{Projects: []string{"p"}}, nil},
		{balancers(), Config{Projects: []string{"p"}}, []string{"compute.networks.getRegionEffectiveFirewalls"}},
		{
			balancers(),
			Config{Projects: []string{"p"}},
			[]string{"compute.networks.getRegionEffectiveFirewalls", "compute.networks.getEffectiveFirewalls", "compute.instances.getEffectiveFirewalls"},
		},
	} {
		faults := emulate.WithFaults(c.world, refusing(c.refused...))
		p := open(t, faults, c.config)
		scopes, err := p.Scopes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range scopes {
			if _, err := p.Read(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		for operation := range faults.Calls() {
			asked[operation] = true
		}
	}
	if diff := cmp.Diff(Permissions(), slices.Sorted(maps.Keys(asked))); diff != "" {
		t.Errorf("Permissions() (-) and what is asked for (+):\n%s", diff)
	}

	roleHas(t, "../../deploy/iam/gcp-read-role.yaml", Permissions())
}

// TestWritePermissions: a role of exactly these permissions is what the fix is documented to need, and every write of a fix
// and of its undoing is among them.
func TestWritePermissions(t *testing.T) {
	roleHas(t, "../../deploy/iam/gcp-fix-role.yaml", WritePermissions())
	asked := map[string]bool{"compute.networks.updatePolicy": true} // which Google asks of who changes a firewall rule
	faults := emulate.WithFaults(fixScene(), nil)
	p := open(t, faults, Config{})
	plan := planOf(t, p, read(t, p, "p"), remedy.Options{})
	r := providertest.Runner(Name, p, &providertest.Journal{})
	if _, err := r.Do(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	history, err := remedy.ReadHistory(r.Journal.(*providertest.Journal).Records)
	if err == nil {
		err = r.Undo(t.Context(), history, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	for operation := range faults.Calls() {
		if !slices.Contains(Permissions(), operation) {
			asked[operation] = true
		}
	}
	if diff := cmp.Diff(WritePermissions(), slices.Sorted(maps.Keys(asked))); diff != "" {
		t.Errorf("WritePermissions() (-) and what is asked for (+):\n%s", diff)
	}
}

// roleHas compares a custom role with the permissions that it is to have.
func roleHas(t *testing.T, file string, want []string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var role struct {
		Title, Description, Stage string
		IncludedPermissions       []string `yaml:"includedPermissions"`
	}
	if err := yaml.Unmarshal(data, &role); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, role.IncludedPermissions); diff != "" {
		t.Errorf("permissions (-) and the role (+):\n%s", diff)
	}
	if role.Title == "" || role.Stage != "GA" {
		t.Errorf("the role's title is %q, its stage %q", role.Title, role.Stage)
	}
}
