package ec2

// The shapes below carry the names of the EC2 API: the YAML keys are those of the SDK and of `aws ec2 describe-*`, the
// XML names those on the wire. Fields that no answer of EC2 depends on here are left out.

// Tag is a key and its value.
type Tag struct {
	Key   string `yaml:"Key" xml:"key"`
	Value string `yaml:"Value" xml:"value"`
}

// Operator says which AWS service manages a resource; managed resources may be hidden from describe calls.
type Operator struct {
	Managed   bool   `yaml:"Managed" xml:"managed"`
	Principal string `yaml:"Principal" xml:"principal,omitempty"`
}

// Group names a security group, as interfaces do.
type Group struct {
	GroupID   string `yaml:"GroupId" xml:"groupId"`
	GroupName string `yaml:"GroupName" xml:"groupName,omitempty"`
}

// Association binds a public address to a private one.
type Association struct {
	PublicIP     string `yaml:"PublicIp" xml:"publicIp,omitempty"`
	CarrierIP    string `yaml:"CarrierIp" xml:"carrierIp,omitempty"`
	IPOwnerID    string `yaml:"IpOwnerId" xml:"ipOwnerId,omitempty"`
	AllocationID string `yaml:"AllocationId" xml:"allocationId,omitempty"`
}

// PrivateAddress is one private IPv4 address of an interface.
type PrivateAddress struct {
	PrivateIPAddress string       `yaml:"PrivateIpAddress" xml:"privateIpAddress"`
	Primary          bool         `yaml:"Primary" xml:"primary"`
	Association      *Association `yaml:"Association" xml:"association"`
}

// IPv6Address is one IPv6 address of an interface.
type IPv6Address struct {
	IPv6Address string `yaml:"Ipv6Address" xml:"ipv6Address"`
}

// IPv6Prefix is a prefix delegated to an interface.
type IPv6Prefix struct {
	IPv6Prefix string `yaml:"Ipv6Prefix" xml:"ipv6Prefix"`
}

// Attachment says what an interface is attached to.
type Attachment struct {
	AttachmentID    string `yaml:"AttachmentId" xml:"attachmentId,omitempty"`
	InstanceID      string `yaml:"InstanceId" xml:"instanceId,omitempty"`
	InstanceOwnerID string `yaml:"InstanceOwnerId" xml:"instanceOwnerId,omitempty"`
	DeviceIndex     int    `yaml:"DeviceIndex" xml:"deviceIndex"`
	Status          string `yaml:"Status" xml:"status,omitempty"`
}

// NetworkInterface is an elastic network interface.
type NetworkInterface struct {
	NetworkInterfaceID string           `yaml:"NetworkInterfaceId" xml:"networkInterfaceId"`
	SubnetID           string           `yaml:"SubnetId" xml:"subnetId"`
	VpcID              string           `yaml:"VpcId" xml:"vpcId"`
	AvailabilityZone   string           `yaml:"AvailabilityZone" xml:"availabilityZone,omitempty"`
	Description        string           `yaml:"Description" xml:"description"`
	OwnerID            string           `yaml:"OwnerId" xml:"ownerId"`
	RequesterID        string           `yaml:"RequesterId" xml:"requesterId,omitempty"`
	RequesterManaged   bool             `yaml:"RequesterManaged" xml:"requesterManaged"`
	Status             string           `yaml:"Status" xml:"status"`
	InterfaceType      string           `yaml:"InterfaceType" xml:"interfaceType"`
	PrivateIPAddress   string           `yaml:"PrivateIpAddress" xml:"privateIpAddress,omitempty"`
	DenyAllIgwTraffic  *bool            `yaml:"DenyAllIgwTraffic" xml:"denyAllIgwTraffic"`
	Groups             []Group          `yaml:"Groups" xml:"groupSet>item"`
	Attachment         *Attachment      `yaml:"Attachment" xml:"attachment"`
	Association        *Association     `yaml:"Association" xml:"association"`
	PrivateIPAddresses []PrivateAddress `yaml:"PrivateIpAddresses" xml:"privateIpAddressesSet>item"`
	IPv6Addresses      []IPv6Address    `yaml:"Ipv6Addresses" xml:"ipv6AddressesSet>item"`
	IPv6Prefixes       []IPv6Prefix     `yaml:"Ipv6Prefixes" xml:"ipv6PrefixSet>item"`
	Operator           *Operator        `yaml:"Operator" xml:"operator"`
	TagSet             []Tag            `yaml:"TagSet" xml:"tagSet>item"`
}

