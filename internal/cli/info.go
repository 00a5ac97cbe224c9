package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/providers/aws"
	"github.com/cloudaudit/cloudaudit/providers/do"
	"github.com/cloudaudit/cloudaudit/providers/gcp"
)

// known is a cloud that cloudaudit reads, for people.
type known struct {
	name        string
	title       string
	reads       string
	credentials string
	permissions []string
	grant       string   // how to grant them
	writes      []string // what --fix needs besides
}

// registry is the explicit list of all providers, in the order in which they are shown.
func registry() []known {
	return []known{
		{
			name: "aws", title: "Amazon Web Services",
			reads: "Network interfaces with every address, security groups, network ACLs, route tables, gateways, block public access, " +
				"prefix lists, load balancers, accelerators and Lightsail, in every enabled region.",
			credentials: "The SDK's own chain: environment, shared configuration (--profile), IAM Identity Center, roles.",
			permissions: aws.Permissions(), grant: "deploy/iam/aws-read-policy.json is a policy with exactly these; --organization needs deploy/iam/aws-organization-policy.json too.",
			writes: aws.WritePermissions(),
		},
		{
			name: "do", title: "DigitalOcean",
			reads:       "Droplets with every address, reserved addresses, cloud firewalls with allow and deny rules, load balancers.",
			credentials: "DIGITALOCEAN_TOKEN or DIGITALOCEAN_ACCESS_TOKEN; several, separated by commas, are several teams.",
			permissions: do.Permissions(), grant: "Make a custom-scoped token with exactly these scopes.",
			writes: do.WritePermissions(),
		},
		{
			name: "gcp", title: "Google Cloud",
			reads: "Instances with every address, the effective firewall of each network and region (hierarchical and network policies, VPC " +
				"rules), forwarding rules with what is behind them, address groups, routes.",
			credentials: "Application Default Credentials, or GOOGLE_OAUTH_ACCESS_TOKEN; GOOGLE_CLOUD_PROJECT or --project.",
			permissions: gcp.Permissions(), grant: "deploy/iam/gcp-read-role.yaml is a custom role with exactly these.",
			writes: gcp.WritePermissions(),
		},
	}
}

func newProviders(sys System) *cobra.Command {
	names := []string{}
	for _, k := range registry() {
		names = append(names, k.name)
	}
	return &cobra.Command{
		Use:       "providers [NAME]...",
		Short:     "Show what is read of each cloud, and which permissions that needs",
		ValidArgs: names,
		Args: func(_ *cobra.Command, args []string) error {
			for _, a := range args {
				if !slices.Contains(names, a) {
					return &providers.Hint{Err: fmt.Errorf("no provider %q", a), Next: "want one of " + strings.Join(names, ", ")}
				}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			var b strings.Builder
			for _, k := range registry() {
				if len(args) > 0 && !slices.Contains(args, k.name) {
					continue
				}
				if b.Len() > 0 {
					b.WriteByte('\n')
				}
				fmt.Fprintf(&b, "%s (%s)\n", k.name, k.title)
				for _, field := range []struct{ label, text string }{{"reads", k.reads}, {"credentials", k.credentials}, {"permissions", k.grant}} {
					lines := wrap(field.text, 84)
					fmt.Fprintf(&b, "  %-12s %s\n", field.label, strings.Join(lines, "\n"+strings.Repeat(" ", 15)))
				}
				for _, p := range k.permissions {
					fmt.Fprintf(&b, "%15s%s\n", "", p)
				}
				fmt.Fprintf(&b, "  %-12s %s\n", "to fix", "scan --fix needs these besides; without it nothing is ever written.")
				for _, p := range k.writes {
					fmt.Fprintf(&b, "%15s%s\n", "", p)
				}
			}
			_, err := fmt.Fprint(sys.Stdout, b.String())
			return err
		},
	}
}

// wrap cuts text into lines of at most width bytes, between words.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

func newVersion(sys System) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(sys.Stdout, "cloudaudit %s (%s, %s/%s)\n", versionOf(sys), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// versionOf returns the version of the release, or else what the Go toolchain knows: the module's version, the commit.
func versionOf(sys System) string {
	if sys.Version != "" {
		return sys.Version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}
