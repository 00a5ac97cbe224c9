package ec2

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// The YAML form of a world is trimmed to what matters: shapes as EC2 describes them, but balancers and accelerators with
// their listeners and targets in place, and prefix lists as id and entries. Complete adds what EC2 would say besides.
type (
	worldText struct {
		Partition  string        `yaml:"partition"`
		Management string        `yaml:"management"`
		PageSize   int           `yaml:"page_size"`
		Accounts   []accountText `yaml:"accounts"`
	}
	accountText struct {
		ID          string       `yaml:"id"`
		Name        string       `yaml:"name"`
		Status      string       `yaml:"status"`
		Roles       []string     `yaml:"roles"`
		HideManaged bool         `yaml:"hide_managed"`
		Regions     []regionText `yaml:"regions"`
	}
	regionText struct {
		Region             string                        `yaml:"region"`
		OptInStatus        string                        `yaml:"opt_in_status"`
		Vpcs               []Vpc                         `yaml:"vpcs"`
		Subnets            []Subnet                      `yaml:"subnets"`
		SecurityGroups     []SecurityGroup               `yaml:"security_groups"`
		SecurityGroupRules []SecurityGroupRule           `yaml:"security_group_rules"`
		VpcAssociations    []SecurityGroupVpcAssociation `yaml:"security_group_vpc_associations"`
		NetworkInterfaces  []NetworkInterface            `yaml:"network_interfaces"`
		RouteTables        []RouteTable                  `yaml:"route_tables"`
		NetworkACLs        []NetworkACL                  `yaml:"network_acls"`
		InternetGateways   []InternetGateway             `yaml:"internet_gateways"`
		BlockPublicAccess  BlockPublicAccess             `yaml:"vpc_bpa"`
		PrefixLists        map[string][]string           `yaml:"prefix_lists"`
		Instances          []Instance                    `yaml:"instances"`
		LoadBalancers      []balancerText                `yaml:"load_balancers"`
		Accelerators       []acceleratorText             `yaml:"accelerators"`
		Lightsail          []LightsailInstance           `yaml:"lightsail_instances"`
	}
	balancerText struct {
		Name           string         `yaml:"Name"`
		Type           string         `yaml:"Type"`
		Scheme         string         `yaml:"Scheme"`
		VpcID          string         `yaml:"VpcId"`
		SecurityGroups []string       `yaml:"SecurityGroups"`
		Subnets        []string       `yaml:"Subnets"`
		PrivateIPs     []string       `yaml:"PrivateIps"`
		PublicIPs      []string       `yaml:"PublicIps"`
		Listeners      []listenerText `yaml:"Listeners"`
	}
	listenerText struct {
		Protocol    string    `yaml:"Protocol"`
		Port        int       `yaml:"Port"`
		TargetGroup groupText `yaml:"TargetGroup"`
	}
	groupText struct {
		TargetType       string       `yaml:"TargetType"`
		Protocol         string       `yaml:"Protocol"`
		Port             int          `yaml:"Port"`
		PreserveClientIP *bool        `yaml:"preserve_client_ip"`
		Targets          []targetText `yaml:"Targets"`
	}
	targetText struct {
		ID    string `yaml:"Id"`
		Port  int    `yaml:"Port"`
		State string `yaml:"State"`
	}
	acceleratorText struct {
		Name        string                    `yaml:"Name"`
		Enabled     *bool                     `yaml:"Enabled"`
		IPAddresses []string                  `yaml:"IpAddresses"`
		Listeners   []acceleratorListenerText `yaml:"Listeners"`
	}
	acceleratorListenerText struct {
		Protocol      string                `yaml:"Protocol"`
		FromPort      int                   `yaml:"FromPort"`
		ToPort        int                   `yaml:"ToPort"`
		PortOverrides []PortOverride        `yaml:"PortOverrides"`
		Endpoints     []AcceleratorEndpoint `yaml:"Endpoints"`
	}
)

// Parse reads the YAML form of a world, unfolds and completes it. Unknown keys are an error.
func Parse(text []byte) (*World, error) {
	var in worldText
	if err := strict(text, &in); err != nil {
		return nil, fmt.Errorf("emulated aws: %w", err)
	}
	w := &World{Partition: in.Partition, Management: in.Management, PageSize: in.PageSize}
	for _, a := range in.Accounts {
		account := &Account{ID: a.ID, Name: a.Name, Status: a.Status, Roles: a.Roles, HideManaged: a.HideManaged}
		for i := range a.Regions {
			if err := w.add(account, &a.Regions[i]); err != nil {
				return nil, err
			}
		}
		w.Accounts = append(w.Accounts, account)
	}
	w.Complete()
	return w, nil
}

