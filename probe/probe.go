// Package probe asks addresses that the user owns whether memcached answers there, over TCP and over UDP, and how much it
// amplifies. Its invariant: no address and port is ever sent more than the documented budget, nothing that reads, writes or
// counts a key, and nothing that the policy of Admit does not let through.
//
// The requests are those of memcached's doc/protocol.txt and of its binary protocol: a version line padded with spaces, a
// NOOP, and one stats over UDP.
package probe

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Options are how to ask. The zero Options are the polite defaults, without the measurement.
type Options struct {
	// Rate is how many targets are asked in a second; 0 is 50, and +Inf is as fast as it goes.
	Rate float64
	// Timeout is the time for a connect, for a conversation on one connection, and for a reply over UDP; 0 is 2 s.
	Timeout time.Duration
	// Measure asks a UDP server that has answered for its statistics, once, to measure the amplification.
	Measure bool
	// Allow limits what may be asked; see Admit.
	Allow []netip.Prefix
	// Control is an address that is known to answer. It is asked first, and last as far as its budget allows.
	Control netip.AddrPort
	// Workers is how many conversations may be under way at once; 0 is 512, or more if the rate needs it. Sixteen times as
	// many connects may wait for an answer, as far as the limit of open files lets them.
	Workers int
	// Owned reads who holds the targets now: for each a token that changes when the address changes hands, or "" if it does
	// not belong to its resource any more. It is called at most a minute before the packets and again after the answers.
	// nil means that somebody has vouched for the addresses.
	Owned func(ctx context.Context, targets []Target) ([]string, error)
	// Progress is told how many targets are done of all. It is never called by two goroutines at once.
	Progress func(done, total int)
}

const (
	defaultTimeout = 2 * time.Second
	defaultWorkers = 512
	freshness      = time.Minute      // of the reading of who owns an address
	patience       = 10 * time.Second // for the second reading, after an interrupt
)

// complete returns o with its defaults filled in.
func (o Options) complete() (Options, error) {
	if o.Rate == 0 {
		o.Rate = defaultRate
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	switch {
	case math.IsNaN(o.Rate) || o.Rate < 0:
		return o, fmt.Errorf("probe: a rate of %g targets a second makes no sense: give a positive number", o.Rate)
	case o.Timeout < 0:
		return o, fmt.Errorf("probe: a timeout of %s makes no sense: give a positive duration", o.Timeout)
	case o.Workers < 0:
		return o, fmt.Errorf("probe: %d workers make no sense: give a positive number", o.Workers)
	}
	if o.Workers == 0 {
		o.Workers = defaultWorkers
		if !math.IsInf(o.Rate, 1) {
			// The longest conversations are a connect and three reads.
			o.Workers = max(o.Workers, int(min(math.Ceil(o.Rate*4*o.Timeout.Seconds()), 1<<16)))
		}
	}
	o.Control = netip.AddrPortFrom(o.Control.Addr().Unmap(), o.Control.Port())
	if o.Control.Addr().IsValid() {
		if err := Admit(o.Control, o.Allow); err != nil {
			return o, fmt.Errorf("probe: control address %s: %w", o.Control, err)
		}
	}
	return o, nil
}

// Result is the answer of one address and port over one protocol.
type Result struct {
	Addr     netip.AddrPort `json:"address"`
	Protocol string         `json:"protocol"` // tcp or udp
	Answer   Answer         `json:"probe"`

	Exposures []int `json:"-"` // as of the Target; of both protocols
}

// Outcome is what a run has found.
type Outcome struct {
	Run               string // random; it stands in every answer
	Started, Finished time.Time
	Results           []Result // in the order of addresses, ports and protocols
	Left              []Left
	Control           []Result // of the first time, then of the last
	Strays            int      // datagrams that belong to no target
	Complete          bool     // everything that the policy admits was asked to the end
	// Stopped is why the run ended early: the cause of the context, or ErrLocal; nil if it did not.
	Stopped error
}

// ErrLocal says that more than 5 % of the targets could not be asked because of this machine.
var ErrLocal = errors.New("over 5 % of the targets could not be asked because this machine failed to send: look at the limit of open files, the local firewall and the routes")

// Run asks targets and returns what they answered. When ctx ends it sends nothing more and returns what it knows; the
// error is only about options that make no sense.
func Run(ctx context.Context, targets []Target, options Options) (*Outcome, error) {
	o, err := options.complete()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r := &run{
		Options: o, stop: stop, pacer: newPacer(o.Rate), sources: map[netip.Prefix]netip.Addr{}, spent: map[string]budget{},
		out: Outcome{Started: time.Now().UTC()},
	}
	if _, err := rand.Read(r.key[:]); err != nil {
		return nil, fmt.Errorf("probe: random key: %w", err)
	}
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return nil, fmt.Errorf("probe: random id: %w", err)
	}
	r.out.Run = hex.EncodeToString(id)

	var admitted []Target
	gate := gateOf(o.Allow)
	for _, t := range merge(targets) {
		if err := gate.admit(t.Addr); err != nil {
			r.out.Left = append(r.out.Left, Left{Addr: t.Addr, Reason: err.Error()})
			continue
		}
		if t.TCP || t.UDP {
			admitted = append(admitted, t)
		}
	}
	r.total = len(admitted)
	if err := r.open(ctx, admitted); err != nil {
		return nil, err
	}
	defer r.close()

	// A control address that is a target too is asked as that, once: the budget belongs to the address.
	control := o.Control.Addr().IsValid() && !slices.ContainsFunc(admitted, func(t Target) bool { return t.Addr == o.Control })
	if control {
		r.control(ctx, admitted)
	}
	for rest := admitted; len(rest) > 0; {
		rest = r.round(ctx, rest)
	}
	if control && ctx.Err() == nil {
		r.control(ctx, admitted)
	}
	r.finish(ctx)
	return &r.out, nil
}

