package gcp

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"cloud.google.com/go/compute/apiv1/computepb"
	"go4.org/netipx"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// undecided is the cause of every doubt that comes from a rule: its packets are handed to an inspection, or part of it
// could not be read.
const undecided = "inspection_or_unreadable"

// rule is a firewall or policy rule together with what decides which interfaces it concerns.
type rule struct {
	cloud.Rule
	targets     targets
	destination *netipx.IPSet // nil: any
	destDoubt   bool          // destination may be larger: objects that only Google knows
	// handedOver: the rule ends the evaluation, and what then happens is decided elsewhere. Rule.Maybe has its packets.
	handedOver bool
	// context: the rule asks how a packet arrived. Whether Google's own proxies count as the internet is not documented, so
	// behind one the rule is in doubt, with the packets of anyhow.
	context bool
	anyhow  traffic.Set
}

// targets restrict a rule to some interfaces. Each list that is not empty must hold.
type targets struct {
	tags     []string // network tags, any of which the instance has
	accounts []string // service accounts, any of which the instance runs as
	secure   []string // resource manager tag values that are in effect, any of which is bound to the instance
	networks []string // paths of networks
	doubt    bool     // of a kind that is not known here
}

// list is an ordered list of rules as Google gave it.
type list struct {
	ref   cloud.Ref
	name  string
	kind  listKind
	order int32 // priority of the association
	owner *cloud.Owner
	rules []rule
	full  *cloud.List // all rules, whomever they concern
}

// listKind says where a list stands in the order of evaluation
// (https://cloud.google.com/firewall/docs/firewall-policies-rule-eval-order).
type listKind uint8

const (
	hierarchical listKind = iota
	system
	unknownKind
	classic // VPC firewall rules
	networkPolicy
	regionalPolicy
)

// firewalls returns the VPC firewall rules of a network as a list: by priority, deny before allow
// (https://cloud.google.com/firewall/docs/firewalls#priority_order_for_firewall_rules).
func firewalls(network string, rules []*computepb.Firewall) *list {
	project, name := projectOf(network), baseName(network)
	scope := cloud.Scope{Provider: Name, Account: project}
	l := &list{ref: scope.Ref("network", name), name: name, kind: classic}
	priority := map[string]int32{}
	for _, f := range rules {
		if f.GetDisabled() || f.GetDirection() == "EGRESS" || !sameNetwork(path(f.GetNetwork()), network) {
			continue
		}
		priority[f.GetName()] = 1000
		if f.Priority != nil {
			priority[f.GetName()] = f.GetPriority()
		}
		l.rules = append(l.rules, vpcRule(scope, f, priority[f.GetName()]))
	}
	slices.SortFunc(l.rules, func(a, b rule) int {
		return cmp.Or(
			cmp.Compare(priority[a.Ref.ID], priority[b.Ref.ID]),
			cmp.Compare(b.Verdict, a.Verdict), // Deny is the greater
			cmp.Compare(a.Ref.ID, b.Ref.ID),
		)
	})
	l.finish()
	return l
}

// finish makes the form of l that stands in a snapshot.
func (l *list) finish() {
	l.full = &cloud.List{Ref: l.ref, Name: l.name, Owner: l.owner}
	for i := range l.rules {
		l.full.Rules = append(l.full.Rules, l.rules[i].Rule)
	}
}

