package gce

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/protobuf/encoding/protojson"
)

const inProject = "/compute/v1/projects/p"

// writing sends requests to a world, each held to Google's own description.
type writing struct {
	t *testing.T
	w *World
	h http.Handler
}

func newWriting(t *testing.T, w *World) *writing {
	docs, err := descriptions()
	if err != nil {
		t.Fatal(err)
	}
	return &writing{t, w, checked(w, docs, func(err error) { t.Error(err) })}
}

func (wr *writing) send(method, path, body string) (int, string) {
	rec := httptest.NewRecorder()
	wr.h.ServeHTTP(rec, httptest.NewRequest(method, path, strings.NewReader(body)))
	return rec.Code, rec.Body.String()
}

// done sends a write, waits for its operation and returns that.
func (wr *writing) done(method, path, body string) *computepb.Operation {
	wr.t.Helper()
	code, text := wr.send(method, path, body)
	op := &computepb.Operation{}
	if code != http.StatusOK || protojson.Unmarshal([]byte(text), op) != nil {
		wr.t.Fatalf("%s %s: %d %s", method, path, code, text)
	}
	if op.GetStatus() != computepb.Operation_RUNNING {
		wr.t.Errorf("%s %s: done at once: nobody would wait", method, path)
	}
	link := strings.TrimPrefix(op.GetSelfLink(), "https://www.googleapis.com")
	if strings.Contains(link, "/locations/") {
		link += "?parentId=organizations/1"
	}
	for range 20 {
		_, text = wr.send("GET", link, "")
		if err := protojson.Unmarshal([]byte(text), op); err != nil {
			wr.t.Fatal(err)
		}
		if op.GetStatus() == computepb.Operation_DONE {
			return op
		}
	}
	wr.t.Fatalf("%s %s: never done", method, path)
	return nil
}

func (wr *writing) firewall(name string) *Firewall {
	for _, p := range wr.w.Projects {
		for i := range p.Firewalls {
			if p.ID == "p" && p.Firewalls[i].Name == name {
				return &p.Firewalls[i]
			}
		}
	}
	return nil
}

func TestFirewallWrites(t *testing.T) {
	for _, settle := range []int{0, 3} {
		w := everything()
		w.Settle = settle
		wr := newWriting(t, w)
		insert := `{"name":"new","network":"` + linkPrefix + `projects/p/global/networks/net","priority":0,"description":"d",
			"sourceRanges":["8.0.0.0/8"],"targetTags":["t"],"denied":[{"IPProtocol":"tcp","ports":["11211"]}],"logConfig":{"enable":true}}`
		if code, body := wr.send("POST", inProject+"/global/firewalls?requestId=00000000-0000-4000-8000-000000000001", insert); code != 200 {
			t.Fatal(code, body)
		}
		if settle > 0 && wr.firewall("new") != nil {
			t.Error("in force at once")
		}
		// The same request again is the same operation, and no second rule.
		wr.done("POST", inProject+"/global/firewalls?requestId=00000000-0000-4000-8000-000000000001", insert)
		f := wr.firewall("new")
		if f == nil || *f.Priority != 0 || !f.LogConfig.Enable || f.Denied[0].Ports[0] != "11211" || f.TargetTags[0] != "t" {
			t.Fatalf("stored: %+v", f)
		}
		// Of a patch, arrays are whole; an update resets what it does not name.
		wr.done("PATCH", inProject+"/global/firewalls/new", `{"sourceRanges":["9.0.0.0/8"],"denied":[{"IPProtocol":"udp"}]}`)
		if f = wr.firewall("new"); f.Description != "d" || len(f.Denied) != 1 || len(f.Denied[0].Ports) != 0 || f.SourceRanges[0] != "9.0.0.0/8" {
			t.Errorf("patched: %+v", f)
		}
		wr.done("PUT", inProject+"/global/firewalls/new", `{"name":"new","network":"`+linkPrefix+`projects/p/global/networks/net","allowed":[{"IPProtocol":"tcp"}]}`)
		if f = wr.firewall("new"); f.Description != "" || *f.Priority != 1000 || f.SourceRanges[0] != "0.0.0.0/0" || len(f.TargetTags) != 0 {
			t.Errorf("updated: %+v", f)
		}
		wr.done("DELETE", inProject+"/global/firewalls/new", "")
		if wr.firewall("new") != nil {
			t.Error("still there")
		}
	}
}

func TestPolicyWrites(t *testing.T) {
	for name, path := range map[string]string{
		"global": inProject + "/global/firewallPolicies/np", "regional": inProject + "/regions/us-central1/firewallPolicies/rp",
		"hierarchical": "/compute/v1/locations/global/firewallPolicies/1",
	} {
		w := everything()
		wr := newWriting(t, w)
		p := &w.Projects[len(w.Projects)-4]
		rules := func() []PolicyRule {
			switch name {
			case "global":
				return p.NetworkPolicies[0].Rules
			case "regional":
				return p.NetworkPolicies[1].Rules
			}
			return p.HierarchicalPolicies[0].Rules
		}
		before := len(rules())
		add := `{"priority":0,"action":"deny","direction":"INGRESS","ruleName":"n","enableLogging":true,
			"match":{"srcIpRanges":["8.0.0.0/8"],"layer4Configs":[{"ipProtocol":"tcp","ports":["11211"]}]},"targetSecureTags":[{"name":"tagValues/1"}]}`
		wr.done("POST", path+"/addRule", add)
		if r := rules(); len(r) != before+1 || r[0].Priority != 0 || r[0].RuleName != "n" || r[0].TargetSecureTags[0].Name != "tagValues/1" {
			t.Fatalf("%s: added: %+v", name, r)
		}
		if code, body := wr.send("POST", path+"/addRule", add); code != 400 {
			t.Errorf("%s: a second rule of the priority: %d %s", name, code, body)
		}
		wr.done("POST", path+"/patchRule?priority=0", `{"match":{"srcIpRanges":["9.0.0.0/8"]}}`)
		if r := rules()[0]; r.Match.SrcIPRanges[0] != "9.0.0.0/8" || len(r.Match.Layer4Configs) != 1 || !r.EnableLogging {
			t.Errorf("%s: patched: %+v", name, r)
		}
		wr.done("POST", path+"/removeRule?priority=0", "")
		if len(rules()) != before {
			t.Errorf("%s: still there", name)
		}
		if code, _ := wr.send("POST", path+"/removeRule?priority=0", ""); code != 400 {
			t.Errorf("%s: a rule that is not there was removed: %d", name, code)
		}
	}
}

