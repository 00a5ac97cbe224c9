package probe

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// Target is one address and port to ask.
type Target struct {
	Addr     netip.AddrPort
	TCP, UDP bool
	// Exposures are the positions in the report's exposures that the target stands for; empty if somebody typed the address.
	Exposures []int
}

// Left is what was not asked, or not to the end, and why.
type Left struct {
	Addr     netip.AddrPort
	Name     string // the address as it was given, if it is none that could be asked
	Protocol string // tcp, udp, or empty for both
	Reason   string
	// Gap says that it should have been asked: the run is not complete. Else a rule of the policy keeps it out.
	Gap bool
}

// String names what was left, with the reason.
func (l Left) String() string {
	name := l.Name
	if name == "" {
		name = l.Addr.String()
	}
	if l.Protocol != "" {
		name = l.Protocol + " " + name
	}
	return name + ": " + l.Reason
}

// Admit says whether the policy lets addr be asked, and why not. With allow, nothing outside of it is asked. What is not
// on the internet is asked only if allow names a network that is not on the internet either; multicast, broadcast and
// unspecified addresses never are.
func Admit(addr netip.AddrPort, allow []netip.Prefix) error {
	a := addr.Addr().Unmap()
	switch {
	case !a.IsValid():
		return errors.New("not an address")
	case addr.Port() == 0:
		return errors.New("port 0 cannot be asked")
	case a.Zone() != "":
		return errors.New("an address with a zone is never asked: it is not on the internet")
	case a.IsMulticast(), a.IsUnspecified(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return errors.New("multicast, broadcast and unspecified addresses are never asked")
	}
	inside := slices.DeleteFunc(slices.Clone(allow), func(p netip.Prefix) bool { return !p.Contains(a) })
	if len(allow) > 0 && len(inside) == 0 {
		return errors.New("outside --probe-allow")
	}
	if traffic.Internet().Contains(a) {
		return nil
	}
	for _, p := range inside {
		if traffic.IsEmptyIPs(traffic.IntersectIPs(traffic.IPs(p.Masked()), traffic.Internet())) {
			return nil
		}
	}
	return errors.New("a special range, not on the internet: name a network inside it with --probe-allow to ask it all the same")
}

// Targets returns what of the report is to be asked, one target an address and port, and what is left out. exempt says
// whether a resource carries the tag that keeps the probe away, and may be nil.
func Targets(report *findings.Report, allow []netip.Prefix, exempt func(*findings.Exposure) bool) ([]Target, []Left) {
	var left []Left
	var asked []Target
	for i := range report.Exposures {
		x := &report.Exposures[i]
		reason := ""
		addr, err := netip.ParseAddr(x.Address)
		to := netip.AddrPortFrom(addr, uint16(x.FrontPort))
		switch {
		case err != nil:
			reason = "not a single address"
		case x.Verdict != cloud.Reachable && x.Verdict != cloud.ProviderOnly && x.Verdict != cloud.Unknown:
			reason = "its verdict is " + string(x.Verdict)
		case x.Coverage == cloud.Narrow:
			reason = "its coverage is narrow: this machine is hardly one of the few that are admitted"
		case x.Protocol != "tcp" && x.Protocol != "udp":
			reason = "neither TCP nor UDP"
		case exempt != nil && exempt(x):
			reason = "its resource carries the tag cloudaudit:no-probe or the label cloudaudit-no-probe"
		default:
			if err := Admit(to, allow); err != nil {
				reason = err.Error()
			}
		}
		if reason != "" {
			left = append(left, Left{Addr: to, Name: nameOf(x), Protocol: x.Protocol, Reason: reason})
			continue
		}
		asked = append(asked, Target{Addr: to, TCP: x.Protocol == "tcp", UDP: x.Protocol == "udp", Exposures: []int{i}})
	}
	return merge(asked), left
}

func nameOf(x *findings.Exposure) string {
	if addr, err := netip.ParseAddr(x.Address); err == nil {
		return netip.AddrPortFrom(addr, uint16(x.FrontPort)).String()
	}
	return x.Address
}

// merge makes one target of all that have the same address and port, in the order of the addresses: the budget belongs to
// the address.
func merge(targets []Target) []Target {
	at := map[netip.AddrPort]int{}
	var out []Target
	for _, t := range targets {
		t.Addr = netip.AddrPortFrom(t.Addr.Addr().Unmap(), t.Addr.Port())
		i, ok := at[t.Addr]
		if !ok {
			at[t.Addr] = len(out)
			t.Exposures = slices.Clone(t.Exposures)
			out = append(out, t)
			continue
		}
		out[i].TCP, out[i].UDP = out[i].TCP || t.TCP, out[i].UDP || t.UDP
		out[i].Exposures = append(out[i].Exposures, t.Exposures...)
	}
	slices.SortFunc(out, func(a, b Target) int { return a.Addr.Compare(b.Addr) })
	return out
}

// Announce says, before the first packet, what will be asked and what will not. It names the addresses that are left out,
// at most 20 for each reason.
func Announce(targets []Target, left []Left, o Options) string {
	o, err := o.complete()
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	tcp, udp, addresses := 0, 0, map[netip.Addr]bool{}
	for _, t := range merge(targets) {
		addresses[t.Addr.Addr()] = true
		if t.TCP {
			tcp++
		}
		if t.UDP {
			udp++
		}
	}
	rate := fmt.Sprintf("at most %g a second, and 5 a second in one network (IPv4 /24, IPv6 /48)", o.Rate)
	if math.IsInf(o.Rate, 1) {
		rate = "without a limit of the rate"
	}
	fmt.Fprintf(&b, "Probe: %s will be asked, %s.\n", count(len(addresses), "address", "addresses"), rate)
	fmt.Fprintf(&b, "Probe: %s over TCP with at most %d bytes in %d connections each, TLS handshakes not counted; %s over UDP with at most %d bytes in %d datagrams each; %d bytes in all.\n",
		count(tcp, "port", "ports"), MaxTCPBytes, MaxConnects, count(udp, "port", "ports"), MaxUDPBytes, MaxDatagrams, tcp*MaxTCPBytes+udp*MaxUDPBytes)
	if o.Control.IsValid() {
		fmt.Fprintf(&b, "Probe: the control address %s will be asked first and last.\n", o.Control)
	}
	reasons := map[string][]string{}
	var order []string
	for _, l := range left {
		if reasons[l.Reason] == nil {
			order = append(order, l.Reason)
		}
		name, _, _ := strings.Cut(l.String(), ": "+l.Reason)
		reasons[l.Reason] = append(reasons[l.Reason], escape.Visible(name))
	}
	for _, reason := range order {
		names := reasons[reason]
		more := ""
		if len(names) > 20 {
			more = fmt.Sprintf(" and %d more", len(names)-20)
			names = names[:20]
		}
		fmt.Fprintf(&b, "Probe: not asked, %s: %s%s.\n", reason, strings.Join(names, ", "), more)
	}
	return b.String()
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
