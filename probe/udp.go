package probe

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	datagramBuffer = 2 << 10 // the rest of a datagram is cut
	measureTime    = 2 * time.Second
)

// packet is a datagram, or an ICMP error about one that was sent to from.
type packet struct {
	from netip.AddrPort
	n    int
	cut  bool // the datagram was longer than the buffer
	icmp *icmpError
}

// icmpError is what a router or host said about a datagram.
type icmpError struct {
	v6         bool
	kind, code byte
	by         netip.Addr // who said it
}

// String is type/code.
func (e *icmpError) String() string { return fmt.Sprintf("%d/%d", e.kind, e.code) }

// judge says what e shows; it returns no verdict for an error that shows nothing, such as a packet that was too large.
func (e *icmpError) judge() (Verdict, string) {
	unreachable, port := byte(3), byte(3) // RFC 792
	if e.v6 {
		unreachable, port = 1, 4 // RFC 4443
	}
	switch {
	case e.kind != unreachable:
	case e.code == port:
		return Closed, Refused
	case e.v6 || e.code != 4: // 3/4: fragmentation needed
		return Filtered, Rejected
	}
	return "", ""
}

// stage is where the conversation with one target stands.
type stage uint8

const (
	asked     stage = iota // U1, the first NOOP
	repeated               // U1, the second NOOP
	rejected               // an ICMP error came; a reply would still beat it
	version                // U2, the first request for the version
	reversion              // U2, the second one
	measuring              // U3
	over
)

// udpAsk is the state of one question over UDP.
type udpAsk struct {
	ctx    context.Context
	q      *question
	stage  stage
	cookie uint64 // request id and opaque value of U1
	id     uint16 // of the request under way
	from   netip.AddrPort
	weak   *reply // other/unrecognised, if nothing better comes

	total     int // datagrams of the reply to the measurement, by its first one
	sequences map[uint16][]byte
	bytes     int

	due   time.Time
	index int // in the heap of deadlines
}

// route is where a reply to one request comes from, and its request id.
type route struct {
	from netip.AddrPort
	id   uint16
}

// udp asks over UDP on one unconnected socket of a family. A reply belongs to the target whose cookie it carries,
// wherever it comes from: a server that is bound to every address answers from the first of them.
type udp struct {
	run    *run
	socket *socket
	ended  sync.WaitGroup
	kick   chan struct{}
	quit   chan struct{}

	mu      sync.Mutex
	cookies map[uint64]*udpAsk
	targets map[netip.AddrPort]*udpAsk
	routes  map[route]*udpAsk // of every request under way
	ids     map[uint16]int    // how many targets U1 asked with this id
	byID    map[uint16]*udpAsk
	due     deadlines
	strays  int
}

func newUDP(r *run, v6 bool) (*udp, error) {
	s, err := newSocket(v6)
	if err != nil {
		return nil, err
	}
	u := &udp{
		run: r, socket: s, kick: make(chan struct{}, 1), quit: make(chan struct{}),
		cookies: map[uint64]*udpAsk{}, targets: map[netip.AddrPort]*udpAsk{}, routes: map[route]*udpAsk{},
		ids: map[uint16]int{}, byID: map[uint16]*udpAsk{},
	}
	u.ended.Go(u.read)
	u.ended.Go(u.keepTime)
	return u, nil
}

// close ends the reader and the clock; every question has been answered.
func (u *udp) close() {
	close(u.quit)
	u.socket.close()
	u.ended.Wait()
	u.socket.free()
}

func (u *udp) strayed() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.strays
}

// ask begins with U1.
func (u *udp) ask(ctx context.Context, q *question) {
	u.mu.Lock()
	defer u.mu.Unlock()
	a := &udpAsk{ctx: ctx, q: q, index: -1}
	for n := byte(0); ; n++ {
		a.cookie = u.hash(q.Addr, n, 0)
		a.id = uint16(a.cookie >> 32)
		if u.cookies[a.cookie] == nil && u.routes[route{q.Addr, a.id}] == nil {
			break
		}
	}
	u.cookies[a.cookie] = a
	u.targets[q.Addr] = a
	u.routes[route{q.Addr, a.id}] = a
	u.ids[a.id]++
	u.byID[a.id] = a
	if ctx.Err() != nil {
		u.end(a, true)
		return
	}
	u.sendNOOP(a, asked)
}

