package gce

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// description is Google's own description of an API, a discovery document
// (https://developers.google.com/discovery/v1/reference/apis). It says of a request or an answer whether the API knows it.
type description struct {
	base    string // in front of every path, such as "/compute/v1/"
	methods []describedMethod
	schemas map[string]*schema
	global  map[string]*schema
}

type describedMethod struct {
	id         string
	method     string
	path       []string
	parameters map[string]*schema
	request    string
	response   string
}

// schema is the part of a discovery document's JSON schema that is checked.
type schema struct {
	Ref        string             `json:"$ref"`
	Type       string             `json:"type"`
	Format     string             `json:"format"`
	Enum       []string           `json:"enum"`
	Pattern    string             `json:"pattern"`
	Location   string             `json:"location"`
	Required   bool               `json:"required"`
	Minimum    string             `json:"minimum"`
	Maximum    string             `json:"maximum"`
	Items      *schema            `json:"items"`
	Properties map[string]*schema `json:"properties"`
	Additional *schema            `json:"additionalProperties"`
}

type resource struct {
	Resources map[string]resource `json:"resources"`
	Methods   map[string]struct {
		ID         string             `json:"id"`
		HTTPMethod string             `json:"httpMethod"`
		Path       string             `json:"path"`
		FlatPath   string             `json:"flatPath"`
		Parameters map[string]*schema `json:"parameters"`
		Request    *schema            `json:"request"`
		Response   *schema            `json:"response"`
	} `json:"methods"`
}

