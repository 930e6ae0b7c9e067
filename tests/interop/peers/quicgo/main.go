// The peer around quic-go with crypto/tls. Contract: ../README.md.
//
//	main -+- serve: accepts; one goroutine a connection        connection.go: what both roles do with one of them
//	      +- call:  one connection after the other             trace.go: which streams are acknowledged
package main

import (
	"context"
	"errors"
	"math"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	_ "unsafe" // for linkname

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlogwriter"
)

const (
	receiveWindow = 8 << 20 // bytes of a connection: what Agave grants
	streamWindow  = 1 << 20 // bytes
	flushTime     = 50 * time.Millisecond
)

// firstKeyUpdate is the number of packets after which quic-go updates its keys for the first time. By itself that is 100; the
// next is far away.
//
//go:linkname firstKeyUpdate github.com/quic-go/quic-go/internal/handshake.FirstKeyUpdateInterval
var firstKeyUpdate uint64

func limit(n int64) int64 {
	if n == 0 {
		return -1 // quic-go's word for none: 0 is its default
	}
	return n
}

// Tokens that servers gave in NEW_TOKEN, for the connections after the first.
var tokens = quic.NewLRUTokenStore(16, 4)

func quicConfig(o *options) *quic.Config {
	return &quic.Config{
		TokenStore:                     tokens,
		Versions:                       []quic.Version{quic.Version1},
		HandshakeIdleTimeout:           min(o.timeout, o.idle),
		MaxIdleTimeout:                 o.idle,
		InitialStreamReceiveWindow:     streamWindow,
		MaxStreamReceiveWindow:         streamWindow,
		InitialConnectionReceiveWindow: receiveWindow,
		MaxConnectionReceiveWindow:     receiveWindow,
		MaxIncomingUniStreams:          limit(o.maxUni),
		MaxIncomingStreams:             limit(o.maxBidi),
		Allow0RTT:                      o.zeroRTT,
		EnableDatagrams:                true,
	}
}

type ours struct{} // the key of a connection in its context

func serve(o *options, s *sums) int {
	address, err := net.ResolveUDPAddr("udp", o.address)
	if err != nil {
		fail(exUsage, "%v", err)
	}
	socket, err := net.ListenUDP("udp", address)
	if err != nil {
		fail(exUnreachable, "%v", err)
	}
	// Asked only for a client that has shown no good token.
	transport := &quic.Transport{Conn: socket, VerifySourceAddress: func(net.Addr) bool {
		if o.retry {
			say("retry", fields{})
		}
		return o.retry
	}}
	// The connection of ours comes into being with quic-go's, whose context carries it to the tracer and to Accept.
	var number atomic.Int64
	transport.ConnContext = func(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
		return context.WithValue(ctx, ours{}, newConnection(o, s, int(number.Add(1)-1))), nil
	}
	config := quicConfig(o)
	config.Tracer = func(ctx context.Context, isClient bool, id quic.ConnectionID) qlogwriter.Trace {
		return ctx.Value(ours{}).(*connection).trace.tracer(ctx, isClient, id)
	}
	listener, err := transport.ListenEarly(tlsConfig(o, nil), config)
	if err != nil {
		fail(exUnreachable, "%v", err)
	}
	say("ready", fields{"port": socket.LocalAddr().(*net.UDPAddr).Port})
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	var running sync.WaitGroup
	var open sync.Map
	for {
		conn, err := listener.Accept(stop)
		if err != nil {
			break
		}
		c := conn.Context().Value(ours{}).(*connection)
		open.Store(c, nil)
		running.Add(1)
		go func() {
			defer running.Done()
			defer open.Delete(c)
			accepted(c, conn)
		}()
	}
	open.Range(func(key, _ any) bool {
		key.(*connection).close(0, "stopped")
		return true
	})
	running.Wait()
	time.Sleep(flushTime) // the last packets are on their way out
	_ = transport.Close()
	return 0
}

func accepted(c *connection, conn *quic.Conn) {
	c.run(conn)
	select {
	case <-conn.HandshakeComplete():
	case <-conn.Context().Done():
	}
	if conn.Context().Err() == nil {
		c.connected()
		for index := range c.options.push {
			if c.send(conn.Context(), payload(index, c.options.pushSize), false) != nil {
				break
			}
		}
	}
	c.closed()
}

// until waits until ready; false where the connection ends before, or time is over.
func (c *connection) until(deadline <-chan time.Time, ready func() bool) bool {
	for !ready() {
		select {
		case <-c.changed:
		case <-c.quic.Context().Done():
			return ready()
		case <-deadline:
			return false
		}
	}
	return true
}

