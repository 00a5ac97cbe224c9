package sarif

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/cloudaudit/cloudaudit/findings"
)

const (
	informationURI = "https://github.com/cloudaudit/cloudaudit"
	taxonomyName   = "CWE"
)

// driver describes cloudaudit as it audits one provider.
func (w *writer) driver(provider string) toolComponent {
	d := toolComponent{
		Name: "cloudaudit", Organization: "cloudaudit", SemanticVersion: semanticVersion(w.report.Run.Version),
		InformationURI: informationURI,
		ShortDescription: &text{
			Text: "Says which packets from the public internet can reach memcached in a cloud account, and which rule lets them in.",
		},
		SupportedTaxonomies: []toolComponentReference{{Name: taxonomyName}},
		Notifications:       notices(),
	}
	for _, c := range w.checks {
		d.Rules = append(d.Rules, w.rule(c, provider))
	}
	return d
}

// semanticVersion returns v without its "v" if that is a semantic version, and else a version before all others that
// names v: validators and GitHub want a number in front.
func semanticVersion(v string) string {
	v = strings.TrimPrefix(v, "v")
	core, _, _ := strings.Cut(v, "+")
	core, _, _ = strings.Cut(core, "-")
	numbers := strings.Split(core, ".")
	if len(numbers) == 3 && !slices.ContainsFunc(numbers, func(n string) bool { return n == "" || strings.Trim(n, "0123456789") != "" }) {
		return v
	}
	v = strings.Trim(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r|0x20 >= 'a' && r|0x20 <= 'z' {
			return r
		}
		return '-'
	}, v), "-")
	if v == "" {
		v = "unknown"
	}
	return "0.0.0-" + v
}

// rule describes a check.
func (w *writer) rule(c findings.Check, provider string) reportingDescriptor {
	tags := append([]string{"security"}, c.Tags...)
	var relations []relationship
	for _, n := range c.CWE {
		tags = append(tags, fmt.Sprintf("external/cwe/cwe-%03d", n))
		relations = append(relations, relationship{
			Target: relationshipTarget{ID: itoa(n), Index: slices.Index(w.weaknesses, n), ToolComponent: toolComponentReference{Name: taxonomyName}},
			Kinds:  []string{"superset"},
		})
	}
	return reportingDescriptor{
		ID: c.ID, Name: pascal(c.Name),
		ShortDescription:     text{Text: bounded(c.Short, w.limits.description)},
		FullDescription:      text{Text: bounded(c.Short+" "+c.Why, w.limits.description)},
		MessageStrings:       &messageStrings{Default: text{Text: "'{0}' fails this check: " + lower(c.Short)}},
		DefaultConfiguration: &configuration{Level: string(w.level(c.ID, c.Level))},
		HelpURI:              c.Source,
		Help:                 help(c, provider),
		Relationships:        relations,
		Properties:           &reportingDescriptorBag{Tags: tags[:min(len(tags), w.limits.tags)], Precision: c.Precision, SecuritySeverity: c.Severity},
	}
}

// lower returns a sentence as it goes on after a colon.
func lower(s string) string { return strings.ToLower(s[:min(1, len(s))]) + s[min(1, len(s)):] }

// help is for the one who has to mend it. All of it has been written here: nothing in it comes from a cloud.
func help(c findings.Check, provider string) *text {
	const see = "What it is about: "
	plain := []string{c.Why, "How to fix it: " + c.Fix}
	markdown := []string{c.Why, "**How to fix it.** " + c.Fix}
	if tool, show, change := commands(provider); tool != "" && c.ID != findings.NoFirewall && c.ID != findings.Undetermined {
		plain = append(plain, fmt.Sprintf("With %s, look at the rule: %s", tool, show), "and change it: "+change)
		markdown = append(markdown, fmt.Sprintf("With %s, look at the rule and change it:\n\n```sh\n%s\n%s\n```", tool, show, change))
	}
	const exact = "The exact commands for a finding, proved to close nothing else, are among the properties of its result; `cloudaudit scan --fix --dry-run` shows the plan."
	plain, markdown = append(plain, strings.ReplaceAll(exact, "`", "'")), append(markdown, exact)
	plain = append(plain, see+c.Source)
	markdown = append(markdown, fmt.Sprintf("%s<%s>", see, c.Source))
	return &text{Text: strings.Join(plain, "\n"), Markdown: strings.Join(markdown, "\n\n")}
}

