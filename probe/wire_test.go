package probe

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"
)

// TestRequests holds every byte that is ever sent.
func TestRequests(t *testing.T) {
	for _, test := range []struct {
		name string
		got  []byte
		want string
	}{
		{"padded version", paddedVersion(), "76657273696f6e" + strings.Repeat("20", 15) + "0d0a"},
		{"NOOP", noop(0x01020304), "800a" + strings.Repeat("00", 10) + "01020304" + strings.Repeat("00", 8)},
		{"UDP NOOP", udpNOOP(0xabcd, 0x01020304), "abcd000000010000" + "800a" + strings.Repeat("00", 10) + "01020304" + strings.Repeat("00", 8)},
		{"UDP version", udpVersion(0xabcd), "abcd000000010000" + "76657273696f6e" + strings.Repeat("20", 8) + "0d0a"},
		{"UDP stats", udpStats(0xabcd), "abcd000000010000" + "73746174730d0a"},
	} {
		if got := hex.EncodeToString(test.got); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	if tcp := 2*len(paddedVersion()) + 2*len(noop(0)); tcp != MaxTCPBytes {
		t.Errorf("TCP: %d bytes", tcp)
	}
	if udp := 2*len(udpNOOP(0, 0)) + 2*len(udpVersion(0)); udp != MaxUDPBytes {
		t.Errorf("UDP: %d bytes", udp)
	}
}

// TestBudget holds the limits against a state machine that asks for more.
func TestBudget(t *testing.T) {
	b := tcpBudget()
	connects, bytes := 0, 0
	for range 100 {
		if b.packet() {
			connects++
		}
		if b.payload(24) {
			bytes += 24
		}
	}
	if connects != MaxConnects || bytes != MaxTCPBytes {
		t.Errorf("%d connects, %d bytes", connects, bytes)
	}
	b = udpBudget()
	datagrams, bytes := 0, 0
	for range 100 {
		if b.datagram(32) {
			datagrams++
			bytes += 32
		}
	}
	if datagrams != 3 || bytes != 96 || b.datagram(19) || !b.datagram(15) || b.datagram(1) {
		t.Errorf("%d datagrams, %d bytes: %+v", datagrams, bytes, b)
	}
}

func TestJudgeLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                   "/",
		"VERSION 1.6.18\r\n": "open/ascii",
		"VERSION " + strings.Repeat("1", 64) + "\r\n": "open/ascii",
		"VERSION " + strings.Repeat("1", 65) + "\r\n": "other/unrecognised",
		"VERSION \r\n":        "other/unrecognised",
		"VERSION 1.6.18\n":    "other/unrecognised",
		"VERSION 1.6\x7f\r\n": "other/unrecognised",
		"version 1.6.18\r\n":  "other/unrecognised",
		"ERROR\r\n":           "compatible/error_line",
		"ERROR":               "other/unrecognised",
		"ERRORS\r\n":          "other/unrecognised",
		"CLIENT_ERROR bad command line format\r\n":                "compatible/error_line",
		"SERVER_ERROR unauthorized, null bucket\r\n":              "compatible/error_line",
		"CLIENT_ERROR unauthenticated\r\n":                        "auth_required/ascii",
		"CLIENT_ERROR authentication failed: wrong password\r\n":  "auth_required/ascii",
		"ERROR Too many open connections\r\n":                     "compatible/busy",
		"-ERR unknown command 'version'\r\n":                      "other/redis",
		"-NOAUTH Authentication required.\r\n":                    "other/redis",
		"-DENIED Redis is running in protected mode\r\n":          "other/redis",
		"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n":       "other/http",
		"SSH-2.0-OpenSSH\r\n":                                     "other/ssh",
		"220-mail.example.com\r\n":                                "other/smtp",
		"This ZooKeeper instance is not currently serving\n":      "other/unrecognised",
		"VERSION 1.4.5\r\nanything that comes behind the first\n": "open/ascii",
	} {
		r := judgeLine([]byte(in))
		if got := string(r.verdict) + "/" + r.detail; got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestIdentify(t *testing.T) {
	for in, want := range map[string]string{
		"1.6.18":          "memcached",
		"1.4.5 (Ubuntu)":  "memcached",
		"mcrouter 36.0.0": "mcrouter",
		"Hazelcast":       "Hazelcast",
		"9":               "unknown",
	} {
		if product, version := identify(in); product != want || version != in {
			t.Errorf("%q: %s %s, want %s", in, product, version, want)
		}
	}
}

func TestUDPByDefault(t *testing.T) {
	for in, want := range map[string]bool{
		"1.5.5": true, "1.5.6": false, "1.4.39": true, "1.6.0": false, "1.5.10": false, "0.9.9": true, "2.0.0": false,
		"1.5.5-suse": true, "": false, "mcrouter 36.0.0": false, "99999999999999999999.1.1": false,
	} {
		if got := UDPByDefault(in); got != want {
			t.Errorf("%q: %t", in, got)
		}
	}
}

func TestCeiling(t *testing.T) {
	for _, test := range []struct {
		limit uint64
		want  float64
		basis string
	}{
		{0, 70274.3, "default"},
		{64 << 20, 70274.3, "default"},
		{1 << 10, 70.3, "limit_maxbytes"},
		{math.MaxUint64, 70274.3, "default"},
	} {
		if got, basis := ceiling(test.limit); got != test.want || !strings.Contains(basis, test.basis) {
			t.Errorf("%d: %v, %s", test.limit, got, basis)
		}
	}
}

// FuzzReplies holds that no bytes from the wire do harm: what is kept is short and visible, and a verdict is one of those
// that a reply can have.
func FuzzReplies(f *testing.F) {
	f.Add([]byte("VERSION 1.6.18\r\n"), uint32(0))
	f.Add([]byte("VERSION 1.6\x1b[31m\x00\r\n"), uint32(0))
	f.Add(append([]byte{0x81, 0x0a}, make([]byte, 22)...), uint32(0))
	f.Add(append([]byte{1, 2, 0, 0, 0, 1, 0, 0, 0x81, 0x0a}, make([]byte, 22)...), uint32(7))
	f.Add([]byte("STAT version 1.5.5\r\nSTAT curr_items -1\r\nEND\r\n"), uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, opaque uint32) {
		replies := []reply{judgeLine(b), judgeNOOP(b, opaque)}
		if fr, ok := parseFrame(b); ok {
			if len(fr.payload) == 0 || fr.sequence >= fr.total {
				t.Errorf("a frame %+v", fr)
			}
			replies = append(replies, judgeLine(fr.payload))
		}
		for _, r := range replies {
			var a Answer
			a.take(r)
			for _, s := range []string{a.Product, a.Version, a.Reply} {
				if len(s) > 8*textMax || visible(s) != s && len(s) <= textMax || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
					t.Errorf("kept %q", s)
				}
			}
			if a.Verdict == Open && a.Detail == ASCII && !bytes.HasPrefix(b, []byte("VERSION ")) && len(b) > 0 && !bytes.Contains(b, []byte("VERSION ")) {
				t.Errorf("open by %q", b)
			}
			_ = a.Sentence()
		}
		version, _ := statistics(string(b))
		if len(version) > textMax {
			t.Errorf("version %q", version)
		}
	})
}