// SecurityGroup is a security group without its rules, which stand beside it as in DescribeSecurityGroupRules.
type SecurityGroup struct {
	GroupID     string `yaml:"GroupId" xml:"groupId"`
	GroupName   string `yaml:"GroupName" xml:"groupName"`
	Description string `yaml:"Description" xml:"groupDescription"`
	OwnerID     string `yaml:"OwnerId" xml:"ownerId"`
	VpcID       string `yaml:"VpcId" xml:"vpcId"`
	Tags        []Tag  `yaml:"Tags" xml:"tagSet>item"`
}

// ReferencedGroup is the group that a rule refers to.
type ReferencedGroup struct {
	GroupID                string `yaml:"GroupId" xml:"groupId"`
	UserID                 string `yaml:"UserId" xml:"userId,omitempty"`
	VpcID                  string `yaml:"VpcId" xml:"vpcId,omitempty"`
	VpcPeeringConnectionID string `yaml:"VpcPeeringConnectionId" xml:"vpcPeeringConnectionId,omitempty"`
}

// SecurityGroupRule is one rule with one source.
type SecurityGroupRule struct {
	SecurityGroupRuleID string           `yaml:"SecurityGroupRuleId" xml:"securityGroupRuleId"`
	GroupID             string           `yaml:"GroupId" xml:"groupId"`
	GroupOwnerID        string           `yaml:"GroupOwnerId" xml:"groupOwnerId"`
	IsEgress            bool             `yaml:"IsEgress" xml:"isEgress"`
	IPProtocol          string           `yaml:"IpProtocol" xml:"ipProtocol"`
	FromPort            *int             `yaml:"FromPort" xml:"fromPort"`
	ToPort              *int             `yaml:"ToPort" xml:"toPort"`
	CidrIPv4            string           `yaml:"CidrIpv4" xml:"cidrIpv4,omitempty"`
	CidrIPv6            string           `yaml:"CidrIpv6" xml:"cidrIpv6,omitempty"`
	PrefixListID        string           `yaml:"PrefixListId" xml:"prefixListId,omitempty"`
	ReferencedGroupInfo *ReferencedGroup `yaml:"ReferencedGroupInfo" xml:"referencedGroupInfo"`
	Description         string           `yaml:"Description" xml:"description,omitempty"`
	Tags                []Tag            `yaml:"Tags" xml:"tagSet>item"`
}

// SecurityGroupVpcAssociation says that a group is also used in a further VPC.
type SecurityGroupVpcAssociation struct {
	GroupID      string `yaml:"GroupId" xml:"groupId"`
	GroupOwnerID string `yaml:"GroupOwnerId" xml:"groupOwnerId"`
	VpcID        string `yaml:"VpcId" xml:"vpcId"`
	VpcOwnerID   string `yaml:"VpcOwnerId" xml:"vpcOwnerId"`
	State        string `yaml:"State" xml:"state"`
}

// BlockPublicAccessStates is the state of the block as seen on a VPC or subnet.
type BlockPublicAccessStates struct {
	InternetGatewayBlockMode string `yaml:"InternetGatewayBlockMode" xml:"internetGatewayBlockMode"`
}

// Vpc is a virtual private cloud. IPv6 is its one IPv6 range, if any.
type Vpc struct {
	VpcID     string `yaml:"VpcId" xml:"vpcId"`
	CidrBlock string `yaml:"CidrBlock" xml:"cidrBlock"`
	IPv6      string `yaml:"Ipv6" xml:"-"`
	IsDefault bool   `yaml:"IsDefault" xml:"isDefault"`
	OwnerID   string `yaml:"OwnerId" xml:"ownerId"`
	State     string `yaml:"State" xml:"state"`
	Tags      []Tag  `yaml:"Tags" xml:"tagSet>item"`
}

