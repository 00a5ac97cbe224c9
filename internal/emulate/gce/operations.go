package gce

import (
	"fmt"
	"net/http"

	"cloud.google.com/go/compute/apiv1/computepb"
	"google.golang.org/protobuf/proto"
)

// work is an operation of Compute Engine: a change that was accepted, and comes into force some requests later
// (https://cloud.google.com/compute/docs/api/how-tos/api-requests-responses#handling_api_responses).
type work struct {
	message *computepb.Operation
	left    int    // requests until it is in force
	change  func() // nil: in force, or failed
}

// failure is how a write fails: at once, or in its operation.
type failure struct {
	code            int // HTTP status
	reason, message string
}

func invalid(format string, args ...any) *failure {
	return &failure{http.StatusBadRequest, "invalid", fmt.Sprintf(format, args...)}
}

// tick lets time go by for the operations that are under way.
func (w *World) tick() {
	for _, o := range w.operations {
		if o.left--; o.left <= 0 && o.change != nil {
			o.change()
			o.change = nil
		}
	}
}

// operate answers a write with its operation. A request with the id of an earlier one is answered with the operation of
// that, and does nothing (https://cloud.google.com/compute/docs/reference/rest/v1/firewalls/insert). Late is an error that
// shows in the operation; prepare says what else is wrong, or returns what the write does.
func (c *call) operate(kind, target, scope string, prepare func() (change func(), late, now *failure)) {
	w := c.world
	id := c.r.URL.Query().Get("requestId")
	if o, ok := w.requests[id]; ok && id != "" {
		c.answer(o.message)
		return
	}
	change, late, now := prepare()
	if now != nil {
		computeError(c.w, now.code, now.reason, now.message)
		return
	}
	n := len(w.operations) + 1
	name := fmt.Sprintf("operation-%d", n)
	link := linkPrefix + scope + "/operations/" + name
	o := &work{left: w.Settle, change: change, message: &computepb.Operation{
		Kind: proto.String("compute#operation"), Id: proto.Uint64(number(link)), Name: proto.String(name),
		OperationType: proto.String(kind), Status: computepb.Operation_RUNNING.Enum(), Progress: proto.Int32(0),
		TargetLink: proto.String(linkPrefix + target), SelfLink: proto.String(link), ClientOperationId: str(id),
		InsertTime: proto.String("2024-05-01T12:00:00.000-07:00"), User: proto.String("someone@example.com"),
	}}
	if late != nil {
		o.change = nil
		o.message.HttpErrorStatusCode, o.message.HttpErrorMessage = proto.Int32(int32(late.code)), proto.String(http.StatusText(late.code))
		o.message.Error = &computepb.Error{Errors: []*computepb.Errors{{Code: &late.reason, Message: &late.message}}}
	} else if w.Settle == 0 {
		o.change()
		o.change = nil
	}
	w.operations = append(w.operations, o)
	if id != "" {
		if w.requests == nil {
			w.requests = map[string]*work{}
		}
		w.requests[id] = o
	}
	accepted := proto.CloneOf(o.message)
	accepted.Error, accepted.HttpErrorStatusCode, accepted.HttpErrorMessage = nil, nil, nil
	c.answer(accepted)
}

// getOperation answers with an operation, which is done as soon as it is in force.
func getOperation(c *call) {
	for _, o := range c.world.operations {
		if o.message.GetName() != c.vars["operation"] || o.message.GetSelfLink() != linkPrefix+c.apiPath() {
			continue
		}
		m := proto.CloneOf(o.message)
		if o.left <= 0 {
			m.Status, m.Progress = computepb.Operation_DONE.Enum(), proto.Int32(100)
			m.EndTime = proto.String("2024-05-01T12:00:02.000-07:00")
		} else {
			m.Error, m.HttpErrorStatusCode, m.HttpErrorMessage = nil, nil, nil
		}
		c.answer(m)
		return
	}
	c.notFound(c.apiPath())
}

// apiPath returns the path of the request below the version.
func (c *call) apiPath() string {
	path, _ := computePath(c.r.URL.Path)
	return path
}
