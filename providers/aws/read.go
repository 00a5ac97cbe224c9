package aws

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"go4.org/netipx"
	"golang.org/x/sync/errgroup"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// Read reads one region of one account. The lists that every region needs are asked side by side, each thing once:
//
//	ec2:DescribeNetworkInterfaces            ec2:DescribeInternetGateways
//	ec2:DescribeSecurityGroups               ec2:DescribeVpcBlockPublicAccessOptions
//	ec2:DescribeSubnets                      elasticloadbalancing:DescribeLoadBalancers, of both generations
//	ec2:DescribeRouteTables                  lightsail:GetInstances
//	ec2:DescribeNetworkAcls                  globalaccelerator:ListAccelerators, once an account
//
// which makes ten a region, and one more for each further page. Then, for what needs it: the exclusions if public access
// is blocked, the prefix lists that rules or routes name, listeners and targets of balancers that face the internet, and
// the rules' ids and instances' names for groups that admit the internet to a port that will be asked about.
func (p *Provider) Read(ctx context.Context, scope cloud.Scope) (*cloud.Snapshot, error) {
	snapshot, err := p.read(ctx, scope)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		snapshot = &cloud.Snapshot{Scope: scope, Gaps: []cloud.Gap{gapOf("sts:GetCallerIdentity", err)}}
	}
	return snapshot, nil
}

func (p *Provider) read(ctx context.Context, scope cloud.Scope) (*cloud.Snapshot, error) {
	who, err := p.caller(ctx)
	if err != nil {
		return nil, err
	}
	a, err := p.enter(ctx, scope.Account)
	if err != nil {
		return nil, err
	}
	if err := a.open(ctx); err != nil {
		return &cloud.Snapshot{Scope: scope, Gaps: []cloud.Gap{gapOf("sts:AssumeRole", err)}}, nil
	}
	if scope.Region == "" {
		return p.unlisted(ctx, scope)
	}
	r := newRegion(p, a, scope, who.partition)
	r.everything(ctx)
	snapshot := r.translate()
	r.log(p)
	return snapshot, nil
}

// unlisted reads a scope that stands for an account whose regions could not be listed: the gap is all there is.
func (p *Provider) unlisted(ctx context.Context, scope cloud.Scope) (*cloud.Snapshot, error) {
	p.mu.Lock()
	why, ok := p.refused[scope.Account]
	p.mu.Unlock()
	if !ok {
		_, why = p.regions(ctx, scope.Account)
	}
	if why.err == nil {
		why = refusal{"ec2:DescribeRegions", errors.New("the regions could not be listed before, and can be now")}
	}
	return &cloud.Snapshot{Scope: scope, Gaps: []cloud.Gap{gapOf(why.action, why.err)}}, nil
}

// region is one scope while it is read: what came in so far, projected to small values.
type region struct {
	scope     cloud.Scope
	partition string
	account   *account
	config    aws.Config
	ec2       *ec2.Client
	ports     []uint16

	mu     sync.Mutex
	gaps   map[string]cloud.Gap // by subject
	unread map[string]bool      // actions that failed, whole or in part
	calls  map[string]int

	interfaces []iface
	groups     map[string]*group
	subnets    map[string]subnet
	tables     []routeTable
	acls       map[string]networkACL
	gateways   map[string]string // internet gateway to the VPC it is attached to
	block      blockPublicAccess
	lists      map[string]prefixList
	balancers  []*balancer
	targets    map[string]*targetGroup // by ARN
	lightsail  []lightsailInstance
	front      []acceleratorPath
	watching   map[cloud.Ref]bool
	instances  map[string]string // names of instances by id
	noProbe    map[string]bool   // instances that the probe is to leave alone

	byGroup map[string]*netipx.IPSet // private addresses of a group's members; nil until first asked for
}

func newRegion(p *Provider, a *account, scope cloud.Scope, partition string) *region {
	c := a.config.Copy()
	c.Region = scope.Region
	p.mu.Lock()
	watching := maps.Clone(p.watching)
	p.mu.Unlock()
	return &region{
		scope: scope, partition: partition, account: a, config: c, ec2: ec2.NewFromConfig(c), ports: p.config.Ports,
		gaps: map[string]cloud.Gap{}, unread: map[string]bool{}, calls: map[string]int{},
		groups: map[string]*group{}, subnets: map[string]subnet{}, acls: map[string]networkACL{}, gateways: map[string]string{},
		lists: map[string]prefixList{}, targets: map[string]*targetGroup{}, instances: map[string]string{}, noProbe: map[string]bool{},
		watching: watching,
	}
}