// Subnet is a subnet of a VPC.
type Subnet struct {
	SubnetID                string                   `yaml:"SubnetId" xml:"subnetId"`
	VpcID                   string                   `yaml:"VpcId" xml:"vpcId"`
	CidrBlock               string                   `yaml:"CidrBlock" xml:"cidrBlock"`
	OwnerID                 string                   `yaml:"OwnerId" xml:"ownerId"`
	State                   string                   `yaml:"State" xml:"state"`
	AvailabilityZone        string                   `yaml:"AvailabilityZone" xml:"availabilityZone"`
	BlockPublicAccessStates *BlockPublicAccessStates `yaml:"BlockPublicAccessStates" xml:"blockPublicAccessStates"`
	Tags                    []Tag                    `yaml:"Tags" xml:"tagSet>item"`
}

// RouteTableAssociation binds a route table to a subnet or gateway, or makes it the main one of its VPC.
type RouteTableAssociation struct {
	RouteTableAssociationID string `yaml:"RouteTableAssociationId" xml:"routeTableAssociationId"`
	RouteTableID            string `yaml:"RouteTableId" xml:"routeTableId"`
	Main                    bool   `yaml:"Main" xml:"main"`
	SubnetID                string `yaml:"SubnetId" xml:"subnetId,omitempty"`
	GatewayID               string `yaml:"GatewayId" xml:"gatewayId,omitempty"`
	State                   string `yaml:"AssociationState" xml:"associationState>state"`
}

// Route is one route of a table.
type Route struct {
	DestinationCidrBlock        string `yaml:"DestinationCidrBlock" xml:"destinationCidrBlock,omitempty"`
	DestinationIPv6CidrBlock    string `yaml:"DestinationIpv6CidrBlock" xml:"destinationIpv6CidrBlock,omitempty"`
	DestinationPrefixListID     string `yaml:"DestinationPrefixListId" xml:"destinationPrefixListId,omitempty"`
	GatewayID                   string `yaml:"GatewayId" xml:"gatewayId,omitempty"`
	NatGatewayID                string `yaml:"NatGatewayId" xml:"natGatewayId,omitempty"`
	TransitGatewayID            string `yaml:"TransitGatewayId" xml:"transitGatewayId,omitempty"`
	NetworkInterfaceID          string `yaml:"NetworkInterfaceId" xml:"networkInterfaceId,omitempty"`
	InstanceID                  string `yaml:"InstanceId" xml:"instanceId,omitempty"`
	VpcPeeringConnectionID      string `yaml:"VpcPeeringConnectionId" xml:"vpcPeeringConnectionId,omitempty"`
	EgressOnlyInternetGatewayID string `yaml:"EgressOnlyInternetGatewayId" xml:"egressOnlyInternetGatewayId,omitempty"`
	CarrierGatewayID            string `yaml:"CarrierGatewayId" xml:"carrierGatewayId,omitempty"`
	LocalGatewayID              string `yaml:"LocalGatewayId" xml:"localGatewayId,omitempty"`
	CoreNetworkArn              string `yaml:"CoreNetworkArn" xml:"coreNetworkArn,omitempty"`
	Origin                      string `yaml:"Origin" xml:"origin,omitempty"`
	State                       string `yaml:"State" xml:"state"`
}

// RouteTable is a route table.
type RouteTable struct {
	RouteTableID string                  `yaml:"RouteTableId" xml:"routeTableId"`
	VpcID        string                  `yaml:"VpcId" xml:"vpcId"`
	OwnerID      string                  `yaml:"OwnerId" xml:"ownerId"`
	Associations []RouteTableAssociation `yaml:"Associations" xml:"associationSet>item"`
	Routes       []Route                 `yaml:"Routes" xml:"routeSet>item"`
	Tags         []Tag                   `yaml:"Tags" xml:"tagSet>item"`
}

// PortRange is a range of ports, both ends included.
type PortRange struct {
	From int `yaml:"From" xml:"from"`
	To   int `yaml:"To" xml:"to"`
}

// NetworkACLEntry is one numbered entry of a network ACL.
type NetworkACLEntry struct {
	RuleNumber    int        `yaml:"RuleNumber" xml:"ruleNumber"`
	Egress        bool       `yaml:"Egress" xml:"egress"`
	RuleAction    string     `yaml:"RuleAction" xml:"ruleAction"`
	Protocol      string     `yaml:"Protocol" xml:"protocol"`
	CidrBlock     string     `yaml:"CidrBlock" xml:"cidrBlock,omitempty"`
	IPv6CidrBlock string     `yaml:"Ipv6CidrBlock" xml:"ipv6CidrBlock,omitempty"`
	PortRange     *PortRange `yaml:"PortRange" xml:"portRange"`
}