// run is the state of one Run.
type run struct {
	Options
	stop  context.CancelCauseFunc
	key   [32]byte
	pacer *pacer
	tcp   *tcp
	udp   [2]*udp // IPv4 and IPv6; nil until a target needs it
	slots chan struct{}

	mu      sync.Mutex
	out     Outcome
	sources map[netip.Prefix]netip.Addr
	spent   map[string]budget // on the control address, by protocol
	done    int
	total   int
	local   int // targets with a local error
}

// question is one target being asked.
type question struct {
	Target
	network string // tcp or udp
	measure bool   // over UDP
	budget  budget
	answer  Answer
	done    func(q *question, cut bool) // called once; cut says that the run ended before an answer
}

// open starts what sends to targets.
func (r *run) open(ctx context.Context, targets []Target) error {
	slots := openConnects(16*r.Workers, r.Workers)
	r.Workers = min(r.Workers, slots)
	r.slots = make(chan struct{}, slots)
	overTCP := 0
	for _, t := range targets {
		if t.TCP {
			overTCP++
		}
	}
	var err error
	r.tcp, err = newTCP(ctx, r, overTCP, slots)
	return err
}

func (r *run) close() {
	r.tcp.close()
	for _, u := range r.udp {
		if u != nil {
			u.close()
		}
	}
}

// round asks targets, at most for as long as the reading of their owners is fresh, and returns those that are left over.
func (r *run) round(ctx context.Context, targets []Target) []Target {
	if ctx.Err() != nil {
		r.leave(targets, "not asked: "+why(ctx))
		return nil
	}
	before := map[netip.AddrPort]string{}
	var fresh time.Time
	if r.Owned != nil {
		// The longest conversation waits eleven times; what is left of the minute is for starting them.
		window := max(freshness-11*r.Timeout, 5*time.Second)
		n := len(targets)
		if !math.IsInf(r.Rate, 1) {
			n = min(n, max(1, int(r.Rate*window.Seconds()/2)))
		}
		batch, later := targets[:n:n], targets[n:]
		fresh = time.Now().Add(window)
		tokens, err := r.Owned(ctx, batch)
		if err == nil && len(tokens) != len(batch) {
			err = fmt.Errorf("%d answers for %d addresses", len(tokens), len(batch))
		}
		targets = nil
		for i, t := range batch {
			switch {
			case err != nil:
				r.leave([]Target{t}, "not asked: who holds the address could not be read: "+err.Error())
			case tokens[i] == "":
				r.leave([]Target{t}, "not asked: the address does not belong to the resource any more")
			default:
				before[t.Addr] = tokens[i]
				targets = append(targets, t)
			}
		}
		results, rest := r.ask(ctx, targets, fresh)
		r.verify(ctx, results, before)
		return append(rest, later...)
	}
	results, rest := r.ask(ctx, targets, fresh)
	r.keep(results)
	return rest
}