// vpcRule translates one VPC firewall rule.
func vpcRule(scope cloud.Scope, f *computepb.Firewall, priority int32) rule {
	r := rule{Rule: cloud.Rule{
		Ref: scope.Ref("firewall", f.GetName()), Name: f.GetName(), Native: native(written(f)),
		Concerns: concerned(f.GetTargetTags(), f.GetTargetServiceAccounts(), f.GetDestinationRanges()), Owner: controller(f),
	}}
	r.targets = targets{tags: f.GetTargetTags(), accounts: f.GetTargetServiceAccounts()}
	var s services
	if len(f.GetDenied()) > 0 {
		r.Verdict = cloud.Deny
		for _, d := range f.GetDenied() {
			s.add(d.GetIPProtocol(), d.GetPorts())
		}
	} else {
		for _, a := range f.GetAllowed() {
			s.add(a.GetIPProtocol(), a.GetPorts())
		}
	}
	ranges := f.GetSourceRanges()
	others := len(f.GetSourceTags()) + len(f.GetSourceServiceAccounts())
	if len(ranges) == 0 && others == 0 {
		ranges = []string{"0.0.0.0/0"}
	}
	// Source tags and service accounts match instances, by their internal addresses, and no host of the internet
	// (https://cloud.google.com/firewall/docs/firewalls#sources).
	sources, ok := addresses(ranges)
	r.Match, r.Maybe = s.from(sources)
	if !ok {
		r.Maybe = r.Maybe.Union(s.any())
	}
	if dest := f.GetDestinationRanges(); len(dest) > 0 {
		r.destination, ok = addresses(dest)
		r.destDoubt = !ok
	}
	if !r.Maybe.IsEmpty() {
		r.Doubt, r.Cause = cloud.Unread, undecided
		r.Hint = "firewall rule " + f.GetName() + " has a protocol, port or range that is not understood: look at it"
	}
	from := slices.Concat(ranges, prefixed("tag ", f.GetSourceTags()), prefixed("", f.GetSourceServiceAccounts()))
	r.Text = fmt.Sprintf("%d %s %s from %s%s", priority, r.Verdict, s.text(), sourceText(from),
		targetText(prefixed("tag ", f.GetTargetTags()), f.GetTargetServiceAccounts()))
	return r
}

// written returns what has to be written to make f again, and nothing that says when it was made.
func written(f *computepb.Firewall) *computepb.Firewall {
	f = proto.CloneOf(f)
	f.Id, f.Kind, f.SelfLink, f.CreationTimestamp = nil, nil, nil, nil
	if f.GetDescription() == "" {
		f.Description = nil
	}
	return f
}

// concerned returns whom a rule is for, that is for those who are in one of each list that is not empty, as
// cloud.Rule.Concerns has it.
func concerned(lists ...[]string) string {
	if !slices.ContainsFunc(lists, func(l []string) bool { return len(l) > 0 }) {
		return ""
	}
	sorted := make([][]string, len(lists))
	for i, l := range lists {
		sorted[i] = append([]string{}, l...)
		slices.Sort(sorted[i])
	}
	text, err := json.Marshal(sorted)
	if err != nil {
		panic(fmt.Sprintf("gcp: strings have no JSON form: %v", err))
	}
	return string(text)
}

// native returns m in Google's own form.
func native(m proto.Message) json.RawMessage {
	data, err := protojson.Marshal(m)
	if err != nil {
		return nil // only of strings that are not UTF-8, which came in as JSON
	}
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		return nil
	}
	return b.Bytes()
}

// services are the protocols and ports of a rule.
type services struct {
	known, doubtful [][2]traffic.Service
	names           []string
}

// protocols are the names that the API takes; anything else is a number
// (https://cloud.google.com/compute/docs/reference/rest/v1/firewalls).
func protocols(name string) ([]traffic.Proto, bool) {
	switch strings.ToLower(name) {
	case "tcp":
		return []traffic.Proto{traffic.TCP}, true
	case "udp":
		return []traffic.Proto{traffic.UDP}, true
	case "icmp":
		return []traffic.Proto{1}, true
	case "esp":
		return []traffic.Proto{50}, true
	case "ah":
		return []traffic.Proto{51}, true
	case "sctp":
		return []traffic.Proto{132}, true
	case "ipip": // protocol 94; some mean 4
		return []traffic.Proto{4, 94}, true
	}
	n, err := strconv.ParseUint(name, 10, 8)
	return []traffic.Proto{traffic.Proto(n)}, err == nil
}

const lastService = traffic.Service(255<<16 | 1<<16 - 1)