// NetworkACLAssociation binds a network ACL to a subnet.
type NetworkACLAssociation struct {
	NetworkACLAssociationID string `yaml:"NetworkAclAssociationId" xml:"networkAclAssociationId"`
	NetworkACLID            string `yaml:"NetworkAclId" xml:"networkAclId"`
	SubnetID                string `yaml:"SubnetId" xml:"subnetId"`
}

// NetworkACL is a network ACL.
type NetworkACL struct {
	NetworkACLID string                  `yaml:"NetworkAclId" xml:"networkAclId"`
	VpcID        string                  `yaml:"VpcId" xml:"vpcId"`
	IsDefault    bool                    `yaml:"IsDefault" xml:"default"`
	OwnerID      string                  `yaml:"OwnerId" xml:"ownerId"`
	Associations []NetworkACLAssociation `yaml:"Associations" xml:"associationSet>item"`
	Entries      []NetworkACLEntry       `yaml:"Entries" xml:"entrySet>item"`
	Tags         []Tag                   `yaml:"Tags" xml:"tagSet>item"`
}

// InternetGatewayAttachment binds an internet gateway to a VPC.
type InternetGatewayAttachment struct {
	VpcID string `yaml:"VpcId" xml:"vpcId"`
	State string `yaml:"State" xml:"state"`
}

// InternetGateway is an internet gateway.
type InternetGateway struct {
	InternetGatewayID string                      `yaml:"InternetGatewayId" xml:"internetGatewayId"`
	OwnerID           string                      `yaml:"OwnerId" xml:"ownerId"`
	Attachments       []InternetGatewayAttachment `yaml:"Attachments" xml:"attachmentSet>item"`
	Tags              []Tag                       `yaml:"Tags" xml:"tagSet>item"`
}

// Exclusion exempts a VPC or subnet from the block of public access.
type Exclusion struct {
	ExclusionID                  string `yaml:"ExclusionId" xml:"exclusionId"`
	ResourceArn                  string `yaml:"ResourceArn" xml:"resourceArn"`
	InternetGatewayExclusionMode string `yaml:"InternetGatewayExclusionMode" xml:"internetGatewayExclusionMode"`
	State                        string `yaml:"State" xml:"state"`
}

// BlockPublicAccess is the VPC Block Public Access of an account in a region.
type BlockPublicAccess struct {
	InternetGatewayBlockMode string      `yaml:"InternetGatewayBlockMode" xml:"internetGatewayBlockMode"`
	State                    string      `yaml:"State" xml:"state"`
	ManagedBy                string      `yaml:"ManagedBy" xml:"managedBy"`
	ExclusionsAllowed        string      `yaml:"ExclusionsAllowed" xml:"exclusionsAllowed"`
	Exclusions               []Exclusion `yaml:"Exclusions" xml:"-"`
}

// PrefixList is a managed prefix list with its entries.
type PrefixList struct {
	PrefixListID   string   `yaml:"PrefixListId" xml:"prefixListId"`
	PrefixListName string   `yaml:"PrefixListName" xml:"prefixListName"`
	AddressFamily  string   `yaml:"AddressFamily" xml:"addressFamily"`
	MaxEntries     int      `yaml:"MaxEntries" xml:"maxEntries"`
	Version        int64    `yaml:"Version" xml:"version"`
	OwnerID        string   `yaml:"OwnerId" xml:"ownerId"`
	State          string   `yaml:"State" xml:"state"`
	Entries        []string `yaml:"Entries" xml:"-"`
}

// Instance is an instance: its state and tags; its interfaces stand beside it.
type Instance struct {
	InstanceID string `yaml:"InstanceId" xml:"instanceId"`
	State      string `yaml:"State" xml:"instanceState>name"`
	VpcID      string `yaml:"VpcId" xml:"vpcId,omitempty"`
	SubnetID   string `yaml:"SubnetId" xml:"subnetId,omitempty"`
	Tags       []Tag  `yaml:"Tags" xml:"tagSet>item"`
}