// hash derives 48 bits for a request to addr from the run's key: what only the asked side knows.
func (u *udp) hash(addr netip.AddrPort, n, step byte) uint64 {
	mac := hmac.New(sha256.New, u.run.key[:])
	ip := addr.Addr().As16()
	mac.Write(ip[:])
	mac.Write([]byte{byte(addr.Port() >> 8), byte(addr.Port()), n, step})
	return binary.BigEndian.Uint64(mac.Sum(nil)) >> 16
}

func (u *udp) sendNOOP(a *udpAsk, s stage) {
	wait := u.run.Timeout / 2
	if s == repeated {
		wait = u.run.Timeout
	}
	u.send(a, s, stepNOOP, udpNOOP(a.id, uint32(a.cookie)), wait)
}

// send takes one request from the budget and sends it to the address that was admitted, wherever replies come from: the
// other side must not choose whom the probe sends to. After wait the stage is over.
func (u *udp) send(a *udpAsk, s stage, step string, b []byte, wait time.Duration) {
	a.stage = s
	if !a.q.budget.datagram(len(b)) {
		u.elapsed(a)
		return
	}
	attempt := 1
	if s == repeated || s == reversion {
		attempt = 2
	}
	e := Exchange{Step: step, Attempt: attempt, At: time.Now().UTC(), Sent: len(b), SentHex: hexOf(b)}
	err := u.socket.send(b, a.q.Addr)
	if err != nil {
		e.Error, e.Sent, e.SentHex = plain(err), 0, ""
	}
	a.q.answer.Sent += e.Sent
	a.q.answer.Exchanges = append(a.q.answer.Exchanges, e)
	if err != nil && s <= repeated && len(a.q.answer.Exchanges) == 1 {
		a.q.answer.conclude(Filtered, Rejected)
		if localFault(err) {
			a.q.answer.conclude(Inconclusive, LocalError)
		}
		u.end(a, false)
		return
	}
	u.wait(a, wait)
}

// wait sets a's deadline.
func (u *udp) wait(a *udpAsk, d time.Duration) {
	a.due = time.Now().Add(d)
	if a.index < 0 {
		heap.Push(&u.due, a)
	} else {
		heap.Fix(&u.due, a.index)
	}
	if u.due[0] == a {
		select {
		case u.kick <- struct{}{}:
		default:
		}
	}
}

// keepTime ends the stages whose time is over.
func (u *udp) keepTime() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var ended <-chan struct{}
	for {
		u.mu.Lock()
		now, next := time.Now(), time.Hour
		for len(u.due) > 0 {
			a := u.due[0]
			if a.ctx.Err() != nil {
				u.interrupt(a)
				continue
			}
			ended = a.ctx.Done()
			if wait := a.due.Sub(now); wait > 0 {
				next = wait
				break
			}
			u.elapsed(a)
		}
		u.mu.Unlock()
		timer.Reset(next)
		select {
		case <-timer.C:
		case <-u.kick:
		case <-ended:
			ended = nil // until another question is asked
		case <-u.quit:
			return
		}
	}
}

// elapsed goes on when the time of a's stage is over.
func (u *udp) elapsed(a *udpAsk) {
	switch a.stage {
	case asked:
		u.sendNOOP(a, repeated)
	case repeated:
		a.q.answer.conclude(Inconclusive, NoResponse)
		if a.weak != nil {
			a.q.answer.take(*a.weak)
		}
		u.end(a, false)
	case rejected:
		u.end(a, false)
	case version:
		u.send(a, reversion, stepVersion, udpVersion(a.id), u.run.Timeout)
	case reversion:
		a.q.answer.conclude(AuthRequired, SASL)
		u.end(a, false)
	case measuring:
		u.measured(a)
	}
}

// interrupt ends a as it stands: what has answered is kept.
func (u *udp) interrupt(a *udpAsk) {
	switch a.stage {
	case measuring:
		u.measured(a)
	case version, reversion:
		a.q.answer.conclude(AuthRequired, SASL)
		u.end(a, false)
	case rejected:
		u.end(a, false)
	default:
		u.end(a, true)
	}
}

// end answers the question and forgets it.
func (u *udp) end(a *udpAsk, cut bool) {
	delete(u.cookies, a.cookie)
	delete(u.targets, a.q.Addr)
	first := uint16(a.cookie >> 32)
	delete(u.routes, route{a.q.Addr, first})
	delete(u.routes, route{a.from, a.id})
	if u.ids[first]--; u.ids[first] == 0 {
		delete(u.ids, first)
		delete(u.byID, first)
	} else if u.byID[first] == a {
		delete(u.byID, first) // ambiguous by now: nobody is blamed
	}
	if a.index >= 0 {
		heap.Remove(&u.due, a.index)
	}
	a.stage = over
	a.q.done(a.q, cut)
}

