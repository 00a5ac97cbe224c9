package traffic

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go4.org/netipx"
)

// String returns the text form of s, which Parse reads back:
//
//	tcp/11211 from 0.0.0.0/0; udp/11000-12000 from 10.0.0.0/8, ::/0
//
// A service is a protocol (tcp, udp, icmp, icmpv6, or its number), of which all is meant, or protocol/port,
// protocol/port-port; several whole protocols are number-number; everything is all. A source is an address, a prefix or
// a range of addresses. The empty set is nothing.
func (s Set) String() string {
	if s.IsEmpty() {
		return "nothing"
	}
	var parts []string
	for _, r := range s.runs {
		from := FormatIPs(r.src)
		for _, services := range formatServices(r.from, r.to) {
			parts = append(parts, services+" from "+from)
		}
	}
	return strings.Join(parts, "; ")
}

// Words returns s for people: as String, but services from the same sources stand together, and protocols without a name are
// called protocols. It cannot be parsed.
func (s Set) Words() string {
	if s.IsEmpty() {
		return "nothing"
	}
	var sources []string // in the order in which they appear
	named, numbered := map[string][]string{}, map[string][]string{}
	for _, r := range s.runs {
		from := FormatIPs(r.src)
		if named[from] == nil && numbered[from] == nil {
			sources = append(sources, from)
		}
		for _, text := range formatServices(r.from, r.to) {
			if text[0] >= '0' && text[0] <= '9' && !strings.Contains(text, "/") {
				numbered[from] = append(numbered[from], text)
			} else {
				named[from] = append(named[from], text)
			}
		}
	}
	var parts []string
	for _, from := range sources {
		text := strings.Join(named[from], ", ")
		if n := numbered[from]; len(n) > 0 {
			text = strings.TrimPrefix(text+", protocols "+strings.Join(n, ", "), ", ")
		}
		parts = append(parts, text+" from "+from)
	}
	return strings.Join(parts, "; ")
}

// FormatIPs returns the text form of a: prefixes, and ranges where no single prefix says the same. IPv4-mapped addresses,
// which ParseIPs takes for IPv4 where they stand alone, are written as ranges too.
func FormatIPs(a *netipx.IPSet) string {
	if empty(a) {
		return "nowhere"
	}
	var parts []string
	for _, r := range a.Ranges() {
		if p, ok := r.Prefix(); ok && !p.Addr().Is4In6() {
			if p.IsSingleIP() {
				parts = append(parts, p.Addr().String())
			} else {
				parts = append(parts, p.String())
			}
			continue
		}
		parts = append(parts, r.String())
	}
	return strings.Join(parts, ", ")
}

// FormatService returns the text form of one service, such as "tcp/11211".
func FormatService(s Service) string {
	return s.Proto().String() + "/" + strconv.Itoa(int(s.Port()))
}

// protoNames are the protocols with a name in the text form.
func protoNames() map[Proto]string {
	return map[Proto]string{ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMPv6: "icmpv6"}
}

// String returns the name of p, or its number.
func (p Proto) String() string {
	if name, ok := protoNames()[p]; ok {
		return name
	}
	return strconv.Itoa(int(p))
}

// formatServices cuts [from, to] where the text form needs it: a part of one protocol, whole protocols, a part of one.
func formatServices(from, to Service) []string {
	if from == 0 && to == maxService {
		return []string{"all"}
	}
	var out []string
	for from <= to {
		p := from.Proto()
		first, last := p.All()
		switch {
		case from != first || to < last:
			end := min(to, last)
			text := p.String() + "/" + strconv.Itoa(int(from.Port()))
			if end != from {
				text += "-" + strconv.Itoa(int(end.Port()))
			}
			out = append(out, text)
			from = end + 1
		default:
			q := (to + 1).Proto() - 1 // the last protocol that is in [from, to] whole
			if to == maxService {
				q = to.Proto()
			}
			text := p.String()
			if q != p {
				text = fmt.Sprintf("%d-%d", p, q)
			}
			out = append(out, text)
			_, last = q.All()
			from = last + 1
		}
	}
	return out
}

// Parse reads the text form that String writes; it also takes sources and services in any order, overlapping, and with
// host bits set.
func Parse(text string) (Set, error) {
	if strings.TrimSpace(text) == "nothing" {
		return Set{}, nil
	}
	var s Set
	for part := range strings.SplitSeq(text, ";") {
		services, sources, ok := strings.Cut(part, " from ")
		if !ok {
			return Set{}, fmt.Errorf("packet set %q: want \"SERVICE from SOURCE\"", strings.TrimSpace(part))
		}
		from, to, err := parseServices(strings.TrimSpace(services))
		if err != nil {
			return Set{}, err
		}
		src, err := ParseIPs(sources)
		if err != nil {
			return Set{}, err
		}
		s = s.Union(Of(src, from, to))
	}
	return s, nil
}

