package ec2

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"sort"
	"strings"
)

// Complete adds to every region what EC2 would say about it although the scene leaves it out: the VPCs, subnets, groups
// and instances that others name, the main route table, the default network ACL and its associations, the implied last
// entries of ACLs, owners, states and association ids. What the scene says is never changed.
func (w *World) Complete() {
	if w.Partition == "" {
		w.Partition = "aws"
	}
	for _, a := range w.Accounts {
		if a.Status == "" {
			a.Status = "ACTIVE"
		}
		if a.Name == "" {
			a.Name = "account " + a.ID
		}
		for _, r := range a.Regions {
			r.complete(w, a)
		}
	}
}

// digest is a stable stand-in for the random part of an id or ARN: 16 hexadecimal digits.
func digest(parts ...string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(strings.Join(parts, "\x00")))
	return fmt.Sprintf("%016x", h.Sum64())
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func orElse(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

func (r *Region) complete(w *World, a *Account) {
	orElse(&r.Name, "us-east-1")
	orElse(&r.OptInStatus, "opt-in-not-required")
	r.completeInterfaces(a)
	r.completeNetworks(a)
	r.completeGroups(a)
	r.completeRouteTables(a)
	r.completeACLs(a)
	for i := range r.InternetGateways {
		orElse(&r.InternetGateways[i].OwnerID, a.ID)
	}
	b := &r.BlockPublicAccess
	orElse(&b.InternetGatewayBlockMode, "off")
	orElse(&b.State, map[bool]string{true: "default-state", false: "update-complete"}[b.InternetGatewayBlockMode == "off"])
	orElse(&b.ManagedBy, "account")
	orElse(&b.ExclusionsAllowed, "allowed")
	for i := range b.Exclusions {
		orElse(&b.Exclusions[i].ExclusionID, "vpcbpa-exclude-"+digest(b.Exclusions[i].ResourceArn))
	}
	for i := range r.PrefixLists {
		l := &r.PrefixLists[i]
		orElse(&l.PrefixListName, l.PrefixListID)
		orElse(&l.AddressFamily, "IPv4")
		orElse(&l.OwnerID, a.ID)
		orElse(&l.State, "create-complete")
		l.MaxEntries, l.Version = max(l.MaxEntries, len(l.Entries), 1), max(l.Version, 1)
	}
	for i := range r.LightsailInstances {
		l := &r.LightsailInstances[i]
		orElse(&l.Arn, w.arn("lightsail", r.Name, a.ID, "Instance/"+digest(a.ID, r.Name, l.Name)))
		orElse(&l.IPAddressType, "dualstack")
		if l.State.Name == "" {
			l.State = LightsailState{16, "running"}
		}
		for j := range l.Networking.Ports {
			orElse(&l.Networking.Ports[j].AccessDirection, "inbound")
		}
	}
}

func (r *Region) completeInterfaces(a *Account) {
	known := map[string]bool{}
	for i := range r.Instances {
		known[r.Instances[i].InstanceID] = true
		orElse(&r.Instances[i].State, "running")
	}
	for i := range r.NetworkInterfaces {
		n := &r.NetworkInterfaces[i]
		orElse(&n.OwnerID, a.ID)
		orElse(&n.Status, "in-use")
		orElse(&n.InterfaceType, "interface")
		orElse(&n.AvailabilityZone, r.Name+"a")
		for _, p := range n.PrivateIPAddresses {
			if p.Primary {
				orElse(&n.PrivateIPAddress, p.PrivateIPAddress)
				if n.Association == nil {
					n.Association = p.Association
				}
			}
		}
		if n.Attachment == nil {
			continue
		}
		orElse(&n.Attachment.AttachmentID, "eni-attach-"+digest(n.NetworkInterfaceID))
		if id := n.Attachment.InstanceID; id != "" {
			orElse(&n.Attachment.InstanceOwnerID, a.ID)
			if !known[id] && n.Attachment.InstanceOwnerID == a.ID {
				known[id] = true
				r.Instances = append(r.Instances, Instance{InstanceID: id, State: "running", VpcID: n.VpcID, SubnetID: n.SubnetID})
			}
		}
	}
}

// completeNetworks adds the VPCs and subnets that are named but not described.
func (r *Region) completeNetworks(a *Account) {
	vpcs := map[string]bool{}
	for i := range r.Vpcs {
		vpcs[r.Vpcs[i].VpcID] = true
	}
	addVpc := func(id string) {
		if id != "" && !vpcs[id] {
			vpcs[id] = true
			r.Vpcs = append(r.Vpcs, Vpc{VpcID: id, CidrBlock: "10.0.0.0/16"})
		}
	}
	subnets := map[string]bool{}
	for i := range r.Subnets {
		subnets[r.Subnets[i].SubnetID] = true
	}
	addSubnet := func(id, vpc, address string) {
		if id == "" || subnets[id] {
			return
		}
		subnets[id] = true
		s := Subnet{SubnetID: id, VpcID: vpc, CidrBlock: "10.0.255.0/24"}
		if ip, err := netip.ParseAddr(address); err == nil && ip.Is4() {
			s.CidrBlock = netip.PrefixFrom(ip, 24).Masked().String()
		}
		r.Subnets = append(r.Subnets, s)
	}
	for _, n := range r.NetworkInterfaces {
		addVpc(n.VpcID)
		addSubnet(n.SubnetID, n.VpcID, n.PrivateIPAddress)
	}
	for _, t := range r.RouteTables {
		addVpc(t.VpcID)
		for _, s := range t.Associations {
			addSubnet(s.SubnetID, t.VpcID, "")
		}
	}
	for _, l := range r.NetworkACLs {
		addVpc(l.VpcID)
		for _, s := range l.Associations {
			addSubnet(s.SubnetID, l.VpcID, "")
		}
	}
	for i := range r.Vpcs {
		orElse(&r.Vpcs[i].OwnerID, a.ID)
		orElse(&r.Vpcs[i].State, "available")
	}
	for i := range r.Subnets {
		s := &r.Subnets[i]
		orElse(&s.OwnerID, a.ID)
		orElse(&s.State, "available")
		orElse(&s.AvailabilityZone, r.Name+"a")
	}
}

// completeGroups adds the groups that rules, interfaces or balancers name, and the fields that EC2 fills in.
func (r *Region) completeGroups(a *Account) {
	known := map[string]int{}
	for i, g := range r.SecurityGroups {
		known[g.GroupID] = i
	}
	add := func(id, vpc string) {
		i, ok := known[id]
		if !ok {
			i = len(r.SecurityGroups)
			known[id] = i
			r.SecurityGroups = append(r.SecurityGroups, SecurityGroup{GroupID: id})
		}
		orElse(&r.SecurityGroups[i].VpcID, vpc)
	}
	for _, n := range r.NetworkInterfaces {
		for _, g := range n.Groups {
			add(g.GroupID, n.VpcID)
		}
	}
	for i := range r.SecurityGroupRules {
		rule := &r.SecurityGroupRules[i]
		orElse(&rule.GroupOwnerID, a.ID)
		if rule.IPProtocol == "-1" && rule.FromPort == nil {
			rule.FromPort, rule.ToPort = all(), all()
		}
		add(rule.GroupID, "")
		if g := rule.ReferencedGroupInfo; g != nil {
			orElse(&g.UserID, a.ID)
			if g.UserID == a.ID && g.VpcPeeringConnectionID == "" {
				add(g.GroupID, "")
			}
		}
	}
	for i := range r.SecurityGroups {
		g := &r.SecurityGroups[i]
		orElse(&g.OwnerID, a.ID)
		orElse(&g.GroupName, g.GroupID)
		orElse(&g.Description, g.GroupName)
		if len(r.Vpcs) > 0 {
			orElse(&g.VpcID, r.Vpcs[0].VpcID)
		}
	}
	for i := range r.NetworkInterfaces {
		for j := range r.NetworkInterfaces[i].Groups {
			g := &r.NetworkInterfaces[i].Groups[j]
			orElse(&g.GroupName, r.SecurityGroups[known[g.GroupID]].GroupName)
		}
	}
	for i := range r.VpcAssociations {
		orElse(&r.VpcAssociations[i].State, "associated")
		orElse(&r.VpcAssociations[i].GroupOwnerID, a.ID)
		orElse(&r.VpcAssociations[i].VpcOwnerID, a.ID)
	}
}

func all() *int {
	n := -1
	return &n
}

// completeRouteTables gives every VPC a main route table.
func (r *Region) completeRouteTables(a *Account) {
	for _, v := range r.Vpcs {
		main := false
		for _, t := range r.RouteTables {
			for _, s := range t.Associations {
				main = main || t.VpcID == v.VpcID && s.Main
			}
		}
		if main {
			continue
		}
		t := RouteTable{
			RouteTableID: "rtb-main-" + v.VpcID, VpcID: v.VpcID,
			Associations: []RouteTableAssociation{{Main: true}},
			Routes:       []Route{{DestinationCidrBlock: v.CidrBlock, GatewayID: "local", State: "active"}},
		}
		if v.IPv6 != "" {
			t.Routes = append(t.Routes, Route{DestinationIPv6CidrBlock: v.IPv6, GatewayID: "local", State: "active"})
		}
		r.RouteTables = append(r.RouteTables, t)
	}
	for i := range r.RouteTables {
		t := &r.RouteTables[i]
		orElse(&t.OwnerID, a.ID)
		for j := range t.Associations {
			s := &t.Associations[j]
			orElse(&s.RouteTableAssociationID, "rtbassoc-"+digest(t.RouteTableID, s.SubnetID, s.GatewayID))
			orElse(&s.RouteTableID, t.RouteTableID)
			orElse(&s.State, "associated")
		}
		for j := range t.Routes {
			orElse(&t.Routes[j].State, "active")
			orElse(&t.Routes[j].Origin, "CreateRoute")
		}
	}
}

// completeACLs gives every VPC a default network ACL, and every subnet without an ACL the default one of its VPC.
func (r *Region) completeACLs(a *Account) {
	byVpc := map[string]int{}
	taken := map[string]bool{}
	for i, l := range r.NetworkACLs {
		if l.IsDefault {
			byVpc[l.VpcID] = i
		}
		for _, s := range l.Associations {
			taken[s.SubnetID] = true
		}
	}
	for _, v := range r.Vpcs {
		if _, ok := byVpc[v.VpcID]; ok {
			continue
		}
		l := NetworkACL{NetworkACLID: "acl-" + v.VpcID, VpcID: v.VpcID, IsDefault: true}
		for _, egress := range []bool{false, true} {
			l.Entries = append(l.Entries, NetworkACLEntry{RuleNumber: 100, Egress: egress, RuleAction: "allow", Protocol: "-1", CidrBlock: "0.0.0.0/0"})
			if v.IPv6 != "" {
				l.Entries = append(l.Entries, NetworkACLEntry{RuleNumber: 101, Egress: egress, RuleAction: "allow", Protocol: "-1", IPv6CidrBlock: "::/0"})
			}
		}
		byVpc[v.VpcID] = len(r.NetworkACLs)
		r.NetworkACLs = append(r.NetworkACLs, l)
	}
	for _, s := range r.Subnets {
		if i, ok := byVpc[s.VpcID]; ok && !taken[s.SubnetID] {
			r.NetworkACLs[i].Associations = append(r.NetworkACLs[i].Associations, NetworkACLAssociation{SubnetID: s.SubnetID})
		}
	}
	for i := range r.NetworkACLs {
		l := &r.NetworkACLs[i]
		orElse(&l.OwnerID, a.ID)
		for j := range l.Associations {
			s := &l.Associations[j]
			orElse(&s.NetworkACLID, l.NetworkACLID)
			orElse(&s.NetworkACLAssociationID, "aclassoc-"+digest(s.SubnetID))
		}
		l.implied(!r.UndescribedIPv6)
	}
}

// implied adds the last entries, which deny everything: 32767 for IPv4 and 32768 for IPv6, in both directions.
func (l *NetworkACL) implied(v6 bool) {
	has := map[[2]any]bool{}
	for _, e := range l.Entries {
		has[[2]any{e.RuleNumber, e.Egress}] = true
	}
	for _, egress := range []bool{false, true} {
		if !has[[2]any{32767, egress}] {
			l.Entries = append(l.Entries, NetworkACLEntry{RuleNumber: 32767, Egress: egress, RuleAction: "deny", Protocol: "-1", CidrBlock: "0.0.0.0/0"})
		}
		if v6 && !has[[2]any{32768, egress}] {
			l.Entries = append(l.Entries, NetworkACLEntry{RuleNumber: 32768, Egress: egress, RuleAction: "deny", Protocol: "-1", IPv6CidrBlock: "::/0"})
		}
	}
}
