"""The ways to peers: which route and which neighbour each connection's packets take, for as long as it lives.

    find(number, host) ──► watcher follows route and neighbour ──► found() : complete handshakes go on
                                     │  (cannot)                ──► the handshakes to there are given up
                                     ▼
                              kernel changes it ──► moved(number, way) : its engine is told, also where it leads elsewhere now
    forget(number) ──► the last one to go there takes the following with it

Connections between the same two addresses share one way, so 4,096 of them to one validator cost one route. What a way means
to an engine (worker, queue, addresses, MTU) is put together in quic_paths.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from ipaddress import ip_address

from afterburnerd.net.facts import Path as Way
from afterburnerd.net.watch import Watcher
from afterburnerd.observe import messages
from afterburnerd.observe.log import say
from afterburnerd.quic.port import KernelPort
from afterburnerd.supervisor.quic_chores import Chores, clock

INTERNAL_ERROR = 0x01

Key = tuple[str, str]  # the peer's and the local address


class Ways:
    """`found`: a way is known, or will not be. `moved`: the kernel has changed it under a number, or the number's peer is
    somewhere else."""

    def __init__(
        self, watcher: Watcher, chores: Chores, found: Callable[[], None], moved: Callable[[int, Way], None]
    ) -> None:
        self._watcher = watcher
        self._chores = chores
        self._found = found
        self._moved = moved
        self._ways: dict[Key, Way] = {}
        self._users: dict[Key, set[int]] = {}  # numbers of handshakes and connections that go there
        self._key_of: dict[int, Key] = {}
        self._finding: set[Key] = set()

    def of(self, number: int) -> Way | None:
        """None: not known yet, or nobody asked for it."""
        return self._ways.get(self._key_of.get(number, ("", "")))

    def find(self, number: int, host: str, port: KernelPort) -> None:
        """Follows the way to a peer for this connection."""
        key = (host, port.local[0])
        self._users.setdefault(key, set()).add(number)
        self._key_of[number] = key
        if key not in self._ways and key not in self._finding:
            self._finding.add(key)
            self._chores.spawn(self._find(key, port), f"way to {host}")

    async def _find(self, key: Key, port: KernelPort) -> None:
        try:
            self._ways[key] = await self._watcher.follow(key[0], ip_address(key[1]))
        except (OSError, TimeoutError, ValueError) as error:
            say(messages.QUIC_DIAL_FAILED, name=key[0], reason=f"no way there: {error}")
            now = clock()
            for lost in self._users.get(key, set()) & port.endpoint.shakes.keys():
                port.endpoint.abort(lost, now, INTERNAL_ERROR, "no way to the peer")
        finally:
            self._finding.discard(key)
        if key not in self._users and key in self._ways:  # nobody wants it any more
            self._unfollow(key)
        self._found()
        self._tell(key)
        self._chores.wake()

    def _tell(self, key: Key) -> None:
        if (way := self._ways.get(key)) is not None:
            for number in list(self._users.get(key, ())):
                self._moved(number, way)

    def forget(self, number: int) -> None:
        key = self._key_of.pop(number, None)
        if key is None:
            return
        users = self._users[key]
        users.discard(number)
        if not users:
            del self._users[key]
            self._unfollow(key)

    def _unfollow(self, key: Key) -> None:
        way = self._ways.pop(key, None)
        if way is not None:
            with contextlib.suppress(KeyError):
                self._watcher.unfollow(way.destination, way.asked_source)

    async def follow(self) -> None:
        """For the service's life: routes and neighbours change under connections."""
        async for _ in self._watcher.events(self._watcher.facts):
            fresh = {(p.destination, p.asked_source): p for p in self._watcher.facts.paths}
            for key, way in list(self._ways.items()):
                now = fresh.get((way.destination, way.asked_source))
                if now is None or now == way:
                    continue
                self._ways[key] = now
                self._tell(key)
