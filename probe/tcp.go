package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// The steps of an Exchange.
const (
	stepVersion    = "version"
	stepNOOP       = "noop"
	stepTLSVersion = "tls-version"
	stepTLSNOOP    = "tls-noop"
	stepStats      = "stats"
)

// tlsMax is how many bytes of TLS are read of one connection.
const tlsMax = 64 << 10

// tcp asks over TCP. Connects wait for their answer in a connector; what was connected is talked to by the workers.
type tcp struct {
	run       *run
	connector *connector
	ready     chan *talk
	workers   sync.WaitGroup
}

// talk is a connection on which the conversation can begin.
type talk struct {
	ctx  context.Context
	q    *question
	conn net.Conn // nil if it was reset before anything could be sent
}

// newTCP starts as many workers as n targets can use. Not more than slots questions are asked at once.
func newTCP(ctx context.Context, r *run, n, slots int) (*tcp, error) {
	c, err := newConnector(ctx)
	if err != nil {
		return nil, err
	}
	t := &tcp{run: r, ready: make(chan *talk, slots), connector: c}
	for range min(r.Workers, n) {
		t.workers.Go(func() {
			for x := range t.ready {
				t.converse(x)
			}
		})
	}
	return t, nil
}

// close waits for the end of what is under way; every question has been answered.
func (t *tcp) close() {
	t.connector.close()
	close(t.ready)
	t.workers.Wait()
}

// ask begins with T0, the connect.
func (t *tcp) ask(ctx context.Context, q *question) { t.connect(ctx, q, 1) }

func (t *tcp) connect(ctx context.Context, q *question, attempt int) {
	if ctx.Err() != nil {
		t.end(q, true)
		return
	}
	if !q.budget.packet() {
		t.finish(q, Filtered, Timeout)
		return
	}
	start := time.Now()
	t.connector.dial(ctx, q.Addr, t.run.Timeout, func(conn net.Conn, err error) {
		switch {
		case err == nil:
			t.ready <- &talk{ctx, q, conn}
			return
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			t.end(q, true)
			return
		}
		reset := errors.Is(err, syscall.ECONNRESET) // a connect that is reset at once is refused: this one succeeded
		q.answer.Exchanges = append(q.answer.Exchanges, Exchange{
			Step: stepVersion, Attempt: attempt, At: start.UTC(), RTT: milliseconds(time.Since(start)), Error: plain(err),
		})
		if reset {
			t.ready <- &talk{ctx, q, nil}
			return
		}
		verdict, detail := judgeConnect(err, func() error {
			_, err := t.run.source(q.Addr)
			return err
		})
		if verdict == Filtered && detail == Timeout && attempt == 1 {
			t.connect(ctx, q, 2)
			return
		}
		t.finish(q, verdict, detail)
	})
}

// finish ends a question with a verdict and frees its slot.
func (t *tcp) finish(q *question, v Verdict, detail string) {
	q.answer.conclude(v, detail)
	t.end(q, false)
}

func (t *tcp) end(q *question, cut bool) {
	<-t.run.slots
	q.done(q, cut)
}

// judgeConnect says what an error of connect shows. route tells whether this machine has a route to the target.
func judgeConnect(err error, route func() error) (Verdict, string) {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return Closed, Refused
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS),
		errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EPERM):
		return Inconclusive, LocalError
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EACCES):
		return Filtered, Rejected
	case errors.Is(err, syscall.ENETUNREACH):
		if route() != nil {
			return Inconclusive, LocalError
		}
		return Filtered, Rejected
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return Filtered, Timeout
	case errors.Is(err, syscall.ENOPROTOOPT):
		return Filtered, Rejected
	}
	return Inconclusive, LocalError
}

// converse carries out T1 to T3 and answers the question.
func (t *tcp) converse(x *talk) {
	q := x.q
	r := t.version(x)
	if r.verdict == "" && x.ctx.Err() == nil {
		r = t.noop(x)
	}
	if r.verdict == "" && x.ctx.Err() == nil {
		r = t.inside(x)
	}
	switch {
	case r.verdict == "" && x.ctx.Err() != nil:
		t.end(q, true)
		return
	case r.verdict == "":
		r.verdict, r.detail = Inconclusive, Unidentified
	}
	q.answer.take(r)
	t.end(q, false)
}

