"""What has happened is told to whom it concerns: the workers' events to the handover, its news to links, adoptions and traces.

    event rings ──► look ──► STRAY: a datagram for an endpoint, which came to a worker's socket
                       └───► anything else: handover.event ──► news ──► link, journal, trace, path

While a worker has an adoption to answer it is waited for a moment, because a worker that spins answers within microseconds, and
a turn of the event loop would cost more than that. One that had to be woken is waited for asleep: it may need our processor.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from afterburnerd.abi.layout import QuicEventKind, QuicInject
from afterburnerd.quic.connection import Connection
from afterburnerd.quic.handover import Handover
from afterburnerd.quic.news import Closed, Confirmed, Done, Migrated, Opened, Other, Refused, StreamOpened
from afterburnerd.quic.tokens import unpacked
from afterburnerd.quic.trace import Tracer
from afterburnerd.supervisor.quic_adoptions import Adoptions
from afterburnerd.supervisor.quic_chores import clock
from afterburnerd.supervisor.quic_links import Links
from afterburnerd.supervisor.quic_ports import Ports
from afterburnerd.supervisor.quic_seats import Seats

EAGER = 0.0002  # seconds that are spent looking for the answer to an adoption: a worker that spins has it in a tenth of that
PATIENT = 0.0005  # the same, of a worker that slept: it is waited for without spinning


class Messenger:
    """Looks at the rings and passes on."""

    def __init__(
        self,
        seats: Seats,
        ports: Ports,
        links: Links,
        adoptions: Adoptions,
        handover: Handover,
        tracer: Tracer,
        adopted: Callable[[int], None],
    ) -> None:
        self._seats = seats
        self._ports = ports
        self._links = links
        self._adoptions = adoptions
        self._handover = handover
        self._tracer = tracer
        self._adopted = adopted  # told how long an adoption took, ns

    def look(self, now: float, *, wait: bool = False) -> None:
        """Events that are there; with `wait`, and while a worker has an adoption to answer, it is waited for a moment."""
        began = clock()
        until = began + EAGER
        while True:
            told = False
            for event, body in self._seats.take():
                told = True
                if event.kind == QuicEventKind.STRAY:
                    self._stray(body)
                else:
                    self._handover.event(event, body, now)
            self.tell(now)
            if told:
                continue
            if not wait or not self._handover.exported:
                return
            if self._seats.sleeping:
                until = began + PATIENT
                self._seats.await_news(max(0.0, until - clock()))
            if clock() >= until:
                return

    def _stray(self, body: bytes) -> None:
        where = QuicInject.unpack(body)
        local, remote = (unpacked(where.local), where.local_port), (unpacked(where.remote), where.remote_port)
        port = self._ports.all.get(local)
        if port is not None:
            port.port.receive(body[QuicInject.SIZE : QuicInject.SIZE + where.len], remote, where.tos)

    def tell(self, now: float) -> None:
        while self._handover.news:
            news = self._handover.news.pop(0)
            if isinstance(news, Opened):
                self._opened(news.connection, now)
            elif isinstance(news, Confirmed):
                self._links.confirmed(news.connection)
            elif isinstance(news, Done):
                self._links.done(news)
            elif isinstance(news, Refused):
                self._links.refused(news, now)
            elif isinstance(news, StreamOpened):
                self._links.stream_opened(news)
            elif isinstance(news, Migrated):
                self._adoptions.migrated(news.connection)
            elif isinstance(news, Other):
                self._tracer.event(news.connection, news.event, news.body)
            elif isinstance(news, Closed):
                self._tracer.closed(news, time.monotonic_ns())
                self._adoptions.closed(news.connection.number)
                self._links.closed(news, now)

    def _opened(self, connection: Connection, now: float) -> None:
        if connection.routed_at is not None:
            self._adopted(round((connection.routed_at - connection.began) * 1e9))
        self._tracer.began(connection)  # one that no engine had room for at first
        self._links.opened(connection, now)
