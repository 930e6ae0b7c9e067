"""A network of arrays: seeded, on a virtual clock, with every fault that a real one has.

    host --send--> [mtu] [rate, queue] [loss, corruption, duplication] [delay, jitter, reordering] --arrive--> host

Time is an integer in nanoseconds and moves only to the next thing that happens, so an hour of silence costs nothing and a
run is the same each time that its seed is. Addresses are what the sender believes; `rebind` puts a NAT's other port in
front of one of them from then on, as the peer sees it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

MS = 1_000_000
SECOND = 1_000 * MS
NEVER = (1 << 64) - 1

Address = tuple[str, int]


@dataclass
class Profile:
    """What one direction does to datagrams."""

    delay: int = 10 * MS
    jitter: int = 0  # ns, uniformly on top of `delay`, in order
    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    reorder: float = 0.0  # this share takes up to `reorder_by` longer, and is overtaken
    reorder_by: int = 0
    rate: int = 0  # bytes a second; 0: no limit
    queue: int = 0  # bytes that wait at the rate limit; what comes on top is dropped
    mtu: int = 1500  # bytes of UDP payload that pass
    blackholes: tuple[tuple[int, int], ...] = ()  # (from, to) ns: nothing passes

    @classmethod
    def draw(cls, rng: random.Random, hard: bool = True) -> Profile:
        """Something between a good cable and a bad day. `hard` allows what only a patient peer survives."""
        kind = rng.choice(("clean", "lossy", "wild", "slow", "far", "dark"))
        profile = cls(delay=rng.choice((10_000, MS, 10 * MS, 40 * MS)), mtu=rng.choice((1200, 1252, 1472, 1500, 9000)))
        profile.jitter = rng.choice((0, profile.delay // 10))
        if kind in ("lossy", "wild"):
            profile.loss = rng.uniform(0.005, 0.30 if hard else 0.10)
        if kind == "wild":
            profile.duplicate = rng.uniform(0, 0.1)
            profile.corrupt = rng.uniform(0, 0.05)
            profile.reorder = rng.uniform(0, 0.3)
            profile.reorder_by = rng.randrange(1, 4 * profile.delay + 2)
        if kind == "slow":
            profile.rate = rng.choice((125_000, 1_250_000))
            profile.queue = rng.choice((25 * 1500, 100 * 1500))
        if kind == "far":
            profile.delay = rng.randrange(100, 750 if hard else 300) * MS
        if kind == "dark":
            start = rng.randrange(0, 2_000) * MS
            profile.blackholes = ((start, start + rng.randrange(10, 2_000) * MS),)
        return profile


@dataclass(order=True)
class Flight:
    arrives: int
    serial: int
    data: bytes = field(compare=False)
    src: Address = field(compare=False)
    dst: Address = field(compare=False)
    ecn: int = field(compare=False)


@dataclass
class Counts:
    sent: int = 0
    lost: int = 0
    dark: int = 0
    queue_full: int = 0
    too_big: int = 0
    duplicated: int = 0
    corrupted: int = 0
    reordered: int = 0
    delivered: int = 0


class Network:
    """Both directions of a path between two hosts. `seen` is called for each datagram as it leaves its sender."""

    def __init__(self, rng: random.Random, forth: Profile, back: Profile, client: Address) -> None:
        self.rng = rng
        self.client = client  # datagrams from here go `forth`, all others `back`
        self.profiles = (forth, back)
        self.free_at = [0, 0]  # when each direction's rate limit has sent what waits
        self.last = [0, 0]  # when the last datagram in order arrives
        self.flights: list[Flight] = []
        self.serial = 0
        self.counts = (Counts(), Counts())
        self.outside = client  # what the other side sees of the client
        self.seen: list[Callable[[bytes, Address, int], None]] = []

    def rebind(self, address: Address) -> None:
        """From now on the client's datagrams come from `address`; what goes to an older one is lost."""
        self.outside = address

    def send(self, data: bytes, src: Address, dst: Address, now: int, ecn: int = 0) -> None:
        way = 0 if src == self.client else 1
        profile, counts, rng = self.profiles[way], self.counts[way], self.rng
        for seen in self.seen:
            seen(data, src, now)
        counts.sent += 1
        if way == 0:
            src = self.outside
        if len(data) > profile.mtu:
            counts.too_big += 1
            return
        if any(start <= now < end for start, end in profile.blackholes):
            counts.dark += 1
            return
        leaves = now
        if profile.rate:
            waiting = max(0, self.free_at[way] - now) * profile.rate // SECOND
            if waiting + len(data) > profile.queue:
                counts.queue_full += 1
                return
            leaves = max(now, self.free_at[way]) + (len(data) + 28) * SECOND // profile.rate
            self.free_at[way] = leaves
        if rng.random() < profile.loss:
            counts.lost += 1
            return
        if rng.random() < profile.corrupt:
            counts.corrupted += 1
            at = rng.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        copies = 1
        if rng.random() < profile.duplicate:
            counts.duplicated += 1
            copies = 2
        for copy in range(copies):
            arrives = leaves + profile.delay + (rng.randrange(profile.jitter) if profile.jitter else 0)
            if rng.random() < profile.reorder or copy:
                counts.reordered += 1
                arrives += rng.randrange(profile.reorder_by + 1)
            else:
                arrives = self.last[way] = max(arrives, self.last[way])
            self.serial += 1
            heapq.heappush(self.flights, Flight(arrives, self.serial, data, src, dst, ecn))

    def deadline(self) -> int:
        return self.flights[0].arrives if self.flights else NEVER

    def arrived(self, now: int) -> list[Flight]:
        """What is there by now, in order of arrival."""
        out = []
        while self.flights and self.flights[0].arrives <= now:
            flight = heapq.heappop(self.flights)
            to_client = flight.dst[0] == self.client[0]
            if to_client and flight.dst != self.outside:
                continue  # the NAT has forgotten this port
            self.counts[1 if to_client else 0].delivered += 1
            out.append(flight)
        return out