// take makes r the verdict of a.
func (a *Answer) take(r reply) {
	a.conclude(r.verdict, r.detail)
	if r.version != "" {
		a.Product, a.Version = identify(r.version)
	}
	if r.text != "" {
		a.Reply = visible(r.text)
	}
}

// version is T1, on the connection of T0.
func (t *tcp) version(x *talk) reply {
	if x.conn == nil {
		return reply{}
	}
	if a, ok := x.conn.LocalAddr().(*net.TCPAddr); ok {
		x.q.answer.Source = a.AddrPort().Addr().Unmap().String()
	}
	return judgeLine(t.exchange(x, x.conn, stepVersion, paddedVersion(), untilLine, closeHard(x.conn)))
}

// noop is T2.
func (t *tcp) noop(x *talk) reply {
	conn := t.again(x, stepNOOP)
	if conn == nil {
		return reply{}
	}
	return t.binary(x, conn, stepNOOP, closeHard(conn))
}

// binary sends a NOOP and judges the reply: one that begins as a binary reply by 24 bytes, else a line.
func (t *tcp) binary(x *talk, conn net.Conn, step string, hangUp func()) reply {
	opaque := randomOpaque()
	got := t.exchange(x, conn, step, noop(opaque), untilReply, hangUp)
	if len(got) > 0 && got[0] == 0x81 {
		return judgeNOOP(got, opaque)
	}
	return judgeLine(got)
}

// inside is T3: what is inside TLS. Nothing is verified, for TLS identifies here and does not protect anything.
func (t *tcp) inside(x *talk) reply {
	seen := reply{}
	for _, step := range []string{stepTLSVersion, stepTLSNOOP} {
		raw := t.again(x, step)
		if raw == nil {
			return seen
		}
		hangUp := closeHard(raw)
		limited := &limitedConn{Conn: raw, left: tlsMax}
		wanted := false // a client certificate
		conn := tls.Client(limited, &tls.Config{
			MinVersion: tls.VersionTLS12, InsecureSkipVerify: true,
			// A hello without post-quantum shares fits into one small packet.
			CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				wanted = true
				return &tls.Certificate{}, nil
			},
		})
		_ = raw.SetDeadline(time.Now().Add(t.run.Timeout))
		unhook := context.AfterFunc(x.ctx, hangUp)
		start := time.Now()
		err := conn.HandshakeContext(x.ctx)
		unhook()
		if err != nil {
			hangUp()
			x.q.answer.Exchanges = append(x.q.answer.Exchanges, Exchange{
				Step: step, Attempt: x.q.budget.packets, At: start.UTC(), RTT: milliseconds(time.Since(start)), Error: plain(err),
			})
			if r, ok := judgeAlert(err, wanted); ok {
				return r
			}
			return seen
		}
		var r reply
		if step == stepTLSVersion {
			r = judgeLine(t.exchange(x, conn, step, paddedVersion(), untilLine, hangUp))
		} else {
			r = t.binary(x, conn, step, hangUp)
		}
		if r.verdict != "" {
			return insideTLS(r)
		}
		if r, ok := judgeAlert(limited.failed, wanted); ok && r.detail == ClientCert {
			return r
		}
		seen = reply{verdict: TLS, detail: Unidentified}
	}
	return seen
}

// insideTLS is what r means when it came inside TLS.
func insideTLS(r reply) reply {
	switch r.verdict {
	case Open:
		r.detail = string(Open)
	case AuthRequired: // the detail stays
	case Compatible:
		r.detail = string(Compatible)
	default:
		r.verdict, r.detail = Other, "tls"
		return r
	}
	r.verdict = TLS
	return r
}

