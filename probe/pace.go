package probe

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

const (
	burst       = 10                     // targets at once
	perNetwork  = 200 * time.Millisecond // between two targets of one network
	network4    = 24
	network6    = 48
	defaultRate = 50.0
)

// pacer decides whom to ask next and when. It knows no clock: time is passed in.
type pacer struct {
	limit *rate.Limiter
	ready map[netip.Prefix]time.Time // when the next target of a network may be asked; outlives a queue
}

func newPacer(perSecond float64) *pacer {
	limit := rate.Limit(perSecond)
	if math.IsInf(perSecond, 1) {
		limit = rate.Inf
	}
	return &pacer{limit: rate.NewLimiter(limit, burst), ready: map[netip.Prefix]time.Time{}}
}

// queue holds the targets of one round in a random order, by network.
type queue struct {
	pacer    *pacer
	networks networks
}

type network struct {
	prefix  netip.Prefix
	ready   time.Time
	order   int
	waiting []Target
}

// queue returns the targets shuffled.
func (p *pacer) queue(targets []Target) *queue {
	q := &queue{pacer: p}
	at := map[netip.Prefix]*network{}
	for _, i := range rand.Perm(len(targets)) {
		t := targets[i]
		prefix := networkOf(t.Addr.Addr())
		n := at[prefix]
		if n == nil {
			n = &network{prefix: prefix, order: len(q.networks), ready: p.ready[prefix]}
			at[prefix] = n
			q.networks = append(q.networks, n)
		}
		n.waiting = append(n.waiting, t)
	}
	heap.Init(&q.networks)
	return q
}

// next takes the next target out of the queue, or says how long to wait for it. It returns false if the queue is empty.
func (q *queue) next(now time.Time) (Target, time.Duration, bool) {
	if len(q.networks) == 0 {
		return Target{}, 0, false
	}
	n := q.networks[0]
	if wait := n.ready.Sub(now); wait > 0 {
		return Target{}, wait, true
	}
	r := q.pacer.limit.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return Target{}, wait, true
	}
	t := n.waiting[0]
	n.waiting = n.waiting[1:]
	if !t.Addr.Addr().IsLoopback() {
		n.ready = now.Add(perNetwork)
		q.pacer.ready[n.prefix] = n.ready
	}
	if len(n.waiting) == 0 {
		heap.Pop(&q.networks)
	} else {
		heap.Fix(&q.networks, 0)
	}
	return t, 0, true
}

// rest returns the targets that are still in the queue.
func (q *queue) rest() []Target {
	var out []Target
	for _, n := range q.networks {
		out = append(out, n.waiting...)
	}
	return out
}

// networkOf returns the network that shares a limit: on loopback the address alone.
func networkOf(a netip.Addr) netip.Prefix {
	bits := network6
	switch {
	case a.IsLoopback():
		bits = a.BitLen()
	case a.Is4():
		bits = network4
	}
	p, _ := a.Prefix(bits) // the lengths are right for the family
	return p
}

// networks is a heap: first the one that is ready first, then the one that the shuffle put first.
type networks []*network

func (n networks) Len() int      { return len(n) }
func (n networks) Swap(i, j int) { n[i], n[j] = n[j], n[i] }
func (n networks) Less(i, j int) bool {
	if !n[i].ready.Equal(n[j].ready) {
		return n[i].ready.Before(n[j].ready)
	}
	return n[i].order < n[j].order
}
func (n *networks) Push(x any) { *n = append(*n, x.(*network)) }
func (n *networks) Pop() any {
	last := len(*n) - 1
	x := (*n)[last]
	*n = (*n)[:last]
	return x
}
