"""Keeps one worker serving: starts its process, binds its queues, notices its end, starts it again.

    down --> starting --> serving --(died, hung, asked to)--> down
      ^                                                        |
      '------ back-off: none the first time, then doubling ----'

A process that ends is noticed by its pidfd at once. One that hangs is noticed by its heartbeat, which the loop writes
into shared memory many thousand times a second: a heartbeat older than `watch.hang_ms` is a hang, unless the watcher
itself was late, which says that the machine stood still and not the worker; then it looks again before it acts. An order
excuses a silent heart only from the moment at which the worker has left its loop for it, which the worker says itself: one
that hangs in its loop never comes to its orders.

The XDP program stays attached throughout; frames of the fast path are dropped and counted until the queues are back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from afterburnerd.abi import orders
from afterburnerd.abi.layout import MAX_QUEUES, QueueMode, WorkerState
from afterburnerd.abi.segment import Segment
from afterburnerd.cli import EXIT_UNREACHABLE
from afterburnerd.config import Config
from afterburnerd.observe import messages
from afterburnerd.observe.log import say
from afterburnerd.plane import OrderFailed, Plane, PlaneGone
from afterburnerd.supervisor.cpu import check_fifo, choose_cpu, isolated_cpus
from afterburnerd.supervisor.device import Device, Xsk, count_xsk
from afterburnerd.supervisor.refusal import Refusal

if TYPE_CHECKING:
    from afterburnerd.supervisor.seat import Seat

# Longest time between two looks at a heart, monotonic: a shorter watch.hang_ms holds from the next look on.
LONGEST_NS = 1_000_000_000


class HeartWatch:
    """Decides when a worker hangs, and when to look next. Pure: time and heartbeat come in, a verdict goes out.

    A heart that was just heard cannot be found silent for a while, so nobody looks meanwhile; from one interval before
    that on, a look each interval. A look that comes late by more than an interval is no witness: whatever stopped the
    watcher may have stopped the worker too, so the worker gets a whole further time.
    """

    def __init__(self, hang_ns: int, interval_ns: int) -> None:
        self.hang_ns = hang_ns
        self.interval_ns = interval_ns
        self.due_ns = 0  # when to look next
        self._excused_until = 0
        self.late_ns = 0  # by how much the latest look came late

    def start(self, now: int) -> None:
        self.due_ns = now + self.interval_ns
        self._excused_until = 0

    def hangs(self, heartbeat: int, now: int) -> bool:
        self.late_ns = max(0, now - self.due_ns)
        if self.late_ns > self.interval_ns:
            self._excused_until = now + self.hang_ns
        quiet = min(heartbeat + self.hang_ns - self.interval_ns, now + LONGEST_NS)
        self.due_ns = max(now + self.interval_ns, quiet)
        return now - heartbeat > self.hang_ns and now >= self._excused_until


class Backoff:
    """Pause before the next start: none after a steady run, then doubling up to a limit."""

    def __init__(self, minimum: float, maximum: float, steady: float) -> None:
        self.minimum = minimum
        self.maximum = maximum
        self.steady = steady
        self.failures = 0

    def after(self, ran: float) -> float:
        """Seconds to wait after a process that ran for `ran` seconds failed."""
        self.failures = 1 if ran >= self.steady else self.failures + 1
        return 0.0 if self.failures == 1 else min(self.maximum, self.minimum * 2 ** (self.failures - 2))


class Keeper:
    """One worker. `first` brings it up and lets refusals through; `keep` goes on from there for the daemon's life."""

    def __init__(
        self,
        index: int,
        config: Config,
        device: Device,
        segment: Segment,
        records_fd: int,
        changed: Callable[[], None],
    ) -> None:
        self.index = index
        self.config = config
        self.device = device
        self.segment = segment
        self.records_fd = records_fd
        self.queues: tuple[int, ...] = ()
        self.rules = b""
        self.sockets: list[socket.socket] = []  # socket backend: ours to pass over, workers hold copies
        self.seat: Seat | None = None  # of a QUIC engine, where QUIC is configured
        self.quic_sockets: list[socket.socket] = []  # the worker's halves of shared ports, in slots from the top
        self.plane: Plane | None = None
        self.bound = False  # it has every queue
        self.restarts = 0
        self.last_failure = ""
        self.down_since_ns = time.monotonic_ns()  # 0: the process is set up and runs
        self.failing = False  # down, and an attempt to bring it up has failed
        self.cpu = -1
        self.modes: dict[int, QueueMode] = {}
        self.small_pages: set[int] = set()  # slots whose memory lies in normal pages
        self.notices: tuple[str, ...] = ()
        self._changed = changed  # called whenever there is something new for the daemon's state
        self._sent_rules: bytes | None = None
        self._bound_queues: tuple[int, ...] | None = None
        self._xsks: dict[int, Xsk] = {}
        self._slots: set[int] = set()
        self._uid_gid = (-1, -1)
        self._wanted_restart: tuple[Plane, str] | None = None  # of which process, and why
        self._wake = asyncio.Event()  # something is to be looked at: the process ended, a wish, a change for the better
        self._stopping = False
        self._backoff = Backoff(0, 0, 0)
        self._binding = asyncio.Lock()

    # --- bringing up -------------------------------------------------------------------------------------------------

    async def up(self) -> None:
        """Starts the process and binds everything. Raises Refusal, OrderFailed, PlaneGone or TimeoutError."""
        watch, worker = self.config.watch, self.config.workers[self.index]
        plane = self.plane = Plane()
        try:
            ready = await plane.start(
                orders.Setup(
                    worker=self.index,
                    parent=os.getpid(),
                    cpu=self._choose_cpu(),
                    nice=worker.nice,
                    fifo=worker.fifo,
                    sleeps=worker.idle == "sleep",
                    records=True,
                    worker_off=self.segment.offset("worker", self.index),
                    rule_off=self.segment.offset("rule", self.segment.rule_row(self.index, 0)),
                    queue_off=self.segment.offset("queue", self.segment.queue_row(self.index, 0)),
                    queue_stride=_stride(self.segment, "queue"),
                ),
                self.segment.fd,
                self.records_fd,
                watch.start_ms / 1000,
            )
            self.cpu = ready.cpu
            say(messages.WORKER_STARTED, worker=self.index, cpu=ready.cpu, pid=ready.pid)
            await self._send_rules()
            if self.seat is not None:
                await self.seat.open(plane)
            await self.bind()
            sealed = await plane.order(orders.Seal(uid=self._uid_gid[0], gid=self._uid_gid[1]))
            self.notices = ready.notices + sealed.notices
            for text in self.notices:
                say(messages.PRIVILEGE_MISSING, worker=self.index, consequence=text)
            self.down_since_ns, self.failing = 0, False
            # Rules and queues may have been changed while it started: it serves those of now.
            while self._sent_rules is not self.rules or self._bound_queues is not self.queues:
                await self._send_rules()
                if self._bound_queues is not self.queues:
                    await self.unbind()
                    await self.bind()
        except BaseException:
            await self._drop_plane()
            raise
        if self.seat is not None:
            self.seat.up()
        self._changed()

    @property
    def running(self) -> bool:
        """The process is set up."""
        return not self.down_since_ns

    @property
    def serving(self) -> bool:
        return self.running and self.bound

    @property
    def numbers(self) -> tuple[int, ...]:
        """What its slots stand for, in order: queues of the interface, or sockets counted from 0."""
        return tuple(range(len(self.sockets))) if self.device.rung == "socket" else self.queues

    def _choose_cpu(self) -> int:
        worker = self.config.workers[self.index]
        cpu = choose_cpu(worker.cpu, self.index)
        check_fifo(worker.fifo, cpu, self.index, isolated_cpus())
        return cpu

    def become(self, uid: int, gid: int) -> None:
        """The user that the process turns into."""
        self._uid_gid = (uid, gid)

    async def bind(self) -> None:
        """Opens every queue, or every socket, of this worker; those that it has open are closed first."""
        async with self._binding:
            await self._close_slots()
            queues = self.queues
            if self.device.rung == "socket":
                for slot, sock in enumerate(self.sockets):
                    await self._plane().order(orders.OpenSocket(slot=slot, mtu=self.device.mtu), (sock.fileno(),))
                    self._slots.add(slot)
                    self.modes[slot] = QueueMode.SOCKET
            else:
                self.device.ensure_attached()
                for slot, queue in enumerate(queues):
                    await self._bind_queue(slot, queue)
            for index in range(len(self.quic_sockets)):
                await self._open_quic(index)
            self._bound_queues = queues
            self.bound = True

    async def _bind_queue(self, slot: int, queue: int) -> None:
        xsk = self.device.open_xsk(queue)
        try:
            order = self.device.queue_order(slot, queue)
            limit = bind_seconds(order.frames * order.frame_size, self.config.watch.start_ms)
            done = await self._plane().order(order, (xsk.sock.fileno(),), limit)
            self.device.serve(xsk)
        except BaseException:
            xsk.close()
            raise
        self._xsks[slot] = xsk
        self._slots.add(slot)
        self.modes[slot] = QueueMode(done.mode)
        if not done.huge_pages:
            self.small_pages.add(slot)

    def quic_slot(self, index: int) -> int:
        """The slot of a QUIC socket: from the top, where queues never come."""
        return MAX_QUEUES - 1 - index

    async def add_quic_socket(self, sock: socket.socket) -> int:
        """Gives the worker its half of a shared port, now and at each later start. Returns the slot."""
        if sock not in self.quic_sockets:
            self.quic_sockets.append(sock)
            if self.running:
                await self._open_quic(self.quic_sockets.index(sock))
        return self.quic_slot(self.quic_sockets.index(sock))

    async def _open_quic(self, index: int) -> None:
        slot = self.quic_slot(index)
        order = orders.OpenSocket(slot=slot, quic=True, mtu=self.device.mtu)
        await self._plane().order(order, (self.quic_sockets[index].fileno(),))
        self._slots.add(slot)

    async def unbind(self) -> None:
        """Closes every queue; the process stays."""
        async with self._binding:
            await self._close_slots()

    async def _close_slots(self) -> None:
        self.bound = False
        for slot in sorted(self._slots):
            self._count_and_close(slot)
            with contextlib.suppress(OrderFailed):
                await self._plane().order(orders.CloseSlot(slot=slot))
        self._slots.clear()
        self.modes.clear()
        self.small_pages.clear()

    async def set_rules(self, rules: bytes) -> None:
        """Replaces the worker's table; a worker that is down gets it when it comes up."""
        self.rules = rules
        if self.running:
            await self._send_rules()

    async def _send_rules(self) -> None:
        rules = self.rules
        await self._plane().order(orders.SetRules(rules=rules))
        self._sent_rules = rules

    def _plane(self) -> Plane:
        if self.plane is None:
            raise PlaneGone("it is not running")
        return self.plane

    # --- keeping -----------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Watches and restarts until `stop`; a worker that is not up is brought up first."""
        watch = self.config.watch
        self._backoff = Backoff(watch.backoff_min_ms / 1000, watch.backoff_max_ms / 1000, watch.steady_ms / 1000)
        if not self.running:
            await self._bring_back()
        while not self._stopping:
            began = time.monotonic()
            counter, why = await self._until_it_fails()
            if self._stopping:
                return
            noticed = time.monotonic()
            ran = noticed - began
            self._went_down()
            pid = self.plane.pid if self.plane is not None else 0
            if counter == "restart_killed":
                say(messages.WORKER_DIED, worker=self.index, pid=pid, how=why)
            elif counter == "restart_hung":
                say(messages.WORKER_HUNG, worker=self.index, pid=pid, silence=why)
            if counter != "restart_config":
                self.last_failure = why if counter == "restart_killed" else f"its loop stood still for {why}"
            self._changed()  # before it is counted: who sees the count finds the state that goes with it
            self.segment.add("daemon", 0, counter)
            self.restarts += 1
            await self._drop_plane()
            self._wake.clear()
            if counter != "restart_config":
                await self._pause(self._backoff.after(ran))
            await self._bring_back()
            self.segment.set("daemon", 0, "recovery_ns", int((time.monotonic() - noticed) * 1e9))
            if self.serving:
                took = f"{(time.monotonic() - noticed) * 1000:.0f} ms"
                say(messages.WORKER_RECOVERED, worker=self.index, duration=took)

    async def _until_it_fails(self) -> tuple[str, str]:
        """Which counter to raise, and why, in a sentence."""
        plane = self._plane()
        watch = HeartWatch(self.config.watch.hang_ms * 1_000_000, self.interval_ns)
        watch.start(time.monotonic_ns())
        plane.ended.add_done_callback(self._on_end)
        try:
            while True:
                await self._doze((watch.due_ns - time.monotonic_ns()) / 1e9)
                self._wake.clear()
                if plane.ended.done():
                    return "restart_killed", plane.ended.result()
                if self._stopping:
                    return "", ""
                if self._wanted_restart is not None:
                    (whom, why), self._wanted_restart = self._wanted_restart, None
                    if whom is plane:  # a process that took the place of the one that was meant has what was wanted
                        return "restart_config", why
                watch.hang_ns = self.config.watch.hang_ms * 1_000_000
                carries_out = self._carries_out(plane)  # before the heartbeat: who enters the loop again beats first
                now = time.monotonic_ns()
                beat = self.segment.get("worker", self.index, "heartbeat_ns")
                hangs = watch.hangs(beat, now)
                if watch.late_ns > watch.hang_ns:
                    late = f"{watch.late_ns / 1e6:.0f} ms"
                    say(messages.WORKER_STOLEN_TIME, worker=self.index, late=late)
                if hangs and not carries_out:
                    return "restart_hung", f"{(now - beat) / 1e6:.0f} ms (watch.hang_ms = {self.config.watch.hang_ms})"
        finally:
            plane.ended.remove_done_callback(self._on_end)

    def _carries_out(self, plane: Plane) -> bool:
        """Its loop stands still by intention, for an order that it has taken up; the order has its own time limit."""
        return plane.waiting and self.segment.get("worker", self.index, "state") != WorkerState.RUNNING

    def _on_end(self, _: asyncio.Future[str]) -> None:
        self._wake.set()

    async def _doze(self, seconds: float) -> None:
        """Until something is to be looked at, at most so long. A timer and no task: this is done all the time."""
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    @property
    def starting(self) -> bool:
        """The first attempt since it went down is under way, and has an order out."""
        return not (self.running or self.failing) and self.plane is not None and self.plane.waiting

    def well(self, now_ns: int, silence_ns: int, recovery_ns: int, excused_until_ns: int = 0) -> bool:
        """For the watchdog: whether its loop turns, or it has not been down for longer than a recovery may take.

        Orders stop the loop by intention, and have time limits of their own; so do those of a first start. Time before
        `excused_until_ns` is not held against it.
        """
        if self._stopping or self.starting:
            return True
        if not self.running:
            return now_ns - max(self.down_since_ns, excused_until_ns) <= recovery_ns
        if self.plane is not None and self._carries_out(self.plane):
            return True
        return now_ns - self.segment.get("worker", self.index, "heartbeat_ns") < silence_ns

    @property
    def interval_ns(self) -> int:
        return max(20, min(100, self.config.watch.hang_ms // 5)) * 1_000_000

    async def _bring_back(self) -> None:
        while not self._stopping:
            self._wake.clear()  # what changes for the better from here on cuts the pause short
            try:
                if self.device.facts.link is None:
                    raise Refusal(f"interface {self.device.facts.interface} is gone", EXIT_UNREACHABLE)
                await self.up()
                return
            except (Refusal, OrderFailed, PlaneGone, TimeoutError, OSError) as error:
                self.failing = True
                self.last_failure = str(error)
                pause = self._backoff.after(0.0)
                say(
                    messages.WORKER_BACKOFF,
                    worker=self.index,
                    failures=self._backoff.failures,
                    delay=f"{pause:.1f} s",
                    reason=str(error),
                )
                self._changed()
                await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        if seconds > 0 and not self._stopping:
            await self._doze(seconds)

    def restart(self, why: str, plane: Plane | None) -> None:
        """Ends this process and starts another, with the configuration of now; nothing where it is gone already."""
        if plane is not None:
            self._wanted_restart = plane, why
            self._wake.set()

    def nudge(self) -> None:
        """Something changed for the better: do not wait out a pause."""
        self._wake.set()

    async def stop(self, timeout: float) -> None:
        """Ends the worker in order."""
        self._stopping = True
        self._wake.set()
        self._went_down()
        for slot in list(self._xsks):
            self._count_and_close(slot)
        if self.plane is not None:
            await self.plane.stop(timeout)
            self.plane = None
        if self.seat is not None:
            self.seat.down()

    async def _drop_plane(self) -> None:
        for slot in list(self._xsks):
            self._count_and_close(slot)
        self._slots.clear()
        self.modes.clear()
        self.small_pages.clear()
        self._went_down()
        self.bound = False
        if self.plane is not None:
            await self.plane.close()
            self.plane = None
        if self.seat is not None:
            self.seat.down()
        self._mark_down()

    def _went_down(self) -> None:
        self.down_since_ns = self.down_since_ns or time.monotonic_ns()

    def _mark_down(self) -> None:
        """The process is dead, so its blocks have no writer: what would otherwise look alive is put right here."""
        self.segment.set("worker", self.index, "state", WorkerState.DOWN)
        self.segment.set("worker", self.index, "pid", 0)
        for slot in range(self.segment.description.queues):
            row = self.segment.queue_row(self.index, slot)
            for name in ("mode", "frames", "frames_rx", "frames_worker", "frames_tx"):
                self.segment.set("queue", row, name, 0)

    # --- figures -----------------------------------------------------------------------------------------------------

    def count(self) -> None:
        for slot, xsk in self._xsks.items():
            count_xsk(xsk, self.segment, self.segment.queue_row(self.index, slot))

    def _count_and_close(self, slot: int) -> None:
        xsk = self._xsks.pop(slot, None)
        if xsk is not None:
            count_xsk(xsk, self.segment, self.segment.queue_row(self.index, slot))
            xsk.close()


def _stride(segment: Segment, block: str) -> int:
    return next(b.stride for b in segment.description.blocks if b.name == block)


def bind_seconds(memory_bytes: int, start_ms: int) -> float:
    """How long a worker may take to open a queue. The kernel zeroes and pins its memory meanwhile: about 1 GiB a second on
    a machine at rest, a tenth of that is granted."""
    return max(5.0, start_ms / 1000) + memory_bytes / (100 << 20)
