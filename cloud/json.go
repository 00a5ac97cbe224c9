package cloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/cloudaudit/cloudaudit/traffic"
)

// SnapshotSchema names the JSON form that WriteSnapshots writes.
const SnapshotSchema = "cloudaudit.snapshot/v1"

// WriteSnapshots writes snapshots as one JSON document. A list stands in it once; layers refer to it by its position.
func WriteSnapshots(w io.Writer, snapshots []*Snapshot) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	return enc.Encode(struct {
		Schema    string      `json:"schema"`
		Snapshots []*Snapshot `json:"snapshots"`
	}{SnapshotSchema, snapshots})
}

// ReadSnapshots reads what WriteSnapshots wrote.
func ReadSnapshots(r io.Reader) ([]*Snapshot, error) {
	var doc struct {
		Schema    string      `json:"schema"`
		Snapshots []*Snapshot `json:"snapshots"`
	}
	dec := json.NewDecoder(r)
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	if doc.Schema != SnapshotSchema {
		return nil, fmt.Errorf("snapshot: schema is %q, want %q", doc.Schema, SnapshotSchema)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("snapshot: something follows the document")
	}
	for i, s := range doc.Snapshots {
		if s == nil {
			return nil, fmt.Errorf("snapshot: entry %d is null", i)
		}
	}
	return doc.Snapshots, nil
}

// The JSON forms differ from the values in one thing: a layer names its lists by their position in the snapshot.
type (
	jsonSnapshot struct {
		Scope     Scope          `json:"scope"`
		Listed    int            `json:"listed"` // the first so many lists are Snapshot.Lists; the others stand in layers only
		Lists     []*List        `json:"lists"`
		Endpoints []jsonEndpoint `json:"endpoints"`
		Gaps      []Gap          `json:"gaps,omitempty"`
		Skipped   bool           `json:"skipped,omitempty"`
	}
	jsonEndpoint struct {
		Ref      Ref            `json:"ref"`
		Name     string         `json:"name,omitempty"`
		Instance string         `json:"instance,omitempty"`
		Family   traffic.Family `json:"family"`
		Addr     netip.Addr     `json:"addr,omitzero"`
		Prefix   netip.Prefix   `json:"prefix,omitzero"`
		Host     string         `json:"host,omitempty"`
		Public   bool           `json:"public"`
		Via      Ref            `json:"via,omitzero"`
		Hops     []jsonHop      `json:"hops"`
		Assumes  []string       `json:"assumes,omitempty"`
		NoProbe  bool           `json:"no_probe,omitempty"`
	}
	jsonHop struct {
		Ref     Ref            `json:"ref"`
		Name    string         `json:"name,omitempty"`
		Layers  []jsonLayer    `json:"layers"`
		Forward []Forward      `json:"forward,omitzero"` // empty is not nil: it maps nothing
		Source  []netip.Prefix `json:"source,omitzero"`
	}
	jsonLayer struct {
		Name      string `json:"name"`
		Kind      Kind   `json:"kind"`
		Lists     []int  `json:"lists"`
		Stateless bool   `json:"stateless,omitempty"`
		ReplyName string `json:"reply_name,omitempty"`
		Reply     []int  `json:"reply,omitempty"`
	}
)

