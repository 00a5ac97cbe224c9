package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/lightsail"
	lightsailtypes "github.com/aws/aws-sdk-go-v2/service/lightsail/types"
	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
)

var (
	_ providers.Fixer   = (*Provider)(nil)
	_ providers.Watcher = (*Provider)(nil)
)

// How often rules are read until they are as expected: EC2 shows a change to some readers later than to others
// (https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html). Waits double from a quarter of a second.
const (
	triesBefore = 4 // until the list is what an edit starts from
	triesAfter  = 8 // until it is what a write made of it
	firstWait   = 250 * time.Millisecond
)

// write is an edit of a security group as the API's one call for it.
type write struct {
	authorize []nativeRule // rules to add, all with the same tags
	modify    *nativeRule  // or what to make of the rule ids[0]
	ids       []string     // or of these, what to remove
}

// writeOf returns the call for e.
func writeOf(e *cloud.Edit) (*write, error) {
	w := &write{}
	for i := range e.Old {
		w.ids = append(w.ids, e.Old[i].Ref.ID)
	}
	for i := range e.New {
		var n nativeRule
		if err := json.Unmarshal(e.New[i].Native, &n); err != nil {
			return nil, fmt.Errorf("rule %s: %w", e.New[i].Ref.ID, err)
		}
		if i > 0 && !maps.Equal(n.Tags, w.authorize[0].Tags) {
			return nil, errors.New("rules with different tags are not added by one write")
		}
		w.authorize = append(w.authorize, n)
	}
	switch {
	case len(e.Old) == 1 && len(e.New) == 1:
		w.modify, w.authorize = &w.authorize[0], nil
	case (len(e.Old) == 0) == (len(e.New) == 0):
		return nil, errors.New("rules are added, removed, or changed one at a time by one write")
	}
	return w, nil
}

// ports returns the ports of v as the API takes them; -1 where a protocol has none.
func (n *nativeRule) ports() (from, to int32) {
	if n.FromPort == nil || n.ToPort == nil {
		return -1, -1
	}
	return *n.FromPort, *n.ToPort
}

// Apply adds rules to a security group, changes one by its id, or removes rules by their ids, and puts the ports of a
// Lightsail instance. Before the first write to a group it asks whether all three are permitted, so that what is begun can
// be finished and undone.
func (p *Provider) Apply(ctx context.Context, e cloud.Edit) (cloud.Edit, error) {
	done, err := p.apply(ctx, e)
	if err == nil {
		return done, nil
	}
	return cloud.Edit{}, fmt.Errorf("aws %s: %s %s: %w", e.List.Scope, e.List.Kind, e.List.ID, err)
}

func (p *Provider) apply(ctx context.Context, e cloud.Edit) (cloud.Edit, error) {
	who, err := p.caller(ctx)
	if err != nil {
		return e, err
	}
	scope := scopeOf(e.List)
	a, err := p.enter(ctx, scope.Account)
	if err != nil {
		return e, err
	}
	if err := a.open(ctx); err != nil {
		return e, failure("sts:AssumeRole", err)
	}
	w := writer{p: p, region: func() *region { return newRegion(p, a, scope, who.partition) }}
	switch e.List.Kind {
	case "security-group":
		return w.group(ctx, e)
	case "lightsail-firewall":
		return w.ports(ctx, e)
	}
	return e, errors.New("it is nothing that can be written")
}

// writer carries out one edit.
type writer struct {
	p      *Provider
	region func() *region // a fresh one
}

// once makes a call be sent again only if AWS says that it came too soon, and so did nothing of it.
func once(o *retry.StandardOptions) {
	o.Retryables = []retry.IsErrorRetryable{retry.RetryableErrorCode{Codes: retry.DefaultThrottleErrorCodes}}
	o.MaxAttempts, o.MaxBackoff = attemptsIfThrottled, longestDelay
}

// failure describes err, with what to grant if that is what is missing.
func failure(action string, err error) error {
	g := gapOf(action, err)
	return &providers.Hint{Err: fmt.Errorf("%s: %s", action, g.Cause), Next: g.Hint}
}

// codeOf returns the error code of the API's answer, or "".
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// refused says whether AWS answered that it did not do what it was asked.
func refused(err error) bool {
	var response *smithyhttp.ResponseError
	return errors.As(err, &response) && response.HTTPStatusCode() >= 400 && response.HTTPStatusCode() < 500
}

// list reads the rules of a group.
func (w *writer) list(ctx context.Context, id string) (*cloud.List, error) {
	const action = "ec2:DescribeSecurityGroupRules"
	r := w.region()
	g := &group{id: id}
	in := &ec2.DescribeSecurityGroupRulesInput{
		MaxResults: aws.Int32(pageOfRules), Filters: []types.Filter{{Name: aws.String("group-id"), Values: []string{id}}},
	}
	for {
		out, err := r.ec2.DescribeSecurityGroupRules(ctx, in)
		if err != nil {
			return nil, failure(action, err)
		}
		for i := range out.SecurityGroupRules {
			if v := &out.SecurityGroupRules[i]; !aws.ToBool(v.IsEgress) {
				g.rules = append(g.rules, ruleOf(v))
			}
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			break
		}
	}
	r.groups[id] = g
	return newBuilder(r).groupList(id), nil
}

