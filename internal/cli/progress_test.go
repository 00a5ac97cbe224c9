package cli

import (
	"bytes"
	"strings"
	"testing"
)

// TestProgress checks that a terminal is told how many scopes are done of all, and which are being read, with nothing in
// their names that a terminal would obey.
func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := showProgress(&out)
	p.expect(2)
	p.expect(1)
	for _, scope := range []string{"aws/1/eu-west-1", "do/\x1b[2Jteam", "gcp/shop"} {
		p.begin(scope)
	}
	p.done("aws/1/eu-west-1")
	p.done("gcp/shop")
	shown := out.String()
	for _, want := range []string{"reading aws/1/eu-west-1, do/", ", …", "(2/3)"} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not shown in %q", want, shown)
		}
	}
	if strings.Contains(shown, "\x1b[2Jteam") {
		t.Errorf("a name reaches the terminal as it is: %q", shown)
	}
	p.end()

	// Nothing is shown where nothing is asked for.
	quiet := &progress{}
	quiet.expect(1)
	quiet.begin("x")
	quiet.done("x")
	quiet.end()
}
