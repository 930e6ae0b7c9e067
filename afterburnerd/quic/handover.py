"""The handover of a connection from its handshake to an engine, as a numbered list of steps, and what follows from them.

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
goes there before the engine, and so the peer, hears of it.

Sans-I/O: commands go out by `commands` (commands.py), events come in by `event`, `cids` is written by `Routes`. What is kept of a
connection is in connection.py; what others want to know stands in `news` (news.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from ..abi.layout import (
    Path,
    QuicCid,
    QuicClose,
    QuicClosed,
    QuicCommandKind,
    QuicEvent,
    QuicEventKind,
    QuicOutcome,
    QuicRefusal,
)
from .cids import LocalCid
from .commands import REASON_MAX, Commands, Engine
from .connection import Connection, Step
from .dial import Dial
from .endpoint import TOMBSTONE_SECONDS, Endpoint, Realm
from .export import NotExportable, export
from .news import DIED, Closed, Confirmed, Done, Migrated, News, Opened, Other, Refused, StreamOpened
from .shake import Shake, State, Why
from .tickets import CryptoViolation
from .tokens import Address, unpacked

STOCK: Final = 6  # connection IDs handed over at adoption, the handshake's among them: four for the peer, as many as ours keep, two in reserve
STOCK_MAX: Final = 8  # that one CIDS_LOW is answered with
# A client's engine repeats nothing before the handshake is confirmed (RFC 9002 6.2.1), so a server that died in between would
# be noticed by the idle timeout only. A live one confirms within a round trip and repeats it; as long as a handshake may take.
CONFIRM_SECONDS: Final = 4.0
RESETS_EACH: Final = 2  # stateless resets for a connection that died with its worker
INTERNAL_ERROR: Final = 0x01
CONNECTION_REFUSED: Final = 0x02
TRANSPORT_PARAMETER_ERROR: Final = 0x08


class Routes(Protocol):
    """The map `cids` of the XDP program. OSError: it is full."""

    def add(self, cid: bytes, worker: int) -> None: ...
    def remove(self, cid: bytes) -> None: ...


class Handover:
    """All connections from their completion on."""

    def __init__(self, realm: Realm, routes: Routes, clock: Callable[[], float] | None = None) -> None:
        self.realm = realm
        self.routes = routes
        self._clock = clock  # for figures alone: when exactly `cids` was written
        self.connections: dict[int, Connection] = {}
        self.news: list[News] = []
        self.commands = Commands()
        self._held: deque[Connection] = deque()  # complete, and no engine has had room yet
        self.exported: set[int] = set()  # numbers of connections whose ADOPT has no answer yet
        self._unconfirmed: dict[int, float] = {}  # clients': until when HANDSHAKE_DONE has time, in order

    # --- engines come and go ---

    def engine_up(self, engine: Engine) -> None:
        self.commands.up(engine)

    def engine_down(self, worker: int, now: float) -> list[Connection]:
        """A worker has died: all that it may have sealed a packet of is lost, of which its peers are told. HELD connections wait
        for the next."""
        engine = self.commands.down(worker)
        lost = [c for c in self.connections.values() if c.engine is engine and engine is not None]
        for connection in lost:
            self._reset(connection)
            self._gone(connection, now, None, reason=DIED, buried=False)
        for connection in self.connections.values():
            if connection.step is Step.HELD and connection not in self._held:
                self._held.append(connection)
        return lost

    def _reset(self, connection: Connection) -> None:
        """A peer believes the token of the connection ID that it sends to (RFC 9000 10.3.1), which is the first that it has not
        retired, or the one after it. A client's first one has no token, so most servers wait for their idle timeout."""
        used = sorted(connection.cids)[:RESETS_EACH]
        if used and (used[0] or not connection.is_client):
            connection.endpoint.reset([connection.cids[seq] for seq in used], connection.remote)

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
        shake = connection.shake
        if connection.step is not Step.HELD or shake is None or shake.front is None:
            return True
        worker = self.realm.places.choose(worker, self.commands.engines)
        if not self.commands.takes(worker):
            return False
        front = shake.front
        stock = [shake.own_cid, *self._mint(connection, STOCK - len(connection.cids))]
        accepted = isinstance(shake, Dial) and shake.early_accepted
        streams = len(shake.early_messages) if isinstance(shake, Dial) else 0
        try:
            adopt = export(
                front, connection.number, connection.path, stock, early_accepted=accepted, early_streams=streams
            )
        except NotExportable as error:
            self._refuse(connection, now, error.code, str(error))
            return True
        body = bytearray(adopt.pack())
        del adopt
        engine = self.commands.offer(worker, connection, QuicCommandKind.ADOPT, body)
        body[:] = bytes(len(body))
        if engine is None:
            self._unmint(connection)
            return False
        front.wipe()
        connection.engine = engine
        self.realm.places.settle(engine.worker)
        connection.step = Step.EXPORTED
        self.exported.add(connection.number)
        if isinstance(shake, Dial):
            for message in shake.early_messages:  # first and in order: they get the stream IDs that they had (dial.py)
                self.commands.send(connection, message.token, message.data)
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

    def close(
        self, connection: Connection, now: float, code: int = 0, reason: str = "", *, is_app: bool = True
    ) -> None:
        """CONNECTION_CLOSE; the engine says CLOSED when it has been sent."""
        if connection.engine is None and connection.shake is not None:
            self._refuse(connection, now, code, reason)
        else:
            self.commands.put(
                connection, QuicCommandKind.CLOSE, reason.encode()[:REASON_MAX], code=code, flags=int(is_app)
            )

    def close_unexported(self, now: float, code: int = 0, reason: str = "") -> None:
        """Those that no engine was given, so that nobody has to be waited for."""
        for connection in [c for c in self.connections.values() if c.engine is None]:
            self._refuse(connection, now, code, reason)

    def close_adopted(self, code: int = 0, reason: str = "") -> None:
        """All that engines have: `adopted` ends when they have told so. What is HELD waits for the next worker."""
        self.commands.close_all(code, reason)

    @property
    def adopted(self) -> bool:
        """Some engine has a connection, or is about to."""
        return any(c.engine is not None for c in self.connections.values())

    def inject(self, number: int, datagram: bytes, remote: Address, tos: int = 0) -> None:
        """A 1-RTT datagram that reached a kernel socket."""
        connection = self.connections.get(number)
        if connection is None:
            return
        if connection.step < Step.ROUTED:
            if connection.shake is not None:
                connection.shake.keep(datagram, remote, tos)
            return
        self._inject(connection, datagram, remote, tos)

    def _inject(self, connection: Connection, datagram: bytes, remote: Address, tos: int) -> None:
        taken = self.commands.inject(connection, datagram, remote, tos)
        connection.endpoint.counts["injected" if taken else "inject_dropped"] += 1

    def peer_reset(self, number: int, now: float) -> None:
        """The peer has lost the connection (a datagram ended in its reset token): forget it without a packet."""
        connection = self.connections.get(number)
        if connection is not None:
            self.commands.put(connection, QuicCommandKind.DROP)
            self._gone(connection, now, QuicClose.RESET, reason="stateless reset")

    def pump(self, now: float) -> None:
        """What waited for room, and tombstones whose time is over. Call it often while there is either."""
        self.commands.pump()
        self.realm.mint.ahead()
        for _ in range(len(self._held)):
            connection = self._held.popleft()
            if not any(self._export(connection, worker, now) for worker in self.commands.engines):
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
        return bool(self._held or self.exported) or self.commands.waiting

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
            before, connection.path = connection.remote, Path.unpack(body)
            connection.remote = (unpacked(connection.path.remote), connection.path.remote_port)
            if not connection.is_client and connection.remote[0] != before[0]:
                self._give_token(connection, now)  # the former one was for the former address
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
        connection.routed_at = self._clock() if self._clock is not None else now
        for token in connection.tokens.values():
            self.realm.reset_tokens.add(token, connection.number)
        self.news.append(Opened(connection))
        if not connection.is_client:
            self._give_token(connection, now)  # before its data is acknowledged, upon which a client may leave
        shake = connection.shake
        if shake is not None:
            early, shake.early = shake.early, []
            for kept in early:
                self._inject(connection, kept.datagram, kept.remote, kept.tos)
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

    def _give_token(self, connection: Connection, now: float) -> None:
        """For the client's next connection from its address, which then needs no Retry (RFC 9000 8.1.3)."""
        self.commands.put(connection, QuicCommandKind.TOKEN, self.realm.token_maker.new(connection.remote, now))

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
        self.commands.put(connection, QuicCommandKind.STOCK, body)

    # --- ends ---

    def _refuse(self, connection: Connection, now: float, code: int, reason: str) -> None:
        """No engine has it. One that was never EXPORTED is closed by a packet of ours (`Front.close_unexported`). Of one that an
        engine refused nobody has the keys: a server's peer learns it by a stateless reset when it sends; a client tells it in
        a Handshake packet, which a server that was quick to confirm cannot open any more, and that one waits for its idle
        timeout. So bounds are checked before a handshake begins, and this is rare."""
        if connection.shake is not None and connection.shake.state is State.COMPLETE:
            connection.endpoint.abort(connection.number, now, code, reason)
        self._gone(connection, now, None, code, reason=reason, buried=False)

    def shake_failed(self, shake: Shake, now: float) -> None:
        """After its completion: the peer closed in a Handshake packet, or no engine took it within its idle timeout."""
        connection = self.connections.get(shake.number)
        if connection is not None:
            self.commands.put(connection, QuicCommandKind.DROP)
            failure = shake.failure
            assert failure is not None
            by = QuicClose.IDLE if failure.why is Why.TIMEOUT else QuicClose.PEER
            self._gone(connection, now, by, failure.code, failure.is_app, reason=failure.reason)

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
        if connection.engine is not None:
            self.realm.places.leave(connection.engine.worker)
        connection.engine = None
        if connection in self._held:
            self._held.remove(connection)
        self.connections.pop(connection.number, None)
        self.news.append(Closed(connection, by, code, is_app, frame_type, reason, last))
