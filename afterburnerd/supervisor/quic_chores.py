"""The rhythm of QUIC in the supervisor: the bell that brings the next turn forward, and the work that runs beside turns.

    anybody ──► wake() ──► the pause of QuicService.run ends, and a turn follows
    anybody ──► spawn(work) ──► a task that dies with the service at the latest

Everything else of QUIC here happens in turns (quic.py), so only these tasks can come between two lines of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine


def clock() -> float:
    """The event loop's, which is CLOCK_MONOTONIC."""
    return asyncio.get_running_loop().time()


class Chores:
    """Of one QuicService."""

    def __init__(self) -> None:
        self._bell = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        self._bell.set()

    async def pause(self, seconds: float) -> None:
        """Until somebody rings, at most so long; whatever else is ready has its turn in any case."""
        if seconds <= 0:
            self._bell.clear()
            await asyncio.sleep(0)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        self._bell.clear()

    def spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
