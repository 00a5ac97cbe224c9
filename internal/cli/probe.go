package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/probe"
	"github.com/cloudaudit/cloudaudit/providers"
)

// probeFlags say how to ask.
type probeFlags struct {
	allow   []string
	rate    float64
	timeout time.Duration
	measure bool
	control string
}

func (p *probeFlags) register(f *pflag.FlagSet) {
	f.StringSliceVar(&p.allow, "probe-allow", nil, "ask only addresses in this `network`, repeatable; a network that is not on the internet is asked only if it is named here")
	f.Float64Var(&p.rate, "probe-rate", 50, "addresses that are asked in a second")
	f.DurationVar(&p.timeout, "probe-timeout", 2*time.Second, "time for a connect, a conversation, a reply")
	f.BoolVar(&p.measure, "probe-measure", true, "measure the amplification with one request of 15 bytes, if memcached answered over UDP")
	f.StringVar(&p.control, "probe-control", "", "`address[:port]` that is known to answer, asked first and last: if it is silent, silence means nothing")
}

// options reads the flags.
func (p *probeFlags) options() (probe.Options, error) {
	o := probe.Options{Rate: p.rate, Timeout: p.timeout, Measure: p.measure}
	switch {
	case !(p.rate > 0):
		return o, fmt.Errorf("--probe-rate %g: want a positive number", p.rate)
	case p.timeout <= 0:
		return o, fmt.Errorf("--probe-timeout %s: want a positive duration", p.timeout)
	}
	for _, text := range p.allow {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return o, &providers.Hint{Err: fmt.Errorf("--probe-allow %q: %w", text, err), Next: "for example --probe-allow 203.0.113.0/24"}
		}
		o.Allow = append(o.Allow, prefix.Masked())
	}
	if p.control != "" {
		var err error
		if o.Control, err = addressAndPort(p.control, 11211); err != nil {
			return o, fmt.Errorf("--probe-control: %w", err)
		}
	}
	return o, nil
}

// addressAndPort reads ADDR or ADDR:PORT; an IPv6 address with a port stands in brackets.
func addressAndPort(text string, port uint16) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return netip.AddrPortFrom(a.Unmap(), port), nil
	}
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		return a, &providers.Hint{
			Err:  fmt.Errorf("%q is not an address", text),
			Next: "give an address, or address:port, such as 54.84.1.2 or [2001:db8::1]:11211; names are not looked up",
		}
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}

// ask asks the exposures of report, and adds to it what they answered and what of it could not be asked.
func ask(ctx context.Context, sys System, m *manners, report *findings.Report, o probe.Options, sources []source, snapshots []*cloud.Snapshot) error {
	targets, left := probe.Targets(report, o.Allow, func(x *findings.Exposure) bool { return x.NoProbe })
	if !m.quiet {
		fmt.Fprint(sys.Stderr, probe.Announce(targets, left, o))
	}
	p, err := newProgress(m.progress, sys)
	if err != nil {
		return err
	}
	o.Progress = p.count("asking")
	o.Owned = owners(report, sources)
	out, err := probe.Run(ctx, targets, o)
	p.end()
	if err != nil {
		return err
	}
	probe.Attach(report, out.Results, own(snapshots))
	for _, l := range out.Left {
		if !l.Gap {
			continue
		}
		for _, at := range exposuresOf(targets, l) {
			x := &report.Exposures[at]
			report.Miss(cloud.Scope{Provider: x.Provider, Account: x.Account, Region: x.Region}, cloud.Gap{
				Subject: "probe of " + l.Addr.String(), Cause: l.Reason, Hint: "run it again",
			})
		}
	}
	return nil
}

// own returns whether an address is one of a provider's that was read: this machine is inside the provider then.
func own(snapshots []*cloud.Snapshot) func(provider, source string) bool {
	held := map[[2]string]bool{}
	for _, s := range snapshots {
		for i := range s.Endpoints {
			held[[2]string{s.Scope.Provider, s.Endpoints[i].Address()}] = true
		}
	}
	return func(provider, source string) bool { return held[[2]string{provider, source}] }
}

// exposuresOf returns the exposures that an address which was left out stands for.
func exposuresOf(targets []probe.Target, l probe.Left) []int {
	for _, t := range targets {
		if t.Addr == l.Addr {
			return t.Exposures
		}
	}
	return nil
}

// owners returns a reading of who holds addresses: their scopes are read again, and whoever has the address there, with
// everything that names it, is its owner.
func owners(report *findings.Report, sources []source) func(context.Context, []probe.Target) ([]string, error) {
	return func(ctx context.Context, targets []probe.Target) ([]string, error) {
		held := map[string]string{}
		read := map[cloud.Scope]bool{}
		for _, t := range targets {
			for _, at := range t.Exposures {
				x := &report.Exposures[at]
				scope := cloud.Scope{Provider: x.Provider, Account: x.Account, Region: x.Region}
				if read[scope] {
					continue
				}
				read[scope] = true
				i := slices.IndexFunc(sources, func(s source) bool { return s.name == scope.Provider })
				if i < 0 {
					return nil, fmt.Errorf("no provider reads %s", scope)
				}
				s, err := sources[i].provider.Read(ctx, scope)
				if err != nil {
					return nil, err
				}
				for _, e := range s.Endpoints {
					if e.Public {
						held[e.Address()] += strings.Join([]string{scope.String(), e.Ref.String(), e.Instance, e.Via.String()}, " ") + "\n"
					}
				}
			}
		}
		out := make([]string, len(targets))
		for i, t := range targets {
			out[i] = held[t.Addr.Addr().String()]
		}
		return out, nil
	}
}

