package gce

import (
	"encoding/json"
	"fmt"
	"strings"
)

// selection is the tree of fields of a partial response; an empty one selects everything below.
type selection map[string]selection

// selectFields keeps of a JSON document what a partial response expression names, such as "nextPageToken,items/*/name" or
// "items(name,tags/items)" (https://cloud.google.com/compute/docs/api/how-tos/performance#partial-response).
func selectFields(doc []byte, mask string) ([]byte, error) {
	p := parser{text: mask}
	tree, err := p.list()
	if err == nil && p.text != "" {
		err = fmt.Errorf("invalid field selection %s", mask)
	}
	if err != nil {
		return nil, err
	}
	var v any
	if err := json.Unmarshal(doc, &v); err != nil {
		return nil, err
	}
	return json.Marshal(tree.of(v))
}

// of returns what s selects of a decoded JSON value. Arrays are transparent.
func (s selection) of(v any) any {
	if len(s) == 0 {
		return v
	}
	switch v := v.(type) {
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			out = append(out, s.of(e))
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for name, field := range v {
			sub, ok := s[name]
			if !ok {
				sub, ok = s["*"]
			}
			if ok {
				out[name] = sub.of(field)
			}
		}
		return out
	}
	return v
}

type parser struct{ text string }

// list reads a comma-separated list of paths, up to the end or a closing parenthesis.
func (p *parser) list() (selection, error) {
	s := selection{}
	for {
		if err := p.path(s); err != nil {
			return nil, err
		}
		if !strings.HasPrefix(p.text, ",") {
			return s, nil
		}
		p.text = p.text[1:]
	}
}

// path reads "a/b/c" or "a/b(…)" into s.
func (p *parser) path(s selection) error {
	end := strings.IndexAny(p.text, ",/()")
	if end < 0 {
		end = len(p.text)
	}
	name := p.text[:end]
	if name == "" {
		return fmt.Errorf("invalid field selection at %q", p.text)
	}
	p.text = p.text[end:]
	sub, ok := s[name]
	if !ok {
		sub = selection{}
		s[name] = sub
	}
	switch {
	case strings.HasPrefix(p.text, "/"):
		p.text = p.text[1:]
		return p.path(sub)
	case strings.HasPrefix(p.text, "("):
		p.text = p.text[1:]
		inner, err := p.list()
		if err != nil {
			return err
		}
		if !strings.HasPrefix(p.text, ")") {
			return fmt.Errorf("invalid field selection at %q", p.text)
		}
		p.text = p.text[1:]
		for n, sel := range inner {
			sub[n] = sel
		}
	}
	return nil
}
