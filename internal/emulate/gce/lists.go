package gce

import (
	"net/http"
	"slices"
	"strings"

	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// aggregate answers an aggregated list: a page of n things, each in its scope such as "zones/us-central1-a", in the field
// of the list's scoped message. Scopes that have nothing on the page say so by a warning, as Google's do, and those that
// the world has as unreachable say that.
func (c *call) aggregate(list proto.Message, field string, n int, scope func(i int) string, item func(i int) proto.Message) {
	partial := c.r.URL.Query().Get("returnPartialSuccess") == "true"
	var reachable []int
	scopes := map[string]bool{"global": true}
	for i := range n {
		s := scope(i)
		scopes[s] = true
		if !slices.Contains(c.world.Unreachable, s) {
			reachable = append(reachable, i)
		}
	}
	if len(c.world.Unreachable) > 0 && !partial {
		computeError(c.w, http.StatusServiceUnavailable, "backendError", "The service is currently unavailable in "+
			strings.Join(c.world.Unreachable, ", ")+". Use returnPartialSuccess to list the rest.")
		return
	}
	from, to, next, ok := c.page(len(reachable), "maxResults")
	if !ok {
		return
	}

	m := list.ProtoReflect()
	fields := m.Descriptor().Fields()
	setString(m, "kind", "compute#"+lowerFirst(string(m.Descriptor().Name())))
	setString(m, "id", "projects/"+c.vars["project"]+"/aggregated/"+field)
	if next != "" {
		setString(m, "next_page_token", next)
	}
	items := m.Mutable(fields.ByName("items")).Map()
	filled := map[string]bool{}
	for _, i := range reachable[from:to] {
		s := scope(i)
		filled[s] = true
		members := items.Mutable(protoreflect.ValueOfString(s).MapKey()).Message()
		at := members.Descriptor().Fields().ByJSONName(field)
		members.Mutable(at).List().Append(protoreflect.ValueOfMessage(item(i).ProtoReflect()))
	}
	for s := range scopes {
		if !filled[s] && !slices.Contains(c.world.Unreachable, s) {
			warn(items, s, "NO_RESULTS_ON_PAGE", "There are no results for scope '"+s+"' on this page.")
		}
	}
	for _, s := range c.world.Unreachable {
		warn(items, s, "UNREACHABLE", "Scope '"+s+"' is unreachable.")
		m.Mutable(fields.ByName("unreachables")).List().Append(protoreflect.ValueOfString(s))
	}
	c.answer(list)
}

// list answers a plain list of n things.
func (c *call) list(list proto.Message, n int, item func(i int) proto.Message) {
	from, to, next, ok := c.page(n, "maxResults")
	if !ok {
		return
	}
	m := list.ProtoReflect()
	setString(m, "kind", "compute#"+lowerFirst(string(m.Descriptor().Name())))
	if next != "" {
		setString(m, "next_page_token", next)
	}
	items := m.Mutable(m.Descriptor().Fields().ByName("items")).List()
	for i := from; i < to; i++ {
		items.Append(protoreflect.ValueOfMessage(item(i).ProtoReflect()))
	}
	c.answer(list)
}

// warn puts a warning on a scope of an aggregated list.
func warn(items protoreflect.Map, scope, code, message string) {
	members := items.Mutable(protoreflect.ValueOfString(scope).MapKey()).Message()
	members.Set(members.Descriptor().Fields().ByName("warning"), protoreflect.ValueOfMessage((&computepb.Warning{
		Code: proto.String(code), Message: proto.String(message),
		Data: []*computepb.Data{{Key: proto.String("scope"), Value: proto.String(scope)}},
	}).ProtoReflect()))
}

func setString(m protoreflect.Message, field, value string) {
	m.Set(m.Descriptor().Fields().ByName(protoreflect.Name(field)), protoreflect.ValueOfString(value))
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// str returns nil for an empty string: Google's JSON leaves out what is not there.
func str(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// where returns the scope of a thing in a zone, in a region or in neither.
func where(zone, region string) string {
	switch {
	case zone != "":
		return "zones/" + zone
	case region != "":
		return "regions/" + region
	}
	return "global"
}
