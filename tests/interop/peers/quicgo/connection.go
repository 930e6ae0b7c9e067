package main

// What both roles do with a connection: receive streams and datagrams, count, say what happened.

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"
)

type fields map[string]any

var output sync.Mutex

func say(event string, more fields) {
	line := fields{"event": event}
	for name, value := range more {
		line[name] = value
	}
	text, err := json.Marshal(line)
	if err != nil {
		fail(exIncomplete, "%v", err)
	}
	output.Lock()
	defer output.Unlock()
	if _, err := os.Stdout.Write(append(text, '\n')); err != nil {
		os.Exit(exIncomplete) // nobody is left to be told
	}
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func payload(index, size int) []byte {
	block := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(index)))
	data := make([]byte, size)
	for at := 0; at < size; at += copy(data[at:], block[:]) {
	}
	return data
}

type sums struct{ streams, bytes, datagrams, acked atomic.Int64 }

type connection struct {
	quic     *quic.Conn
	options  *options
	sums     *sums
	number   int
	trace    *trace
	received atomic.Int64  // streams, whole
	acked    atomic.Int64  // streams of ours
	changed  chan struct{} // one element: a count changed
	closing  atomic.Bool   // by us, and said
}

func newConnection(o *options, s *sums, number int) *connection {
	c := &connection{options: o, sums: s, number: number, changed: make(chan struct{}, 1)}
	c.trace = newTrace(o, number, func(id int64) {
		c.acked.Add(1)
		s.acked.Add(1)
		if !o.quiet {
			say("acked", fields{"conn": number, "id": id})
		}
		c.count()
	})
	return c
}

func (c *connection) count() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
	if c.options.closeAfter != never && c.received.Load() >= int64(c.options.closeAfter) {
		go c.close(c.options.closeCode, "enough") // not from a callback of the engine
	}
}

// run receives until the connection ends.
func (c *connection) run(conn *quic.Conn) {
	c.quic = conn
	go func() {
		for {
			stream, err := conn.AcceptUniStream(context.Background())
			if err != nil {
				return
			}
			go c.take(int64(stream.StreamID()), stream)
		}
	}()
	go func() {
		for {
			stream, err := conn.AcceptStream(context.Background())
			if err != nil {
				return
			}
			go func() {
				data, ok := c.take(int64(stream.StreamID()), stream)
				if !c.options.echo {
					data = nil
				}
				if ok {
					c.write(int64(stream.StreamID()), stream, data)
				}
			}()
		}
	}()
	go func() {
		for {
			data, err := conn.ReceiveDatagram(context.Background())
			if err != nil {
				return
			}
			c.sums.datagrams.Add(1)
			if !c.options.quiet {
				say("datagram", fields{"conn": c.number, "bytes": len(data), "sha256": digest(data)})
			}
		}
	}()
}

func (c *connection) take(id int64, stream io.Reader) ([]byte, bool) {
	data, err := io.ReadAll(stream)
	if err != nil {
		return nil, false
	}
	c.sums.streams.Add(1)
	c.sums.bytes.Add(int64(len(data)))
	if !c.options.quiet {
		say("stream", fields{"conn": c.number, "id": id, "bytes": len(data), "sha256": digest(data)})
	}
	c.received.Add(1)
	c.count()
	return data, true
}

func (c *connection) write(id int64, stream io.WriteCloser, data []byte) error {
	c.trace.sends(id, len(data))
	if _, err := stream.Write(data); err != nil {
		return err
	}
	return stream.Close()
}

// send opens a stream, waiting for credit, and writes it.
func (c *connection) send(ctx context.Context, data []byte, bidi bool) error {
	if !bidi {
		stream, err := c.quic.OpenUniStreamSync(ctx)
		if err != nil {
			return err
		}
		return c.write(int64(stream.StreamID()), stream, data)
	}
	stream, err := c.quic.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	go c.take(int64(stream.StreamID()), stream)
	return c.write(int64(stream.StreamID()), stream, data)
}

func (c *connection) connected() {
	state := c.quic.ConnectionState()
	more := fields{"conn": c.number, "resumed": state.TLS.DidResume, "early_data": state.Used0RTT, "version": state.Version,
		"alpn": state.TLS.NegotiatedProtocol, "certificate": nil, "cipher": nil}
	if name, ok := ciphers[state.TLS.CipherSuite]; ok {
		more["cipher"] = name
	}
	if chain := state.TLS.PeerCertificates; len(chain) > 0 {
		more["certificate"] = digest(chain[0].Raw)
	}
	say("connected", more)
}

func (c *connection) close(code uint64, reason string) {
	if c.quic.Context().Err() != nil || c.closing.Swap(true) {
		return
	}
	_ = c.quic.CloseWithError(quic.ApplicationErrorCode(code), reason) // it is over either way
	sayClosed(c.number, code, reason, true, "local")
}

// closed waits for the end and says it, unless it was we who closed and said so.
func (c *connection) closed() {
	<-c.quic.Context().Done()
	if !c.closing.Load() {
		sayError(c.number, context.Cause(c.quic.Context()))
	}
}

func sayClosed(number int, code uint64, reason string, application bool, by string) {
	say("closed", fields{"conn": number, "code": code, "reason": reason, "application": application, "by": by})
}

func side(remote bool) string {
	if remote {
		return "peer"
	}
	return "local"
}

func sayError(number int, err error) {
	var (
		application *quic.ApplicationError
		transport   *quic.TransportError
		idle        *quic.IdleTimeoutError
		handshake   *quic.HandshakeTimeoutError
		reset       *quic.StatelessResetError
		versions    *quic.VersionNegotiationError
	)
	switch {
	case errors.As(err, &application):
		sayClosed(number, uint64(application.ErrorCode), application.ErrorMessage, true, side(application.Remote))
	case errors.As(err, &transport):
		sayClosed(number, uint64(transport.ErrorCode), transport.ErrorMessage, false, side(transport.Remote))
	case errors.As(err, &idle), errors.As(err, &handshake):
		sayClosed(number, 0, err.Error(), false, "idle")
	case errors.As(err, &reset):
		sayClosed(number, 0, err.Error(), false, "reset")
	case errors.As(err, &versions):
		sayClosed(number, 0, err.Error(), false, "version")
	default:
		sayClosed(number, 0, err.Error(), false, "local")
	}
}
