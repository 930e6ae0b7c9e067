"""Every way out of a lab command unwinds the same way: normal end, exception, Ctrl-C, SIGTERM, a closed terminal.

Python already turns SIGINT into an exception; `unwinding` does the same for SIGTERM and SIGHUP, so that every `with` and
`finally` runs. (The daemon's signal handlers only set an event; a lab command is a script that must stop where it
stands.) `shielded` keeps a second Ctrl-C out of the clean-up: the signal is held back, not lost.
SIGKILL cannot be caught: what it leaves behind, `afterburner-lab down` removes.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _raise(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # the exit code that a shell shows for a process ended by that signal


@contextmanager
def unwinding() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit while inside. Main thread only."""
    before = {number: signal.signal(number, _raise) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def shielded() -> Iterator[None]:
    """Holds SIGINT, SIGTERM and SIGHUP back while inside, from this process and from the commands that it runs."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
