package gcp

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	compute "cloud.google.com/go/compute/apiv1"
	"cloud.google.com/go/compute/apiv1/computepb"
	"github.com/google/uuid"
	"google.golang.org/api/googleapi"
	"google.golang.org/protobuf/proto"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
)

var _ providers.Fixer = (*Provider)(nil)

// settleTries bounds how often an operation is asked whether it is done; waits grow by half from the first of the transport
// to its most.
const settleTries = 40

// Apply writes one rule: it makes it, changes it in place or deletes it. It is in force when its operation is done. What the
// project has no room for, or what a rule that does not show is in the way of, is inexpressible, and nothing is made.
func (p *Provider) Apply(ctx context.Context, e cloud.Edit) (cloud.Edit, error) {
	done, err := p.apply(ctx, e)
	if err == nil {
		return done, nil
	}
	if errors.Is(err, providers.ErrInexpressible) {
		done = cloud.Edit{List: e.List}
	} else {
		done = cloud.Edit{}
	}
	return done, fmt.Errorf("gcp %s: %s %s: %w", e.List.Scope, strings.ReplaceAll(e.List.Kind, "-", " "), e.List.ID, err)
}

func (p *Provider) apply(ctx context.Context, e cloud.Edit) (cloud.Edit, error) {
	if e.Guard != nil || len(e.Old) > 1 || len(e.New) > 1 || len(e.Old)+len(e.New) == 0 {
		return e, errors.New("one write changes one rule")
	}
	c, err := p.open(ctx)
	if err != nil {
		return e, err
	}
	project, region, _ := strings.Cut(e.List.Scope, "/")
	w := &writer{
		r: newReader(p, c, cloud.Scope{Provider: Name, Account: project}), list: e.List, project: project, region: region,
	}
	list, hidden, err := w.read(ctx)
	if err != nil {
		return e, err
	}
	if e.Base != "" && list.Digest() != e.Base {
		return e, providers.ErrStale
	}
	for i := range e.Old {
		if list.Find(&e.Old[i]) < 0 {
			return e, fmt.Errorf("rule %s is not there: %w", e.Old[i].Text, providers.ErrStale)
		}
	}
	var was, is draft
	if len(e.Old) > 0 {
		if was, err = draftOf(e.List, &e.Old[0]); err != nil {
			return e, err
		}
	}
	if len(e.New) > 0 {
		if is, err = draftOf(e.List, &e.New[0]); err != nil {
			return e, err
		}
		if len(e.Old) == 0 && hidden[e.New[0].Ref.ID] {
			return e, fmt.Errorf("%s is there already, disabled or for outgoing packets: %w", e.New[0].Ref.ID, providers.ErrInexpressible)
		}
	}
	op, err := w.send(ctx, was, is)
	if err != nil {
		return e, err
	}
	if err := w.wait(ctx, op); err != nil {
		return e, err
	}
	if list, _, err = w.read(ctx); err != nil {
		return e, err
	}
	return readBack(list, e)
}

// readBack returns e with its new rules as list has them.
func readBack(list *cloud.List, e cloud.Edit) (cloud.Edit, error) {
	for i := range e.Old {
		if list.Find(&e.Old[i]) >= 0 {
			return e, fmt.Errorf("rule %s is still there after its operation was done", e.Old[i].Text)
		}
	}
	e.New = slices.Clone(e.New)
	for i := range e.New {
		at := list.Find(&e.New[i])
		if at < 0 {
			return e, fmt.Errorf("rule %s is not there as it was written, after its operation was done", e.New[i].Text)
		}
		e.New[i] = list.Rules[at]
	}
	return e, nil
}

// writer reads and writes one list.
type writer struct {
	r               *reader
	list            cloud.Ref
	project, region string
}

// effective is a network firewall policy as the effective-firewall calls have it.
type effective struct {
	*computepb.FirewallPolicy
	kind string
}

// GetType returns the policy's type.
func (e effective) GetType() string { return e.kind }

// GetPriority returns none: in which order policies are asked does not matter to their rules.
func (e effective) GetPriority() int32 { return 0 }

