// Command manual writes what packages carry beside the binary, the man pages and the completions of the shells, from the
// tree of commands itself. The same tree and date give the same bytes.
package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/cloudaudit/cloudaudit/internal/cli"
)

func main() {
	date := flag.String("date", "", "`date` that the pages bear, as in RFC 3339")
	flag.Parse()
	if err := run(*date, flag.Args()); err != nil {
		fmt.Fprintf(os.Stderr, "manual: %v\n", err)
		os.Exit(1)
	}
}

// run writes DIR/man/*.1.gz and DIR/completions/{cloudaudit.bash,_cloudaudit,cloudaudit.fish,cloudaudit.ps1}.
func run(date string, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: manual -date DATE DIR")
	}
	day, err := time.Parse(time.RFC3339, date)
	if err != nil {
		return fmt.Errorf("-date: %w", err)
	}
	if err := writePages(cli.Tree(), day.UTC(), filepath.Join(args[0], "man")); err != nil {
		return err
	}
	return writeCompletions(cli.Tree(), filepath.Join(args[0], "completions"))
}

// writePages writes one page a command, compressed as Debian's policy wants it. Pages of commands that are no more go away.
func writePages(root *cobra.Command, day time.Time, dir string) error {
	if err := fresh(dir); err != nil {
		return err
	}
	var write func(cmd *cobra.Command) error
	write = func(cmd *cobra.Command) error {
		if !cmd.IsAvailableCommand() && cmd.HasParent() || cmd.IsAdditionalHelpTopicCommand() {
			return nil
		}
		cmd.DisableAutoGenTag = true
		var page bytes.Buffer
		header := doc.GenManHeader{Section: "1", Source: "cloudaudit", Manual: "cloudaudit manual", Date: &day}
		if err := doc.GenMan(cmd, &header, &page); err != nil {
			return fmt.Errorf("page of %s: %w", cmd.CommandPath(), err)
		}
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1.gz"
		if err := compress(filepath.Join(dir, name), page.Bytes()); err != nil {
			return err
		}
		for _, child := range cmd.Commands() {
			if err := write(child); err != nil {
				return err
			}
		}
		return nil
	}
	root.InitDefaultCompletionCmd("bash")
	return write(root)
}

func writeCompletions(root *cobra.Command, dir string) error {
	if err := fresh(dir); err != nil {
		return err
	}
	return errors.Join(
		root.GenBashCompletionFileV2(filepath.Join(dir, "cloudaudit.bash"), true),
		root.GenZshCompletionFile(filepath.Join(dir, "_cloudaudit")),
		root.GenFishCompletionFile(filepath.Join(dir, "cloudaudit.fish"), true),
		root.GenPowerShellCompletionFileWithDesc(filepath.Join(dir, "cloudaudit.ps1")),
	)
}

// fresh makes dir an empty directory.
func fresh(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o755)
}

// compress writes text to path with gzip, without a time or a name in its header.
func compress(path string, text []byte) error {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}
