"""A bad wire: two veth pairs, and between them a forwarder that loses, repeats, delays and spoils datagrams, by a seed.

    near of `ours` =====veth===== (far)  Wire  (near) =====veth===== far of `theirs`
     the daemon, 10.77.0.2                                           the peer, 10.77.0.1

Frames are taken off one pair and put on the other (AF_PACKET), so addresses stay what they are and XDP sees what a NIC would give
it. A spoiled datagram has its UDP checksum removed (IPv4 allows it), or the kernel would drop it before any engine saw it.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests import netns

ETH_P_IP = 0x0800
UDP = 17
ETHERNET, IPV4 = 14, 20
PAYLOAD = ETHERNET + IPV4 + 8
CHECKSUM = ETHERNET + IPV4 + 6
NO_OFFLOADS = ("-K", "tx", "off", "tx-udp-segmentation", "off", "generic-receive-offload", "off")
DELAY = 0.01  # seconds by which a delayed datagram comes late


@dataclass
class Faults:
    """What becomes of a datagram, in parts of 1."""

    loss: float = 0.0
    corrupt: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0


@dataclass
class Wire:
    """Forwards until it is stopped; counts what it did."""

    faults: Faults
    seed: int
    ends: tuple[netns.End, netns.End]  # whose frames are taken, and put
    macs: tuple[bytes, bytes]  # of who is behind each of them
    counts: dict[str, int] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        draw = random.Random(self.seed)
        socks = []
        for end in self.ends:
            with end.entered():
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(ETH_P_IP))
                sock.bind((end.ifname, ETH_P_IP))
            socks.append(sock)
        late: list[tuple[float, int, int, bytes]] = []
        serial = itertools.count()
        while not self._stop.is_set():
            pause = max(0.0, min(0.05, late[0][0] - time.monotonic())) if late else 0.05
            for ready in select.select(socks, [], [], pause)[0]:
                side = socks.index(ready)
                with contextlib.suppress(BlockingIOError):
                    for _ in range(64):
                        frame, where = ready.recvfrom(65_536)
                        if where[2] == socket.PACKET_OUTGOING or len(frame) <= PAYLOAD:
                            continue
                        for after, data in self._fate(draw, frame):
                            heapq.heappush(late, (time.monotonic() + after, next(serial), 1 - side, data))
            while late and late[0][0] <= time.monotonic():
                _, _, side, data = heapq.heappop(late)
                with contextlib.suppress(OSError):  # full, or going away: lost, as on any wire
                    socks[side].send(self.macs[side] + data[6:])
        for sock in socks:
            sock.close()

    def _fate(self, draw: random.Random, frame: bytes) -> Iterator[tuple[float, bytes]]:
        """What goes on, and how much later."""
        if frame[ETHERNET + 9] != UDP:
            yield 0.0, frame
            return
        faults = self.faults
        lost, spoiled, twice, late = (draw.random() for _ in range(4))
        if lost < faults.loss:
            self._count("lost")
            return
        if spoiled < faults.corrupt:
            self._count("corrupted")
            changed = bytearray(frame)
            changed[draw.randrange(PAYLOAD, len(frame))] ^= 1 << draw.randrange(8)
            changed[CHECKSUM : CHECKSUM + 2] = bytes(2)
            frame = bytes(changed)
        after = DELAY if late < faults.delay else 0.0
        self._count("delayed" if after else "forwarded")
        yield after, frame
        if twice < faults.duplicate:
            self._count("duplicated")
            yield after + DELAY / 2, frame

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


@contextlib.contextmanager
def between(faults: Faults, seed: int) -> Iterator[tuple[netns.Pair, Wire]]:
    """A rig whose near and far end lie behind such a wire."""
    with netns.pair() as ours, netns.pair() as theirs:
        for end in (ours.far, theirs.near):
            netns.run("ip", "-n", end.name, "addr", "flush", "dev", end.ifname)  # nobody there answers
        for end in (ours.near, theirs.far):
            end.ethtool(*NO_OFFLOADS)
        # What is put on the pair of ours goes to who is behind it, and so on the other.
        wire = Wire(faults, seed, (ours.far, theirs.near), (ours.near.mac, theirs.far.mac))
        thread = threading.Thread(target=wire.run, name="wire", daemon=True)
        thread.start()
        try:
            yield netns.Pair(near=ours.near, far=theirs.far), wire
        finally:
            wire._stop.set()
            thread.join(5)
