"""The watcher: keeps `Facts` true by listening to the kernel, and follows destinations.

Level-triggered. A notification changes a table (links, addresses, neighbours) or marks something as to be read again
(routes, ethtool settings); a moment later, when the burst is over, a new `Facts` is built from the tables and published.
Nobody is handed a queue of notifications: consumers compare the facts they acted on with the current ones
(facts.changes), so they cannot fall behind, and losing notifications costs nothing but one snapshot.

                     ┌─ links, addresses ──► tables ─────────────┐
    rtnetlink ───────┤  neighbours ────────► tables ── tend      ├─ settle ─► read what is marked ─► Facts ─► events()
      │ ENOBUFS      └─ routes, rules ─────► mark destinations ──┤
      ▼                                                          │
    snapshot ───────────────────────────────► tables ────────────┤
    ethtool monitor, or a look each second ─► mark our link ─────┘

Bounds. A publication that took t seconds is followed by a pause of nine t, so that a storm of route changes costs at most a
tenth of a CPU however many destinations are followed. A host whose notifications overflow again and again takes a
snapshot at most once a second. Every request to the kernel has a time limit.

One task group inside `watch`; whoever leaves its body ends the tasks and closes the sockets. All of it belongs to the
network namespace of the thread that entered.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import math
import pathlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import Any

import msgspec

from afterburnerd.net import link as links
from afterburnerd.net import neighbour as neighbours
from afterburnerd.net import route as routes
from afterburnerd.net import rtnl
from afterburnerd.net.ethtool import Ethtool
from afterburnerd.net.facts import Address, Event, Facts, IPAddress, Link, Neighbour, Path, Reason, Route, changes
from afterburnerd.net.link import Details
from afterburnerd.net.queues import QueueNotifications

log = logging.getLogger(__name__)

# A kernel burst (link up: a dozen messages) is over within milliseconds; a changed MAC must not wait long.
SETTLE = 0.02
POLL = 1.0
_PAUSE_FACTOR = 9.0
_OVERFLOW_PAUSE = 1.0
# More changed prefixes than this in one burst, and every followed destination is looked up again instead.
_MAX_PREFIXES = 64
_CLONED = 0x200  # RTM_F_CLONED: a cached exception, no route

Target = tuple[IPAddress, IPAddress | None]  # destination, and the source asked for
NeighbourKey = tuple[int, IPAddress]
Network = IPv4Network | IPv6Network


class _Followed:
    """A destination that somebody follows. Owned by the watcher."""

    def __init__(self) -> None:
        self.users = 0  # follow() calls not undone
        self.route: Route | None = None  # None: to be read
        self.path: Path | None = None
        self.made_of: tuple[object, ...] = ()  # what `path` was made of; the same objects make the same path


class _Tended:
    """A neighbour that some followed path goes through. Owned by the watcher."""

    def __init__(self) -> None:
        self.entry: Neighbour | None = None
        self.heard = False  # a notification has said what `entry` says, and nothing was done about it yet
        self.failures = 0  # fruitless resolutions in a row
        self.look_at = 0.0  # on the watcher's clock; infinity: never


class Watcher:
    """See the module's essay. Made by `watch`."""

    def __init__(
        self,
        interface: str,
        *,
        sysfs: pathlib.Path = pathlib.Path("/sys"),
        settle: float = SETTLE,
        poll: float = POLL,
        receive_buffer: int = 1 << 20,
    ) -> None:
        self.facts = Facts(interface=interface)
        self._base = self.facts  # the facts without paths
        self.overflows = 0  # times notifications were lost and a snapshot made up for it
        self._sysfs = sysfs
        self._settle_time = settle
        self._poll_time = poll
        self._receive_buffer = receive_buffer
        self._ethtool = Ethtool()
        self._requests = rtnl.Requests()
        self._notifications = rtnl.Notifications(receive_buffer)
        self._queue_notifications: QueueNotifications | None = None
        self._links: dict[int, Link] = {}  # every link of the host, as rtnetlink tells
        self._details: tuple[int, Details] | None = None  # of our link, which had this index
        self._restarts = 0  # of our link
        self._addresses: dict[tuple[int, IPAddress, int], Address] = {}
        self._followed: dict[Target, _Followed] = {}
        self._tended: dict[NeighbourKey, _Tended] = {}
        self._details_marked = True  # read them again
        self._prefixes: set[Network] | None = set()  # destinations to look up again; None: all
        self._wake = asyncio.Event()  # something differs: publish
        self._tend_wake = asyncio.Event()  # a neighbour is to be looked at sooner than it was
        self._published = asyncio.Event()  # replaced at each publication
        self._working = asyncio.Lock()  # held while facts are made from the tables
        self._may_use = True  # the kernel lets us use neighbours

    # What others use

    def links(self) -> tuple[Link, ...]:
        """Every link of the host."""
        return tuple(self._links.values())

    async def events(self, since: Facts | None = None) -> AsyncIterator[Event]:
        """What differs from `since` (default: from now), and so on for ever. Any number of consumers, each at its pace."""
        seen = self.facts if since is None else since
        while True:
            published, now = self._published, self.facts
            for event in changes(seen, now):
                yield event
            seen = now
            if self.facts is now:
                await published.wait()

    async def follow(self, destination: str | IPAddress, source: IPAddress | None = None, wait: float = 4.0) -> Path:
        """Keep the path to `destination` in the facts, fresh, until `unfollow`; wait that long for its neighbour.

        A path that comes back with a reason is followed all the same: it may become usable.
        """
        followed = self._followed.setdefault((routes.destination(destination), source), _Followed())
        followed.users += 1
        try:
            if followed.path is None:
                await self._patiently(self._publish)
            async with asyncio.timeout(wait):
                while followed.path is None or (followed.path.reason is Reason.NEIGHBOUR_PENDING and self._may_use):
                    await self._published.wait()
        except TimeoutError:
            if followed.path is None:  # not the wait, but the kernel
                self.unfollow(destination, source)
                raise
        except BaseException:
            self.unfollow(destination, source)
            raise
        return followed.path

    def unfollow(self, destination: str | IPAddress, source: IPAddress | None = None) -> None:
        """Undo one `follow`."""
        target = (routes.destination(destination), source)
        self._followed[target].users -= 1
        if self._followed[target].users == 0:
            del self._followed[target]
            self._wake.set()

    async def resolve(self, destination: str | IPAddress, source: IPAddress | None = None, wait: float = 4.0) -> Path:
        """The path to `destination` now."""
        path = await self.follow(destination, source, wait)
        self.unfollow(destination, source)
        return path

    def _close(self) -> None:
        self._notifications.close()
        if self._queue_notifications is not None:
            self._queue_notifications.close()
        self._requests.close()
        self._ethtool.close()

    # The tables

    async def _snapshot(self) -> None:
        """Read all tables. The notifications are open already, so that nothing falls between."""
        parsed_links = [links.parse_link(message) for message in await self._requests.links()]
        parsed_addresses = [links.parse_address(message) for message in await self._requests.addresses()]
        before, self._links = self._links, {}
        for link in parsed_links:
            if link is not None:
                self._put_link(link, before.get(link.index))
        self._addresses = {_address_key(address): address for address in parsed_addresses if address is not None}
        for tended in self._tended.values():
            tended.look_at = 0.0
        self._tend_wake.set()
        self._details_marked = True
        self._prefixes = None
        self._wake.set()

    def _put_link(self, link: Link, before: Link | None) -> None:
        self._links[link.index] = link
        if self.facts.interface in (link.name, before.name if before is not None else ""):
            self._restarts += links.disturbed(before, link)
            self._details_marked = True

    def _hear(self, message: rtnl.Message) -> None:
        """Take one notification into the tables."""
        kind = rtnl.message_type(message)
        if kind in (rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK):
            link = links.parse_link(message)
            if link is None:
                return
            if kind == rtnl.RTM_NEWLINK:
                self._put_link(link, self._links.get(link.index))
            else:
                self._links.pop(link.index, None)
                self._addresses = {key: value for key, value in self._addresses.items() if key[0] != link.index}
            self._prefixes = None  # the kernel drops IPv4 routes of a link that went down, and says nothing
        elif kind in (rtnl.RTM_NEWADDR, rtnl.RTM_DELADDR):
            address = links.parse_address(message)
            if address is None:
                return
            if kind == rtnl.RTM_NEWADDR:
                self._addresses[_address_key(address)] = address
            else:
                self._addresses.pop(_address_key(address), None)
            self._prefixes = None  # likewise routes whose source address is gone
        elif kind in (rtnl.RTM_NEWROUTE, rtnl.RTM_DELROUTE):
            if not self._followed or message["flags"] & _CLONED:
                return
            self._mark_prefix(routes.changed_prefix(message))
        elif kind in (rtnl.RTM_NEWRULE, rtnl.RTM_DELRULE, rtnl.RTM_NEWNEXTHOP, rtnl.RTM_DELNEXTHOP):
            self._prefixes = None
        elif kind in (rtnl.RTM_NEWNEIGH, rtnl.RTM_DELNEIGH):
            entry = neighbours.parse_neighbour(message)
            tended = self._tended.get((entry.index, entry.address)) if entry is not None else None
            if entry is None or tended is None:
                return
            tended.entry = entry
            tended.heard = True
            tended.failures += bool(entry.state & neighbours.NUD_FAILED)
            tended.look_at = 0.0
            self._tend_wake.set()
        else:
            return
        self._wake.set()

    def _mark_prefix(self, prefix: Network | None) -> None:
        if self._prefixes is None:
            return
        if prefix is None or len(self._prefixes) >= _MAX_PREFIXES:
            self._prefixes = None
        else:
            self._prefixes.add(prefix)

    def _ours(self) -> Link | None:
        for link in self._links.values():
            if link.name == self.facts.interface:
                return link
        return None

    # From tables to facts

    async def _publish(self) -> None:
        """Read again what is marked, build the facts, tell those who wait."""
        async with self._working:
            await self._read_details()
            await self._read_routes()
            base = self._without_paths()
            if base != self._base:
                self._base = base
            await self._meet_neighbours(self._base)
            facts = msgspec.structs.replace(self._base, paths=self._paths(self._base))
            if facts != self.facts:
                self.facts = facts
            self._published.set()
            self._published = asyncio.Event()

    async def _read_details(self) -> None:
        """Driver, queues, rings of our link, if marked."""
        link = self._ours()
        if link is None or not self._details_marked:
            return
        self._details_marked = False
        peer: Link | None = None
        if link.kind == "veth" and link.lower is not None and link.lower_namespace is None:
            peer = self._links.get(link.lower)
        elif link.kind == "veth" and link.lower is not None and (link.lower_namespace or 0) >= 0:
            message = await self._requests.link(link.lower, link.lower_namespace)
            peer = links.parse_link(message) if message is not None else None
        details = links.read_details(link, self._ethtool, self._sysfs, peer.mtu if peer is not None else None)
        if self._details is None or self._details[0] != link.index:
            self._restarts = 0
        else:
            self._restarts += links.disturbed(self._details[1], details)
        self._details = (link.index, details)

    async def _read_routes(self) -> None:
        """Look up the destinations that are new or marked."""
        prefixes, self._prefixes = self._prefixes, set()
        addresses = {address.address.packed for address in self._addresses.values()}
        ours = self._ours()
        for (target, source), followed in list(self._followed.items()):
            if followed.route is not None and prefixes is not None and not _covers(prefixes, target):
                continue
            if routes.is_refused(target) or (ours is None and target.is_link_local):
                followed.route = Route(kind="none")
                continue
            if source is not None and source.packed not in addresses:
                source = None  # the kernel would answer EINVAL, as for a blackhole; routes.path tells them apart
            oif = ours.index if ours is not None and isinstance(target, IPv6Address) and target.is_link_local else None
            try:
                followed.route = routes.parse_route(await self._requests.route(target, source, oif))
            except TimeoutError:
                raise
            except OSError as error:
                followed.route = routes.refused_route(error)

    def _without_paths(self) -> Facts:
        ours = self._ours()
        stacked: list[Link] = []
        if ours is not None:
            level = {ours.index}
            while level:
                above = [
                    link
                    for link in self._links.values()
                    if link.vlan is not None and link.lower in level and link.lower_namespace is None
                ]
                stacked += above
                level = {link.index for link in above}
            details = self._details[1] if self._details is not None and self._details[0] == ours.index else None
            known = msgspec.structs.asdict(details) if details is not None else {}
            ours = msgspec.structs.replace(ours, restarts=self._restarts, **known)
        return Facts(
            interface=self.facts.interface,
            link=ours,
            stacked=tuple(sorted(stacked, key=lambda link: link.index)),
            addresses=tuple(self._addresses[key] for key in sorted(self._addresses, key=_address_order)),
        )

    async def _meet_neighbours(self, facts: Facts) -> None:
        """Tend exactly the neighbours that followed paths over our interface go through."""
        wanted: set[NeighbourKey] = set()
        for (target, _), followed in self._followed.items():
            key = routes.next_hop_key(followed.route, target) if followed.route is not None else None
            if key is not None and facts.vlans(key[0]) is not None:
                wanted.add(key)
        for key in self._tended.keys() - wanted:
            del self._tended[key]
        for key in wanted - self._tended.keys():
            self._tended[key] = _Tended()
            await self._look_at(key, self._tended[key])
            self._tend_wake.set()

    def _paths(self, facts: Facts) -> tuple[Path, ...]:
        found = []
        for (target, source), followed in self._followed.items():
            if followed.route is None:  # followed since the routes were read: whoever does that publishes next
                continue
            key = routes.next_hop_key(followed.route, target)
            tended = self._tended.get(key) if key is not None else None
            entry = tended.entry if tended is not None else None
            made_of = (followed.route, entry, facts, self._links.get(followed.route.index or 0))
            if followed.path is None or any(a is not b for a, b in zip(made_of, followed.made_of, strict=True)):
                followed.path = routes.path(target, source, followed.route, facts, self._links, entry)
                followed.made_of = made_of
            found.append(followed.path)
        return tuple(found)

    # Neighbours

    async def _look_at(self, key: NeighbourKey, tended: _Tended) -> None:
        """Do what a neighbour's state asks for."""
        paused = not tended.heard
        tended.heard = False
        if paused:
            message = await self._requests.neighbour(*key)
            tended.entry = neighbours.parse_neighbour(message) if message is not None else None
            self._wake.set()
        if tended.entry is not None and neighbours.reason(tended.entry) is None:
            tended.failures = 0
        step = neighbours.next_step(tended.entry, tended.failures, paused=paused)
        if step.use and self._may_use:
            try:
                await self._requests.use_neighbour(*key)
            except TimeoutError:
                raise
            except PermissionError:
                self._may_use = False
                log.warning("no CAP_NET_ADMIN: next hops of AF_XDP paths can neither be resolved nor kept fresh")
            except OSError as error:  # the link went away or down under us: its notification is on its way
                log.info("using neighbour %s on link %d: %s", key[1], key[0], error)
        tended.look_at = time.monotonic() + step.look_in if step.look_in is not None else math.inf

    # The tasks

    async def _listen(self) -> None:
        """Rtnetlink notifications into the tables; after an overflow a snapshot."""
        while True:
            try:
                async for batch in self._notifications.batches():
                    for message in batch:
                        self._hear(message)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            self.overflows += 1
            log.warning(
                "rtnetlink notifications were lost (%d. time, receive buffer %d bytes): reading everything again",
                self.overflows,
                self._receive_buffer,
            )
            self._notifications.close()
            self._notifications = rtnl.Notifications(self._receive_buffer)
            await self._notifications.open()
            await self._patiently(self._snapshot)
            await asyncio.sleep(_OVERFLOW_PAUSE)

    async def _settle(self) -> None:
        """Publish when a burst of notifications is over."""
        pause = self._settle_time
        while True:
            await self._wake.wait()
            await asyncio.sleep(pause)
            self._wake.clear()
            started = time.monotonic()
            await self._patiently(self._publish)
            pause = max(self._settle_time, _PAUSE_FACTOR * (time.monotonic() - started))

    async def _tend(self) -> None:
        """Look at each neighbour when its time has come."""
        while True:
            self._tend_wake.clear()
            for key, tended in list(self._tended.items()):
                if tended.look_at <= time.monotonic() and self._tended.get(key) is tended:
                    await self._patiently(functools.partial(self._look_at, key, tended))
            next_look = min((tended.look_at for tended in self._tended.values()), default=math.inf)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if next_look == math.inf else max(0.0, next_look - time.monotonic())):
                    await self._tend_wake.wait()

    async def _watch_queues(self) -> None:
        """Mark the details of our link when the kernel says that ethtool changed them, or when a look each second does."""
        while True:
            self._queue_notifications = QueueNotifications()
            if not await self._queue_notifications.open():
                break
            self._mark_details()  # a change before this moment was not heard
            try:
                async for index in self._queue_notifications.changed():
                    ours = self._ours()
                    if ours is not None and ours.index == index:
                        self._mark_details()
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            self._queue_notifications.close()
        while True:
            await asyncio.sleep(self._poll_time)
            ours = self._ours()
            if ours is not None and self._details is not None:
                now = self._ethtool.queues(ours.name)
                if now is not None and now != self._details[1].queues:
                    self._mark_details()

    def _mark_details(self) -> None:
        self._details_marked = True
        self._wake.set()

    async def _patiently(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run a step that asks the kernel; if there was no answer, once more on a new socket."""
        try:
            await step()
        except TimeoutError as error:
            log.warning("%s: asking again on a new socket", error)
            self._requests.close()
            self._requests = rtnl.Requests()
            self._details_marked = True
            self._prefixes = None
            await step()


def _address_key(address: Address) -> tuple[int, IPAddress, int]:
    return address.index, address.address, address.prefix_length


def _address_order(key: tuple[int, IPAddress, int]) -> tuple[int, int, bytes, int]:
    return key[0], key[1].version, key[1].packed, key[2]


def _covers(prefixes: set[Network], target: IPAddress) -> bool:
    return any(target in prefix for prefix in prefixes)


@asynccontextmanager
async def watch(interface: str, **options: Any) -> AsyncIterator[Watcher]:
    """A running Watcher whose facts are true on entry. `options` are those of Watcher."""
    watcher = Watcher(interface, **options)
    try:
        await watcher._notifications.open()
        await watcher._snapshot()
        await watcher._publish()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(task(), name=f"network facts: {task.__name__.strip('_')}")
                for task in (watcher._listen, watcher._settle, watcher._tend, watcher._watch_queues)
            ]
            try:
                yield watcher
            finally:
                for task in tasks:
                    task.cancel()
    finally:
        watcher._close()
