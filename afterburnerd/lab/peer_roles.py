"""What a peer does on its connections, as the command line asks: a server's part and a client's.

Events go to a `Voice`, as tests/interop/peers/README.md has them: one JSON object a line, or a line for a person. The k-th stream
that a side opens carries SHA-256(k as eight bytes, big-endian) over and over, so a receiver can verify it by its number alone.

A message of up to 64 KiB is one command to the engine and one fate. A longer one opens its stream with its first part and goes on
there once the engine has said which stream that is; it is acknowledged when its last part is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256

from ..abi.layout import QUIC_SEND_FIN, QuicClose, QuicCommandKind, QuicOutcome, QuicSend
from ..cli import EXIT_DEGRADED, EXIT_OK, EXIT_UNREACHABLE
from ..quic.connection import Connection
from ..quic.dial import Dial, EarlyMessage, Target
from ..quic.news import Closed, Done, Migrated, News, Opened, Refused, StreamOpened
from ..quic.shake import Failure, Shake, Why
from .peer_host import Host, is_key_update

CLOSE_SECONDS: Final = 2.0  # for the engine to say that it sent CONNECTION_CLOSE
PART: Final = 65_536  # bytes: AB_QUIC_PORT_MESSAGE of native/quic_port.h
# Given to the engine and without a fate yet, all connections: its slots (peer_host.py) have room for twice as much, so it
# never has to refuse, and streams get their numbers in the order in which they were asked for.
UNDER_WAY: Final = 4096
BYTES_UNDER_WAY: Final = 4 << 20
TOO_LONG: Final = 1023  # AB_QUIC_ETOOLONG of native/quic.h, without its sign
TOO_EARLY: Final = 1026  # AB_QUIC_EEARLY
EARLY_PAUSE: Final = 0.005  # seconds until it is tried again
CIPHERS: Final = {0x1301: "aes128", 0x1302: "aes256", 0x1303: "chacha20"}  # TLS cipher suites
BY: Final = {
    QuicClose.LOCAL: "local",
    QuicClose.ERROR: "local",
    QuicClose.PEER: "peer",
    QuicClose.IDLE: "idle",
    QuicClose.RESET: "reset",
    QuicClose.DROPPED: "local",
}
FAILED: Final = {
    Why.TIMEOUT: "idle",
    Why.PEER: "peer",
    Why.ERROR: "local",
    Why.VERSION: "version",
    Why.ABORTED: "local",
}


class Voice(Protocol):
    """Where events go."""

    def say(self, event: str, **fields: Any) -> None: ...
    def trouble(self, text: str) -> None: ...


class Sums(msgspec.Struct):
    """What the summary says."""

    streams: int = 0
    bytes: int = 0
    datagrams: int = 0
    acked: int = 0
    sent_bytes: int = 0  # of what was acknowledged


def payload(index: int, size: int) -> bytes:
    """What the index-th stream of its kind carries, and the index-th DATAGRAM."""
    block = hashlib.sha256(index.to_bytes(8, "big")).digest()
    return (block * (size // len(block) + 1))[:size]


class Outgoing:
    """A stream of ours that is under way."""

    __slots__ = ("at", "data", "id", "parts")

    def __init__(self, data: bytes, stream: int) -> None:
        self.data = data
        self.at = 0  # bytes given to the engine
        self.parts = 0  # without a fate yet
        self.id = stream  # -1: not known yet


class Incoming:
    """A stream of the peer's that has not ended."""

    __slots__ = ("hash", "kept", "size")

    def __init__(self, keep: bool) -> None:
        self.hash = hashlib.sha256()
        self.size = 0
        self.kept: bytearray | None = bytearray() if keep else None