// ask sends to targets until there are none left, fresh is over or ctx ends, and waits for all that were asked.
func (r *run) ask(ctx context.Context, targets []Target, fresh time.Time) (results []Result, rest []Target) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	q := r.pacer.queue(targets)
	for ctx.Err() == nil {
		now := time.Now()
		if !fresh.IsZero() && now.After(fresh) {
			break
		}
		t, wait, ok := q.next(now)
		if !ok {
			break
		}
		if wait > 0 {
			if sleep(ctx, wait) != nil {
				break
			}
			continue
		}
		r.begin(ctx, t, &wg, true, func(x Result) {
			mu.Lock()
			defer mu.Unlock()
			results = append(results, x)
		})
	}
	rest = q.rest()
	wg.Wait()
	if ctx.Err() != nil {
		r.leave(rest, "not asked: "+why(ctx))
		rest = nil
	}
	return results, rest
}

// begin asks t, which is one of the targets or else the control address, over its protocols. wg is done with it when it has
// answered; keep gets the answers.
func (r *run) begin(ctx context.Context, t Target, wg *sync.WaitGroup, target bool, keep func(Result)) {
	var mu sync.Mutex
	open := 0
	broken := false
	done := func(q *question, cut bool) {
		if cut {
			r.leaveOne(Left{Addr: q.Addr, Protocol: q.network, Reason: "asked, and no answer by the time that the run ended: " + why(ctx), Gap: true})
		} else {
			keep(r.result(q))
		}
		if !target {
			r.mu.Lock()
			r.spent[q.network] = q.budget
			r.mu.Unlock()
		}
		mu.Lock()
		open--
		last := open == 0
		broken = broken || q.answer.Detail == LocalError
		fault := broken
		mu.Unlock()
		if last && target {
			r.count(fault)
		}
		wg.Done()
	}
	var asked []*question
	for _, network := range []string{"tcp", "udp"} {
		if network == "tcp" && !t.TCP || network == "udp" && !t.UDP {
			continue
		}
		q := &question{Target: t, network: network, measure: r.Measure && target, done: done, budget: tcpBudget()}
		if network == "udp" {
			q.budget = udpBudget()
		}
		r.mu.Lock()
		spent, before := r.spent[network]
		r.mu.Unlock()
		if !target && before {
			if !spent.again() {
				continue // its first answer has to do
			}
			q.budget = spent
		}
		asked = append(asked, q)
	}
	open = len(asked)
	wg.Add(open)
	for _, q := range asked {
		if q.network == "udp" {
			r.askUDP(ctx, q)
			continue
		}
		select {
		case r.slots <- struct{}{}:
			r.tcp.ask(ctx, q)
		case <-ctx.Done():
			q.done(q, true)
		}
	}
}

// askUDP hands q to the socket of its family.
func (r *run) askUDP(ctx context.Context, q *question) {
	family := 0
	if q.Addr.Addr().Is6() {
		family = 1
	}
	if r.udp[family] == nil {
		u, err := newUDP(r, q.Addr.Addr().Is6())
		if err != nil {
			q.answer.conclude(Inconclusive, LocalError)
			q.answer.Reply = err.Error()
			q.done(q, false)
			return
		}
		r.udp[family] = u
	}
	r.udp[family].ask(ctx, q)
}

// result is q's answer as it is reported.
func (r *run) result(q *question) Result {
	a := q.answer
	a.Run = r.out.Run
	if a.Source == "" {
		if source, err := r.source(q.Addr); err == nil {
			a.Source = source.String()
		}
	}
	return Result{Addr: q.Addr, Protocol: q.network, Answer: a, Exposures: q.Exposures}
}

