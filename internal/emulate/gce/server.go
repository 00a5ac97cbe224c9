package gce

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// call is one request on its way to an answer.
type call struct {
	w     http.ResponseWriter
	r     *http.Request
	world *World
	vars  map[string]string
	op    string
}

// operation is a method of an API: how it is asked for, the permission that it needs, and how it is answered.
type operation struct {
	method     string
	path       []string // segments; "{name}" takes any one
	permission string
	serve      func(*call)
}

func op(method, path, permission string, serve func(*call)) operation {
	return operation{method, strings.Split(path, "/"), permission, serve}
}

// ServeHTTP answers one request.
func (w *World) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.complete(); err != nil {
		computeError(rw, http.StatusInternalServerError, "backendError", err.Error())
		return
	}
	w.tick()
	o, vars, ok := find(r)
	if !ok {
		rw.Header().Set("Content-Type", "text/html; charset=UTF-8")
		rw.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprintf(rw, "<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>\n")
		return
	}
	o.serve(&call{w: rw, r: r, world: w, vars: vars, op: o.permission})
}

// Operation returns the IAM permission that r needs, such as "compute.firewalls.list".
func (w *World) Operation(r *http.Request) string {
	if o, _, ok := find(r); ok {
		return o.permission
	}
	return "unknown"
}

// Refuse answers that the caller lacks the permission for r.
func (w *World) Refuse(rw http.ResponseWriter, r *http.Request) {
	permission := w.Operation(r)
	if _, isCompute := computePath(r.URL.Path); isCompute {
		computeError(rw, http.StatusForbidden, "forbidden",
			fmt.Sprintf("Required '%s' permission for 'projects/%s'", permission, project(r.URL.Path)))
		return
	}
	denied(rw, permission, strings.TrimPrefix(r.URL.Path, "/"))
}

// Throttle answers that the caller asks too often: Compute Engine in both of its ways by turns, as status 403 with reason
// rateLimitExceeded and as status 429.
func (w *World) Throttle(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.throttles++
	odd := w.throttles%2 == 1
	w.mu.Unlock()
	if _, isCompute := computePath(r.URL.Path); isCompute && odd {
		computeError(rw, http.StatusForbidden, "rateLimitExceeded", "Quota exceeded for quota metric 'Read requests' and "+
			"limit 'Read requests per minute' of service 'compute.googleapis.com'.")
		return
	}
	writeJSON(rw, http.StatusTooManyRequests, map[string]any{"error": map[string]any{
		"code": http.StatusTooManyRequests, "status": "RESOURCE_EXHAUSTED",
		"message": "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute'.",
		"errors":  []any{map[string]any{"message": "Quota exceeded.", "domain": "global", "reason": "rateLimitExceeded"}},
	}})
}

// find returns the operation that r asks for.
func find(r *http.Request) (operation, map[string]string, bool) {
	table, path := managementOperations, ""
	if rest, ok := computePath(r.URL.Path); ok {
		table, path = computeOperations, rest
	} else {
		for _, version := range []string{"/v1/", "/v3/"} {
			if i := strings.LastIndex(r.URL.Path, version); i >= 0 {
				path = r.URL.Path[i+1:]
				break
			}
		}
	}
	segments := strings.Split(path, "/")
	for _, o := range table {
		if o.method != r.Method {
			continue
		}
		if vars, ok := o.match(segments); ok {
			return o, vars, true
		}
	}
	return operation{}, nil, false
}

func (o operation) match(segments []string) (map[string]string, bool) {
	if len(segments) != len(o.path) {
		return nil, false
	}
	vars := map[string]string{}
	for i, want := range o.path {
		switch {
		case strings.HasPrefix(want, "{"):
			if segments[i] == "" {
				return nil, false
			}
			vars[strings.Trim(want, "{}")] = segments[i]
		case want != segments[i]:
			return nil, false
		}
	}
	return vars, true
}

// computePath returns what follows the last "/compute/v1/" of a path.
func computePath(path string) (string, bool) {
	const base = "/compute/v1/"
	i := strings.LastIndex(path, base)
	if i < 0 {
		return "", false
	}
	return path[i+len(base):], true
}

// project returns the project that a path names, if any.
func project(path string) string {
	_, rest, _ := strings.Cut(path, "/projects/")
	id, _, _ := strings.Cut(rest, "/")
	return id
}

// project returns the project of the request if it can be used, or answers with the error.
func (c *call) project() (*Project, bool) {
	p, ok := c.world.find(c.vars["project"])
	switch {
	case !ok || p.State != "ACTIVE":
		computeError(c.w, http.StatusNotFound, "notFound",
			fmt.Sprintf("The resource 'projects/%s' was not found", c.vars["project"]))
		return nil, false
	case p.ComputeDisabled:
		disabled(c.w, p)
		return nil, false
	}
	return p, true
}