// commands returns the commands of a provider's own tool that show a rule and limit it to the clients. There are no braces
// in them: they would have to be doubled, and would be copied so.
func commands(provider string) (tool, show, change string) {
	switch provider {
	case "aws":
		return "the AWS CLI",
			"aws ec2 describe-security-group-rules --region REGION --security-group-rule-ids RULE",
			"aws ec2 authorize-security-group-ingress --region REGION --group-id GROUP --protocol tcp --port 11211 --cidr CLIENTS && aws ec2 revoke-security-group-ingress --region REGION --group-id GROUP --security-group-rule-ids RULE"
	case "gcp":
		return "gcloud",
			"gcloud compute firewall-rules describe RULE --project PROJECT",
			"gcloud compute firewall-rules update RULE --project PROJECT --source-ranges CLIENTS"
	case "do":
		return "doctl",
			"doctl compute firewall get FIREWALL",
			"doctl compute firewall add-rules FIREWALL --inbound-rules protocol:tcp,ports:11211,address:CLIENTS && doctl compute firewall remove-rules FIREWALL --inbound-rules protocol:tcp,ports:11211,address:0.0.0.0/0,address:::/0"
	}
	return "", "", ""
}

// taxonomy lists the weaknesses that the checks name, and no others.
func (w *writer) taxonomy() toolComponent {
	t := toolComponent{
		Name: taxonomyName, Organization: "MITRE", InformationURI: "https://cwe.mitre.org/",
		ShortDescription: &text{Text: "The MITRE Common Weakness Enumeration."},
	}
	for _, n := range w.weaknesses {
		name, title := weakness(n)
		t.Taxa = append(t.Taxa, reportingDescriptor{
			ID: itoa(n), Name: name,
			ShortDescription: text{Text: title + "."},
			FullDescription:  text{Text: fmt.Sprintf("CWE-%d: %s.", n, title)},
			HelpURI:          fmt.Sprintf("https://cwe.mitre.org/data/definitions/%d.html", n),
		})
	}
	return t
}

// weakness returns a name for an entry of the Common Weakness Enumeration, and its title there.
func weakness(n int) (name, title string) {
	switch n {
	case 284:
		return "ImproperAccessControl", "Improper Access Control"
	case 306:
		return "MissingAuthentication", "Missing Authentication for Critical Function"
	case 406:
		return "NetworkAmplification", "Insufficient Control of Network Message Volume (Network Amplification)"
	}
	return fmt.Sprintf("Weakness%d", n), fmt.Sprintf("Weakness %d", n)
}

// The notices, by their positions in notices.
const (
	scopeUnread = iota
	partUnread
	limitReached
	scopeLeftOut
	shardsMissing
	configurationNotice
)

// notices describes what a run may have to say of itself. Their ids are apart from those of checks.
func notices() []reportingDescriptor {
	notice := func(id, name, short, full, advice string) reportingDescriptor {
		return reportingDescriptor{
			ID: id, Name: name, ShortDescription: text{Text: short}, FullDescription: text{Text: short + " " + full},
			HelpURI: informationURI, Help: &text{Text: full + " " + advice, Markdown: full + "\n\n" + advice},
		}
	}
	return []reportingDescriptor{
		notice("CA901", "ScopeUnread", "A scope could not be read at all.",
			"Nothing is known of it: that a run has no results does not mean that it is clean.",
			"Grant what the other notifications name, and scan again."),
		notice("CA902", "PartUnread", "A part of a scope could not be read.",
			"What hangs on it is reported as undetermined, and what it alone would have shown is missing.",
			"Grant what the notification names, and scan again."),
		notice("CA903", "LimitReached", "The run has more than code scanning takes.",
			"What is left out is the least severe.",
			"Look at the JSON report, which has everything, or scan fewer scopes into one file."),
		notice("CA904", "ScopeLeftOut", "A scope that was asked for has no run in this file.",
			"Code scanning leaves the alerts of a scope as they are if a file has no run for it.",
			"Scan the scope again once it can be read, or into a file of its own."),
		notice("CA905", "ShardsMissing", "The file is about a share of the scopes only.",
			"Nothing is known here of the other shards: that they have no results does not mean that they are clean.",
			"Merge the reports of all shards."),
		notice("CA906", "ConfigurationNotice", "The configuration needs a look.",
			"An ignore that has expired hides nothing any more: what it was for counts again.",
			"Mend what was ignored, or give the ignore a new day and say why."),
	}
}

// pascal returns name with no more than two capitals in a row, as sarif-multitool's rule SARIF2012 wants Pascal case:
// MemcachedAnswersTCP becomes MemcachedAnswersTcp.
func pascal(name string) string {
	from := []rune(name)
	to := slices.Clone(from)
	for i := 1; i < len(from); i++ {
		word := i+1 < len(from) && unicode.IsLower(from[i+1]) // from[i] begins one
		if unicode.IsUpper(from[i]) && unicode.IsUpper(from[i-1]) && !word {
			to[i] = unicode.ToLower(from[i])
		}
	}
	return string(to)
}
