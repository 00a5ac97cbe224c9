package config

// kind is what the value of a key is.
type kind uint8

const (
	text     kind = iota // a string; a number is taken as it is written
	texts                // one text, or a list of them
	truth                // true or false
	whole                // an integer that is not negative
	number               // a number that is not negative
	duration             // such as 10m
	date                 // as 2006-01-02
	network              // a prefix, an address, or a list of them separated by commas
	choice               // one of key.choices
	choices              // a list of them, or one
	object               // a mapping of key.keys
	objects              // a list of such mappings
)

// key is one key of the file. The loader and the schema are both made of this table, so that they cannot disagree.
type key struct {
	name     string
	kind     kind
	about    string // one sentence
	choices  []string
	keys     []key
	required bool
	flag     string // of scan, that a key of a section stands for; "" for none
	// oneOf names keys of an object of which exactly one has to be there; anyOf those of which at least one has to.
	oneOf, anyOf []string
}

// flags are the keys that stand for a flag of scan with the same name.
func flags() []key {
	levels := []string{"error", "warning", "note"}
	return []key{
		{name: "provider", kind: choices, choices: []string{"aws", "do", "gcp"}, about: "Clouds to read; without it every one for which there are credentials."},
		{name: "region", kind: texts, about: "AWS regions; without it all that are enabled."},
		{name: "profile", kind: text, about: "AWS profile of the shared configuration."},
		{name: "organization", kind: truth, about: "Read every active account of the AWS organisation, through role."},
		{name: "role", kind: text, about: "Name of the role to assume in each account of the AWS organisation."},
		{name: "project", kind: texts, about: "Google Cloud projects."},
		{name: "folder", kind: texts, about: "Numbers of Google Cloud folders: every active project below them."},
		{name: "organization-id", kind: texts, about: "Numbers of Google Cloud organisations: every active project below them."},
		{name: "concurrency", kind: whole, about: "Scopes that are read at the same time."},
		{name: "timeout", kind: duration, about: "Stop reading after this time, and report what was read."},
		{name: "snapshot", kind: texts, about: "Judge these files instead of reading any cloud."},
		{name: "shard", kind: text, about: "Read only this part of the scopes, such as 2/4."},
		{name: "port", kind: texts, about: "Ports of memcached, and ranges of them."},
		{name: "do-platform-block", kind: truth, about: "Assume that DigitalOcean's own network blocks port 11211 from outside."},
		{name: "format", kind: choice, choices: []string{"text", "json", "sarif", "html", "markdown"}, about: "Format of standard output."},
		{name: "output", kind: texts, about: "Files to write besides, as format=path."},
		{name: "sarif-profile", kind: choice, choices: []string{"full", "github"}, about: "For whom SARIF is written."},
		{name: "severity", kind: choice, choices: levels, about: "Show findings of this level and above."},
		{name: "fail-on", kind: choice, choices: levels, about: "Exit with status 1 on findings of this level and above."},
		{name: "allow-partial", kind: truth, about: "Exit with status 0 instead of 3 if something could not be read."},
		{name: "baseline", kind: text, about: "An earlier JSON or SARIF report to compare with."},
		{name: "new-only", kind: truth, about: "Show and gate findings only that the baseline does not have."},
		{name: "probe", kind: truth, about: "Ask what is open whether memcached answers."},
		{name: "probe-allow", kind: texts, about: "Networks to which the probe is limited."},
		{name: "probe-rate", kind: number, about: "Addresses that are asked in a second."},
		{name: "probe-timeout", kind: duration, about: "Time for a connect, a conversation, a reply."},
		{name: "probe-measure", kind: truth, about: "Measure the amplification with one request of 15 bytes."},
		{name: "probe-control", kind: text, about: "An address that is known to answer."},
		{name: "fix", kind: truth, about: "Close what was found; better given by hand than here."},
		{name: "dry-run", kind: truth, about: "With fix: show the plan and write nothing."},
		{name: "plan", kind: text, about: "With fix: the file of the plan."},
		{name: "yes", kind: truth, about: "With fix: do not ask."},
		{name: "max-changes", kind: whole, about: "With fix: write nothing if the plan makes more changes."},
		{name: "allow-loss", kind: truth, about: "With fix: also make changes that close more than was asked."},
		{name: "attach-firewall", kind: truth, about: "With fix: also put a firewall in front of droplets that have none."},
		{name: "fix-owned", kind: truth, about: "With fix: also change what a controller owns."},
		{name: "keep-private", kind: texts, about: "With fix: private sources that keep their access: auto, none, or networks."},
		{name: "journal", kind: text, about: "With fix: the file that undoes it."},
		{name: "confirm-within", kind: duration, about: "With fix: undo everything after this time unless it is confirmed."},
		{name: "metrics", kind: text, about: "The file for the textfile collector of Prometheus' node exporter."},
		{name: "quiet", kind: truth, about: "Write nothing to standard output if nothing is new, cleared or incomplete."},
		{name: "progress", kind: choice, choices: []string{"auto", "never"}, about: "Show progress on a terminal."},
		{name: "color", kind: choice, choices: []string{"auto", "never", "always"}, about: "Colour on a terminal."},
		{name: "log-level", kind: choice, choices: []string{"trace", "debug", "info", "warn", "error", "off"}, about: "Level of the log."},
		{name: "log-format", kind: choice, choices: []string{"text", "json"}, about: "Format of the log."},
	}
}

