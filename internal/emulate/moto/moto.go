// Package moto starts moto, an emulation of AWS that the project did not write (https://github.com/getmoto/moto), for tests
// that must not believe the project's own emulation alone. A server lives as long as its test, and listens on loopback.
package moto

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Python is the interpreter that has moto: the environment's MOTO_PYTHON, or python3.
func Python() string {
	if p := os.Getenv("MOTO_PYTHON"); p != "" {
		return p
	}
	return "python3"
}

// Start starts a server, with env besides the test's own environment, and returns its URL. It picks names of resources
// from a fixed seed. Without moto the test fails and says how to install it.
func Start(t testing.TB, env ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	// Port 0 lets the system choose; the server's log says which.
	server := exec.CommandContext(ctx, Python(), "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0")
	server.Env = append(os.Environ(), append([]string{"MOTO_PORT=0"}, env...)...)
	log, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		cancel()
		t.Fatalf("cannot start moto: %v\ninstall it: pip install 'moto[server,all]' boto3, or set MOTO_PYTHON to a python that has it", err)
	}
	t.Cleanup(func() {
		cancel()
		_ = server.Wait() // it was killed
	})
	found := make(chan string, 1)
	var said strings.Builder
	go func() {
		lines := bufio.NewScanner(log)
		for lines.Scan() {
			if _, rest, ok := strings.Cut(lines.Text(), "Running on http://"); ok {
				found <- "http://" + strings.TrimSpace(rest)
				break
			}
			said.WriteString(lines.Text() + "\n")
		}
		close(found)
		_, _ = io.Copy(io.Discard, log)
	}()
	var url string
	select {
	case url = <-found:
	case <-time.After(2 * time.Minute):
		t.Fatal("moto does not start within two minutes")
	}
	if url == "" {
		t.Fatalf("moto does not start:\n%s\ninstall it: pip install 'moto[server,all]' boto3, or set MOTO_PYTHON to a python that has it", said.String())
	}
	post(t, url+"/moto-api/seed?a=42")
	return url
}

func post(t testing.TB, url string) {
	t.Helper()
	response, err := http.Post(url, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatal(fmt.Errorf("%s: %s", url, response.Status))
	}
}
