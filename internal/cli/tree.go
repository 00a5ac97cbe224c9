package cli

import "github.com/spf13/cobra"

// Tree returns the tree of all commands with their flags, for what is made from it: man pages and completions. It sees
// nothing of its surroundings, and is not meant to be run.
func Tree() *cobra.Command {
	return newRoot(System{Getenv: func(string) string { return "" }})
}
