// Package emulate holds what the emulated clouds have in common: a way to make them misbehave, and a count of the calls
// that they were asked. The clouds themselves stand in the packages below it; each is an http.Handler that the vendor's
// own SDK talks to, and each answers from the scene it was made with, never from what a provider wants to hear.
package emulate

import (
	"net/http"
	"sync"
)

// Cloud is one emulated API. Besides answering it can name the operation that a request asks for, and refuse or throttle
// a request in its vendor's own words.
type Cloud interface {
	http.Handler

	// Operation names what r asks for in the words of the vendor's permissions, such as "ec2:DescribeNetworkAcls",
	// "compute.firewalls.list" or "firewall:read /v2/firewalls". It must not consume the body of r.
	Operation(r *http.Request) string

	// Refuse answers as the vendor does when the caller lacks the permission for the operation.
	Refuse(w http.ResponseWriter, r *http.Request)

	// Throttle answers as the vendor does when the caller asks too often.
	Throttle(w http.ResponseWriter, r *http.Request)
}

// Fault is what is wrong with an operation. The zero value is: nothing.
type Fault struct {
	Refuse   bool // answer every request as a missing permission
	Throttle int  // throttle the first so many requests, then answer
	Garbage  bool // answer status 500 with an HTML page, as a broken proxy in between does
	Hang     bool // answer nothing until the client gives up
	Lose     bool // carry the request out and lose the answer: status 500, as from a proxy that gave up waiting
}

// Faults is a Cloud's front: it counts every request by operation and applies a Fault to those that match. It is safe
// for concurrent use; faults are set before the first request.
type Faults struct {
	cloud Cloud
	match func(operation string, r *http.Request) Fault

	mu        sync.Mutex
	calls     map[string]int
	throttled map[string]int
}

// WithFaults returns cloud behind a front that asks match, for each request, what is wrong with it. A nil match means
// that all is well.
func WithFaults(cloud Cloud, match func(operation string, r *http.Request) Fault) *Faults {
	return &Faults{cloud: cloud, match: match, calls: map[string]int{}, throttled: map[string]int{}}
}

// Calls returns how many requests each operation has got so far, refused and throttled ones included.
func (f *Faults) Calls() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string]int, len(f.calls))
	for op, n := range f.calls {
		out[op] = n
	}
	return out
}

// ServeHTTP answers one request as the cloud does, or as its fault wants.
func (f *Faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op := f.cloud.Operation(r)
	var fault Fault
	if f.match != nil {
		fault = f.match(op, r)
	}
	f.mu.Lock()
	f.calls[op]++
	throttle := f.throttled[op] < fault.Throttle
	if throttle {
		f.throttled[op]++
	}
	f.mu.Unlock()

	switch {
	case throttle:
		f.cloud.Throttle(w, r)
	case fault.Refuse:
		f.cloud.Refuse(w, r)
	case fault.Garbage, fault.Lose:
		if fault.Lose {
			f.cloud.ServeHTTP(&nowhere{header: http.Header{}}, r)
		}
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write([]byte("<html><head><title>500</title></head><body><h1>Internal Server Error</h1></body></html>\n"))
	case fault.Hang:
		<-r.Context().Done()
	default:
		f.cloud.ServeHTTP(w, r)
	}
}

// nowhere takes an answer that nobody gets.
type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n *nowhere) WriteHeader(int)             {}
