package aws

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"go4.org/netipx"
	"golang.org/x/sync/errgroup"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/traffic"
)

// prefixList is a managed prefix list whose entries were read.
type prefixList struct {
	name      string
	version   int64
	six       bool // of IPv6 addresses
	most      int  // as many rules as it counts for in a group
	addresses *netipx.IPSet
}

// unreadList is the doubt about a list whose entries could not be read. Nothing supports any coverage.
func unreadList(id string) doubt {
	return doubtf(cloud.Unsized, "prefix_list_unreadable",
		"the entries of "+id+" could not be read: grant ec2:GetManagedPrefixListEntries, or ask the owner to share the list")
}

// readPrefixLists reads the lists that inbound rules and routes name, and no others.
func (r *region) readPrefixLists(ctx context.Context) {
	wanted := map[string]bool{}
	for _, g := range r.groups {
		for i := range g.rules {
			if id := g.rules[i].list; id != "" {
				wanted[id] = true
			}
		}
	}
	for _, t := range r.tables {
		for _, route := range t.routes {
			if route.list != "" && !route.endpoint() {
				wanted[route.list] = true
			}
		}
	}
	if len(wanted) == 0 {
		return
	}
	var (
		mu    sync.Mutex
		lists = map[string]prefixList{}
		names = map[string]prefixList{}
		g     errgroup.Group
	)
	g.SetLimit(16)
	for chunk := range slices.Chunk(sorted(wanted), pageOfLists) {
		g.Go(func() error {
			in := &ec2.DescribeManagedPrefixListsInput{
				MaxResults: aws.Int32(pageOfLists),
				Filters:    []types.Filter{{Name: aws.String("prefix-list-id"), Values: chunk}},
			}
			all(ctx, r, "ec2:DescribeManagedPrefixLists", r.ec2.DescribeManagedPrefixLists, in, paging[ec2.DescribeManagedPrefixListsInput, ec2.DescribeManagedPrefixListsOutput]{
				set:  func(in *ec2.DescribeManagedPrefixListsInput, token *string) { in.NextToken = token },
				next: func(out *ec2.DescribeManagedPrefixListsOutput) *string { return out.NextToken },
			}, func(out *ec2.DescribeManagedPrefixListsOutput) {
				mu.Lock()
				defer mu.Unlock()
				for _, l := range out.PrefixLists {
					names[aws.ToString(l.PrefixListId)] = prefixList{
						name: aws.ToString(l.PrefixListName), version: aws.ToInt64(l.Version), six: aws.ToString(l.AddressFamily) == "IPv6", most: int(aws.ToInt32(l.MaxEntries)),
					}
				}
			})
			return nil
		})
	}
	for _, id := range sorted(wanted) {
		g.Go(func() error {
			var entries []netip.Prefix
			in := &ec2.GetManagedPrefixListEntriesInput{MaxResults: aws.Int32(pageOfLists), PrefixListId: aws.String(id)}
			if all(ctx, r, "ec2:GetManagedPrefixListEntries", r.ec2.GetManagedPrefixListEntries, in, paging[ec2.GetManagedPrefixListEntriesInput, ec2.GetManagedPrefixListEntriesOutput]{
				set:  func(in *ec2.GetManagedPrefixListEntriesInput, token *string) { in.NextToken = token },
				next: func(out *ec2.GetManagedPrefixListEntriesOutput) *string { return out.NextToken },
			}, func(out *ec2.GetManagedPrefixListEntriesOutput) {
				for _, e := range out.Entries {
					if p := prefix(e.Cidr); p.IsValid() {
						entries = append(entries, p)
					}
				}
			}) {
				mu.Lock()
				lists[id] = prefixList{addresses: traffic.IPs(entries...), most: len(entries)}
				mu.Unlock()
			}
			return nil
		})
	}
	_ = g.Wait() // no function above returns an error
	for id, l := range lists {
		l.name, l.version, l.six, l.most = names[id].name, names[id].version, names[id].six, max(names[id].most, l.most)
		r.lists[id] = l
	}
}
