package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/providers"
	"github.com/cloudaudit/cloudaudit/providers/aws"
	"github.com/cloudaudit/cloudaudit/providers/do"
	"github.com/cloudaudit/cloudaudit/providers/gcp"
)

// choose returns the providers that the flags name, or else every one for which there are credentials, and then says which
// and why.
func choose(in *sourceFlags, ports []uint16, sys System, m *manners, log hclog.Logger) ([]source, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	names := in.providers
	if len(names) == 0 {
		var chosen []string
		for _, k := range registry() {
			if why := evidence(k.name, in, sys.Getenv); why != "" {
				log.Info("provider chosen", "provider", k.name, "because", hclog.Quote(why))
				names = append(names, k.name)
				chosen = append(chosen, k.name+" ("+why+")")
			}
		}
		if len(names) == 0 {
			return nil, &providers.Hint{
				Err:  errors.New("no credentials for any cloud were found"),
				Next: "`cloudaudit providers` says where they are looked for; `cloudaudit demo` needs none",
			}
		}
		if m.logFormat == "text" && m.logLevel != "off" && !m.quiet { // as JSON it is in the log alone
			fmt.Fprintf(sys.Stderr, "reading %s; --provider chooses others\n", escape.Terminal(strings.Join(chosen, ", ")))
		}
	}
	var out []source
	for _, name := range names {
		p, err := in.open(name, ports, sys.Getenv, log)
		if err != nil {
			return nil, err
		}
		out = append(out, source{name, p})
	}
	return out, nil
}

// check refuses flags that contradict each other.
func (in *sourceFlags) check() error {
	seen := map[string]bool{}
	for _, name := range in.providers {
		if !slices.ContainsFunc(registry(), func(k known) bool { return k.name == name }) {
			return badChoice("provider", name, "aws", "do", "gcp")
		}
		if seen[name] {
			return fmt.Errorf("--provider %s is given twice", name)
		}
		seen[name] = true
	}
	if in.organization != (in.role != "") {
		return &providers.Hint{
			Err:  errors.New("--organization and --role go together"),
			Next: "for example --organization --role OrganizationAudit: the role is assumed in every account",
		}
	}
	for _, f := range []struct {
		provider, flag string
		given          bool
	}{
		{"aws", "region", len(in.regions) > 0},
		{"aws", "profile", in.profile != ""},
		{"aws", "organization", in.organization},
		{"gcp", "project", len(in.projects) > 0},
		{"gcp", "folder", len(in.folders) > 0},
		{"gcp", "organization-id", len(in.organizationIDs) > 0},
	} {
		if f.given && len(in.providers) > 0 && !seen[f.provider] {
			return fmt.Errorf("--%s is for the provider %s, which --provider leaves out", f.flag, f.provider)
		}
	}
	return nil
}

// open returns the provider with this name. It does no I/O.
func (in *sourceFlags) open(name string, ports []uint16, getenv func(string) string, log hclog.Logger) (providers.Provider, error) {
	log = log.Named(name)
	switch name {
	case "aws":
		return aws.New(aws.Config{
			Regions: in.regions, Profile: in.profile, Organization: in.organization, Role: in.role, Ports: ports, Log: log,
		}), nil
	case "do":
		config := do.FromEnv(getenv)
		config.Log = log
		return do.New(config), nil
	case "gcp":
		return gcp.New(gcp.Config{
			Projects: in.projects, Folders: in.folders, Organizations: in.organizationIDs, Env: getenv, Log: log,
		}), nil
	}
	return nil, badChoice("provider", name, "aws", "do", "gcp")
}

// evidence says why credentials for a provider are likely to be there, or returns "" if nothing suggests so. It does no
// network I/O: the instance metadata of a cloud's own machines is asked only if the provider is named.
func evidence(name string, in *sourceFlags, getenv func(string) string) string {
	file := func(path ...string) string {
		p := filepath.Join(path...)
		if _, err := os.Stat(p); err != nil || path[0] == "" {
			return ""
		}
		return p
	}
	variable := func(names ...string) string {
		for _, n := range names {
			if strings.TrimSpace(getenv(n)) != "" {
				return n
			}
		}
		return ""
	}
	first := func(reasons ...string) string {
		for _, r := range reasons {
			if r != "" {
				return r
			}
		}
		return ""
	}
	flag := func(given bool, name string) string {
		if !given {
			return ""
		}
		return "--" + name
	}
	home := getenv("HOME")
	switch name {
	case "aws":
		return first(
			flag(in.profile != "", "profile"), flag(in.organization, "organization"), flag(len(in.regions) > 0, "region"),
			aws.Found(getenv, func(path string) bool { return file(path) != "" }),
		)
	case "do":
		return variable("DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN")
	case "gcp":
		return first(
			flag(len(in.projects) > 0, "project"), flag(len(in.folders) > 0, "folder"),
			flag(len(in.organizationIDs) > 0, "organization-id"),
			variable("GOOGLE_OAUTH_ACCESS_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS"),
			file(home, ".config", "gcloud", "application_default_credentials.json"),
		)
	}
	return ""
}
