package sarif

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
)

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"sgr-1 (tcp/11211), [x] < 5":   "sgr-1 (tcp/11211), [x] < 5",
		"[here](1) ![i](http://x)":     "[here] (1) ![i] (http://x)",
		"]((":                          "] ((",
		"<b>x</b><!-- --><?p?><3>":     "< b>x< /b>< !-- -->< ?p?><3>",
		"<https://evil.example>":       "< https://evil.example>",
		"{0} and {{1}}":                "{{0}} and {{{{1}}}}",
		"a\x1b[31m]\u202e(x)":          `a\u{{1b}}[31m]\u{{202e}}(x)`,
		"]\u200b(1)":                   `]\u{{200b}}(1)`,
		`back\slash \[not a link\](1)`: `back\slash \[not a link\] (1)`,
	} {
		if got := plain(in); got != want {
			t.Errorf("plain(%q) = %q, want %q", in, got, want)
		}
	}
	if got, want := link(`a[0]\b`, 7), `[a\[0\]\\b](7)`; got != want {
		t.Errorf("link = %q, want %q", got, want)
	}
	if got := sentence("It is open."); got != "It is open." {
		t.Errorf("sentence = %q", got)
	}
	if got := sentence(strings.Repeat("\u202e", 2*maxMessage)); strings.Count(got, "202e") != maxMessage || !strings.HasSuffix(got, "}}….") {
		t.Errorf("a long sentence ends in %q", got[len(got)-20:])
	}
}

func checkText(t interface{ Fatalf(string, ...any) }, s string) {
	got := sentence(s)
	if !utf8.ValidString(got) || !strings.HasSuffix(got, ".") || strings.ContainsAny(got, "\n\r\x1b\u202e") {
		t.Fatalf("sentence(%q) = %q", s, got)
	}
	if embedded.MatchString(got) || strings.Contains(got, "](") {
		t.Fatalf("sentence(%q) = %q has a link", s, got)
	}
	for i := range len(got) - 1 {
		if got[i] == '<' && opensTag(got[i+1]) {
			t.Fatalf("sentence(%q) = %q has a tag", s, got)
		}
	}
	if rest := strings.NewReplacer("{{", "", "}}", "").Replace(got); strings.ContainsAny(rest, "{}") {
		t.Fatalf("sentence(%q) = %q has a placeholder", s, got)
	}
	// Read as a viewer reads it, the link has one destination, whatever its text.
	text := plain(s)
	l := link(text, 3)
	inner := strings.TrimSuffix(strings.TrimPrefix(l, "["), "](3)")
	if undone, ok := unescaped(inner); !ok || undone != text {
		t.Fatalf("link(%q) = %q reads as %q", text, l, undone)
	}
	for _, m := range embedded.FindAllStringSubmatch(l, -1) {
		if m[2] != "3" {
			t.Fatalf("link(%q) = %q leads to %q", text, l, m[2])
		}
	}
}

// unescaped reads the text of a link by the grammar of SARIF 2.1.0 §3.11.6; it is false for what the grammar does not have.
func unescaped(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '[', ']':
			return "", false
		case '\\':
			i++
			if i == len(s) || !strings.ContainsRune(`\[]`, rune(s[i])) {
				return "", false
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), true
}

func TestTextLaws(t *testing.T) {
	hostile := rapid.Map(rapid.SliceOf(rapid.OneOf(
		rapid.String(),
		rapid.SampledFrom([]string{"[", "]", "(", ")", "](", "\\", "{", "}", "{0}", "<", "</", "<!", "a", "1", "'", ".", "\n", "\x1b", "\u202e", "\xff", "https://x"}),
	)), func(parts []string) string { return strings.Join(parts, "") })
	rapid.Check(t, func(t *rapid.T) { checkText(t, hostile.Draw(t, "text")) })
}

func FuzzText(f *testing.F) {
	f.Add("[a](1)<b>{0}\u202e\\]")
	f.Fuzz(func(t *testing.T, s string) { checkText(t, s) })
}

