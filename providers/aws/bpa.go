package aws

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// assumesBlockOff is what an exposure assumes where the state of VPC Block Public Access could not be read. It is off by
// default, and the only restriction that is assumed away.
const assumesBlockOff = "vpc-block-public-access-off"

// blockPublicAccess is the account's VPC Block Public Access in the region.
type blockPublicAccess struct {
	read bool
	mode string // off, block-bidirectional, block-ingress
	// reopened holds the ids of VPCs and subnets with an exclusion that lets inbound traffic in.
	reopened map[string]bool
	// partly says that exclusions could not all be read.
	partly bool
}

func (b blockPublicAccess) closed() bool {
	return b.mode == string(types.InternetGatewayBlockModeBlockBidirectional) || b.mode == string(types.InternetGatewayBlockModeBlockIngress)
}

// readBlockPublicAccess reads the mode, and the exclusions if the mode makes them matter.
func (r *region) readBlockPublicAccess(ctx context.Context) {
	const options, exclusions = "ec2:DescribeVpcBlockPublicAccessOptions", "ec2:DescribeVpcBlockPublicAccessExclusions"
	r.count(options)
	out, err := r.ec2.DescribeVpcBlockPublicAccessOptions(ctx, &ec2.DescribeVpcBlockPublicAccessOptionsInput{})
	if err != nil {
		r.failed(options, err)
		return
	}
	r.block = blockPublicAccess{read: true, reopened: map[string]bool{}}
	if o := out.VpcBlockPublicAccessOptions; o != nil {
		r.block.mode = string(o.InternetGatewayBlockMode)
	}
	if !r.block.closed() {
		return
	}
	in := &ec2.DescribeVpcBlockPublicAccessExclusionsInput{MaxResults: aws.Int32(pageOfAnything)}
	r.block.partly = !all(ctx, r, exclusions, r.ec2.DescribeVpcBlockPublicAccessExclusions, in, paging[ec2.DescribeVpcBlockPublicAccessExclusionsInput, ec2.DescribeVpcBlockPublicAccessExclusionsOutput]{
		set:  func(in *ec2.DescribeVpcBlockPublicAccessExclusionsInput, token *string) { in.NextToken = token },
		next: func(out *ec2.DescribeVpcBlockPublicAccessExclusionsOutput) *string { return out.NextToken },
	}, func(out *ec2.DescribeVpcBlockPublicAccessExclusionsOutput) {
		for _, x := range out.VpcBlockPublicAccessExclusions {
			// Deleted exclusions are still described for a while.
			if x.State != types.VpcBlockPublicAccessExclusionStateCreateComplete && x.State != types.VpcBlockPublicAccessExclusionStateUpdateComplete {
				continue
			}
			if x.InternetGatewayExclusionMode != types.InternetGatewayExclusionModeAllowBidirectional {
				continue // allow-egress keeps inbound traffic out
			}
			if a, err := arn.Parse(aws.ToString(x.ResourceArn)); err == nil {
				_, id, _ := strings.Cut(a.Resource, "/")
				r.block.reopened[id] = true
			}
		}
	})
}

// blockLayer returns the layer of VPC Block Public Access in front of a subnet, and what it assumes.
//
// The block concerns VPCs and subnets that the account owns; in a shared VPC the owner's counts, which the subnet shows.
// What the subnet shows and what the options say must agree: whether it shows exclusions is not documented, so that an
// excluded subnet which shows the block is no disagreement.
func (b *builder) blockLayer(id, vpc string) (cloud.Layer, []string) {
	r := b.r
	layer := cloud.Layer{Name: "vpc_bpa", Kind: cloud.Mask}
	s := r.subnets[id]
	shows := s.block
	blocks := func(mode string) bool { return blockPublicAccess{mode: mode}.closed() }
	if s.owner != "" && s.owner != r.scope.Account {
		switch {
		case shows == "":
			layer.Lists = b.open()
			return layer, []string{assumesBlockOff}
		case !blocks(shows):
			layer.Lists = b.open()
		}
		return layer, nil
	}
	if !r.block.read {
		if shows == "" {
			layer.Lists = b.open()
			return layer, []string{assumesBlockOff}
		}
		if !blocks(shows) {
			layer.Lists = b.open()
			return layer, nil
		}
		layer.Lists = b.doubtful(doubtf(cloud.Unread, "vpc_bpa_unreadable", "grant ec2:DescribeVpcBlockPublicAccessOptions and ec2:DescribeVpcBlockPublicAccessExclusions"))
		return layer, nil
	}
	reopened := r.block.reopened[id] || r.block.reopened[vpc]
	switch closed := r.block.closed(); {
	case !closed && blocks(shows), closed && !reopened && shows != "" && !blocks(shows):
		layer.Lists = b.doubtful(doubtf(cloud.Unread, "vpc_bpa", "the subnet shows VPC Block Public Access otherwise than the account does: look at both in the console"))
	case !closed || reopened:
		layer.Lists = b.open()
	case r.block.partly:
		layer.Lists = b.doubtful(doubtf(cloud.Unread, "vpc_bpa_unreadable", "grant ec2:DescribeVpcBlockPublicAccessExclusions"))
	}
	return layer, nil
}