class Conn:
    """One connection of either role, from its completed handshake on."""

    def __init__(self, role: Role, shake: Shake, number: int) -> None:
        front = shake.front
        assert front is not None
        self.role = role
        self.number = number  # as events have it
        self.connection: Connection | None = None  # once the engine has it
        self.closed: Closed | None = None
        self.delivered = 0  # streams, received here or acknowledged there
        self.received = 0  # of those, the first
        self.undelivered = 0  # messages of ours with another fate
        self.updated = False
        self.changed = asyncio.Event()
        self._tokens = itertools.count(1)
        self._streams: dict[int, Outgoing] = {}  # by token of their first part
        self._part_of: dict[int, tuple[int, int]] = {}  # by token of a part: the first one's, and bytes
        self._datagrams: dict[int, bytes] = {}  # by token: those without a fate yet
        self._due: list[Callable[[Connection], None]] = []  # asked for before the engine had the connection
        self._incoming: dict[int, Incoming] = {}
        self._waiting: deque[tuple[QuicSend, bytes, int]] = deque()  # streams that the engine has not been given
        self._opened = {QuicSend.UNI: 0, QuicSend.BIDI_OPEN: 0}  # of ours, so far
        hello = front.hello
        certificate = hello.peer_certificate
        self.is_client = front.is_client
        self.connected = {
            "resumed": bool(hello.session_resumed),
            "early_data": isinstance(shake, Dial) and shake.early_accepted,
            "cipher": CIPHERS[int(front.suite)],
            "version": 1,
            "alpn": hello.alpn_negotiated,
            "certificate": certificate.fingerprint(SHA256()).hex() if certificate is not None else None,
        }

    # --- sending ---

    def stream(self, data: bytes, how: QuicSend = QuicSend.UNI) -> None:
        """A stream of our own, to its end."""
        self._waiting.append((how, data, -1))
        self.push()

    def answer(self, stream: int, data: bytes) -> None:
        """The other half of a bidirectional stream of the peer's, to its end."""
        self._waiting.append((QuicSend.STREAM, data, stream))
        self.push()

    def early(self, message: EarlyMessage) -> None:
        """A stream that the handover gives to the engine by itself, before all others (dial.py)."""
        token = next(self._tokens)
        assert token == message.token
        self._part(token, token, self._open(QuicSend.UNI, message.data, -1), len(message.data))

    def datagram(self, data: bytes) -> None:
        token = next(self._tokens)
        self._datagrams[token] = data
        self._give(token, data, QuicSend.DATAGRAM)

    def push(self) -> None:
        """Gives the engine what it has room for."""
        role = self.role
        while (
            self._waiting
            and self.connection is not None
            and role.messages < UNDER_WAY
            and role.octets < BYTES_UNDER_WAY
        ):
            how, data, stream = self._waiting.popleft()
            first, outgoing = next(self._tokens), self._open(how, data, stream)
            self._streams[first] = outgoing
            if how == QuicSend.STREAM:
                self._go_on(first, outgoing, first)
                continue
            self._part(first, first, outgoing, min(len(data), PART))
            whole = outgoing.at == len(data)
            self._give(first, data[:PART], QuicSend.UNI_OPEN if how == QuicSend.UNI and not whole else how, fin=whole)
        if self._waiting:
            role.hungry.add(self)
        else:
            role.hungry.discard(self)

    def _open(self, how: QuicSend, data: bytes, stream: int) -> Outgoing:
        if stream < 0:
            kind = (0 if how == QuicSend.BIDI_OPEN else 2) | (0 if self.is_client else 1)
            stream = self._opened[how] << 2 | kind
            self._opened[how] += 1
        return Outgoing(data, stream)

    def _part(self, token: int, first: int, outgoing: Outgoing, size: int) -> None:
        """`size` bytes more are the engine's."""
        self._streams[first] = outgoing
        self._part_of[token] = (first, size)
        outgoing.parts += 1
        outgoing.at += size
        self.role.messages += 1
        self.role.octets += size

    def _go_on(self, first: int, outgoing: Outgoing, token: int = 0) -> None:
        """The rest of a stream whose number is known. `token`: of its next part, if there must be one."""
        while token or outgoing.at < len(outgoing.data):
            part = outgoing.data[outgoing.at : outgoing.at + PART]
            here, token = token or next(self._tokens), 0
            self._part(here, first, outgoing, len(part))
            self._give(here, part, QuicSend.STREAM, fin=outgoing.at == len(outgoing.data), stream=outgoing.id)

    def _give(self, token: int, data: bytes, how: QuicSend, *, fin: bool = False, stream: int = 0) -> None:
        assert self.connection is not None
        flags = QUIC_SEND_FIN if fin else 0
        self.role.host.handover.commands.send(self.connection, token, data, how, stream=max(stream, 0), flags=flags)
        self.role.host.nudge()

    def stream_opened(self, token: int, stream: int) -> None:
        outgoing = self._streams.get(token)
        if outgoing is not None:
            outgoing.id = stream
            self._go_on(token, outgoing)

    def done(self, token: int, outcome: QuicOutcome) -> None:
        if self._datagrams.pop(token, None) is None and (part := self._part_of.pop(token, None)) is not None:
            first, size = part
            self.role.messages -= 1
            self.role.octets -= size
            outgoing = self._streams[first]
            outgoing.parts -= 1
            self.undelivered += outcome != QuicOutcome.ACKNOWLEDGED
            if outgoing.parts == 0 and outgoing.at == len(outgoing.data):
                del self._streams[first]
                if outcome == QuicOutcome.ACKNOWLEDGED:
                    self.role.acked(self, outgoing)
            self.role.push()
        self.changed.set()

    def refused(self, token: int, error: int) -> None:
        """Nothing that we ask for while the connection is open should be, but a key update before confirmation."""
        if error == TOO_EARLY and token == 0:
            asyncio.get_running_loop().call_later(EARLY_PAUSE, self._do, self._update_keys)
            return
        if self.closed is None and (data := self._datagrams.get(token)) is not None:
            why = "longer than it may be on this connection" if error == TOO_LONG else "the peer takes none"
            self.role.voice.trouble(f"a DATAGRAM of {len(data)} bytes: {why}")
            self.undelivered += 1
        elif self.closed is None and token in self._part_of:
            self.role.voice.trouble(f"the engine refused a stream (error {error})")
        self.done(token, QuicOutcome.CLOSED)

    @property
    def busy(self) -> bool:
        """Something that we send has no fate yet."""
        return bool(self._waiting or self._streams or self._datagrams)

    # --- receiving ---

    def data(self, stream: int, data: bytes, fin: bool) -> None:
        incoming = self._incoming.get(stream)
        if incoming is None:
            incoming = self._incoming[stream] = Incoming(self.role.keeps(stream))
        incoming.hash.update(data)
        incoming.size += len(data)
        if incoming.kept is not None:
            incoming.kept += data
        if fin:
            del self._incoming[stream]
            self.received += 1
            self.role.whole(self, stream, incoming)
            self.changed.set()

    def count(self) -> None:
        """A stream more is delivered, here or there."""
        self.delivered += 1
        after = self.role.args.key_update_after
        if after is not None and self.delivered >= after and not self.updated:
            self.updated = True
            self._do(self._update_keys)

    def _update_keys(self, connection: Connection) -> None:
        if self.closed is None:
            self.role.host.handover.commands.put(connection, QuicCommandKind.UPDATE_KEYS)

    def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self._do(lambda connection: self.role.host.handover.close(connection, time.monotonic(), code, reason))

    def _do(self, what: Callable[[Connection], None]) -> None:
        """Now, or once we know that the engine has the connection: what it received may be read before that."""
        if self.connection is None:
            self._due.append(what)
        else:
            what(self.connection)
            self.role.host.nudge()

    def opened(self, connection: Connection) -> None:
        self.connection = connection
        due, self._due = self._due, []
        for what in due:
            self._do(what)
        self.push()
        self.changed.set()


