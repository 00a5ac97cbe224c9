package probe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespace marks the process that runs the tests.
const inNamespace = "CLOUDAUDIT_PROBE_TEST_NAMESPACE"

// port is memcached's: in a network of its own the tests can have it.
const port = 11211

// TestMain runs the tests in a network namespace of their own: nothing that they start can be reached from outside, no
// packet leaves, and they may reject and drop packets as a firewall does.
func TestMain(m *testing.M) {
	if os.Getenv(inNamespace) != "" {
		if err := loopbackUp(); err != nil {
			fmt.Fprintln(os.Stderr, "probe: loopback in the namespace:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		os.Exit(max(1, exit.ExitCode()))
	case os.Getenv("CI") == "true":
		fmt.Fprintln(os.Stderr, "probe: the tests need a network namespace of their own (root, or user namespaces):", err)
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "probe: tests skipped: they need a network namespace of their own (root, or user namespaces):", err)
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// firewall adds rules for what comes in.
func firewall(t *testing.T, rules ...string) {
	t.Helper()
	firewallAt(t, "input", rules...)
}

// firewallAt adds rules to the namespace's firewall at one hook, until the test is over.
func firewallAt(t *testing.T, hook string, rules ...string) {
	t.Helper()
	nft := program(t, "nft", "nftables")
	table := fmt.Sprintf("t%d", tables.Add(1))
	script := "table inet " + table + " {\n chain rules {\n  type filter hook " + hook + " priority 0;\n"
	for _, r := range rules {
		script += "  " + r + "\n"
	}
	script += " }\n}\n"
	load := func(s string) error {
		cmd := exec.Command(nft, "-f", "-")
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			defer in.Close()
			_, _ = in.Write([]byte(s))
		}()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := load(script); err != nil {
		t.Fatalf("nft: %v\n%s", err, script)
	}
	t.Cleanup(func() {
		if err := load("delete table inet " + table + "\n"); err != nil {
			t.Error(err)
		}
	})
}

var tables, addresses atomic.Int32

// program returns the path of a program that the tests need. In CI it has to be there.
func program(t *testing.T, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if _, err := os.Stat(dir + name); err == nil {
			return dir + name
		}
	}
	skip(t, name+" is not installed: apt-get install "+debian)
	return ""
}

// fresh returns a loopback address that no other test uses.
func fresh() netip.AddrPort {
	n := addresses.Add(1)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 20, byte(n >> 8), byte(n)}), port)
}

// options are those of the tests: as fast as it goes, on loopback.
func options(timeout time.Duration) Options {
	return Options{
		Rate: math.Inf(1), Timeout: timeout, Measure: true,
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
	}
}

// ask runs the probe and fails the test if it takes a minute.
func ask(t *testing.T, o Options, targets ...Target) *Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := Run(ctx, targets, o)
	if err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatal("the run did not end")
	}
	return out
}

// answerOf returns what addr answered over network.
func answerOf(t *testing.T, out *Outcome, addr netip.AddrPort, network string) *Answer {
	t.Helper()
	i := slices.IndexFunc(out.Results, func(r Result) bool { return r.Addr == addr && r.Protocol == network })
	if i < 0 {
		t.Fatalf("%s %s: no result; left: %v", network, addr, out.Left)
	}
	return &out.Results[i].Answer
}

// is fails the test unless a has the verdict and detail, written verdict/detail.
func is(t *testing.T, a *Answer, want string) {
	t.Helper()
	got := string(a.Verdict) + "/" + a.Detail
	if got != want {
		t.Errorf("got %s, want %s: %+v", got, want, a)
	}
}

// skip skips a test that this machine cannot run. In CI it fails: there everything has to be.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// tally counts at the server what one address is sent.
type tally struct {
	connects, bytes, datagrams, payload atomic.Int64
}

// check holds the tally to the budget when the test is over.
func (c *tally) check(t *testing.T) {
	t.Helper()
	if n := c.connects.Load(); n > 5 {
		t.Errorf("%d connects", n)
	}
	if n := c.bytes.Load(); n > 96 {
		t.Errorf("%d bytes over TCP", n)
	}
	if n := c.datagrams.Load(); n > 4 {
		t.Errorf("%d datagrams", n)
	}
	if n := c.payload.Load(); n > 114 {
		t.Errorf("%d bytes over UDP", n)
	}
}

// counting is the server's end of a connection.
type counting struct {
	net.Conn
	tally *tally
	begun bool
	hello bool // it began with a TLS handshake, which comes on top of the budget
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.begun {
		c.begun, c.hello = true, b[0] == 0x16
	}
	if !c.hello {
		c.tally.bytes.Add(int64(n))
	}
	return n, err
}

func (c *counting) reset() { _ = c.Conn.(*net.TCPConn).SetLinger(0); _ = c.Conn.Close() }

// request reads what the probe sends at once on one connection.
func (c *counting) request() []byte {
	b := make([]byte, 24)
	for n := 0; n < len(b); {
		m, err := c.Read(b[n:])
		if n += m; err != nil {
			return b[:n]
		}
	}
	return b
}

// serveTCP answers connections to addr, numbered from 1, until the test is over. What the handler leaves unread is read to
// the end and counted.
func serveTCP(t *testing.T, addr netip.AddrPort, handle func(c *counting, n int)) *tally {
	t.Helper()
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	c := &tally{}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			n := int(c.connects.Add(1))
			wg.Go(func() {
				x := &counting{Conn: conn, tally: c}
				handle(x, n)
				for b := make([]byte, 1024); ; {
					if _, err := x.Read(b); err != nil {
						break
					}
				}
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
		c.check(t)
	})
	return c
}

// udpServer is a fake that answers datagrams.
type udpServer struct {
	*tally
	conn *net.UDPConn
}

func (s *udpServer) send(to netip.AddrPort, parts ...[]byte) {
	_, _ = s.conn.WriteToUDPAddrPort(slices.Concat(parts...), to)
}

// serveUDP hands datagrams to addr, numbered from 1, to handle until the test is over.
func serveUDP(t *testing.T, addr netip.AddrPort, handle func(s *udpServer, b []byte, from netip.AddrPort, n int)) *udpServer {
	t.Helper()
	s := &udpServer{&tally{}, listenUDP(t, addr)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for b := make([]byte, 2048); ; {
			n, from, err := s.conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			s.payload.Add(int64(n))
			handle(s, b[:n], from, int(s.datagrams.Add(1)))
		}
	})
	t.Cleanup(func() {
		_ = s.conn.Close()
		wg.Wait()
		s.check(t)
	})
	return s
}

func listenUDP(t *testing.T, addr netip.AddrPort) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// noopReply is memcached's reply to a framed NOOP.
func noopReply(request []byte, status byte) []byte {
	b := slices.Clone(request[:frameLen+headerLen])
	b[8], b[15] = 0x81, status
	return b
}

func tcpTo(addr netip.AddrPort) Target { return Target{Addr: addr, TCP: true} }
func udpTo(addr netip.AddrPort) Target { return Target{Addr: addr, UDP: true} }
