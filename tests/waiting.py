"""Waiting for something to become true: with generous bounds, because machines that run tests are noisy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
BOUND = 60.0  # seconds: only a failing test waits for so long


def until(look: Callable[[], T], what: str, seconds: float = BOUND, pause: float = 0.02) -> T:
    """The first true answer of `look`; an AssertionError with the last answer where none comes."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}; last seen: {answer!r}"
        time.sleep(pause)
    return answer


async def eventually(look: Callable[[], T], what: str, seconds: float = BOUND, pause: float = 0.02) -> T:
    """As `until`, where an event loop goes on meanwhile."""
    deadline = time.monotonic() + seconds
    while not (answer := look()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}; last seen: {answer!r}"
        await asyncio.sleep(pause)
    return answer