// find returns a project by its ID or number.
func (w *World) find(id string) (*Project, bool) {
	for i := range w.Projects {
		if p := &w.Projects[i]; p.ID == id || strconv.FormatUint(p.Number, 10) == id {
			return p, true
		}
	}
	return nil, false
}

// page returns the bounds of the asked page of n things, and the token of the next. The token and the size are taken
// from the parameters of the API at hand.
func (c *call) page(n int, sizeParameter string) (from, to int, next string, ok bool) {
	const most = 500
	size := most
	q := c.r.URL.Query()
	if s := q.Get(sizeParameter); s != "" {
		v, err := strconv.ParseUint(s, 10, 31)
		if err != nil || v > most {
			computeError(c.w, http.StatusBadRequest, "invalid",
				fmt.Sprintf("Invalid value for field '%s': '%s'. Must be between 0 and 500.", sizeParameter, s))
			return 0, 0, "", false
		}
		if v > 0 {
			size = int(v)
		}
	}
	if c.world.PageSize > 0 {
		size = min(size, c.world.PageSize)
	}
	if token := q.Get("pageToken"); token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		at, found := strings.CutPrefix(string(raw), c.op+"@")
		v, err2 := strconv.Atoi(at)
		if err != nil || err2 != nil || !found || v < 0 || v > n {
			computeError(c.w, http.StatusBadRequest, "invalid", "Invalid value for field 'pageToken': '"+token+"'.")
			return 0, 0, "", false
		}
		from = v
	}
	to = min(from+size, n)
	if to < n {
		next = base64.RawURLEncoding.EncodeToString([]byte(c.op + "@" + strconv.Itoa(to)))
	}
	return from, to, next, true
}

// answer writes a message of Compute Engine, or the fields of it that the caller wants.
func (c *call) answer(m proto.Message) {
	data, err := protojson.Marshal(m)
	if err != nil {
		computeError(c.w, http.StatusInternalServerError, "backendError", err.Error())
		return
	}
	mask := c.r.Header.Get("X-Goog-FieldMask")
	if q := c.r.URL.Query().Get("fields"); q != "" {
		mask = q
	}
	if mask != "" && mask != "*" {
		if c.world.NoMasks {
			computeError(c.w, http.StatusBadRequest, "invalidParameter", "Invalid field selection "+mask)
			return
		}
		if data, err = selectFields(data, mask); err != nil {
			computeError(c.w, http.StatusBadRequest, "invalidParameter", err.Error())
			return
		}
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		computeError(c.w, http.StatusInternalServerError, "backendError", err.Error())
		return
	}
	c.w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	_, _ = c.w.Write(compact.Bytes())
}

// computeError answers in the form of Compute Engine's errors.
func computeError(w http.ResponseWriter, code int, reason, message string) {
	writeJSON(w, code, map[string]any{"error": map[string]any{
		"code": code, "message": message,
		"errors": []any{map[string]any{"message": message, "domain": "global", "reason": reason}},
	}})
}

// disabled answers that the Compute Engine API was never switched on in p.
func disabled(w http.ResponseWriter, p *Project) {
	message := fmt.Sprintf("Compute Engine API has not been used in project %d before or it is disabled. Enable it by "+
		"visiting https://console.developers.google.com/apis/api/compute.googleapis.com/overview?project=%d then retry.",
		p.Number, p.Number)
	writeJSON(w, http.StatusForbidden, map[string]any{"error": map[string]any{
		"code": http.StatusForbidden, "message": message, "status": "PERMISSION_DENIED",
		"errors": []any{map[string]any{"message": message, "domain": "usageLimits", "reason": "accessNotConfigured"}},
		"details": []any{map[string]any{
			"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SERVICE_DISABLED", "domain": "googleapis.com",
			"metadata": map[string]any{
				"service": "compute.googleapis.com", "consumer": fmt.Sprintf("projects/%d", p.Number),
			},
		}},
	}})
}

// denied answers as the APIs other than Compute Engine do when a permission is missing.
func denied(w http.ResponseWriter, permission, resource string) {
	writeJSON(w, http.StatusForbidden, map[string]any{"error": map[string]any{
		"code": http.StatusForbidden, "status": "PERMISSION_DENIED",
		"message": fmt.Sprintf("Permission '%s' denied on resource '//%s' (or it may not exist).", permission, resource),
		"details": []any{map[string]any{
			"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "IAM_PERMISSION_DENIED",
			"domain": "iam.googleapis.com", "metadata": map[string]any{"permission": permission, "resource": resource},
		}},
	}})
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(code)
	_, _ = w.Write(data)
}
