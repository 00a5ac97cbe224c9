package probe

import "github.com/cloudaudit/cloudaudit/findings"

// The checks that an answer is evidence for.
const (
	answersTCP = findings.MemcachedAnswersTCP
	amplifier  = findings.MemcachedAmplifier
)

// Proves returns the id of the check that the answer is evidence for: CA103 if anyone can read and write over TCP, CA104 if
// anyone can have replies sent to a victim over UDP, or "".
func (a *Answer) Proves() string {
	switch {
	case a == nil:
		return ""
	case a.Amplifies():
		return amplifier
	case a.Verdict == Open, a.Verdict == TLS && a.Detail == string(Open):
		return answersTCP
	}
	return ""
}

// Together returns the check that a finding is reported under after one address was asked over TCP and UDP, and what the
// answers say beside it. base is the check that the rules give; nil is a protocol that was not asked. inside says that it
// was asked from within the provider of the address, which proves nothing about the internet. An answer raises a finding,
// and never lowers, closes or hides one.
func Together(base string, tcp, udp *Answer, inside bool) (id, note string) {
	id = base
	proof := udp.Proves()
	if proof == "" {
		proof = tcp.Proves()
	}
	switch base {
	case findings.ReachableFromInternet, findings.NoFirewall, findings.ProviderNetworkOnly, findings.Undetermined:
		if proof != "" && (!inside || base == findings.ReachableFromInternet || base == findings.NoFirewall) {
			id = proof
		}
	}
	return id, join(proofNote(proof, inside, tcp, udp), tcpNote(tcp, udp), udpNote(udp))
}

func proofNote(proof string, inside bool, tcp, udp *Answer) string {
	a := tcp
	if proof == amplifier {
		a = udp
	}
	switch {
	case proof == "":
		return ""
	case inside:
		return "an answer from inside the provider proves nothing about the internet"
	case a.Source != "":
		return "proved by an answer to " + a.Source
	}
	return "proved by an answer"
}

func tcpNote(tcp, udp *Answer) string {
	if tcp == nil {
		return ""
	}
	switch tcp.Verdict {
	case AuthRequired, TLS:
		switch {
		case tcp.Proves() != "":
			return ""
		case udp.Amplifies():
			return "authentication does not cover UDP"
		case tcp.Verdict == AuthRequired:
			return "memcached wants authentication over TCP"
		}
		return "TLS over TCP"
	case Compatible:
		return "speaks memcached over TCP"
	case Other, Closed, Filtered, Inconclusive:
		if udp.Amplifies() {
			return "UDP suffices"
		}
		if tcp.Verdict == Inconclusive {
			return "TCP not verified"
		}
		at := ""
		if n := len(tcp.Exchanges); n > 0 {
			at = " at " + tcp.Exchanges[n-1].At.Format("2006-01-02 15:04:05 MST")
		}
		return "no memcached over TCP" + at
	}
	return ""
}

func udpNote(udp *Answer) string {
	if udp != nil && udp.Verdict == Inconclusive {
		return "UDP unknown"
	}
	return ""
}

// join joins what is not empty.
func join(parts ...string) string {
	out := ""
	for _, p := range parts {
		if p == "" {
			continue
		}
		if out != "" {
			out += "; "
		}
		out += p
	}
	return out
}
