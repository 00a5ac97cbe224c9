package sarif

import (
	"strings"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// qualified returns the name by which the cloud itself knows what ref names, as far as that can be made from a ref: an
// ARN, the full resource name of a Google Cloud API, do:KIND/ID. Where it cannot, it is PROVIDER:SCOPE/KIND/ID.
func qualified(ref cloud.Ref) string {
	kind, id := ref.Kind, ref.ID
	if strings.Contains(id, "#") {
		// A rule that is only a position in its list is named after the list: sg-1#3.
		kind = strings.TrimSuffix(kind, "-rule")
	}
	account, region, _ := strings.Cut(ref.Scope, "/")
	switch ref.Provider {
	case "aws":
		if strings.HasPrefix(id, "arn:") {
			return id
		}
		if hasARN(kind) && region != "" {
			return strings.Join([]string{"arn", partition(region), "ec2", region, account, kind + "/" + id}, ":")
		}
	case "do":
		return "do:" + kind + "/" + id
	case "gcp":
		if full := googleName(account, region, kind, id); full != "" {
			return full
		}
	}
	return ref.Provider + ":" + ref.Scope + "/" + kind + "/" + id
}

// hasARN says whether EC2 objects of a kind have an ARN made of the kind and the id:
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
func hasARN(kind string) bool {
	switch kind {
	case "security-group", "security-group-rule", "network-interface", "network-acl", "instance", "vpc", "subnet",
		"route-table", "internet-gateway", "prefix-list", "elastic-ip":
		return true
	}
	return false
}

// partition returns the part of AWS that a region is in:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
func partition(region string) string {
	for _, p := range [][2]string{
		{"cn-", "aws-cn"},
		{"us-gov-", "aws-us-gov"},
		{"us-iso-", "aws-iso"},
		{"us-isob-", "aws-iso-b"},
		{"eu-isoe-", "aws-iso-e"},
		{"us-isof-", "aws-iso-f"},
		{"eusc-", "aws-eusc"},
	} {
		if strings.HasPrefix(region, p[0]) {
			return p[1]
		}
	}
	return "aws"
}

// googleName returns a full resource name, or nothing if more would have to be known for it, such as the zone of an
// instance: https://cloud.google.com/iam/docs/full-resource-names
func googleName(project, region, kind, id string) string {
	const api = "//compute.googleapis.com/"
	where := "global/"
	if region != "" {
		where = "regions/" + region + "/"
	}
	switch kind {
	case "firewall":
		return api + "projects/" + project + "/global/firewalls/" + id
	case "network":
		return api + "projects/" + project + "/global/networks/" + id
	case "network-firewall-policy":
		return api + "projects/" + project + "/" + where + "firewallPolicies/" + id
	case "firewall-policy":
		// Policies of an organization or a folder belong to no project.
		return api + "locations/global/firewallPolicies/" + id
	case "firewall-policy-rule":
		if project == "organization" {
			return api + "locations/global/firewallPolicies/" + id
		}
		return api + "projects/" + project + "/" + where + "firewallPolicies/" + id
	}
	return ""
}