// ParseIPs reads a comma-separated list of addresses, prefixes and address ranges; "nowhere" is the empty set. An
// IPv4-mapped address is the IPv4 address, but a range has the addresses that its ends say.
func ParseIPs(text string) (*netipx.IPSet, error) {
	if strings.TrimSpace(text) == "nowhere" {
		return none(), nil
	}
	var b netipx.IPSetBuilder
	for field := range strings.SplitSeq(text, ",") {
		field = strings.TrimSpace(field)
		switch {
		case strings.Contains(field, "%"):
			return nil, fmt.Errorf("source %q: an address with a zone is not a source", field)
		case strings.Contains(field, "/"):
			p, err := netip.ParsePrefix(field)
			if err != nil {
				return nil, fmt.Errorf("source %q: %w", field, err)
			}
			if p.Addr().Is4In6() {
				return nil, fmt.Errorf("source %q: write an IPv4 prefix as IPv4", field)
			}
			b.AddPrefix(p.Masked())
		case strings.Contains(field, "-"):
			r, err := netipx.ParseIPRange(field)
			if err != nil {
				return nil, fmt.Errorf("source %q: %w", field, err)
			}
			b.AddRange(r)
		default:
			a, err := netip.ParseAddr(field)
			if err != nil {
				return nil, fmt.Errorf("source %q: %w", field, err)
			}
			b.Add(a.Unmap())
		}
	}
	return built(&b), nil
}

func parseServices(text string) (from, to Service, err error) {
	if text == "all" {
		return 0, maxService, nil
	}
	proto, ports, some := strings.Cut(text, "/")
	if !some {
		if lo, hi, isRange := strings.Cut(proto, "-"); isRange {
			p, err1 := parseProto(lo)
			q, err2 := parseProto(hi)
			if err := errors.Join(err1, err2); err != nil {
				return 0, 0, err
			}
			if q < p {
				return 0, 0, fmt.Errorf("protocols %q: the range is the wrong way round", proto)
			}
			from, _ = p.All()
			_, to = q.All()
			return from, to, nil
		}
		p, err := parseProto(proto)
		if err != nil {
			return 0, 0, err
		}
		from, to = p.All()
		return from, to, nil
	}
	p, err := parseProto(proto)
	if err != nil {
		return 0, 0, err
	}
	lo, hi, err := parsePortRange(ports)
	if err != nil {
		return 0, 0, err
	}
	from, to = p.Ports(lo, hi)
	return from, to, nil
}

func parseProto(text string) (Proto, error) {
	for p, name := range protoNames() {
		if name == text {
			return p, nil
		}
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("protocol %q: want tcp, udp, icmp, icmpv6 or a number from 0 to 255", text)
	}
	return Proto(n), nil
}

func parsePortRange(text string) (from, to uint16, err error) {
	lo, hi, isRange := strings.Cut(text, "-")
	if !isRange {
		hi = lo
	}
	a, err1 := strconv.ParseUint(lo, 10, 16)
	b, err2 := strconv.ParseUint(hi, 10, 16)
	if err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("port %q: want a number from 0 to 65535, or two with a dash between", text)
	}
	if b < a {
		return 0, 0, fmt.Errorf("port %q: the range is the wrong way round", text)
	}
	return uint16(a), uint16(b), nil
}

// ParsePorts reads a comma-separated list of ports and port ranges, such as "11211,11214-11215", and returns each port
// once, in ascending order. Port 0 is not a port that anything listens on, and is refused.
func ParsePorts(text string) ([]uint16, error) {
	var out []uint16
	for field := range strings.SplitSeq(text, ",") {
		from, to, err := parsePortRange(strings.TrimSpace(field))
		if err != nil {
			return nil, err
		}
		if from == 0 {
			return nil, fmt.Errorf("port %q: ports start at 1", strings.TrimSpace(field))
		}
		for n := int(from); n <= int(to); n++ {
			out = append(out, uint16(n))
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// MarshalText returns the text form of s, so that a Set in JSON is a string that people can read.
func (s Set) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the text form of a set.
func (s *Set) UnmarshalText(text []byte) error {
	var err error
	*s, err = Parse(string(text))
	return err
}

// IsZero says whether s is empty, so that encoding/json can leave an empty set out.
func (s Set) IsZero() bool { return s.IsEmpty() }
