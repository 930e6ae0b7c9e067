"""The handle of a data-plane process is closed whole, however often that was begun."""

from __future__ import annotations

import asyncio
import os
import subprocess

from afterburnerd.plane import Plane


async def test_a_close_that_was_cancelled_can_be_repeated() -> None:
    """A restart is under way when the daemon is told to end: its task is cancelled in the middle of the close."""
    plane = Plane()
    plane._process = subprocess.Popen(["sleep", "60"])  # noqa: ASYNC220
    plane._pidfd = os.pidfd_open(plane._process.pid)
    asyncio.get_running_loop().add_reader(plane._pidfd, plane._on_end)
    closing = asyncio.create_task(plane.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    await asyncio.wait_for(plane.stop(1), 10)
    assert plane.ended.result() == "killed by SIGKILL"
