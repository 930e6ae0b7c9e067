"""Once a second: the supervisor's own figures, what the kernel counted, and a word to systemd's watchdog.

The watchdog is fed while every data plane's heart beats, or a recovery is under way that is bounded and announced: a
supervisor that only turns its own loop is no sign of health.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time

from afterburnerd.abi.segment import Segment
from afterburnerd.observe import messages
from afterburnerd.observe.log import say
from afterburnerd.observe.notify import Notifier
from afterburnerd.supervisor.device import Device
from afterburnerd.supervisor.follow import Follower
from afterburnerd.supervisor.manager import tell
from afterburnerd.supervisor.status import StatusBoard
from afterburnerd.supervisor.workers import Workers

TICK = 1.0  # seconds between two looks
# A recovery that is under way feeds the watchdog for so long; then systemd may judge for itself.
RECOVERY_SECONDS = 30
# A worker whose heart has not been heard for so long, and whose keeper has not acted, is no sign of health.
HEARTBEAT_SECONDS = 5


class Pulse:
    """`run` for the daemon's life."""

    def __init__(
        self,
        device: Device,
        workers: Workers,
        follower: Follower,
        board: StatusBoard,
        segment: Segment,
        notifier: Notifier,
    ) -> None:
        self._device = device
        self._workers = workers
        self._follower = follower
        self._board = board
        self._segment = segment
        self._notifier = notifier
        self._reported: set[int] = set()  # rows of queues
        self._no_interface_ns = 0  # when the interface was last seen missing, monotonic

    async def run(self) -> None:
        statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        try:
            await self._run(statm)
        finally:
            os.close(statm)

    async def _run(self, statm: int) -> None:
        page = resource.getpagesize()
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            self._set("event_lag_ns", max(0, int((time.monotonic() - due) * 1e9)))
            self._set("heartbeat_ns", time.monotonic_ns())
            self._device.count(self._segment)
            for keeper in self._workers.keepers:
                keeper.count()
            self.check_frames()
            usage = resource.getrusage(resource.RUSAGE_SELF)
            self._set("cpu_ns", int((usage.ru_utime + usage.ru_stime) * 1e9))
            self._set("rss_bytes", int(os.pread(statm, 256, 0).split()[1]) * page)
            await self._follower.look_after_program()
            self._board.follow()
            if self.alive(time.monotonic_ns()):
                tell(self._notifier.watchdog)

    def check_frames(self) -> None:
        """Packet memory that does not add up is a defect, and each queue's first is said: the counter has the rest."""
        for keeper in self._workers.keepers:
            for slot, queue in enumerate(keeper.numbers):
                row = self._segment.queue_row(keeper.index, slot)
                errors = self._segment.get("queue", row, "frame_errors")
                if errors and row not in self._reported:
                    self._reported.add(row)
                    say(messages.FRAME_ERRORS, worker=keeper.index, queue=queue, errors=errors)

    def _set(self, name: str, value: int) -> None:
        self._segment.set("daemon", 0, name, value)

    def alive(self, now: int) -> bool:
        """Whether systemd may believe that we are well: hearts beat, or a bounded, announced recovery is under way."""
        if self._device.facts.link is None:
            self._no_interface_ns = now  # from its return on a worker has the time of a recovery, not from its own end
            return True  # nothing is wrong with us: the state says what we wait for
        silence = max(HEARTBEAT_SECONDS * 1_000_000_000, 4 * self._workers.config.watch.hang_ms * 1_000_000)
        recovery = RECOVERY_SECONDS * 1_000_000_000
        # Workers are started one after another, and large memory takes its time: who waits for its turn is well.
        one_starts = any(keeper.starting for keeper in self._workers.keepers)
        return all(
            keeper.well(now, silence, recovery, self._no_interface_ns)
            or (one_starts and not keeper.running and not keeper.failing)
            for keeper in self._workers.keepers
        )