// burst sends what was asked for.
func (c *connection) burst(ctx context.Context, socket *movable, deadline <-chan time.Time) error {
	o := c.options
	move := func(after int) error {
		if !c.until(deadline, func() bool { return c.acked.Load() >= int64(after) }) {
			return errors.New("the streams before the rebinding were not delivered")
		}
		port, err := socket.move()
		say("rebound", fields{"conn": c.number, "port": port})
		return err
	}
	for index := range o.streams {
		if index > 0 && o.interval > 0 {
			time.Sleep(o.interval)
		}
		if index == o.rebindAfter {
			if err := move(index); err != nil {
				return err
			}
		}
		if err := c.send(ctx, payload(index, o.size), o.bidi); err != nil {
			return err
		}
	}
	for index := range o.datagrams {
		if err := c.quic.SendDatagram(payload(index, o.size)); err != nil {
			return err
		}
	}
	if o.rebindAfter >= o.streams {
		return move(o.streams)
	}
	return nil
}

// work reports whether everything was delivered, and whether there was a connection at all.
func (c *connection) work(ctx context.Context, socket *movable, deadline <-chan time.Time) (done, shaken bool) {
	o := c.options
	early := true // a connection that can be written to before its handshake is complete
	select {
	case <-c.quic.HandshakeComplete():
		early = false
	default:
	}
	err := c.burst(ctx, socket, deadline)
	select {
	case <-c.quic.HandshakeComplete():
	case <-c.quic.Context().Done():
		return false, false
	case <-deadline:
		return false, false
	}
	if early && !c.quic.ConnectionState().Used0RTT {
		// Refused early data is gone, with its streams: all of it goes once more.
		next, nextErr := c.quic.NextConnection(ctx)
		if nextErr != nil {
			return false, true
		}
		c.trace.forget()
		c.acked.Store(0)
		c.run(next)
		err = c.burst(ctx, socket, deadline)
	}
	if c.quic.Context().Err() == nil {
		c.connected()
	}
	expected := o.expect
	if o.bidi {
		expected += o.streams
	}
	return err == nil && c.until(deadline, func() bool {
		return c.acked.Load() >= int64(o.streams) && c.received.Load() >= int64(expected)
	}), true
}

func dial(o *options, s *sums, transport *quic.Transport, socket *movable, known *sessions, number int) int {
	address, err := net.ResolveUDPAddr("udp", o.address)
	if err != nil {
		fail(exUsage, "%v", err)
	}
	c := newConnection(o, s, number)
	config := quicConfig(o)
	config.Tracer = c.trace.tracer
	if o.versionNegotiation {
		// quic-go begins with no version that it does not speak: a server of version 1 does not know version 2.
		config.Versions = []quic.Version{quic.Version2, quic.Version1}
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.timeout)
	defer cancel()
	deadline := time.NewTimer(o.timeout)
	expired := make(chan time.Time)
	go func() { <-deadline.C; close(expired) }() // for whoever asks, as often as it asks
	call := transport.Dial
	if o.zeroRTT {
		call = transport.DialEarly
	}
	conn, err := call(ctx, address, tlsConfig(o, known), config)
	if err != nil {
		sayError(number, err)
		return exUnreachable
	}
	c.run(conn)
	done, shaken := c.work(ctx, socket, expired)
	if done && (o.count > 1 || o.resume != "") {
		select {
		case <-known.arrived:
			say("session", fields{"conn": number})
		case <-expired:
		case <-c.quic.Context().Done():
		}
	}
	if done {
		taken := make(chan os.Signal, 1)
		signal.Notify(taken, syscall.SIGUSR2)
		say("done", fields{"conn": number})
		if o.wait {
			select {
			case <-taken:
			case <-c.quic.Context().Done():
			}
		}
	}
	if done && o.hold > 0 {
		select {
		case <-time.After(o.hold):
		case <-c.quic.Context().Done():
		}
	}
	reason := "done"
	if !done {
		reason = "not done"
	}
	c.close(0, reason)
	c.closed()
	switch {
	case done:
		return 0
	case shaken:
		return exIncomplete
	}
	return exUnreachable
}

func call(o *options, s *sums) int {
	local := &net.UDPAddr{}
	if o.bind != "" {
		local.IP = net.ParseIP(o.bind)
	}
	plain, err := net.ListenUDP("udp", local)
	if err != nil {
		fail(exUnreachable, "%v", err)
	}
	socket := &movable{conn: plain}
	transport := &quic.Transport{Conn: plain}
	if o.rebindAfter != never {
		transport.Conn = socket // costs GSO and ECN, which quic-go has for real sockets only
	}
	known := newSessions(o.resume)
	for number := range o.count {
		if code := dial(o, s, transport, socket, known, number); code != 0 {
			return code
		}
	}
	_ = transport.Close()
	return 0
}

func main() {
	o := parse(os.Args[1:])
	if o.keyUpdateAfter != never {
		firstKeyUpdate = uint64(max(o.keyUpdateAfter, 1))
	} else {
		firstKeyUpdate = math.MaxUint64
	}
	s := &sums{}
	var code int
	if o.server {
		code = serve(o, s)
	} else {
		code = call(o, s)
	}
	say("summary", fields{"streams": s.streams.Load(), "bytes": s.bytes.Load(), "datagrams": s.datagrams.Load(), "acked": s.acked.Load()})
	os.Exit(code)
}
