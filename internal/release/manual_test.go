package release

import (
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/cloudaudit/cloudaudit/internal/cli"
)

// manual wants a page for every command, no page that man complains about, and the pages that the units send a reader to.
func manual(t *testing.T, built tree) {
	dir := filepath.Join(built.dir, ".release", "man")
	var want []string
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden || c.IsAdditionalHelpTopicCommand() {
			return
		}
		want = append(want, strings.ReplaceAll(c.CommandPath(), " ", "-"))
		for _, child := range c.Commands() {
			walk(child)
		}
	}
	walk(cli.Tree())
	for _, unit := range unitFiles(t) {
		for _, page := range regexp.MustCompile(`man:(\S+)\(1\)`).FindAllStringSubmatch(unit, -1) {
			want = append(want, page[1])
		}
	}
	for _, name := range want {
		if _, err := os.Stat(filepath.Join(dir, name+".1.gz")); err != nil {
			t.Errorf("no page: %v", err)
		}
	}

	pages, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d pages: %v", len(pages), err)
	}
	for _, page := range pages {
		name := strings.TrimSuffix(filepath.Base(page), ".1.gz")
		if text := inflate(t, page); !strings.Contains(text, ".SH NAME") || !strings.Contains(text, strings.ReplaceAll(name, "-", `\-`)) && !strings.Contains(text, name) {
			t.Errorf("%s is not the page of %s:\n%.300s", page, name, text)
		}
	}
	t.Run("man", func(t *testing.T) {
		man := needTool(t, "man", "apt-get install man-db")
		for _, page := range pages {
			// As Debian's lintian asks for warnings. The stand-in for man in a minimised image renders nothing.
			cmd := exec.Command(man, "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page)
			cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANROFFSEQ=", "MANWIDTH=80")
			var warnings strings.Builder
			cmd.Stderr = &warnings
			out, err := cmd.Output()
			if err != nil || warnings.Len() > 0 {
				t.Errorf("man of %s: %v\n%s", filepath.Base(page), err, warnings.String())
			}
			if !strings.HasPrefix(string(out), "x T utf8") {
				lack(t, "man does not render here: apt-get install man-db")
			}
		}
	})
}

// completions wants one for each of four shells, and those of the shells that are here to be read by them.
func completions(t *testing.T, built tree) {
	dir := filepath.Join(built.dir, ".release", "completions")
	for file, shell := range map[string]string{"cloudaudit.bash": "bash", "_cloudaudit": "zsh", "cloudaudit.fish": "fish", "cloudaudit.ps1": ""} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.Contains(string(data), "cloudaudit") || len(data) < 1000 {
			t.Errorf("%s completes nothing: %d bytes", file, len(data))
		}
		if path, err := exec.LookPath(shell); shell != "" && err == nil {
			output(t, dir, nil, path, "-n", file)
		}
	}
}

func inflate(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return string(text)
}
