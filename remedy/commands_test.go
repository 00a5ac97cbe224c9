package remedy

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestShellReadsTheSameWords: whatever a cloud's names hold, a shell takes a command line apart into the words that it was
// made of, and nothing in it reaches a terminal.
func TestShellReadsTheSameWords(t *testing.T) {
	words := []string{
		"plain-word.1", "", " ", "two words", "it's", `"quoted"`, "$(touch /tmp/x)", "`id`", "a\nb", "\x1b[31mred", "$HOME", `back\slash`,
		"*?[a]", "~", "#no", "a;b|c&d>e<f", "!x", "\t7", "ümlaut", "\x1b7", "-rf", "a=b", "{a,b}", "'\n'$(x)\\",
	}
	line := Quote(words)
	if strings.ContainsAny(line, "\n\x1b\t") {
		t.Errorf("control characters in %q", line)
	}
	shell, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal("bash is needed to read command lines back")
	}
	out, err := exec.Command(shell, "-c", `printf '%s\0' `+line).Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	if !slices.Equal(got, words) {
		t.Errorf("the shell reads\n%q, want\n%q", got, words)
	}
}