// MarshalJSON writes s in the form of SnapshotSchema.
func (s *Snapshot) MarshalJSON() ([]byte, error) {
	out := jsonSnapshot{Scope: s.Scope, Listed: len(s.Lists), Lists: s.Lists, Gaps: s.Gaps, Skipped: s.Skipped}
	out.Lists = append([]*List{}, s.Lists...)
	position := make(map[*List]int, len(s.Lists))
	for i, l := range s.Lists {
		position[l] = i
	}
	place := func(lists []*List) []int {
		at := make([]int, 0, len(lists))
		for _, l := range lists {
			i, ok := position[l]
			if !ok {
				i = len(out.Lists)
				position[l] = i
				out.Lists = append(out.Lists, l)
			}
			at = append(at, i)
		}
		return at
	}
	out.Endpoints = make([]jsonEndpoint, 0, len(s.Endpoints))
	for _, e := range s.Endpoints {
		je := jsonEndpoint{
			Ref: e.Ref, Name: e.Name, Instance: e.Instance, Family: e.Family, Addr: e.Addr, Prefix: e.Prefix,
			Host: e.Host, Public: e.Public, Via: e.Via, Assumes: e.Assumes, NoProbe: e.NoProbe,
		}
		for _, h := range e.Hops {
			jh := jsonHop{Ref: h.Ref, Name: h.Name, Forward: h.Forward, Source: h.Source}
			for _, l := range h.Layers {
				jl := jsonLayer{Name: l.Name, Kind: l.Kind, Lists: place(l.Lists), Stateless: l.Stateless, ReplyName: l.ReplyName}
				if l.Stateless {
					jl.Reply = place(l.Reply)
				}
				jh.Layers = append(jh.Layers, jl)
			}
			je.Hops = append(je.Hops, jh)
		}
		out.Endpoints = append(out.Endpoints, je)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads the form of SnapshotSchema.
func (s *Snapshot) UnmarshalJSON(data []byte) error {
	var in jsonSnapshot
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	if in.Listed < 0 || in.Listed > len(in.Lists) {
		return fmt.Errorf("listed is %d, of %d lists", in.Listed, len(in.Lists))
	}
	for i, l := range in.Lists {
		if l == nil {
			return fmt.Errorf("list %d is null", i)
		}
		for _, r := range l.Rules {
			if !r.Maybe.IsEmpty() && r.Doubt != Unread && r.Doubt != Unsized && r.Doubt != Dynamic {
				return fmt.Errorf("rule %s: doubt is %q", r.Ref, r.Doubt)
			}
		}
	}
	pick := func(at []int) ([]*List, error) {
		var lists []*List
		for _, i := range at {
			if i < 0 || i >= len(in.Lists) {
				return nil, fmt.Errorf("a layer has list %d, of %d", i, len(in.Lists))
			}
			lists = append(lists, in.Lists[i])
		}
		return lists, nil
	}
	out := Snapshot{Scope: in.Scope, Lists: in.Lists[:in.Listed:in.Listed], Gaps: in.Gaps, Skipped: in.Skipped}
	for _, je := range in.Endpoints {
		if je.Family != traffic.V4 && je.Family != traffic.V6 {
			return fmt.Errorf("endpoint %s: family is %d, want 4 or 6", je.Ref, je.Family)
		}
		e := Endpoint{
			Ref: je.Ref, Name: je.Name, Instance: je.Instance, Family: je.Family, Addr: je.Addr, Prefix: je.Prefix,
			Host: je.Host, Public: je.Public, Via: je.Via, Assumes: je.Assumes, NoProbe: je.NoProbe,
		}
		if len(je.Hops) == 0 {
			return fmt.Errorf("endpoint %s: no hops", je.Ref)
		}
		for _, jh := range je.Hops {
			h := Hop{Ref: jh.Ref, Name: jh.Name, Forward: jh.Forward, Source: jh.Source}
			for _, p := range jh.Source {
				if !p.IsValid() {
					return fmt.Errorf("endpoint %s: a hop has a source that is not a prefix", je.Ref)
				}
			}
			for _, jl := range jh.Layers {
				lists, err1 := pick(jl.Lists)
				reply, err2 := pick(jl.Reply)
				if err := errors.Join(err1, err2); err != nil {
					return fmt.Errorf("endpoint %s: %w", je.Ref, err)
				}
				h.Layers = append(h.Layers, Layer{
					Name: jl.Name, Kind: jl.Kind, Lists: lists, Stateless: jl.Stateless, ReplyName: jl.ReplyName, Reply: reply,
				})
			}
			e.Hops = append(e.Hops, h)
		}
		out.Endpoints = append(out.Endpoints, e)
	}
	*s = out
	return nil
}
