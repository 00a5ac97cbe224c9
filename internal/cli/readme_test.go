package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/internal/cli"
)

// TestREADME checks that what the README shows is what the program does: its transcripts, policies, checks and statuses.
func TestREADME(t *testing.T) {
	data, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(data)

	transcripts := 0
	for _, block := range regexp.MustCompile("(?s)```console\n\\$ cloudaudit ([^\n]*)\n(.*?)\n```").FindAllStringSubmatch(readme, -1) {
		transcripts++
		var stdout, stderr bytes.Buffer
		cli.Run(t.Context(), cli.System{
			Args: strings.Fields(block[1]), Getenv: func(string) string { return "" }, Stdout: &stdout, Stderr: &stderr,
		})
		// A line with … alone stands for any number of lines.
		pattern := regexp.QuoteMeta("\n" + block[2] + "\n")
		pattern = strings.ReplaceAll(pattern, "\n…\n", "\n(?:.*\n)*?")
		if !regexp.MustCompile("^" + pattern + "$").MatchString("\n" + stdout.String()) {
			t.Errorf("`cloudaudit %s` does not print what the README shows; it prints\n%s%s", block[1], stdout.String(), stderr.String())
		}
	}
	if transcripts < 2 {
		t.Errorf("%d transcripts found", transcripts)
	}

	for _, file := range []string{"aws-read-policy.json", "gcp-read-role.yaml"} {
		policy, err := os.ReadFile(filepath.Join("../../deploy/iam", file))
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.Contains(readme, strings.TrimSpace(string(policy))) {
			t.Errorf("the README does not show deploy/iam/%s as it is", file)
		}
	}
	for _, c := range findings.Checks() {
		if !strings.Contains(readme, "| "+c.ID+" | "+c.Name+" | "+string(c.Level)+" |") {
			t.Errorf("the README does not list %s %s with level %s", c.ID, c.Name, c.Level)
		}
	}
	for _, link := range regexp.MustCompile(`\]\(([^)#]+)`).FindAllStringSubmatch(readme, -1) {
		if _, err := os.Stat(filepath.Join("../..", link[1])); err != nil {
			t.Errorf("dead link: %v", err)
		}
	}
}

// TestConfigurationPage checks that the files and commands that the page shows are taken.
func TestConfigurationPage(t *testing.T) {
	data, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	dir := t.TempDir()
	files := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(files) < 3 {
		t.Errorf("%d files found", len(files))
	}
	for _, f := range files {
		path := filepath.Join(dir, "cloudaudit.yaml")
		if err := os.WriteFile(path, []byte(f[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		status := cli.Run(t.Context(), cli.System{
			Args: []string{"config", "check", path}, Getenv: func(string) string { return "" }, Stdout: &stdout, Stderr: &stderr,
		})
		if status != cli.ExitClean {
			t.Errorf("a file of the page is refused: %s\n%s", stderr.String(), f[1])
		}
	}
	var help bytes.Buffer
	for _, command := range []string{"scan", "merge"} {
		cli.Run(t.Context(), cli.System{Args: []string{command, "--help"}, Getenv: func(string) string { return "" }, Stdout: &help, Stderr: &help})
	}
	for _, flag := range regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(page, -1) {
		if !strings.Contains(help.String(), flag+" ") {
			t.Errorf("the page names %s, and no help does", flag)
		}
	}
}
