package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	emulateddo "github.com/cloudaudit/cloudaudit/internal/emulate/do"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
	"github.com/cloudaudit/cloudaudit/internal/emulate/gce"
	"github.com/cloudaudit/cloudaudit/providers/aws"
	"github.com/cloudaudit/cloudaudit/providers/do"
	"github.com/cloudaudit/cloudaudit/providers/gcp"
)

func newDemo(sys System) *cobra.Command {
	var flags scanFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Scan emulated clouds in this process, without any account",
		Long: `Demo starts an emulated AWS, DigitalOcean and Google Cloud on the loopback interface of this machine, with a small
organisation in them that has every kind of finding, and scans them through the real SDKs; with --fix it mends them too. No
account is needed, and nothing leaves the machine. What --fix writes ends with the demo, and so does its journal.

Exit status: 1, for there are findings; with --fail-on, --severity and --fix as in scan.`,
		Example: "  cloudaudit demo\n  cloudaudit demo --fix --dry-run\n  cloudaudit demo --format sarif\n  cloudaudit demo --output html=demo.html",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			clouds, err := startDemo(cmd.Context())
			if err != nil {
				return err
			}
			defer clouds.stop()
			flags.in.concurrency = 16
			if flags.mend.fix {
				// Nothing real is changed: there is nothing to ask, to limit, or to keep for later.
				flags.mend.yes, flags.mend.passes = true, true
				if !cmd.Flags().Changed("max-changes") {
					flags.mend.maxChanges = 0
				}
				state, err := os.MkdirTemp("", "cloudaudit-demo-")
				if err != nil {
					return fmt.Errorf("a place for the journal: %w", err)
				}
				defer os.RemoveAll(state)
				getenv := sys.Getenv
				sys.Getenv = func(name string) string {
					if name == "XDG_STATE_HOME" {
						return state
					}
					return getenv(name)
				}
			}
			return scan(cmd.Context(), sys, &flags, clouds.sources, nil)
		},
	}
	flags.mend.register(cmd.Flags())
	flags.ask.register(cmd.Flags())
	flags.out.register(cmd.Flags())
	flags.since.register(cmd.Flags())
	flags.manners.register(cmd.Flags())
	return cmd
}

// emulated is the clouds of the demo, with providers that read them.
type emulated struct {
	sources []source
	servers []*http.Server
}

// startDemo serves the demo's clouds on loopback ports of the system's choice.
func startDemo(ctx context.Context) (*emulated, error) {
	var e emulated
	serve := func(h http.Handler) (string, error) {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return "", fmt.Errorf("serve an emulated cloud: %w", err)
		}
		server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
		e.servers = append(e.servers, server)
		go func() {
			_ = server.Serve(listener) // ends with stop
		}()
		return "http://" + listener.Addr().String(), nil
	}
	amazon, digitalocean, google := ec2.Demo(), emulateddo.Demo(), gce.Demo()
	awsURL, err1 := serve(amazon)
	doURL, err2 := serve(digitalocean)
	gcpURL, err3 := serve(google)
	if err := errors.Join(err1, err2, err3); err != nil {
		e.stop()
		return nil, err
	}
	log := hclog.NewNullLogger()
	id, secret := amazon.Keys(amazon.Accounts[0].ID)
	environment := map[string]string{
		"GOOGLE_OAUTH_ACCESS_TOKEN":                  "emulated",
		"GOOGLE_COMPUTE_CUSTOM_ENDPOINT":             gcpURL + "/compute/v1/",
		"GOOGLE_NETWORK_SECURITY_CUSTOM_ENDPOINT":    gcpURL + "/networksecurity/v1/",
		"GOOGLE_RESOURCE_MANAGER_V3_CUSTOM_ENDPOINT": gcpURL + "/v3/",
	}
	e.sources = []source{
		{"aws", aws.New(aws.Config{Log: log, Base: &sdk.Config{
			Region: "us-east-1", BaseEndpoint: &awsURL, Credentials: credentials.NewStaticCredentialsProvider(id, secret, ""),
		}})},
		{"do", do.New(do.Config{Tokens: []string{emulateddo.DemoToken}, BaseURL: doURL, Log: log})},
		{"gcp", gcp.New(gcp.Config{Projects: []string{"data-lab", "shop-prod"}, Env: func(name string) string { return environment[name] }, Log: log})},
	}
	return &e, nil
}

// stop ends the servers.
func (e *emulated) stop() {
	for _, s := range e.servers {
		_ = s.Close()
	}
}
