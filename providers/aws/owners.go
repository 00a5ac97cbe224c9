package aws

import (
	"slices"
	"strings"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// The quota of inbound rules of one address family in a group: what an account has by default, and the most that AWS grants
// (https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html).
const (
	defaultRules = 60
	mostRules    = 1000
)

// quota returns how many inbound rules g has, of the address family with more of them. A group with more than the default
// belongs to an account with a higher quota, and which it is EC2 does not say: what it refuses is not carried out.
func (r *region) quota(g *group) *cloud.Quota {
	v4, v6 := 0, 0
	for i := range g.rules {
		v := &g.rules[i]
		switch l, ok := r.lists[v.list]; {
		case v.cidr.IsValid() && v.cidr.Addr().Is4():
			v4++
		case v.cidr.IsValid():
			v6++
		case ok && l.six:
			v6 += max(l.most, 1)
		case ok:
			v4 += max(l.most, 1)
		default:
			v4, v6 = v4+1, v6+1
		}
	}
	out := &cloud.Quota{Used: max(v4, v6), Limit: defaultRules, Of: "inbound rules of one address family"}
	if out.Used > out.Limit {
		out.Limit = mostRules
	}
	return out
}

// ownerOf returns the controller that makes g what it is, or nil.
func ownerOf(g *group) *cloud.Owner {
	service := "set loadBalancerSourceRanges of the Service, or the annotation of the Ingress that its controller documents"
	keys := make([]string, 0, len(g.tags))
	for key := range g.tags {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	tag := func(prefix string) (key string, ok bool) {
		i := slices.IndexFunc(keys, func(k string) bool { return strings.HasPrefix(k, prefix) })
		if i < 0 {
			return "", false
		}
		return keys[i], true
	}
	cluster := func(key string) string { return key[strings.LastIndexByte(key, '/')+1:] }
	// https://docs.aws.amazon.com/eks/latest/userguide/sec-group-reqs.html
	if key, ok := tag("aws:eks:cluster-name"); ok {
		return &cloud.Owner{By: "the EKS cluster " + g.tags[key], Instead: "change the rule where the cluster was made, such as in its template"}
	}
	if name, ok := strings.CutPrefix(g.name, "eks-cluster-sg-"); ok {
		return &cloud.Owner{By: "the EKS cluster of " + name, Instead: "change the rule where the cluster was made, such as in its template"}
	}
	// https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/deploy/security_groups/
	if key, ok := tag("elbv2.k8s.aws/cluster"); ok {
		return &cloud.Owner{By: "the AWS Load Balancer Controller of the cluster " + g.tags[key], Instead: service}
	}
	// https://github.com/kubernetes/cloud-provider-aws: ensureLoadBalancer
	if strings.HasPrefix(g.name, "k8s-elb-") {
		return &cloud.Owner{By: "a Kubernetes Service of type LoadBalancer", Instead: service}
	}
	if key, ok := tag("kubernetes.io/cluster/"); ok && g.tags[key] == "owned" {
		return &cloud.Owner{By: "the Kubernetes cluster " + cluster(key), Instead: "change the rule where the cluster was made, or " + service}
	}
	// https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-properties-resource-tags.html
	if key, ok := tag("aws:cloudformation:stack-name"); ok {
		return &cloud.Owner{By: "the CloudFormation stack " + g.tags[key], Instead: "change the template of the stack, and update it"}
	}
	// https://docs.aws.amazon.com/waf/latest/developerguide/security-group-policies-common.html
	if _, ok := tag("aws:fms"); ok || strings.HasPrefix(g.name, "FMManagedSecurityGroup") {
		return &cloud.Owner{By: "AWS Firewall Manager", Instead: "change the primary security group of its policy"}
	}
	// https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/elb-vpc-security-groups.html
	if strings.HasPrefix(g.name, "default_elb_") {
		return &cloud.Owner{By: "Elastic Load Balancing", Instead: "give the balancer a security group of its own"}
	}
	if key, ok := tag("aws:"); ok {
		return &cloud.Owner{By: "the AWS service that set the tag " + key, Instead: "change the rule there"}
	}
	return nil
}
