package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cloudaudit/cloudaudit/internal/cli"
)

// threshold is the most that `systemd-analyze security` may find to say against the service, in tenths: what remains is
// that it uses the network and the file system of the machine.
const threshold = "15"

// unitFiles returns the units and the environment file by name.
func unitFiles(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "deploy", "systemd", "*"))
	if err != nil || len(paths) < 3 {
		t.Fatalf("deploy/systemd has %d files: %v", len(paths), err)
	}
	out := map[string]string{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(path)] = string(data)
	}
	return out
}

// units wants systemd to find nothing wrong with the units of the checkout, and little to attack in the service.
func units(t *testing.T, built tree) {
	dir := t.TempDir()
	for name, text := range unitFiles(t) {
		if filepath.Ext(name) != ".env" {
			write(t, filepath.Join(dir, "usr/lib/systemd/system", name), text, 0o644)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(built.binary, filepath.Join(dir, "usr/bin/cloudaudit")); err != nil {
		t.Fatal(err)
	}
	verifyUnits(t, dir)

	// A word that systemd does not know is a warning to it, and no error.
	service := filepath.Join(dir, "usr/lib/systemd/system/cloudaudit.service")
	write(t, service, strings.Replace(unitFiles(t)["cloudaudit.service"], "PrivateTmp=", "PrivatTmp=", 1), 0o644)
	if out, err := verify(t, dir); err != nil || !strings.Contains(out, "PrivatTmp") {
		t.Errorf("systemd-analyze verify has nothing to say about a misspelt setting: %q %v", out, err)
	}
}

// verifyUnits wants systemd to accept the units that are installed below dir and to judge the service well enough.
func verifyUnits(t *testing.T, dir string) {
	t.Helper()
	if out, err := verify(t, dir); err != nil || out != "" {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err := exec.Command(needTool(t, "systemd-analyze", "apt-get install systemd"), "security", "--offline=true", "--no-pager",
		"--threshold="+threshold, filepath.Join(dir, "usr/lib/systemd/system/cloudaudit.service")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Overall exposure level") {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

// verify returns what systemd has to say about the units below dir. What these want of systemd itself is put beside them if
// it is not there.
func verify(t *testing.T, dir string) (string, error) {
	t.Helper()
	analyze := needTool(t, "systemd-analyze", "apt-get install systemd")
	if dir != "/" {
		targets, err := filepath.Glob("/lib/systemd/system/*.target")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range targets {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "usr/lib/systemd/system", filepath.Base(path)), string(data), 0o644)
		}
	}
	out, err := exec.Command(analyze, "verify", "--man=no", "--root="+dir, "cloudaudit.service", "cloudaudit.timer").CombinedOutput()
	return string(out), err
}

// TestUnitFlags reads the command line of the service, and the variables of its environment file, as `scan` would.
func TestUnitFlags(t *testing.T) {
	scan, rest, err := cli.Tree().Find([]string{"scan"})
	if err != nil || len(rest) > 0 {
		t.Fatalf("no command scan: %v", err)
	}
	files := unitFiles(t)
	start := regexp.MustCompile(`(?m)^ExecStart=/usr/bin/cloudaudit scan (.*)$`).FindStringSubmatch(files["cloudaudit.service"])
	if start == nil {
		t.Fatal("cloudaudit.service does not run `/usr/bin/cloudaudit scan`")
	}
	arguments := strings.Fields(start[1])
	for _, argument := range arguments {
		name, isFlag := strings.CutPrefix(argument, "--")
		name, _, _ = strings.Cut(name, "=")
		if isFlag && scan.Flag(name) == nil {
			t.Errorf("cloudaudit.service: scan has no flag --%s", name)
		}
	}
	for _, variable := range regexp.MustCompile(`(?m)^#?CLOUDAUDIT_([A-Z_]+)=`).FindAllStringSubmatch(files["cloudaudit.env"], -1) {
		name := strings.ToLower(strings.ReplaceAll(variable[1], "_", "-"))
		if scan.Flag(name) == nil {
			t.Errorf("cloudaudit.env: %s is not of a flag: scan has no --%s", variable[1], name)
		}
	}
	if !t.Failed() {
		if err := scan.ParseFlags(arguments); err != nil || scan.Flags().NArg() > 0 {
			t.Errorf("cloudaudit.service: scan does not take %q: %v, and %q is left over", arguments, err, scan.Flags().Args())
		}
	}
}
