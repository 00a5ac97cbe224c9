package moto

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"os/exec"
	"testing"
)

//go:embed scene.py
var scene string

// Case is an instance behind a security group of its own, or such a group alone.
type Case struct {
	Name, Region string
	// Interface is the instance's network interface; empty for a group alone.
	Interface string
	// Rules are the ids of the group's inbound rules.
	Rules []string
	// Opens says what of the instance's port 11211 the internet reaches: "v4.tcp", "v4.udp", "v6.tcp".
	Opens []string
	// Latent says that the rules admit the internet to the port, with no public address behind them.
	Latent bool
}

// Scene builds a scene in the server at url: the regions us-east-1 and eu-west-1 with custom and default VPCs, network
// ACLs, IPv6, prefix lists and elastic IPs, and in them what is open, what looks open, and what does not.
func Scene(t testing.TB, url string) []Case {
	t.Helper()
	var stderr bytes.Buffer
	build := exec.Command(Python(), "-c", scene, url)
	build.Stderr = &stderr
	text, err := build.Output()
	if err != nil {
		t.Fatalf("moto scene: %v\n%s\nit needs boto3: pip install 'moto[server,all]' boto3", err, stderr.String())
	}
	var out []Case
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatalf("moto scene: %v", err)
	}
	return out
}
