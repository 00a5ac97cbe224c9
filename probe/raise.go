package probe

import (
	"slices"
	"strings"

	"github.com/cloudaudit/cloudaudit/findings"
)

// Proves returns the id of the check that the answer is evidence for: CA103 if anyone can read and write over TCP, CA104 if
// anyone can have replies sent to a victim over UDP, or "".
func (a *Answer) Proves() string {
	switch {
	case a == nil || a.inside:
		return ""
	case a.Amplifies():
		return findings.MemcachedAmplifier
	case a.Verdict == Open, a.Verdict == TLS && a.Detail == string(Open):
		return findings.MemcachedAnswersTCP
	}
	return ""
}

// beside says what the answers of one address over TCP and UDP show beside the check that they prove; nil is a protocol that
// was not asked. What the check is, findings.Report.Raise decides.
func beside(tcp, udp *Answer) string {
	proof := ""
	for _, a := range []*Answer{udp, tcp} {
		if a.Proves() != "" {
			proof = "proved by an answer"
			if a.Source != "" {
				proof += " to " + a.Source
			}
			break
		}
	}
	version := ""
	for _, a := range []*Answer{tcp, udp} {
		if a != nil && a.VersionText() != "" {
			version = strings.TrimSuffix(a.VersionText(), ".")
			break
		}
	}
	return join(proof, tcpNote(tcp, udp), udpNote(udp), version)
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
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), "; ")
}