// everything reads in rounds, each side by side: what every region needs, what that names, and what that opens.
func (r *region) everything(ctx context.Context) {
	side := func(reads ...func(context.Context)) {
		var g errgroup.Group
		for _, read := range reads {
			g.Go(func() error { read(ctx); return nil })
		}
		_ = g.Wait() // no function above returns an error
	}
	var found loadBalancers
	side(
		r.readInterfaces, r.readGroups, r.readSubnets, r.readRouteTables, r.readACLs, r.readGateways,
		r.readBlockPublicAccess, r.readLightsail, r.readAccelerators,
		func(ctx context.Context) { found.v2, found.v2OK = r.readBalancers(ctx) },
		func(ctx context.Context) { found.classic, found.classicOK = r.readClassicBalancers(ctx) },
	)
	side(
		r.readPrefixLists,
		func(ctx context.Context) { r.readListeners(ctx, found) },
	)
	side(r.readRuleIDs)
	side(r.readInstanceNames)
}

// failed notes that action failed. What was read by then is kept.
func (r *region) failed(action string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unread[action] = true
	if _, ok := r.gaps[action]; !ok {
		r.gaps[action] = gapOf(action, err)
	}
}

// missing says whether action failed.
func (r *region) missing(action string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unread[action]
}

func (r *region) count(action string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls[action]++
}

// log says how many calls the region took.
func (r *region) log(p *Provider) {
	total := 0
	fields := []any{"scope", r.scope.String()}
	for _, action := range sorted(r.calls) {
		total += r.calls[action]
		fields = append(fields, action, r.calls[action])
	}
	p.log.Debug("read region", append(fields, "calls", total)...)
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// operation is an operation of a client, held as a function: a client that is converted to an interface keeps the linker
// from leaving its other operations out.
type operation[I, O, P any] func(context.Context, *I, ...func(*P)) (*O, error)

// paging says where an operation has its tokens.
type paging[I, O any] struct {
	set  func(in *I, token *string)
	next func(out *O) *string
}

// all calls op until there is no further page, gives each page to each as it arrives, and notes a failure under action. It
// returns whether everything was read.
func all[I, O, P any](ctx context.Context, r *region, action string, op operation[I, O, P], in *I, token paging[I, O], each func(*O)) bool {
	for {
		r.count(action)
		out, err := op(ctx, in)
		if err != nil {
			r.failed(action, err)
			return false
		}
		each(out)
		next := token.next(out)
		if aws.ToString(next) == "" {
			return true
		}
		token.set(in, next)
	}
}

// absent says that a host does not exist. Some services are offered in few regions, and have no host in the others.
func absent(err error) bool {
	var lookup *net.DNSError
	return errors.As(err, &lookup) && lookup.IsNotFound
}

// translate turns what was read into a snapshot.
func (r *region) translate() *cloud.Snapshot {
	s := &cloud.Snapshot{Scope: r.scope}
	b := newBuilder(r)
	for _, id := range sorted(r.groups) {
		s.Lists = append(s.Lists, b.groupList(id))
	}
	s.Endpoints = append(s.Endpoints, b.interfaceEndpoints()...)
	s.Endpoints = append(s.Endpoints, b.balancerEndpoints()...)
	s.Endpoints = append(s.Endpoints, b.acceleratorEndpoints()...)
	lists, endpoints := b.lightsail()
	s.Lists = append(s.Lists, lists...)
	s.Endpoints = append(s.Endpoints, endpoints...)
	// Groups that are named and were not listed have a list of their own, which is in doubt.
	for _, id := range sorted(b.lists) {
		if r.groups[id] == nil {
			s.Lists = append(s.Lists, b.lists[id])
		}
	}
	slices.SortFunc(s.Lists, func(a, b *cloud.List) int { return a.Ref.Compare(b.Ref) })
	slices.SortStableFunc(s.Endpoints, func(a, b cloud.Endpoint) int {
		return cmp.Or(
			a.Ref.Compare(b.Ref), cmp.Compare(a.Family, b.Family), strings.Compare(a.Address(), b.Address()), a.Via.Compare(b.Via),
		)
	})
	for _, subject := range sorted(r.gaps) {
		s.Gaps = append(s.Gaps, r.gaps[subject])
	}
	return s
}
