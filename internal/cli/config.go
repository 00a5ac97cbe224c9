package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/internal/config"
	"github.com/cloudaudit/cloudaudit/providers"
)

// newConfig is the command about the configuration file.
func newConfig(sys System) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check the configuration file, or show an example and its schema",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	show := func(use, short string, content func() string) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(sys.Stdout, content())
			return err
		}}
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "check [FILE]",
			Short: "Say what is wrong with a configuration file, line by line",
			Long: `Check reads a configuration file, cloudaudit.yaml if none is named, and says what is wrong with it.

Exit status: 0 if nothing is, 2 otherwise.`,
			Args: cobra.MaximumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				path := config.Name
				if len(args) > 0 {
					path = args[0]
				}
				c, err := readConfig(sys, path)
				if err != nil {
					return err
				}
				// The values of flags are checked as scan does.
				if err := apply(newScan(sys), c); err != nil {
					return err
				}
				var none findings.Report
				c.Suppress(&none, time.Now().UTC())
				for _, n := range none.Notices {
					fmt.Fprintln(sys.Stderr, n)
				}
				_, err = fmt.Fprintf(sys.Stdout, "%s is well: %d settings, %d ignores, %d notifications\n", path, len(c.Flags), len(c.Ignores), len(c.Notifications))
				return err
			},
		},
		show("example", "Show a configuration file that explains itself", func() string { return config.Example }),
		show("schema", "Show the JSON schema of the configuration file, for editors", func() string { return string(config.Schema()) }),
	)
	return cmd
}

// configure reads the configuration file and sets the flags of cmd that neither were given nor stand in the environment. It
// returns nil if no file is named and there is none.
func configure(cmd *cobra.Command, sys System, path string) (*config.Config, error) {
	named := path != ""
	if !named {
		path = config.Name
	}
	c, err := readConfig(sys, path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return c, apply(cmd, c)
}

func readConfig(sys System, path string) (*config.Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, &providers.Hint{Err: fmt.Errorf("configuration: %w", err), Next: "`cloudaudit config example` shows one"}
	}
	c, err := config.Load(path, data)
	if err != nil {
		// Each mistake has a line of its own, as compilers write it.
		if all, ok := err.(interface{ Unwrap() []error }); ok {
			mistakes := all.Unwrap()
			err = mistakes[len(mistakes)-1]
			for _, m := range mistakes[:len(mistakes)-1] {
				fmt.Fprintf(sys.Stderr, "cloudaudit: %s\n", escape.Terminal(m.Error()))
			}
		}
		return nil, &providers.Hint{Err: err, Next: "`cloudaudit config example` shows every key"}
	}
	return c, nil
}

// apply sets the flags that c has and that are not set yet.
func apply(cmd *cobra.Command, c *config.Config) error {
	for _, s := range c.Flags {
		f := cmd.Flags().Lookup(s.Flag)
		if f == nil || f.Changed {
			continue
		}
		for _, v := range s.Values {
			if err := cmd.Flags().Set(s.Flag, v); err != nil {
				return fmt.Errorf("%s:%d: %w", c.File, s.Line, err)
			}
		}
	}
	return nil
}

// suppress marks what the configuration ignores.
func suppress(r *findings.Report, c *config.Config) {
	if c != nil {
		r.Notices = nil
		c.Suppress(r, time.Now().UTC())
	}
}
