package do

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// maxRules is how many rules a firewall may have, inbound and outbound together
// (https://docs.digitalocean.com/products/networking/firewalls/details/limits/).
const maxRules = 50

// body is what a request to change a firewall carries.
type body struct {
	Name          string         `json:"name"`
	InboundRules  []InboundRule  `json:"inbound_rules"`
	OutboundRules []OutboundRule `json:"outbound_rules"`
	DropletIDs    []int          `json:"droplet_ids"`
	Tags          []string       `json:"tags"`
}

// write answers one request that changes a firewall. Rules are added and removed as deltas; a removal has to repeat the
// stored rule exactly, and one that matches nothing is answered as if it had.
func (w *World) write(rw http.ResponseWriter, r *http.Request, team *Team, token Token, rt route) {
	need := map[string]string{http.MethodPost: "firewall:create", http.MethodDelete: "firewall:delete"}[r.Method]
	if rt.rules {
		need = "firewall:update"
	}
	if !token.may(need) {
		w.Refuse(rw, r)
		return
	}
	var in body
	if r.Method == http.MethodPost || rt.rules {
		text, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err == nil {
			err = json.Unmarshal(text, &in)
		}
		if err != nil {
			fail(rw, http.StatusBadRequest, "bad_request", "the body is not what the API takes: "+err.Error())
			return
		}
	}
	for i := range in.InboundRules {
		in.InboundRules[i].Ports = storedPorts(in.InboundRules[i].Ports)
		if w.OldAPI {
			in.InboundRules[i].Action = ""
		}
	}
	for i := range in.OutboundRules {
		in.OutboundRules[i].Ports = storedPorts(in.OutboundRules[i].Ports)
	}
	at := slices.IndexFunc(team.Scene.Firewalls, func(f Firewall) bool { return f.ID == rt.id })
	if rt.id != "" && at < 0 {
		fail(rw, http.StatusNotFound, "not_found", "The resource you were accessing could not be found.")
		return
	}
	full := func(f *Firewall) bool {
		if len(f.InboundRules)+len(f.OutboundRules) <= maxRules {
			return false
		}
		fail(rw, http.StatusUnprocessableEntity, "unprocessable_entity", fmt.Sprintf("a firewall may have at most %d rules", maxRules))
		return true
	}
	w.writes++
	switch {
	case rt.id == "":
		f := Firewall{
			ID: fmt.Sprintf("fw-made-%d", w.writes), Name: in.Name, InboundRules: in.InboundRules, OutboundRules: in.OutboundRules,
			DropletIDs: in.DropletIDs, Tags: in.Tags,
		}
		if full(&f) {
			return
		}
		if f.Name == "" || slices.ContainsFunc(team.Scene.Firewalls, func(g Firewall) bool { return g.Name == f.Name }) {
			fail(rw, http.StatusConflict, "conflict", "duplicate name")
			return
		}
		team.Scene.Firewalls = append(team.Scene.Firewalls, f)
		rw.Header().Set("Content-Type", "application/json; charset=utf-8")
		rw.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(rw).Encode(map[string]any{"firewall": firewall(&f, token)})
		return
	case !rt.rules:
		team.Scene.Firewalls = slices.Delete(team.Scene.Firewalls, at, at+1)
	case r.Method == http.MethodPost:
		f := team.Scene.Firewalls[at]
		f.InboundRules = slices.Concat(f.InboundRules, in.InboundRules)
		f.OutboundRules = slices.Concat(f.OutboundRules, in.OutboundRules)
		if full(&f) {
			return
		}
		team.Scene.Firewalls[at] = f
	default:
		f := &team.Scene.Firewalls[at]
		f.InboundRules = slices.DeleteFunc(slices.Clone(f.InboundRules), func(have InboundRule) bool {
			have.Ports = storedPorts(have.Ports)
			return slices.ContainsFunc(in.InboundRules, func(want InboundRule) bool { return same(have, want) })
		})
		f.OutboundRules = slices.DeleteFunc(slices.Clone(f.OutboundRules), func(have OutboundRule) bool {
			have.Ports = storedPorts(have.Ports)
			return slices.ContainsFunc(in.OutboundRules, func(want OutboundRule) bool { return same(have, want) })
		})
	}
	if rt.rules { // what was pending comes into force with the change
		w.pending = w.Settle
		team.Scene.Firewalls[at].PendingChanges, team.Scene.Firewalls[at].Status = nil, "succeeded"
	}
	rw.WriteHeader(http.StatusNoContent)
}

// storedPorts returns ports as the API keeps them.
func storedPorts(ports string) string {
	if strings.EqualFold(ports, "all") {
		return "0"
	}
	return ports
}

// same says whether two rules are the same to the letter.
func same(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}
