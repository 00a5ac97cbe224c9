package probe

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const soon = 300 * time.Millisecond

// TestHostileTCP asks servers that lie, stall and flood.
func TestHostileTCP(t *testing.T) {
	say := func(text string) func(*counting, int) {
		return func(c *counting, _ int) { _, _ = io.WriteString(c, text) }
	}
	afterRequest := func(text string) func(*counting, int) {
		return func(c *counting, _ int) {
			c.request()
			_, _ = io.WriteString(c, text)
		}
	}
	for _, test := range []struct {
		name     string
		serve    func(c *counting, n int)
		want     string
		timeout  time.Duration
		connects int64 // exactly, if not 0
		atOnce   bool
		check    func(t *testing.T, a *Answer)
	}{
		{name: "endless version without a line feed", want: "other/unrecognised", timeout: time.Minute, connects: 1, serve: func(c *counting, _ int) {
			_, _ = io.WriteString(c, "VERSION ")
			for b := bytes.Repeat([]byte("9"), 4096); ; {
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		}, check: func(t *testing.T, a *Answer) {
			if a.Received > 512 {
				t.Errorf("read %d bytes", a.Received)
			}
		}},
		{name: "random bytes", want: "other/unrecognised", timeout: time.Minute, connects: 1, serve: func(c *counting, _ int) {
			b := make([]byte, 4096)
			_, _ = rand.Read(b)
			_, _ = c.Write(append([]byte{0}, bytes.ReplaceAll(b, []byte("\n"), []byte("x"))...))
		}, check: func(t *testing.T, a *Answer) {
			if a.Received > 512 {
				t.Errorf("read %d bytes", a.Received)
			}
		}},
		{
			name: "control characters in the version", want: "other/unrecognised", timeout: time.Minute, connects: 1,
			serve: afterRequest("VERSION 1.6\x1b[31m\x00evil\r\n"), check: func(t *testing.T, a *Answer) {
				if want := `VERSION 1.6\u{1b}[31m\u{00}evil`; a.Reply != want {
					t.Errorf("reply %q, want %q", a.Reply, want)
				}
			},
		},
		{name: "version in four segments and junk", want: "open/ascii", timeout: time.Minute, connects: 1, serve: func(c *counting, _ int) {
			for _, part := range []string{"VER", "SION 1.", "4.5", "\r\n"} {
				_, _ = io.WriteString(c, part)
				<-time.After(25 * time.Millisecond)
			}
			_, _ = io.WriteString(c, "junk and more of it")
		}, check: func(t *testing.T, a *Answer) {
			if a.Version != "1.4.5" || a.Product != "memcached" {
				t.Errorf("%s %s", a.Product, a.Version)
			}
		}},
		{name: "ssh banner first", want: "other/ssh", timeout: time.Minute, serve: say("SSH-2.0-OpenSSH_9.2\r\n")},
		{name: "smtp banner first", want: "other/smtp", timeout: time.Minute, serve: say("220 mail.example.com ESMTP\r\n")},
		{name: "redis", want: "other/redis", timeout: time.Minute, serve: afterRequest("-ERR unknown command 'version', with args beginning with: \r\n")},
		{name: "nginx", want: "other/http", timeout: time.Minute, serve: afterRequest("HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n")},
		{name: "twemproxy without a back end", want: "compatible/error_line", timeout: time.Minute, serve: afterRequest("SERVER_ERROR Connection refused\r\n")},
		{name: "mcrouter", want: "open/ascii", timeout: time.Minute, serve: afterRequest("VERSION mcrouter 36.0.0\r\n"), check: func(t *testing.T, a *Answer) {
			if a.Product != "mcrouter" {
				t.Errorf("product %q", a.Product)
			}
		}},
		{name: "too many connections", want: "compatible/busy", timeout: time.Minute, serve: func(c *counting, _ int) {
			_, _ = io.WriteString(c, "ERROR Too many open connections\r\n")
			c.reset()
		}},
		{name: "ascii authentication", want: "auth_required/ascii", timeout: time.Minute, serve: afterRequest("CLIENT_ERROR unauthenticated\r\n")},
		{name: "reset after our bytes", want: "inconclusive/unidentified", timeout: time.Minute, connects: 3, serve: func(c *counting, _ int) {
			c.request()
			c.reset()
		}},
		{name: "reset on accept", want: "inconclusive/unidentified", timeout: time.Minute, connects: 3, serve: func(c *counting, _ int) { c.reset() }},
		{name: "end on accept", want: "inconclusive/unidentified", timeout: time.Minute, connects: 3, serve: func(c *counting, _ int) { _ = c.Conn.(*net.TCPConn).CloseWrite() }},
		{name: "accepts and stays silent", want: "inconclusive/unidentified", timeout: soon, connects: 3, serve: func(*counting, int) {}},
		{name: "binary only", want: "open/binary", timeout: time.Minute, connects: 2, serve: func(c *counting, _ int) {
			b := c.request()
			if b[0] != 0x80 {
				_ = c.Conn.Close()
				return
			}
			_, _ = c.Write(noopReply(append(make([]byte, frameLen), b...), 0)[frameLen:])
		}},
		{name: "sasl with a body of four gigabytes", want: "auth_required/sasl", timeout: time.Minute, connects: 2, serve: func(c *counting, _ int) {
			b := c.request()
			if b[0] != 0x80 {
				_ = c.Conn.Close()
				return
			}
			b = noopReply(append(make([]byte, frameLen), b...), 0x20)[frameLen:]
			copy(b[8:], []byte{0xff, 0xff, 0xff, 0xff})
			_, _ = c.Write(b)
		}},
		{name: "binary reply to somebody else", want: "other/unrecognised", timeout: time.Minute, connects: 2, serve: func(c *counting, _ int) {
			b := c.request()
			if b[0] != 0x80 {
				_ = c.Conn.Close()
				return
			}
			b = noopReply(append(make([]byte, frameLen), b...), 0)[frameLen:]
			b[12] ^= 1
			_, _ = c.Write(b)
		}},
		{name: "binary reply of another status", want: "compatible/status", timeout: time.Minute, connects: 2, serve: func(c *counting, _ int) {
			b := c.request()
			if b[0] != 0x80 {
				_ = c.Conn.Close()
				return
			}
			_, _ = c.Write(noopReply(append(make([]byte, frameLen), b...), 0x81)[frameLen:])
		}},
		{name: "answers and closes before it reads", want: "open/ascii", timeout: time.Minute, connects: 1, serve: func(c *counting, _ int) {
			_, _ = io.WriteString(c, "VERSION 1.6.18\r\n")
			_ = c.Conn.(*net.TCPConn).CloseWrite()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr := fresh()
			counted := serveTCP(t, addr, test.serve)
			start := time.Now()
			out := ask(t, options(test.timeout), tcpTo(addr))
			a := answerOf(t, out, addr, "tcp")
			is(t, a, test.want)
			if took, most := time.Since(start), 3*test.timeout+2*time.Second; took > min(most, 10*time.Second) {
				t.Errorf("took %s", took)
			}
			if n := counted.connects.Load(); test.connects != 0 && n != test.connects {
				t.Errorf("%d connects, want %d", n, test.connects)
			}
			if a.Verdict != Open && a.Proves() != "" {
				t.Errorf("proves %s", a.Proves())
			}
			if test.check != nil {
				test.check(t, a)
			}
		})
	}
}

// TestMemoryFlat holds that what a server claims or floods costs no memory.
func TestMemoryFlat(t *testing.T) {
	var targets []Target
	for range 100 {
		addr := fresh()
		serveTCP(t, addr, func(c *counting, _ int) {
			for b := bytes.Repeat([]byte("A"), 16<<10); ; {
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		})
		targets = append(targets, tcpTo(addr))
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	out := ask(t, options(time.Minute), targets...)
	runtime.ReadMemStats(&after)
	if len(out.Results) != 100 {
		t.Errorf("%d results", len(out.Results))
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
		t.Errorf("allocated %d bytes for 100 floods", used)
	}
}

// certificate returns a fresh self-signed certificate.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "probe test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestInsideTLS asks servers that speak TLS: plain requests get a reset.
func TestInsideTLS(t *testing.T) {
	cert := certificate(t)
	for _, test := range []struct {
		name   string
		config *tls.Config
		inside func(c *tls.Conn)
		want   []string
	}{
		{"memcached", &tls.Config{}, func(c *tls.Conn) { _, _ = io.WriteString(c, "VERSION 1.6.18\r\n") }, []string{"tls/open"}},
		{"ascii authentication", &tls.Config{}, func(c *tls.Conn) { _, _ = io.WriteString(c, "CLIENT_ERROR unauthenticated\r\n") }, []string{"tls/ascii"}},
		{"a proxy", &tls.Config{}, func(c *tls.Conn) { _, _ = io.WriteString(c, "SERVER_ERROR Connection refused\r\n") }, []string{"tls/compatible"}},
		{"http", &tls.Config{}, func(c *tls.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, []string{"other/tls"}},
		{"silence", &tls.Config{}, func(*tls.Conn) {}, []string{"tls/unidentified"}},
		{"a flood", &tls.Config{}, func(c *tls.Conn) {
			for b := bytes.Repeat([]byte("A"), 4096); ; {
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		}, []string{"other/tls"}},
		{"a client certificate", &tls.Config{ClientAuth: tls.RequireAnyClientCert}, func(*tls.Conn) {}, []string{"tls/client_cert"}},
		{"a client certificate and TLS 1.2", &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, func(*tls.Conn) {}, []string{"tls/client_cert"}},
		{"TLS 1.0 only", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, func(*tls.Conn) {}, []string{"tls/unidentified", "inconclusive/unidentified"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr := fresh()
			config := test.config.Clone()
			config.Certificates = []tls.Certificate{cert}
			var hello atomic.Int64
			counted := serveTCP(t, addr, func(c *counting, n int) {
				plain := c.Conn
				first := make([]byte, 1)
				if _, err := plain.Read(first); err != nil || first[0] != 0x16 {
					c.reset()
					return
				}
				record := &replayed{Conn: plain, first: first}
				conn := tls.Server(record, config)
				err := conn.Handshake()
				if n == 3 {
					hello.Store(record.hello)
				}
				if err != nil {
					_ = plain.(*net.TCPConn).CloseWrite()
					return
				}
				inside := &counting{Conn: conn, tally: c.tally}
				inside.request()
				test.inside(conn)
				_, _ = io.Copy(io.Discard, inside)
			})
			a := answerOf(t, ask(t, options(soon), tcpTo(addr)), addr, "tcp")
			got := string(a.Verdict) + "/" + a.Detail
			ok := false
			for _, want := range test.want {
				ok = ok || got == want
			}
			if !ok {
				t.Errorf("got %s, want %v: %+v", got, test.want, a)
			}
			if counted.connects.Load() > 4 {
				t.Errorf("%d connects", counted.connects.Load())
			}
			if n := hello.Load(); n > 300 {
				t.Errorf("a client hello of %d bytes", n)
			}
			if a.Auth == AuthNone != (got == "tls/open") {
				t.Errorf("auth %s", a.Auth)
			}
		})
	}
}

// replayed gives a connection its first byte back, and counts the client hello: what is read before the first write.
type replayed struct {
	net.Conn
	first []byte
	hello int64
	wrote bool
}

func (r *replayed) Read(b []byte) (int, error) {
	n := copy(b, r.first)
	var err error
	if n == 0 {
		n, err = r.Conn.Read(b)
	}
	r.first = nil
	if !r.wrote {
		r.hello += int64(n)
	}
	return n, err
}

func (r *replayed) Write(b []byte) (int, error) {
	r.wrote = true
	return r.Conn.Write(b)
}

// backlog listens with a queue that is full, and returns the listening socket.
func backlog(t *testing.T, addr netip.AddrPort) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, sockaddr(addr)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", addr.String()) // the one that fits in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return fd
}

// overflows returns how many connects this namespace has dropped because a queue was full.
func overflows(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/net/netstat")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^TcpExt: (.*ListenOverflows.*)\nTcpExt: (.*)$`).FindStringSubmatch(string(text))
	for i, name := range strings.Fields(m[1]) {
		if name == "ListenOverflows" {
			n, _ := strconv.Atoi(strings.Fields(m[2])[i])
			return n
		}
	}
	t.Fatal("no ListenOverflows")
	return 0
}

// TestFullServer asks a server that does not accept.
func TestFullServer(t *testing.T) {
	t.Run("for good", func(t *testing.T) {
		addr := fresh()
		backlog(t, addr)
		a := answerOf(t, ask(t, options(soon), tcpTo(addr)), addr, "tcp")
		is(t, a, "filtered/timeout")
		if len(a.Exchanges) != 2 {
			t.Errorf("%d connects", len(a.Exchanges))
		}
		if text := a.Sentence(); strings.Contains(text, "safe") || strings.Contains(text, "closed") || !strings.Contains(text, "does not follow") {
			t.Errorf("worded as safe: %s", text)
		}
	})
	t.Run("at first", func(t *testing.T) {
		addr := fresh()
		fd := backlog(t, addr)
		before := overflows(t)
		accepted := make(chan struct{})
		go func() {
			defer close(accepted)
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for overflows(t) == before { // until the first connect has been dropped
				<-tick.C
			}
			for n := 0; n < 2; { // the one that was in the way, and the second connect
				conn, _, err := unix.Accept(fd)
				if err != nil {
					<-tick.C
					continue
				}
				n++
				_, _ = unix.Write(conn, []byte("VERSION 1.5.22\r\n"))
				defer unix.Close(conn)
			}
		}()
		a := answerOf(t, ask(t, options(700*time.Millisecond), tcpTo(addr)), addr, "tcp")
		<-accepted
		is(t, a, "open/ascii")
		if len(a.Exchanges) != 2 || a.Exchanges[0].Error == "" {
			t.Errorf("not through the second connect: %+v", a.Exchanges)
		}
	})
}

// TestRejectedTCP asks through rules that reject.
func TestRejectedTCP(t *testing.T) {
	admin, host, reset, unreachable := fresh(), fresh(), fresh(), fresh()
	firewall(t,
		"ip daddr "+admin.Addr().String()+" tcp dport 11211 reject with icmp type admin-prohibited",
		"ip daddr "+host.Addr().String()+" tcp dport 11211 reject with icmp type host-unreachable",
		"ip daddr "+reset.Addr().String()+" tcp dport 11211 reject with tcp reset",
		"ip daddr "+unreachable.Addr().String()+" tcp dport 11211 reject with icmp type port-unreachable",
		"ip6 daddr ::1 tcp dport 11213 reject with icmpv6 type admin-prohibited",
	)
	six := netip.MustParseAddrPort("[::1]:11213")
	out := ask(t, options(soon), tcpTo(admin), tcpTo(host), tcpTo(reset), tcpTo(unreachable), tcpTo(six))
	is(t, answerOf(t, out, admin, "tcp"), "filtered/rejected")
	is(t, answerOf(t, out, host, "tcp"), "filtered/rejected")
	is(t, answerOf(t, out, reset, "tcp"), "closed/refused")
	is(t, answerOf(t, out, unreachable, "tcp"), "closed/refused")
	is(t, answerOf(t, out, six, "tcp"), "filtered/rejected")
}
