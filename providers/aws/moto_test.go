package aws_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate/moto"
	"github.com/cloudaudit/cloudaudit/providers/aws"
)

// atMoto returns a provider that reads the moto server at url.
func atMoto(url string, c aws.Config) *aws.Provider {
	c.Options = append(c.Options,
		config.WithBaseEndpoint(url),
		config.WithRegion("us-east-1"),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("testing", "testing", "")),
		config.WithSharedConfigFiles(nil),
		config.WithSharedCredentialsFiles(nil),
	)
	return aws.New(c)
}

// open11211 returns what is exposed, "interface v4.tcp" to the rules that admit.
func open11211(snapshots []*cloud.Snapshot) map[string][]string {
	out := map[string][]string{}
	for _, s := range snapshots {
		for _, a := range (cloud.Question{Ports: []uint16{11211}}).Judge(s) {
			if a.Exposure == cloud.Blocked {
				continue
			}
			key := fmt.Sprintf("%s v%d.%s %s", a.Endpoint.Ref.ID, a.Endpoint.Family, a.Service.Proto(), a.Exposure)
			ids := map[string]bool{}
			for _, by := range a.AdmittedBy {
				ids[by.Rule.Ref.ID] = true
			}
			out[key] = slices.Sorted(maps.Keys(ids))
		}
	}
	return out
}

// TestMoto reads a scene in software that no one here wrote, and finds exactly what is open in it.
func TestMoto(t *testing.T) {
	t.Parallel() // it waits for another process
	url := moto.Start(t)
	cases := moto.Scene(t, url)
	want := map[string][]string{}
	for _, c := range cases {
		for _, what := range c.Opens {
			want[c.Interface+" "+what+" reachable"] = slices.Sorted(slices.Values(c.Rules))
		}
	}
	if len(want) < 8 {
		t.Fatalf("the scene opens only %v", want)
	}
	p := atMoto(url, aws.Config{Regions: []string{"us-east-1", "eu-west-1"}})
	snapshots := readAll(t, p)
	if diff := cmp.Diff(want, open11211(snapshots)); diff != "" {
		t.Errorf("exposures (-want +got):\n%s", diff)
	}
	// moto does not offer all operations; each that it lacks is a gap, and nothing else is.
	for _, s := range snapshots {
		for _, g := range s.Gaps {
			if !slices.Contains([]string{"ec2:DescribeVpcBlockPublicAccessOptions", "lightsail:GetInstances", "globalaccelerator:ListAccelerators"}, g.Subject) {
				t.Errorf("%v: gap %+v", s.Scope, g)
			}
		}
	}
	lists := map[string]bool{}
	for _, s := range snapshots {
		for _, l := range s.Lists {
			for _, v := range l.Rules {
				lists[v.Ref.ID] = true
			}
		}
	}
	for _, c := range cases {
		for _, id := range c.Rules {
			if c.Latent && !lists[id] {
				t.Errorf("rule %s of %s, which nothing is behind, is not in the snapshot by its id", id, c.Name)
			}
		}
	}
}