// TestWritesThatFail: nothing is written, and the error says why.
func TestWritesThatFail(t *testing.T) {
	rule := func(fields string) string {
		return `{"name":"n","network":"projects/p/global/networks/net",` + fields + `}`
	}
	for name, c := range map[string]struct {
		method, path, body string
		code               int
	}{
		"both kinds":        {"POST", "/global/firewalls", rule(`"allowed":[{"IPProtocol":"all"}],"denied":[{"IPProtocol":"all"}]`), 400},
		"neither":           {"POST", "/global/firewalls", rule(`"priority":1`), 400},
		"two families":      {"POST", "/global/firewalls", rule(`"sourceRanges":["8.0.0.0/8","::/0"],"allowed":[{"IPProtocol":"all"}]`), 400},
		"no range":          {"POST", "/global/firewalls", rule(`"sourceRanges":["8.8.8.8/8"],"allowed":[{"IPProtocol":"all"}]`), 400},
		"there already":     {"POST", "/global/firewalls", `{"name":"a","network":"projects/p/global/networks/net","allowed":[{"IPProtocol":"all"}]}`, 409},
		"no network":        {"POST", "/global/firewalls", `{"name":"n","network":"projects/p/global/networks/none","allowed":[{"IPProtocol":"all"}]}`, 404},
		"backward ports":    {"POST", "/global/firewalls", rule(`"allowed":[{"IPProtocol":"tcp","ports":["9-8"]}]`), 400},
		"ports of icmp":     {"POST", "/global/firewalls", rule(`"allowed":[{"IPProtocol":"icmp","ports":["9"]}]`), 400},
		"a priority":        {"POST", "/global/firewalls", rule(`"priority":65536,"allowed":[{"IPProtocol":"all"}]`), 400},
		"tags and accounts": {"POST", "/global/firewalls", rule(`"targetTags":["t"],"targetServiceAccounts":["a"],"allowed":[{"IPProtocol":"all"}]`), 400},
		"what is not held":  {"POST", "/global/firewalls", rule(`"params":{"resourceManagerTags":{"a":"b"}},"allowed":[{"IPProtocol":"all"}]`), 501},
		"no allow left":     {"PATCH", "/global/firewalls/b", `{"allowed":[]}`, 400},
		"a new name":        {"PATCH", "/global/firewalls/b", `{"name":"c"}`, 400},
		"not there":         {"DELETE", "/global/firewalls/none", "", 404},
		"no such policy":    {"POST", "/global/firewallPolicies/none/removeRule?priority=1", "", 404},
		"no such action":    {"POST", "/global/firewallPolicies/np/addRule", `{"priority":5,"action":"permit","direction":"INGRESS","match":{"layer4Configs":[{"ipProtocol":"all"}]}}`, 400},
		"no services":       {"POST", "/global/firewallPolicies/np/addRule", `{"priority":5,"action":"deny","direction":"INGRESS","match":{"srcIpRanges":["8.0.0.0/8"]}}`, 400},
		"no operation":      {"GET", "/global/operations/operation-9", "", 404},
	} {
		w := everything()
		before := fmt.Sprintf("%+v", w.Projects[len(w.Projects)-4].Firewalls)
		code, body := newWriting(t, w).send(c.method, inProject+c.path, c.body)
		if code != c.code || !json.Valid([]byte(body)) {
			t.Errorf("%s: %d %s, want %d", name, code, body, c.code)
		}
		if after := fmt.Sprintf("%+v", w.Projects[len(w.Projects)-4].Firewalls); after != before {
			t.Errorf("%s: written all the same: %s", name, after)
		}
	}
}

// TestFirewallQuota: a rule too many is refused at once, or shows in its operation.
func TestFirewallQuota(t *testing.T) {
	for _, settle := range []int{0, 2} {
		w := everything()
		w.Settle = settle
		w.Projects[len(w.Projects)-4].FirewallQuota = 2
		wr := newWriting(t, w)
		insert := `{"name":"n","network":"projects/p/global/networks/net","allowed":[{"IPProtocol":"all"}]}`
		if settle == 0 {
			if code, body := wr.send("POST", inProject+"/global/firewalls", insert); code != 403 || !strings.Contains(body, "quotaExceeded") {
				t.Errorf("%d %s", code, body)
			}
		} else if op := wr.done("POST", inProject+"/global/firewalls", insert); op.GetHttpErrorStatusCode() != 403 || op.GetError().GetErrors()[0].GetCode() != "QUOTA_EXCEEDED" {
			t.Errorf("%v", op)
		}
		if wr.firewall("n") != nil {
			t.Error("written all the same")
		}
	}
}
