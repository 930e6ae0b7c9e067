"""The workers of one daemon: their record rings, their sockets, their queues and rules, and who keeps each serving.

    configuration, network facts --> share_out --> Keeper x workers --> data-plane processes
                                         '-------> Device: what XDP hands to whom

What concerns one worker alone (its process, its end, its next start) is keeper.py's. Here stands what concerns all of
them: how queues, sockets and rules are dealt out, and in which order they are started, replaced and ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import os
import pwd
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from afterburnerd.abi import control
from afterburnerd.abi.connections import remove_tables
from afterburnerd.abi.layout import MAX_QUEUES, QueueMode
from afterburnerd.abi.records import Ring, remove_rings
from afterburnerd.abi.segment import Segment
from afterburnerd.cli import EXIT_CONFIG, EXIT_UNREACHABLE
from afterburnerd.config import Config, Records
from afterburnerd.net.facts import Facts
from afterburnerd.net.watch import Watcher
from afterburnerd.observe import messages
from afterburnerd.observe.log import say
from afterburnerd.plane import OrderFailed, PlaneGone
from afterburnerd.supervisor import capture
from afterburnerd.supervisor.device import PORTS, Address, Device, open_udp
from afterburnerd.supervisor.keeper import Keeper
from afterburnerd.supervisor.quic_off import QuicOff
from afterburnerd.supervisor.refusal import Refusal

STOP_SECONDS = 2.0  # longest that a worker may take to give everything back

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
Guard = Callable[[Keeper], contextlib.AbstractContextManager[None]]


class Workers:
    """`make_rings` and `start` once; `configure`, `restart`, `share_out`, `republish` as things change; `stop` and `close`."""

    def __init__(
        self, config: Config, device: Device, watcher: Watcher, segment: Segment, spawn: Spawn, quic: QuicOff
    ) -> None:
        self.config = config
        self._quic = quic
        self.keepers: list[Keeper] = []
        self._device = device
        self._watcher = watcher
        self._segment = segment
        self._spawn = spawn  # a task whose failure ends the daemon
        self.changed: Callable[[], None] = lambda: None  # called whenever a worker comes or goes
        self._rings: list[Ring] = []
        self._ring_shape: Records | None = None  # of the rings there are
        self._sockets: dict[Address, socket.socket] = {}
        self._keeping: list[asyncio.Task[None]] = []
        self.unserved: tuple[int, ...] = ()  # queues that are to be served and that no worker has
        self.without_room = 0  # exact matches for which the XDP program has no room

    @property
    def _facts(self) -> Facts:
        return self._watcher.facts

    @property
    def quic_trouble(self) -> dict[str, str]:
        """QUIC listeners that could not be had, and why."""
        return self._quic.trouble

    @property
    def serving(self) -> bool:
        return all(keeper.serving for keeper in self.keepers)

    @property
    def mode(self) -> str:
        """The mode in force, in the configuration's words: the worst of all queues."""
        modes = [mode for k in self.keepers for mode in k.modes.values()]
        if not modes and self._device.rung == "socket" and self.serving:
            return "socket"  # without capture rules there is nothing but QUIC's sockets
        return max(modes, default=QueueMode.CLOSED).name.lower().replace("_", "-")

    @property
    def quic_backend(self) -> control.QuicBackend | None:
        return self._quic.backend()

    # --- start -------------------------------------------------------------------------------------------------------

    def make_rings(self) -> None:
        """A ring for each worker. Those that have their size already stay, with what is in them."""
        name, records, count = self.config.daemon.name, self.config.records, len(self.config.workers)
        keep = min(len(self._rings), count) if records == self._ring_shape else 0
        for ring in self._rings[keep:]:
            ring.close()
        del self._rings[keep:]
        for index in range(keep, count):
            self._rings.append(Ring.create(name, index, records.slots, records.slot_bytes))
        self._ring_shape = records
        remove_rings(name, keep=count)
        remove_tables(name, keep=count)

    async def start(self) -> None:
        """First start: down the ladder until every worker has every queue, or a refusal."""
        self.check_room(self.config)
        while True:
            self._make_keepers()
            try:
                for keeper in self.keepers:
                    await keeper.up()
                break
            except (OrderFailed, PlaneGone, TimeoutError) as error:
                for keeper in self.keepers:
                    await keeper.stop(STOP_SECONDS)
                # A queue that another socket holds is a conflict for a person to resolve, not a reason for a worse mode.
                taken = isinstance(error, OrderFailed) and error.number == errno.EBUSY
                # Nor is a machine that is too slow: a worse mode would not be faster, and nobody would look for it.
                if isinstance(error, TimeoutError):
                    raise Refusal(
                        f"the data plane cannot start: {error}; a larger watch.start_ms gives it more time",
                        EXIT_UNREACHABLE,
                    ) from None
                if taken or not self._device.step_down(str(error)):
                    raise Refusal(f"the data plane cannot start: {error}", EXIT_UNREACHABLE) from None
                self._device.say_fallback(str(error))
        self.keep()

    def keep(self) -> None:
        """Every worker has its keeper at work from now on."""
        busy = {task.get_name() for task in self._keeping if not task.done()}
        for keeper in self.keepers:
            name = f"worker {keeper.index}"
            if name not in busy:
                self._keeping.append(self._spawn(keeper.keep(), name))

    def _say_changed(self) -> None:
        self.changed()

    def _make_keepers(self) -> None:
        uid_gid = _user(self.config.daemon.user)
        self.keepers = []
        for index in range(len(self.config.workers)):
            keeper = Keeper(index, self.config, self._device, self._segment, self._rings[index].fd, self._say_changed)
            keeper.become(*uid_gid)
            keeper.seat = self._quic.seat(index)
            self.keepers.append(keeper)
        self._quic.workers_made(self.keepers, self.republish)
        self.share_out()

    def share_out(self) -> None:
        """Gives every worker its queues (or sockets) and rules, and XDP its table."""
        config, count = self.config, self._device.queue_count
        wanted = config.interface.queues
        served = tuple(range(count)) if wanted == "all" else wanted
        missing = [q for q in served if q >= count]
        if missing and self._device.rung != "socket":
            raise Refusal(
                f"interface.queues names queue {missing[0]}, and {self._facts.interface} has {count}; "
                f"`ethtool -L {self._facts.interface} combined N` changes that",
                EXIT_CONFIG,
            )
        if len(served) > MAX_QUEUES:
            raise Refusal(
                f"{self._facts.interface} has {len(served)} queues and {MAX_QUEUES} can be served: name them in "
                "interface.queues, or reduce them with ethtool -L",
                EXIT_CONFIG,
            )
        for keeper in self.keepers:
            own = config.workers[keeper.index].queues
            keeper.queues = served if own == "all" else tuple(q for q in own if q in served)
        self.unserved = tuple(sorted(set(served).difference(*(k.queues for k in self.keepers))))
        if self._device.rung == "socket":
            sockets = open_udp(config.captures, self._sockets)
            for address in self._sockets.keys() - sockets.keys():
                self._sockets[address].close()
            self._sockets = sockets
            rules = capture.pack_for_sockets(config.captures) + self._quic.rules()
            for keeper in self.keepers:
                keeper.sockets = list(sockets.values())[keeper.index :: len(self.keepers)]
                keeper.rules = rules
        else:
            entries = self._entries()
            rules = capture.pack(entries) + self._quic.rules()
            for keeper in self.keepers:
                keeper.rules = rules
            self._device.publish(entries)

    def _entries(self) -> tuple[capture.Entry, ...]:
        """What is ours now, the first rules first. Addresses that come while we run may be more than there is room for:
        the rest is not captured, which the state says, and nothing that is served is disturbed for it."""
        entries = capture.expand(self.config.captures, self._facts.local_addresses())
        self.without_room = max(0, len(entries) - PORTS)
        return entries[:PORTS]

    def check_room(self, config: Config) -> None:
        """Before a configuration is put in force: what it captures today must fit."""
        count = len(capture.expand(config.captures, self._facts.local_addresses()))
        if count > PORTS and self._device.rung != "socket":
            raise Refusal(
                f"{len(config.captures)} capture rules are {count} exact matches with the addresses of "
                f'{self._facts.interface}; the XDP program has room for {PORTS}: name addresses instead of "any"',
                EXIT_CONFIG,
            )

    # --- changes -----------------------------------------------------------------------------------------------------

    def configure(self, config: Config) -> None:
        """What the next start of a worker goes by; nothing that runs changes."""
        self.config = config
        for keeper in self.keepers:
            keeper.config = config

    async def republish(self, guard: Guard = lambda _: contextlib.nullcontext()) -> None:
        """Rules anew, from the configuration and the addresses of now; queues stay as they are. `guard` may take the
        failure of one worker upon itself."""
        if self._device.rung == "socket":
            rules = capture.pack_for_sockets(self.config.captures) + self._quic.rules()
            for keeper in self.keepers:
                if rules != keeper.rules:
                    with guard(keeper):
                        await keeper.set_rules(rules)
            return
        entries = self._entries()
        rules = capture.pack(entries) + self._quic.rules()
        # Workers first: a frame for a new entry finds its rule; one for an old entry is dropped and counted.
        for keeper in self.keepers:
            with guard(keeper):
                await keeper.set_rules(rules)
        self._device.publish(entries)

    async def restart(self) -> None:
        """Ends every data plane and starts the ones of the new configuration. The XDP program stays attached."""
        await self.let_go()
        await self._quic.leave()
        self._keeping = []
        self._device.facts = self._facts  # a change of the interface may still be waiting for its turn, behind us
        restarts = {k.index: (k.restarts, k.last_failure) for k in self.keepers}
        for keeper in self.keepers:
            await keeper.stop(STOP_SECONDS)
            self._segment.add("daemon", 0, "restart_config")
        self.make_rings()
        self._make_keepers()
        for keeper in self.keepers:
            keeper.restarts, keeper.last_failure = restarts.get(keeper.index, (0, ""))
            await keeper.up()
        self.keep()

    # --- end ---------------------------------------------------------------------------------------------------------

    async def let_go(self) -> None:
        """Nobody restarts a worker from now on."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)

    async def stop(self) -> None:
        """Ends every worker in order."""
        for keeper in self.keepers:
            try:
                await keeper.stop(STOP_SECONDS)
            except OSError as error:
                say(messages.STOP_FAILED, reason=str(error))

    def close(self) -> None:
        """Gives back sockets and rings; no worker lives any more."""
        for sock in self._sockets.values():
            sock.close()
        for ring in self._rings:
            ring.unlink()
            ring.close()


def _user(name: str) -> tuple[int, int]:
    """The user and group that workers become; (-1, -1): they stay who they are."""
    if not name or os.geteuid() != 0:
        return -1, -1
    try:
        entry = pwd.getpwnam(name)
        grp.getgrgid(entry.pw_gid)
    except KeyError:
        raise Refusal(
            f'daemon.user = "{name}": there is no such user; `systemd-sysusers` makes it from the installed file',
            EXIT_CONFIG,
        ) from None
    return entry.pw_uid, entry.pw_gid