// ParseRegion reads the YAML form of one region as the world of one account.
func ParseRegion(account string, text []byte) (*World, error) {
	var in regionText
	if err := strict(text, &in); err != nil {
		return nil, fmt.Errorf("emulated aws: %w", err)
	}
	w := &World{}
	a := &Account{ID: account}
	if err := w.add(a, &in); err != nil {
		return nil, err
	}
	w.Accounts = []*Account{a}
	w.Complete()
	return w, nil
}

// ParseDescribed reads, as the world of one account, one region in the form in which the SDK describes it: an object with
// the keys of the YAML form whose values are lists of the SDK's own shapes. Fields that the emulation does not have are
// left out.
func ParseDescribed(account string, text []byte) (*World, error) {
	var in regionText
	if err := yaml.Unmarshal(text, &in); err != nil {
		return nil, fmt.Errorf("emulated aws: %w", err)
	}
	w := &World{}
	a := &Account{ID: account}
	if err := w.add(a, &in); err != nil {
		return nil, err
	}
	w.Accounts = []*Account{a}
	w.Complete()
	return w, nil
}

func strict(text []byte, into any) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	return d.Decode(into)
}

// add unfolds a region of the YAML form into the account.
func (w *World) add(a *Account, in *regionText) error {
	if w.Partition == "" {
		w.Partition = "aws"
	}
	r := &Region{
		Name: in.Region, OptInStatus: in.OptInStatus,
		Vpcs: in.Vpcs, Subnets: in.Subnets, SecurityGroups: in.SecurityGroups, SecurityGroupRules: in.SecurityGroupRules,
		VpcAssociations: in.VpcAssociations, NetworkInterfaces: in.NetworkInterfaces, RouteTables: in.RouteTables,
		NetworkACLs: in.NetworkACLs, InternetGateways: in.InternetGateways, BlockPublicAccess: in.BlockPublicAccess,
		Instances: in.Instances, LightsailInstances: in.Lightsail,
	}
	for _, id := range sortedKeys(in.PrefixLists) {
		r.PrefixLists = append(r.PrefixLists, PrefixList{PrefixListID: id, Entries: in.PrefixLists[id]})
	}
	for i := range in.LoadBalancers {
		if err := w.balancer(a, r, &in.LoadBalancers[i]); err != nil {
			return err
		}
	}
	for _, x := range in.Accelerators {
		w.accelerator(a, r, x)
	}
	a.Regions = append(a.Regions, r)
	return nil
}