// read takes in what comes until the socket is closed.
func (u *udp) read() {
	buf := make([]byte, datagramBuffer)
	for {
		p, err := u.socket.receive(buf)
		if err != nil {
			return
		}
		u.mu.Lock()
		if p.icmp != nil {
			u.unreachable(p, buf[:p.n])
		} else {
			u.received(p.from, buf[:p.n], p.cut, time.Now())
		}
		u.mu.Unlock()
	}
}

// unreachable takes in an ICMP error with what it quotes of the request, which may be nothing (RFC 792). One that quotes
// another request is about none of ours. A reply that is there, or comes yet, beats it.
func (u *udp) unreachable(p packet, quoted []byte) {
	a := u.targets[p.from]
	if a == nil || len(quoted) >= 2 && binary.BigEndian.Uint16(quoted) != a.id {
		u.strays++
		return
	}
	if a.stage > repeated || a.weak != nil {
		return
	}
	a.q.answer.ICMP = p.icmp.String()
	if p.icmp.by.IsValid() && p.icmp.by.Unmap() != p.from.Addr() {
		a.q.answer.ICMP += " from " + p.icmp.by.Unmap().String()
	}
	if verdict, detail := p.icmp.judge(); verdict != "" {
		a.q.answer.conclude(verdict, detail)
		e := &a.q.answer.Exchanges[len(a.q.answer.Exchanges)-1]
		e.RTT, e.Error = milliseconds(time.Since(e.At)), "ICMP "+p.icmp.String()
		a.stage = rejected
		u.wait(a, u.run.Timeout/4)
	}
}

// received takes in a datagram.
func (u *udp) received(from netip.AddrPort, b []byte, cut bool, now time.Time) {
	f, ok := parseFrame(b)
	if !ok {
		u.ignore(from)
		return
	}
	// The answer to U1, by its cookie.
	if f.sequence == 0 && len(f.payload) >= headerLen {
		opaque := binary.BigEndian.Uint32(f.payload[12:])
		if a := u.cookies[uint64(f.id)<<32|uint64(opaque)]; a != nil {
			if status, ok := noopStatus(f.payload, opaque); ok {
				if a.stage <= rejected {
					u.strong(a, from, b, status, now)
				}
				return
			}
		}
	}
	a := u.routes[route{from, f.id}]
	switch {
	case a == nil:
		if a := u.byID[f.id]; a != nil && u.ids[f.id] == 1 && a.q.Addr != from {
			a.q.answer.SpoofSuspected++
			return
		}
		u.ignore(from)
	case a.stage <= rejected:
		u.framed(a, f, b, now)
	case f.id != a.id: // late replies to U1
	case a.stage == measuring:
		u.measure(a, f, b, cut, now)
	case a.stage == version || a.stage == reversion:
		if f.sequence != 0 {
			return
		}
		u.note(a, b, now)
		if v, ok := parseVersion(f.payload); ok {
			a.q.answer.take(reply{verdict: Open, detail: SASLBypass, version: v})
			a.q.answer.Ceiling, a.q.answer.CeilingBasis = ceiling(0)
		} else {
			a.q.answer.conclude(AuthRequired, SASL)
		}
		u.end(a, false)
	}
}

// ignore counts what is no reply.
func (u *udp) ignore(from netip.AddrPort) {
	if a := u.targets[from]; a != nil {
		a.q.answer.Ignored++
		return
	}
	u.strays++
}

// note adds a datagram to the exchange that it ends.
func (u *udp) note(a *udpAsk, b []byte, now time.Time) {
	e := &a.q.answer.Exchanges[len(a.q.answer.Exchanges)-1]
	if e.Received == 0 {
		e.RTT, e.ReceivedHex = milliseconds(now.Sub(e.At)), hexOf(b)
	}
	e.Received += len(b)
	a.q.answer.Received += len(b)
}

