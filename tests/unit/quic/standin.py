"""A stand-in of the engine in Python, for tests of the handover: seals and opens 1-RTT packets with what was exported.

It does what an adopted connection needs to live in a test, and no more: HANDSHAKE_DONE, session tickets, messages on
unidirectional streams, acknowledgements, repetition after a fixed time, CONNECTION_CLOSE. No congestion control, no flow
control, no key update. Every sealed packet is noted with its key, so that a test can look for a nonce that was used twice.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from aioquic._buffer import Buffer, BufferReadError
from aioquic.quic.crypto import CryptoError, CryptoPair
from aioquic.quic.packet import pull_ack_frame
from aioquic.quic.rangeset import RangeSet
from aioquic.tls import CipherSuite

from afterburnerd.abi.layout import QuicAdopt, QuicRole
from afterburnerd.quic.export import SUITES
from afterburnerd.quic.wire import CID_LENGTH, encode_varint

REPEAT = 0.1  # seconds until what is not acknowledged goes again
SUITE = {number: suite for suite, number in SUITES.items()}


@dataclass
class Sealed:
    """A packet as it left, with what must be unique."""

    secret: bytes
    number: int
    packet: bytes


@dataclass
class Conn:
    """One adopted connection."""

    id: int
    client: bool
    crypto: CryptoPair
    secret: bytes
    local: dict[bytes, int]
    peer_cid: bytes
    next_pn: int
    confirmed: bool
    frames: list[bytes] = field(default_factory=list)  # to be sent
    flying: dict[int, tuple[float, list[bytes]]] = field(default_factory=dict)
    received: RangeSet = field(default_factory=RangeSet)
    ack: bool = False
    next_uni: int = 0
    tokens: dict[int, int] = field(default_factory=dict)  # stream ID -> token of the message
    streams: dict[int, dict[int, bytes]] = field(default_factory=dict)
    fins: dict[int, int] = field(default_factory=dict)
    delivered: dict[int, bytes] = field(default_factory=dict)
    crypto_in: dict[int, bytes] = field(default_factory=dict)
    crypto_at: int = 0
    acked: set[int] = field(default_factory=set)  # stream IDs
    closed: tuple[str, int] | None = None
    closing: bytes | None = None


class StandIn:
    """An engine with any number of connections. `events` are tuples: (kind, connection number, ...)."""

    def __init__(self) -> None:
        self.conns: dict[int, Conn] = {}
        self.events: list[tuple[object, ...]] = []
        self.sealed: list[Sealed] = []

    def adopt(self, a: QuicAdopt) -> None:
        suite: CipherSuite = SUITE[a.suite]
        size = 48 if suite == CipherSuite.AES_256_GCM_SHA384 else 32
        crypto = CryptoPair()
        tx, rx = a.tx_secret[:size], a.rx_secret[:size]
        crypto.send.setup(cipher_suite=suite, secret=tx, version=a.version)
        crypto.recv.setup(cipher_suite=suite, secret=rx, version=a.version)
        peer = next(c for c in a.peer_cids[: a.peer_count] if c.seq == a.peer_cid_in_use)
        client = a.role == QuicRole.CLIENT
        conn = Conn(
            id=a.id,
            client=client,
            crypto=crypto,
            secret=tx,
            local={c.cid[: c.len]: c.seq for c in a.local_cids[: a.local_count]},
            peer_cid=peer.cid[: peer.len],
            next_pn=a.next_pn,
            confirmed=bool(a.confirmed),
        )
        if not client:
            conn.frames.append(b"\x1e")
        if a.crypto_len:
            conn.frames.append(b"\x06\x00" + encode_varint(a.crypto_len) + a.crypto[: a.crypto_len])
        for c in a.local_cids[1 : a.local_count]:
            conn.frames.append(b"\x18" + encode_varint(c.seq) + b"\0" + bytes((c.len,)) + c.cid[: c.len] + c.token)
        self.conns[a.id] = conn
        if conn.confirmed:
            self.events.append(("confirmed", conn.id))

    def send(self, number: int, token: int, data: bytes) -> int:
        """A message on a stream of its own."""
        conn = self.conns[number]
        stream = conn.next_uni * 4 + (2 if conn.client else 3)
        conn.next_uni += 1
        conn.tokens[stream] = token
        conn.frames.append(b"\x0b" + encode_varint(stream) + encode_varint(len(data)) + data)
        return stream

    def close(self, number: int, code: int = 0) -> None:
        conn = self.conns[number]
        conn.closed = ("local", code)
        conn.closing = b"\x1d" + encode_varint(code) + b"\0"

    def find(self, datagram: bytes) -> Conn | None:
        cid = datagram[1 : 1 + CID_LENGTH]
        return next((c for c in self.conns.values() if cid in c.local), None)

    def rx(self, datagram: bytes, now: float) -> bool:
        conn = self.find(datagram)
        if conn is None:
            return False
        largest = max((r.stop for r in conn.received), default=0)
        try:
            _, plain, number = conn.crypto.decrypt_packet(datagram, 1 + CID_LENGTH, largest)
        except CryptoError:
            return True
        if number in conn.received or conn.closed is not None:
            return True
        conn.received.add(number, number + 1)
        self._frames(conn, plain, now)
        return True

    def tx(self, now: float) -> list[tuple[int, bytes]]:
        """(connection, datagram) for everything that is due."""
        out: list[tuple[int, bytes]] = []
        for conn in self.conns.values():
            if conn.closing is not None:
                out.append((conn.id, self._seal(conn, [conn.closing])))
                conn.closing = None
                continue
            if conn.closed is not None:
                continue
            for number, (sent, frames) in list(conn.flying.items()):
                if now >= sent + REPEAT:
                    del conn.flying[number]
                    conn.frames = frames + conn.frames
            while conn.frames or conn.ack:
                part: list[bytes] = []
                if conn.ack:
                    part.append(ack(conn.received))
                    conn.ack = False
                taken: list[bytes] = []
                while conn.frames and sum(map(len, part + taken)) + len(conn.frames[0]) < 1100:
                    taken.append(conn.frames.pop(0))
                if taken:
                    conn.flying[conn.next_pn] = (now, taken)
                out.append((conn.id, self._seal(conn, part + taken)))
        return out

    def due(self) -> float | None:
        times = [sent + REPEAT for c in self.conns.values() if c.closed is None for sent, _ in c.flying.values()]
        if any(c.frames or c.ack or c.closing for c in self.conns.values() if c.closed is None or c.closing):
            return 0.0
        return min(times, default=None)

    def _seal(self, conn: Conn, frames: list[bytes]) -> bytes:
        number = conn.next_pn
        conn.next_pn += 1
        head = b"\x41" + conn.peer_cid + (number & 0xFFFF).to_bytes(2, "big")
        body = b"".join(frames)
        packet = bytes(conn.crypto.encrypt_packet(head, body + bytes(max(0, 4 - len(body))), number))
        self.sealed.append(Sealed(conn.secret, number, packet))
        return packet

    def _frames(self, conn: Conn, plain: bytes, now: float) -> None:
        buf = Buffer(data=plain)
        while not buf.eof():
            kind = buf.pull_uint_var()
            if kind not in (0x00, 0x02, 0x03, 0x1C, 0x1D):
                conn.ack = True
            try:
                self._frame(conn, kind, buf, now)
            except BufferReadError as error:
                raise AssertionError(f"a peer's frame {kind:#x} cannot be read") from error

    def _frame(self, conn: Conn, kind: int, buf: Buffer, now: float) -> None:
        if kind in (0x00, 0x01):
            return
        if kind in (0x02, 0x03):
            acked, _ = pull_ack_frame(buf)
            for number in [n for n in conn.flying if n in acked]:
                _, frames = conn.flying.pop(number)
                for frame in frames:
                    if frame[0] == 0x0B:
                        stream = Buffer(data=frame[1:]).pull_uint_var()
                        if stream not in conn.acked:
                            conn.acked.add(stream)
                            self.events.append(("done", conn.id, conn.tokens[stream]))
        elif kind == 0x06:
            offset, size = buf.pull_uint_var(), buf.pull_uint_var()
            conn.crypto_in[offset] = buf.pull_bytes(size)
            while conn.crypto_at in conn.crypto_in:
                data = conn.crypto_in.pop(conn.crypto_at)
                self.events.append(("crypto", conn.id, conn.crypto_at, data))
                conn.crypto_at += len(data)
        elif kind == 0x07:
            self.events.append(("token", conn.id, buf.pull_bytes(buf.pull_uint_var())))
        elif 0x08 <= kind <= 0x0F:
            stream = buf.pull_uint_var()
            offset = buf.pull_uint_var() if kind & 4 else 0
            data = buf.pull_bytes(buf.pull_uint_var() if kind & 2 else buf.capacity - buf.tell())
            self._stream(conn, stream, offset, data, bool(kind & 1))
        elif kind in (0x10, 0x12, 0x13, 0x14, 0x16, 0x17):
            buf.pull_uint_var()
        elif kind in (0x11, 0x15):
            buf.pull_uint_var()
            buf.pull_uint_var()
        elif kind == 0x18:
            seq, _ = buf.pull_uint_var(), buf.pull_uint_var()
            cid = buf.pull_bytes(buf.pull_uint8())
            self.events.append(("reset_token", conn.id, seq, cid, buf.pull_bytes(16)))
        elif kind == 0x19:
            self.events.append(("cid_retired", conn.id, buf.pull_uint_var()))
        elif kind == 0x1E:
            if not conn.confirmed:
                conn.confirmed = True
                self.events.append(("confirmed", conn.id))
        elif kind in (0x1C, 0x1D):
            code = buf.pull_uint_var()
            if kind == 0x1C:
                buf.pull_uint_var()
            buf.pull_bytes(buf.pull_uint_var())
            conn.closed = ("peer", code)
            self.events.append(("closed", conn.id, code))
        else:
            raise AssertionError(f"frame {kind:#x} is not for a stand-in")

    def _stream(self, conn: Conn, stream: int, offset: int, data: bytes, fin: bool) -> None:
        if stream in conn.delivered:
            return
        parts = conn.streams.setdefault(stream, {})
        parts[offset] = data
        if fin:
            conn.fins[stream] = offset + len(data)
        whole = bytearray()
        for at in sorted(parts):
            if at > len(whole):
                return
            whole[at:] = parts[at] + whole[at + len(parts[at]) :]
        if conn.fins.get(stream) == len(whole):
            conn.delivered[stream] = bytes(whole)
            self.events.append(("stream", conn.id, stream, bytes(whole)))
            del conn.streams[stream]


def ack(received: RangeSet) -> bytes:
    ranges = list(received)[::-1][:32]
    out = bytearray(b"\x02" + encode_varint(ranges[0].stop - 1) + b"\0" + encode_varint(len(ranges) - 1))
    out += encode_varint(ranges[0].stop - ranges[0].start - 1)
    for before, this in itertools.pairwise(ranges):
        out += encode_varint(before.start - this.stop - 1) + encode_varint(this.stop - this.start - 1)
    return bytes(out)
