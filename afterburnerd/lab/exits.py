"""Every way out of a lab command unwinds the same way: normal end, exception, Ctrl-C, SIGTERM, a closed terminal.

`unwinding` turns the first such signal into an exception, so that every `with` and `finally` runs, and ignores the ones
behind it: an impatient second Ctrl-C must not interrupt the clean-up that the first one began, in this process or in the
commands that it runs (an ignored signal stays ignored in children). Clean-ups are therefore bounded in time.
(The daemon's signal handlers only set an event; a lab command is a script that must stop where it stands.)
`shielded` does the same for a clean-up that begins without a signal. SIGKILL cannot be caught: what it leaves behind,
`afterburner-lab down` removes.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _raise(number: int, frame: FrameType | None) -> None:
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)  # the exit code that a shell shows for a process ended by that signal


@contextmanager
def unwinding() -> Iterator[None]:
    """The first of SIGNALS raises while inside, later ones are ignored. Main thread only. May be nested: the outermost
    counts, so that clean-ups between the two are protected as well."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    if _raise in before.values():
        yield
        return
    for number in SIGNALS:
        signal.signal(number, _raise)
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
