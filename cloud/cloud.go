// Package cloud is the vocabulary in which every provider describes what it read, and its evaluation: a packet reaches an
// endpoint if every hop passes it on; a hop passes it if every layer admits it; a layer asks its lists in turn, a list its
// rules in order, and the first that matches decides; undecided is denied. Everything here is a plain value with a JSON
// form, and evaluating one reads no clock, network, environment or log.
package cloud

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cloudaudit/cloudaudit/traffic"
)

// Scope is what a provider reads as one: an account in a region, a project, a team. Account is the provider's own id
// (AWS account number, Google Cloud project id, DigitalOcean team); Region is empty where a scope has none.
type Scope struct {
	Provider string `json:"provider"`
	Account  string `json:"account"`
	Region   string `json:"region,omitempty"`
}

// String returns the scope as a path, such as "aws/111122223333/eu-west-1".
func (s Scope) String() string {
	if s.Region == "" {
		return s.Provider + "/" + s.Account
	}
	return s.Provider + "/" + s.Account + "/" + s.Region
}

// Ref returns the name of an object in s. Kind is the cloud's own word for what it is, with dashes, such as
// "security-group-rule"; id is the cloud's own id.
func (s Scope) Ref(kind, id string) Ref {
	scope := s.Account
	if s.Region != "" {
		scope += "/" + s.Region
	}
	return Ref{Provider: s.Provider, Scope: scope, Kind: kind, ID: id}
}

// Ref names anything in a cloud. It is comparable; the zero Ref names nothing.
type Ref struct {
	Provider string `json:"provider"`
	Scope    string `json:"scope"` // account, or account/region
	Kind     string `json:"kind"`
	ID       string `json:"id"`
}

// String returns the ref as a path, such as "aws/111122223333/eu-west-1/security-group/sg-1".
func (r Ref) String() string { return strings.Join([]string{r.Provider, r.Scope, r.Kind, r.ID}, "/") }

// IsZero says whether r names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// Compare orders refs by provider, scope, kind and id.
func (r Ref) Compare(s Ref) int {
	for _, pair := range [][2]string{{r.Provider, s.Provider}, {r.Scope, s.Scope}, {r.Kind, s.Kind}, {r.ID, s.ID}} {
		if c := strings.Compare(pair[0], pair[1]); c != 0 {
			return c
		}
	}
	return 0
}

// Verdict is what a rule says of the packets that it matches.
type Verdict uint8

// The verdicts.
const (
	Allow Verdict = iota // the layer admits the packet
	Deny                 // the layer drops the packet
	Pass                 // this list has no opinion: the layer asks its next list
)

var verdictNames = [...]string{Allow: "allow", Deny: "deny", Pass: "pass"}

// String returns "allow", "deny" or "pass".
func (v Verdict) String() string { return verdictNames[v] }

