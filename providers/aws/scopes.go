package aws

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"golang.org/x/sync/errgroup"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/providers"
)

// identity is who the caller is.
type identity struct {
	account   string
	partition string // aws, aws-us-gov, aws-cn
}

// account is how one account is entered, with what is read once for all its regions.
type account struct {
	id     string
	config aws.Config
	role   bool // entered through the role

	accelerators accelerators
}

// refusal says why nothing but an account's id is known.
type refusal struct {
	action string
	err    error
}

// Scopes lists every account with each of its enabled regions. An account that cannot be entered, or whose regions cannot
// be listed, stands as one scope without a region.
func (p *Provider) Scopes(ctx context.Context) ([]cloud.Scope, error) {
	who, err := p.caller(ctx)
	if err != nil {
		return nil, err
	}
	ids := []string{who.account}
	if p.config.Organization {
		if ids, err = p.members(ctx); err != nil {
			return nil, err
		}
	}
	var (
		mu     sync.Mutex
		scopes []cloud.Scope
		group  errgroup.Group
	)
	group.SetLimit(32)
	for _, id := range ids {
		group.Go(func() error {
			regions, why := p.regions(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			if why.err != nil {
				p.mu.Lock()
				p.refused[id] = why
				p.mu.Unlock()
				regions = []string{""}
			}
			for _, region := range regions {
				scopes = append(scopes, cloud.Scope{Provider: "aws", Account: id, Region: region})
			}
			return nil
		})
	}
	_ = group.Wait() // no function above returns an error
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	slices.SortFunc(scopes, func(a, b cloud.Scope) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(scopes), nil
}

// caller asks STS who the caller is, once.
func (p *Provider) caller(ctx context.Context) (identity, error) {
	c, err := p.configuration(ctx)
	if err != nil {
		return identity{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.identity != nil {
		return *p.identity, nil
	}
	if _, err := c.Credentials.Retrieve(ctx); err != nil {
		if ctx.Err() != nil {
			return identity{}, ctx.Err()
		}
		return identity{}, &providers.Hint{
			Err:  fmt.Errorf("aws: %w: %w", providers.ErrNotConfigured, err),
			Next: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or run `aws sso login`",
		}
	}
	out, err := sts.NewFromConfig(c).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		if ctx.Err() != nil {
			return identity{}, ctx.Err()
		}
		return identity{}, &providers.Hint{
			Err:  fmt.Errorf("aws: sts:GetCallerIdentity: %s", causeOf(err)),
			Next: "check that the credentials are valid, that AWS_REGION belongs to their partition, and that AWS_ENDPOINT_URL, if set, is right",
		}
	}
	who := identity{account: aws.ToString(out.Account), partition: "aws"}
	if a, err := arn.Parse(aws.ToString(out.Arn)); err == nil {
		who.partition = a.Partition
	}
	p.identity = &who
	return who, nil
}

// members lists the active accounts of the caller's organization.
func (p *Provider) members(ctx context.Context) ([]string, error) {
	if p.config.Role == "" {
		return nil, &providers.Hint{
			Err:  errors.New("aws: an organization is read through a role, and none is named"),
			Next: "add --role with the name of a role that exists in every account, such as OrganizationAccountAccessRole",
		}
	}
	c, err := p.configuration(ctx)
	if err != nil {
		return nil, err
	}
	var ids []string
	list := organizations.NewFromConfig(c).ListAccounts
	in := &organizations.ListAccountsInput{MaxResults: aws.Int32(20)}
	for {
		out, err := list(ctx, in)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, &providers.Hint{
				Err:  fmt.Errorf("aws: organizations:ListAccounts: %s", causeOf(err)),
				Next: "use credentials of the management account, or of a delegated administrator, with organizations:ListAccounts",
			}
		}
		for _, a := range out.Accounts {
			active := a.State == "ACTIVE" || a.State == "" && a.Status == "ACTIVE"
			if active {
				ids = append(ids, aws.ToString(a.Id))
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return ids, nil
		}
		in.NextToken = out.NextToken
	}
}

// enter returns how to ask about an account. It does no I/O: whether the role can be assumed shows at the first request.
func (p *Provider) enter(ctx context.Context, id string) (*account, error) {
	who, err := p.caller(ctx)
	if err != nil {
		return nil, err
	}
	c, err := p.configuration(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if a, ok := p.accounts[id]; ok {
		return a, nil
	}
	a := &account{id: id, config: c}
	if id != who.account {
		a.role = true
		role := arn.ARN{Partition: who.partition, Service: "iam", AccountID: id, Resource: "role/" + strings.TrimPrefix(p.config.Role, "/")}
		a.config.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(c), role.String(),
			func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "cloudaudit" }))
	}
	p.accounts[id] = a
	return a, nil
}

// regions lists the regions of an account to read, or says why it cannot.
func (p *Provider) regions(ctx context.Context, id string) ([]string, refusal) {
	a, err := p.enter(ctx, id)
	if err != nil {
		return nil, refusal{"sts:GetCallerIdentity", err}
	}
	if len(p.config.Regions) > 0 {
		return p.config.Regions, refusal{}
	}
	if err := a.open(ctx); err != nil {
		return nil, refusal{"sts:AssumeRole", err}
	}
	out, err := ec2.NewFromConfig(a.config).DescribeRegions(ctx, &ec2.DescribeRegionsInput{})
	if err != nil {
		return nil, refusal{"ec2:DescribeRegions", err}
	}
	var names []string
	for _, r := range out.Regions {
		names = append(names, aws.ToString(r.RegionName))
	}
	if len(names) == 0 {
		return nil, refusal{"ec2:DescribeRegions", errors.New("no region is enabled")}
	}
	return names, refusal{}
}

// open assumes the role of a, if a is entered through one. The credentials are kept while they last.
func (a *account) open(ctx context.Context) error {
	if !a.role {
		return nil
	}
	_, err := a.config.Credentials.Retrieve(ctx)
	return err
}
