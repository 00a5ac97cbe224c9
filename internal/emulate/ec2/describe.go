package ec2

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// table says how one describe operation of EC2 lists its items: the name of its set, the bounds of MaxResults, the
// parameter for ids, and the filters.
type table[T any] struct {
	set      string
	min, max int
	ids      string
	id       func(T) string
	notFound string
	filters  map[string]func(T) []string
}

// list answers with one page of items.
func list[T any](c *call, t table[T], items []T) ([]byte, error) {
	max := 0
	if s := c.form.Get("MaxResults"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < t.min || n > t.max {
			return nil, invalid("Value ( %s ) for parameter maxResults is invalid. Expecting a value between %d and %d.", s, t.min, t.max)
		}
		max = n
	}
	if t.ids != "" {
		if ids := c.parameter(t.ids); len(ids) > 0 {
			if max > 0 {
				return nil, &apiError{"InvalidParameterCombination", "The parameter " + t.ids + " cannot be used with the parameter maxResults", http.StatusBadRequest}
			}
			kept := items[:0:0]
			for _, id := range ids {
				i := slices.IndexFunc(items, func(v T) bool { return t.id(v) == id })
				if i < 0 {
					return nil, &apiError{t.notFound, fmt.Sprintf("The ID '%s' does not exist", id), http.StatusBadRequest}
				}
				kept = append(kept, items[i])
			}
			items = kept
		}
	}
	items, err := filter(c, t.filters, items)
	if err != nil {
		return nil, err
	}
	from, to, next, err := c.window(len(items), max, c.form.Get("NextToken"))
	if err != nil {
		return nil, err
	}
	return c.ec2(func(e *xml.Encoder) error {
		if err := set(e, t.set, "item", items[from:to]); err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		return e.EncodeElement(next, xml.StartElement{Name: xml.Name{Local: "nextToken"}})
	})
}

// filter applies the Filter.n parameters. As EC2 does, it takes at most 200 values, and "*" in a value for anything.
func filter[T any](c *call, filters map[string]func(T) []string, items []T) ([]T, error) {
	total := 0
	for i := 1; ; i++ {
		name := c.form.Get(fmt.Sprintf("Filter.%d.Name", i))
		if name == "" {
			return items, nil
		}
		values := c.parameter(fmt.Sprintf("Filter.%d.Value", i))
		if total += len(values); total > 200 {
			return nil, &apiError{"FilterLimitExceeded", "The maximum number of filter values specified on a single call is 200", http.StatusBadRequest}
		}
		get := filters[name]
		if get == nil {
			return nil, invalid("The filter '%s' is invalid", name)
		}
		kept := items[:0:0]
		for _, v := range items {
			if slices.ContainsFunc(get(v), func(s string) bool { return slices.Contains(values, s) || slices.Contains(values, "*") }) {
				kept = append(kept, v)
			}
		}
		items = kept
	}
}