class Role:
    """What both roles have in common: implements Owner of peer_host.py."""

    def __init__(self, args: argparse.Namespace, voice: Voice) -> None:
        self.args = args
        self.voice = voice
        self.sums = Sums()
        self.conns: dict[int, Conn] = {}  # by the realm's number
        self.hungry: set[Conn] = set()  # with streams that the engine has not been given
        self.messages = self.octets = 0  # under way, all connections
        self.over = asyncio.Event()  # somebody wants to end
        self._host: Host | None = None

    @property
    def host(self) -> Host:
        assert self._host is not None
        return self._host

    @host.setter
    def host(self, host: Host) -> None:
        self._host = host

    # --- what a host tells ---

    def completed(self, shake: Shake) -> None:
        conn = self.conns[shake.number] = self.made(shake)
        self.voice.say("connected", conn=conn.number, **conn.connected)

    def made(self, shake: Shake) -> Conn:
        raise NotImplementedError

    def failed(self, shake: Shake, failure: Failure) -> None:
        """A handshake came to nothing."""

    def opened(self, conn: Conn) -> None:
        """Messages may be sent."""

    def news(self, news: News) -> None:
        connection = getattr(news, "connection", None)
        conn = self.conns.get(connection.number) if connection is not None else None
        if conn is None:
            return
        if isinstance(news, Opened):
            conn.opened(news.connection)
            self.opened(conn)
        elif isinstance(news, Done):
            conn.done(news.token, news.outcome)
        elif isinstance(news, Refused):
            conn.refused(news.token, news.error)
        elif isinstance(news, StreamOpened):
            conn.stream_opened(news.token, news.stream)
        elif is_key_update(news):
            self.voice.say("key_update", conn=conn.number)
        elif isinstance(news, Closed):
            self.closed(conn, news)
        elif isinstance(news, Migrated):
            pass  # the peer's doing, which the contract has no event for

    def closed(self, conn: Conn, news: Closed) -> None:
        conn.closed = news
        conn.changed.set()
        self.hungry.discard(conn)
        by = BY[news.by] if news.by is not None else "local"
        self.voice.say("closed", conn=conn.number, code=news.code, reason=news.reason, application=news.is_app, by=by)
        if not self.host.options.records and news.last is not None:
            counts = news.last.counts
            self.sums.streams += counts.streams_received
            self.sums.bytes += counts.stream_bytes_received
            self.sums.datagrams += counts.datagrams_received

    def stream(self, number: int, stream: int, data: bytes, fin: bool) -> None:
        conn = self.conns.get(number)
        if conn is not None:
            conn.data(stream, data, fin)

    def datagram(self, number: int, data: bytes) -> None:
        conn = self.conns.get(number)
        if conn is not None:
            self.sums.datagrams += 1
            if not self.args.quiet:
                self.voice.say("datagram", conn=conn.number, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    def push(self) -> None:
        """There is room in the engine."""
        for conn in list(self.hungry):
            conn.push()

    def stop(self) -> None:
        """Somebody wants to end."""
        self.over.set()
        self.wake()

    @property
    def stopping(self) -> bool:
        return self.over.is_set()

    def wake(self) -> None:
        for conn in self.conns.values():
            conn.changed.set()

    # --- what connections tell ---

    def keeps(self, stream: int) -> bool:
        """Whether the bytes of a stream of the peer's are wanted."""
        return False

    def whole(self, conn: Conn, stream: int, incoming: Incoming) -> None:
        self.sums.streams += 1
        self.sums.bytes += incoming.size
        if not self.args.quiet:
            sha256 = incoming.hash.hexdigest()
            self.voice.say("stream", conn=conn.number, id=stream, bytes=incoming.size, sha256=sha256)
        conn.count()

    def acked(self, conn: Conn, outgoing: Outgoing) -> None:
        self.sums.acked += 1
        self.sums.sent_bytes += len(outgoing.data)
        if not self.args.quiet:
            self.voice.say("acked", conn=conn.number, id=outgoing.id)
        conn.count()


class Server(Role):
    """Any number of connections; those that ended are forgotten."""

    def __init__(self, args: argparse.Namespace, voice: Voice) -> None:
        super().__init__(args, voice)
        self._numbers = itertools.count()

    def made(self, shake: Shake) -> Conn:
        return Conn(self, shake, next(self._numbers))

    def closed(self, conn: Conn, news: Closed) -> None:
        super().closed(conn, news)
        del self.conns[news.connection.number]

    def keeps(self, stream: int) -> bool:
        return bool(self.args.echo) and stream & 2 == 0

    def opened(self, conn: Conn) -> None:
        for index in range(self.args.push):
            conn.stream(payload(index, self.args.push_size))

    def whole(self, conn: Conn, stream: int, incoming: Incoming) -> None:
        super().whole(conn, stream, incoming)
        if stream & 3 == 0:
            conn.answer(stream, bytes(incoming.kept or b""))
        if self.args.close_after is not None and conn.delivered >= self.args.close_after:
            conn.close(self.args.close_code, "enough")


class Client(Role):
    """One connection after the other."""

    def __init__(self, args: argparse.Namespace, voice: Voice) -> None:
        super().__init__(args, voice)
        self.present = 0  # number of the connection, from 0
        self._shaken = asyncio.Event()  # its handshake is over, or we are to end
        self._sessions = 0  # received on it
        self._go = False  # what --wait waits for

    # --- what a host tells ---

    def made(self, shake: Shake) -> Conn:
        return Conn(self, shake, self.present)

    def completed(self, shake: Shake) -> None:
        front = shake.front
        if front is not None and front.offered is not None:
            self.voice.say("version_negotiation", conn=self.present, offered=list(front.offered))
        super().completed(shake)
        if isinstance(shake, Dial):
            for message in shake.early_messages:
                self.conns[shake.number].early(message)
        self._shaken.set()

    def failed(self, shake: Shake, failure: Failure) -> None:
        self.voice.say(
            "closed",
            conn=self.present,
            code=failure.code,
            reason=failure.reason or failure.why.value,
            application=failure.is_app,
            by=FAILED[failure.why],
        )
        self._shaken.set()

    def session(self) -> None:
        """A ticket came."""
        self._sessions += 1
        if self._sessions == 1:
            self.voice.say("session", conn=self.present)
        self.wake()

    # --- what is asked for ---

    def go_on(self) -> None:
        self._go = True
        self.wake()

    def stop(self) -> None:
        super().stop()
        self._shaken.set()

    async def run(self) -> int:
        """All connections; the exit code."""
        for number in range(self.args.count):
            self.present = number
            code = await self._connection()
            if code or self.stopping:
                return code
        return EXIT_OK

    async def _connection(self) -> int:
        args, patience = self.args, self.args.timeout / 1000
        deadline = time.monotonic() + patience
        self._sessions, self._go = 0, False
        self._shaken.clear()
        early = [EarlyMessage(k + 1, payload(k, args.size)) for k in range(args.streams)] if self._early() else []
        dial = self.host.dial(Target(args.connect, timeout=patience), tuple(early))
        async with asyncio.timeout(patience + 2.0):  # the endpoint's own is `patience`
            await self._shaken.wait()
        conn = self.conns.get(dial.number)
        if conn is None:
            self.host.endpoint.abort(dial.number, time.monotonic(), 0, "interrupted")  # nothing, where it failed
            return EXIT_UNREACHABLE
        done = await self._work(conn, deadline, len(dial.early_messages))
        if done and (args.count > 1 or args.resume):  # a ticket comes with the handshake's confirmation
            await self._until(conn, lambda: self._sessions > 0, deadline)
        if done:
            self.voice.say("done", conn=conn.number)
            if args.wait:
                await self._until(conn, lambda: self._go, float("inf"))
            if args.hold:
                await self._until(conn, lambda: False, time.monotonic() + args.hold / 1000)
        conn.close(0, "done" if done else "not done")
        await self._until(conn, lambda: conn.closed is not None, time.monotonic() + CLOSE_SECONDS, to_the_end=True)
        return EXIT_OK if done else EXIT_DEGRADED

    def _early(self) -> bool:
        return bool(self.args.zero_rtt and not self.args.bidi)

    async def _work(self, conn: Conn, deadline: float, sent: int) -> bool:
        """Whether all was delivered. `sent`: streams that went in 0-RTT."""
        args = self.args
        how = QuicSend.BIDI_OPEN if args.bidi else QuicSend.UNI
        if not await self._until(conn, lambda: conn.connection is not None, deadline):
            return False
        moved = args.rebind_after is None
        for index in range(sent, args.streams):
            if index and args.interval:
                await asyncio.sleep(args.interval / 1000)
            if not moved and index >= args.rebind_after:
                moved = await self._move(conn, deadline)
            if conn.closed is not None or self.stopping:
                return False
            conn.stream(payload(index, args.size), how)
        for index in range(args.datagrams):
            conn.datagram(payload(index, args.size))
        if not moved:
            await self._move(conn, deadline)
        expected = args.expect + (args.streams if args.bidi else 0)
        done = await self._until(conn, lambda: not conn.busy and conn.received >= expected, deadline)
        return done and not conn.undelivered

    async def _move(self, conn: Conn, deadline: float) -> bool:
        after = self.args.rebind_after
        if await self._until(conn, lambda: conn.delivered >= after, deadline) and conn.connection is not None:
            self.voice.say("rebound", conn=conn.number, port=await self.host.rebind(conn.connection))
        return True

    async def _until(self, conn: Conn, ready: Callable[[], bool], deadline: float, *, to_the_end: bool = False) -> bool:
        """False: the connection ended before, or time is over, or somebody wants to end (but not `to_the_end`)."""
        while not ready():
            left = deadline - time.monotonic()
            if conn.closed is not None or left <= 0 or (self.stopping and not to_the_end):
                return False
            conn.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if left == float("inf") else left):
                    await conn.changed.wait()
        return True