// add adds a protocol with its ports; none means any. Only TCP, UDP and SCTP have ports.
func (s *services) add(protocol string, ports []string) {
	s.names = append(s.names, strings.TrimSpace(strings.ToLower(protocol)+" "+strings.Join(ports, ",")))
	if strings.EqualFold(protocol, "all") {
		s.known = append(s.known, [2]traffic.Service{0, lastService})
		return
	}
	protos, ok := protocols(protocol)
	if !ok {
		s.doubtful = append(s.doubtful, [2]traffic.Service{0, lastService})
		return
	}
	for _, p := range protos {
		from, to := p.All()
		if len(ports) == 0 || p != traffic.TCP && p != traffic.UDP && p != 132 {
			s.known = append(s.known, [2]traffic.Service{from, to})
			continue
		}
		for _, text := range ports {
			a, b, ok := portRange(text)
			if !ok {
				s.doubtful = append(s.doubtful, [2]traffic.Service{from, to})
				continue
			}
			first, last := p.Ports(a, b)
			s.known = append(s.known, [2]traffic.Service{first, last})
		}
	}
}

// portRange reads "11211" or "11000-12000".
func portRange(text string) (from, to uint16, ok bool) {
	first, last, ranged := strings.Cut(strings.TrimSpace(text), "-")
	if !ranged {
		last = first
	}
	a, err1 := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
	b, err2 := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
	return uint16(a), uint16(b), err1 == nil && err2 == nil && a <= b
}

// from returns the packets of s from sources: those that match for certain, and those that may.
func (s *services) from(sources *netipx.IPSet) (match, maybe traffic.Set) {
	for _, r := range s.known {
		match = match.Union(traffic.Of(sources, r[0], r[1]))
	}
	for _, r := range s.doubtful {
		maybe = maybe.Union(traffic.Of(sources, r[0], r[1]))
	}
	return match, maybe
}

// any returns the packets of s from anywhere.
func (s *services) any() traffic.Set {
	match, maybe := s.from(everywhere())
	return match.Union(maybe)
}

func (s *services) text() string {
	if len(s.names) == 0 {
		return "nothing"
	}
	return strings.Join(s.names, ", ")
}

func everywhere() *netipx.IPSet {
	return traffic.IPs(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
}

// addresses reads prefixes and bare addresses; it says whether all of them could be read.
func addresses(texts []string) (*netipx.IPSet, bool) {
	ok := true
	var prefixes []netip.Prefix
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			a, err := netip.ParseAddr(t)
			if err != nil || a.Zone() != "" {
				ok = false
				continue
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if p.Addr().Is4In6() {
			ok = false
			continue
		}
		prefixes = append(prefixes, p.Masked())
	}
	return traffic.IPs(prefixes...), ok
}

func prefixed(prefix string, names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, prefix+n)
	}
	return out
}

// sourceText names sources in a line, the first few of many.
func sourceText(from []string) string {
	const shown = 4
	switch {
	case len(from) == 0:
		return "nowhere"
	case len(from) > shown:
		return fmt.Sprintf("%s and %d more", strings.Join(from[:shown], ", "), len(from)-shown)
	}
	return strings.Join(from, ", ")
}

func targetText(lists ...[]string) string {
	all := slices.Concat(lists...)
	if len(all) == 0 {
		return ""
	}
	return ", to " + sourceText(all)
}

// path returns "projects/P/…" of a full or partial link.
func path(link string) string {
	if i := strings.Index(link, "projects/"); i >= 0 {
		return link[i:]
	}
	return link
}

// projectOf returns the project of a path or link.
func projectOf(link string) string {
	_, rest, ok := strings.Cut(path(link), "projects/")
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(rest, "/")
	return id
}

// baseName returns the last part of a link.
func baseName(link string) string { return link[strings.LastIndexByte(link, '/')+1:] }

// part returns what follows a collection in a link: part("…/zones/z/instances/i", "zones") is "z".
func part(link, collection string) string {
	_, rest, ok := strings.Cut(link, "/"+collection+"/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}
