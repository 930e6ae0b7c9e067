"""A signal unwinds once; what comes behind it does not disturb the clean-up, nor the commands that it runs."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, subprocess, sys, time
from afterburnerd.lab import exits

def again():
    for number in exits.SIGNALS:
        os.kill(os.getpid(), number)
    # a child gets it too, as it would from a terminal
    child = subprocess.run(["sh", "-c", "kill -INT $$; kill -TERM $$; echo child went on"], stdout=sys.stderr)

with exits.unwinding():
    try:
        with exits.unwinding():
            try:
                os.kill(os.getpid(), int(sys.argv[1]))
                time.sleep(30)
            finally:
                again()
                print("inner clean-up", file=sys.stderr)
    finally:
        again()
        print("outer clean-up", file=sys.stderr)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_later_signals_do_not_disturb_the_clean_up(number: signal.Signals) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(int(number))], capture_output=True, text=True, timeout=20)
    said = [line for line in done.stderr.splitlines() if "clean-up" in line or "child" in line]
    assert said == ["child went on", "inner clean-up", "child went on", "outer clean-up"], done.stderr
    assert done.returncode == (-number if number == signal.SIGINT else 128 + number)


HELD = """
import os, signal, sys, time
from afterburnerd.lab import exits

with exits.unwinding():
    try:
        with exits.held():
            with exits.held():
                os.kill(os.getpid(), int(sys.argv[1]))
                time.sleep(0.05)
            print("not torn apart", file=sys.stderr)
        print("never", file=sys.stderr)
    finally:
        with exits.held():
            print("held again, once is enough", file=sys.stderr)
        print("cleaned up", file=sys.stderr)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_held_signal_raises_at_the_end_of_the_step_and_only_once(number: signal.Signals) -> None:
    done = subprocess.run([sys.executable, "-c", HELD, str(int(number))], capture_output=True, text=True, timeout=20)
    said = [line for line in done.stderr.splitlines() if line[0].isalpha() and ":" not in line][:3]
    assert said == ["not torn apart", "held again, once is enough", "cleaned up"], done.stderr
    assert "never" not in done.stderr


def test_handlers_are_as_they_were() -> None:
    from afterburnerd.lab import exits

    before = [signal.getsignal(number) for number in exits.SIGNALS]
    with exits.unwinding(), exits.unwinding():
        pass
    assert [signal.getsignal(number) for number in exits.SIGNALS] == before


def test_a_shield_holds_a_signal_back_until_its_end() -> None:
    from afterburnerd.lab import exits

    done = []
    with pytest.raises(KeyboardInterrupt):
        with exits.shielded():
            signal.raise_signal(signal.SIGINT)
            done.append("inside")
        done.append("never")
    assert done == ["inside"]
