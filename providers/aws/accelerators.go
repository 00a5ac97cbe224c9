package aws

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	ga "github.com/aws/aws-sdk-go-v2/service/globalaccelerator"
	"github.com/aws/aws-sdk-go-v2/service/globalaccelerator/types"
	"golang.org/x/sync/errgroup"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// acceleratorHome is the region that serves the API of Global Accelerator. It exists in the partition aws alone.
const acceleratorHome = "us-west-2"

// acceleratorPath is one way through an accelerator: from a range of ports to an endpoint in one region.
type acceleratorPath struct {
	arn, name, dns string
	addresses      []netip.Addr
	protos         []traffic.Proto
	from, to       uint16
	overrides      []override
	region         string
	endpoint       string // an instance id, the ARN of a balancer, or the allocation id of an elastic IP
	keeps          bool   // the client's address
}

// override sends a port of the listener to another port of the endpoint.
type override struct{ front, target uint16 }

// accelerators are the account's accelerators, read once and kept while the Provider lives.
type accelerators struct {
	mu     sync.Mutex
	read   bool
	paths  []acceleratorPath
	failed map[string]error // by action
}

// readAccelerators takes from the account's accelerators the ways that end in the region.
func (r *region) readAccelerators(ctx context.Context) {
	if r.partition != "aws" {
		return
	}
	a := &r.account.accelerators
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.read {
		r.listAccelerators(ctx, a)
		a.read = ctx.Err() == nil
	}
	for _, action := range sorted(a.failed) {
		r.failed(action, a.failed[action])
	}
	for _, p := range a.paths {
		if p.region == r.scope.Region {
			r.front = append(r.front, p)
		}
	}
}

// listAccelerators walks accelerators, listeners and endpoint groups. Failures are noted in a, for every region to report.
func (r *region) listAccelerators(ctx context.Context, a *accelerators) {
	c := r.config.Copy()
	c.Region = acceleratorHome
	client := ga.NewFromConfig(c)
	// The failures are the account's: they are gathered by a region of their own.
	walk := &region{gaps: map[string]cloud.Gap{}, unread: map[string]bool{}, calls: map[string]int{}}
	a.paths, a.failed = nil, map[string]error{}
	var mu sync.Mutex
	listAccelerators := noting(a.failed, &mu, "globalaccelerator:ListAccelerators", client.ListAccelerators)
	listListeners := noting(a.failed, &mu, "globalaccelerator:ListListeners", client.ListListeners)
	listGroups := noting(a.failed, &mu, "globalaccelerator:ListEndpointGroups", client.ListEndpointGroups)

	var found []types.Accelerator
	all(ctx, walk, "globalaccelerator:ListAccelerators", listAccelerators, &ga.ListAcceleratorsInput{MaxResults: aws.Int32(100)}, paging[ga.ListAcceleratorsInput, ga.ListAcceleratorsOutput]{
		set:  func(in *ga.ListAcceleratorsInput, token *string) { in.NextToken = token },
		next: func(out *ga.ListAcceleratorsOutput) *string { return out.NextToken },
	}, func(out *ga.ListAcceleratorsOutput) { found = append(found, out.Accelerators...) })
	var g errgroup.Group
	g.SetLimit(16)
	for _, x := range found {
		if !aws.ToBool(x.Enabled) {
			continue
		}
		g.Go(func() error {
			base := acceleratorPath{arn: aws.ToString(x.AcceleratorArn), name: aws.ToString(x.Name), dns: aws.ToString(x.DnsName)}
			for _, s := range x.IpSets {
				for _, address := range s.IpAddresses {
					if v := addr(&address); v.Is4() {
						base.addresses = append(base.addresses, v)
					}
				}
			}
			slices.SortFunc(base.addresses, netip.Addr.Compare)
			in := &ga.ListListenersInput{MaxResults: aws.Int32(100), AcceleratorArn: x.AcceleratorArn}
			all(ctx, walk, "globalaccelerator:ListListeners", listListeners, in, paging[ga.ListListenersInput, ga.ListListenersOutput]{
				set:  func(in *ga.ListListenersInput, token *string) { in.NextToken = token },
				next: func(out *ga.ListListenersOutput) *string { return out.NextToken },
			}, func(out *ga.ListListenersOutput) {
				for _, l := range out.Listeners {
					in := &ga.ListEndpointGroupsInput{MaxResults: aws.Int32(100), ListenerArn: l.ListenerArn}
					all(ctx, walk, "globalaccelerator:ListEndpointGroups", listGroups, in, paging[ga.ListEndpointGroupsInput, ga.ListEndpointGroupsOutput]{
						set:  func(in *ga.ListEndpointGroupsInput, token *string) { in.NextToken = token },
						next: func(out *ga.ListEndpointGroupsOutput) *string { return out.NextToken },
					}, func(out *ga.ListEndpointGroupsOutput) {
						mu.Lock()
						defer mu.Unlock()
						for _, group := range out.EndpointGroups {
							a.paths = append(a.paths, pathsOf(base, &l, &group)...)
						}
					})
				}
			})
			return nil
		})
	}
	_ = g.Wait() // no function above returns an error
	slices.SortFunc(a.paths, func(x, y acceleratorPath) int {
		return cmp.Or(strings.Compare(x.arn, y.arn), cmp.Compare(x.from, y.from), cmp.Compare(x.to, y.to),
			strings.Compare(x.endpoint, y.endpoint), slices.Compare(x.protos, y.protos))
	})
	for action, n := range walk.calls {
		for range n {
			r.count(action)
		}
	}
}

// noting returns op, keeping the error of its last failure under action.
func noting[I, O, P any](failed map[string]error, mu *sync.Mutex, action string, op operation[I, O, P]) operation[I, O, P] {
	return func(ctx context.Context, in *I, options ...func(*P)) (*O, error) {
		out, err := op(ctx, in, options...)
		if err != nil {
			mu.Lock()
			failed[action] = err
			mu.Unlock()
		}
		return out, err
	}
}

func pathsOf(base acceleratorPath, l *types.Listener, g *types.EndpointGroup) []acceleratorPath {
	base.region = aws.ToString(g.EndpointGroupRegion)
	base.protos = []traffic.Proto{traffic.TCP}
	if l.Protocol == types.ProtocolUdp {
		base.protos = []traffic.Proto{traffic.UDP}
	}
	for _, o := range g.PortOverrides {
		base.overrides = append(base.overrides, override{port(o.ListenerPort), port(o.EndpointPort)})
	}
	slices.SortFunc(base.overrides, func(a, b override) int { return cmp.Compare(a.front, b.front) })
	var out []acceleratorPath
	for _, ports := range l.PortRanges {
		for _, e := range g.EndpointDescriptions {
			v := base
			v.from, v.to = port(ports.FromPort), port(ports.ToPort)
			v.endpoint, v.keeps = aws.ToString(e.EndpointId), aws.ToBool(e.ClientIPPreservationEnabled)
			out = append(out, v)
		}
	}
	return out
}
