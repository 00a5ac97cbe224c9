package cloud

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/cloudaudit/cloudaudit/traffic"
)

// Edit is a hunk: in one list, New rules take the place of Old rules. It is a plain value, applies to the model as well as
// to the cloud, and its inverse undoes it.
type Edit struct {
	List Ref    `json:"list"`
	Old  []Rule `json:"old,omitempty"`
	New  []Rule `json:"new,omitempty"`
	// At names a rule of the list that new rules are asked before, where none of them takes the place of an old one. It also
	// says whom they concern: the same endpoints as the rule. The zero Ref leaves the place open.
	At Ref `json:"at,omitzero"`
	// Base is the Digest of the list that the edit starts from; if the list has another, it has changed since. An empty
	// Base asks only that the old rules are there.
	Base string `json:"base,omitempty"`
	// Guard is set where the edit makes a list, or takes a list away that such an edit made.
	Guard *Guard `json:"guard,omitempty"`
}

// Guard says of a list in front of what it is put: endpoints that no list protects.
type Guard struct {
	Name      string `json:"name"` // of the new list
	Endpoints []Ref  `json:"endpoints"`
	Was       *List  `json:"was"` // the implied list that stood there
}

// Inverse returns the edit that undoes e. It has no Base.
func (e Edit) Inverse() Edit {
	e.Old, e.New, e.Base = e.New, e.Old, ""
	return e
}

// Part is which rules of a list stand in a copy of it. Several values with the Ref of one list stand for it where the parts
// of it have different places in a layer, such as denies before the allows of any other list.
type Part string

// The parts. The zero Part is the list as it is, or those rules of it that concern one endpoint.
const (
	Denies Part = "deny"
	Allows Part = "allow"
)

// takes says whether a rule that is new in the list belongs in a copy with part p.
func (p Part) takes(r *Rule) bool {
	switch p {
	case Denies:
		return r.Verdict == Deny
	case Allows:
		return r.Verdict != Deny
	}
	return true
}

// Is says whether s is r as the cloud shows it: the native form has all that r's has, with the same values, arrays in any
// order. Rules without a native form are the same if they say the same of the same packets. Ids do not matter, for a rule
// that is planned has none yet, and in some clouds an id is a position.
func (r *Rule) Is(s *Rule) bool {
	if r.Native == nil || s.Native == nil {
		return r.Verdict == s.Verdict && r.Match.Equal(s.Match) && r.Maybe.Equal(s.Maybe)
	}
	if bytes.Equal(r.Native, s.Native) {
		return true
	}
	var want, have any
	if json.Unmarshal(r.Native, &want) != nil || json.Unmarshal(s.Native, &have) != nil {
		return bytes.Equal(r.Native, s.Native)
	}
	wanted, ok1 := want.(map[string]any)
	had, ok2 := have.(map[string]any)
	if !ok1 || !ok2 {
		return bytes.Equal(canonical(want), canonical(have))
	}
	for name, value := range wanted {
		if !bytes.Equal(canonical(value), canonical(had[name])) {
			return false
		}
	}
	return true
}

// canonical encodes a decoded JSON value with the elements of arrays in order.
func canonical(v any) []byte {
	switch v := v.(type) {
	case []any:
		parts := make([][]byte, len(v))
		for i := range v {
			parts[i] = canonical(v[i])
		}
		slices.SortFunc(parts, bytes.Compare)
		return append(append([]byte{'['}, bytes.Join(parts, []byte{','})...), ']')
	case map[string]any:
		parts := make([][]byte, 0, len(v))
		for name, value := range v {
			key, _ := json.Marshal(name) // a string: it never fails
			parts = append(parts, append(append(key, ':'), canonical(value)...))
		}
		slices.SortFunc(parts, bytes.Compare)
		return append(append([]byte{'{'}, bytes.Join(parts, []byte{','})...), '}')
	}
	out, _ := json.Marshal(v) // it was decoded from JSON: it never fails
	return out
}

// Digest returns a hash of what the rules of l are in the cloud, whatever their order and their ids.
func (l *List) Digest() string {
	parts := make([][]byte, 0, len(l.Rules))
	for i := range l.Rules {
		r := &l.Rules[i]
		var native any
		text := []byte(r.Verdict.String() + " " + r.Match.String() + " " + r.Maybe.String())
		if r.Native != nil && json.Unmarshal(r.Native, &native) == nil {
			text = canonical(native)
		}
		parts = append(parts, text)
	}
	slices.SortFunc(parts, bytes.Compare)
	sum := sha256.Sum256(bytes.Join(parts, []byte{'\n'}))
	return hex.EncodeToString(sum[:16])
}

// Find returns the position in l of the rule that r is, or -1. Among several that r may be, the one with the id of r.
func (l *List) Find(r *Rule) int {
	found := -1
	for i := range l.Rules {
		if r.Is(&l.Rules[i]) {
			if l.Rules[i].Ref == r.Ref {
				return i
			}
			if found < 0 {
				found = i
			}
		}
	}
	return found
}

