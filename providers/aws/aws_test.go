package aws_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
	"github.com/cloudaudit/cloudaudit/providers/aws"
)

const testAccount = "111122223333"

// serve serves w below a path behind faults, and returns a provider that reads it as c says, with the keys of account.
func serve(t testing.TB, w *ec2.World, account string, c aws.Config, match func(string, *http.Request) emulate.Fault) (*aws.Provider, *emulate.Faults) {
	t.Helper()
	faults := emulate.WithFaults(w, match)
	server := httptest.NewServer(faults)
	t.Cleanup(server.Close)
	id, secret := w.Keys(account)
	c.Options = append(c.Options,
		config.WithBaseEndpoint(server.URL+"/some/prefix"),
		config.WithRegion("us-east-1"),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(id, secret, "")),
		config.WithSharedConfigFiles(nil),
		config.WithSharedCredentialsFiles(nil),
	)
	return aws.New(c), faults
}

// serveURL serves w and returns where.
func serveURL(t testing.TB, w *ec2.World) (*emulate.Faults, string) {
	t.Helper()
	faults := emulate.WithFaults(w, nil)
	server := httptest.NewServer(faults)
	t.Cleanup(server.Close)
	return faults, server.URL
}

// parseRegion makes a world of one account with one region.
func parseRegion(t testing.TB, text string) *ec2.World {
	t.Helper()
	w, err := ec2.ParseRegion(testAccount, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// readAll reads every scope and fails the test on any error.
func readAll(t testing.TB, p *aws.Provider) []*cloud.Snapshot {
	t.Helper()
	scopes, err := p.Scopes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []*cloud.Snapshot
	for _, s := range scopes {
		v, err := p.Read(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}