func newProbe(sys System) *cobra.Command {
	var flags probeFlags
	var m manners
	var port uint16
	var format string
	cmd := &cobra.Command{
		Use:   "probe ADDR[:PORT]...",
		Short: "Ask your own addresses whether memcached answers, and measure its amplification",
		Long: `Probe asks the given addresses, and those on standard input if one of them is -, whether memcached answers there, over TCP
and over UDP, without reading or writing any key: at most ` + strconv.Itoa(probe.MaxConnects) + ` connects with ` + strconv.Itoa(probe.MaxTCPBytes) + ` bytes and ` + strconv.Itoa(probe.MaxDatagrams) + ` datagrams with ` + strconv.Itoa(probe.MaxUDPBytes) + ` bytes each.
Giving an address vouches for it: ask only what is yours. Silence is never proof that a port is safe.

` + probe.PublishedText() + `

Exit status: 0 if no address answered as memcached without authentication, 1 if one did, 2 usage, 3 if some could not be
asked and none answered, 130 interrupted.`,
		Example: "  cloudaudit probe 54.84.1.2\n  cloudaudit probe 54.84.1.2:11222 '[2600:1f18::10]:11211' --format json\n  cloudaudit probe - < addresses.txt",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &providers.Hint{Err: errors.New("no address to ask"), Next: "for example `cloudaudit probe 54.84.1.2`, or - to read them from standard input"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return askAddresses(cmd.Context(), sys, args, port, format, &flags, &m)
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().Uint16Var(&port, "port", 11211, "port of addresses without one")
	cmd.Flags().StringVarP(&format, "format", "f", "text", "`format` of standard output: text, json")
	m.register(cmd.Flags())
	return cmd
}

func askAddresses(ctx context.Context, sys System, args []string, port uint16, format string, flags *probeFlags, m *manners) error {
	if format != "text" && format != "json" {
		return badChoice("format", format, "text", "json")
	}
	o, err := flags.options()
	if err != nil {
		return err
	}
	var targets []probe.Target
	var left []probe.Left
	add := func(text string) error {
		to, err := addressAndPort(text, port)
		if err != nil {
			return err
		}
		if err := probe.Admit(to, o.Allow); err != nil {
			left = append(left, probe.Left{Addr: to, Reason: err.Error()})
			return nil
		}
		targets = append(targets, probe.Target{Addr: to, TCP: true, UDP: true})
		return nil
	}
	for _, a := range args {
		if a != "-" {
			if err := add(a); err != nil {
				return err
			}
			continue
		}
		if err := eachLine(sys.Stdin, add); err != nil {
			return err
		}
	}
	fmt.Fprint(sys.Stderr, probe.Announce(targets, left, o))
	if len(targets) == 0 {
		return errors.New("none of the addresses may be asked")
	}
	p, err := newProgress(m.progress, sys)
	if err != nil {
		return err
	}
	o.Progress = p.count("asking")
	out, err := probe.Run(ctx, targets, o)
	p.end()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if format == "json" {
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(struct {
			Schema   string         `json:"schema"`
			Complete bool           `json:"complete"`
			Results  []probe.Result `json:"results"`
		}{"cloudaudit.probe/v1", out.Complete, append([]probe.Result{}, out.Results...)}); err != nil {
			return err
		}
	} else {
		for _, r := range out.Results {
			fmt.Fprintf(&b, "%s/%s  %s/%s\n  %s.\n", r.Addr, r.Protocol, r.Answer.Verdict, cmp.Or(r.Answer.Detail, "-"), escape.Terminal(r.Answer.Sentence()))
			if note := r.Answer.VersionText(); note != "" {
				fmt.Fprintf(&b, "  %s\n", escape.Terminal(note))
			}
		}
		for _, l := range out.Left {
			fmt.Fprintf(&b, "%s\n", escape.Terminal(l.String()))
		}
	}
	if _, err := sys.Stdout.Write(b.Bytes()); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return &exit{status: ExitInterrupted}
	case slices.ContainsFunc(out.Results, func(r probe.Result) bool { return r.Answer.Proves() != "" }):
		return &exit{status: ExitFindings}
	case !out.Complete:
		return &exit{status: ExitIncomplete}
	}
	return nil
}

// eachLine calls f with each line of r that is not empty and no comment.
func eachLine(r io.Reader, f func(string) error) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if err := f(line); err != nil {
			return err
		}
	}
	return lines.Err()
}