// MarshalText returns the verdict's name.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads a verdict's name.
func (v *Verdict) UnmarshalText(text []byte) error {
	for i, name := range verdictNames {
		if name == string(text) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("rule verdict %q: want allow, deny or pass", text)
}

// Doubt says what is known of the part of a rule's Maybe that it really matches.
type Doubt string

// The doubts.
const (
	// Unread means that any part of Maybe may match, none or all: the source of the rule could not be read, or the packets
	// are decided elsewhere. An unknown verdict that rests on it shows the coverage of Maybe.
	Unread Doubt = "unread"
	// Unsized is Unread where nothing supports any coverage: the verdict shows coverage none.
	Unsized Doubt = "unsized"
	// Dynamic means that some internet hosts certainly match and certainly not all, and only the cloud knows which: region
	// codes, FQDN objects, threat lists. An allow is reachable with coverage opaque; a deny never closes anything.
	Dynamic Doubt = "dynamic"
)

// Rule is one rule of a List. It matches the packets of Match for certain and those of Maybe possibly; for a reply list
// the sources of a set are the destinations of the reply, and its services the protocol and the port that the client
// chose.
type Rule struct {
	Ref     Ref         `json:"ref"` // Ref.ID is the rule's id in every report
	Name    string      `json:"name,omitempty"`
	Verdict Verdict     `json:"verdict"`
	Match   traffic.Set `json:"match,omitzero"`
	Maybe   traffic.Set `json:"maybe,omitzero"`
	Doubt   Doubt       `json:"doubt,omitempty"` // required where Maybe is not empty
	Cause   string      `json:"cause,omitempty"` // with Maybe: the stage name to report, such as "prefix_list_unreadable"
	Hint    string      `json:"hint,omitempty"`  // with Maybe: what to grant or to look at
	// Implied marks the rule that stands for the absence of any: "no firewall, so everything is admitted". What it opens is
	// a finding of the endpoint, not of a rule.
	Implied bool `json:"implied,omitempty"`
	// Text is the rule as the cloud's console shows it, in one line, such as "tcp 11211 from pl-1 (office), version 3".
	Text   string          `json:"text,omitempty"`
	Native json.RawMessage `json:"native,omitempty"` // the rule as the API gave it, for a fix to restore
	// Concerns says whom of those that the list is in front of the rule is for, in a form only to be compared: rules with the
	// same one, and rules without, are for the same. Empty means everybody.
	Concerns string `json:"concerns,omitempty"`
	Owner    *Owner `json:"owner,omitempty"` // who changes the rule, where that is not said of the list
}

// For returns l as those see it whom a rule with that Concerns is for.
func (l *List) For(concerns string) *List {
	if !slices.ContainsFunc(l.Rules, func(r Rule) bool { return r.Concerns != "" && r.Concerns != concerns }) {
		return l
	}
	out := *l
	out.Rules = slices.DeleteFunc(slices.Clone(l.Rules), func(r Rule) bool { return r.Concerns != "" && r.Concerns != concerns })
	return &out
}

// List is an ordered list of rules that a cloud changes as one: a security group, a firewall, a policy. Several values may
// have the same Ref where endpoints are concerned by different rules of one list.
type List struct {
	Ref   Ref    `json:"ref"`
	Name  string `json:"name,omitempty"`
	Part  Part   `json:"part,omitempty"` // empty among Snapshot.Lists
	Rules []Rule `json:"rules,omitempty"`
	Owner *Owner `json:"owner,omitempty"` // who changes the list, if not people
	Quota *Quota `json:"quota,omitempty"` // nil where nothing is known of one
}

// Owner is a controller that makes a list or a rule what it is and puts a change of it back, or whoever else is to change it.
type Owner struct {
	By      string `json:"by"`      // such as "the DigitalOcean Kubernetes cluster 8d91…"
	Instead string `json:"instead"` // where to make the change, in one sentence
}

// Quota is how many rules a list may have.
type Quota struct {
	Used  int    `json:"used"`
	Limit int    `json:"limit"`
	Of    string `json:"of"` // what is counted, such as "rules, inbound and outbound together"
}

// Kind is what a Layer is, as far as reporting goes.
type Kind string

// The kinds of layers.
const (
	Firewall Kind = "firewall" // its allow rules are what findings are about
	Filter   Kind = "filter"   // further lists that a user edits, such as network ACLs; they only ever take packets away
	Mask     Kind = "mask"     // a fact of the network, such as a missing route
	Platform Kind = "platform" // a block by the provider's own network: what only it stops is provider_only
)

// Layer is a filter that a packet has to pass. The first of its lists to decide wins; a layer without lists admits
// nothing.
type Layer struct {
	Name  string // the stage that is named when the layer empties the set, such as "security_group"
	Kind  Kind
	Lists []*List
	// Stateless layers filter replies too, by Reply; all others let the reply of an admitted packet leave.
	Stateless bool
	ReplyName string // the stage that is named when no reply can leave, such as "nacl_out"
	Reply     []*List
}

// Forward is a port forwarding of a hop: what arrives at Front leaves for Target.
type Forward struct {
	Front  traffic.Service `json:"front"`
	Target traffic.Service `json:"target"`
}

// Hop is a place that a packet passes on its way: a load balancer, or the interface itself, which is always the last. A
// packet that all layers admit goes on to the next hop, with another port and another source if the hop rewrites them.
type Hop struct {
	Ref    Ref
	Name   string // for people, such as "network load balancer lb-1"
	Layers []Layer
	// Forward maps ports; a service that it does not map goes no further. Nil keeps ports as they are. No two have the same
	// Target: another front that leads there is another endpoint.
	Forward []Forward
	// Source is what later hops see as the source, where the hop does not keep the client's address. Nil keeps it.
	Source []netip.Prefix
}

// Endpoint is an address at which packets can arrive for an interface, instance or droplet. An interface without a
// public address has an endpoint too, behind a layer that says so: rules in front of it are not in front of nothing.
type Endpoint struct {
	Ref      Ref    // whose memcached would be reached
	Name     string // its name for people
	Instance string // the instance behind an interface, if it is known
	Family   traffic.Family
	Addr     netip.Addr   // where packets arrive; the zero Addr if it is not known, then Host is
	Prefix   netip.Prefix // more than one address, for delegated prefixes; else the zero Prefix
	Host     string       // the DNS name of the front, if its address is not known
	// Public says that Addr is an address of the internet, whatever is in the way. It is what makes a rule latent or not.
	Public bool
	Via    Ref // the balancer, accelerator or forwarding rule in front, if any
	Hops   []Hop
	// NoProbe says that the owner has tagged the resource, so that the probe leaves it alone.
	NoProbe bool
	// Assumes lists what was taken for granted because it could not be read, such as "vpc-block-public-access-off".
	Assumes []string
}

// Address returns where packets arrive, for people and reports.
func (e *Endpoint) Address() string {
	switch {
	case e.Prefix.IsValid():
		return e.Prefix.String()
	case e.Addr.IsValid():
		return e.Addr.String()
	}
	return e.Host
}

// Gap is something of a scope that was asked for and could not be read.
type Gap struct {
	Subject string `json:"subject"`        // the permission or call, in the cloud's words, such as "ec2:DescribeNetworkAcls"
	Cause   string `json:"cause"`          // what the cloud answered
	Hint    string `json:"hint,omitempty"` // what to do about it
}

// Snapshot is what was read of one scope: every list, whether or not an endpoint is behind it, every endpoint with the
// path to it, and every gap. Lists and Endpoints are in a fixed order, so that the same cloud gives the same value.
type Snapshot struct {
	Scope     Scope
	Lists     []*List
	Endpoints []Endpoint
	Gaps      []Gap
	Skipped   bool // the run ended before the scope was read; a gap says why
}

// Rules returns the number of rules in all lists of s.
func (s *Snapshot) Rules() int {
	n := 0
	for _, l := range s.Lists {
		n += len(l.Rules)
	}
	return n
}
