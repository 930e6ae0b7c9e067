"""By what a connection's packets go: which worker, which of its queues or sockets, under which addresses and tags.

    way (route, neighbour: quic_ways.py) ─┐
    backend (backend.py, its self-test) ──┼──► of(way, port, remote) ──► worker + struct ab_path of its engine
    queue of the handshake (XDP's flows) ─┘             └─► None: the port has to be shared first
                                                               share(port): a second socket, the worker's half

The kernel's way to a peer is not always that of the rings (another interface, the loopback, a tunnel), and rings are not always
wanted. Then the worker has half of the port: short headers come to its socket, long ones stay here (quic/port.py).
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from afterburnerd.abi.layout import Cid, Path
from afterburnerd.config import Config, Quic
from afterburnerd.net import selftest
from afterburnerd.net.facts import Path as Way
from afterburnerd.net.selftest import Verdict
from afterburnerd.quic.port import KernelPort, share
from afterburnerd.quic.tokens import Address, packed_mapped
from afterburnerd.supervisor.backend import Backend, choose
from afterburnerd.supervisor.device import Device
from afterburnerd.supervisor.quic_seats import Seats

UDP_V4, UDP_V6 = 28, 48  # bytes of IP and UDP headers
LEAST_MTU = 1200


def payload_of(mtu: int, *, six: bool) -> int:
    """Bytes of UDP payload that an MTU allows."""
    return max(LEAST_MTU, min(mtu, 65_535) - (UDP_V6 if six else UDP_V4))


class Paths:
    """Of all connections; `testing` while the self-test is under way, on which the backend depends."""

    def __init__(self, config: Callable[[], Config], device: Device, seats: Seats) -> None:
        self._config = config
        self._device = device
        self._seats = seats
        self._halves: dict[Address, tuple[int, int]] = {}  # shared ports: worker and slot of the other half
        self._verdict: Verdict | None = None  # of the self-test of AF_XDP, where something depends on it
        self._chosen: tuple[Quic, str, Verdict | None, Backend] | None = None  # from what, and what
        self.testing = False

    # --- rings or sockets ---

    @property
    def needs_test(self) -> bool:
        quic = self._config().quic
        return "auto" in (quic.receive, quic.send) and self._device.rung != "socket"

    async def test(self) -> None:
        """Connections that are complete meanwhile wait for it: some tenths of a second, once."""
        try:
            self._verdict = await selftest.run()
        finally:
            self.testing = False

    def backend(self) -> Backend:
        quic, rung, verdict, chosen = self._config().quic, self._device.rung, self._verdict, self._chosen
        # Asked for each connection ID of each adoption: no more than three looks where nothing has changed.
        if chosen is None or chosen[0] is not quic or chosen[1] is not rung or chosen[2] is not verdict:
            chosen = self._chosen = (quic, rung, verdict, choose(quic, rung, verdict))
        return chosen[3]

    # --- the path of a connection ---

    def of(self, way: Way, port: KernelPort, remote: Address) -> tuple[int, Path | None]:
        """The worker and the way as the engine needs it; None: a socket has to be shared first."""
        host, local_port = port.local
        six = ":" in host
        common = {
            "local": packed_mapped(host),
            "remote": packed_mapped(remote[0]),
            "local_port": local_port,
            "remote_port": remote[1],
            "family": 6 if six else 4,
            "ttl": 64,
            "mtu": payload_of(way.mtu or 1500, six=six),
        }
        half, backend = self._halves.get(port.local), self.backend()
        on_rings = way.usable and self._device.program is not None
        sent_on_rings = backend.send == "afxdp" and backend.mixed
        if on_rings and (sent_on_rings if half is not None else not backend.mixed):
            # Where packets come in by the worker's half of the port, they leave by that worker's first queue.
            worker, slot = self._queue_of(port, remote) if half is None else (half[0], 0)
            outer, inner = (*(tag.vid for tag in way.vlans), 0, 0)[:2]
            return worker, Path(
                **common,  # type: ignore[arg-type]
                vlan_outer=outer,
                vlan_inner=inner,
                dmac=way.mac,
                smac=way.source_mac,
                slot=slot,
            )
        if half is None:
            return 0, None
        return half[0], Path(**common, io=1, slot=half[1])  # type: ignore[arg-type]

    def _queue_of(self, port: KernelPort, remote: Address) -> tuple[int, int]:
        """Worker and slot of the queue on which the handshake's packets came in."""
        assert self._device.program is not None
        if len(self._seats.keepers) == 1 == len(self._seats.keepers[0].queues):
            return self._seats.keepers[0].index, 0  # nothing to choose
        flow = self._device.program.flow((ip_address(remote[0]), remote[1]), (ip_address(port.local[0]), port.local[1]))
        queue = flow.rx_queue if flow is not None else 0
        for keeper in self._seats.keepers:
            if queue in keeper.queues:
                return keeper.index, keeper.queues.index(queue)
        return (self._seats.keepers[0].index if self._seats.keepers else 0), 0

    async def share(self, port: KernelPort) -> None:
        """From here on a worker has half of the port."""
        keeper = self._seats.keepers[0]
        if port.local not in self._halves:
            port.half = sock = share(port.sock)
            self._halves[port.local] = (keeper.index, await keeper.add_quic_socket(sock))

    # --- `Routes` of quic/handover.py: connection IDs whose short headers XDP gives to a worker ---

    def add(self, cid: bytes, worker: int) -> None:
        """Without an XDP program the sockets' split by first byte does it."""
        if self._device.program is not None and self.backend().receive == "afxdp":
            self._device.program.set_cid(cid, Cid(worker=worker))

    def remove(self, cid: bytes) -> None:
        if self._device.program is not None:
            self._device.program.set_cid(cid, None)
