package cli

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/cloudaudit/cloudaudit/internal/config"
)

// TestEveryFlagHasAKey: what scan takes on the command line it takes from the file, by the same name.
func TestEveryFlagHasAKey(t *testing.T) {
	var flags []string
	newScan(System{}).Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && f.Name != "config" {
			flags = append(flags, f.Name)
		}
	})
	keys := config.Flags()
	slices.Sort(keys)
	if diff := cmp.Diff(flags, keys); diff != "" {
		t.Errorf("(-flags +keys):\n%s", diff)
	}
}