// TestHostile puts hostile text wherever a cloud may put text, and holds the file to the laws of links.
func TestHostile(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		word := rapid.SampledFrom([]string{"']", "'a'", "[", "](1)", "](2)", "\\", "{0}", "'", "b", " ", "x](http://e)", "<b", "\u2066", "."})
		draw := func(label string) string {
			return strings.Join(rapid.SliceOfN(word, 1, 6).Draw(rt, label), "")
		}
		r := many(1, 3)
		for i := range r.Findings {
			f := &r.Findings[i]
			f.Subject.ID, f.Subject.Name, f.Subject.List = draw("id"), draw("name"), draw("list")
			f.With = []string{draw("with"), draw("with"), draw("with")}
			f.Location = nil
			f.Message = "Rule '" + f.Subject.ID + "' of '" + draw("list name") + "' is open; so do '" + strings.Join(f.With, "', '") + "'."
			f.Path = []findings.Step{{Stage: "internet", Text: draw("step")}}
		}
		for _, p := range []Profile{Full, GitHub} {
			for _, run := range parsed(rt, r, p).Runs {
				for _, x := range run.Results {
					checkLinks(rt, string(p), x)
				}
			}
		}
	})
}

func TestPhysical(t *testing.T) {
	for _, tc := range []struct {
		file, line string
		n          int
		uri, text  string
		end        int
	}{
		{"main.tf", "a = 1", 3, "main.tf", "a = 1", 6},
		{"./a//b/../main.tf", "", 3, "a/main.tf", "", 1},
		{"mod:ules/ü x%.tf", "é\U0001D4B3e\u0301", 1, "mod%3Aules/%C3%BC%20x%25.tf", "é\U0001D4B3e\u0301", 6},
		{"bom.tf", "\ufeffx", 1, "bom.tf", "x", 2},
		{"bom.tf", "\ufeffx", 2, "bom.tf", "\ufeffx", 3},
		{"long.tf", strings.Repeat("é", 5000), 0, "long.tf", strings.Repeat("é", maxSnippet), maxSnippet + 1},
	} {
		p, err := physical(findings.Location{File: tc.file, Line: tc.n, Text: tc.line})
		if err != nil {
			t.Errorf("%s: %v", tc.file, err)
			continue
		}
		r := p.Region
		if p.ArtifactLocation.URI != tc.uri || r.Snippet.Text != tc.text || r.EndColumn != tc.end || r.StartLine != max(tc.n, 1) || r.EndLine != r.StartLine || r.StartColumn != 1 {
			t.Errorf("%s %q: %+v", tc.file, tc.line, p)
		}
		if c := p.inContext().ContextRegion; (c == nil) != (tc.file == "long.tf") || c != nil && c.EndLine != r.EndLine+1 {
			t.Errorf("%s: context %+v", tc.file, c)
		}
	}
}

func TestQualified(t *testing.T) {
	aws := cloud.Scope{Provider: "aws", Account: "111122223333", Region: "eu-west-1"}
	china := cloud.Scope{Provider: "aws", Account: "1", Region: "cn-north-1"}
	secret := cloud.Scope{Provider: "aws", Account: "1", Region: "us-isob-east-1"}
	gcp := cloud.Scope{Provider: "gcp", Account: "shop"}
	regional := cloud.Scope{Provider: "gcp", Account: "shop", Region: "europe-west1"}
	organization := cloud.Scope{Provider: "gcp", Account: "organization"}
	do := cloud.Scope{Provider: "do", Account: "team"}
	host := cloud.Scope{Provider: "host", Account: "web1"}
	for _, tc := range []struct {
		ref  cloud.Ref
		want string
	}{
		{aws.Ref("security-group-rule", "sgr-1"), "arn:aws:ec2:eu-west-1:111122223333:security-group-rule/sgr-1"},
		{aws.Ref("security-group-rule", "sg-1#3"), "arn:aws:ec2:eu-west-1:111122223333:security-group/sg-1#3"},
		{aws.Ref("network-interface", "eni-1"), "arn:aws:ec2:eu-west-1:111122223333:network-interface/eni-1"},
		{aws.Ref("load-balancer", "arn:aws:elasticloadbalancing:x"), "arn:aws:elasticloadbalancing:x"},
		{aws.Ref("lightsail-instance", "web"), "aws:111122223333/eu-west-1/lightsail-instance/web"},
		{china.Ref("security-group", "sg-1"), "arn:aws-cn:ec2:cn-north-1:1:security-group/sg-1"},
		{secret.Ref("security-group", "sg-1"), "arn:aws-iso-b:ec2:us-isob-east-1:1:security-group/sg-1"},
		{gcp.Ref("firewall", "allow"), "//compute.googleapis.com/projects/shop/global/firewalls/allow"},
		{gcp.Ref("network", "default"), "//compute.googleapis.com/projects/shop/global/networks/default"},
		{gcp.Ref("firewall-policy-rule", "p/100"), "//compute.googleapis.com/projects/shop/global/firewallPolicies/p/100"},
		{regional.Ref("network-firewall-policy", "p"), "//compute.googleapis.com/projects/shop/regions/europe-west1/firewallPolicies/p"},
		{organization.Ref("firewall-policy", "123"), "//compute.googleapis.com/locations/global/firewallPolicies/123"},
		{organization.Ref("firewall-policy-rule", "123/5"), "//compute.googleapis.com/locations/global/firewallPolicies/123/5"},
		{gcp.Ref("instance", "4411"), "gcp:shop/instance/4411"},
		{do.Ref("firewall-rule", "fw-1#0"), "do:firewall/fw-1#0"},
		{do.Ref("droplet", "3001"), "do:droplet/3001"},
		{host.Ref("listener", "0.0.0.0:11211"), "host:web1/listener/0.0.0.0:11211"},
	} {
		if got := qualified(tc.ref); got != tc.want {
			t.Errorf("%s is %q, want %q", tc.ref, got, tc.want)
		}
	}
}