// poll reads until is holds, some times. It returns what it read last, and whether that holds.
func (w *writer) poll(ctx context.Context, tries int, read func(context.Context) (*cloud.List, error), is func(*cloud.List) bool) (*cloud.List, bool, error) {
	for try := 0; ; try++ {
		l, err := read(ctx)
		if err != nil || is(l) || try == tries-1 {
			return l, err == nil && is(l), err
		}
		if err := w.p.sleep(ctx, firstWait<<try); err != nil {
			return nil, false, err
		}
	}
}

// starts says whether l is what e starts from.
func starts(l *cloud.List, e *cloud.Edit) bool {
	return (e.Base == "" || l.Digest() == e.Base) && !slices.ContainsFunc(e.Old, func(r cloud.Rule) bool { return l.Find(&r) < 0 })
}

// ended says whether l is as e leaves it, as far as e goes.
func ended(l *cloud.List, e *cloud.Edit) bool {
	return !slices.ContainsFunc(e.New, func(r cloud.Rule) bool { return l.Find(&r) < 0 }) &&
		!slices.ContainsFunc(e.Old, func(r cloud.Rule) bool {
			return l.Find(&r) >= 0 && !slices.ContainsFunc(e.New, func(n cloud.Rule) bool { return n.Is(&r) })
		})
}

// group writes to a security group.
func (w *writer) group(ctx context.Context, e cloud.Edit) (cloud.Edit, error) {
	read := func(ctx context.Context) (*cloud.List, error) { return w.list(ctx, e.List.ID) }
	before, ok, err := w.poll(ctx, triesBefore, read, func(l *cloud.List) bool { return starts(l, &e) })
	switch {
	case err != nil:
		return e, err
	case !ok:
		return e, providers.ErrStale
	}
	now := e
	now.Old = make([]cloud.Rule, len(e.Old)) // with the ids that they have now
	for i := range e.Old {
		now.Old[i] = before.Rules[before.Find(&e.Old[i])]
	}
	call, err := writeOf(&now)
	if err != nil {
		return e, err
	}
	if err := w.permitted(ctx, before, call); err != nil {
		return e, err
	}
	tolerated := false
	if action, err := w.send(ctx, e.List.ID, call, false); err != nil {
		switch code := codeOf(err); {
		case code == "RulesPerSecurityGroupLimitExceeded":
			return e, fmt.Errorf("%s: %s: %w", action, causeOf(err), providers.ErrInexpressible)
		case code == "InvalidPermission.Duplicate", strings.HasSuffix(code, ".NotFound"):
			tolerated = true // if it is as it should be
		case !refused(err):
			// Whoever looks next is to see what became of it, so this waits as if it had been carried out.
			_, _, _ = w.poll(ctx, triesAfter, read, func(l *cloud.List) bool { return ended(l, &now) })
			fallthrough
		default:
			return e, failure(action, err)
		}
		if after, ok, err := w.poll(ctx, triesBefore, read, func(l *cloud.List) bool { return ended(l, &now) }); err != nil || !ok {
			if err == nil && after.Digest() == before.Digest() {
				return e, fmt.Errorf("%s was refused, and the rules are as before: %w", action, providers.ErrStale)
			}
			return e, errors.Join(failure(action, errors.New("the group has been changed")), err)
		}
	}
	after, ok, err := w.poll(ctx, triesAfter, read, func(l *cloud.List) bool { return ended(l, &now) })
	switch {
	case err != nil:
		return e, err
	case !ok && !tolerated && call.modify != nil && after.Digest() == before.Digest():
		return e, fmt.Errorf("the API says that it changed the rule, and did not: %w", providers.ErrInexpressible)
	case !ok:
		return e, errors.New("the change is written, and does not show")
	}
	now.New = slices.Clone(e.New)
	for i := range now.New {
		now.New[i] = after.Rules[after.Find(&now.New[i])]
	}
	return now, nil
}

// permitted asks, once a group, whether the caller may add, change and remove rules: a dry run of each changes nothing. The
// first is a change of a rule to what it is: if the API carries that out, it knows no dry runs, and is not asked for others.
func (w *writer) permitted(ctx context.Context, l *cloud.List, call *write) error {
	w.p.mu.Lock()
	known := w.p.permitted[l.Ref]
	w.p.mu.Unlock()
	if known {
		return nil
	}
	asks := []*write{}
	for i := range l.Rules {
		if n, err := nativeOf(&l.Rules[i]); err == nil && n.prefix().IsValid() {
			ids := []string{l.Rules[i].Ref.ID}
			asks = append(asks, &write{modify: n, ids: ids}, &write{ids: ids})
			break
		}
	}
	if call.authorize != nil {
		asks = append(asks, call)
	}
	for _, ask := range asks {
		action, err := w.send(ctx, l.Ref.ID, ask, true)
		if err == nil {
			return nil
		}
		if codeOf(err) != "DryRunOperation" {
			return failure(action, err)
		}
	}
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.p.permitted[l.Ref] = true
	return nil
}

