package probe

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"strings"

	"github.com/cloudaudit/cloudaudit/findings/escape"
)

const (
	headerLen = 24  // of the binary protocol
	frameLen  = 8   // of the frame in front of every UDP payload
	replyMax  = 512 // bytes that are read of one connection
	textMax   = 64  // bytes of a text from the wire that are kept
)

// paddedVersion asks for the version. The spaces, which every server ignores, make it as long as a binary header: one that
// speaks binary only sees a whole header with a wrong magic and closes at once, instead of waiting for the rest.
func paddedVersion() []byte { return []byte("version               \r\n") }

// noop is the binary protocol's request that does nothing, with an opaque value that the reply repeats.
func noop(opaque uint32) []byte {
	b := make([]byte, headerLen)
	b[0], b[1] = 0x80, 0x0a
	binary.BigEndian.PutUint32(b[12:], opaque)
	return b
}

// framed puts memcached's UDP frame in front of payload: request id, sequence 0 of 1. Another total crashes memcached 1.6
// before 1.6.8 (memcached/memcached#724).
func framed(id uint16, payload []byte) []byte {
	b := make([]byte, frameLen, frameLen+len(payload))
	binary.BigEndian.PutUint16(b, id)
	b[5] = 1
	return append(b, payload...)
}

// udpNOOP, udpVersion and udpStats are all that is ever sent over UDP: 32, 25 and 15 bytes.
func udpNOOP(id uint16, opaque uint32) []byte { return framed(id, noop(opaque)) }
func udpVersion(id uint16) []byte             { return framed(id, []byte("version        \r\n")) }
func udpStats(id uint16) []byte               { return framed(id, []byte("stats\r\n")) }

// frame is a UDP reply taken apart.
type frame struct {
	id, sequence, total uint16
	payload             []byte
}

// parseFrame takes a datagram apart. It is no frame if it is a runt, has a reserved field, or a sequence beyond its total.
func parseFrame(b []byte) (frame, bool) {
	if len(b) <= frameLen {
		return frame{}, false
	}
	f := frame{
		id: binary.BigEndian.Uint16(b), sequence: binary.BigEndian.Uint16(b[2:]), total: binary.BigEndian.Uint16(b[4:]),
		payload: b[frameLen:],
	}
	return f, b[6] == 0 && b[7] == 0 && f.sequence < f.total
}

// reply is what bytes from the other side say.
type reply struct {
	verdict Verdict
	detail  string
	version string // as sent
	text    string // for what is not memcached's usual answer: as sent
}

// judgeNOOP judges the 24 bytes of a binary reply. The length of a body is a claim that nothing depends on.
func judgeNOOP(b []byte, opaque uint32) reply {
	status, ok := noopStatus(b, opaque)
	switch {
	case !ok:
		return reply{verdict: Other, detail: Unrecognised, text: string(b)}
	case status == 0:
		return reply{verdict: Open, detail: Binary}
	case status == 0x20:
		return reply{verdict: AuthRequired, detail: SASL}
	}
	return reply{verdict: Compatible, detail: Status}
}

// noopStatus returns the status of the reply to a NOOP with the given opaque value.
func noopStatus(b []byte, opaque uint32) (uint16, bool) {
	if len(b) < headerLen || b[0] != 0x81 || b[1] != 0x0a || binary.BigEndian.Uint32(b[12:]) != opaque {
		return 0, false
	}
	return binary.BigEndian.Uint16(b[6:]), true
}

// judgeLine judges what came back for a line, up to its line feed. No bytes are no verdict.
func judgeLine(b []byte) reply {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		b = b[:i+1]
	}
	if len(b) == 0 {
		return reply{}
	}
	if v, ok := parseVersion(b); ok {
		return reply{verdict: Open, detail: ASCII, version: v}
	}
	text := string(b)
	is := func(prefixes ...string) bool {
		for _, p := range prefixes {
			if strings.HasPrefix(text, p) {
				return true
			}
		}
		return false
	}
	r := reply{text: text}
	switch {
	case !isErrorLine(b):
	case is("CLIENT_ERROR unauthenticated", "CLIENT_ERROR authentication failed"):
		return reply{verdict: AuthRequired, detail: ASCII}
	case is("ERROR Too many open connections"):
		r.verdict, r.detail = Compatible, Busy
		return r
	default:
		r.verdict, r.detail = Compatible, ErrorLine
		return r
	}
	r.verdict, r.detail = Other, Unrecognised
	switch {
	case is("-ERR", "-NOAUTH", "-DENIED"):
		r.detail = "redis"
	case is("HTTP/"):
		r.detail = "http"
	case is("SSH-"):
		r.detail = "ssh"
	case is("220 ", "220-"):
		r.detail = "smtp"
	}
	return r
}

// parseVersion returns what stands in a VERSION line of 1 to 64 printable characters.
func parseVersion(b []byte) (string, bool) {
	v, ok := bytes.CutPrefix(b, []byte("VERSION "))
	if !ok {
		return "", false
	}
	v, ok = bytes.CutSuffix(v, []byte("\r\n"))
	if !ok || len(v) < 1 || len(v) > textMax {
		return "", false
	}
	for _, c := range v {
		if c < 0x20 || c > 0x7e {
			return "", false
		}
	}
	return string(v), true
}

// isErrorLine says whether b begins with one of the three error lines of memcached's protocol.txt, whole.
func isErrorLine(b []byte) bool {
	line, _, ok := bytes.Cut(b, []byte("\r\n"))
	return ok && (bytes.Equal(line, []byte("ERROR")) || bytes.HasPrefix(line, []byte("ERROR ")) ||
		bytes.HasPrefix(line, []byte("CLIENT_ERROR")) || bytes.HasPrefix(line, []byte("SERVER_ERROR")))
}

// identify tells the product by the version string: a number is memcached or a near relative, else the name in it.
func identify(version string) (product, shown string) {
	shown = visible(version)
	if regexp.MustCompile(`^\d+\.\d+\.\d+`).MatchString(version) {
		return "memcached", shown
	}
	name := regexp.MustCompile(`[A-Za-z][A-Za-z0-9_-]*`).FindString(version)
	if name == "" {
		return "unknown", shown
	}
	return name, shown
}

// visible returns text from the wire as it may be shown: its first 64 bytes, with all that does not show as itself escaped.
func visible(s string) string {
	return escape.Visible(strings.TrimRight(s[:min(len(s), textMax)], "\r\n"))
}
