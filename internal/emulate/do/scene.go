package do

// Scene is what one team owns, in the words of the API. Attributes that no reader of firewalls looks at (images, sizes,
// prices) are filled in when an answer is rendered; those that the API always shows and a scene leaves out (the address of
// a load balancer, the VPC of a droplet) are derived, so that a scene states only what matters.
type Scene struct {
	Droplets      []Droplet      `yaml:"droplets"`
	Firewalls     []Firewall     `yaml:"firewalls"`
	LoadBalancers []LoadBalancer `yaml:"load_balancers"`
	ReservedIPs   []ReservedIP   `yaml:"reserved_ips"`
	ReservedIPv6  []ReservedIP   `yaml:"reserved_ipv6"`
	VPCs          []VPC          `yaml:"vpcs"`
}

// Droplet is a virtual machine. A droplet made without public networking has no address of type public.
type Droplet struct {
	ID       int      `yaml:"id"`
	Name     string   `yaml:"name"`
	Status   string   `yaml:"status"` // active when empty
	Region   string   `yaml:"region"` // slug; nyc3 when empty
	Tags     []string `yaml:"tags"`
	Networks Networks `yaml:"networks"`
	VPCUUID  string   `yaml:"vpc_uuid"`
}

// Networks are the addresses of a droplet.
type Networks struct {
	V4 []Address `yaml:"v4"`
	V6 []Address `yaml:"v6"`
}

// Address is one address of a droplet; Type is public or private.
type Address struct {
	IPAddress string `yaml:"ip_address"`
	Type      string `yaml:"type"`
}

// Firewall is a Cloud Firewall. Nil InboundRules are shown as null, which the API does for a firewall that has none.
type Firewall struct {
	ID             string          `yaml:"id"`
	Name           string          `yaml:"name"`
	Status         string          `yaml:"status"` // succeeded when empty
	InboundRules   []InboundRule   `yaml:"inbound_rules"`
	OutboundRules  []OutboundRule  `yaml:"outbound_rules"`
	DropletIDs     []int           `yaml:"droplet_ids"`
	Tags           []string        `yaml:"tags"`
	PendingChanges []PendingChange `yaml:"pending_changes"`
}

// InboundRule admits packets or, with action deny, refuses them whatever any other rule says. An empty action is not
// shown and means allow.
type InboundRule struct {
	Protocol string `yaml:"protocol" json:"protocol"`
	Ports    string `yaml:"ports" json:"ports"`
	Sources  *Peers `yaml:"sources" json:"sources,omitempty"`
	Action   string `yaml:"action" json:"action,omitempty"`
}

// OutboundRule is the same for packets that leave.
type OutboundRule struct {
	Protocol     string `yaml:"protocol" json:"protocol"`
	Ports        string `yaml:"ports" json:"ports"`
	Destinations *Peers `yaml:"destinations" json:"destinations,omitempty"`
	Action       string `yaml:"action" json:"action,omitempty"`
}

// Peers are the sources or destinations of a rule; what is empty is left out of an answer.
type Peers struct {
	Addresses        []string `yaml:"addresses" json:"addresses,omitempty"`
	Tags             []string `yaml:"tags" json:"tags,omitempty"`
	DropletIDs       []int    `yaml:"droplet_ids" json:"droplet_ids,omitempty"`
	LoadBalancerUIDs []string `yaml:"load_balancer_uids" json:"load_balancer_uids,omitempty"`
	KubernetesIDs    []string `yaml:"kubernetes_ids" json:"kubernetes_ids,omitempty"`
}

// PendingChange tells that a droplet does not yet have the firewall as the object shows it.
type PendingChange struct {
	DropletID int    `yaml:"droplet_id" json:"droplet_id"`
	Removing  bool   `yaml:"removing" json:"removing"`
	Status    string `yaml:"status" json:"status"`
}

// LoadBalancer forwards from its own address to droplets, which are named by id or by tag.
type LoadBalancer struct {
	ID              string           `yaml:"id"`
	Name            string           `yaml:"name"`
	IP              string           `yaml:"ip"` // an address of DigitalOcean's when empty and Status is not new
	IPv6            string           `yaml:"ipv6"`
	Status          string           `yaml:"status"`  // active when empty
	Type            string           `yaml:"type"`    // REGIONAL when empty
	Network         string           `yaml:"network"` // EXTERNAL when empty
	Region          string           `yaml:"region"`
	VPCUUID         string           `yaml:"vpc_uuid"` // that of its first droplet when empty
	DropletIDs      []int            `yaml:"droplet_ids"`
	Tag             string           `yaml:"tag"`
	ForwardingRules []ForwardingRule `yaml:"forwarding_rules"`
	Firewall        *LBFirewall      `yaml:"firewall"`
	GLBSettings     *GLBSettings     `yaml:"glb_settings"`             // of a global balancer
	TargetIDs       []string         `yaml:"target_load_balancer_ids"` // of a global balancer
}

// GLBSettings say to which port of its targets a global balancer forwards.
type GLBSettings struct {
	TargetProtocol string `yaml:"target_protocol" json:"target_protocol"`
	TargetPort     int    `yaml:"target_port" json:"target_port"`
}

// ForwardingRule maps a port of a balancer to a port of its droplets.
type ForwardingRule struct {
	EntryProtocol  string `yaml:"entry_protocol" json:"entry_protocol"`
	EntryPort      int    `yaml:"entry_port" json:"entry_port"`
	TargetProtocol string `yaml:"target_protocol" json:"target_protocol"`
	TargetPort     int    `yaml:"target_port" json:"target_port"`
	CertificateID  string `yaml:"certificate_id" json:"certificate_id"`
	TLSPassthrough bool   `yaml:"tls_passthrough" json:"tls_passthrough"`
}

// LBFirewall holds the entries "ip:…" and "cidr:…" that a balancer lets in or keeps out.
type LBFirewall struct {
	Deny  []string `yaml:"deny" json:"deny,omitempty"`
	Allow []string `yaml:"allow" json:"allow,omitempty"`
}

// ReservedIP is a reserved address, v4 or v6, and the droplet that it leads to, if any.
type ReservedIP struct {
	IP      string      `yaml:"ip"`
	Region  string      `yaml:"region"`
	Droplet *DropletRef `yaml:"droplet"`
}

// DropletRef names a droplet of the scene.
type DropletRef struct {
	ID int `yaml:"id"`
}

// VPC is a private network.
type VPC struct {
	ID      string `yaml:"id"`
	Name    string `yaml:"name"`
	Region  string `yaml:"region"`
	IPRange string `yaml:"ip_range"`
}
