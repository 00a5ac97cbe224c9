package cli_test

import (
	"strings"
	"testing"

	"github.com/cloudaudit/cloudaudit/internal/cli"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
)

// TestFixOfAnOrganisation fixes member accounts through a role, and undoes it so; without the role, undo says that it cannot
// get there and writes nothing.
func TestFixOfAnOrganisation(t *testing.T) {
	t.Parallel()
	s := newScene(t, "aws")
	world := s.killer.Cloud.(*ec2.World)
	world.Management = "999900001111"
	world.Accounts[0].Roles = []string{ec2.DemoRole}
	world.Accounts = append(world.Accounts, &ec2.Account{ID: world.Management, Status: "ACTIVE", Regions: []*ec2.Region{{Name: "us-east-1"}, {Name: "eu-west-1"}}})
	world.Complete()
	id, secret := world.Keys(world.Management)
	s.env["AWS_ACCESS_KEY_ID"], s.env["AWS_SECRET_ACCESS_KEY"] = id, secret
	org := []string{"--organization", "--role", ec2.DemoRole}
	status, _, stderr := s.run(append([]string{"scan", "--provider", "aws", "--fix", "--yes", "--max-changes", "0", "--journal", s.journal, "--format", "json"}, org...)...)
	if status != cli.ExitFindings || !strings.Contains(stderr, "applied") {
		t.Fatalf("status %d\n%s", status, stderr)
	}
	writes := s.killer.writes
	status, _, stderr = s.run("undo", "--yes", s.journal)
	if status != cli.ExitNotFixed || s.killer.writes != writes {
		t.Errorf("without the role: status %d, %d writes\n%s", status, s.killer.writes-writes, stderr)
	}
	status, _, stderr = s.run(append([]string{"undo", "--yes", s.journal}, org...)...)
	if status != cli.ExitClean || s.killer.writes == writes {
		t.Errorf("with the role: status %d, %d writes\n%s", status, s.killer.writes-writes, stderr)
	}
}
