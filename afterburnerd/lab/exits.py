"""Every way out of a lab command unwinds the same way: normal end, exception, Ctrl-C, SIGTERM, a closed terminal.

A signal that becomes an exception wherever the program happens to be can tear apart what must be whole: a process was
started and is not yet noted down, a namespace is being made, a clean-up is under way. So inside `unwinding` the first of the
signals becomes an exception only where the program says so, in `interruptible`, which is wherever it waits; elsewhere
it stays due until then, or until the end. Signals behind the first are ignored for good: an impatient second Ctrl-C
does not interrupt the clean-up that the first one began. Commands are run in process groups of their own, so that a Ctrl-C
of the terminal reaches us and not them.

    with unwinding():                       a signal is noted from here on
        with rig.standing(...):             made whole
            with interruptible(): wait()    raises here: KeyboardInterrupt, or SystemExit(128 + number)
                                            removed whole

Clean-ups are bounded in time and have no `interruptible` in them. (The daemon's signal handlers only set an event; a lab
command is a script that stops where it stands.) SIGKILL cannot be caught: what it leaves, `afterburner-lab down` removes.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _State:
    """There is one set of signal handlers a process, so there is one of these."""

    came = 0  # the signal that was caught, 0: none
    due = False  # it has not become an exception yet
    open = False  # it may


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _State.came:
        return
    _State.came, _State.due = number, True
    if _State.open:
        _give_way()


def _give_way() -> None:
    _State.due = _State.open = False
    if _State.came == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + _State.came)  # the exit code that a shell shows for a process ended by that signal


@contextmanager
def unwinding() -> Iterator[None]:
    """The first of SIGNALS raises while inside, where it may; at the latest at the end. Main thread only. May be nested:
    the outermost counts. Who was told to end is about to: handlers are put back only where no signal came."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    if _on_signal in before.values() or _State.came:
        yield
        return
    for number in SIGNALS:
        signal.signal(number, _on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            # Ignored from now on, for the interpreter takes handlers away before it ends. (Not earlier: what is
            # ignored stays ignored in processes that are started, and they must be told to end, too.)
            signal.signal(number, signal.SIG_IGN if _State.came else handler)
    if _State.due:
        _give_way()


class interruptible:
    """Here a signal may raise. Not nested, and no clean-up inside: what is in it is a wait. (A class and no generator, so
    that there is no moment at which a signal finds it half entered.)"""

    def __enter__(self) -> None:
        _State.open = True
        if _State.due:
            _give_way()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _State.open = False


def sleep(seconds: float) -> None:
    with interruptible():
        time.sleep(seconds)
