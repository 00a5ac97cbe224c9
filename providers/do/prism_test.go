package do

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudaudit/cloudaudit/cloud"
)

const description = "../../../shared/specs/digitalocean-openapi.yaml"

// TestAgainstPrism reads the mock server that Prism makes of DigitalOcean's own description of the API: software that
// knows nothing of us, whose pages repeat themselves and whose lists contradict each other. Reading completes and ends.
func TestAgainstPrism(t *testing.T) {
	if _, err := os.Stat(description); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("there is no %s", description)
	}
	prism, err := exec.LookPath("prism")
	if err != nil {
		prism, err = filepath.Abs("../../node_modules/.bin/prism")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(prism); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal("prism is not installed: npm install @stoplight/prism-cli")
			}
			t.Skip("prism is not installed: npm install @stoplight/prism-cli")
		}
	}
	for name, flags := range map[string][]string{"examples": nil, "generated": {"--dynamic"}} {
		t.Run(name, func(t *testing.T) {
			base := mock(t, prism, flags...)
			p := New(Config{Tokens: []string{"any"}, BaseURL: base})
			scopes, err := p.Scopes(t.Context())
			if err != nil || len(scopes) != 1 {
				t.Fatalf("scopes %v, %v", scopes, err)
			}
			s, err := p.Read(t.Context(), scopes[0])
			if err != nil {
				t.Fatal(err)
			}
			if flags != nil {
				return // what is made up at random is no cloud: that reading ends is all that can be asked
			}
			if len(s.Gaps) > 0 {
				t.Errorf("gaps: %+v", s.Gaps)
			}
			if scopes[0].Account != "5df3e3004a17e242b7c20ca6c9fc25b701a47ece" {
				t.Errorf("scope %v", scopes[0])
			}
			open := map[string]bool{}
			for _, a := range (cloud.Question{Ports: []uint16{11211}}).Judge(s) {
				for _, admission := range a.AdmittedBy {
					if admission.Rule.Implied && a.Exposure == cloud.ProviderOnly {
						open[a.Endpoint.Name+" "+a.Endpoint.Address()] = true
					}
				}
			}
			for _, want := range []string{
				"example.com 192.241.165.154", "example.com 2604:a880:0:1010::18a:a001", "assets.example.com 162.243.0.4", "stage.example.com 192.241.247.248",
			} {
				if !open[want] {
					t.Errorf("%s is behind no firewall, and not reported: %v", want, open)
				}
			}
		})
	}
}

// mock starts Prism on a free port and returns its URL once it listens.
func mock(t *testing.T, prism string, flags ...string) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	_, port, _ := strings.Cut(address, ":")
	command := exec.Command(prism, append([]string{"mock", "--host", "127.0.0.1", "--port", port, description}, flags...)...)
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = command.Stdout
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	lines := make(chan string, 1)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(output)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			if strings.Contains(scanner.Text(), "is listening on") {
				lines <- scanner.Text()
				break
			}
		}
		_, _ = io.Copy(io.Discard, output)
	}()
	select {
	case _, ok := <-lines:
		if !ok {
			t.Fatal("prism ended before it listened")
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("prism does not listen")
	}
	base := "http://" + address
	response, err := http.Get(base + "/v2/account")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Fatalf("prism answers %s without a token", response.Status)
	}
	return base
}
