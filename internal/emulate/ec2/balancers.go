package ec2

// LoadBalancer is a network, application or gateway load balancer, named as Elastic Load Balancing v2 does.
type LoadBalancer struct {
	LoadBalancerArn   string             `xml:"LoadBalancerArn"`
	LoadBalancerName  string             `xml:"LoadBalancerName"`
	DNSName           string             `xml:"DNSName"`
	Type              string             `xml:"Type"`
	Scheme            string             `xml:"Scheme"`
	IPAddressType     string             `xml:"IpAddressType"`
	VpcID             string             `xml:"VpcId"`
	State             string             `xml:"State>Code"`
	SecurityGroups    []string           `xml:"SecurityGroups>member"`
	AvailabilityZones []AvailabilityZone `xml:"AvailabilityZones>member"`
	Listeners         []Listener         `xml:"-"`
}

// AvailabilityZone is a zone of a balancer with its subnet.
type AvailabilityZone struct {
	ZoneName              string                `xml:"ZoneName"`
	SubnetID              string                `xml:"SubnetId"`
	LoadBalancerAddresses []LoadBalancerAddress `xml:"LoadBalancerAddresses>member"`
}

// LoadBalancerAddress is a fixed address of a network load balancer.
type LoadBalancerAddress struct {
	IPAddress          string `xml:"IpAddress,omitempty"`
	AllocationID       string `xml:"AllocationId,omitempty"`
	PrivateIPv4Address string `xml:"PrivateIPv4Address,omitempty"`
	IPv6Address        string `xml:"IPv6Address,omitempty"`
}

// Listener is a listener of a balancer.
type Listener struct {
	ListenerArn     string   `xml:"ListenerArn"`
	LoadBalancerArn string   `xml:"LoadBalancerArn"`
	Protocol        string   `xml:"Protocol"`
	Port            int      `xml:"Port"`
	DefaultActions  []Action `xml:"DefaultActions>member"`
}

// Action forwards to target groups.
type Action struct {
	Type           string             `xml:"Type"`
	TargetGroupArn string             `xml:"TargetGroupArn,omitempty"`
	TargetGroups   []TargetGroupTuple `xml:"ForwardConfig>TargetGroups>member"`
}

// TargetGroupTuple is a target group with its weight in a forward action.
type TargetGroupTuple struct {
	TargetGroupArn string `xml:"TargetGroupArn"`
	Weight         int    `xml:"Weight"`
}

// TargetGroup is a target group, with its targets and attributes.
type TargetGroup struct {
	TargetGroupArn   string            `xml:"TargetGroupArn"`
	TargetGroupName  string            `xml:"TargetGroupName"`
	TargetType       string            `xml:"TargetType"`
	Protocol         string            `xml:"Protocol,omitempty"`
	Port             int               `xml:"Port,omitempty"`
	VpcID            string            `xml:"VpcId,omitempty"`
	IPAddressType    string            `xml:"IpAddressType"`
	LoadBalancerArns []string          `xml:"LoadBalancerArns>member"`
	Targets          []Target          `xml:"-"`
	Attributes       map[string]string `xml:"-"`
}

// Target is a member of a target group. State is healthy, unhealthy, unused, …
type Target struct {
	ID    string
	Port  int
	State string
}

// ClassicLoadBalancer is a balancer of the first generation.
type ClassicLoadBalancer struct {
	LoadBalancerName     string            `xml:"LoadBalancerName"`
	DNSName              string            `xml:"DNSName"`
	Scheme               string            `xml:"Scheme"`
	VpcID                string            `xml:"VPCId"`
	SecurityGroups       []string          `xml:"SecurityGroups>member"`
	Subnets              []string          `xml:"Subnets>member"`
	Instances            []ClassicInstance `xml:"Instances>member"`
	ListenerDescriptions []ClassicListener `xml:"ListenerDescriptions>member"`
}

// ClassicInstance is a registered instance.
type ClassicInstance struct {
	InstanceID string `xml:"InstanceId"`
}

// ClassicListener is a listener of a classic balancer.
type ClassicListener struct {
	Protocol         string `xml:"Listener>Protocol"`
	LoadBalancerPort int    `xml:"Listener>LoadBalancerPort"`
	InstanceProtocol string `xml:"Listener>InstanceProtocol"`
	InstancePort     int    `xml:"Listener>InstancePort"`
}

// Accelerator is an accelerator of Global Accelerator, with what hangs on it.
type Accelerator struct {
	Arn         string
	Name        string
	DNSName     string
	Enabled     bool
	IPAddresses []string
	Listeners   []AcceleratorListener
}

// AcceleratorListener is a listener of an accelerator.
type AcceleratorListener struct {
	Arn              string
	Protocol         string
	FromPort, ToPort int
	EndpointGroups   []EndpointGroup
}

// EndpointGroup is a listener's endpoints in one region.
type EndpointGroup struct {
	Arn           string
	Region        string
	PortOverrides []PortOverride
	Endpoints     []AcceleratorEndpoint
}

// PortOverride maps a listener port to an endpoint port.
type PortOverride struct {
	ListenerPort int `yaml:"ListenerPort" json:"ListenerPort"`
	EndpointPort int `yaml:"EndpointPort" json:"EndpointPort"`
}

// AcceleratorEndpoint is an instance, balancer or elastic IP behind an accelerator.
type AcceleratorEndpoint struct {
	EndpointID                  string `yaml:"EndpointId" json:"EndpointId"`
	ClientIPPreservationEnabled bool   `yaml:"ClientIPPreservationEnabled" json:"ClientIPPreservationEnabled"`
	Weight                      int    `yaml:"Weight" json:"Weight"`
	HealthState                 string `yaml:"HealthState" json:"HealthState"`
}

// LightsailInstance is an instance of Lightsail, named as its API does.
type LightsailInstance struct {
	Name             string              `yaml:"name" json:"name"`
	Arn              string              `yaml:"arn" json:"arn"`
	IPAddressType    string              `yaml:"ipAddressType" json:"ipAddressType"`
	PublicIPAddress  string              `yaml:"publicIpAddress" json:"publicIpAddress,omitempty"`
	PrivateIPAddress string              `yaml:"privateIpAddress" json:"privateIpAddress,omitempty"`
	IPv6Addresses    []string            `yaml:"ipv6Addresses" json:"ipv6Addresses"`
	IsStaticIP       bool                `yaml:"isStaticIp" json:"isStaticIp"`
	State            LightsailState      `yaml:"state" json:"state"`
	Networking       LightsailNetworking `yaml:"networking" json:"networking"`
}

// LightsailState is the state of a Lightsail instance.
type LightsailState struct {
	Code int    `yaml:"code" json:"code"`
	Name string `yaml:"name" json:"name"`
}

// LightsailNetworking holds the open ports of a Lightsail instance.
type LightsailNetworking struct {
	Ports []LightsailPort `yaml:"ports" json:"ports"`
}

// LightsailPort is one rule of an instance's firewall.
type LightsailPort struct {
	Protocol        string   `yaml:"protocol" json:"protocol"`
	FromPort        int      `yaml:"fromPort" json:"fromPort"`
	ToPort          int      `yaml:"toPort" json:"toPort"`
	Cidrs           []string `yaml:"cidrs" json:"cidrs"`
	IPv6Cidrs       []string `yaml:"ipv6Cidrs" json:"ipv6Cidrs"`
	CidrListAliases []string `yaml:"cidrListAliases" json:"cidrListAliases"`
	AccessDirection string   `yaml:"accessDirection" json:"accessDirection"`
}
