// Command probe measures package probe beside nmap: the same 10,000 addresses, at equal timeouts, in one run, over TCP and
// over UDP. Everything stays inside a network namespace that the program makes for itself, in which 10 % of the addresses
// answer, 45 % are closed and 45 % drop what comes.
//
// It exits with status 1 if package probe misses an address, or one of its goals: 3 times as fast as nmap over TCP, 10
// times over UDP, in at most 64 MB. nmap is run as its most aggressive template goes (-T5 --min-rate 5000), which the goals
// are about, and once more with groups and parallelism set by hand for exactly this task, for honesty.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudaudit/cloudaudit/probe"
)

const (
	port    = 11211
	open    = 1000
	closed  = 4500
	silent  = 4500
	all     = open + closed + silent
	timeout = 500 * time.Millisecond
	runs    = 3 // of package probe, of which the median counts

	goalTCP, goalUDP = 3.0, 10.0
	goalMemory       = 64 << 10 // KiB
)

func main() {
	var err error
	switch mode := append(os.Args, "")[1]; mode {
	case "":
		err = enter()
	case "inside":
		err = compare()
	case "serve":
		err = serve()
	case "tcp", "udp":
		err = ask(mode)
	default:
		err = fmt.Errorf("unknown mode %q", mode)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		os.Exit(max(1, exit.ExitCode()))
	default:
		fmt.Fprintln(os.Stderr, "bench-probe:", err)
		os.Exit(1)
	}
}

// enter runs the comparison in a network namespace of its own.
func enter() error {
	for _, name := range []string{"nmap", "nft"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%s is not installed: apt-get install nmap nftables", name)
		}
	}
	cmd := self("inside")
	cmd.Stdout = os.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("in a network namespace (root, or user namespaces): %w", err)
	}
	return nil
}

// self runs this program in another mode.
func self(mode string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", mode)
	cmd.Stderr = os.Stderr
	return cmd
}

// result is one run of one prober.
type result struct {
	took                 time.Duration
	cpu                  time.Duration
	memory               int64 // KiB
	open, closed, silent int
}

// compare prepares the namespace and measures both probers in it.
func compare() error {
	if err := prepare(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-probe")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	list := filepath.Join(dir, "targets")
	var text strings.Builder
	for _, a := range targets() {
		fmt.Fprintln(&text, a.Addr())
	}
	if err := os.WriteFile(list, []byte(text.String()), 0o600); err != nil {
		return err
	}
	server := self("serve")
	ready, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		return err
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
		return fmt.Errorf("server: %w", err)
	}

	fmt.Printf("%d addresses: %d answer, %d are closed, %d are silent; timeout %s and one retry; no pacing\n\n", all, open, closed, silent, timeout)
	fmt.Printf("%-22s %9s %11s %7s %8s %7s %7s %7s %9s\n", "prober", "seconds", "targets/s", "CPU s", "memory", "open", "closed", "silent", "as nmap")
	missed := false
	for _, network := range []string{"tcp", "udp"} {
		scan, goal := "-sS", goalTCP
		if network == "udp" {
			scan, goal = "-sU", goalUDP
		}
		theirs, err := nmap(list, scan)
		if err != nil {
			return err
		}
		tuned, err := nmap(list, scan, "--min-hostgroup", "4096", "--min-parallelism", "5000")
		if err != nil {
			return err
		}
		var ours []result
		for range runs {
			r, err := measured(self(network), count)
			if err != nil {
				return err
			}
			ours = append(ours, r)
		}
		slices.SortFunc(ours, func(a, b result) int { return int(a.took - b.took) })
		median := ours[len(ours)/2]
		print := func(name string, r result) {
			fmt.Printf("%-22s %9.2f %11.0f %7.2f %5d MB %7d %7d %7d %8.1fx\n", name, r.took.Seconds(), all/r.took.Seconds(), r.cpu.Seconds(),
				r.memory>>10, r.open, r.closed, r.silent, theirs.took.Seconds()/r.took.Seconds())
		}
		print(network+" nmap -T5", theirs)
		print(network+" nmap, tuned by hand", tuned)
		print(network+" cloudaudit", median)
		for _, r := range ours {
			if r.open != open || r.closed != closed || r.silent != silent {
				fmt.Printf("MISSED: %s: %d open, %d closed, %d silent\n", network, r.open, r.closed, r.silent)
				missed = true
			}
			if r.memory > goalMemory {
				fmt.Printf("MISSED: %s: %d KiB of memory, the goal is %d\n", network, r.memory, goalMemory)
				missed = true
			}
		}
		if ratio := theirs.took.Seconds() / median.took.Seconds(); ratio < goal {
			fmt.Printf("MISSED: %s: %.1f times as fast as nmap, the goal is %g\n", network, ratio, goal)
			missed = true
		}
	}
	if missed {
		return errors.New("a goal was missed")
	}
	return nil
}

