package probe

import (
	"fmt"
	"time"
)

// Verdict is what an exchange shows about one address, port and protocol.
type Verdict string

// The verdicts. None of them says that a port is safe.
const (
	Open         Verdict = "open"          // memcached, or a proxy that speaks for it, answered without authentication
	AuthRequired Verdict = "auth_required" // memcached answered and wants authentication
	TLS          Verdict = "tls"           // TLS, with or without memcached inside
	Compatible   Verdict = "compatible"    // the dialect of memcached; access is not shown
	Other        Verdict = "other"         // another service
	Closed       Verdict = "closed"        // nothing listened at that moment
	Filtered     Verdict = "filtered"      // something dropped or rejected the packet, or the server was full
	Inconclusive Verdict = "inconclusive"  // nothing follows
	Stale        Verdict = "stale"         // the address changed hands while it was asked: nothing is kept
)

// The details of the verdicts.
const (
	ASCII        = "ascii"        // open, auth_required, tls
	Binary       = "binary"       // open
	NOOP         = "noop"         // open, over UDP
	Legacy       = "legacy"       // open, over UDP: a server without the binary protocol
	SASLBypass   = "sasl_bypass"  // open, over UDP: SASL on the binary protocol only
	SASL         = "sasl"         // auth_required, tls
	ErrorLine    = "error_line"   // compatible
	Status       = "status"       // compatible
	Busy         = "busy"         // compatible: the limit of connections was reached
	ClientCert   = "client_cert"  // tls
	Unidentified = "unidentified" // tls, inconclusive
	Unrecognised = "unrecognised" // other
	Refused      = "refused"      // closed
	Timeout      = "timeout"      // filtered
	Rejected     = "rejected"     // filtered
	NoResponse   = "no_response"  // inconclusive
	LocalError   = "local_error"  // inconclusive: the fault of this machine
)

// The values of Answer.Auth.
const (
	AuthNone        = "none"
	AuthSASL        = "sasl"
	AuthASCII       = "ascii"
	AuthCertificate = "client_certificate"
	AuthUnknown     = "unknown"
)

// Answer is what asking one address, port and protocol has shown. Every text in it that comes from the other side is cut
// at 64 bytes and visible, as package escape defines it.
type Answer struct {
	Verdict  Verdict `json:"verdict"`
	Detail   string  `json:"detail,omitempty"`
	Answered bool    `json:"answered"`          // memcached, or something that speaks like it, answered
	Product  string  `json:"product,omitempty"` // by the version string
	Version  string  `json:"version,omitempty"`
	Auth     string  `json:"auth"` // none, sasl, ascii, client_certificate or unknown

	// Sent and Received are payload bytes: over UDP those of the measurement if it was answered, over TCP those of
	// memcached's protocol, also inside TLS.
	Sent     int `json:"sent"`
	Received int `json:"received"`
	// Amplification is Received / Sent of the measurement, rounded to a tenth, and 0 if nothing was measured.
	Amplification float64 `json:"amplification,omitempty"`
	AtLeast       bool    `json:"at_least,omitempty"`    // the reply was not seen whole: the factors are lower bounds
	WireFactor    float64 `json:"wire_factor,omitempty"` // as Amplification, with IP and UDP headers
	Datagrams     int     `json:"datagrams,omitempty"`   // of the reply to the measurement
	// Ceiling is the factor of one get of the largest value that the server takes; it is computed and never tried.
	Ceiling      float64 `json:"ceiling,omitempty"`
	CeilingBasis string  `json:"ceiling_basis,omitempty"`
	Held         *Held   `json:"held,omitempty"`

	RepliedFrom    string `json:"replied_from,omitempty"`    // if a UDP reply came from another address or port than the one asked
	ICMP           string `json:"icmp,omitempty"`            // type/code, and who sent it if that was another than the one asked
	Ignored        int    `json:"ignored,omitempty"`         // datagrams from the asked address that are no reply
	SpoofSuspected int    `json:"spoof_suspected,omitempty"` // datagrams from elsewhere with our request id and no cookie
	Reply          string `json:"reply,omitempty"`           // what answered, if it was none of memcached's usual answers

	Source    string     `json:"source,omitempty"` // this machine's address towards the one asked
	Run       string     `json:"run,omitempty"`
	Note      string     `json:"note,omitempty"` // what the verdict does not show
	Exchanges []Exchange `json:"exchanges,omitempty"`

	inside bool // asked from within the provider about a path that only its network blocks or nothing decides: no proof
}