// send sends the call for w. It returns its name in the words of permissions.
func (w *writer) send(ctx context.Context, group string, call *write, dry bool) (string, error) {
	r := w.region()
	alone := func(o *ec2.Options) { o.Retryer = retry.NewStandard(once) }
	switch {
	case call.modify != nil:
		n := call.modify
		from, to := n.ports()
		modify := r.ec2.ModifySecurityGroupRules
		_, err := modify(ctx, &ec2.ModifySecurityGroupRulesInput{
			GroupId: &group, DryRun: &dry,
			SecurityGroupRules: []types.SecurityGroupRuleUpdate{{
				SecurityGroupRuleId: &call.ids[0],
				SecurityGroupRule: &types.SecurityGroupRuleRequest{
					IpProtocol: &n.IPProtocol, FromPort: &from, ToPort: &to, Description: some(n.Description), CidrIpv4: some(n.CidrIPv4), CidrIpv6: some(n.CidrIPv6),
				},
			}},
		}, alone)
		return "ec2:ModifySecurityGroupRules", err
	case call.authorize != nil:
		in := &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &group, DryRun: &dry}
		for i := range call.authorize {
			n := &call.authorize[i]
			from, to := n.ports()
			permission := types.IpPermission{IpProtocol: &n.IPProtocol, FromPort: &from, ToPort: &to}
			if n.CidrIPv6 != "" {
				permission.Ipv6Ranges = []types.Ipv6Range{{CidrIpv6: &n.CidrIPv6, Description: some(n.Description)}}
			} else {
				permission.IpRanges = []types.IpRange{{CidrIp: &n.CidrIPv4, Description: some(n.Description)}}
			}
			in.IpPermissions = append(in.IpPermissions, permission)
		}
		if tags := call.authorize[0].Tags; len(tags) > 0 {
			spec := types.TagSpecification{ResourceType: types.ResourceTypeSecurityGroupRule}
			for _, key := range sorted(tags) {
				spec.Tags = append(spec.Tags, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
			}
			in.TagSpecifications = []types.TagSpecification{spec}
		}
		authorize := r.ec2.AuthorizeSecurityGroupIngress
		_, err := authorize(ctx, in, alone)
		return "ec2:AuthorizeSecurityGroupIngress", err
	}
	revoke := r.ec2.RevokeSecurityGroupIngress
	_, err := revoke(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: &group, DryRun: &dry, SecurityGroupRuleIds: call.ids}, alone)
	return "ec2:RevokeSecurityGroupIngress", err
}

// some returns s, or nil if it is empty.
func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// ports puts the ports of a Lightsail instance.
func (w *writer) ports(ctx context.Context, e cloud.Edit) (cloud.Edit, error) {
	read := func(ctx context.Context) (*cloud.List, error) {
		r := w.region()
		r.readLightsail(ctx)
		for _, g := range r.gaps {
			return nil, &providers.Hint{Err: fmt.Errorf("%s: %s", g.Subject, g.Cause), Next: g.Hint}
		}
		lists, _ := newBuilder(r).lightsail()
		for _, l := range lists {
			if l.Ref == e.List {
				return l, nil
			}
		}
		return nil, fmt.Errorf("it is gone: %w", providers.ErrStale)
	}
	before, err := read(ctx)
	switch {
	case err != nil:
		return e, err
	case !starts(before, &e):
		return e, providers.ErrStale
	}
	in := &lightsail.PutInstancePublicPortsInput{InstanceName: &e.List.ID, PortInfos: []lightsailtypes.PortInfo{}}
	for _, r := range e.New {
		var n nativePort
		if err := json.Unmarshal(r.Native, &n); err != nil {
			return e, fmt.Errorf("rule %s: %w", r.Ref.ID, err)
		}
		in.PortInfos = append(in.PortInfos, lightsailtypes.PortInfo{
			Protocol: lightsailtypes.NetworkProtocol(n.Protocol), FromPort: n.FromPort, ToPort: n.ToPort,
			Cidrs: n.Cidrs, Ipv6Cidrs: n.IPv6Cidrs, CidrListAliases: n.CidrListAliases,
		})
	}
	put := lightsail.NewFromConfig(w.region().config).PutInstancePublicPorts
	if _, err := put(ctx, in, func(o *lightsail.Options) { o.Retryer = retry.NewStandard(once) }); err != nil {
		return e, failure("lightsail:PutInstancePublicPorts", err)
	}
	whole := &cloud.List{Rules: e.New}
	after, ok, err := w.poll(ctx, triesAfter, read, func(l *cloud.List) bool { return l.Digest() == whole.Digest() })
	switch {
	case err != nil:
		return e, err
	case !ok:
		return e, errors.New("the ports are put, and do not show")
	}
	e.Old, e.New = before.Rules, after.Rules
	return e, nil
}
