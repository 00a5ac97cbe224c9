package ec2

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// defaultRulesPerGroup is how many inbound rules of one address family a group may have unless the account asked for more
// (https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html).
const defaultRulesPerGroup = 60

// writing are the actions that change the world.
var writing = map[string]bool{
	"AuthorizeSecurityGroupIngress": true,
	"ModifySecurityGroupRules":      true,
	"RevokeSecurityGroupIngress":    true,
	"PutInstancePublicPorts":        true,
}

// settling is what reads are shown of the rules of a region while its last change has not reached them.
type settling struct {
	region *Region
	rules  []SecurityGroupRule
	left   atomic.Int64 // readings until the change shows
}

// change carries out set on the rules of the caller's region; for World.Settle readings they are still shown as before.
func (c *call) change(set func()) {
	before := slices.Clone(c.here.SecurityGroupRules)
	set()
	c.world.settling.region, c.world.settling.rules = c.here, before
	c.world.settling.left.Store(int64(c.world.Settle))
}

// rules returns the rules of the caller's region as a reading is shown them.
func (c *call) rules() []SecurityGroupRule {
	if s := &c.world.settling; s.region == c.here && s.left.Load() > 0 {
		return s.rules
	}
	return c.here.SecurityGroupRules
}

// looked counts a reading of rules.
func (c *call) looked() {
	if s := &c.world.settling; s.region == c.here && s.left.Load() > 0 {
		s.left.Add(-1)
	}
}

// dry is the answer to a request with DryRun that would have been carried out.
func (c *call) dry() error {
	if c.form.Get("DryRun") != "true" {
		return nil
	}
	return &apiError{"DryRunOperation", "Request would have succeeded, but DryRun flag is set.", http.StatusPreconditionFailed}
}

// group returns the id of the group that a write is about.
func (c *call) group() (string, error) {
	id := c.form.Get("GroupId")
	if id == "" {
		return "", &apiError{"MissingParameter", "The request must contain the parameter groupName or groupId", http.StatusBadRequest}
	}
	if !slices.ContainsFunc(c.here.SecurityGroups, func(g SecurityGroup) bool { return g.GroupID == id }) {
		return "", &apiError{"InvalidGroup.NotFound", fmt.Sprintf("The security group '%s' does not exist", id), http.StatusBadRequest}
	}
	return id, nil
}

// done is the answer to a write: the rules it made, if it made any.
func (c *call) done(made []SecurityGroupRule) ([]byte, error) {
	return c.ec2(func(e *xml.Encoder) error {
		if err := e.EncodeElement(true, xml.StartElement{Name: xml.Name{Local: "return"}}); err != nil || made == nil {
			return err
		}
		return set(e, "securityGroupRuleSet", "item", made)
	})
}

// tags reads the TagSpecification parameters for a kind of resource.
func (c *call) tags(kind string) ([]Tag, error) {
	var out []Tag
	for i := 1; ; i++ {
		prefix := fmt.Sprintf("TagSpecification.%d.", i)
		of := c.form.Get(prefix + "ResourceType")
		if of == "" {
			return out, nil
		}
		if of != kind {
			return nil, invalid("'%s' is not a valid taggable resource type for this operation.", of)
		}
		for j := 1; c.form.Has(fmt.Sprintf("%sTag.%d.Key", prefix, j)); j++ {
			t := Tag{c.form.Get(fmt.Sprintf("%sTag.%d.Key", prefix, j)), c.form.Get(fmt.Sprintf("%sTag.%d.Value", prefix, j))}
			if strings.HasPrefix(t.Key, "aws:") {
				return nil, invalid("Tag keys starting with 'aws:' are reserved for internal use")
			}
			out = append(out, t)
		}
	}
}

// cidr returns s as EC2 keeps it, without host bits.
func cidr(s string, v6 bool) (string, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is6() != v6 {
		return "", invalid("CIDR block %s is malformed", s)
	}
	return p.Masked().String(), nil
}

// ports reads protocol and ports below prefix into v.
func (c *call) ports(prefix string, v *SecurityGroupRule) error {
	v.IPProtocol = protocolName(strings.ToLower(c.form.Get(prefix + "IpProtocol")))
	read := func(name string) (*int, error) {
		s := c.form.Get(prefix + name)
		if s == "" {
			return nil, nil
		}
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, invalid("Invalid value '%s' for portRange.", s)
		}
		return &n, nil
	}
	from, err := read("FromPort")
	if err != nil {
		return err
	}
	to, err := read("ToPort")
	if err != nil {
		return err
	}
	switch v.IPProtocol {
	case "":
		return invalid("Invalid value 'null' for protocol. VPC security group rules must specify protocols explicitly.")
	case "tcp", "udp":
		if from == nil || to == nil || *from < 0 || *to > 65535 || *from > *to {
			return invalid("Invalid value for portRange. Must specify both from and to ports with TCP/UDP.")
		}
	case "icmp", "icmpv6":
		if from == nil || to == nil {
			return invalid("Invalid value for portRange. Must specify both type and code with ICMP.")
		}
	default:
		all := -1
		from, to = &all, &all
	}
	v.FromPort, v.ToPort = from, to
	return nil
}

