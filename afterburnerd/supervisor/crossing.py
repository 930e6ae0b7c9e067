"""Rings between workers: how a packet that came in on the wrong worker's queue finds its connection.

    worker 0 ──► ring 0→1 ──► worker 1        one producer, one consumer each; made when a worker first needs them
    worker 0 ◄── ring 1→0 ◄── worker 1

A connection is adopted by the worker on whose queue its handshake came in, and its packets keep coming there, until the peer's
address or the NIC's table changes. Until it is dialled anew or gone, they are handed over (native/quic_port.h). The rings
outlive the processes at their ends: both counts stand in them, and what a dead worker left is taken, or not known, by the next.
"""

from __future__ import annotations

from afterburnerd.abi import orders
from afterburnerd.abi.layout import QUIC_EVENT_BYTES
from afterburnerd.abi.rings import Ring

SLOTS = 128  # 256 KiB: two bursts, and a turn of the loop takes half of it


class Crossings:
    """Of all workers of a daemon."""

    def __init__(self) -> None:
        self._rings: dict[tuple[int, int], Ring] = {}  # from, to

    def of(self, worker: int, workers: int) -> list[tuple[orders.OpenPeer, int]]:
        """The orders for one worker of so many, each with its ring's descriptor."""
        wanted = []
        for other in range(workers):
            if other != worker:
                wanted.append((orders.OpenPeer(outgoing=True), self._ring(worker, other)))
                wanted.append((orders.OpenPeer(outgoing=False), self._ring(other, worker)))
        return wanted

    def _ring(self, sender: int, receiver: int) -> int:
        pair = sender, receiver
        if pair not in self._rings:
            self._rings[pair] = Ring.create(f"{sender}-to-{receiver}", SLOTS, QUIC_EVENT_BYTES)
        return self._rings[pair].fd

    def close(self) -> None:
        for ring in self._rings.values():
            ring.close()
        self._rings.clear()
