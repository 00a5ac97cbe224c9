package findings

import "slices"

// Check is one kind of finding. Ids never change their meaning.
type Check struct {
	ID        string
	Name      string // Pascal case
	Level     Level
	Severity  string // CVSS-like score from 0.0 to 10.0 as code scanning takes it, or empty
	Precision string // very-high, high, medium or low
	Short     string // one sentence
	Why       string // why it matters
	Fix       string // how to fix it
	Source    string // a public document to cite
	CWE       []int
	Tags      []string
}

// The ids of the checks.
const (
	OpenRuleLatent        = "CA101"
	ReachableFromInternet = "CA102"
	MemcachedAnswersTCP   = "CA103"
	MemcachedAmplifier    = "CA104"
	NoFirewall            = "CA105"
	WideRange             = "CA106"
	ProviderNetworkOnly   = "CA107"
	OneWay                = "CA108"
	Undetermined          = "CA109"
	NarrowPublicRange     = "CA110"
)

const (
	whyOpen = "memcached has no authentication by default: whoever reaches it over TCP reads and overwrites what it caches, and whoever " +
		"reaches it over UDP makes it send answers many thousand times as large as the request to a victim of their choice. In " +
		"2018 such reflection carried attacks of over 1 Tbit/s."
	sourceUSCERT     = "https://www.cisa.gov/news-events/alerts/2014/01/17/udp-based-amplification-attacks"
	sourceCloudflare = "https://blog.cloudflare.com/memcrashed-major-amplification-attacks-from-port-11211/"
	sourceMemcached  = "https://github.com/memcached/memcached/wiki/ReleaseNotes156"
	sourceCVE        = "https://nvd.nist.gov/vuln/detail/CVE-2018-1000115"
)