// protocolName returns the name by which EC2 describes a protocol.
func protocolName(protocol string) string {
	if name, ok := map[string]string{"6": "tcp", "17": "udp", "1": "icmp", "58": "icmpv6", "all": "-1"}[protocol]; ok {
		return name
	}
	return protocol
}

// key is what no two rules of a group and direction have in common.
func key(v *SecurityGroupRule) string {
	ports := ""
	if v.FromPort != nil && v.ToPort != nil && v.IPProtocol != "-1" {
		ports = fmt.Sprint(*v.FromPort, " ", *v.ToPort)
	}
	group := ""
	if v.ReferencedGroupInfo != nil {
		group = v.ReferencedGroupInfo.GroupID
	}
	return fmt.Sprint(v.GroupID, v.IsEgress, v.IPProtocol, " ", ports, " ", v.CidrIPv4, v.CidrIPv6, v.PrefixListID, group)
}

// described unfolds the IpPermissions parameters into rules of a group.
func (c *call) described(group string, tags []Tag) ([]SecurityGroupRule, error) {
	var out []SecurityGroupRule
	for i := 1; c.form.Has(fmt.Sprintf("IpPermissions.%d.IpProtocol", i)); i++ {
		prefix := fmt.Sprintf("IpPermissions.%d.", i)
		base := SecurityGroupRule{GroupID: group, GroupOwnerID: c.account.ID, Tags: tags}
		if err := c.ports(prefix, &base); err != nil {
			return nil, err
		}
		for name, add := range map[string]func(*SecurityGroupRule, string) (err error){
			"IpRanges.%d.CidrIp":            func(v *SecurityGroupRule, s string) (err error) { v.CidrIPv4, err = cidr(s, false); return err },
			"Ipv6Ranges.%d.CidrIpv6":        func(v *SecurityGroupRule, s string) (err error) { v.CidrIPv6, err = cidr(s, true); return err },
			"PrefixListIds.%d.PrefixListId": func(v *SecurityGroupRule, s string) (err error) { v.PrefixListID = s; return nil },
			"Groups.%d.GroupId": func(v *SecurityGroupRule, s string) (err error) {
				v.ReferencedGroupInfo = &ReferencedGroup{GroupID: s, UserID: c.account.ID}
				return nil
			},
		} {
			for j := 1; c.form.Has(prefix + fmt.Sprintf(name, j)); j++ {
				v := base
				if err := add(&v, c.form.Get(prefix+fmt.Sprintf(name, j))); err != nil {
					return nil, err
				}
				member, _, _ := strings.Cut(name, "%d")
				v.Description = c.form.Get(prefix + fmt.Sprintf("%s%d.Description", member, j))
				out = append(out, v)
			}
		}
	}
	if len(out) == 0 {
		return nil, &apiError{"MissingParameter", "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.", http.StatusBadRequest}
	}
	slices.SortFunc(out, func(a, b SecurityGroupRule) int { return strings.Compare(key(&a), key(&b)) })
	return out, nil
}

// full says whether a group has more inbound rules of one family than it may. A reference to a group counts for both
// families, one to a prefix list as many times as the list may have entries.
func (c *call) full(rules []SecurityGroupRule, group string) error {
	limit := c.world.RulesPerGroup
	if limit == 0 {
		limit = defaultRulesPerGroup
	}
	v4, v6 := 0, 0
	for i := range rules {
		v := &rules[i]
		switch {
		case v.GroupID != group || v.IsEgress:
		case v.CidrIPv4 != "":
			v4++
		case v.CidrIPv6 != "":
			v6++
		case v.PrefixListID != "":
			for _, l := range c.here.PrefixLists {
				switch {
				case l.PrefixListID != v.PrefixListID:
				case l.AddressFamily == "IPv6":
					v6 += l.MaxEntries
				default:
					v4 += l.MaxEntries
				}
			}
		default:
			v4, v6 = v4+1, v6+1
		}
	}
	if max(v4, v6) > limit {
		return &apiError{"RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group has been reached.", http.StatusBadRequest}
	}
	return nil
}

func duplicate(v *SecurityGroupRule) error {
	return &apiError{
		"InvalidPermission.Duplicate",
		fmt.Sprintf("the specified rule \"peer: %s%s, %s\" already exists", v.CidrIPv4, v.CidrIPv6, strings.ToUpper(v.IPProtocol)), http.StatusBadRequest,
	}
}

// authorizeIngress adds rules to a group, all or none.
func authorizeIngress(c *call) ([]byte, error) {
	group, err := c.group()
	if err != nil {
		return nil, err
	}
	tags, err := c.tags("security-group-rule")
	if err != nil {
		return nil, err
	}
	made, err := c.described(group, tags)
	if err != nil {
		return nil, err
	}
	if err := c.dry(); err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for i := range c.here.SecurityGroupRules {
		have[key(&c.here.SecurityGroupRules[i])] = true
	}
	for i := range made {
		if have[key(&made[i])] {
			return nil, duplicate(&made[i])
		}
		have[key(&made[i])] = true
		c.world.made++
		made[i].SecurityGroupRuleID = fmt.Sprintf("sgr-%017x", c.world.made)
	}
	rules := slices.Concat(c.here.SecurityGroupRules, made)
	if err := c.full(rules, group); err != nil {
		return nil, err
	}
	c.change(func() { c.here.SecurityGroupRules = rules })
	return c.done(made)
}

