package moto

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"os/exec"
	"testing"
)

//go:embed access.py
var access string

// Access is what Enforce sets up: users of moto's own account, one a policy, and an organization around that account.
type Access struct {
	// Policies are documents of IAM policies, one for each user.
	Policies []json.RawMessage `json:"policies"`
	// Accounts become members of the organization of moto's own account; without any, there is none.
	Accounts []Member `json:"accounts"`
	Role     string   `json:"role"` // of the members that have it, with the first of Policies
}

// Member is an account of an organization.
type Member struct {
	Name string `json:"name"`
	Role bool   `json:"role"` // whether it has the role
}

// Granted is what Enforce set up.
type Granted struct {
	Users      []struct{ ID, Secret string }
	Accounts   []string // ids, in the order of Access.Accounts
	Management string   // the id of moto's own account
}

// Enforce sets up a in the server at url, and from then on moto refuses what no policy allows.
func Enforce(t testing.TB, url string, a Access) Granted {
	t.Helper()
	if a.Accounts == nil {
		a.Accounts = []Member{}
	}
	task, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	run := exec.Command(Python(), "-c", access, url, string(task))
	run.Stderr = &stderr
	text, err := run.Output()
	if err != nil {
		t.Fatalf("moto access: %v\n%s", err, stderr.String())
	}
	var out Granted
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatalf("moto access: %v", err)
	}
	return out
}
