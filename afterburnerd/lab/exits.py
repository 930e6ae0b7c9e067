"""Every way out of a lab command unwinds the same way: normal end, exception, Ctrl-C, SIGTERM, a closed terminal.

`unwinding` turns the first such signal into an exception, so that every `with` and `finally` runs, and ignores the ones
behind it: an impatient second Ctrl-C must not interrupt the clean-up that the first one began, in this process or in the
commands that it runs (an ignored signal stays ignored in children). Clean-ups are therefore bounded in time.
(The daemon's signal handlers only set an event; a lab command is a script that must stop where it stands.)

`held` puts that exception off over a step that must not be torn apart: a process that was started and not yet noted
down would be forgotten. `shielded` protects a clean-up that begins without a signal. SIGKILL cannot be caught: what it
leaves behind, `afterburner-lab down` removes.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _State:
    """There is one set of signal handlers a process, so there is one of these."""

    holds = 0  # how many `held` we are in
    came = 0  # the signal that was caught, 0: none
    due = False  # it came while held, and has not raised yet


def _on_signal(number: int, frame: FrameType | None) -> None:
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    _State.came = number
    _State.due = True
    if not _State.holds:
        _give_way()


def _give_way() -> None:
    _State.due = False
    if _State.came == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + _State.came)  # the exit code that a shell shows for a process ended by that signal


@contextmanager
def unwinding() -> Iterator[None]:
    """The first of SIGNALS raises while inside, later ones are ignored, for good: who was told to end is about to. Main
    thread only. May be nested: the outermost counts."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    if _on_signal in before.values() or _State.came:
        yield
        return
    for number in SIGNALS:
        signal.signal(number, _on_signal)
    try:
        yield
    finally:
        if not _State.came:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def held() -> Iterator[None]:
    """A signal that comes inside raises at the end of it. (Not by a mask: processes started inside would inherit that.)"""
    _State.holds += 1
    try:
        yield
    finally:
        _State.holds -= 1
    if _State.due and not _State.holds:
        _give_way()


@contextmanager
def shielded() -> Iterator[None]:
    """Holds SIGINT, SIGTERM and SIGHUP back while inside, from this process and from the commands that it runs."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