// measured runs cmd and counts what it found in its output.
func measured(cmd *exec.Cmd, count func([]byte) (open, closed, silent int, err error)) (result, error) {
	var out bytes.Buffer
	cmd.Stdout = &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return result{}, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	r := result{took: time.Since(start), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.memory = usage.Maxrss
	}
	var err error
	r.open, r.closed, r.silent, err = count(out.Bytes())
	return r, err
}

// count reads the output of ask.
func count(out []byte) (int, int, int, error) {
	var n struct{ Open, Closed, Silent int }
	err := json.Unmarshal(out, &n)
	return n.Open, n.Closed, n.Silent, err
}

// nmap runs nmap with the timeouts of package probe.
func nmap(list, scan string, more ...string) (result, error) {
	ms := fmt.Sprintf("%dms", timeout.Milliseconds())
	args := append([]string{
		"-n", "-Pn", "--privileged", scan, "-p", fmt.Sprint(port), "-T5", "--min-rate", "5000",
		"--initial-rtt-timeout", ms, "--max-rtt-timeout", ms, "--max-retries", "1", "-iL", list, "-oG", "-",
	}, more...)
	return measured(exec.Command("nmap", args...), func(out []byte) (int, int, int, error) {
		n := func(state string) int { return bytes.Count(out, fmt.Appendf(nil, "%d/%s/", port, state)) }
		return n("open"), n("closed"), n("filtered") + n("open|filtered"), nil
	})
}

// prepare brings loopback up and lets the silent addresses drop everything.
func prepare() error {
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
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader("table inet bench {\n chain input {\n  type filter hook input priority 0;\n" +
		"  ip daddr 127.11.0.0/16 meta l4proto { tcp, udp } th dport 11211 drop\n }\n}\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}

// targets returns what is asked: 127.9.x.x answers, 127.10.x.x is closed, 127.11.x.x is silent.
func targets() []netip.AddrPort {
	var out []netip.AddrPort
	for block, n := range map[byte]int{9: open, 10: closed, 11: silent} {
		for i := range n {
			out = append(out, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, block, byte(i / 250), byte(i%250 + 1)}), port))
		}
	}
	slices.SortFunc(out, func(a, b netip.AddrPort) int { // mixed, and the same in every run
		return int(scatter(a)) - int(scatter(b))
	})
	return out
}

func scatter(a netip.AddrPort) uint16 {
	b := a.Addr().As4()
	return uint16(b[1])*40503 ^ uint16(b[2])*10007 ^ uint16(b[3])*25117
}

// serve answers on the open addresses, from the address that was asked, until it is killed.
func serve() error {
	for _, a := range targets() {
		if a.Addr().As4()[1] != 9 {
			continue
		}
		l, err := net.Listen("tcp", a.String())
		if err != nil {
			return err
		}
		u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(a))
		if err != nil {
			return err
		}
		go answerTCP(l)
		go answerUDP(u)
	}
	fmt.Println("ready")
	select {}
}

func answerTCP(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			b := make([]byte, 64)
			if n, err := conn.Read(b); err == nil && bytes.HasPrefix(b[:n], []byte("version")) {
				_, _ = io.WriteString(conn, "VERSION 1.6.18\r\n")
				_, _ = conn.Read(b) // until the probe has closed it
			}
		}()
	}
}

// answerUDP answers a NOOP of the binary protocol, and what nmap asks with an error line.
func answerUDP(u *net.UDPConn) {
	b := make([]byte, 2048)
	for {
		n, from, err := u.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if n < 9 {
			continue
		}
		reply := b[:n]
		if n == 32 && b[8] == 0x80 {
			reply[8] = 0x81
		} else {
			reply = append(slices.Clone(b[:8]), "ERROR\r\n"...)
		}
		_, _ = u.WriteToUDPAddrPort(reply, from)
	}
}

// ask runs package probe over one protocol and prints what it found.
func ask(network string) error {
	var asked []probe.Target
	for _, a := range targets() {
		asked = append(asked, probe.Target{Addr: a, TCP: network == "tcp", UDP: network == "udp"})
	}
	out, err := probe.Run(context.Background(), asked, probe.Options{
		Rate: math.Inf(1), Timeout: timeout, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	if err != nil {
		return err
	}
	var n struct{ Open, Closed, Silent int }
	for _, r := range out.Results {
		switch r.Answer.Verdict {
		case probe.Open:
			n.Open++
		case probe.Closed:
			n.Closed++
		case probe.Filtered, probe.Inconclusive:
			n.Silent++
		}
	}
	return json.NewEncoder(os.Stdout).Encode(n)
}
