package aws_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/google/go-cmp/cmp"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/internal/emulate/ec2"
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

// TestMotoAndEmulation hands what moto describes of its scene to the project's own emulation, and reads both: an answer of
// the one is an answer of the other.
func TestMotoAndEmulation(t *testing.T) {
	t.Parallel() // it waits for another process
	url := moto.Start(t)
	moto.Scene(t, url)
	const account = "123456789012" // moto's own
	for _, region := range []string{"us-east-1", "eu-west-1"} {
		text, err := json.Marshal(describe(t, url, region))
		if err != nil {
			t.Fatal(err)
		}
		w, err := ec2.ParseDescribed(account, text)
		if err != nil {
			t.Fatal(err)
		}
		w.Accounts[0].Regions[0].UndescribedIPv6 = true
		p, _ := serve(t, w, account, aws.Config{Regions: []string{region}}, nil)
		emulated := open11211(readAll(t, p))
		real := open11211(readAll(t, atMoto(url, aws.Config{Regions: []string{region}})))
		if diff := cmp.Diff(real, emulated); diff != "" || len(real) == 0 {
			t.Errorf("%s: exposures in moto (-) and in the emulation (+):\n%s", region, diff)
		}
	}
}

// describe returns what the server at url describes of a region, in the form that ParseDescribed reads.
func describe(t *testing.T, url, region string) map[string]any {
	t.Helper()
	c := sdk.New(sdk.Options{BaseEndpoint: &url, Region: region, Credentials: credentials.NewStaticCredentialsProvider("testing", "testing", "")})
	out := map[string]any{"region": region}
	ctx := t.Context()
	out["vpcs"] = must(c.DescribeVpcs(ctx, &sdk.DescribeVpcsInput{})).Vpcs
	out["subnets"] = must(c.DescribeSubnets(ctx, &sdk.DescribeSubnetsInput{})).Subnets
	out["security_groups"] = must(c.DescribeSecurityGroups(ctx, &sdk.DescribeSecurityGroupsInput{})).SecurityGroups
	out["security_group_rules"] = must(c.DescribeSecurityGroupRules(ctx, &sdk.DescribeSecurityGroupRulesInput{})).SecurityGroupRules
	out["network_interfaces"] = must(c.DescribeNetworkInterfaces(ctx, &sdk.DescribeNetworkInterfacesInput{})).NetworkInterfaces
	tables := must(c.DescribeRouteTables(ctx, &sdk.DescribeRouteTablesInput{}))
	for i := range tables.RouteTables {
		for j := range tables.RouteTables[i].Associations {
			tables.RouteTables[i].Associations[j].AssociationState = nil // an object there, a word in the scene
		}
	}
	out["route_tables"] = tables.RouteTables
	out["network_acls"] = must(c.DescribeNetworkAcls(ctx, &sdk.DescribeNetworkAclsInput{})).NetworkAcls
	out["internet_gateways"] = must(c.DescribeInternetGateways(ctx, &sdk.DescribeInternetGatewaysInput{})).InternetGateways
	entries := map[string][]string{}
	for _, l := range must(c.DescribeManagedPrefixLists(ctx, &sdk.DescribeManagedPrefixListsInput{})).PrefixLists {
		in := &sdk.GetManagedPrefixListEntriesInput{PrefixListId: l.PrefixListId}
		for _, e := range must(c.GetManagedPrefixListEntries(ctx, in)).Entries {
			entries[*l.PrefixListId] = append(entries[*l.PrefixListId], *e.Cidr)
		}
	}
	out["prefix_lists"] = entries
	return out
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
