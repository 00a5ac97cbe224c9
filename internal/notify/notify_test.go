package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/findingstest"
)

// received is a server that notes what it gets, and answers with each of some statuses in turn, the last for ever.
type received struct {
	requests, bodies []string
	statuses         []int
}

func (r *received) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	r.requests, r.bodies = append(r.requests, request.Method+" "+request.URL.String()), append(r.bodies, string(body))
	status := http.StatusOK
	if len(r.statuses) > 0 {
		status = r.statuses[min(len(r.requests), len(r.statuses))-1]
	}
	w.WriteHeader(status)
}

// naps is a Sleep that only notes for how long it was asked to.
type naps []time.Duration

func (n *naps) sleep(ctx context.Context, d time.Duration) error {
	*n = append(*n, d)
	return ctx.Err()
}

const secret = "T0PSECRET"

func TestSend(t *testing.T) {
	for _, test := range []struct {
		name, query string
		statuses    []int
		requests    int
		body, fails string
	}{
		{name: "a webhook", requests: 1, body: "the message"},
		{name: "a webhook that wants JSON", query: "?template=json", requests: 1, body: `{"message":"the message","title":"the title"}`},
		{name: "a service that hiccups", statuses: []int{503, 200}, requests: 2, body: "the message"},
		{name: "a service that is down", statuses: []int{500}, requests: 3, body: "the message", fails: "tried 3 times: the answer was 500 Internal Server Error"},
		{name: "an address that was revoked", statuses: []int{404}, requests: 3, body: "the message", fails: "tried 3 times: the answer was 404 Not Found"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &received{statuses: test.statuses}
			server := httptest.NewServer(r)
			defer server.Close()
			var slept naps
			err := Send(t.Context(), "generic+"+server.URL+"/"+secret+test.query, "the title", "the message", slept.sleep)
			if got := fmt.Sprint(err); test.fails == "" && err != nil || test.fails != "" && got != test.fails {
				t.Errorf("error %v, want %q", err, test.fails)
			}
			if len(r.requests) != test.requests || len(slept) != test.requests-1 {
				t.Fatalf("%d requests with %v between, want %d", len(r.requests), slept, test.requests)
			}
			if got := r.bodies[len(r.bodies)-1]; got != test.body || r.requests[0] != "POST /"+secret {
				t.Errorf("%s: %q, want %q", r.requests[0], got, test.body)
			}
		})
	}
}

// TestNoLeak: whatever is wrong with an address, the error does not have it.
func TestNoLeak(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	host := strings.TrimPrefix(closed.URL, "http://")
	var slept naps
	for _, address := range []string{
		"generic+http://" + host + "/" + secret, "generic://user:" + secret + "@" + host + "/?disabletls=yes",
		"slack://" + secret, "nothing://" + secret, secret, "://" + secret,
		"discord://" + secret, "http://127.0.0.1/" + secret, "%zz" + secret,
		"smtp://user:" + secret + "@" + host + "/?from=a@example.com&to=b@example.com", "gotify://" + host + "/" + secret + "?disabletls=yes",
	} {
		for name, err := range map[string]error{
			"notification": Send(t.Context(), address, "t", "m", slept.sleep), "heartbeat": Ping(t.Context(), strings.TrimPrefix(address, "generic+"), true, slept.sleep),
		} {
			switch {
			case name == "heartbeat" && strings.HasPrefix(address, "http://127.0.0.1/"): // something may listen there
			case err == nil:
				t.Errorf("%s: %s succeeded", name, address)
			case strings.Contains(strings.ToLower(err.Error()), strings.ToLower(secret)) || strings.Contains(err.Error(), host):
				t.Errorf("%s: %s: leaks: %v", name, address, err)
			}
		}
	}
}

// TestTimeout: a service that does not answer is given up, and a run that is interrupted waits for nobody.
func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var slept naps
	if err := Send(ctx, "generic+"+server.URL, "t", "m", slept.sleep); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("%v", err)
	}
	if got := cause(fmt.Errorf("x: %w", errTimeout)); got != "no answer in time" {
		t.Error(got)
	}
}

func TestPing(t *testing.T) {
	for _, test := range []struct {
		path     string
		ok       bool
		statuses []int
		want     []string
		fails    bool
	}{
		{path: "/0a1b", ok: true, want: []string{"GET /0a1b"}},
		{path: "/0a1b", want: []string{"GET /0a1b/fail"}},
		{path: "/push/0a1b?status=up", ok: true, want: []string{"GET /push/0a1b?status=up"}},
		{path: "/push/0a1b/?status=up", want: []string{"GET /push/0a1b/fail?status=up"}},
		{path: "/0a1b", ok: true, statuses: []int{502, 502, 200}, want: []string{"GET /0a1b", "GET /0a1b", "GET /0a1b"}},
		{path: "/0a1b", ok: true, statuses: []int{404}, want: []string{"GET /0a1b", "GET /0a1b", "GET /0a1b"}, fails: true},
	} {
		r := &received{statuses: test.statuses}
		server := httptest.NewServer(r)
		var slept naps
		err := Ping(t.Context(), server.URL+test.path, test.ok, slept.sleep)
		server.Close()
		if (err != nil) != test.fails || !slices.Equal(r.requests, test.want) {
			t.Errorf("%s %t: %v, requests %q, want %q", test.path, test.ok, err, r.requests, test.want)
		}
	}
}

