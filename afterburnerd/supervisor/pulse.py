"""Once a second: the supervisor's own figures, what the kernel counted, and a word to systemd's watchdog.

The watchdog is fed while every data plane's heart beats, or a recovery is under way that is bounded and announced: a
supervisor that only turns its own loop is no sign of health.
"""

from __future__ import annotations

import asyncio
import resource
import time
from pathlib import Path

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
RECOVERY_SECONDS = 30.0
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

    async def run(self) -> None:
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
            self._set("rss_bytes", _resident_bytes())
            await self._follower.look_after_program()
            self._board.follow()
            if self._alive():
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

    def _alive(self) -> bool:
        """Whether systemd may believe that we are well: hearts beat, or a bounded, announced recovery is under way."""
        if self._device.facts.link is None:
            return True  # nothing is wrong with us: the state says what we wait for
        now, now_ns = time.monotonic(), time.monotonic_ns()
        silence = max(HEARTBEAT_SECONDS * 1_000_000_000, 4 * self._workers.config.watch.hang_ms * 1_000_000)
        return all(
            keeper.beats(now_ns, silence)
            and (not keeper.failing_since or now - keeper.failing_since <= RECOVERY_SECONDS)
            for keeper in self._workers.keepers
        )


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
