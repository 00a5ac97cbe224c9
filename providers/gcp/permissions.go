package gcp

// Permissions returns the IAM permissions that reading needs, sorted. A custom role with exactly these is
// deploy/iam/gcp-read-role.yaml; those of the resource manager are for --folder and --organization-id only.
func Permissions() []string {
	return []string{
		"compute.backendServices.list",
		"compute.firewallPolicies.get",
		"compute.firewalls.list",
		"compute.forwardingRules.list",
		"compute.instanceGroups.list",
		"compute.instances.getEffectiveFirewalls",
		"compute.instances.list",
		"compute.networkEndpointGroups.get",
		"compute.networkEndpointGroups.list",
		"compute.networks.get",
		"compute.networks.getEffectiveFirewalls",
		"compute.networks.getRegionEffectiveFirewalls",
		"compute.networks.list",
		"compute.routes.list",
		"compute.subnetworks.list",
		"compute.targetHttpProxies.list",
		"compute.targetHttpsProxies.list",
		"compute.targetInstances.list",
		"compute.targetPools.list",
		"compute.targetSslProxies.list",
		"compute.targetTcpProxies.list",
		"compute.urlMaps.list",
		"networksecurity.addressGroups.get",
		"resourcemanager.folders.list",
		"resourcemanager.projects.list",
	}
}

// WritePermissions returns the IAM permissions that a fix needs besides Permissions, sorted. A custom role with exactly these
// is deploy/iam/gcp-fix-role.yaml. compute.networks.updatePolicy is asked of whoever changes a network's firewall rules
// (https://cloud.google.com/compute/docs/access/iam-permissions).
func WritePermissions() []string {
	return []string{
		"compute.firewallPolicies.update",
		"compute.firewalls.create",
		"compute.firewalls.delete",
		"compute.firewalls.update",
		"compute.globalOperations.get",
		"compute.networks.updatePolicy",
		"compute.regionOperations.get",
	}
}
