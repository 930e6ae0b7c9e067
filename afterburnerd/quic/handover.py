"""The handover of a connection, as a numbered list of steps, and what is kept of it here for the rest of its life.

    step         what has happened                                   1-RTT secrets   long-header keys   its packets go to
    1 HELD       the handshake is complete                           supervisor      supervisor         kept here, bounded
    2 EXPORTED   ADOPT lies in the command ring; our copies wiped    the ring        supervisor         kept here, bounded
    3 INSTALLED  the engine says ADOPTED; the worker wiped the slot  engine          supervisor         kept here, bounded
    4 ROUTED     every connection ID of ours stands in `cids`        engine          supervisor         engine, by XDP
    5 INJECTED   what was kept went to the engine                    engine          supervisor         engine
    6 CONFIRMED  client: the engine had HANDSHAKE_DONE (server: 3)   engine          supervisor         engine
    7 RELEASED   Initial and Handshake keys, aioquic's object gone   engine          nobody             engine

Secrets move once and in one direction, so no death can make two encryptors of one key: they are wiped here in the step that
writes them to the ring, and the ring dies with its worker. A worker that dies while a connection is HELD costs nothing: the
next one adopts it. From EXPORTED on nobody can say whether a packet was sealed, so the connection is lost with the worker,
whatever it had done, and is dialled anew (link.py) with fresh keys. The supervisor's death ends everything, because workers
die with it.

The connection IDs go into `cids` after ADOPTED, or XDP would give packets to an engine that does not know them; a fresh stock
goes there before the engine, and so the peer, hears of it. Commands keep their order: what the ring has no room for waits here,
and everything behind it waits too.

Sans-I/O: commands go out by `Engine.put`, events come in by `event`, `cids` is written by `Routes`. What others want to know
stands in `news`.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Final, Protocol

import msgspec

from ..abi.layout import (
    QUIC_COMMAND_BYTES,
    QUIC_SEND_MORE,
    Path,
    QuicCid,
    QuicClose,
    QuicClosed,
    QuicCommand,
    QuicCommandKind,
    QuicEvent,
    QuicEventKind,
    QuicInject,
    QuicOutcome,
    QuicRefusal,
    QuicSend,
)
from .cids import LocalCid
from .dial import Dial
from .endpoint import TOMBSTONE_SECONDS, Endpoint, Realm
from .export import NotExportable, export
from .shake import Shake, State
from .tickets import CryptoViolation, TicketShim
from .tokens import Address, packed_mapped, unpacked

STOCK: Final = 4  # connection IDs handed over at adoption, the handshake's among them
STOCK_MAX: Final = 8  # that one CIDS_LOW is answered with
BODY_MAX: Final = QUIC_COMMAND_BYTES - QuicCommand.SIZE
INJECTS_WAITING: Final = 4096  # datagrams that wait for room in the ring, all connections; more are dropped
# A client's engine repeats nothing before the handshake is confirmed (RFC 9002 6.2.1), so a server that died in between would
# be noticed by the idle timeout only. A live one confirms within a round trip and repeats it; as long as a handshake may take.
CONFIRM_SECONDS: Final = 4.0
INTERNAL_ERROR: Final = 0x01
CONNECTION_REFUSED: Final = 0x02
TRANSPORT_PARAMETER_ERROR: Final = 0x08


class Step(enum.IntEnum):
    HELD = 1
    EXPORTED = 2
    INSTALLED = 3
    ROUTED = 4
    INJECTED = 5
    CONFIRMED = 6
    RELEASED = 7
    GONE = 8  # closed, refused or lost


class Engine(Protocol):
    """The engine of one worker, as its command ring."""

    @property
    def worker(self) -> int:
        """Index of the worker."""

    def put(self, command: QuicCommand, body: bytes | bytearray) -> bool:
        """False: the ring has no room now."""


class Routes(Protocol):
    """The map `cids` of the XDP program. OSError: it is full."""

    def add(self, cid: bytes, worker: int) -> None: ...
    def remove(self, cid: bytes) -> None: ...


class Connection:
    """What the supervisor keeps of a connection: half a KiB once it is RELEASED."""

    __slots__ = (
        "began",
        "cids",
        "client_random",
        "confirmed_at",
        "endpoint",
        "engine",
        "is_client",
        "name",
        "next_seq",
        "number",
        "path",
        "peer",
        "remote",
        "routed_at",
        "shake",
        "shim",
        "step",
        "tokens",
    )

    def __init__(self, shake: Shake, endpoint: Endpoint, path: Path, now: float) -> None:
        front = shake.front
        assert front is not None
        self.number = shake.number
        self.step = Step.HELD
        self.shake: Shake | None = shake  # until RELEASED
        self.endpoint = endpoint
        self.engine: Engine | None = None
        self.is_client = front.is_client
        self.remote = shake.remote
        self.path = path
        self.name = front.configuration.server_name or ""  # client: the SNI
        self.client_random: bytes = front.hello.client_random or b""  # names it in a key log; everybody saw it pass
        self.peer = front.peer.public  # key that the peer proved; empty: none
        self.cids: dict[int, bytes] = {shake.own_cid.seq: shake.own_cid.cid}
        self.next_seq = 1
        self.tokens: dict[int, bytes] = {c.seq: c.token for c in front.peer_cids() if c.token}
        self.shim: TicketShim | None = (shake.shim if isinstance(shake, Dial) else None) or TicketShim(front)
        self.began = now
        self.confirmed_at: float | None = None
        self.routed_at: float | None = None  # by the clock of whoever drives this, which is finer than `now`

    def __repr__(self) -> str:
        return f"<Connection {self.number} {self.step.name} {self.remote[0]}:{self.remote[1]}>"


class Opened(msgspec.Struct, frozen=True):
    """ROUTED: messages may be given to the engine, in the order of `send`."""

    connection: Connection


class Confirmed(msgspec.Struct, frozen=True):
    connection: Connection


class Done(msgspec.Struct, frozen=True):
    """The fate of a message."""

    connection: Connection
    token: int
    outcome: QuicOutcome
    first_sent_ns: int


class Refused(msgspec.Struct, frozen=True):
    """The engine refused a command; of a SEND, the message with this token was not accepted."""

    connection: Connection
    token: int
    error: int


class StreamOpened(msgspec.Struct, frozen=True):
    connection: Connection
    token: int
    stream: int


class Migrated(msgspec.Struct, frozen=True):
    connection: Connection
    path: Path


class Closed(msgspec.Struct, frozen=True):
    """The last news of a connection."""

    connection: Connection
    by: QuicClose | None  # None: it was never installed, or its worker died
    code: int
    is_app: bool
    frame_type: int
    reason: str
    last: QuicClosed | None  # what the engine counted


class Other(msgspec.Struct, frozen=True):
    """An event that is not for here: key log, qlog, key updates."""

    connection: Connection | None
    event: QuicEvent
    body: bytes


News = Opened | Confirmed | Done | Refused | StreamOpened | Migrated | Closed | Other


class Handover:
    """All connections from their completion on."""

    def __init__(self, realm: Realm, routes: Routes) -> None:
        self.realm = realm
        self.routes = routes
        self.connections: dict[int, Connection] = {}
        self.news: list[News] = []
        self.injects_dropped = 0
        self._held: deque[Connection] = deque()  # complete, and no engine has had room yet
        self._waiting: dict[int, deque[tuple[QuicCommand, bytes | bytearray]]] = {}  # by worker: behind a full ring
        self._engines: dict[int, Engine] = {}
        self.exported: set[int] = set()  # numbers of connections whose ADOPT has no answer yet
        self._unconfirmed: dict[int, float] = {}  # clients': until when HANDSHAKE_DONE has time, in order
        self._number = 0  # of the last command

    # --- engines come and go ---

    def engine_up(self, engine: Engine) -> None:
        self._engines[engine.worker] = engine
        self._waiting[engine.worker] = deque()

    def engine_down(self, worker: int, now: float) -> list[Connection]:
        """A worker has died: all that it may have sealed a packet of is lost. HELD connections wait for the next."""
        engine = self._engines.pop(worker, None)
        self._waiting.pop(worker, None)
        lost = [c for c in self.connections.values() if c.engine is engine and engine is not None]
        for connection in lost:
            self._gone(connection, now, None, reason="the data plane died", buried=False)
        for connection in self.connections.values():
            if connection.step is Step.HELD and connection not in self._held:
                self._held.append(connection)
        return lost

    # --- step 1 to 2 ---

    def begin(self, shake: Shake, endpoint: Endpoint, path: Path, worker: int, now: float) -> Connection:
        """A handshake is complete. `path` is the route to the peer as the worker needs it."""
        connection = Connection(shake, endpoint, path, now)
        self.connections[connection.number] = connection
        endpoint.adopt(shake)
        if not self._export(connection, worker, now):
            self._held.append(connection)
        return connection

    def _export(self, connection: Connection, worker: int, now: float) -> bool:
        """Writes ADOPT. False: no engine, or no room in its ring."""
        engine, shake = self._engines.get(worker), connection.shake
        if connection.step is not Step.HELD or shake is None or shake.front is None:
            return True
        if engine is None or self._waiting[worker]:
            return False
        front = shake.front
        stock = [shake.own_cid, *self._mint(connection, STOCK - len(connection.cids))]
        accepted = isinstance(shake, Dial) and shake.early_accepted
        try:
            adopt = export(front, connection.number, connection.path, stock, early_accepted=accepted)
        except NotExportable as error:
            self._refuse(connection, now, error.code, str(error))
            return True
        body = bytearray(adopt.pack())
        del adopt
        written = self._put(engine, connection, QuicCommandKind.ADOPT, body)
        body[:] = bytes(len(body))
        if not written:
            self._unmint(connection)
            return False
        front.wipe()
        connection.engine = engine
        connection.step = Step.EXPORTED
        self.exported.add(connection.number)
        if isinstance(shake, Dial):
            for message in shake.early_messages:  # first and in order: they get the stream IDs that they had (dial.py)
                self.send(connection, message.token, message.data)
        return True

    def _mint(self, connection: Connection, count: int) -> list[LocalCid]:
        fresh: list[LocalCid] = []
        for _ in range(count):
            cid = self.realm.mint.make(connection.next_seq, self.realm.registry)
            self.realm.registry.add(cid.cid, connection.number)
            connection.cids[cid.seq] = cid.cid
            connection.next_seq += 1
            fresh.append(cid)
        return fresh

    def _unmint(self, connection: Connection) -> None:
        """Nobody has heard of the stock: it goes again."""
        for seq in [s for s in connection.cids if s > 0]:
            self.realm.registry.remove(connection.cids.pop(seq))
        connection.next_seq = 1

    # --- commands ---

    def _put(
        self, engine: Engine, connection: Connection | None, kind: QuicCommandKind, body: bytes | bytearray, **more: int
    ) -> bool:
        self._number += 1
        command = QuicCommand(number=self._number, conn=connection.number if connection else 0, kind=kind, **more)
        return engine.put(command, body)

    def command(
        self, connection: Connection, kind: QuicCommandKind, body: bytes | bytearray = b"", **more: int
    ) -> None:
        """A command to the engine of a connection; behind a full ring it waits. None for a connection without one."""
        engine = connection.engine
        if engine is None or connection.step is Step.GONE:
            return
        waiting = self._waiting[engine.worker]
        if waiting or not self._put(engine, connection, kind, body, **more):
            self._number += 1
            waiting.append((QuicCommand(number=self._number, conn=connection.number, kind=kind, **more), body))

    def send(
        self,
        connection: Connection,
        token: int,
        data: bytes,
        how: QuicSend = QuicSend.UNI,
        *,
        stream: int = 0,
        flags: int = 0,
    ) -> None:
        """A message; one that is longer than a slot goes in several commands, which the worker puts together."""
        for at in range(0, max(1, len(data)), BODY_MAX):
            more = QUIC_SEND_MORE if at + BODY_MAX < len(data) else 0
            self.command(
                connection,
                QuicCommandKind.SEND,
                data[at : at + BODY_MAX],
                token=token,
                how=how,
                stream=stream,
                flags=flags | more,
            )

    def close(
        self, connection: Connection, now: float, code: int = 0, reason: str = "", *, is_app: bool = True
    ) -> None:
        """CONNECTION_CLOSE; the engine says CLOSED when it has been sent."""
        if connection.engine is None and connection.shake is not None:
            self._refuse(connection, now, code, reason)
        else:
            self.command(connection, QuicCommandKind.CLOSE, reason.encode()[:256], code=code, flags=int(is_app))

    def close_all(self, code: int = 0, reason: str = "") -> None:
        """Every worker closes all its connections, and adopts no more."""
        for engine in self._engines.values():
            self._number += 1
            command = QuicCommand(number=self._number, kind=QuicCommandKind.CLOSE_ALL, code=code, flags=1)
            if self._waiting[engine.worker] or not engine.put(command, reason.encode()[:256]):
                self._waiting[engine.worker].append((command, reason.encode()[:256]))

    def inject(self, number: int, datagram: bytes, remote: Address) -> None:
        """A 1-RTT datagram that reached a kernel socket."""
        connection = self.connections.get(number)
        if connection is None:
            return
        if connection.step < Step.ROUTED:
            if connection.shake is not None:
                connection.shake.keep(datagram, remote)
            return
        self._inject(connection, datagram, remote)

    def _inject(self, connection: Connection, datagram: bytes, remote: Address) -> None:
        assert connection.engine is not None
        if len(self._waiting[connection.engine.worker]) >= INJECTS_WAITING:
            self.injects_dropped += 1
            return
        where = QuicInject(
            local=connection.path.local,
            remote=packed_mapped(remote[0]),
            local_port=connection.path.local_port,
            remote_port=remote[1],
            family=connection.path.family,
            len=len(datagram),
        )
        self.command(connection, QuicCommandKind.INJECT, where.pack() + datagram)

    def peer_reset(self, number: int, now: float) -> None:
        """The peer has lost the connection (a datagram ended in its reset token): forget it without a packet."""
        connection = self.connections.get(number)
        if connection is not None:
            self.command(connection, QuicCommandKind.DROP)
            self._gone(connection, now, QuicClose.RESET, reason="stateless reset")

    def pump(self, now: float) -> None:
        """What waited for room, and tombstones whose time is over. Call it often while there is either."""
        for worker, waiting in self._waiting.items():
            engine = self._engines[worker]
            while waiting and engine.put(*waiting[0]):
                waiting.popleft()
        for _ in range(len(self._held)):
            connection = self._held.popleft()
            if not any(self._export(connection, worker, now) for worker in self._engines):
                self._held.append(connection)
        for cid in self.realm.registry.expire(now):
            self.routes.remove(cid)
        while self._unconfirmed and (first := next(iter(self._unconfirmed.items())))[1] <= now:
            del self._unconfirmed[first[0]]
            self.close(self.connections[first[0]], now, 0, "the server did not confirm the handshake")

    def due(self) -> float | None:
        """When `pump` has something to do, ring space aside."""
        return min(
            (t for t in (self.realm.registry.next_expiry(), *self._unconfirmed.values()) if t is not None), default=None
        )

    @property
    def busy(self) -> bool:
        """Adoptions are under way, or commands wait: poll fast."""
        return bool(self._held or self.exported) or any(self._waiting.values())

    # --- events ---

    def event(self, event: QuicEvent, body: bytes, now: float) -> None:
        connection = self.connections.get(event.conn)
        kind = event.kind
        if connection is None:
            if kind not in (QuicEventKind.CLOSED, QuicEventKind.DONE):
                self.news.append(Other(None, event, body))
            return
        if kind == QuicEventKind.ADOPTED:
            self._adopted(connection, event.code, now)
        elif kind == QuicEventKind.CONFIRMED:
            self._confirmed(connection, now)
        elif kind == QuicEventKind.CRYPTO:
            self._crypto(connection, event.number, body, now)
        elif kind == QuicEventKind.TOKEN:
            if connection.is_client:
                self.realm.tokens.put(connection.remote, connection.name, body)
        elif kind == QuicEventKind.RESET_TOKEN:
            self._reset_token(connection, QuicCid.unpack(body), given_up=event.code == 1)
        elif kind == QuicEventKind.CID_RETIRED:
            self._retired(connection, QuicCid.unpack(body).seq, now)
        elif kind == QuicEventKind.CIDS_LOW:
            self._stock(connection, min(event.number, STOCK_MAX), now)
        elif kind == QuicEventKind.DONE:
            self.news.append(Done(connection, event.token, QuicOutcome(event.code), event.number))
        elif kind == QuicEventKind.REFUSED:
            self.news.append(Refused(connection, event.token, event.code))
        elif kind == QuicEventKind.STREAM:
            self.news.append(StreamOpened(connection, event.token, event.number))
        elif kind == QuicEventKind.MIGRATED:
            connection.path = Path.unpack(body)
            connection.remote = (unpacked(connection.path.remote), connection.path.remote_port)
            self.news.append(Migrated(connection, connection.path))
        elif kind == QuicEventKind.CLOSED:
            last = QuicClosed.unpack(body) if len(body) >= QuicClosed.SIZE else None
            reason = body[QuicClosed.SIZE :].decode(errors="replace")
            by = QuicClose(event.by)
            self._gone(connection, now, by, event.code, bool(event.is_app), event.number, reason, last)
        else:
            self.news.append(Other(connection, event, body))

    def _adopted(self, connection: Connection, refusal: int, now: float) -> None:
        self.exported.discard(connection.number)
        if connection.step is not Step.EXPORTED:
            return
        if refusal != QuicRefusal.NONE:
            code = {
                QuicRefusal.FULL: CONNECTION_REFUSED,
                QuicRefusal.CLOSING: CONNECTION_REFUSED,
                QuicRefusal.PEER_TPARAMS: TRANSPORT_PARAMETER_ERROR,
            }.get(QuicRefusal(refusal), INTERNAL_ERROR)
            self._refuse(connection, now, code, f"not adopted: {QuicRefusal(refusal).name.lower()}")
            return
        connection.step = Step.INSTALLED
        assert connection.engine is not None
        try:
            for cid in connection.cids.values():
                self.routes.add(cid, connection.engine.worker)
        except OSError as error:
            self.close(connection, now, CONNECTION_REFUSED, "no room for connection IDs", is_app=False)
            self._gone(connection, now, None, CONNECTION_REFUSED, reason=str(error))
            return
        connection.step = Step.ROUTED
        for token in connection.tokens.values():
            self.realm.reset_tokens.add(token, connection.number)
        self.news.append(Opened(connection))
        shake = connection.shake
        if shake is not None:
            early, shake.early = shake.early, []
            for kept in early:
                self._inject(connection, kept.datagram, kept.remote)
        connection.step = Step.INJECTED
        if connection.is_client:
            self._unconfirmed[connection.number] = now + CONFIRM_SECONDS
        else:
            self._confirmed(connection, now)

    def _confirmed(self, connection: Connection, now: float) -> None:
        if connection.step is not Step.INJECTED:
            return
        self._unconfirmed.pop(connection.number, None)
        connection.step = Step.CONFIRMED
        connection.confirmed_at = now
        connection.endpoint.confirm(connection.number, now)
        connection.shake = None
        connection.step = Step.RELEASED
        self.news.append(Confirmed(connection))

    def _crypto(self, connection: Connection, offset: int, data: bytes, now: float) -> None:
        if connection.shim is None:
            return
        try:
            tickets = connection.shim.feed(offset, data)
        except CryptoViolation as error:
            self.close(connection, now, error.code, str(error), is_app=False)
            connection.shim = None
            return
        for ticket in tickets:
            self.realm.tickets.put(connection.remote, connection.name, ticket)

    def _reset_token(self, connection: Connection, cid: QuicCid, *, given_up: bool) -> None:
        before = connection.tokens.pop(cid.seq, b"")
        if before:
            self.realm.reset_tokens.remove(before)
        if not given_up and cid.has_token:
            connection.tokens[cid.seq] = cid.token
            self.realm.reset_tokens.add(cid.token, connection.number)

    def _retired(self, connection: Connection, seq: int, now: float) -> None:
        cid = connection.cids.pop(seq, None)
        if cid is not None:
            self.realm.registry.bury(cid, now + TOMBSTONE_SECONDS)

    def _stock(self, connection: Connection, count: int, now: float) -> None:
        if connection.engine is None or connection.step is Step.GONE:
            return
        fresh = self._mint(connection, count)
        try:
            for cid in fresh:
                self.routes.add(cid.cid, connection.engine.worker)
        except OSError:
            for cid in fresh:  # fewer connection IDs to rotate through; the engine asks again when it needs them
                self.routes.remove(cid.cid)
                self.realm.registry.remove(connection.cids.pop(cid.seq))
            connection.next_seq -= len(fresh)
            return
        body = b"".join(QuicCid(seq=c.seq, len=len(c.cid), has_token=1, cid=c.cid, token=c.token).pack() for c in fresh)
        self.command(connection, QuicCommandKind.STOCK, body)

    # --- ends ---

    def _refuse(self, connection: Connection, now: float, code: int, reason: str) -> None:
        """The engine never had it, and nobody else can seal a 1-RTT packet. A server's peer learns it by a stateless reset
        when it sends. A client tells it in a Handshake packet, which a server that was quick to confirm cannot open any
        more; that one waits for its idle timeout. So bounds are checked before a handshake begins, and this is rare."""
        if connection.shake is not None and connection.shake.state is State.COMPLETE:
            connection.endpoint.abort(connection.number, now, code, reason)
        self._gone(connection, now, None, code, reason=reason, buried=False)

    def shake_failed(self, shake: Shake, now: float) -> None:
        """The peer closed in a Handshake packet after our completion."""
        connection = self.connections.get(shake.number)
        if connection is not None:
            self.command(connection, QuicCommandKind.DROP)
            failure = shake.failure
            assert failure is not None
            self._gone(connection, now, QuicClose.PEER, failure.code, failure.is_app, reason=failure.reason)

    def _gone(
        self,
        connection: Connection,
        now: float,
        by: QuicClose | None,
        code: int = 0,
        is_app: bool = False,
        frame_type: int = 0,
        reason: str = "",
        last: QuicClosed | None = None,
        *,
        buried: bool = True,
    ) -> None:
        """Not buried: nobody knows its keys any more, so who still sends to it is told by a stateless reset."""
        if connection.step is Step.GONE:
            return
        for cid in connection.cids.values():
            if buried:
                self.realm.registry.bury(cid, now + TOMBSTONE_SECONDS)
            else:
                self.realm.registry.remove(cid)
                self.routes.remove(cid)
        for token in connection.tokens.values():
            self.realm.reset_tokens.remove(token)
        connection.endpoint.ended(connection.number, now, is_server=not connection.is_client)
        connection.step = Step.GONE
        self.exported.discard(connection.number)
        self._unconfirmed.pop(connection.number, None)
        connection.shake = None
        connection.shim = None
        connection.engine = None
        if connection in self._held:
            self._held.remove(connection)
        self.connections.pop(connection.number, None)
        self.news.append(Closed(connection, by, code, is_app, frame_type, reason, last))