// Checks returns every check that Find and Raise raise, in the order of their ids.
func Checks() []Check {
	return []Check{
		{
			ID: OpenRuleLatent, Name: "OpenRuleLatent", Level: Warning, Severity: "4.0", Precision: "high",
			Short:  "A rule admits the internet to memcached's port, and no public endpoint is behind it today.",
			Why:    "The next interface, instance or address that comes under the rule is open to the internet at once, without any further change to a firewall. " + whyOpen,
			Fix:    "Take the port out of the rule, or limit its sources to the networks of the clients; delete the rule or its group if nothing uses it.",
			Source: sourceCVE, CWE: []int{284},
		},
		{
			ID: ReachableFromInternet, Name: "ReachableFromInternet", Level: Error, Severity: "8.6", Precision: "very-high",
			Short:  "A rule admits the internet to memcached's port of a public endpoint, and replies get back.",
			Why:    whyOpen,
			Fix:    "Take the port out of the rule or limit its sources to the networks of the clients, together with every other rule that admits the same packets. Bind memcached to a private address (-l) and switch its UDP listener off (-U 0).",
			Source: sourceCloudflare, CWE: []int{284, 306, 406},
		},
		{
			ID: MemcachedAnswersTCP, Name: "MemcachedAnswersTCP", Level: Error, Severity: "9.1", Precision: "very-high",
			Short:  "A rule admits the internet to a public endpoint, and memcached answered there over TCP.",
			Why:    "It was asked and it answered without authentication: whoever sends the same packets reads, overwrites and flushes what it caches.",
			Fix:    "Close the port first: take it out of the rule or limit its sources. Then bind memcached to a private address (-l), and treat what was cached as read.",
			Source: sourceCVE, CWE: []int{284, 306},
		},
		{
			ID: MemcachedAmplifier, Name: "MemcachedAmplifier", Level: Error, Severity: "9.8", Precision: "very-high",
			Short:  "A rule admits the internet to a public endpoint, and memcached answered there over UDP: it can be used in a reflection attack.",
			Why:    "It was asked over UDP and it answered. A request with a forged source address makes it send its far larger answer to a victim; with a stored value of 1 MiB the factor is about 70,000. Factors of 10,000 to 51,000 were published in 2018 (US-CERT TA14-017A, Cloudflare); the probe measures one small answer and tries none of these.",
			Fix:    "Close the port first: take it out of the rule or limit its sources. Then switch the UDP listener off (-p PORT -U 0); authentication and TLS do not cover it.",
			Source: sourceCloudflare, CWE: []int{284, 306, 406},
		},
		{
			ID: NoFirewall, Name: "NoFirewall", Level: Error, Severity: "8.6", Precision: "very-high",
			Short:  "A public endpoint is protected by no firewall.",
			Why:    "Without any firewall every port of the endpoint is open, memcached's among them. " + whyOpen,
			Fix:    "Attach a firewall that admits what the endpoint is there to serve, and bind memcached to a private address (-l 127.0.0.1, -U 0).",
			Source: "https://docs.digitalocean.com/products/networking/firewalls/", CWE: []int{284, 306, 406},
		},
		{
			ID: WideRange, Name: "WideRange", Level: Warning, Severity: "5.3", Precision: "high",
			Short:  "A rule admits a large part of the internet, not all of it, to memcached's port.",
			Why:    "A range of this size holds millions of hosts that nobody here knows. " + whyOpen,
			Fix:    "Limit the sources of the rule to the networks of the clients.",
			Source: sourceUSCERT, CWE: []int{284, 306, 406},
		},
		{
			ID: ProviderNetworkOnly, Name: "ProviderNetworkOnly", Level: Warning, Severity: "5.0", Precision: "medium",
			Short:  "A rule admits the internet to memcached's port, and only the provider's own block keeps it away.",
			Why:    "The provider drops the port at the edge of its network: its other customers are inside that edge, and the block covers no other port that leads to memcached.",
			Fix:    "Take the port out of the rule or limit its sources to the networks of the clients, instead of relying on a block that is not yours.",
			Source: "https://docs.digitalocean.com/products/droplets/details/limits/", CWE: []int{284, 306},
		},
		{
			ID: OneWay, Name: "OneWay", Level: Warning, Severity: "5.9", Precision: "medium",
			Short:  "A rule admits the internet to memcached's port, and no reply gets out.",
			Why:    "Reflection does not work without replies, but requests over UDP are carried out all the same: items can be overwritten and the cache be flushed, blindly.",
			Fix:    "Take the port out of the rule or limit its sources to the networks of the clients.",
			Source: sourceMemcached, CWE: []int{284, 306},
		},
		{
			ID: Undetermined, Name: "Undetermined", Level: Note, Precision: "medium",
			Short:  "Whether the internet reaches memcached's port is decided by something that could not be read.",
			Why:    "What could not be read is not clean: the port may be open. " + whyOpen,
			Fix:    "Grant the permission, or look at the object, that the finding names, and scan again.",
			Source: sourceCVE, CWE: []int{284},
		},
		{
			ID: NarrowPublicRange, Name: "NarrowPublicRange", Level: Note, Precision: "high",
			Short:  "A rule admits a few internet hosts to memcached's port.",
			Why:    "It may be a partner who is meant to have access; memcached neither authenticates nor encrypts, so it deserves a second look. It is never fixed automatically.",
			Fix:    "Check that the range still belongs to whom it was opened for; prefer a private connection.",
			Source: sourceCVE, CWE: []int{284, 306},
		},
	}
}

// CheckOf returns the check with the given id.
func CheckOf(id string) (Check, bool) {
	checks := Checks()
	i := slices.IndexFunc(checks, func(c Check) bool { return c.ID == id })
	if i < 0 {
		return Check{}, false
	}
	return checks[i], true
}

// byEvidence holds the ids from the strongest evidence to the weakest: a rule is reported under the first that applies.
func byEvidence() []string {
	return []string{
		MemcachedAmplifier, MemcachedAnswersTCP, ReachableFromInternet, NoFirewall, OneWay, WideRange, ProviderNetworkOnly, OpenRuleLatent, Undetermined, NarrowPublicRange,
	}
}
