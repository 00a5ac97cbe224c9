package remedy

import (
	"fmt"
	"strings"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
)

// Commands returns what h does, in its way number way, as commands for a POSIX shell, one a line, in order. Names from the
// cloud stand in them as the words that they are, whatever they hold.
func (h *Hunk) Commands(rewriter providers.Rewriter, way int) ([]string, error) {
	return commands(rewriter, h.Ways[way].Edits)
}

func commands(rewriter providers.Rewriter, edits []cloud.Edit) ([]string, error) {
	var out []string
	for _, e := range edits {
		all, err := rewriter.Commands(e)
		if err != nil {
			return nil, fmt.Errorf("commands for %s: %w", e.List, err)
		}
		for _, words := range all {
			out = append(out, Quote(words))
		}
	}
	return out, nil
}

// Quote returns words as a command line on one line for a POSIX shell. Words with control characters are quoted as $'…',
// which POSIX.1-2024 added and bash, zsh, ksh and busybox know, so that nothing they hold reaches a terminal or ends the line.
func Quote(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = quote(w)
	}
	return strings.Join(out, " ")
}

func quote(word string) string {
	plain := word != ""
	control := false
	for _, c := range []byte(word) {
		plain = plain && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_-./:=,@%+", c) >= 0)
		control = control || c < ' ' || c >= 0x7f
	}
	switch {
	case plain:
		return word
	case !control:
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for _, c := range []byte(word) {
		switch {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&b, `\%03o`, c) // three digits, so that what follows is not taken for a further one
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}
