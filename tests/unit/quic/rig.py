"""Two ends and a network between them, on a virtual clock: for tests of handshakes.

An end is anything with `receive(datagram, remote, now)`, `outgoing(now)`, `due()` and `timer(now)`: `Ours` is an endpoint of
the product with a stand-in of the engine behind it, `Plain` is aioquic as it comes. `Network` carries datagrams with a delay,
and with loss, duplication and reordering drawn from a seed.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
from collections.abc import Callable
from typing import Any, Protocol

from aioquic._buffer import Buffer
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from aioquic.tls import CipherSuite, SessionTicket

from afterburnerd.abi.layout import Path
from afterburnerd.quic.accept import Limits
from afterburnerd.quic.cids import LocalCid
from afterburnerd.quic.dial import Dial, EarlyMessage, Target
from afterburnerd.quic.endpoint import Began, Completed, Endpoint, Failed, Forward, PeerReset, Realm
from afterburnerd.quic.export import export
from afterburnerd.quic.front import FrontSettings
from afterburnerd.quic.identity import Identity
from afterburnerd.quic.params import Params
from afterburnerd.quic.shake import Shake
from afterburnerd.quic.tokens import Address
from afterburnerd.quic.wire import is_short, parse_long

from .standin import StandIn

CLIENT: Address = ("192.0.2.1", 5000)
SERVER: Address = ("192.0.2.2", 8000)


class End(Protocol):
    def receive(self, datagram: bytes, remote: Address, now: float) -> None: ...
    def outgoing(self, now: float) -> list[bytes]: ...
    def due(self) -> float | None: ...
    def timer(self, now: float) -> None: ...


class Network:
    """Carries datagrams between a client and a server. `drop(n, datagram, to_server)` may lose chosen ones."""

    def __init__(
        self,
        client: End,
        server: End,
        *,
        delay: float = 0.005,
        seed: int = 0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        jitter: float = 0.0,
        drop: Callable[[int, bytes, bool], bool] = lambda n, d, s: False,
    ) -> None:
        self.client, self.server = client, server
        self.now = 100.0
        self.delay, self.loss, self.duplicate, self.jitter = delay, loss, duplicate, jitter
        self.random = random.Random(seed)
        self.drop = drop
        self.wire: list[tuple[bool, bytes]] = []  # everything that was sent, lost or not: (to the server, datagram)
        self._flying: list[tuple[float, int, bool, bytes]] = []
        self._order = itertools.count()

    def collect(self) -> None:
        for to_server, end in ((True, self.client), (False, self.server)):
            for datagram in end.outgoing(self.now):
                number = len(self.wire)
                self.wire.append((to_server, datagram))
                if self.drop(number, datagram, to_server) or self.random.random() < self.loss:
                    continue
                for _ in range(2 if self.random.random() < self.duplicate else 1):
                    at = self.now + self.delay + self.random.random() * self.jitter
                    heapq.heappush(self._flying, (at, next(self._order), to_server, datagram))

    def run(self, until: Callable[[], bool], seconds: float = 30.0) -> bool:
        """Lets time pass until a condition holds; whether it came to hold within so many virtual seconds."""
        limit = self.now + seconds
        self.collect()
        while not until():
            times = [t for end in (self.client, self.server) if (t := end.due()) is not None]
            if self._flying:
                times.append(self._flying[0][0])
            if not times or min(times) > limit:
                self.now = limit
                return until()
            self.now = max(self.now, min(times))
            while self._flying and self._flying[0][0] <= self.now:
                _, _, to_server, datagram = heapq.heappop(self._flying)
                if to_server:
                    self.server.receive(datagram, CLIENT, self.now)
                else:
                    self.client.receive(datagram, SERVER, self.now)
            for end in (self.client, self.server):
                due = end.due()
                if due is not None and due <= self.now:
                    end.timer(self.now)
            self.collect()
        return True


class Ours:
    """An endpoint of the product, and a stand-in of the engine that adopts what it completes."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        identity: Identity | None = None,
        params: Params | None = None,
        suites: tuple[CipherSuite, ...] | None = None,
        realm: Realm | None = None,
        adopts: bool = True,
        alpn: tuple[str, ...] = ("solana-tpu",),
    ) -> None:
        self.identity = identity or Identity.generate()
        settings = FrontSettings(identity=self.identity, params=params or Params(), alpn=alpn)
        if suites:
            settings = FrontSettings(identity=self.identity, params=settings.params, alpn=alpn, cipher_suites=suites)
        self.realm = realm or Realm(os.urandom(32))
        self.endpoint = Endpoint(self.realm, settings, limits)
        self.engine = StandIn()
        self.adopts = adopts
        self.shakes: list[Shake] = []
        self.failed: list[Failed] = []
        self.resets: list[PeerReset] = []
        self.adopted: dict[int, Shake] = {}

    def dial(self, now: float, target: Target | None = None, messages: tuple[EarlyMessage, ...] = ()) -> Dial:
        dial = self.endpoint.dial(target or Target(SERVER), now, messages=messages)
        self.shakes.append(dial)
        return dial

    def receive(self, datagram: bytes, remote: Address, now: float) -> None:
        if is_short(datagram) and self.engine.find(datagram):
            self.engine.rx(datagram, now)  # as XDP would: to the data plane
        else:
            self.endpoint.receive(datagram, remote, now)
        self._events(now)

    def outgoing(self, now: float) -> list[bytes]:
        self._events(now)
        out = [o.datagram for o in self.endpoint.outgoing]
        self.endpoint.outgoing.clear()
        return out + [data for _, data in self.engine.tx(now)]

    def due(self) -> float | None:
        return min((t for t in (self.endpoint.due(), self.engine.due()) if t is not None), default=None)

    def timer(self, now: float) -> None:
        self.endpoint.timer(now)
        self._events(now)

    def adopt(self, shake: Shake, now: float) -> None:
        front = shake.front
        assert front is not None
        stock: list[LocalCid] = [shake.own_cid]
        for seq in (1, 2):
            cid = self.realm.mint.make(seq, self.realm.registry)
            self.realm.registry.add(cid.cid, shake.number)
            stock.append(cid)
        accepted = isinstance(shake, Dial) and shake.early_accepted
        message = export(front, shake.number, Path(), stock, early_accepted=accepted)
        self.endpoint.adopt(shake)
        self.adopted[shake.number] = shake
        self.engine.adopt(message)
        if isinstance(shake, Dial):
            for early in shake.early_messages:
                self.engine.send(shake.number, early.token, early.data)
        for kept in shake.early:
            self.engine.rx(kept.datagram, now)

    def _events(self, now: float) -> None:
        while self.endpoint.events:
            event = self.endpoint.events.pop(0)
            if isinstance(event, Completed):
                if event.shake not in self.shakes:
                    self.shakes.append(event.shake)
                if self.adopts:
                    self.adopt(event.shake, now)
            elif isinstance(event, Failed):
                self.failed.append(event)
            elif isinstance(event, Forward):
                self.engine.rx(event.datagram, now)
            elif isinstance(event, PeerReset):
                self.resets.append(event)
            else:
                assert isinstance(event, Began)
        for engine_event in self.engine.events:
            if engine_event[0] == "confirmed":
                number = engine_event[1]
                assert isinstance(number, int)
                self.endpoint.confirm(number, now)
            elif engine_event[0] == "crypto":
                _, number, offset, data = engine_event
                assert isinstance(number, int) and isinstance(offset, int) and isinstance(data, bytes)
                shake = self.adopted[number]
                if isinstance(shake, Dial) and shake.shim is not None:
                    for ticket in shake.shim.feed(offset, data):
                        self.realm.tickets.put(shake.target.address, shake.target.server_name, ticket)
            elif engine_event[0] == "token" and isinstance(engine_event[2], bytes):
                self.realm.tokens.put(SERVER, Target(SERVER).server_name, engine_event[2])
        self.seen = getattr(self, "seen", [])
        self.seen += self.engine.events
        self.engine.events.clear()

    def got(self, kind: str) -> list[tuple[Any, ...]]:
        return [e for e in getattr(self, "seen", []) if e[0] == kind]


