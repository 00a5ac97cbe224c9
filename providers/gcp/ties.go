package gcp

import (
	"context"

	"cloud.google.com/go/compute/apiv1/computepb"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// ties returns the names of the associations of those network policies whose priority leaves open which is asked first: the
// name then decides, and the effective-firewall calls do not give it. A policy whose association cannot be read is in doubt
// in the lists that are returned, and so is every other of its priority.
func (r *reader) ties(ctx context.Context, p place, lists []*list) ([]*list, map[*list]string) {
	type rank struct {
		kind  listKind
		order int32
	}
	tied := map[rank][]int{}
	for i, l := range lists {
		if (l.kind == networkPolicy || l.kind == regionalPolicy) && l.decides() {
			at := rank{l.kind, l.order}
			tied[at] = append(tied[at], i)
		}
	}
	names := map[*list]string{}
	for _, at := range tied {
		if len(at) < 2 {
			continue
		}
		read := true
		for _, i := range at {
			name, ok := r.association(ctx, p, lists[i])
			names[lists[i]] = name
			read = read && ok
		}
		if read {
			continue
		}
		for _, i := range at {
			lists[i] = lists[i].inDoubt()
		}
	}
	return lists, names
}

// decides says whether a rule of l allows or denies anything.
func (l *list) decides() bool {
	for i := range l.rules {
		if l.rules[i].Verdict != cloud.Pass {
			return true
		}
	}
	return false
}

// association returns the name by which a network policy is associated with the network of p.
func (r *reader) association(ctx context.Context, p place, l *list) (string, bool) {
	const permission = "compute.firewallPolicies.get"
	project := projectOf(p.network)
	region := ""
	if l.kind == regionalPolicy {
		region = p.region
	}
	all := r.associations.of(project+"/"+region+"/"+l.ref.ID, func() listed[map[string]string] {
		answer, err := r.networkPolicy(ctx, project, region, l.ref.ID)
		if err != nil {
			g := gap(permission, "projects/"+project, err)
			r.gap(g)
			return listed[map[string]string]{hint: g.Hint}
		}
		out := listed[map[string]string]{value: map[string]string{}}
		for _, a := range answer.GetAssociations() {
			out.value[path(a.GetAttachmentTarget())] = a.GetName()
		}
		return out
	})
	if all.hint != "" {
		return "", false
	}
	name, ok := all.value[p.network]
	if !ok {
		r.gap(cloud.Gap{
			Subject: permission, Cause: "policy " + l.name + " of projects/" + project + " is not associated with " + p.network,
			Hint: "it was changed while it was read: read again",
		})
	}
	return name, ok
}

// networkPolicy asks for a network policy of a project: of a region, or without one a global policy.
func (r *reader) networkPolicy(ctx context.Context, project, region, name string) (*computepb.FirewallPolicy, error) {
	if region != "" {
		client, err := r.clients.regionPolicies()
		if err != nil {
			return nil, err
		}
		return client.Get(ctx, &computepb.GetRegionNetworkFirewallPolicyRequest{Project: project, Region: region, FirewallPolicy: name}, once)
	}
	client, err := r.clients.globalPolicies()
	if err != nil {
		return nil, err
	}
	return client.Get(ctx, &computepb.GetNetworkFirewallPolicyRequest{Project: project, FirewallPolicy: name}, once)
}