// Held is what the server said in the measurement that it holds: the part of the ceiling that needs no set.
type Held struct {
	Items uint64 `json:"items"` // curr_items
	Bytes uint64 `json:"bytes"`
	Limit uint64 `json:"limit"` // limit_maxbytes
}

// Exchange is one connection, or one request over UDP with what came back.
type Exchange struct {
	Step     string    `json:"step"` // version, noop, tls-version, tls-noop or stats
	Attempt  int       `json:"attempt"`
	At       time.Time `json:"at"`     // UTC
	RTT      float64   `json:"rtt_ms"` // until the connect failed or the first bytes came; 0 if nothing came
	Sent     int       `json:"sent"`   // payload bytes
	Received int       `json:"received"`
	// SentHex and ReceivedHex are the first 64 bytes each way.
	SentHex     string `json:"sent_hex,omitempty"`
	ReceivedHex string `json:"received_hex,omitempty"`
	Error       string `json:"error,omitempty"`
}

// conclude sets verdict and detail, and what follows from them alone.
func (a *Answer) conclude(v Verdict, detail string) {
	a.Verdict, a.Detail, a.Auth = v, detail, AuthUnknown
	switch v {
	case Open:
		a.Answered, a.Auth = true, AuthNone
	case AuthRequired:
		a.Answered, a.Auth = true, detail
	case Compatible:
		a.Answered = true
	case TLS:
		switch detail {
		case string(Open):
			a.Answered, a.Auth = true, AuthNone
		case SASL, ASCII:
			a.Answered, a.Auth = true, detail
		case string(Compatible):
			a.Answered = true
		case ClientCert:
			a.Auth = AuthCertificate
		}
	}
}

// Amplifies says whether anyone can make the server send replies to a victim: it answered over UDP without authentication.
func (a *Answer) Amplifies() bool {
	return a != nil && a.Verdict == Open && (a.Detail == NOOP || a.Detail == Legacy || a.Detail == SASLBypass)
}

// Sentence is the answer in words, without a full stop.
func (a *Answer) Sentence() string {
	name := a.Product
	switch {
	case name == "":
		name = "memcached"
	case a.Version != "":
		name += " " + a.Version
	}
	text := ""
	switch a.Verdict {
	case Open:
		switch a.Detail {
		case NOOP, Legacy:
			text = name + " answers over UDP without authentication: it can be used in a reflection attack"
		case SASLBypass:
			text = name + " wants SASL over the binary protocol, and answers the ASCII protocol over UDP without it: it can be used in a reflection attack"
		default:
			text = name + " answers over TCP without authentication: its data can be read and written"
		}
	case AuthRequired:
		text = name + " answers and wants authentication (" + a.Detail + ")"
	case TLS:
		switch a.Detail {
		case string(Open):
			text = name + " answers inside TLS to anyone: no client certificate and no authentication"
		case SASL, ASCII:
			text = name + " answers inside TLS and wants authentication (" + a.Detail + ")"
		case string(Compatible):
			text = "speaks like memcached inside TLS; whether data can be read was not shown"
		case ClientCert:
			text = "wants a TLS client certificate"
		default:
			text = "speaks TLS; what is inside did not show itself"
		}
	case Compatible:
		text = "speaks memcached's protocol; whether data can be read was not shown"
		if a.Detail == Busy {
			text = "memcached has reached its limit of connections; whether data can be read was not shown"
		}
	case Other:
		text = "another service answers (" + a.Detail + "): no memcached there at that moment"
	case Closed:
		text = "nothing listened at that moment"
	case Filtered:
		text = "no connection: a filter on the way, or a server that is full; it does not follow that the internet is kept out"
		if a.Detail == Rejected {
			text = "something on the way rejects the packet; it does not follow that the internet is kept out"
		}
	case Inconclusive:
		switch a.Detail {
		case NoResponse:
			text = "no reply; it does not follow that nobody listens"
		case LocalError:
			text = "could not be asked: this machine failed to send"
		default:
			text = "accepts connections and did not show what it is"
		}
	case Stale:
		text = "the address changed hands while it was asked: the result was dropped"
	}
	if a.Amplification > 0 {
		least := ""
		if a.AtLeast {
			least = "at least "
		}
		text += fmt.Sprintf(", and sends back %s%.1f times what it gets (%d bytes for %d)", least, a.Amplification, a.Received, a.Sent)
	}
	if a.Note != "" {
		text += "; " + a.Note
	}
	return text
}