class Plain:
    """aioquic as it comes, as the peer."""

    def __init__(self, connection: QuicConnection | None = None, **configuration: Any) -> None:
        self.configuration = configuration
        self.connection = connection
        self.tickets: dict[bytes, SessionTicket] = {}
        self.events: list[events.QuicEvent] = []
        self.ask_certificate = False
        self.early = True  # server: resumes with 0-RTT
        self.resumes = True

    def server(self, dcid: bytes) -> QuicConnection:
        identity = Identity.generate()
        config = {"alpn_protocols": ["solana-tpu"], "certificate": identity.certificate, "private_key": identity.key}
        connection = QuicConnection(
            configuration=QuicConfiguration(is_client=False, **(config | self.configuration)),
            original_destination_connection_id=dcid,
            session_ticket_fetcher=lambda label: self.tickets.get(label) if self.resumes else None,
            session_ticket_handler=lambda ticket: self.tickets.update({ticket.ticket: ticket}),
        )
        if self.ask_certificate:
            initialize = connection._initialize

            def patched(peer_cid: bytes) -> None:
                initialize(peer_cid)
                connection.tls._request_client_certificate = True

            connection._initialize = patched  # type: ignore[method-assign]
        return connection

    @classmethod
    def client(cls, now: float, keep: Callable[[SessionTicket], None] = lambda t: None, **configuration: Any) -> Plain:
        config = {"alpn_protocols": ["solana-tpu"], "server_name": "192.0.2.2.8000.sol", "verify_mode": 0}
        connection = QuicConnection(
            configuration=QuicConfiguration(is_client=True, **(config | configuration)), session_ticket_handler=keep
        )
        return cls(connection)

    def receive(self, datagram: bytes, remote: Address, now: float) -> None:
        if self.connection is None:
            header = parse_long(datagram)
            if header is None:
                return
            self.connection = self.server(header.dcid)
        self.connection.receive_datagram(datagram, remote, now)
        self._events()

    def outgoing(self, now: float) -> list[bytes]:
        if self.connection is None:
            return []
        out = [data for data, _ in self.connection.datagrams_to_send(now)]
        self._events()
        return out

    def due(self) -> float | None:
        return None if self.connection is None else self.connection.get_timer()

    def timer(self, now: float) -> None:
        if self.connection is not None:
            self.connection.handle_timer(now)
            self._events()

    def _events(self) -> None:
        assert self.connection is not None
        while (event := self.connection.next_event()) is not None:
            self.events.append(event)

    def got(self, kind: type[events.QuicEvent]) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]

    def streams(self) -> dict[int, bytes]:
        """Streams that ended, with their bytes."""
        data: dict[int, bytes] = {}
        ended: set[int] = set()
        for event in self.got(events.StreamDataReceived):
            data[event.stream_id] = data.get(event.stream_id, b"") + event.data
            if event.end_stream:
                ended.add(event.stream_id)
        return {stream: data[stream] for stream in sorted(ended)}


def long_packets(datagram: bytes) -> list[tuple[QuicPacketType, int, int]]:
    """The packets with long headers in a datagram: what each is, where it begins and ends."""
    buf, found = Buffer(data=datagram), list[tuple[QuicPacketType, int, int]]()
    while not buf.eof() and datagram[buf.tell()] & 0x80:
        start = buf.tell()
        header = pull_quic_header(buf)
        found.append((header.packet_type, start, start + header.packet_length))
        buf.seek(start + header.packet_length)
    return found


def long_kinds(datagram: bytes) -> list[QuicPacketType]:
    return [kind for kind, _, _ in long_packets(datagram)]