func night(list ...findings.Finding) *findings.Report {
	return &findings.Report{
		Scopes:   []findings.Scope{{Scope: cloud.Scope{Provider: "do", Account: "team"}, Complete: true}},
		Findings: list, Complete: true,
	}
}

func finding(fingerprint string, level findings.Level) findings.Finding {
	return findings.Finding{
		RuleID: findings.ReachableFromInternet, Level: level, Fingerprint: fingerprint,
		Subject: findings.Subject{Provider: "do", Scope: "team", Type: "firewall-rule", ID: fingerprint + "#1"},
	}
}

func with(f findings.Finding, set func(*findings.Finding)) findings.Finding {
	set(&f)
	return f
}

// TestSince follows one reader over several nights.
func TestSince(t *testing.T) {
	a, b, c := finding("a", findings.Error), finding("b", findings.Warning), finding("c", findings.Note)
	broken := night(with(a, func(f *findings.Finding) { f.Carried = true }), b)
	broken.Complete, broken.Scopes[0].Complete = false, false
	broken.Scopes[0].Gaps = []cloud.Gap{{Subject: "firewalls", Cause: "403 by @boss"}}
	type told struct{ New, Cleared, Unread, ReadBack int }
	var known Known
	for i, step := range []struct {
		report *findings.Report
		want   told
	}{
		{night(a, c), told{New: 1}}, // the note is below the level
		{night(a, c), told{}},
		{broken, told{New: 1, Unread: 1}}, // a could not be looked for
		{broken, told{}},
		{&findings.Report{Findings: broken.Findings}, told{}}, // another cloud only: nothing is known of this one
		{night(a, b), told{ReadBack: 1}},
		{night(a, with(b, func(f *findings.Finding) { f.Suppressed = &findings.Suppression{Reason: "a toy"} })), told{}},
		{night(a, b), told{New: 1}}, // the ignore has expired
		{night(with(a, func(f *findings.Finding) { f.State = findings.Absent }), b), told{Cleared: 1}},
		{night(b), told{}},
		{night(), told{Cleared: 1}},
	} {
		// What is kept between two runs goes through a file.
		data, err := json.Marshal(known)
		if err != nil {
			t.Fatal(err)
		}
		var read Known
		if err := json.Unmarshal(data, &read); err != nil {
			t.Fatal(err)
		}
		news, next := read.Since(step.report, findings.Warning)
		got := told{len(news.New), len(news.Cleared), len(news.Unread), len(news.ReadBack)}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("night %d (-want +got):\n%s", i+1, diff)
		}
		if news.IsEmpty() != (step.want == told{}) {
			t.Errorf("night %d: empty is %t", i+1, news.IsEmpty())
		}
		for on, left := range map[string]told{New: {New: got.New}, Cleared: {Cleared: got.Cleared}, Incomplete: {Unread: got.Unread, ReadBack: got.ReadBack}} {
			only := news.Only([]string{on})
			if (told{len(only.New), len(only.Cleared), len(only.Unread), len(only.ReadBack)}) != left {
				t.Errorf("night %d: on %s leaves %+v", i+1, on, only)
			}
		}
		known = next
	}
}

func TestMessage(t *testing.T) {
	r := findingstest.Report()
	news, _ := Known{Open: map[string]string{"gone": "error CA102: sg-1#0 of web, aws 1/eu-west-1: 192.0.2.1 tcp/11211"}}.Since(r, findings.Warning)
	findingstest.Golden(t, "message.txt", []byte(news.Message()))

	// However much there is to say, the message is short, and says how much it leaves out.
	var many []findings.Finding
	for i := range 500 {
		f := finding(fmt.Sprint("f", i), findings.Error)
		f.Subject.ID = strings.Repeat("名", 300)
		many = append(many, f)
	}
	news, _ = Known{}.Since(night(many...), findings.Note)
	text := news.Message()
	if n := utf8.RuneCountInString(text); n > maxMessage || n < 300 {
		t.Errorf("%d characters", n)
	}
	if !strings.Contains(text, "500 new. Open now: 500 errors") || !regexp.MustCompile(`(?m)^- and 49\d more$`).MatchString(text) {
		t.Error(text)
	}
}

// TestHostile: nobody who names a resource decides what a message does.
func TestHostile(t *testing.T) {
	for _, name := range append(findingstest.Hostile(), "<!channel>", "@everyone", "[mend it](https://evil.example)", "https://evil.example", "*bold* `code` ~no~", "a\nb") {
		news, _ := Known{}.Since(findingstest.Renamed(name), findings.Note)
		for _, text := range append(slices.Concat(news.New, news.Unread), news.Message()) {
			for _, bad := range []string{"<", ">", "@", "](", "://", "*", "`", "~", "\r", "\x1b", "\u202e", "\n::"} {
				if strings.Contains(text, bad) {
					t.Errorf("%q: the message has %q: %q", name, bad, text)
				}
			}
		}
		for _, text := range news.New {
			if strings.Contains(text, "\n") {
				t.Errorf("%q: a line with an end: %q", name, text)
			}
		}
	}
}

func TestMain(m *testing.M) {
	// A proxy of the machine has no say in what is sent to this one.
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		if err := os.Unsetenv(name); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