// parseDescription reads a discovery document.
func parseDescription(document []byte) (*description, error) {
	var doc struct {
		resource
		ServicePath string             `json:"servicePath"`
		Parameters  map[string]*schema `json:"parameters"`
		Schemas     map[string]*schema `json:"schemas"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		return nil, fmt.Errorf("discovery document: %w", err)
	}
	d := &description{base: "/" + doc.ServicePath, schemas: doc.Schemas, global: doc.Parameters}
	var walk func(r resource)
	walk = func(r resource) {
		for _, m := range r.Methods {
			p := m.FlatPath
			if p == "" {
				p = m.Path
			}
			out := describedMethod{id: m.ID, method: m.HTTPMethod, path: strings.Split(p, "/"), parameters: m.Parameters}
			if m.Request != nil {
				out.request = m.Request.Ref
			}
			if m.Response != nil {
				out.response = m.Response.Ref
			}
			d.methods = append(d.methods, out)
		}
		for _, sub := range r.Resources {
			walk(sub)
		}
	}
	walk(doc.resource)
	if len(d.methods) == 0 || len(d.schemas) == 0 {
		return nil, fmt.Errorf("discovery document: %d methods and %d schemas", len(d.methods), len(d.schemas))
	}
	return d, nil
}

// checkRequest checks the path, the parameters and the body of a request, which it does not consume.
func (d *description) checkRequest(r *http.Request) error {
	m, ok := d.find(r)
	if !ok {
		return fmt.Errorf("%s %s: no method of the API", r.Method, r.URL.Path)
	}
	q := r.URL.Query()
	for name, values := range q {
		p, ok := m.parameters[name]
		if !ok || p.Location != "query" {
			if p, ok = d.global[name]; !ok {
				return fmt.Errorf("%s: no parameter %q", m.id, name)
			}
		}
		for _, v := range values {
			if err := p.checkParameter(v); err != nil {
				return fmt.Errorf("%s: parameter %s: %w", m.id, name, err)
			}
		}
	}
	for name, p := range m.parameters {
		if p.Required && p.Location == "query" && !q.Has(name) {
			return fmt.Errorf("%s: parameter %s is missing", m.id, name)
		}
	}
	if r.Body == nil || r.Method == http.MethodGet {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return err
	}
	if len(body) > 0 && m.request == "" {
		return fmt.Errorf("%s: takes no body", m.id)
	}
	if m.request != "" {
		if err := d.check(body, m.request); err != nil {
			return fmt.Errorf("%s: body: %w", m.id, err)
		}
	}
	return nil
}

// checkAnswer checks the body of a good answer to r.
func (d *description) checkAnswer(r *http.Request, body []byte) error {
	m, ok := d.find(r)
	if !ok {
		return fmt.Errorf("%s %s: no method of the API", r.Method, r.URL.Path)
	}
	if err := d.check(body, m.response); err != nil {
		return fmt.Errorf("%s: answer: %w", m.id, err)
	}
	return nil
}

func (d *description) find(r *http.Request) (*describedMethod, bool) {
	i := strings.LastIndex(r.URL.Path, d.base)
	if d.base == "/" { // the version is part of the paths
		i = max(strings.LastIndex(r.URL.Path, "/v1/"), strings.LastIndex(r.URL.Path, "/v3/"))
	}
	if i < 0 {
		return nil, false
	}
	segments := strings.Split(r.URL.Path[i+len(d.base):], "/")
	best, literal := -1, -1
	for at := range d.methods {
		m := &d.methods[at]
		if m.method != r.Method || len(m.path) != len(segments) {
			continue
		}
		same := 0
		for j, want := range m.path {
			switch {
			case strings.HasPrefix(want, "{"):
				// "{addressGroupsId}:listReferences" takes what ends like it, "{addressGroupsId}" what has no verb.
				_, verb, _ := strings.Cut(want, "}")
				if _, has, _ := strings.Cut(segments[j], ":"); segments[j] == "" || verb != "" && ":"+has != verb {
					same = -1 << 16
				}
			case want == segments[j]:
				same++
			default:
				same = -1 << 16
			}
		}
		if same > literal {
			best, literal = at, same
		}
	}
	if best < 0 {
		return nil, false
	}
	return &d.methods[best], true
}

func (s *schema) checkParameter(v string) error {
	switch s.Type {
	case "integer":
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return err
		}
		if limit, err := strconv.ParseInt(s.Maximum, 10, 64); err == nil && n > limit {
			return fmt.Errorf("%d is more than %d", n, limit)
		}
		if limit, err := strconv.ParseInt(s.Minimum, 10, 64); err == nil && n < limit {
			return fmt.Errorf("%d is less than %d", n, limit)
		}
	case "boolean":
		if v != "true" && v != "false" {
			return fmt.Errorf("%q is not a boolean", v)
		}
	}
	return s.checkText(v)
}

func (s *schema) checkText(v string) error {
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		return fmt.Errorf("%q is none of %v", v, s.Enum)
	}
	if s.Pattern != "" {
		// Patterns stand for the whole text; some hold what Go's syntax does not know.
		if re, err := regexp.Compile("^(?:" + s.Pattern + ")$"); err == nil && !re.MatchString(v) {
			return fmt.Errorf("%q does not match %s", v, s.Pattern)
		}
	}
	return nil
}

// check checks a JSON document against a named schema.
func (d *description) check(body []byte, name string) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return err
	}
	return d.checkValue(v, &schema{Ref: name}, name)
}

func (d *description) checkValue(v any, s *schema, at string) error {
	if s.Ref != "" {
		target, ok := d.schemas[s.Ref]
		if !ok {
			return fmt.Errorf("%s: no schema %q", at, s.Ref)
		}
		s = target
	}
	wrong := func() error { return fmt.Errorf("%s: %v is not %s %s", at, v, s.Type, s.Format) }
	switch s.Type {
	case "object":
		fields, ok := v.(map[string]any)
		if !ok {
			return wrong()
		}
		for name, field := range fields {
			sub, ok := s.Properties[name]
			if !ok {
				sub = s.Additional
			}
			if sub == nil {
				return fmt.Errorf("%s: no property %q", at, name)
			}
			if err := d.checkValue(field, sub, at+"."+name); err != nil {
				return err
			}
		}
	case "array":
		elements, ok := v.([]any)
		if !ok {
			return wrong()
		}
		for i, e := range elements {
			if err := d.checkValue(e, s.Items, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case "string":
		text, ok := v.(string)
		if !ok {
			return wrong()
		}
		if s.Format == "uint64" || s.Format == "int64" {
			if _, err := strconv.ParseUint(strings.TrimPrefix(text, "-"), 10, 64); err != nil {
				return wrong()
			}
		}
		if err := s.checkText(text); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	case "integer":
		n, ok := v.(json.Number)
		if !ok {
			return wrong()
		}
		if _, err := strconv.ParseInt(n.String(), 10, 64); err != nil {
			return wrong()
		}
	case "number":
		if _, ok := v.(json.Number); !ok {
			return wrong()
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			return wrong()
		}
	}
	return nil
}

// checked returns h behind a check of every request, and every good answer, against the descriptions; the first whose paths
// know the request is taken. What does not fit goes to report.
func checked(h http.Handler, descriptions []*description, report func(error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var d *description
		for _, candidate := range descriptions {
			if _, ok := candidate.find(r); ok {
				d = candidate
				break
			}
		}
		if d == nil {
			report(fmt.Errorf("%s %s: no method of any API", r.Method, r.URL.Path))
			h.ServeHTTP(w, r)
			return
		}
		if err := d.checkRequest(r); err != nil {
			report(err)
		}
		recorder := httptest.NewRecorder()
		h.ServeHTTP(recorder, r)
		if recorder.Code == http.StatusOK {
			if err := d.checkAnswer(r, recorder.Body.Bytes()); err != nil {
				report(err)
			}
		}
		for name, values := range recorder.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(recorder.Code)
		_, _ = w.Write(recorder.Body.Bytes())
	})
}
