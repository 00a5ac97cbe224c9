package do

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestPermissionsAreDocumented: the list that people copy is the list that is tested.
func TestPermissionsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../deploy/iam/do-read.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "```text\n")
	block, _, _ = strings.Cut(block, "```")
	if got := strings.Fields(block); !slices.Equal(got, Permissions()) {
		t.Errorf("documented %v, needed %v", got, Permissions())
	}
	for _, scope := range Permissions() {
		if !strings.Contains(string(text), "| `"+scope+"` |") {
			t.Errorf("%s is not explained", scope)
		}
	}
}