// With returns l after e. Old rules that l does not hold are no error: a copy may hold some only. A new rule with the id of
// an old one takes its place; others follow the one before them; and where there is no such place they come before e.At, or
// else denies first and all others last.
func (l *List) With(e Edit) *List {
	copied := *l
	out := &copied
	out.Rules = slices.Clone(l.Rules)
	place := -1 // where the first old rule was
	vacant := map[Ref]int{}
	for i := range e.Old {
		if at := out.Find(&e.Old[i]); at >= 0 {
			out.Rules = slices.Delete(out.Rules, at, at+1)
			for ref, p := range vacant {
				if p > at {
					vacant[ref] = p - 1
				}
			}
			vacant[e.Old[i].Ref] = at
			if place < 0 || at < place {
				place = at
			}
		}
	}
	if place < 0 && !e.At.IsZero() {
		place = slices.IndexFunc(out.Rules, func(r Rule) bool { return r.Ref == e.At })
	}
	next := place
	for i := range e.New {
		r := &e.New[i]
		if !l.Part.takes(r) {
			continue
		}
		at := next
		if p, ok := vacant[r.Ref]; ok {
			at = p
		}
		if at < 0 {
			at = len(out.Rules)
			if r.Verdict == Deny {
				at = 0
			}
		} else {
			next = at + 1
		}
		out.Rules = slices.Insert(out.Rules, at, *r)
		for ref, p := range vacant {
			if p >= at && ref != r.Ref {
				vacant[ref] = p + 1
			}
		}
	}
	return out
}

// concerns says whether e changes l, which may be a copy that holds only what concerns one endpoint: an edit that names
// rules, by Old or At, concerns whom those rules concern.
func (e *Edit) concerns(l *List) bool {
	switch {
	case l.Ref != e.List:
		return false
	case l.Part != "" || len(e.Old) == 0 && e.At.IsZero():
		return true
	}
	return slices.ContainsFunc(e.Old, func(r Rule) bool { return l.Find(&r) >= 0 }) ||
		slices.ContainsFunc(l.Rules, func(r Rule) bool { return r.Ref == e.At })
}

// With returns s after e, which every value with the Ref of the edited list takes as far as it holds the list: the whole
// list among s.Lists takes all, parts take the new rules of their verdict, and copies that hold the rules of one endpoint
// take new rules with the rules whose place they take. What e does not change is shared with s.
func (s *Snapshot) With(e Edit) *Snapshot {
	changed := map[*List]*List{}
	edited := func(l *List) *List {
		if !e.concerns(l) {
			return l
		}
		if changed[l] == nil {
			changed[l] = l.With(e)
		}
		return changed[l]
	}
	out := *s
	out.Lists = make([]*List, 0, len(s.Lists)+1)
	gone := e.Guard != nil && len(e.New) == 0
	for _, l := range s.Lists {
		if !gone || l.Ref != e.List {
			out.Lists = append(out.Lists, edited(l))
		}
	}
	guard := func(lists []*List) []*List { return lists }
	if e.Guard != nil {
		denies, allows := &List{Ref: e.List, Name: e.Guard.Name, Part: Denies}, &List{Ref: e.List, Name: e.Guard.Name, Part: Allows}
		if !gone {
			whole := (&List{Ref: e.List, Name: e.Guard.Name}).With(e)
			at, _ := slices.BinarySearchFunc(out.Lists, whole, func(a, b *List) int { return a.Ref.Compare(b.Ref) })
			out.Lists = slices.Insert(out.Lists, at, whole)
			denies, allows = denies.With(e), allows.With(e)
		}
		guard = func(lists []*List) []*List {
			if gone && slices.ContainsFunc(lists, func(l *List) bool { return l.Ref == e.List }) {
				return []*List{e.Guard.Was}
			}
			if !gone && slices.ContainsFunc(lists, func(l *List) bool { return l.Ref == e.Guard.Was.Ref }) {
				return []*List{denies, allows}
			}
			return lists
		}
	}
	replace := func(lists []*List) []*List {
		if !slices.ContainsFunc(lists, e.concerns) {
			return lists
		}
		lists = slices.Clone(lists)
		for i := range lists {
			lists[i] = edited(lists[i])
		}
		return lists
	}
	out.Endpoints = slices.Clone(s.Endpoints)
	for i := range out.Endpoints {
		endpoint := &out.Endpoints[i]
		guarded := e.Guard != nil && slices.Contains(e.Guard.Endpoints, endpoint.Ref)
		endpoint.Hops = slices.Clone(endpoint.Hops)
		for h := range endpoint.Hops {
			layers := slices.Clone(endpoint.Hops[h].Layers)
			for l := range layers {
				layers[l].Lists, layers[l].Reply = replace(layers[l].Lists), replace(layers[l].Reply)
				if guarded {
					layers[l].Lists = guard(layers[l].Lists)
				}
			}
			endpoint.Hops[h].Layers = layers
		}
	}
	return &out
}

// Admits returns what l admits of packets, for certain and at most.
func (l *Layer) Admits(packets traffic.Set) (certain, possible traffic.Set) {
	certain = must.walk(l.Lists, 0, packets).admitted
	if doubtful(l.Lists, packets) == nil {
		return certain, certain
	}
	return certain, may.walk(l.Lists, 0, packets).admitted
}
