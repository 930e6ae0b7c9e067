"""From a handshake to an adopted connection: what an endpoint tells is acted upon, and complete handshakes find their path.

    Began     ──► the way to the peer is looked up while the handshake goes on
    Completed ──► way known, port ready, backend tested? ──► no: it waits here, and is retried when one of these comes true
                     └─► path ──► (none: the port is shared first) ──► handover.begin ──► ADOPT
    Failed    ──► its link hears of it
    Forward   ──► a 1-RTT datagram that came to the kernel's socket: the handover keeps or injects it
    PeerReset ──► the connection is forgotten without a packet

Afterwards the connection's path is kept true here: the kernel changes a route or neighbour (`moved`), or the peer migrates.
"""

from __future__ import annotations

import asyncio

import msgspec

from afterburnerd.abi.layout import QuicCommandKind
from afterburnerd.net.facts import Path as Way
from afterburnerd.net.facts import Reason
from afterburnerd.quic.connection import Connection
from afterburnerd.quic.dial import Dial
from afterburnerd.quic.endpoint import Began, Completed, Failed, Forward, PeerReset
from afterburnerd.quic.handover import Handover
from afterburnerd.quic.port import KernelPort
from afterburnerd.quic.shake import Shake, State
from afterburnerd.quic.trace import Tracer
from afterburnerd.supervisor.quic_chores import Chores, clock
from afterburnerd.supervisor.quic_links import Links
from afterburnerd.supervisor.quic_paths import Paths
from afterburnerd.supervisor.quic_ports import Ports
from afterburnerd.supervisor.quic_ways import Ways


class Adoptions:
    """Of all endpoints."""

    def __init__(
        self, ports: Ports, ways: Ways, paths: Paths, links: Links, handover: Handover, tracer: Tracer, chores: Chores
    ) -> None:
        self._ports = ports
        self._ways = ways
        self._paths = paths
        self._links = links
        self._handover = handover
        self._tracer = tracer
        self._chores = chores
        self._waiting: dict[int, tuple[Shake, KernelPort]] = {}  # complete, and something is not known yet
        self._owners: dict[int, KernelPort] = {}  # of connections
        self._sharing = asyncio.Lock()

    # --- what endpoints tell ---

    def turn(self, now: float) -> None:
        for port in list(self._ports.all.values()):
            self.events(port.port, now)

    def events(self, port: KernelPort, now: float) -> None:
        while port.endpoint.events:
            event = port.endpoint.events.pop(0)
            if isinstance(event, Began):
                self._ways.find(event.shake.number, event.shake.remote[0], port)
            elif isinstance(event, Completed):
                self._completed(event.shake, port, now)
            elif isinstance(event, Failed):
                self._failed(event, now)
            elif isinstance(event, Forward):
                self._handover.inject(event.number, event.datagram, event.remote, event.tos)
            elif isinstance(event, PeerReset):
                self._handover.peer_reset(event.number, now)

    def _failed(self, event: Failed, now: float) -> None:
        number = event.shake.number
        self._handover.shake_failed(event.shake, now)
        self._waiting.pop(number, None)
        self._links.failed(event, now)
        if number not in self._handover.connections:
            self._ways.forget(number)

    # --- complete handshakes ---

    def _completed(self, shake: Shake, port: KernelPort, now: float) -> None:
        if shake.state is not State.COMPLETE:
            return  # it waited too long, or its peer closed: that is told in an event of its own
        way = self._ways.of(shake.number)
        if way is None or not self._ports.is_ready(port) or self._paths.testing:
            self._waiting[shake.number] = (shake, port)
            return
        worker, path = self._paths.of(way, port, shake.remote)
        if path is None:
            self._chores.spawn(self._share(shake, port), f"share {shake.number}")
            return
        if isinstance(shake, Dial):
            self._links.handed_over(shake)
        self._owners[shake.number] = port
        self._tracer.began(self._handover.begin(shake, port.endpoint, path, worker, now))

    def retry(self) -> None:
        """Handshakes that were complete before their way, their port or the self-test was."""
        now = clock()
        for number in list(self._waiting):
            self._completed(*self._waiting.pop(number), now)

    async def _share(self, shake: Shake, port: KernelPort) -> None:
        """The kernel's way to this peer is not that of the rings: from here on the worker has half of the port."""
        async with self._sharing:
            await self._paths.share(port)
        self._completed(shake, port, clock())
        self._chores.wake()

    # --- connections ---

    def moved(self, number: int, way: Way) -> None:
        """The kernel has another way to the peer: the engine is told. One that is not there at the moment (link down,
        neighbour silent) may come back, and the peer waits; one that leads elsewhere is not ours to send frames on."""
        connection, port = self._handover.connections.get(number), self._owners.get(number)
        if connection is None or port is None:
            return
        if way.reason is Reason.BAD_SOURCE:
            self._handover.close(connection, clock(), 0, f"{port.local[0]} is no longer an address of this host")
            return
        if way.reason is not None and not way.reason.socket_backend:
            return
        _, path = self._paths.of(way, port, connection.remote)
        if path is None:
            self._chores.spawn(self._move_to_socket(number, way, port), f"share for {number}")
            return
        path = msgspec.structs.replace(path, generation=connection.path.generation)
        if path != connection.path:
            connection.path = msgspec.structs.replace(path, generation=path.generation + 1)
            self._handover.commands.put(connection, QuicCommandKind.PATH, connection.path.pack())

    def refresh(self) -> None:
        """A worker has come: what waits for one goes by its ways as they are now, which may be of other queues or sockets."""
        for connection in list(self._handover.connections.values()):
            if connection.engine is None and (way := self._ways.of(connection.number)) is not None:
                self.moved(connection.number, way)

    async def _move_to_socket(self, number: int, way: Way, port: KernelPort) -> None:
        async with self._sharing:
            await self._paths.share(port)
        self.moved(number, self._ways.of(number) or way)
        self._chores.wake()

    def migrated(self, connection: Connection) -> None:
        """The peer has another address, and another way leads there."""
        port = self._owners.get(connection.number)
        if port is not None:
            self._ways.forget(connection.number)
            self._ways.find(connection.number, connection.remote[0], port)
            # One that is not known yet is told when it is; until then the engine answers to where the packets come from.
            if (way := self._ways.of(connection.number)) is not None:
                self.moved(connection.number, way)

    def closed(self, number: int) -> None:
        self._ways.forget(number)
        self._owners.pop(number, None)
