"""Follows the interface: what each change of it means for queues, rules and the XDP program.

    gone, back        queues closed and the program off; queues and program anew
    queues, rings     every queue bound anew
    MTU, down and up  bound anew too: drivers rebuild their rings, and sockets bound before may be dead (flap.py);
                      UDP sockets get buffers of the new MTU's size
    MAC               the program learns it
    addresses         rules anew

Events come from net/watch.py, one at a time, under the lock that a reload takes too.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

from afterburnerd.abi.segment import Segment
from afterburnerd.net.facts import (
    AddressesChanged,
    Event,
    Facts,
    Link,
    LinkBack,
    LinkChanged,
    LinkGone,
    QueuesChanged,
)
from afterburnerd.net.watch import Watcher
from afterburnerd.observe import messages
from afterburnerd.observe.log import say
from afterburnerd.plane import OrderFailed, Plane, PlaneGone
from afterburnerd.supervisor.device import Device
from afterburnerd.supervisor.flap import FlapGuard
from afterburnerd.supervisor.keeper import Keeper
from afterburnerd.supervisor.quic_off import QuicOff
from afterburnerd.supervisor.refusal import Refusal
from afterburnerd.supervisor.status import StatusBoard
from afterburnerd.supervisor.workers import Workers

FAILURES = (Refusal, OrderFailed, PlaneGone, TimeoutError, OSError)


class Follower:
    """`run` for the daemon's life; `look_after_program` now and then."""

    def __init__(
        self,
        watcher: Watcher,
        device: Device,
        workers: Workers,
        board: StatusBoard,
        segment: Segment,
        changing: asyncio.Lock,
        quic: QuicOff,
    ) -> None:
        self._quic = quic
        self._watcher = watcher
        self._device = device
        self._workers = workers
        self._board = board
        self._segment = segment
        self._changing = changing
        self._guard = FlapGuard()

    @property
    def _facts(self) -> Facts:
        return self._watcher.facts

    async def run(self) -> None:
        async for event in self._watcher.events(self._device.facts):
            async with self._changing:
                if self._board.frozen:
                    return
                try:
                    await self._changed(event)
                except FAILURES as error:
                    # The keepers, or the next event, go on from here; the state says degraded.
                    for keeper in self._workers.keepers:
                        self._replace(keeper, keeper.plane, error)
                self._board.follow()

    def _replace(self, keeper: Keeper, plane: Plane | None, error: Exception) -> None:
        """A worker could not follow: a fresh process of it will, on the interface as it is then."""
        say(messages.REBIND_FAILED, interface=self._facts.interface, reason=str(error))
        keeper.restart(f"the interface changed and it could not follow: {error}", plane)

    @contextlib.contextmanager
    def _or_replaced(self, keeper: Keeper) -> Iterator[None]:
        """What one worker cannot do disturbs no other. The process that failed is meant: one that its keeper has put in
        its place meanwhile serves the interface as it is."""
        plane = keeper.plane
        try:
            yield
        except FAILURES as error:
            self._replace(keeper, plane, error)

    async def _changed(self, event: Event) -> None:
        self._device.facts = self._watcher.facts
        match event:
            case LinkGone():
                say(
                    messages.INTERFACE_DOWN,
                    interface=self._facts.interface,
                    reason="there is no such interface any more",
                )
                for keeper in self._workers.keepers:
                    if keeper.running:
                        with self._or_replaced(keeper):
                            await keeper.unbind()
                if self._device.program is not None:
                    self._device.program.detach()
            case LinkBack():
                say(messages.INTERFACE_UP, interface=self._facts.interface)
                self._device.refresh()
                await self._rebind()
            case QueuesChanged(old=old, new=new):
                say(messages.INTERFACE_CHANGED, interface=new.name, changes=_queue_change(old, new))
                await self._rebind()
            case LinkChanged(old=old, new=new, fields=fields):
                if "mac" in fields:
                    self._device.refresh()
                if new.usable and not old.usable:
                    say(messages.INTERFACE_UP, interface=new.name)
                elif old.usable and not new.usable:
                    why = "it has no carrier" if new.up else "somebody took it down"
                    say(messages.INTERFACE_DOWN, interface=new.name, reason=why)
                if "mtu" in fields:
                    say(messages.INTERFACE_CHANGED, interface=new.name, changes=f"MTU {old.mtu} -> {new.mtu}")
                    self._quic.mtu_changed()
                    if self._device.rung == "socket":
                        await self._resize()
                if "restarts" in fields and new.usable and ("mtu" in fields or self._guard.follow(time.monotonic())):
                    # Drivers rebuild their rings on these: sockets bound before may be dead without saying so.
                    await self._rebind()
            case AddressesChanged():
                self._quic.addresses_changed()
                await self._workers.republish(self._or_replaced)

    async def _rebind(self) -> None:
        """Every queue anew, on the interface as it is now."""
        if self._device.rung == "socket":
            return
        failed: list[Plane | None] = []
        for keeper in self._workers.keepers:
            if keeper.running:
                plane = keeper.plane
                with self._or_replaced(keeper):
                    await keeper.unbind()
                    continue
                failed.append(plane)
        self._workers.share_out()
        for keeper in self._workers.keepers:
            if not keeper.running:
                keeper.nudge()
            elif keeper.plane not in failed:
                with self._or_replaced(keeper):
                    await keeper.set_rules(keeper.rules)
                    await keeper.bind()
                    self._guard.bound(time.monotonic())
                    self._segment.add("daemon", 0, "rebinds", len(keeper.queues))

    async def _resize(self) -> None:
        """Sockets stay as they are, with what waits in them; the workers' buffers are made anew."""
        for keeper in self._workers.keepers:
            if keeper.running:
                with self._or_replaced(keeper):
                    await keeper.bind()

    async def look_after_program(self) -> None:
        """Somebody may have taken our program off (bpftool link detach): put it on again."""
        program = self._device.program
        if program is None or self._facts.link is None or program.attached() or self._changing.locked():
            return
        async with self._changing:
            say(messages.PROGRAM_LOST, interface=self._facts.interface)
            try:
                self._device.ensure_attached()
            except Refusal as refusal:
                self._board.program_trouble = str(refusal)
            else:
                self._board.program_trouble = ""
            self._board.follow()


def _queue_change(old: Link, new: Link) -> str:
    parts = []
    if old.queues != new.queues and old.queues is not None and new.queues is not None:
        parts.append(f"receive queues {old.queues.rx} -> {new.queues.rx}")
    if old.rings != new.rings and old.rings is not None and new.rings is not None:
        parts.append(f"receive ring {old.rings.rx} -> {new.rings.rx}")
    return ", ".join(parts) or "queues or rings"