// balancer unfolds one balancer into what the services know about it: the balancer, its interfaces (one a subnet, with
// its private and public address), its listeners, and a target group for each of them.
func (w *World) balancer(a *Account, r *Region, in *balancerText) error {
	if len(in.PrivateIPs) > len(in.Subnets) || len(in.PublicIPs) > len(in.Subnets) {
		return fmt.Errorf("emulated aws: load balancer %s has more addresses than subnets", in.Name)
	}
	kind := map[string]string{"network": "net", "application": "app", "gateway": "gwy", "classic": "classic"}[in.Type]
	if kind == "" {
		return fmt.Errorf("emulated aws: load balancer %s has unknown type %q", in.Name, in.Type)
	}
	id := digest(a.ID, r.Name, in.Name)
	dns := in.Name + "-" + id + ".elb." + r.Name + ".amazonaws.com"
	description := "ELB " + kind + "/" + in.Name + "/" + id
	interfaceType := "interface"
	switch in.Type {
	case "network":
		interfaceType = "network_load_balancer"
	case "gateway":
		interfaceType = "gateway_load_balancer"
	case "classic":
		description = "ELB " + in.Name
	}
	var zones []AvailabilityZone
	for i, subnet := range in.Subnets {
		n := NetworkInterface{
			NetworkInterfaceID: fmt.Sprintf("eni-%s-%d", in.Name, i+1), SubnetID: subnet, VpcID: in.VpcID, Description: description,
			RequesterID: "amazon-elb", RequesterManaged: true, InterfaceType: interfaceType,
			Attachment: &Attachment{InstanceOwnerID: "amazon-elb", DeviceIndex: 1, Status: "attached"},
		}
		for _, g := range in.SecurityGroups {
			n.Groups = append(n.Groups, Group{GroupID: g})
		}
		private := PrivateAddress{PrivateIPAddress: fmt.Sprintf("10.0.%d.%d", 240+i, 1+len(r.NetworkInterfaces)), Primary: true}
		if i < len(in.PrivateIPs) {
			private.PrivateIPAddress = in.PrivateIPs[i]
		}
		if in.Scheme == "internet-facing" {
			public := fmt.Sprintf("54.84.%d.%d", 200+i, 1+len(r.NetworkInterfaces))
			if i < len(in.PublicIPs) {
				public = in.PublicIPs[i]
			}
			private.Association = &Association{PublicIP: public, IPOwnerID: "amazon-elb"}
		}
		n.PrivateIPAddresses = []PrivateAddress{private}
		r.NetworkInterfaces = append(r.NetworkInterfaces, n)
		zones = append(zones, AvailabilityZone{ZoneName: r.Name + "a", SubnetID: subnet})
	}
	if in.Type == "classic" {
		b := ClassicLoadBalancer{
			LoadBalancerName: in.Name, DNSName: dns, Scheme: in.Scheme, VpcID: in.VpcID,
			SecurityGroups: in.SecurityGroups, Subnets: in.Subnets,
		}
		seen := map[string]bool{}
		for _, l := range in.Listeners {
			b.ListenerDescriptions = append(b.ListenerDescriptions, ClassicListener{
				Protocol: l.Protocol, LoadBalancerPort: l.Port, InstanceProtocol: l.TargetGroup.Protocol, InstancePort: l.TargetGroup.Port,
			})
			for _, t := range l.TargetGroup.Targets {
				if !seen[t.ID] {
					b.Instances = append(b.Instances, ClassicInstance{t.ID})
				}
				seen[t.ID] = true
			}
		}
		r.ClassicLoadBalancers = append(r.ClassicLoadBalancers, b)
		return nil
	}
	b := LoadBalancer{
		LoadBalancerArn:  w.arn("elasticloadbalancing", r.Name, a.ID, "loadbalancer/"+kind+"/"+in.Name+"/"+id),
		LoadBalancerName: in.Name, DNSName: dns, Type: in.Type, Scheme: in.Scheme, IPAddressType: "ipv4", VpcID: in.VpcID, State: "active",
		SecurityGroups: in.SecurityGroups, AvailabilityZones: zones,
	}
	for i, l := range in.Listeners {
		g := TargetGroup{
			TargetGroupName: fmt.Sprintf("%s-%d", in.Name, i+1), TargetType: l.TargetGroup.TargetType,
			Protocol: l.TargetGroup.Protocol, Port: l.TargetGroup.Port, VpcID: in.VpcID, IPAddressType: "ipv4",
			LoadBalancerArns: []string{b.LoadBalancerArn}, Attributes: map[string]string{"deregistration_delay.timeout_seconds": "300"},
		}
		g.TargetGroupArn = w.arn("elasticloadbalancing", r.Name, a.ID, "targetgroup/"+g.TargetGroupName+"/"+digest(id, g.TargetGroupName))
		if p := l.TargetGroup.PreserveClientIP; p != nil {
			g.Attributes["preserve_client_ip.enabled"] = fmt.Sprint(*p)
		}
		for _, t := range l.TargetGroup.Targets {
			state := t.State
			if state == "" {
				state = "healthy"
			}
			g.Targets = append(g.Targets, Target{t.ID, t.Port, state})
		}
		r.TargetGroups = append(r.TargetGroups, g)
		b.Listeners = append(b.Listeners, Listener{
			ListenerArn:     w.arn("elasticloadbalancing", r.Name, a.ID, "listener/"+kind+"/"+in.Name+"/"+id+"/"+digest(id, fmt.Sprint(i))),
			LoadBalancerArn: b.LoadBalancerArn, Protocol: l.Protocol, Port: l.Port,
			DefaultActions: []Action{{
				Type: "forward", TargetGroupArn: g.TargetGroupArn,
				TargetGroups: []TargetGroupTuple{{g.TargetGroupArn, 1}},
			}},
		})
	}
	r.LoadBalancers = append(r.LoadBalancers, b)
	return nil
}

// accelerator unfolds one accelerator; its endpoints are in the region where the YAML has it.
func (w *World) accelerator(a *Account, r *Region, in acceleratorText) {
	id := digest(a.ID, in.Name)
	x := Accelerator{
		Arn: w.arn("globalaccelerator", "", a.ID, "accelerator/"+id), Name: in.Name, DNSName: "a" + id + ".awsglobalaccelerator.com",
		Enabled: in.Enabled == nil || *in.Enabled, IPAddresses: in.IPAddresses,
	}
	if len(x.IPAddresses) == 0 {
		x.IPAddresses = []string{"75.2.60.5", "99.83.190.51"}
	}
	for i, l := range in.Listeners {
		arn := fmt.Sprintf("%s/listener/%s", x.Arn, digest(id, fmt.Sprint(i)))
		g := EndpointGroup{Arn: arn + "/endpoint-group/" + digest(arn), Region: r.Name, PortOverrides: l.PortOverrides}
		for _, e := range l.Endpoints {
			if e.Weight == 0 {
				e.Weight = 128
			}
			if e.HealthState == "" {
				e.HealthState = "HEALTHY"
			}
			g.Endpoints = append(g.Endpoints, e)
		}
		x.Listeners = append(x.Listeners, AcceleratorListener{
			Arn: arn, Protocol: l.Protocol, FromPort: l.FromPort, ToPort: l.ToPort, EndpointGroups: []EndpointGroup{g},
		})
	}
	a.Accelerators = append(a.Accelerators, x)
}
