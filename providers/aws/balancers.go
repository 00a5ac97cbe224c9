package aws

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"golang.org/x/sync/errgroup"

	"github.com/cloudaudit/cloudaudit/traffic"
)

// balancer is what matters of a load balancer of either generation.
type balancer struct {
	arn, name, dns string // a classic balancer has no ARN in the API; its name stands for it
	kind           string // network, application, gateway, classic
	public         bool   // internet-facing
	vpc            string
	groups         []string
	nodes          []node
	listeners      []listener
	listenersRead  bool
}

// suffix is how the descriptions of the balancer's interfaces name it.
func (l *balancer) suffix() string {
	if _, s, ok := strings.Cut(l.arn, ":loadbalancer/"); ok && l.kind != "classic" {
		return s
	}
	return l.name
}

// node is a balancer's foot in one subnet, with what the balancer itself says of its addresses.
type node struct {
	subnet, zone    string
	public, private netip.Addr
}

// listener forwards what arrives for its services to targets.
type listener struct {
	protos []traffic.Proto
	port   uint16
	groups []string // ARNs of target groups
	direct []target // the targets of a classic balancer
}

// targetGroup is a target group.
type targetGroup struct {
	arn, name   string
	kind        string // instance, ip, alb, lambda
	protocol    string
	vpc         string
	port        uint16
	v6          bool
	balancers   []string
	targets     []target
	targetsRead bool
	// keeps says whether the client's address is preserved; nil if that could not be read.
	keeps *bool
}

// target is one target of a group: an instance, an address or a balancer.
type target struct {
	id   string
	port uint16
}

const pageOfBalancers = 400

// loadBalancers is what the two lists of balancers said.
type loadBalancers struct {
	v2, classic     []*balancer
	v2OK, classicOK bool
}

func (r *region) readBalancers(ctx context.Context) ([]*balancer, bool) {
	var out []*balancer
	in := &elbv2.DescribeLoadBalancersInput{PageSize: aws.Int32(pageOfBalancers)}
	ok := all(ctx, r, "elasticloadbalancing:DescribeLoadBalancers", elbv2.NewFromConfig(r.config).DescribeLoadBalancers, in, paging[elbv2.DescribeLoadBalancersInput, elbv2.DescribeLoadBalancersOutput]{
		set:  func(in *elbv2.DescribeLoadBalancersInput, token *string) { in.Marker = token },
		next: func(out *elbv2.DescribeLoadBalancersOutput) *string { return out.NextMarker },
	}, func(page *elbv2.DescribeLoadBalancersOutput) {
		for i := range page.LoadBalancers {
			out = append(out, balancerOf(&page.LoadBalancers[i]))
		}
	})
	return out, ok
}

func balancerOf(l *types.LoadBalancer) *balancer {
	out := &balancer{
		arn: aws.ToString(l.LoadBalancerArn), name: aws.ToString(l.LoadBalancerName), dns: aws.ToString(l.DNSName), kind: string(l.Type),
		public: l.Scheme == types.LoadBalancerSchemeEnumInternetFacing, vpc: aws.ToString(l.VpcId), groups: slices.Sorted(slices.Values(l.SecurityGroups)),
	}
	for _, z := range l.AvailabilityZones {
		n := node{subnet: aws.ToString(z.SubnetId), zone: aws.ToString(z.ZoneName)}
		for _, a := range z.LoadBalancerAddresses {
			n.public, n.private = cmp.Or(n.public, addr(a.IpAddress)), cmp.Or(n.private, addr(a.PrivateIPv4Address))
		}
		out.nodes = append(out.nodes, n)
	}
	slices.SortFunc(out.nodes, func(a, b node) int { return strings.Compare(a.subnet, b.subnet) })
	return out
}

func (r *region) readClassicBalancers(ctx context.Context) ([]*balancer, bool) {
	var out []*balancer
	in := &elb.DescribeLoadBalancersInput{PageSize: aws.Int32(pageOfBalancers)}
	ok := all(ctx, r, "elasticloadbalancing:DescribeLoadBalancers", elb.NewFromConfig(r.config).DescribeLoadBalancers, in, paging[elb.DescribeLoadBalancersInput, elb.DescribeLoadBalancersOutput]{
		set:  func(in *elb.DescribeLoadBalancersInput, token *string) { in.Marker = token },
		next: func(out *elb.DescribeLoadBalancersOutput) *string { return out.NextMarker },
	}, func(page *elb.DescribeLoadBalancersOutput) {
		for i := range page.LoadBalancerDescriptions {
			out = append(out, classicOf(&page.LoadBalancerDescriptions[i]))
		}
	})
	return out, ok
}

