"""A supervisor with its worker, whole but for processes and sockets, that can be killed after every step of a handover.

    Supervisor: Endpoint, Handover, Links ── command ring (a list) ──► Worker: the stand-in of the engine
                    ▲ kernel socket                ◄── event ring ──       ▲ connection IDs in `cids`
                    └───────────────── XDP (by `cids`, as the program does) ┘

A worker's death takes its rings and its keys with it; the supervisor's takes all. What a worker has consumed and what it has
not is up to the scenario: commands and events move only when `move` is called.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

from afterburnerd.abi.layout import (
    Path,
    QuicAdopt,
    QuicCid,
    QuicCommand,
    QuicCommandKind,
    QuicEvent,
    QuicEventKind,
    QuicInject,
    QuicOutcome,
)
from afterburnerd.quic.accept import Limits
from afterburnerd.quic.cids import KEY_BYTES
from afterburnerd.quic.connection import Connection, Step
from afterburnerd.quic.dial import Dial, Target
from afterburnerd.quic.endpoint import Completed, Endpoint, Failed, Forward, PeerReset, Realm
from afterburnerd.quic.front import FrontSettings
from afterburnerd.quic.handover import Handover
from afterburnerd.quic.identity import Identity
from afterburnerd.quic.link import Link, Message
from afterburnerd.quic.news import Closed, Done, Opened
from afterburnerd.quic.tokens import Address
from afterburnerd.quic.wire import CID_LENGTH, encode_varint, is_short

from .rig import SERVER
from .standin import Sealed, StandIn

IDENTITY = Identity.generate()
SETTINGS = FrontSettings(identity=IDENTITY)


class Worker:
    """The stand-in behind rings. `worker` is its index; `alive` ends with a kill."""

    def __init__(self, worker: int = 0, slots: int = 64) -> None:
        self.worker = worker
        self.slots = slots
        self.engine = StandIn()
        self.commands: deque[tuple[QuicCommand, bytes]] = deque()
        self.events: deque[tuple[QuicEvent, bytes]] = deque()
        self.refuses = 0  # enum quic_refusal for the next adoptions

    def put(self, command: QuicCommand, body: bytes | bytearray) -> bool:
        if len(self.commands) >= self.slots:
            return False
        self.commands.append((command, bytes(body)))
        return True

    def move(self, now: float, limit: int = 16) -> None:
        """A turn of the loop: consumes commands, tells what happened."""
        engine = self.engine
        for _ in range(min(limit, len(self.commands))):
            command, body = self.commands.popleft()
            if command.kind == QuicCommandKind.ADOPT:
                if not self.refuses:
                    engine.adopt(QuicAdopt.unpack(body))
                self._tell(QuicEventKind.ADOPTED, command.conn, number=command.number, code=self.refuses)
            elif command.kind == QuicCommandKind.INJECT:
                head = QuicInject.unpack(body)
                engine.rx(body[QuicInject.SIZE : QuicInject.SIZE + head.len], now)
            elif command.kind == QuicCommandKind.SEND:
                if command.conn in engine.conns:
                    engine.send(command.conn, command.token, body)
            elif command.kind == QuicCommandKind.CLOSE:
                engine.close(command.conn, command.code)
                self._tell(QuicEventKind.CLOSED, command.conn, code=command.code)
            elif command.kind == QuicCommandKind.CLOSE_ALL:
                for conn in engine.conns.values():
                    engine.close(conn.id, command.code)
                    self._tell(QuicEventKind.CLOSED, conn.id, code=command.code)
            elif command.kind == QuicCommandKind.STOCK:
                for at in range(0, len(body), QuicCid.SIZE):
                    cid = QuicCid.unpack(body, at)
                    engine.conns[command.conn].local[cid.cid[: cid.len]] = cid.seq
            elif command.kind == QuicCommandKind.TOKEN:
                if command.conn in engine.conns:
                    engine.conns[command.conn].frames.append(b"\x07" + encode_varint(len(body)) + body)
            elif command.kind == QuicCommandKind.DROP:
                engine.conns.pop(command.conn, None)
        for event in engine.events:
            kind, conn = event[0], event[1]
            assert isinstance(conn, int)
            if kind == "confirmed":
                self._tell(QuicEventKind.CONFIRMED, conn)
            elif kind == "crypto":
                offset, data = event[2], event[3]
                assert isinstance(offset, int) and isinstance(data, bytes)
                self._tell(QuicEventKind.CRYPTO, conn, data, number=offset)
            elif kind == "done":
                token = event[2]
                assert isinstance(token, int)
                self._tell(QuicEventKind.DONE, conn, token=token, code=QuicOutcome.ACKNOWLEDGED)
            elif kind == "closed":
                code = event[2]
                assert isinstance(code, int)
                self._tell(QuicEventKind.CLOSED, conn, code=code, by=2)
            elif kind == "token":
                token_body = event[2]
                assert isinstance(token_body, bytes)
                self._tell(QuicEventKind.TOKEN, conn, token_body)
            elif kind == "reset_token":
                seq, cid_bytes, token_bytes = event[2:5]
                assert isinstance(seq, int) and isinstance(cid_bytes, bytes) and isinstance(token_bytes, bytes)
                body = QuicCid(seq=seq, len=len(cid_bytes), has_token=1, cid=cid_bytes, token=token_bytes).pack()
                self._tell(QuicEventKind.RESET_TOKEN, conn, body)
        engine.events = [e for e in engine.events if e[0] == "stream"]

    def _tell(self, kind: QuicEventKind, conn: int, body: bytes = b"", **more: int) -> None:
        self.events.append((QuicEvent(kind=kind, conn=conn, length=len(body), **more), body))


class Routes:
    """The map `cids`."""

    def __init__(self) -> None:
        self.table: dict[bytes, int] = {}
        self.room = 1 << 16

    def add(self, cid: bytes, worker: int) -> None:
        if len(self.table) >= self.room:
            raise OSError(7, "the map is full")
        self.table[cid] = worker

    def remove(self, cid: bytes) -> None:
        self.table.pop(cid, None)


class Supervisor:
    """One life of a daemon. An End for rig.Network."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        target: Target | None = None,
        key: bytes = bytes(KEY_BYTES),
        make_worker: Callable[[], Worker] | None = None,
        path: Path | None = None,
    ) -> None:
        self.make_worker = make_worker or Worker
        self.path = path or Path(family=4)
        self.realm = Realm(key)
        self.routes = Routes()
        self.endpoint = Endpoint(self.realm, SETTINGS, limits)
        self.handover = Handover(self.realm, self.routes)
        self.link = Link("test", target, told=self._told) if target else None
        self.worker: Worker | None = None
        self.sealed: list[Sealed] = []  # of dead workers too
        self.streams: list[bytes] = []  # received whole
        self.fates: dict[int, QuicOutcome] = {}
        self.connections: dict[int, Connection] = {}
        self.closed: list[Closed] = []
        self.failed: list[Failed] = []
        self.frozen = False  # the worker consumes nothing, as one that is about to be killed
        self.dead = False
        self.early: dict[int, Dial] = {}

    def _told(self, token: int, outcome: QuicOutcome, first: int) -> None:
        assert token not in self.fates, "two fates"
        self.fates[token] = outcome

    def start_worker(self) -> Worker:
        assert self.worker is None
        self.worker = self.make_worker()
        self.handover.engine_up(self.worker)
        return self.worker

    def kill_worker(self, now: float) -> None:
        if self.worker is None:
            return
        worker, self.worker = self.worker, None
        self._harvest(worker)
        self.handover.engine_down(worker.worker, now)
        self._news(now)

    def kill(self) -> None:
        """The supervisor dies, and its worker with it."""
        if self.worker is not None:
            self._harvest(self.worker)
        self.worker = None
        self.dead = True

    def _harvest(self, worker: Worker) -> None:
        self.sealed += worker.engine.sealed
        self.streams += [e[3] for e in worker.engine.events if e[0] == "stream" and isinstance(e[3], bytes)]
        worker.engine.sealed, worker.engine.events = [], []

    def submit(self, token: int, data: bytes) -> bool:
        assert self.link is not None
        return self.link.submit(Message(token, data), self._give)

    def _give(self, message: Message) -> None:
        assert self.link is not None and self.link.number is not None
        connection = self.connections[self.link.number]
        self.handover.commands.send(connection, message.token, message.data, message.how)

    # --- End ---

    def receive(self, datagram: bytes, remote: Address, now: float) -> None:
        if self.dead:
            return
        if is_short(datagram) and datagram[1 : 1 + CID_LENGTH] in self.routes.table:
            if self.worker is not None:  # XDP: dropped and counted while its worker is down
                self.worker.engine.rx(datagram, now)
        else:
            self.endpoint.receive(datagram, remote, now)
        self.turn(now)

    def outgoing(self, now: float) -> list[bytes]:
        if self.dead:
            return []
        self.turn(now)
        out = [o.datagram for o in self.endpoint.outgoing]
        self.endpoint.outgoing.clear()
        if self.worker is not None and not self.frozen:
            out += [data for _, data in self.worker.engine.tx(now)]
        return out

    def due(self) -> float | None:
        if self.dead:
            return None
        times = [self.endpoint.due(), self.link.due() if self.link else None, self.handover.due()]
        if self.worker is not None and not self.frozen and self.worker.events:
            return 0.0
        if self.worker is not None and not self.frozen:
            times.append(self.worker.engine.due())
        return min((t for t in times if t is not None), default=None)

    def timer(self, now: float) -> None:
        if not self.dead:
            self.endpoint.timer(now)
            self.turn(now)

    def turn(self, now: float) -> None:
        """Everything that can move, moves."""
        for _ in range(8):
            if self.link is not None and self.link.wants_dial(now):
                dial = self.endpoint.dial(self.link.target, now, messages=self.link.early())
                self.early[dial.number] = dial
                self.link.dialling(dial.number)
            self._endpoint_events(now)
            self.handover.pump(now)
            if self.worker is not None and not self.frozen:
                self.worker.move(now)
            moved = False
            while self.worker is not None and not self.frozen and self.worker.events:
                event, body = self.worker.events.popleft()
                self.handover.event(event, body, now)
                moved = True
            self._news(now)
            if not moved:
                break

    def _endpoint_events(self, now: float) -> None:
        while self.endpoint.events:
            event = self.endpoint.events.pop(0)
            if isinstance(event, Completed):
                connection = self.handover.begin(event.shake, self.endpoint, self.path, 0, now)
                self.connections[connection.number] = connection
            elif isinstance(event, Failed):
                self.failed.append(event)
                self.handover.shake_failed(event.shake, now)
                if self.link is not None and self.link.number == event.shake.number:
                    self.link.ended(now)
            elif isinstance(event, Forward):
                self.handover.inject(event.number, event.datagram, event.remote, event.tos)
            elif isinstance(event, PeerReset):
                self.handover.peer_reset(event.number, now)
        self._news(now)

    def _news(self, now: float) -> None:
        while self.handover.news:
            news = self.handover.news.pop(0)
            link = self.link
            if isinstance(news, Opened) and link is not None and link.number == news.connection.number:
                link.opened(self.early[news.connection.number].early_messages, self._give, now)
            elif isinstance(news, Done) and link is not None:
                link.done(news.token, news.outcome, news.first_sent_ns)
            elif isinstance(news, Closed):
                self.closed.append(news)
                if link is not None and link.number == news.connection.number:
                    link.ended(now, ours=news.ours)

    def step(self) -> Step | None:
        """Of the youngest connection."""
        return max(self.connections.items())[1].step if self.connections else None

    def all_sealed(self) -> list[Sealed]:
        return self.sealed + (self.worker.engine.sealed if self.worker else [])

    def all_streams(self) -> list[bytes]:
        if self.worker is not None:
            fresh = [e[3] for e in self.worker.engine.events if e[0] == "stream" and isinstance(e[3], bytes)]
            self.streams += fresh
            self.worker.engine.events = []
        return self.streams


def fresh_key() -> bytes:
    return os.urandom(KEY_BYTES)


__all__ = ["SERVER", "Routes", "Supervisor", "Worker", "fresh_key"]
