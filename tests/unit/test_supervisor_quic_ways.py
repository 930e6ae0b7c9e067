"""Ways to peers are followed once for all connections between two addresses, and for no longer than one of them lives."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from typing import Any

from afterburnerd.net.facts import Path as Way
from afterburnerd.net.facts import Reason
from afterburnerd.supervisor.quic_chores import Chores
from afterburnerd.supervisor.quic_ways import Ways

PEER, OTHER, OURS = "192.0.2.1", "192.0.2.2", "192.0.2.9"


def way(host: str, *, mac: bytes = b"\x02" * 6, reason: Reason | None = None) -> Way:
    return Way(destination=IPv4Address(host), asked_source=IPv4Address(OURS), mac=mac, reason=reason)


class Facts:
    def __init__(self, *paths: Way) -> None:
        self.paths = paths


class Watcher:
    """Finds a way when `let` is set, and none where `fails` says so."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.users: Counter[str] = Counter()
        self.asked = 0
        self.let = asyncio.Event()
        self.fails: type[Exception] | None = None
        self.news: asyncio.Queue[None] = asyncio.Queue()

    async def follow(self, host: str, source: object) -> Way:
        self.asked += 1
        await self.let.wait()
        if self.fails is not None:
            raise self.fails
        self.users[host] += 1
        return way(host)

    def unfollow(self, host: object, source: object) -> None:
        self.users[str(host)] -= 1

    async def events(self, since: object) -> AsyncIterator[None]:
        while True:
            yield await self.news.get()


class Port:
    """A socket with handshakes 1 to 9, and its endpoint."""

    local = (OURS, 5000)

    def __init__(self) -> None:
        self.endpoint = self
        self.shakes = dict.fromkeys(range(1, 10))
        self.aborted: list[int] = []

    def abort(self, number: int, now: float, code: int, reason: str) -> None:
        self.aborted.append(number)


class World:
    def __init__(self) -> None:
        self.watcher, self.port, self.found, self.moved = Watcher(), Port(), 0, list[tuple[int, bytes]]()
        watcher: Any = self.watcher
        self.ways = Ways(watcher, Chores(), self._found, lambda number, way: self.moved.append((number, way.mac)))

    def _found(self) -> None:
        self.found += 1

    def find(self, number: int, host: str = PEER) -> None:
        port: Any = self.port
        self.ways.find(number, host, port)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_connections_to_one_peer_share_one_way() -> None:
    world = World()
    world.find(1)
    world.find(2)
    await settle()
    assert world.ways.of(1) is None and not world.found
    world.watcher.let.set()
    await settle()
    world.find(3)
    await settle()
    assert world.ways.of(1) == world.ways.of(2) == world.ways.of(3) == way(PEER)
    assert world.watcher.asked == 1 and world.found == 1
    world.ways.forget(1)
    world.ways.forget(2)
    assert world.watcher.users[PEER] == 1, "one still goes there"
    world.ways.forget(3)
    world.ways.forget(3)
    assert world.watcher.users[PEER] == 0 and world.ways.of(3) is None


async def test_where_there_is_no_way_the_handshakes_to_there_are_given_up() -> None:
    world = World()
    world.watcher.fails = TimeoutError
    world.find(1)
    world.find(2, OTHER)
    world.find(77)  # adopted already: the engine has it, and the way that it had
    world.watcher.let.set()
    await settle()
    assert sorted(world.port.aborted) == [1, 2] and world.found == 2
    world.watcher.fails = None
    world.find(3)
    await settle()
    assert world.ways.of(3) == way(PEER), "the next one asks again"


async def test_a_way_that_nobody_waits_for_any_more_is_not_followed() -> None:
    world = World()
    world.find(1)
    await settle()
    world.ways.forget(1)
    world.watcher.let.set()
    await settle()
    assert world.watcher.asked == 1 and world.watcher.users[PEER] == 0


async def test_a_change_is_told_to_whoever_goes_there() -> None:
    world = World()
    world.watcher.let.set()
    for number, host in ((1, PEER), (2, PEER), (3, OTHER)):
        world.find(number, host)
    await settle()
    first = [(number, way(PEER).mac) for number in (1, 2, 3)]
    assert sorted(world.moved) == first, "who was adopted while it was looked for has to hear of it too"
    world.moved.clear()
    following = asyncio.create_task(world.ways.follow())
    for paths, told in (
        ((way(PEER), way(OTHER)), []),  # as before
        ((way(PEER, mac=b"\x04" * 6), way(OTHER)), [(1, b"\x04" * 6), (2, b"\x04" * 6)]),
        # Not usable: what follows from that is for those who hear of it.
        ((way(PEER, mac=b"\x06" * 6, reason=next(iter(Reason))),), [(1, b"\x06" * 6), (2, b"\x06" * 6)]),
    ):
        world.watcher.facts = Facts(*paths)
        world.watcher.news.put_nowait(None)
        await settle()
        assert sorted(world.moved) == told
        world.moved.clear()
    following.cancel()