// count notes that a target is done, and stops the run if too many failed because of this machine.
func (r *run) count(fault bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done++
	if fault {
		r.local++
	}
	if r.done >= 20 && r.local*20 > r.done {
		r.stop(ErrLocal)
	}
	if r.Progress != nil && r.total > 0 {
		r.Progress(min(r.done, r.total), r.total)
	}
}

// verify reads the owners again and keeps the results of the addresses that have not changed hands.
func (r *run) verify(ctx context.Context, results []Result, before map[netip.AddrPort]string) {
	if len(results) == 0 {
		return
	}
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
	}
	var targets []Target
	for _, x := range results {
		targets = append(targets, Target{Addr: x.Addr, TCP: x.Protocol == "tcp", UDP: x.Protocol == "udp", Exposures: x.Exposures})
	}
	targets = merge(targets)
	tokens, err := r.Owned(ctx, targets)
	after := map[netip.AddrPort]string{}
	if err == nil && len(tokens) == len(targets) {
		for i, t := range targets {
			after[t.Addr] = tokens[i]
		}
	}
	for i, x := range results {
		if after[x.Addr] != before[x.Addr] {
			stale := Answer{Run: r.out.Run}
			stale.conclude(Stale, "")
			results[i].Answer = stale
		}
	}
	r.keep(results)
}

func (r *run) keep(results []Result) { r.out.Results = append(r.out.Results, results...) }

func (r *run) leave(targets []Target, reason string) {
	for _, t := range targets {
		r.leaveOne(Left{Addr: t.Addr, Reason: reason, Gap: true})
	}
}

func (r *run) leaveOne(l Left) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.Left = append(r.out.Left, l)
}

// control asks the control address over the protocols of the targets.
func (r *run) control(ctx context.Context, targets []Target) {
	t := Target{Addr: r.Control}
	for _, other := range targets {
		t.TCP, t.UDP = t.TCP || other.TCP, t.UDP || other.UDP
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	r.begin(ctx, t, &wg, false, func(x Result) {
		mu.Lock()
		defer mu.Unlock()
		r.out.Control = append(r.out.Control, x)
	})
	wg.Wait()
}

// finish says of every silence what it is worth, and puts the outcome in order.
func (r *run) finish(ctx context.Context) {
	controls := slices.Clone(r.out.Control)
	for _, x := range r.out.Results {
		if x.Addr == r.Control {
			controls = append(controls, x)
		}
	}
	for i := range r.out.Results {
		x := &r.out.Results[i]
		if x.Answer.Verdict != Filtered && x.Answer.Verdict != Inconclusive {
			continue
		}
		asked, silent := false, false
		for _, c := range controls {
			if c.Protocol == x.Protocol {
				asked = true
				silent = silent || c.Answer.Verdict == Filtered || c.Answer.Verdict == Inconclusive
			}
		}
		switch {
		case silent:
			x.Answer.Note = "this vantage point cannot see the port: the control address did not answer either"
		case !asked:
			x.Answer.Note = "not verified: no control address was given"
		}
	}
	slices.SortStableFunc(r.out.Results, func(a, b Result) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Protocol, b.Protocol))
	})
	slices.SortStableFunc(r.out.Left, func(a, b Left) int { return a.Addr.Compare(b.Addr) })
	r.out.Complete = ctx.Err() == nil && !slices.ContainsFunc(r.out.Left, func(l Left) bool { return l.Gap })
	if ctx.Err() != nil {
		r.out.Stopped = context.Cause(ctx)
	}
	for _, u := range r.udp {
		if u != nil {
			r.out.Strays += u.strayed()
		}
	}
	r.out.Finished = time.Now().UTC()
}

// source returns this machine's address towards addr. It connects a UDP socket, which sends nothing.
func (r *run) source(addr netip.AddrPort) (netip.Addr, error) {
	key := networkOf(addr.Addr())
	if addr.Addr().IsLoopback() && addr.Addr().Is4() {
		key = netip.PrefixFrom(addr.Addr(), network4).Masked()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if a, ok := r.sources[key]; ok {
		return a, nil
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	a := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	r.sources[key] = a
	return a, nil
}

// why says why ctx ended.
func why(ctx context.Context) string {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause.Error()
	}
	return "the run was interrupted"
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