// judgeAlert judges an alert that the other side sent, after it asked for a client certificate or not. TLS 1.2 has no alert
// of its own for a missing certificate: there a failure of the handshake says it (RFC 5246, 7.4.6).
func judgeAlert(err error, wanted bool) (reply, bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return reply{}, false
	}
	switch text := op.Err.Error(); { // crypto/tls does not export the type of its alerts
	case text == "tls: certificate required", text == "tls: bad certificate", wanted && text == "tls: handshake failure":
		return reply{verdict: TLS, detail: ClientCert}, true
	}
	return reply{verdict: TLS, detail: Unidentified}, true
}

// again opens one more connection to the target, or returns nil.
func (t *tcp) again(x *talk, step string) net.Conn {
	if x.ctx.Err() != nil || !x.q.budget.packet() {
		return nil
	}
	start := time.Now()
	dialer := net.Dialer{Timeout: t.run.Timeout, KeepAlive: -1}
	conn, err := dialer.DialContext(x.ctx, "tcp", x.q.Addr.String())
	if err != nil {
		x.q.answer.Exchanges = append(x.q.answer.Exchanges, Exchange{
			Step: step, Attempt: x.q.budget.packets, At: start.UTC(), RTT: milliseconds(time.Since(start)), Error: plain(err),
		})
		return nil
	}
	return conn
}

// exchange sends request and reads until enough says so, 512 bytes, the end or the deadline. What was read counts, whatever
// happened to the write: a server may answer and close before it reads.
func (t *tcp) exchange(x *talk, conn net.Conn, step string, request []byte, enough func([]byte) bool, hangUp func()) []byte {
	defer hangUp()
	q := x.q
	if !q.budget.payload(len(request)) {
		return nil
	}
	defer context.AfterFunc(x.ctx, hangUp)()
	start := time.Now()
	if _, inside := conn.(*tls.Conn); !inside {
		_ = conn.SetDeadline(start.Add(t.run.Timeout))
	}
	e := Exchange{Step: step, Attempt: q.budget.packets, At: start.UTC(), Sent: len(request), SentHex: hexOf(request)}
	_, writeErr := conn.Write(request)
	buf := make([]byte, replyMax)
	n := 0
	var readErr error
	for n < len(buf) && !enough(buf[:n]) && readErr == nil {
		var m int
		m, readErr = conn.Read(buf[n:])
		if n == 0 && m > 0 {
			e.RTT = milliseconds(time.Since(start))
		}
		n += m
	}
	if c, inside := conn.(*tls.Conn); inside {
		if l, ok := c.NetConn().(*limitedConn); ok {
			l.failed = errors.Join(readErr, writeErr)
		}
	}
	switch {
	case n > 0:
	case readErr != nil:
		e.Error = plain(readErr)
	case writeErr != nil:
		e.Error = plain(writeErr)
	}
	e.Received, e.ReceivedHex = n, hexOf(buf[:n])
	q.answer.Sent += e.Sent
	q.answer.Received += n
	q.answer.Exchanges = append(q.answer.Exchanges, e)
	return buf[:n]
}

func untilLine(b []byte) bool { return bytes.IndexByte(b, '\n') >= 0 }

func untilReply(b []byte) bool {
	if len(b) > 0 && b[0] == 0x81 {
		return len(b) >= headerLen
	}
	return untilLine(b)
}

// closeHard returns a function that closes conn with a reset: neither side keeps the state of a connection that is over.
func closeHard(conn net.Conn) func() {
	return sync.OnceFunc(func() {
		if c, ok := conn.(interface{ SetLinger(int) error }); ok {
			_ = c.SetLinger(0)
		}
		_ = conn.Close()
	})
}

// limitedConn is a connection of which only so many bytes are read.
type limitedConn struct {
	net.Conn
	left   int
	failed error // what ended the conversation above it
}

var errTooLong = errors.New("more bytes than a handshake needs")

func (c *limitedConn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooLong
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

func randomOpaque() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails, as crypto/rand documents
	return binary.BigEndian.Uint32(b[:])
}

func hexOf(b []byte) string { return hex.EncodeToString(b[:min(len(b), textMax)]) }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// plain is an error without the addresses that package net puts in front, and fit to be shown.
func plain(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil && op.Op != "remote error" {
		err = op.Err
	}
	return visible(err.Error())
}

// connected is told the outcome of a connect.
type connected func(net.Conn, error)