func classicOf(l *elbtypes.LoadBalancerDescription) *balancer {
	out := &balancer{
		arn: aws.ToString(l.LoadBalancerName), name: aws.ToString(l.LoadBalancerName), dns: aws.ToString(l.DNSName), kind: "classic",
		public: aws.ToString(l.Scheme) == "internet-facing", vpc: aws.ToString(l.VPCId), groups: slices.Sorted(slices.Values(l.SecurityGroups)),
		listenersRead: true,
	}
	for _, s := range slices.Sorted(slices.Values(l.Subnets)) {
		out.nodes = append(out.nodes, node{subnet: s})
	}
	var ids []string
	for _, i := range l.Instances {
		ids = append(ids, aws.ToString(i.InstanceId))
	}
	slices.Sort(ids)
	for _, d := range l.ListenerDescriptions {
		if d.Listener == nil {
			continue
		}
		v := listener{protos: []traffic.Proto{traffic.TCP}, port: port(&d.Listener.LoadBalancerPort)}
		for _, id := range ids {
			v.direct = append(v.direct, target{id, port(d.Listener.InstancePort)})
		}
		out.listeners = append(out.listeners, v)
	}
	slices.SortStableFunc(out.listeners, func(a, b listener) int { return cmp.Compare(a.port, b.port) })
	return out
}

func port(p *int32) uint16 {
	if p == nil || *p < 0 || *p > 65535 {
		return 0
	}
	return uint16(*p)
}

// readListeners reads what hangs on the balancers that matter: those that face the internet, those that an accelerator
// puts on it, and those behind one of either.
func (r *region) readListeners(ctx context.Context, found loadBalancers) {
	r.balancers = append(found.v2, found.classic...)
	slices.SortFunc(r.balancers, func(a, b *balancer) int { return strings.Compare(a.arn, b.arn) })
	byARN := map[string]*balancer{}
	wanted := map[string]bool{}
	for _, l := range r.balancers {
		byARN[l.arn] = l
		if l.public && l.kind != "classic" && l.kind != "gateway" {
			wanted[l.arn] = true
		}
	}
	for _, p := range r.front {
		if l := byARN[p.endpoint]; l != nil && l.kind != "classic" {
			wanted[l.arn] = true
		}
	}
	if len(wanted) == 0 {
		return
	}
	client := elbv2.NewFromConfig(r.config)
	r.readTargetGroups(ctx, client)
	for done := map[string]bool{}; ; {
		var round []*balancer
		for _, arn := range sorted(wanted) {
			if l := byARN[arn]; l != nil && !done[arn] {
				done[arn] = true
				round = append(round, l)
			}
		}
		if len(round) == 0 {
			return
		}
		var g errgroup.Group
		g.SetLimit(32)
		for _, l := range round {
			g.Go(func() error { r.readListenersOf(ctx, client, l); return nil })
		}
		_ = g.Wait() // no function above returns an error
		r.readTargets(ctx, client, round)
		for _, t := range r.targets {
			if t.kind != string(types.TargetTypeEnumAlb) {
				continue
			}
			for _, v := range t.targets {
				if slices.ContainsFunc(t.balancers, func(arn string) bool { return done[arn] }) {
					wanted[v.id] = true
				}
			}
		}
	}
}

func (r *region) readListenersOf(ctx context.Context, client *elbv2.Client, l *balancer) {
	in := &elbv2.DescribeListenersInput{PageSize: aws.Int32(pageOfBalancers), LoadBalancerArn: aws.String(l.arn)}
	l.listenersRead = all(ctx, r, "elasticloadbalancing:DescribeListeners", client.DescribeListeners, in, paging[elbv2.DescribeListenersInput, elbv2.DescribeListenersOutput]{
		set:  func(in *elbv2.DescribeListenersInput, token *string) { in.Marker = token },
		next: func(out *elbv2.DescribeListenersOutput) *string { return out.NextMarker },
	}, func(page *elbv2.DescribeListenersOutput) {
		for i := range page.Listeners {
			l.listeners = append(l.listeners, r.listenerOf(l, &page.Listeners[i]))
		}
	})
	slices.SortStableFunc(l.listeners, func(a, b listener) int { return cmp.Compare(a.port, b.port) })
}

func (r *region) listenerOf(l *balancer, in *types.Listener) listener {
	out := listener{port: port(in.Port)}
	switch in.Protocol {
	case types.ProtocolEnumUdp, types.ProtocolEnumQuic:
		out.protos = []traffic.Proto{traffic.UDP}
	case types.ProtocolEnumTcpUdp, types.ProtocolEnumTcpQuic:
		out.protos = []traffic.Proto{traffic.TCP, traffic.UDP}
	default:
		out.protos = []traffic.Proto{traffic.TCP}
	}
	groups := map[string]bool{}
	for _, a := range in.DefaultActions {
		if id := aws.ToString(a.TargetGroupArn); id != "" {
			groups[id] = true
		}
		if a.ForwardConfig != nil {
			for _, t := range a.ForwardConfig.TargetGroups {
				groups[aws.ToString(t.TargetGroupArn)] = true
			}
		}
	}
	if l.kind == "application" {
		// Rules may forward to any of the balancer's groups.
		for id, t := range r.targets {
			if slices.Contains(t.balancers, l.arn) {
				groups[id] = true
			}
		}
	}
	out.groups = sorted(groups)
	return out
}

