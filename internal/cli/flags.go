package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// fromEnvironment sets every flag of cmd that was not given from its variable: CLOUDAUDIT_ and the flag's name in capitals
// with underscores.
func fromEnvironment(cmd *cobra.Command, getenv func(string) string) error {
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" || failed != nil {
			return
		}
		name := variable(f.Name)
		value := getenv(name)
		if value == "" {
			return
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			failed = fmt.Errorf("environment variable %s: %w", name, err)
		}
	})
	return failed
}

func variable(flag string) string {
	return "CLOUDAUDIT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// sourceFlags say what is read.
type sourceFlags struct {
	providers       []string
	regions         []string
	profile         string
	organization    bool
	role            string
	projects        []string
	folders         []string
	organizationIDs []string
	snapshots       []string
	shard           *findings.Shard // of the scopes; nil for all
	concurrency     int
	timeout         time.Duration
}

func (in *sourceFlags) register(f *pflag.FlagSet, offline bool) {
	f.StringSliceVar(&in.providers, "provider", nil, "clouds to read: `aws,do,gcp` (default: every one with credentials)")
	f.StringSliceVar(&in.regions, "region", nil, "AWS `region`, repeatable (default: all that are enabled)")
	f.StringVar(&in.profile, "profile", "", "AWS `profile` of the shared configuration")
	f.BoolVar(&in.organization, "organization", false, "read every active account of the AWS organisation, through --role")
	f.StringVar(&in.role, "role", "", "`name` of the role to assume in each account of the AWS organisation")
	f.StringSliceVar(&in.projects, "project", nil, "Google Cloud `project`, repeatable (default: that of the environment)")
	f.StringSliceVar(&in.folders, "folder", nil, "every active project below the Google Cloud folder with this `number`, repeatable")
	f.StringSliceVar(&in.organizationIDs, "organization-id", nil, "every active project of the Google Cloud organisation with this `number`, repeatable")
	f.IntVar(&in.concurrency, "concurrency", 16, "scopes that are read at the same time")
	f.DurationVar(&in.timeout, "timeout", 0, "stop reading after this `duration`, such as 10m, and report what was read (default: none)")
	if offline {
		f.StringArrayVar(&in.snapshots, "snapshot", nil, "judge this `file`, written by `cloudaudit snapshot`, instead of reading any cloud; repeatable")
	}
}

// questionFlags say what is asked.
type questionFlags struct {
	ports         []string
	platformBlock bool
}

func (q *questionFlags) register(f *pflag.FlagSet) {
	f.StringSliceVar(&q.ports, "port", []string{"11211"}, "`ports` of memcached, repeatable; ranges as 11214-11215")
	f.BoolVar(&q.platformBlock, "do-platform-block", true, "assume that DigitalOcean's own network blocks port 11211 from outside")
}

func (q *questionFlags) question() (cloud.Question, error) {
	ports, err := traffic.ParsePorts(strings.Join(q.ports, ","))
	if err != nil {
		return cloud.Question{}, fmt.Errorf("--port: %w", err)
	}
	return cloud.Question{Ports: ports, NoPlatformBlock: !q.platformBlock}, nil
}

// outputFlags say what comes out.
type outputFlags struct {
	format       string
	outputs      []string
	sarifProfile string
	severity     string
	failOn       string
	allowPartial bool
}

func (o *outputFlags) register(f *pflag.FlagSet) {
	f.StringVarP(&o.format, "format", "f", "text", "`format` of standard output: "+strings.Join(formatNames(), ", "))
	f.StringArrayVarP(&o.outputs, "output", "o", nil, "also write `format=path`, repeatable")
	f.StringVar(&o.sarifProfile, "sarif-profile", "full", "`full`, or github: without what code scanning would turn into false open alerts")
	f.StringVar(&o.severity, "severity", "note", "show findings of this `level` and above: error, warning, note")
	f.StringVar(&o.failOn, "fail-on", "warning", "exit with status 1 on findings of this `level` and above: error, warning, note")
	f.BoolVar(&o.allowPartial, "allow-partial", false, "exit with status 0 instead of 3 if something could not be read")
}

// manners say how the program behaves on standard error.
type manners struct {
	progress  string
	color     string
	logLevel  string
	logFormat string
	quiet     bool // only of scan: nothing is said that was to be expected
}

func (m *manners) register(f *pflag.FlagSet) {
	f.StringVar(&m.progress, "progress", "auto", "`auto`: show progress on a terminal; or never")
	f.StringVar(&m.color, "color", "auto", "`auto`: colour on a terminal, unless NO_COLOR is set; or never, always")
	f.StringVar(&m.logLevel, "log-level", "warn", "`level` of the log: trace, debug, info, warn, error, off")
	f.StringVar(&m.logFormat, "log-format", "text", "`format` of the log: text, json")
}

// logger returns the logger that the flags ask for.
func (m *manners) logger(w io.Writer) (hclog.Logger, error) {
	levels := []string{"trace", "debug", "info", "warn", "error", "off"}
	if !slices.Contains(levels, m.logLevel) {
		return nil, badChoice("log-level", m.logLevel, levels...)
	}
	if m.logFormat != "text" && m.logFormat != "json" {
		return nil, badChoice("log-format", m.logFormat, "text", "json")
	}
	return hclog.New(&hclog.LoggerOptions{
		Name: "cloudaudit", Level: hclog.LevelFromString(m.logLevel), Output: w, JSONFormat: m.logFormat == "json",
	}), nil
}

// level reads the value of a flag that is a level of findings.
func level(flag, value string) (findings.Level, error) {
	switch l := findings.Level(value); l {
	case findings.Error, findings.Warning, findings.Note:
		return l, nil
	}
	return "", badChoice(flag, value, "error", "warning", "note")
}
