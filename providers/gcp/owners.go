package gcp

import (
	"encoding/json"
	"slices"
	"strings"

	"cloud.google.com/go/compute/apiv1/computepb"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// serviceName is in the description of the firewall rules that Kubernetes makes for its Services, as JSON
// (https://github.com/kubernetes/cloud-provider-gcp, makeFirewallDescription).
const serviceName = "kubernetes.io/service-name"

// controller returns what has made a firewall rule and puts a change of it back, or nil.
func controller(f *computepb.Firewall) *cloud.Owner {
	var said map[string]any
	_ = json.Unmarshal([]byte(f.GetDescription()), &said) // people write no JSON
	service, _ := said[serviceName].(string)
	name := f.GetName()
	switch {
	case service != "":
		return &cloud.Owner{
			By:      "the Kubernetes Service " + service,
			Instead: "limit spec.loadBalancerSourceRanges of the Service, or make it of type ClusterIP",
		}
	case made(name, "k8s-", "k8s2-") || strings.Contains(f.GetDescription(), serviceName):
		return &cloud.Owner{
			By:      "Kubernetes, which made " + name + " for a Service or an Ingress",
			Instead: "limit spec.loadBalancerSourceRanges of the Service, or make it of type ClusterIP",
		}
	case made(name, "gke-", "gkegw1-"):
		return &cloud.Owner{
			By:      "the Google Kubernetes Engine cluster that made " + name,
			Instead: "change the cluster, or make a firewall rule of your own that denies the port at a smaller priority number",
		}
	}
	return nil
}

// made says whether a name begins as one of a controller's do.
func made(name string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// organization returns whose the hierarchical policy with a name and a number is.
func organization(name, number string) *cloud.Owner {
	return &cloud.Owner{
		By: "the organization or folder of the hierarchical firewall policy " + name,
		Instead: "have its administrator change the rule (gcloud compute firewall-policies rules update PRIORITY --firewall-policy=" + number +
			"), for a project cannot override what the policy allows",
	}
}

// ownedByGoogle returns whose a system policy is.
func ownedByGoogle(name string) *cloud.Owner {
	return &cloud.Owner{
		By:      "Google, as the system firewall policy " + name,
		Instead: "change the service that the policy was made for, or take the external address from the instance",
	}
}

// sharedBy returns whose l is if that is not project, but a Shared VPC host project.
func sharedBy(l *list, project string) *cloud.Owner {
	host, _, _ := strings.Cut(l.ref.Scope, "/")
	numbered := strings.Trim(project, "0123456789") == "" || strings.Trim(host, "0123456789") == ""
	if host == project || numbered || l.kind == hierarchical || l.kind == system {
		return nil
	}
	return &cloud.Owner{
		By:      "the Shared VPC host project " + host,
		Instead: "scan the host project together with this one, with the permissions to change it: --project " + host,
	}
}
