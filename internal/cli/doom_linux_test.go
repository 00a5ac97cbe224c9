//go:build amd64 || arm64

package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cloudaudit/cloudaudit/internal/cli"
)

// points are the system calls at which TestKilledWhileWriting kills a run: the content of a file is written and is to be put
// on the disk, and it is on the disk and is to get its name.
func points() map[string][]uint32 {
	return map[string][]uint32{"sync": {unix.SYS_FSYNC}, "name": {oldRename, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2}}
}

// doom has the kernel kill this process at its next call of one of these, as kill -9 does: no handler runs, nothing is
// closed or removed (seccomp(2), SECCOMP_RET_KILL_PROCESS).
func doom(calls []uint32) error {
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // the number of the call
	for _, call := range calls {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_KILL_PROCESS},
		)
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// The filter is only taken by a thread that can get no more rights. The other threads of the process get both from it.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, err := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); err != 0 {
		return err
	}
	return nil
}

// TestDoomed is the run that TestKilledWhileWriting kills, in a process of its own.
func TestDoomed(t *testing.T) {
	point := os.Getenv("DOOMED_AT")
	if point == "" {
		return
	}
	if err := doom(points()[point]); err != nil {
		t.Fatal(err)
	}
	cli.Run(t.Context(), cli.System{Args: strings.Fields(os.Getenv("DOOMED_TO")), Getenv: os.Getenv, Stdout: os.Stdout, Stderr: os.Stderr})
}

// TestKilledWhileWriting kills a run while it writes its report, and while it writes its state: what was there before is
// there still, whole, and the next run goes on from it.
func TestKilledWhileWriting(t *testing.T) {
	w := newWatch(t)
	w.scan(cli.ExitFindings)
	w.inbox.take("/" + hookSecret)
	read := func() map[string]string {
		files := map[string]string{}
		for _, path := range append(w.reports(), w.path("latest.json"), w.path("state/baseline.json"), w.path("state/notified.json")) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files[path] = string(data)
		}
		return files
	}
	before := read()
	w.remove("us-east-1", "sgr-0old") // what the next report has to say
	partial := func(pattern string) []string {
		found, err := filepath.Glob(w.path(pattern))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for _, writing := range []struct {
		what, partial string
		arguments     string
	}{
		{"the report", ".latest.json.*", "scan --config " + w.path("cloudaudit.yaml")},
		{"the state", "state/.report-*", "scan --state-dir " + w.path("state")},
	} {
		for point, calls := range points() {
			t.Run(writing.what+", at its "+point, func(t *testing.T) {
				if len(calls) == 0 {
					t.Fatal("no calls")
				}
				cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDoomed$")
				cmd.Env = append(os.Environ(), "DOOMED_AT="+point, "DOOMED_TO="+writing.arguments)
				out, err := cmd.CombinedOutput()
				if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGSYS {
					t.Fatalf("it was not killed: %v\n%s", err, out)
				}
				if left := partial(writing.partial); len(left) == 0 {
					t.Fatal("it was killed, and not while it wrote")
				}
				after := read()
				for path, content := range before {
					if after[path] != content {
						t.Errorf("%s is another now", path)
					}
				}
				if len(after) != len(before) {
					t.Errorf("%d files, want %d", len(after), len(before))
				}
			})
		}
	}
	w.scan(cli.ExitClean)
	if told := w.inbox.take("/" + hookSecret); len(told) != 1 || !strings.Contains(told[0], "Cleared:\n- warning CA101: sgr-0old") {
		t.Errorf("notifications %q", told)
	}
	if left := partial("state/.*"); len(left) != 0 {
		t.Errorf("the next run has not swept away %q", left)
	}
}
