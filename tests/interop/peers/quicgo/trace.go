package main

// quic-go does not tell an application when its streams are acknowledged. Its qlog events do: the packet that carried a stream
// frame, and the packet that acknowledged it.

import (
	"context"
	"os"
	"sync"

	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"
)

type span struct{ from, to int64 } // bytes of a stream

// outgoing is a stream of ours that is not acknowledged whole yet.
type outgoing struct {
	size     int64
	fin      bool   // acknowledged
	finished []span // acknowledged, ascending, not touching
}

func (s *outgoing) add(fresh span) {
	kept := s.finished[:0:0]
	for _, old := range s.finished {
		if old.to < fresh.from || old.from > fresh.to {
			kept = append(kept, old)
			continue
		}
		fresh = span{min(old.from, fresh.from), max(old.to, fresh.to)}
	}
	s.finished = append(kept, fresh)
}

func (s *outgoing) whole() bool {
	return s.fin && (s.size == 0 || len(s.finished) == 1 && s.finished[0] == span{0, s.size})
}

// trace follows one connection; quic-go calls it from the connection's own goroutine.
type trace struct {
	options *options
	number  int
	acked   func(id int64)
	mutex   sync.Mutex
	streams map[int64]*outgoing
	packets map[qlog.PacketNumber][]*qlog.StreamFrame // in flight; 0-RTT and 1-RTT share their numbers
	updates map[qlog.KeyPhase]bool
	file    qlogwriter.Recorder // nil without --qlog
}

func newTrace(o *options, number int, acked func(int64)) *trace {
	return &trace{options: o, number: number, acked: acked, streams: map[int64]*outgoing{},
		packets: map[qlog.PacketNumber][]*qlog.StreamFrame{}, updates: map[qlog.KeyPhase]bool{}}
}

func (t *trace) tracer(_ context.Context, isClient bool, id qlog.ConnectionID) qlogwriter.Trace {
	if t.options.qlog != "" && t.number == 0 {
		out, err := os.Create(t.options.qlog)
		if err != nil {
			fail(exUsage, "--qlog: %v", err)
		}
		written := qlogwriter.NewConnectionFileSeq(out, isClient, id)
		go written.Run()
		t.file = written.AddProducer()
	}
	return t
}

func (t *trace) AddProducer() qlogwriter.Recorder { return t }

func (t *trace) Close() error { return nil } // several producers share us; the file ends with the process

// sends is called before the first byte of a stream is written.
func (t *trace) sends(id int64, size int) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.streams[id] = &outgoing{size: int64(size)}
}

// forget: refused early data is gone, with its streams.
func (t *trace) forget() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.streams = map[int64]*outgoing{}
	t.packets = map[qlog.PacketNumber][]*qlog.StreamFrame{}
}

func data(kind qlog.PacketType) bool {
	return kind == qlog.PacketType1RTT || kind == qlog.PacketType0RTT
}

func (t *trace) RecordEvent(event qlogwriter.Event) {
	if t.file != nil {
		t.file.RecordEvent(event)
	}
	switch e := event.(type) {
	case qlog.PacketSent:
		if data(e.Header.PacketType) {
			t.sent(e.Header.PacketNumber, e.Frames)
		}
	case qlog.PacketReceived:
		if data(e.Header.PacketType) {
			for _, id := range t.received(e.Frames) {
				t.acked(id)
			}
		}
	case qlog.KeyUpdated:
		if e.Trigger == qlog.KeyUpdateLocal && !t.updates[e.KeyPhase] { // told once for each direction
			t.updates[e.KeyPhase] = true
			say("key_update", fields{"conn": t.number})
		}
	case qlog.VersionNegotiationReceived:
		say("version_negotiation", fields{"conn": t.number, "offered": e.SupportedVersions})
	}
}

func (t *trace) sent(number qlog.PacketNumber, frames []qlog.Frame) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for _, frame := range frames {
		if s, ok := frame.Frame.(*qlog.StreamFrame); ok {
			t.packets[number] = append(t.packets[number], s)
		}
	}
}

// received returns the streams that these frames acknowledge whole.
func (t *trace) received(frames []qlog.Frame) []int64 {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	var whole []int64
	for _, frame := range frames {
		ack, ok := frame.Frame.(*qlog.AckFrame)
		if !ok {
			continue
		}
		for number, carried := range t.packets {
			if !ack.AcksPacket(number) {
				continue
			}
			delete(t.packets, number)
			for _, s := range carried {
				stream := t.streams[int64(s.StreamID)]
				if stream == nil {
					continue
				}
				if s.Length > 0 {
					stream.add(span{s.Offset, s.Offset + s.Length})
				}
				stream.fin = stream.fin || s.Fin
				if stream.whole() {
					delete(t.streams, int64(s.StreamID))
					whole = append(whole, int64(s.StreamID))
				}
			}
		}
	}
	return whole
}
