"""A signal unwinds once, and only where the program says that it may; what comes behind it is ignored."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from afterburnerd.lab import exits

SCRIPT = """
import os, signal, subprocess, sys, time
from afterburnerd.lab import exits

def say(what):
    print("said:", what, file=sys.stderr)

def again():
    for number in exits.SIGNALS:
        os.kill(os.getpid(), number)
    # who is started meanwhile can still be told to end
    child = subprocess.Popen(["sleep", "20"], process_group=0)
    child.terminate()
    say(f"child {child.wait(10)}")

with exits.unwinding():
    try:
        with exits.unwinding():
            try:
                if sys.argv[2] == "waiting":
                    subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -{sys.argv[1]} {os.getpid()}"])
                    exits.sleep(20)
                elif sys.argv[2] == "before":
                    os.kill(os.getpid(), int(sys.argv[1]))
                    time.sleep(0.05)
                    say("whole")
                    exits.sleep(20)
                else:
                    os.kill(os.getpid(), int(sys.argv[1]))
                    time.sleep(0.05)
                    say("whole")
            finally:
                again()
                say("inner clean-up")
    finally:
        again()
        say("outer clean-up")
say("never")
"""
CLEAN = ["child -15", "inner clean-up", "child -15", "outer clean-up"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("when", "expected"),
    [("waiting", CLEAN), ("before", ["whole", *CLEAN]), ("elsewhere", ["whole", *CLEAN])],
)
def test_a_signal_unwinds_once(number: signal.Signals, when: str, expected: list[str]) -> None:
    command = [sys.executable, "-c", SCRIPT, str(int(number)), when]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    said = [line.removeprefix("said: ") for line in done.stderr.splitlines() if line.startswith("said: ")]
    assert said == expected, done.stderr
    assert done.returncode == (-number if number == signal.SIGINT else 128 + number)


def test_handlers_are_as_they_were() -> None:
    before = [signal.getsignal(number) for number in exits.SIGNALS]
    with exits.unwinding(), exits.unwinding():
        exits.sleep(0)
    assert [signal.getsignal(number) for number in exits.SIGNALS] == before
