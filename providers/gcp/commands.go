package gcp

import (
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// command returns the gcloud command that makes is of was: one of the two may be nothing.
func command(list cloud.Ref, was, is draft) []string {
	project, region, _ := strings.Cut(list.Scope, "/")
	if list.Kind == networkKind {
		words := []string{"gcloud", "compute", "firewall-rules"}
		switch {
		case is.vpc == nil:
			return append(words, "delete", was.vpc.GetName(), "--project="+project, "--quiet")
		case was.vpc != nil:
			return append(append(words, "update", is.vpc.GetName(), "--project="+project), changed(flags(was), flags(is))...)
		}
		verdict := "ALLOW"
		if len(is.vpc.GetDenied()) > 0 {
			verdict = "DENY"
		}
		words = append(words, "create", is.vpc.GetName(), "--project="+project, "--network="+baseName(is.vpc.GetNetwork()),
			"--direction=INGRESS", "--priority="+strconv.Itoa(int(priorityOf(is.vpc))), "--action="+verdict)
		return append(words, flags(is)...)
	}
	words := []string{"gcloud", "compute", "network-firewall-policies", "rules"}
	priority := func(d draft) string { return strconv.Itoa(int(d.policy.GetPriority())) }
	where := []string{"--project=" + project, "--firewall-policy=" + list.ID, "--global-firewall-policy"}
	if region != "" {
		where[2] = "--firewall-policy-region=" + region
	}
	switch {
	case is.policy == nil:
		return append(append(words, "delete", priority(was)), where...)
	case was.policy != nil:
		return append(append(append(words, "update", priority(is)), where...), changed(flags(was), flags(is))...)
	}
	words = append(append(words, "create", priority(is)), where...)
	return append(append(words, "--direction=INGRESS", "--action="+is.policy.GetAction()), flags(is)...)
}

// changed returns the flags of is that are not among those of was.
func changed(was, is []string) []string {
	return slices.DeleteFunc(is, func(f string) bool { return slices.Contains(was, f) })
}

// flags returns what a rule says as flags, but for what it is called and where it stands.
func flags(d draft) []string {
	var out []string
	list := func(flag string, values []string) {
		if len(values) > 0 {
			out = append(out, "--"+flag+"="+gcloudList(values))
		}
	}
	var services []string
	for _, e := range d.entries() {
		if len(e.ports) == 0 {
			services = append(services, e.protocol)
		}
		for _, p := range e.ports {
			services = append(services, e.protocol+":"+p)
		}
	}
	if f := d.vpc; f != nil {
		list("rules", services)
		list("source-ranges", f.GetSourceRanges())
		list("source-tags", f.GetSourceTags())
		list("source-service-accounts", f.GetSourceServiceAccounts())
		list("destination-ranges", f.GetDestinationRanges())
		list("target-tags", f.GetTargetTags())
		list("target-service-accounts", f.GetTargetServiceAccounts())
		if f.GetDescription() != "" {
			out = append(out, "--description="+f.GetDescription())
		}
		return out
	}
	r, m := d.policy, d.policy.GetMatch()
	list("layer4-configs", services)
	list("src-ip-ranges", m.GetSrcIpRanges())
	source, _ := inEffect(m.GetSrcSecureTags())
	list("src-secure-tags", source)
	list("dest-ip-ranges", m.GetDestIpRanges())
	list("dest-address-groups", m.GetDestAddressGroups())
	list("dest-fqdns", m.GetDestFqdns())
	list("dest-region-codes", m.GetDestRegionCodes())
	list("dest-threat-intelligence", m.GetDestThreatIntelligences())
	target, _ := inEffect(r.GetTargetSecureTags())
	list("target-secure-tags", target)
	list("target-service-accounts", r.GetTargetServiceAccounts())
	if r.GetDescription() != "" {
		out = append(out, "--description="+r.GetDescription())
	}
	return out
}

// gcloudList returns values as gcloud takes a list: with commas in between, or with what the list names at its beginning if
// one of the values has a comma (https://cloud.google.com/sdk/gcloud/reference/topic/escaping).
func gcloudList(values []string) string {
	if !strings.HasPrefix(values[0], "^") && !slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, ",") }) {
		return strings.Join(values, ",")
	}
	delimiter := ":"
	for c := '!'; slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, delimiter) }); c++ {
		if c != '^' && c != ',' && unicode.IsPrint(c) {
			delimiter = string(c)
		}
	}
	return "^" + delimiter + "^" + strings.Join(values, delimiter)
}