// rule returns the position of a group's inbound rule.
func (c *call) rule(group, id string) (int, error) {
	i := slices.IndexFunc(c.here.SecurityGroupRules, func(v SecurityGroupRule) bool {
		return v.SecurityGroupRuleID == id && v.GroupID == group && !v.IsEgress
	})
	if i < 0 {
		return -1, &apiError{"InvalidSecurityGroupRuleId.NotFound", fmt.Sprintf("The security group rule ID '%s' does not exist", id), http.StatusBadRequest}
	}
	return i, nil
}

// modifyRules gives rules other protocols, ports, sources of the same kind, and descriptions; a description that is left
// out is taken away. Ids and tags stay.
func modifyRules(c *call) ([]byte, error) {
	group, err := c.group()
	if err != nil {
		return nil, err
	}
	rules := slices.Clone(c.here.SecurityGroupRules)
	for i := 1; c.form.Has(fmt.Sprintf("SecurityGroupRule.%d.SecurityGroupRuleId", i)); i++ {
		prefix := fmt.Sprintf("SecurityGroupRule.%d.", i)
		at, err := c.rule(group, c.form.Get(prefix+"SecurityGroupRuleId"))
		if err != nil {
			return nil, err
		}
		v := &rules[at]
		prefix += "SecurityGroupRule."
		if err := c.ports(prefix, v); err != nil {
			return nil, err
		}
		for name, have := range map[string]*string{"CidrIpv4": &v.CidrIPv4, "CidrIpv6": &v.CidrIPv6, "PrefixListId": &v.PrefixListID} {
			if got := c.form.Get(prefix + name); (got == "") != (*have == "") {
				return nil, invalid("Invalid rule type for security group rule '%s'.", v.SecurityGroupRuleID)
			}
		}
		if v.CidrIPv4 != "" {
			if v.CidrIPv4, err = cidr(c.form.Get(prefix+"CidrIpv4"), false); err != nil {
				return nil, err
			}
		}
		if v.CidrIPv6 != "" && !c.world.KeepsIPv6 {
			if v.CidrIPv6, err = cidr(c.form.Get(prefix+"CidrIpv6"), true); err != nil {
				return nil, err
			}
		}
		v.Description = c.form.Get(prefix + "Description")
		for j := range rules {
			if j != at && key(&rules[j]) == key(v) {
				return nil, duplicate(v)
			}
		}
	}
	if err := c.dry(); err != nil {
		return nil, err
	}
	c.change(func() { c.here.SecurityGroupRules = rules })
	return c.done(nil)
}

// revokeIngress takes rules away by their ids, all or none.
func revokeIngress(c *call) ([]byte, error) {
	group, err := c.group()
	if err != nil {
		return nil, err
	}
	gone := map[string]bool{}
	for _, id := range c.parameter("SecurityGroupRuleId") {
		if _, err := c.rule(group, id); err != nil {
			return nil, err
		}
		gone[id] = true
	}
	if len(gone) == 0 {
		return nil, &apiError{"MissingParameter", "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.", http.StatusBadRequest}
	}
	if err := c.dry(); err != nil {
		return nil, err
	}
	c.change(func() {
		c.here.SecurityGroupRules = slices.DeleteFunc(slices.Clone(c.here.SecurityGroupRules), func(v SecurityGroupRule) bool { return gone[v.SecurityGroupRuleID] })
	})
	return c.done(nil)
}

// putPublicPorts puts the inbound rules of a Lightsail instance's firewall in the place of those it has.
func putPublicPorts(c *call) ([]byte, error) {
	var in struct {
		InstanceName string          `json:"instanceName"`
		PortInfos    []LightsailPort `json:"portInfos"`
	}
	if err := json.Unmarshal(c.body, &in); err != nil || in.PortInfos == nil {
		return nil, &apiError{"InvalidInputException", "portInfos and instanceName are required", http.StatusBadRequest}
	}
	for i := range c.here.LightsailInstances {
		n := &c.here.LightsailInstances[i]
		if n.Name != in.InstanceName {
			continue
		}
		ports := slices.DeleteFunc(slices.Clone(n.Networking.Ports), func(p LightsailPort) bool { return p.AccessDirection != "outbound" })
		for _, p := range in.PortInfos {
			p.AccessDirection = "inbound"
			ports = append(ports, p)
		}
		n.Networking.Ports = ports
		return json.Marshal(map[string]any{"operation": map[string]any{"id": "op", "status": "Succeeded", "resourceName": n.Name}})
	}
	return nil, &apiError{"NotFoundException", "The Instance does not exist: " + in.InstanceName, http.StatusBadRequest}
}