// sections are the keys that no flag stands for.
func sections() []key {
	address := []key{
		{name: "url", kind: text, about: "The address."},
		{name: "url_from_env", kind: text, about: "The environment variable that holds the address, where that is a secret."},
	}
	return []key{
		{name: "ignores", kind: objects, about: "Findings that are shown as ignored and do not gate, until a day.", anyOf: []string{"rule", "resource", "source"}, keys: []key{
			{name: "rule", kind: text, about: "The id of the check, such as CA110, or of the rule in the cloud, such as sgr-0a1b."},
			{name: "resource", kind: text, about: "The id or name of the group, firewall, interface, instance or droplet."},
			{name: "source", kind: network, about: "Networks: what the rule admits has to be within them."},
			{name: "reason", kind: text, about: "Why it is ignored.", required: true},
			{name: "expires", kind: date, about: "The last day, in UTC, on which it is ignored.", required: true},
		}},
		{name: "notifications", kind: objects, about: "Who is told of a run.", oneOf: []string{"url", "url_from_env"}, keys: append(address,
			key{name: "on", kind: choices, choices: []string{"new", "cleared", "incomplete"}, about: "What it is told of; without it, of all."},
			key{name: "title", kind: text, about: "The title of its messages."},
		)},
		{name: "state", kind: object, about: "Where scheduled runs keep the baseline and their reports.", keys: []key{
			{name: "directory", kind: text, about: "The directory.", required: true, flag: "state-dir"},
			{name: "keep-reports", kind: whole, about: "How many reports are kept; 0 is all.", flag: "retain"},
			{name: "keep-days", kind: whole, about: "For how many days reports are kept; 0 is for ever."},
		}},
		{name: "heartbeat", kind: object, about: "An address that is asked after every run that has ended, so that its absence is noticed.", oneOf: []string{"url", "url_from_env"}, flag: "heartbeat", keys: address},
	}
}

func root() key {
	return key{kind: object, keys: append(flags(), sections()...)}
}

// Flags returns the names of the flags of scan that a key stands for: one with the same name, or one of a section.
func Flags() []string {
	var out []string
	for _, k := range flags() {
		out = append(out, k.name)
	}
	for _, section := range sections() {
		for _, k := range append([]key{section}, section.keys...) {
			if k.flag != "" {
				out = append(out, k.flag)
			}
		}
	}
	return out
}