// set writes <name><member>…</member>…</name>.
func set[T any](e *xml.Encoder, name, member string, items []T) error {
	start := xml.StartElement{Name: xml.Name{Local: name}}
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	for _, v := range items {
		if err := e.EncodeElement(v, xml.StartElement{Name: xml.Name{Local: member}}); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}

// ec2 wraps what write writes into an answer of EC2.
func (c *call) ec2(write func(*xml.Encoder) error) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	e := xml.NewEncoder(&b)
	start := xml.StartElement{
		Name: xml.Name{Local: c.action + "Response"},
		Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: c.service.namespace}},
	}
	if err := e.EncodeToken(start); err != nil {
		return nil, err
	}
	if err := write(e); err != nil {
		return nil, err
	}
	if err := e.EncodeToken(start.End()); err != nil {
		return nil, err
	}
	if err := e.Flush(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func one(s string) []string { return []string{s} }

func describeRegions(c *call) ([]byte, error) {
	type region struct {
		RegionName     string `xml:"regionName"`
		RegionEndpoint string `xml:"regionEndpoint"`
		OptInStatus    string `xml:"optInStatus"`
	}
	var items []region
	for _, r := range c.account.Regions {
		if r.OptInStatus == "not-opted-in" && c.form.Get("AllRegions") != "true" {
			continue
		}
		items = append(items, region{r.Name, "ec2." + r.Name + ".amazonaws.com", r.OptInStatus})
	}
	return list(c, table[region]{set: "regionInfo", filters: map[string]func(region) []string{
		"opt-in-status": func(r region) []string { return one(r.OptInStatus) },
		"region-name":   func(r region) []string { return one(r.RegionName) },
	}}, items)
}

func describeNetworkInterfaces(c *call) ([]byte, error) {
	items := c.here.NetworkInterfaces
	if c.account.HideManaged && c.form.Get("IncludeManagedResources") != "true" {
		items = slices.DeleteFunc(slices.Clone(items), func(n NetworkInterface) bool { return n.Operator != nil && n.Operator.Managed })
	}
	return list(c, table[NetworkInterface]{
		set: "networkInterfaceSet", min: 5, max: 1000,
		ids: "NetworkInterfaceId", notFound: "InvalidNetworkInterfaceID.NotFound",
		id: func(n NetworkInterface) string { return n.NetworkInterfaceID },
		filters: map[string]func(NetworkInterface) []string{
			"vpc-id":               func(n NetworkInterface) []string { return one(n.VpcID) },
			"subnet-id":            func(n NetworkInterface) []string { return one(n.SubnetID) },
			"network-interface-id": func(n NetworkInterface) []string { return one(n.NetworkInterfaceID) },
			"group-id": func(n NetworkInterface) (ids []string) {
				for _, g := range n.Groups {
					ids = append(ids, g.GroupID)
				}
				return ids
			},
		},
	}, items)
}

// ipPermission is how DescribeSecurityGroups folds the rules of a group: one for each protocol and port range.
type ipPermission struct {
	IPProtocol string `xml:"ipProtocol"`
	FromPort   *int   `xml:"fromPort"`
	ToPort     *int   `xml:"toPort"`
	Groups     []pair `xml:"groups>item"`
	IPRanges   []v4   `xml:"ipRanges>item"`
	IPv6Ranges []v6   `xml:"ipv6Ranges>item"`
	PrefixList []pl   `xml:"prefixListIds>item"`
}

type pair struct {
	GroupID                string `xml:"groupId"`
	UserID                 string `xml:"userId,omitempty"`
	VpcID                  string `xml:"vpcId,omitempty"`
	VpcPeeringConnectionID string `xml:"vpcPeeringConnectionId,omitempty"`
	Description            string `xml:"description,omitempty"`
}

type v4 struct {
	CidrIP      string `xml:"cidrIp"`
	Description string `xml:"description,omitempty"`
}

type v6 struct {
	CidrIPv6    string `xml:"cidrIpv6"`
	Description string `xml:"description,omitempty"`
}

type pl struct {
	PrefixListID string `xml:"prefixListId"`
	Description  string `xml:"description,omitempty"`
}

// fold joins the rules of one group and direction into permissions, in the order of their first rule.
func fold(rules []SecurityGroupRule, group string, egress bool) []ipPermission {
	var out []ipPermission
	at := map[string]int{}
	port := func(p *int) string {
		if p == nil {
			return "-"
		}
		return strconv.Itoa(*p)
	}
	for _, r := range rules {
		if r.GroupID != group || r.IsEgress != egress {
			continue
		}
		key := r.IPProtocol + "/" + port(r.FromPort) + "/" + port(r.ToPort)
		i, ok := at[key]
		if !ok {
			i = len(out)
			at[key] = i
			p := ipPermission{IPProtocol: r.IPProtocol, FromPort: r.FromPort, ToPort: r.ToPort}
			if r.IPProtocol == "-1" {
				p.FromPort, p.ToPort = nil, nil
			}
			out = append(out, p)
		}
		switch p := &out[i]; {
		case r.CidrIPv4 != "":
			p.IPRanges = append(p.IPRanges, v4{r.CidrIPv4, r.Description})
		case r.CidrIPv6 != "":
			p.IPv6Ranges = append(p.IPv6Ranges, v6{r.CidrIPv6, r.Description})
		case r.PrefixListID != "":
			p.PrefixList = append(p.PrefixList, pl{r.PrefixListID, r.Description})
		case r.ReferencedGroupInfo != nil:
			g := r.ReferencedGroupInfo
			p.Groups = append(p.Groups, pair{g.GroupID, g.UserID, g.VpcID, g.VpcPeeringConnectionID, r.Description})
		}
	}
	return out
}

func describeSecurityGroups(c *call) ([]byte, error) {
	type group struct {
		SecurityGroup
		IPPermissions       []ipPermission `xml:"ipPermissions>item"`
		IPPermissionsEgress []ipPermission `xml:"ipPermissionsEgress>item"`
	}
	byGroup := map[string][]SecurityGroupRule{}
	for _, r := range c.rules() {
		byGroup[r.GroupID] = append(byGroup[r.GroupID], r)
	}
	items := make([]group, 0, len(c.here.SecurityGroups))
	for _, g := range c.here.SecurityGroups {
		rules := byGroup[g.GroupID]
		items = append(items, group{g, fold(rules, g.GroupID, false), fold(rules, g.GroupID, true)})
	}
	return list(c, table[group]{
		set: "securityGroupInfo", min: 5, max: 1000,
		ids: "GroupId", notFound: "InvalidGroup.NotFound",
		id: func(g group) string { return g.GroupID },
		filters: map[string]func(group) []string{
			"group-id":   func(g group) []string { return one(g.GroupID) },
			"group-name": func(g group) []string { return one(g.GroupName) },
			"vpc-id":     func(g group) []string { return one(g.VpcID) },
		},
	}, items)
}

func describeSecurityGroupRules(c *call) ([]byte, error) {
	defer c.looked()
	return list(c, table[SecurityGroupRule]{
		set: "securityGroupRuleSet", min: 5, max: 1000,
		ids: "SecurityGroupRuleId", notFound: "InvalidSecurityGroupRuleId.NotFound",
		id: func(r SecurityGroupRule) string { return r.SecurityGroupRuleID },
		filters: map[string]func(SecurityGroupRule) []string{
			"group-id":               func(r SecurityGroupRule) []string { return one(r.GroupID) },
			"security-group-rule-id": func(r SecurityGroupRule) []string { return one(r.SecurityGroupRuleID) },
		},
	}, c.rules())
}

func describeSecurityGroupVpcAssociations(c *call) ([]byte, error) {
	return list(c, table[SecurityGroupVpcAssociation]{
		set: "securityGroupVpcAssociationSet", min: 5, max: 1000,
		filters: map[string]func(SecurityGroupVpcAssociation) []string{
			"group-id": func(a SecurityGroupVpcAssociation) []string { return one(a.GroupID) },
			"vpc-id":   func(a SecurityGroupVpcAssociation) []string { return one(a.VpcID) },
			"state":    func(a SecurityGroupVpcAssociation) []string { return one(a.State) },
		},
	}, c.here.VpcAssociations)
}

func describeSubnets(c *call) ([]byte, error) {
	return list(c, table[Subnet]{
		set: "subnetSet", min: 5, max: 1000, ids: "SubnetId", notFound: "InvalidSubnetID.NotFound",
		id: func(s Subnet) string { return s.SubnetID },
		filters: map[string]func(Subnet) []string{
			"subnet-id": func(s Subnet) []string { return one(s.SubnetID) },
			"vpc-id":    func(s Subnet) []string { return one(s.VpcID) },
		},
	}, c.here.Subnets)
}

func describeVpcs(c *call) ([]byte, error) {
	type block struct {
		CidrBlock string `xml:"cidrBlock"`
		State     string `xml:"cidrBlockState>state"`
	}
	type block6 struct {
		IPv6CidrBlock string `xml:"ipv6CidrBlock"`
		State         string `xml:"ipv6CidrBlockState>state"`
	}
	type vpc struct {
		Vpc
		Blocks  []block  `xml:"cidrBlockAssociationSet>item"`
		Blocks6 []block6 `xml:"ipv6CidrBlockAssociationSet>item"`
	}
	var items []vpc
	for _, v := range c.here.Vpcs {
		out := vpc{Vpc: v, Blocks: []block{{v.CidrBlock, "associated"}}}
		if v.IPv6 != "" {
			out.Blocks6 = []block6{{v.IPv6, "associated"}}
		}
		items = append(items, out)
	}
	return list(c, table[vpc]{
		set: "vpcSet", min: 5, max: 1000, ids: "VpcId", notFound: "InvalidVpcID.NotFound",
		id:      func(v vpc) string { return v.VpcID },
		filters: map[string]func(vpc) []string{"vpc-id": func(v vpc) []string { return one(v.VpcID) }},
	}, items)
}

func describeRouteTables(c *call) ([]byte, error) {
	return list(c, table[RouteTable]{
		set: "routeTableSet", min: 5, max: 100, ids: "RouteTableId", notFound: "InvalidRouteTableID.NotFound",
		id:      func(t RouteTable) string { return t.RouteTableID },
		filters: map[string]func(RouteTable) []string{"vpc-id": func(t RouteTable) []string { return one(t.VpcID) }},
	}, c.here.RouteTables)
}

func describeNetworkACLs(c *call) ([]byte, error) {
	return list(c, table[NetworkACL]{
		set: "networkAclSet", min: 5, max: 1000, ids: "NetworkAclId", notFound: "InvalidNetworkAclID.NotFound",
		id:      func(a NetworkACL) string { return a.NetworkACLID },
		filters: map[string]func(NetworkACL) []string{"vpc-id": func(a NetworkACL) []string { return one(a.VpcID) }},
	}, c.here.NetworkACLs)
}

func describeInternetGateways(c *call) ([]byte, error) {
	return list(c, table[InternetGateway]{
		set: "internetGatewaySet", min: 5, max: 1000, ids: "InternetGatewayId", notFound: "InvalidInternetGatewayID.NotFound",
		id: func(g InternetGateway) string { return g.InternetGatewayID },
		filters: map[string]func(InternetGateway) []string{
			"internet-gateway-id": func(g InternetGateway) []string { return one(g.InternetGatewayID) },
			"attachment.vpc-id": func(g InternetGateway) (ids []string) {
				for _, a := range g.Attachments {
					ids = append(ids, a.VpcID)
				}
				return ids
			},
		},
	}, c.here.InternetGateways)
}

func describeBlockPublicAccessOptions(c *call) ([]byte, error) {
	type options struct {
		AwsAccountID string `xml:"awsAccountId"`
		AwsRegion    string `xml:"awsRegion"`
		BlockPublicAccess
	}
	return c.ec2(func(e *xml.Encoder) error {
		return e.EncodeElement(options{c.account.ID, c.here.Name, c.here.BlockPublicAccess},
			xml.StartElement{Name: xml.Name{Local: "vpcBlockPublicAccessOptions"}})
	})
}

func describeBlockPublicAccessExclusions(c *call) ([]byte, error) {
	return list(c, table[Exclusion]{
		set: "vpcBlockPublicAccessExclusionSet", min: 5, max: 1000,
		ids: "ExclusionId", notFound: "InvalidVpcBlockPublicAccessExclusionId.NotFound",
		id: func(x Exclusion) string { return x.ExclusionID },
		filters: map[string]func(Exclusion) []string{
			"resource-arn": func(x Exclusion) []string { return one(x.ResourceArn) },
			"state":        func(x Exclusion) []string { return one(x.State) },
			"internet-gateway-exclusion-mode": func(x Exclusion) []string {
				return one(x.InternetGatewayExclusionMode)
			},
		},
	}, c.here.BlockPublicAccess.Exclusions)
}

func describeManagedPrefixLists(c *call) ([]byte, error) {
	return list(c, table[PrefixList]{
		set: "prefixListSet", min: 1, max: 100, ids: "PrefixListId", notFound: "InvalidPrefixListID.NotFound",
		id: func(l PrefixList) string { return l.PrefixListID },
		filters: map[string]func(PrefixList) []string{
			"prefix-list-id":   func(l PrefixList) []string { return one(l.PrefixListID) },
			"prefix-list-name": func(l PrefixList) []string { return one(l.PrefixListName) },
			"owner-id":         func(l PrefixList) []string { return one(l.OwnerID) },
		},
	}, c.here.PrefixLists)
}

func managedPrefixListEntries(c *call) ([]byte, error) {
	id := c.form.Get("PrefixListId")
	for _, l := range c.here.PrefixLists {
		if l.PrefixListID != id {
			continue
		}
		type entry struct {
			Cidr string `xml:"cidr"`
		}
		var items []entry
		for _, s := range l.Entries {
			items = append(items, entry{s})
		}
		return list(c, table[entry]{set: "entrySet", min: 1, max: 100}, items)
	}
	return nil, &apiError{"InvalidPrefixListID.NotFound", fmt.Sprintf("The prefix list ID '%s' does not exist", id), http.StatusBadRequest}
}

func describeInstances(c *call) ([]byte, error) {
	items := slices.Clone(c.here.Instances)
	sort.SliceStable(items, func(i, j int) bool { return items[i].InstanceID < items[j].InstanceID })
	type reservation struct {
		ReservationID string     `xml:"reservationId"`
		OwnerID       string     `xml:"ownerId"`
		Instances     []Instance `xml:"instancesSet>item"`
	}
	var all []reservation
	for _, i := range items {
		all = append(all, reservation{"r-" + strings.TrimPrefix(i.InstanceID, "i-"), c.account.ID, []Instance{i}})
	}
	return list(c, table[reservation]{
		set: "reservationSet", min: 5, max: 1000, ids: "InstanceId", notFound: "InvalidInstanceID.NotFound",
		id: func(r reservation) string { return r.Instances[0].InstanceID },
		filters: map[string]func(reservation) []string{
			"instance-id":         func(r reservation) []string { return one(r.Instances[0].InstanceID) },
			"instance-state-name": func(r reservation) []string { return one(r.Instances[0].State) },
			"vpc-id":              func(r reservation) []string { return one(r.Instances[0].VpcID) },
		},
	}, all)
}