func (r *region) readTargetGroups(ctx context.Context, client *elbv2.Client) {
	in := &elbv2.DescribeTargetGroupsInput{PageSize: aws.Int32(pageOfBalancers)}
	all(ctx, r, "elasticloadbalancing:DescribeTargetGroups", client.DescribeTargetGroups, in, paging[elbv2.DescribeTargetGroupsInput, elbv2.DescribeTargetGroupsOutput]{
		set:  func(in *elbv2.DescribeTargetGroupsInput, token *string) { in.Marker = token },
		next: func(out *elbv2.DescribeTargetGroupsOutput) *string { return out.NextMarker },
	}, func(page *elbv2.DescribeTargetGroupsOutput) {
		for _, t := range page.TargetGroups {
			arn := aws.ToString(t.TargetGroupArn)
			r.targets[arn] = &targetGroup{
				arn: arn, name: aws.ToString(t.TargetGroupName), kind: string(t.TargetType), protocol: string(t.Protocol), vpc: aws.ToString(t.VpcId),
				port: port(t.Port), v6: t.IpAddressType == types.TargetGroupIpAddressTypeEnumIpv6, balancers: t.LoadBalancerArns,
			}
		}
	})
}

// readTargets reads the targets of the groups behind balancers, and for those of network balancers whether they keep the
// client's address.
func (r *region) readTargets(ctx context.Context, client *elbv2.Client, balancers []*balancer) {
	type need struct{ targets, attributes bool }
	wanted := map[string]need{}
	for _, l := range balancers {
		for _, v := range l.listeners {
			for _, id := range v.groups {
				if t := r.targets[id]; t != nil && t.kind != string(types.TargetTypeEnumLambda) {
					n := wanted[id]
					n.targets = n.targets || !t.targetsRead
					n.attributes = n.attributes || l.kind == "network" && t.keeps == nil && !t.alwaysKeeps()
					wanted[id] = n
				}
			}
		}
	}
	var (
		g  errgroup.Group
		mu sync.Mutex
	)
	g.SetLimit(32)
	for _, id := range sorted(wanted) {
		t := r.targets[id]
		if wanted[id].targets {
			g.Go(func() error {
				const action = "elasticloadbalancing:DescribeTargetHealth"
				r.count(action)
				out, err := client.DescribeTargetHealth(ctx, &elbv2.DescribeTargetHealthInput{TargetGroupArn: aws.String(id)})
				if err != nil {
					r.failed(action, err)
					return nil
				}
				mu.Lock()
				defer mu.Unlock()
				t.targetsRead = true
				for _, d := range out.TargetHealthDescriptions {
					if d.Target != nil {
						t.targets = append(t.targets, target{aws.ToString(d.Target.Id), cmp.Or(port(d.Target.Port), t.port)})
					}
				}
				slices.SortFunc(t.targets, func(a, b target) int { return cmp.Or(strings.Compare(a.id, b.id), cmp.Compare(a.port, b.port)) })
				t.targets = slices.Compact(t.targets)
				return nil
			})
		}
		if wanted[id].attributes {
			g.Go(func() error {
				const action = "elasticloadbalancing:DescribeTargetGroupAttributes"
				r.count(action)
				out, err := client.DescribeTargetGroupAttributes(ctx, &elbv2.DescribeTargetGroupAttributesInput{TargetGroupArn: aws.String(id)})
				if err != nil {
					r.failed(action, err)
					return nil
				}
				keeps := t.kind != string(types.TargetTypeEnumIp) // the default
				for _, a := range out.Attributes {
					if aws.ToString(a.Key) == "preserve_client_ip.enabled" {
						keeps = aws.ToString(a.Value) == "true"
					}
				}
				mu.Lock()
				defer mu.Unlock()
				t.keeps = &keeps
				return nil
			})
		}
	}
	_ = g.Wait() // no function above returns an error
}

// alwaysKeeps says whether the group keeps the client's address whatever its attributes say: UDP does, and so does a
// network balancer in front of an application balancer.
func (t *targetGroup) alwaysKeeps() bool {
	return t.protocol == "UDP" || t.protocol == "TCP_UDP" || t.protocol == "QUIC" || t.protocol == "TCP_QUIC" || t.kind == string(types.TargetTypeEnumAlb)
}