// read returns the list, and the ids of the rules that are there and that it does not have, for they filter nothing that
// comes in.
func (w *writer) read(ctx context.Context) (*cloud.List, map[string]bool, error) {
	var list *cloud.List
	all := map[string]bool{}
	switch w.list.Kind {
	case networkKind:
		rules, err := w.r.listFirewalls(ctx, w.project)
		if err != nil {
			return nil, nil, w.failure("compute.firewalls.list", err)
		}
		list = firewalls("projects/"+w.project+"/global/networks/"+w.list.ID, rules).full
		for _, f := range rules { // names are the project's, and not the network's
			all[f.GetName()] = true
		}
	case policyKind:
		p, err := w.r.networkPolicy(ctx, w.project, w.region, w.list.ID)
		if err != nil {
			return nil, nil, w.failure("compute.firewallPolicies.get", err)
		}
		kind := "NETWORK"
		if w.region != "" {
			kind = "NETWORK_REGIONAL"
		}
		list = policy(ctx, w.project, w.region, effective{p, kind}, w.r.group).full
		for _, r := range p.GetRules() {
			all[w.list.ID+"/"+strconv.Itoa(int(r.GetPriority()))] = true
		}
	default:
		return nil, nil, fmt.Errorf("it is not changed by cloudaudit: %w", providers.ErrInexpressible)
	}
	for i := range list.Rules {
		delete(all, list.Rules[i].Ref.ID)
	}
	return list, all, nil
}

// requestID returns a new UUID, by which Google knows a request that it has got before.
func requestID() *string { return proto.String(uuid.NewString()) }

// send sends the one write that makes is of was; one of the two may be nothing.
func (w *writer) send(ctx context.Context, was, is draft) (*compute.Operation, error) {
	var change draft
	if was != (draft{}) && is != (draft{}) {
		var err error
		if change, err = difference(w.list, was, is); err != nil {
			return nil, err
		}
	}
	if w.list.Kind == networkKind {
		return w.sendFirewall(ctx, was.vpc, is.vpc, change.vpc)
	}
	return w.sendRule(ctx, was.policy, is.policy, change.policy)
}

func (w *writer) sendFirewall(ctx context.Context, was, is, change *computepb.Firewall) (*compute.Operation, error) {
	client, err := w.r.clients.firewalls()
	if err != nil {
		return nil, err
	}
	var op *compute.Operation
	permission := "compute.firewalls.update"
	switch {
	case change != nil:
		op, err = client.Patch(ctx, &computepb.PatchFirewallRequest{
			Project: w.project, Firewall: was.GetName(), FirewallResource: change, RequestId: requestID(),
		}, once)
	case is != nil:
		permission = "compute.firewalls.create"
		op, err = client.Insert(ctx, &computepb.InsertFirewallRequest{Project: w.project, FirewallResource: is, RequestId: requestID()}, once)
	default:
		permission = "compute.firewalls.delete"
		op, err = client.Delete(ctx, &computepb.DeleteFirewallRequest{Project: w.project, Firewall: was.GetName(), RequestId: requestID()}, once)
	}
	if err != nil {
		return nil, w.failure(permission, err)
	}
	return op, nil
}

// ruleClient is what the clients for global and for regional policies are asked here.
type ruleClient struct {
	add    func(*computepb.FirewallPolicyRule) (*compute.Operation, error)
	patch  func(int32, *computepb.FirewallPolicyRule) (*compute.Operation, error)
	remove func(int32) (*compute.Operation, error)
}

func (w *writer) ruleClient(ctx context.Context) (*ruleClient, error) {
	id := requestID()
	if w.region != "" {
		c, err := w.r.clients.regionPolicies()
		return &ruleClient{
			add: func(m *computepb.FirewallPolicyRule) (*compute.Operation, error) {
				return c.AddRule(ctx, &computepb.AddRuleRegionNetworkFirewallPolicyRequest{
					Project: w.project, Region: w.region, FirewallPolicy: w.list.ID, FirewallPolicyRuleResource: m, RequestId: id,
				}, once)
			},
			patch: func(priority int32, m *computepb.FirewallPolicyRule) (*compute.Operation, error) {
				return c.PatchRule(ctx, &computepb.PatchRuleRegionNetworkFirewallPolicyRequest{
					Project: w.project, Region: w.region, FirewallPolicy: w.list.ID, Priority: &priority, FirewallPolicyRuleResource: m, RequestId: id,
				}, once)
			},
			remove: func(priority int32) (*compute.Operation, error) {
				return c.RemoveRule(ctx, &computepb.RemoveRuleRegionNetworkFirewallPolicyRequest{
					Project: w.project, Region: w.region, FirewallPolicy: w.list.ID, Priority: &priority, RequestId: id,
				}, once)
			},
		}, err
	}
	c, err := w.r.clients.globalPolicies()
	return &ruleClient{
		add: func(m *computepb.FirewallPolicyRule) (*compute.Operation, error) {
			return c.AddRule(ctx, &computepb.AddRuleNetworkFirewallPolicyRequest{
				Project: w.project, FirewallPolicy: w.list.ID, FirewallPolicyRuleResource: m, RequestId: id,
			}, once)
		},
		patch: func(priority int32, m *computepb.FirewallPolicyRule) (*compute.Operation, error) {
			return c.PatchRule(ctx, &computepb.PatchRuleNetworkFirewallPolicyRequest{
				Project: w.project, FirewallPolicy: w.list.ID, Priority: &priority, FirewallPolicyRuleResource: m, RequestId: id,
			}, once)
		},
		remove: func(priority int32) (*compute.Operation, error) {
			return c.RemoveRule(ctx, &computepb.RemoveRuleNetworkFirewallPolicyRequest{
				Project: w.project, FirewallPolicy: w.list.ID, Priority: &priority, RequestId: id,
			}, once)
		},
	}, err
}

