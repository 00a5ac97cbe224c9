package gcp

import (
	"context"
	"maps"
	"slices"
	"sync"

	"cloud.google.com/go/compute/apiv1/computepb"
	"golang.org/x/sync/errgroup"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// third asks Google about single interfaces, where nothing else tells which rules are theirs: where the whole network could
// not be read, and where a rule is for secure tags, which the list of instances does not show. Only interfaces that packets
// from the internet may get to are worth it.
func (r *reader) third(ctx context.Context) {
	unread := map[string]bool{}
	for p, v := range r.views {
		if v == nil {
			unread[p.network] = true
		}
	}
	fallback := map[string]*view{}
	for network := range unread {
		fallback[network] = r.vpcOnly(ctx, network)
		r.note(fallback[network])
	}
	for p, v := range r.views {
		if v == nil {
			r.views[p] = fallback[p.network]
		}
	}

	var g errgroup.Group
	g.SetLimit(cap(r.provider.transport.inFlight))
	for _, key := range r.reachable() {
		n := &key.vm.nics[key.nic]
		alone := unread[n.network]
		if !alone && !forTags(r.views[place{n.network, key.vm.region}]) {
			continue
		}
		g.Go(func() error {
			r.readInterface(ctx, key, alone)
			return nil
		})
	}
	_ = g.Wait()
}

// reachable returns the interfaces that have an address on the internet or a forwarding rule in front.
func (r *reader) reachable() []nicKey {
	set := map[nicKey]bool{}
	for _, vm := range r.instances {
		for i := range vm.nics {
			if len(vm.nics[i].external) > 0 && !vm.stopped() {
				set[nicKey{vm, i}] = true
			}
		}
	}
	for _, f := range r.fronts {
		for _, b := range f.behind {
			if b.vm != nil && !b.vm.stopped() {
				set[nicKey{b.vm, b.nic}] = true
			}
		}
	}
	return slices.Collect(maps.Keys(set))
}

// forTags says whether a rule of v is for secure tags.
func forTags(v *view) bool {
	if v == nil || v.narrowed {
		return false
	}
	for _, l := range v.lists {
		for i := range l.rules {
			if len(l.rules[i].targets.secure) > 0 {
				return true
			}
		}
	}
	return false
}

// readInterface asks what filters one interface. The answer has only the rules whose target service accounts and secure
// tags are those of the instance, so it is of use for no other.
func (r *reader) readInterface(ctx context.Context, key nicKey, alone bool) {
	n := &key.vm.nics[key.nic]
	p := place{n.network, key.vm.region}
	client, err := r.clients.instances()
	var answer *computepb.InstancesGetEffectiveFirewallsResponse
	if err == nil {
		answer, err = client.GetEffectiveFirewalls(ctx, &computepb.GetEffectiveFirewallsInstanceRequest{
			Project: projectOf(key.vm.path), Zone: key.vm.zone, Instance: key.vm.name, NetworkInterface: n.name,
		}, once)
	}
	if err != nil {
		r.gap(gap("compute.instances.getEffectiveFirewalls", "projects/"+r.project, err))
		return
	}
	policies := policiesOf(answer.GetFirewallPolicys())
	lists := r.translate(ctx, p, answer.GetFirewalls(), policies)
	var ties map[*list]string
	if alone {
		lists, ties = r.ties(ctx, p, lists)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if alone {
		v := newView(lists, r.orders[n.network], ties)
		v.narrowed = true
		r.perNIC[key] = v
		r.note(v)
		return
	}
	bound := &boundTags{known: true, rules: map[ruleKey]bool{}}
	for _, l := range lists {
		for i := range l.rules {
			bound.rules[keyOf(l, &l.rules[i])] = true
		}
	}
	r.tags[key] = bound
}

// viewOf returns what filters an interface.
func (r *reader) viewOf(key nicKey) *view {
	if v, ok := r.perNIC[key]; ok {
		return v
	}
	return r.views[place{key.vm.nics[key.nic].network, key.vm.region}]
}

// firewall returns the layer that every packet to an interface meets. Undecided is denied by an implied rule, which its
// name tells.
func (r *reader) firewall(key nicKey, s subject) cloud.Layer {
	s.vm, s.network, s.bound = key.vm, key.vm.nics[key.nic].network, r.tags[key]
	return cloud.Layer{Name: "implied_deny", Kind: cloud.Firewall, Lists: r.filters(r.viewOf(key), &s)}
}

// memo holds what a reading asks for at most once for each key.
type memo[K comparable, V any] struct {
	mu   sync.Mutex
	done map[K]func() V
}

// of returns what make returns for key, which it is asked once.
func (m *memo[K, V]) of(key K, make func() V) V {
	m.mu.Lock()
	if m.done == nil {
		m.done = map[K]func() V{}
	}
	f, ok := m.done[key]
	if !ok {
		f = sync.OnceValue(make)
		m.done[key] = f
	}
	m.mu.Unlock()
	return f()
}