// strong takes in a reply to the NOOP that carries the cookie.
func (u *udp) strong(a *udpAsk, from netip.AddrPort, b []byte, status uint16, now time.Time) {
	u.note(a, b, now)
	if from != a.q.Addr {
		a.q.answer.RepliedFrom = from.Addr().String()
		if from.Port() != a.q.Addr.Port() {
			a.q.answer.RepliedFrom = from.String()
		}
	}
	a.q.answer.ICMP = ""
	a.q.answer.Reply = ""
	switch status {
	case 0:
		a.q.answer.conclude(Open, NOOP)
		u.beginMeasure(a, from)
	case 0x20:
		u.fresh(a, from, 1)
		u.send(a, version, stepVersion, udpVersion(a.id), u.run.Timeout/2)
	default:
		a.q.answer.conclude(Compatible, Status)
		u.end(a, false)
	}
}

// framed takes in a reply with U1's id from the asked address and without the cookie.
func (u *udp) framed(a *udpAsk, f frame, b []byte, now time.Time) {
	u.note(a, b, now)
	if f.sequence == 0 && isErrorLine(f.payload) {
		line, _, _ := bytes.Cut(f.payload, []byte("\r\n"))
		a.q.answer.ICMP = ""
		a.q.answer.take(reply{verdict: Open, detail: Legacy, text: string(line)})
		u.beginMeasure(a, a.q.Addr)
		return
	}
	if a.weak == nil || f.sequence == 0 {
		a.weak = &reply{verdict: Other, detail: Unrecognised, text: string(f.payload[:min(len(f.payload), textMax)])}
	}
}

// fresh gives a a new request id for a step, to be answered by from.
func (u *udp) fresh(a *udpAsk, from netip.AddrPort, step byte) {
	first := a.id
	for n := byte(0); ; n++ {
		a.id = uint16(u.hash(a.q.Addr, n, step) >> 32)
		if a.id != first && u.routes[route{from, a.id}] == nil {
			break
		}
	}
	a.from = from
	u.routes[route{from, a.id}] = a
}

// beginMeasure is U3.
func (u *udp) beginMeasure(a *udpAsk, from netip.AddrPort) {
	a.q.answer.Ceiling, a.q.answer.CeilingBasis = ceiling(0)
	if !a.q.measure || a.ctx.Err() != nil {
		u.end(a, false)
		return
	}
	u.fresh(a, from, 2)
	a.sequences = map[uint16][]byte{}
	u.send(a, measuring, stepStats, udpStats(a.id), measureTime)
}

// measure counts a datagram of the reply to the measurement.
func (u *udp) measure(a *udpAsk, f frame, b []byte, cut bool, now time.Time) {
	if a.total == 0 {
		a.total = int(f.total)
	}
	if _, again := a.sequences[f.sequence]; again || int(f.total) != a.total {
		a.q.answer.AtLeast = true // more than one reply, or a network that repeats itself
		return
	}
	u.note(a, b, now)
	a.sequences[f.sequence] = slices.Clone(f.payload)
	a.bytes += len(b)
	a.q.answer.AtLeast = a.q.answer.AtLeast || cut
	if len(a.sequences) == a.total || a.bytes >= measureBytes {
		u.measured(a)
	}
}

// measured ends the measurement with what has come.
func (u *udp) measured(a *udpAsk) {
	defer u.end(a, false)
	x := &a.q.answer
	if len(a.sequences) == 0 {
		return
	}
	sent := x.Exchanges[len(x.Exchanges)-1].Sent
	x.Sent, x.Received, x.Datagrams = sent, a.bytes, len(a.sequences)
	x.Amplification = tenth(float64(x.Received) / float64(sent))
	x.WireFactor = wireFactor(x.Received, x.Datagrams, sent, a.q.Addr.Addr())
	x.AtLeast = x.AtLeast || len(a.sequences) < a.total
	var text bytes.Buffer
	for _, sequence := range slices.SortedFunc(maps.Keys(a.sequences), cmp.Compare[uint16]) {
		text.Write(a.sequences[sequence])
	}
	v, held := statistics(text.String())
	if v != "" {
		x.Product, x.Version = identify(v)
	}
	if held != nil {
		x.Held = held
		x.Ceiling, x.CeilingBasis = ceiling(held.Limit)
	}
}

// deadlines is a heap: first what is due first.
type deadlines []*udpAsk

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].due.Before(d[j].due) }
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}

func (d *deadlines) Push(x any) {
	a := x.(*udpAsk)
	a.index = len(*d)
	*d = append(*d, a)
}

func (d *deadlines) Pop() any {
	last := len(*d) - 1
	a := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	a.index = -1
	return a
}