func (w *writer) sendRule(ctx context.Context, was, is, change *computepb.FirewallPolicyRule) (*compute.Operation, error) {
	c, err := w.ruleClient(ctx)
	if err != nil {
		return nil, err
	}
	var op *compute.Operation
	switch {
	case change != nil:
		op, err = c.patch(was.GetPriority(), change)
	case is != nil:
		op, err = c.add(is)
	default:
		op, err = c.remove(was.GetPriority())
	}
	if err != nil {
		return nil, w.failure("compute.firewallPolicies.update", err)
	}
	return op, nil
}

// difference returns what has to be written to make is of was, which are the same rule: the fields that differ, as a whole,
// so that fields that are not known here stay as they are.
func difference(list cloud.Ref, was, is draft) (draft, error) {
	var before, after map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(native(was.message()), &before), json.Unmarshal(native(is.message()), &after)); err != nil {
		return draft{}, err
	}
	changed := map[string]json.RawMessage{}
	for name, value := range after {
		if !bytes.Equal(before[name], value) {
			changed[name] = value
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			return draft{}, fmt.Errorf("field %s cannot be emptied: %w", name, providers.ErrInexpressible)
		}
	}
	if changed["name"] != nil || changed["priority"] != nil && list.Kind == policyKind {
		return draft{}, errors.New("a rule cannot be changed into another")
	}
	text, err := json.Marshal(changed)
	if err != nil {
		return draft{}, err
	}
	return draftOf(list, &cloud.Rule{Ref: list, Native: text})
}

// wait returns when op is done.
func (w *writer) wait(ctx context.Context, op *compute.Operation) error {
	permission := "compute.globalOperations.get"
	if w.region != "" {
		permission = "compute.regionOperations.get"
	}
	patience := w.r.provider.transport.patience
	pause := patience.first
	for range settleTries {
		var err error
		if !op.Done() {
			err = op.Poll(ctx, once)
		}
		if failed := op.Proto().GetError().GetErrors(); len(failed) > 0 && op.Done() {
			err = errors.New(cmp.Or(failed[0].GetMessage(), failed[0].GetCode()))
			if failed[0].GetCode() == "QUOTA_EXCEEDED" {
				err = fmt.Errorf("%w: %w", err, providers.ErrInexpressible)
			}
			return err
		}
		switch {
		case err != nil:
			return fmt.Errorf("the change is written, and whether it is in force is not known (%s): %s", permission, cause(err))
		case op.Done():
			return nil
		}
		if err := providers.Sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(pause*3/2, max(patience.most, time.Millisecond))
	}
	return errors.New("the change is written, and still not in force")
}

// failure describes err, with what to grant if that is what is missing.
func (w *writer) failure(permission string, err error) error {
	e, ok := apiError(err)
	out := errors.New(cause(err))
	switch {
	case !ok:
		return out
	case e.Code == http.StatusNotFound:
		return fmt.Errorf("it is gone: %w", providers.ErrStale)
	case slices.ContainsFunc(e.Errors, func(i googleapi.ErrorItem) bool { return i.Reason == "quotaExceeded" }):
		return fmt.Errorf("%w: %w", out, providers.ErrInexpressible)
	case e.Code == http.StatusForbidden && !throttledError(e):
		return &providers.Hint{Err: out, Next: "grant " + permission + " on projects/" + w.project + " (deploy/iam/gcp-fix-role.yaml has every permission that is needed)"}
	}
	return out
}
