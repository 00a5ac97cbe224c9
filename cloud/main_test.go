package cloud_test

import (
	"flag"
	"os"
	"testing"
)

// A generated world costs a millisecond, and a rare one is what a bug needs: draw more than rapid does by itself, unless
// the command line says how many.
func TestMain(m *testing.M) {
	flag.Parse()
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		if err := checks.Value.Set("3000"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