func TestSemanticVersion(t *testing.T) {
	for in, want := range map[string]string{
		"v1.2.3": "1.2.3", "0.1.0-3-gabc-dirty": "0.1.0-3-gabc-dirty", "v0.0.0-20261124-abc+dirty": "0.0.0-20261124-abc+dirty",
		"": "0.0.0-unknown", "devel-52f0a0c": "0.0.0-devel-52f0a0c", "52f0a0c": "0.0.0-52f0a0c", "(devel)": "0.0.0-devel", "1.2": "0.0.0-1-2",
	} {
		if got := semanticVersion(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

// TestRules holds the descriptions to what code scanning takes.
func TestRules(t *testing.T) {
	for _, provider := range []string{"aws", "gcp", "do", "host"} {
		w := writer{report: report(), profile: GitHub, limits: limitsOf(GitHub), checks: findings.Checks(), weaknesses: []int{284, 306, 406}}
		d := w.driver(provider)
		for i, r := range append(d.Rules, d.Notifications...) {
			for _, text := range []string{r.ShortDescription.Text, r.FullDescription.Text, r.Help.Text, r.Help.Markdown} {
				if text == "" || strings.ContainsAny(text, "{}") {
					t.Errorf("%s: text %q", r.ID, text)
				}
			}
			if n := len(r.FullDescription.Text); n > 1024 {
				t.Errorf("%s: the full description has %d characters", r.ID, n)
			}
			if strings.Contains(r.Help.Markdown, "```") != (i < len(d.Rules) && provider != "host" && r.ID != findings.NoFirewall && r.ID != findings.Undetermined) {
				t.Errorf("%s for %s: commands in %q", r.ID, provider, r.Help.Markdown)
			}
			for _, rel := range r.Relationships {
				if taxa := w.taxonomy().Taxa; taxa[rel.Target.Index].ID != rel.Target.ID || strings.HasPrefix(taxa[rel.Target.Index].Name, "Weakness") {
					t.Errorf("%s: weakness %s is %+v", r.ID, rel.Target.ID, taxa[rel.Target.Index])
				}
			}
			if r.Properties != nil && len(r.Properties.Tags) > 10 {
				t.Errorf("%s: %d tags", r.ID, len(r.Properties.Tags))
			}
		}
	}
}

func TestPascal(t *testing.T) {
	for name, want := range map[string]string{
		"MemcachedAnswersTCP": "MemcachedAnswersTcp", "HostUDPEnabled": "HostUdpEnabled", "NoFirewall": "NoFirewall", "A": "A", "": "",
	} {
		if got := pascal(name); got != want {
			t.Errorf("pascal(%q) is %q, want %q", name, got, want)
		}
	}
}
