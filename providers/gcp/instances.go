package gcp

import (
	"context"
	"net/netip"

	compute "cloud.google.com/go/compute/apiv1"
	"cloud.google.com/go/compute/apiv1/computepb"
	"github.com/googleapis/gax-go/v2/callctx"
	"google.golang.org/protobuf/proto"

	"github.com/cloudaudit/cloudaudit/providers"
)

// instance is what is kept of a virtual machine: Google's own message is some 8 kB.
type instance struct {
	path, zone, region, name, status string
	tags, accounts                   []string
	nics                             []nic
	noProbe                          bool
}

// nic is a network interface of an instance.
type nic struct {
	name, network string // network is a path
	internal      netip.Addr
	external      []external
}

// external is an address of an interface on the internet.
type external struct {
	addr           netip.Addr
	securityPolicy string // a Cloud Armor policy in front, or ""
}

// stopped says whether the instance receives no packets.
func (vm *instance) stopped() bool {
	switch vm.status {
	case "TERMINATED", "STOPPED", "SUSPENDED":
		return true
	}
	return false
}

// instanceMask names the fields of the list of instances that are used, as a partial response
// (https://cloud.google.com/compute/docs/api/how-tos/performance#partial-response). Interfaces come whole, so that no
// kind of address is missed.
const instanceMask = "nextPageToken,unreachables,warning,items/*/warning," +
	"items/*/instances(name,selfLink,zone,status,tags/items,labels,serviceAccounts/email,networkInterfaces)"

// instancesOf lists the instances of a project. The field mask saves most of the work; where it is refused, or where what
// comes back with it cannot be whole, the list is asked for again without.
func (r *reader) instancesOf(ctx context.Context) ([]*instance, []unreached, error) {
	r.provider.mu.Lock()
	masked := !r.provider.noMask
	r.provider.mu.Unlock()
	if masked {
		out, missing, err := r.listInstances(callctx.SetHeaders(ctx, callctx.XGoogFieldMaskHeader, instanceMask))
		whole := err == nil && len(out) > 0
		for _, vm := range out {
			whole = whole && vm.name != "" && vm.zone != "" && vm.status != "" && len(vm.nics) > 0
		}
		switch {
		case whole:
			return out, missing, nil
		case err != nil && !badMask(err):
			return nil, nil, err
		case err != nil || len(out) > 0:
			r.log.Debug("the list of instances does not take a field mask", "project", r.project)
			r.provider.mu.Lock()
			r.provider.noMask = true
			r.provider.mu.Unlock()
		}
		// An empty answer is only believed without a mask.
	}
	return r.listInstances(ctx)
}

func (r *reader) listInstances(ctx context.Context) ([]*instance, []unreached, error) {
	client, err := r.clients.instances()
	if err != nil {
		return nil, nil, err
	}
	var out []*instance
	it := client.AggregatedList(ctx, &computepb.AggregatedListInstancesRequest{
		Project: r.project, MaxResults: proto.Uint32(pageSize),
	}, once)
	missing, err := aggregated(it.Next, func() any { return it.Response }, func(p compute.InstancesScopedListPair) (string, *computepb.Warning) {
		for _, m := range p.Value.GetInstances() {
			out = append(out, r.instance(m))
		}
		return p.Key, p.Value.GetWarning()
	})
	return out, missing, err
}

// instance keeps of a message what is used. Names that many share are kept once.
func (r *reader) instance(m *computepb.Instance) *instance {
	vm := &instance{
		path: path(m.GetSelfLink()), zone: r.share(baseName(m.GetZone())), name: m.GetName(), status: r.share(m.GetStatus()),
	}
	_, vm.noProbe = m.GetLabels()[providers.NoProbeLabel]
	vm.region = r.share(regionOf(vm.zone))
	for _, t := range m.GetTags().GetItems() {
		vm.tags = append(vm.tags, r.share(t))
	}
	for _, a := range m.GetServiceAccounts() {
		vm.accounts = append(vm.accounts, r.share(a.GetEmail()))
	}
	for _, n := range m.GetNetworkInterfaces() {
		out := nic{name: r.share(n.GetName()), network: r.share(path(n.GetNetwork())), internal: parseAddr(n.GetNetworkIP())}
		if !out.internal.IsValid() {
			out.internal = parseAddr(n.GetIpv6Address())
		}
		for _, ac := range n.GetAccessConfigs() {
			if a := parseAddr(ac.GetNatIP()); a.IsValid() {
				out.external = append(out.external, external{a, ac.GetSecurityPolicy()})
			}
		}
		for _, ac := range n.GetIpv6AccessConfigs() {
			if a := parseAddr(ac.GetExternalIpv6()); a.IsValid() {
				out.external = append(out.external, external{a, ac.GetSecurityPolicy()})
			}
		}
		vm.nics = append(vm.nics, out)
	}
	return vm
}

// parseAddr reads an address, or the first of a range such as an IPv6 forwarding rule's; the zero Addr if it is neither.
func parseAddr(text string) netip.Addr {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr()
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

func regionOf(zone string) string {
	for i := len(zone) - 1; i > 0; i-- {
		if zone[i] == '-' {
			return zone[:i]
		}
	}
	return zone
}
