package cli_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cloudaudit/cloudaudit/internal/cli"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/do"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
	"github.com/cloudaudit/cloudaudit/internal/emulate/gce"
)

var update = flag.Bool("update", false, "write golden files anew")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cloudaudit": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(cli.Run(ctx, cli.System{
			Args: os.Args[1:], Getenv: os.Getenv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Version: "v0.0.0-test",
		}))
	}})
}

// faults holds what a script has broken of its clouds.
type faults struct {
	mu     sync.Mutex
	broken []broken
}

type broken struct {
	operation, where string
	fault            emulate.Fault
}

// of returns what is wrong with a request: with its operation, if need be in one region only.
func (f *faults) of(operation string, r *http.Request) emulate.Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.broken {
		if (b.operation == "*" || b.operation == operation) && strings.Contains(r.Header.Get("Authorization")+r.URL.String(), b.where) {
			return b.fault
		}
	}
	return emulate.Fault{}
}

// TestScripts runs testdata/script. Each script has its own emulated clouds, those of the demo, at the usual variables.
//
//	exits STATUS COMMAND...              runs a command that must end with this status
//	break OPERATION FAULT [WHERE]        refuse, garbage, hang, or throttle=N; WHERE is in the request's URL or credential
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			amazon, digitalocean, google := ec2.Demo(), do.Demo(), gce.Demo()
			f := &faults{}
			env.Values["faults"] = f
			serve := func(c emulate.Cloud) string {
				s := httptest.NewServer(emulate.WithFaults(c, f.of))
				env.Defer(s.Close)
				return s.URL
			}
			id, secret := amazon.Keys(amazon.Accounts[0].ID)
			for name, value := range map[string]string{
				"AWS_ENDPOINT_URL": serve(amazon), "AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
				"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": "",
				"DIGITALOCEAN_API_URL": serve(digitalocean), "DIGITALOCEAN_TOKEN": do.DemoToken,
				"GOOGLE_OAUTH_ACCESS_TOKEN": "emulated", "GOOGLE_CLOUD_PROJECT": "data-lab",
				"SOURCE_DATE_EPOCH": "0",
			} {
				env.Setenv(name, value)
			}
			url := serve(google)
			env.Setenv("GOOGLE_COMPUTE_CUSTOM_ENDPOINT", url+"/compute/v1/")
			env.Setenv("GOOGLE_NETWORK_SECURITY_CUSTOM_ENDPOINT", url+"/networksecurity/v1/")
			env.Setenv("GOOGLE_RESOURCE_MANAGER_V3_CUSTOM_ENDPOINT", url+"/v3/")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				err = ts.Exec(args[1], args[2:]...)
				got := 0
				if exitErr, ok := errors.AsType[*exec.ExitError](err); ok {
					got = exitErr.ExitCode()
				} else if err != nil {
					ts.Fatalf("%s: %v", args[1], err)
				}
				if got != want {
					ts.Fatalf("%s ended with status %d, want %d", strings.Join(args[1:], " "), got, want)
				}
			},
			"break": func(ts *testscript.TestScript, _ bool, args []string) {
				b := broken{operation: args[0]}
				switch kind, count, _ := strings.Cut(args[1], "="); kind {
				case "refuse":
					b.fault.Refuse = true
				case "garbage":
					b.fault.Garbage = true
				case "hang":
					b.fault.Hang = true
				case "throttle":
					n, err := strconv.Atoi(count)
					ts.Check(err)
					b.fault.Throttle = n
				default:
					ts.Fatalf("no fault %q", args[1])
				}
				if len(args) > 2 {
					b.where = args[2]
				}
				f := ts.Value("faults").(*faults)
				f.mu.Lock()
				defer f.mu.Unlock()
				f.broken = append(f.broken, b)
			},
		},
	})
}

// TestInterrupt checks that a signal ends a scan with what was read by then, marked incomplete.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// The second scope that is asked about hangs, and its first request is when the signal comes.
	digitalocean := do.Demo()
	reading := make(chan struct{})
	var once sync.Once
	server := httptest.NewServer(emulate.WithFaults(digitalocean, func(operation string, r *http.Request) emulate.Fault {
		if strings.HasSuffix(r.URL.Path, "/load_balancers") {
			once.Do(func() { close(reading) })
			return emulate.Fault{Hang: true}
		}
		return emulate.Fault{}
	}))
	defer server.Close()
	go func() {
		<-reading
		cancel()
	}()
	environment := map[string]string{"DIGITALOCEAN_API_URL": server.URL, "DIGITALOCEAN_TOKEN": do.DemoToken}
	var stdout, stderr strings.Builder
	status := cli.Run(ctx, cli.System{
		Args:   []string{"scan", "--provider", "do", "--format", "json"},
		Getenv: func(name string) string { return environment[name] },
		Stdout: &stdout, Stderr: &stderr, Version: "test",
	})
	if status != cli.ExitInterrupted {
		t.Errorf("exit status %d, want %d; stderr: %s", status, cli.ExitInterrupted, stderr.String())
	}
	for _, want := range []string{`"complete": false`, "interrupted"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("report lacks %q:\n%s", want, stdout.String())
		}
	}
	if testing.Verbose() {
		fmt.Fprintln(t.Output(), stderr.String())
	}
}
