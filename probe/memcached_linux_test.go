package probe

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// memcachedAt starts the real memcached with the given arguments and waits until it answers at addr. It returns false if
// this build does not have an option.
func memcachedAt(t *testing.T, network string, addr netip.AddrPort, args ...string) bool {
	t.Helper()
	path := program(t, "memcached", "memcached")
	var said bytes.Buffer
	cmd := exec.Command(path, append([]string{"-u", "root", "-m", "64", "-t", "1"}, args...)...)
	cmd.Stdout, cmd.Stderr = &said, &said
	sasl := t.TempDir()
	if err := os.WriteFile(filepath.Join(sasl, "memcached.conf"), []byte("mech_list: plain\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "SASL_CONF_PATH="+sasl)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for {
		if listens(network, addr) {
			return true
		}
		select {
		case <-ended:
			if strings.Contains(said.String(), "not built with") || strings.Contains(said.String(), "invalid option") || strings.Contains(said.String(), "Illegal argument") {
				t.Logf("memcached %v: %s", args, &said)
				return false
			}
			t.Fatalf("memcached %v ended: %s", args, &said)
		case <-deadline:
			t.Fatalf("memcached %v does not listen at %s", args, addr)
		case <-tick.C:
		}
	}
}

// listens asks the kernel whether somebody has the port of addr.
func listens(network string, addr netip.AddrPort) bool {
	if network == "tcp" {
		conn, err := net.Dial("tcp", addr.String())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err == nil {
		_ = conn.Close()
	}
	return err != nil
}

// TestMemcached asks the real memcached in each of its modes. The byte counts are those of memcached 1.6.18 and its
// relatives: they depend on the length of the version, which is taken from the answer.
func TestMemcached(t *testing.T) {
	program(t, "memcached", "memcached")
	dir := t.TempDir()
	cert := certificate(t)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	chain := file("chain.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	secret := file("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	users := file("users", []byte("somebody:secret\n"))
	withTLS := []string{"-Z", "-o", "ssl_chain_cert=" + chain + ",ssl_key=" + secret}
	mutual := []string{"-Z", "-o", "ssl_chain_cert=" + chain + ",ssl_key=" + secret + ",ssl_verify_mode=2,ssl_ca_cert=" + chain}
	const versionLine = len("VERSION \r\n")
	for _, test := range []struct {
		name     string
		args     []string
		tcp, udp string
		// What was sent and received over TCP; -1 is a VERSION line.
		sent, received int
	}{
		{"default", []string{"-p", "11211"}, "open/ascii", "closed/refused", 24, -1},
		{"-U", []string{"-p", "11211", "-U", "11211"}, "open/ascii", "open/noop", 24, -1},
		{"-p 0 -U", []string{"-p", "0", "-U", "11211"}, "closed/refused", "open/noop", 0, 0},
		{"-p -U 0", []string{"-p", "11211", "-U", "0"}, "open/ascii", "closed/refused", 24, -1},
		{"-U elsewhere", []string{"-p", "11211", "-U", "11333"}, "open/ascii", "closed/refused", 24, -1},
		{"-B ascii", []string{"-p", "11211", "-B", "ascii"}, "open/ascii", "closed/refused", 24, -1},
		{"-B binary", []string{"-p", "11211", "-B", "binary"}, "open/binary", "closed/refused", 48, 24},
		{"-B binary -U", []string{"-p", "11211", "-B", "binary", "-U", "11211"}, "open/binary", "open/noop", 48, 24},
		{"-Y", []string{"-p", "11211", "-Y", users}, "auth_required/ascii", "closed/refused", 24, 30},
		{"-S", []string{"-p", "11211", "-S"}, "auth_required/sasl", "closed/refused", 48, 37},
		{"-Z", append([]string{"-p", "11211"}, withTLS...), "tls/open", "closed/refused", 72, -1},
		{"-Z -U", append([]string{"-p", "11211", "-U", "11211"}, withTLS...), "tls/open", "open/noop", 72, -1},
		{"-Z -S", append([]string{"-p", "11211", "-S"}, withTLS...), "tls/sasl", "closed/refused", 96, 37},
		{"-Z -Y", append([]string{"-p", "11211", "-Y", users}, withTLS...), "tls/ascii", "closed/refused", 72, 30},
		{"-Z with client certificates", append([]string{"-p", "11211"}, mutual...), "tls/client_cert", "closed/refused", -1, 0},
		{"-Z with client certificates, -U", append([]string{"-p", "11211", "-U", "11211"}, mutual...), "tls/client_cert", "open/noop", -1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr := fresh()
			network := "tcp"
			if test.args[1] == "0" {
				network = "udp"
			}
			if !memcachedAt(t, network, addr, append([]string{"-l", addr.Addr().String()}, test.args...)...) {
				skip(t, "this build of memcached does not have the option")
			}
			out := ask(t, options(time.Second), Target{Addr: addr, TCP: true, UDP: true})
			a, u := answerOf(t, out, addr, "tcp"), answerOf(t, out, addr, "udp")
			is(t, a, test.tcp)
			is(t, u, test.udp)
			want := test.received
			if want < 0 {
				want = versionLine + len(a.Version)
				if a.Product != "memcached" || a.Version == "" {
					t.Errorf("product %q, version %q", a.Product, a.Version)
				}
			}
			if test.sent >= 0 && a.Sent != test.sent || a.Received != want {
				t.Errorf("TCP: %d bytes sent, %d received; want %d and %d", a.Sent, a.Received, test.sent, want)
			}
			if a.Sent > MaxTCPBytes {
				t.Errorf("TCP: %d bytes", a.Sent)
			}
			if test.udp == "open/noop" {
				checkMeasured(t, u)
			} else if u.Sent != 32 || u.Received != 0 || u.ICMP != "3/3" {
				t.Errorf("UDP: %+v", u)
			}
		})
	}
	t.Run("bound elsewhere", func(t *testing.T) {
		addr, other := fresh(), fresh()
		memcachedAt(t, "tcp", other, "-l", other.Addr().String(), "-U", "11211")
		out := ask(t, options(time.Second), Target{Addr: addr, TCP: true, UDP: true})
		is(t, answerOf(t, out, addr, "tcp"), "closed/refused")
		is(t, answerOf(t, out, addr, "udp"), "closed/refused")
	})
	t.Run("secondary address", func(t *testing.T) {
		addr := fresh()
		memcachedAt(t, "tcp", addr, "-U", "11211") // bound to every address of this namespace
		out := ask(t, options(time.Second), Target{Addr: addr, TCP: true, UDP: true})
		is(t, answerOf(t, out, addr, "tcp"), "open/ascii")
		u := answerOf(t, out, addr, "udp")
		is(t, u, "open/noop")
		checkMeasured(t, u)
		if u.RepliedFrom != "127.0.0.1" || u.SpoofSuspected != 0 {
			t.Errorf("replied from %q", u.RepliedFrom)
		}
	})
	t.Run("IPv6", func(t *testing.T) {
		addr := netip.MustParseAddrPort("[::1]:11211")
		if conn, err := net.ListenPacket("udp", "[::1]:0"); err != nil {
			skip(t, "this machine has no IPv6: "+err.Error())
		} else {
			_ = conn.Close()
		}
		memcachedAt(t, "tcp", addr, "-l", "::1", "-U", "11211")
		out := ask(t, options(time.Second), Target{Addr: addr, TCP: true, UDP: true})
		is(t, answerOf(t, out, addr, "tcp"), "open/ascii")
		u := answerOf(t, out, addr, "udp")
		is(t, u, "open/noop")
		if want := tenth(float64(u.Received+48*u.Datagrams) / (15 + 48)); u.WireFactor != want {
			t.Errorf("wire factor %v, want %v", u.WireFactor, want)
		}
	})
	t.Run("connection limit", func(t *testing.T) {
		addr := fresh()
		memcachedAt(t, "tcp", addr, "-l", addr.Addr().String(), "-c", "20")
		for range 40 {
			conn, err := net.Dial("tcp", addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			// One after the other: it accepts, or it says that it is full.
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			_, _ = io.WriteString(conn, "version\r\n")
			b := make([]byte, 64)
			if n, _ := conn.Read(b); !bytes.HasPrefix(b[:n], []byte("VERSION")) {
				break
			}
		}
		is(t, answerOf(t, ask(t, options(time.Second), tcpTo(addr)), addr, "tcp"), "compatible/busy")
	})
}

// checkMeasured holds a measurement to what stats of a fresh memcached gives: 1,032 bytes for 1.4.15 to 2,261 for 1.6.45.
func checkMeasured(t *testing.T, u *Answer) {
	t.Helper()
	if u.Sent != 15 || u.Received < 1000 || u.Received > 3000 || u.Datagrams != (u.Received+1399)/1400 || u.AtLeast {
		t.Errorf("sent %d, received %d in %d datagrams", u.Sent, u.Received, u.Datagrams)
	}
	if u.Amplification != tenth(float64(u.Received)/15) || u.Ceiling != 70274.3 || u.Product != "memcached" || u.Version == "" {
		t.Errorf("%+v", u)
	}
	if u.Proves() != "CA104" || u.Auth != AuthNone || !u.Answered {
		t.Errorf("%+v", u)
	}
}
