package aws

// Permissions returns the actions that reading needs, in order. deploy/iam/aws-read-policy.json grants the same.
func Permissions() []string {
	return []string{
		"ec2:DescribeInstances",
		"ec2:DescribeInternetGateways",
		"ec2:DescribeManagedPrefixLists",
		"ec2:DescribeNetworkAcls",
		"ec2:DescribeNetworkInterfaces",
		"ec2:DescribeRegions",
		"ec2:DescribeRouteTables",
		"ec2:DescribeSecurityGroupRules",
		"ec2:DescribeSecurityGroups",
		"ec2:DescribeSubnets",
		"ec2:DescribeVpcBlockPublicAccessExclusions",
		"ec2:DescribeVpcBlockPublicAccessOptions",
		"ec2:GetManagedPrefixListEntries",
		"elasticloadbalancing:DescribeListeners",
		"elasticloadbalancing:DescribeLoadBalancers",
		"elasticloadbalancing:DescribeTargetGroupAttributes",
		"elasticloadbalancing:DescribeTargetGroups",
		"elasticloadbalancing:DescribeTargetHealth",
		"globalaccelerator:ListAccelerators",
		"globalaccelerator:ListEndpointGroups",
		"globalaccelerator:ListListeners",
		"lightsail:GetInstances",
		"sts:GetCallerIdentity",
	}
}

// WritePermissions returns the actions that a fix needs besides Permissions, in order. deploy/iam/aws-fix-policy.json grants
// the same; tags are set on no more than the rules that it makes.
func WritePermissions() []string {
	return []string{
		"ec2:AuthorizeSecurityGroupIngress",
		"ec2:CreateTags",
		"ec2:ModifySecurityGroupRules",
		"ec2:RevokeSecurityGroupIngress",
		"lightsail:PutInstancePublicPorts",
	}
}

// OrganizationPermissions returns the actions that reading an organization needs besides, in the management account.
func OrganizationPermissions() []string {
	return []string{"organizations:ListAccounts", "sts:AssumeRole"}
}
