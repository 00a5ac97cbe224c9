package findings

import "slices"

// Fix is a way to close what a finding is about and nothing else: what `scan --fix` does, as commands of the vendor's tool.
type Fix struct {
	Name     string   `json:"name"`     // such as "deny rules"
	List     string   `json:"list"`     // the id of what is changed, such as a security group
	Changes  int      `json:"changes"`  // writes
	Commands []string `json:"commands"` // for a POSIX shell, one a line, in order; what they name is quoted
	Proof    []string `json:"proof"`    // what is closed, kept and lost, in sentences
	Loss     string   `json:"loss,omitempty"`
	Flag     string   `json:"flag,omitempty"` // what consents to it, besides --fix
	Closes   []string `json:"closes"`         // the fingerprints of all findings that it closes, this one among them
}

// NoFix says why cloudaudit does not mend a finding.
type NoFix struct {
	Reason  string `json:"reason"`
	Instead string `json:"instead,omitempty"` // what to do about it
}

// Repair is what a fix has done.
type Repair struct {
	Plan    string     `json:"plan"`              // its id
	Journal string     `json:"journal,omitempty"` // the path of the file that undoes it
	Results []Repaired `json:"results"`
	// Error is why the fix ended before its end, such as a journal that could not be written.
	Error string `json:"error,omitempty"`
}

// Repaired is what became of a list and of the findings that its change was to close.
type Repaired struct {
	State    string  `json:"state"` // fixed, partial, drifted, skipped or failed
	Reason   string  `json:"reason,omitempty"`
	List     Subject `json:"list"`
	Findings []Brief `json:"findings"` // as they were before
}

// Brief is a finding without its evidence.
type Brief struct {
	RuleID      string  `json:"rule_id"`
	Level       Level   `json:"level"`
	Subject     Subject `json:"subject"`
	Message     string  `json:"message"`
	Fingerprint string  `json:"fingerprint"`
}

// Brief returns f without its evidence.
func (f *Finding) Brief() Brief {
	return Brief{RuleID: f.RuleID, Level: f.Level, Subject: f.Subject, Message: f.Message, Fingerprint: f.Fingerprint}
}

// OK says whether everything that was to be done is done and verified.
func (r *Repair) OK() bool {
	return r.Error == "" && !slices.ContainsFunc(r.Results, func(x Repaired) bool { return x.State != "fixed" })
}

// Fixed counts the findings that are closed and verified.
func (r *Repair) Fixed() int {
	n := 0
	for _, x := range r.Results {
		if x.State == "fixed" || x.State == "drifted" {
			n += len(x.Findings)
		}
	}
	return n
}
