package cli

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings/text"
	"github.com/cloudaudit/cloudaudit/providers"
)

func newExplain(sys System) *cobra.Command {
	var in sourceFlags
	var ask questionFlags
	var m manners
	var demo bool
	cmd := &cobra.Command{
		Use:   "explain ADDR",
		Short: "Show the path of a packet to one endpoint, and which rule decides",
		Long: `Explain reads the clouds as scan does and shows, for one endpoint, every hop, layer and rule that a packet from the
internet meets on its way, and which of them decides. ADDR is a public or private address, the DNS name of a balancer, or
the id or name of an interface, instance or droplet.

Exit status: 0 if the endpoint was found, 2 if it was not or the usage is wrong, 3 if it was not found and something could
not be read.`,
		Example: "  cloudaudit explain 54.84.1.2\n  cloudaudit explain --snapshot monday.json i-0123456789abcdef0\n  cloudaudit explain --demo 54.84.10.11",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &providers.Hint{Err: fmt.Errorf("explain takes one address, got %d", len(args)), Next: "for example `cloudaudit explain 54.84.1.2`"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var sources []source
			if demo {
				emulated, err := startDemo(cmd.Context())
				if err != nil {
					return err
				}
				defer emulated.stop()
				sources = emulated.sources
			}
			return explain(cmd.Context(), sys, args[0], &in, &ask, &m, sources)
		},
	}
	in.register(cmd.Flags(), true)
	ask.register(cmd.Flags())
	m.register(cmd.Flags())
	cmd.Flags().BoolVar(&demo, "demo", false, "explain an endpoint of the emulated clouds of the demo command")
	return cmd
}

func explain(ctx context.Context, sys System, name string, in *sourceFlags, ask *questionFlags, m *manners, sources []source) error {
	question, err := ask.question()
	if err != nil {
		return err
	}
	useColor, err := colored(m.color, sys.Stdout, sys.Getenv)
	if err != nil {
		return err
	}
	log, err := m.logger(sys.Stderr)
	if err != nil {
		return err
	}
	if sources == nil {
		if sources, err = sourcesOf(sys, in, question.Ports, m, log); err != nil {
			return err
		}
	}
	snapshots, err := gather(ctx, sys, in, m, log, sources)
	if err != nil {
		return err
	}
	slices.SortFunc(snapshots, func(a, b *cloud.Snapshot) int { return compareScopes(a.Scope, b.Scope) })

	var found []text.Explained
	gaps := 0
	for _, s := range snapshots {
		gaps += len(s.Gaps)
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if !named(e, name) {
				continue
			}
			for _, svc := range question.Services() {
				if a, steps, ok := question.Trace(e, svc); ok {
					found = append(found, text.Explained{Answer: a, Steps: steps})
				}
			}
		}
	}
	if len(found) == 0 {
		err := fmt.Errorf("no endpoint %q in the %d scopes that were read", name, len(snapshots))
		if gaps > 0 {
			return &exit{ExitIncomplete, &providers.Hint{Err: fmt.Errorf("%w, of which a part could not be read", err), Next: "see what is missing with `cloudaudit scan`"}}
		}
		return &providers.Hint{Err: err, Next: "give an address, a balancer's DNS name, or the id or name of an interface, instance or droplet"}
	}
	var b bytes.Buffer
	if err := text.Explain(&b, found, text.Options{Color: useColor, Width: terminalWidth(sys.Stdout)}); err != nil {
		return err
	}
	_, err = sys.Stdout.Write(b.Bytes())
	return err
}

// named says whether name means e.
func named(e *cloud.Endpoint, name string) bool {
	if a, err := netip.ParseAddr(name); err == nil {
		a = a.Unmap()
		return e.Addr == a || e.Prefix.Contains(a)
	}
	return slices.ContainsFunc([]string{e.Ref.ID, e.Name, e.Instance, e.Host, e.Via.ID, e.Address()}, func(s string) bool {
		return s != "" && strings.EqualFold(s, name)
	})
}
