"""A step of the wall clock changes what is written down as the time, and nothing else: every decision has a monotonic clock.

Nobody steps the clock of a machine that others use: a library in front of libc's moves CLOCK_REALTIME for the daemon alone
(clock_step.c). The guest of tests/zerocopy has its clock stepped for real, by the kernel.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from afterburnerd import client
from tests import netns
from tests.system.daemonrig import Daemon

pytestmark = [pytest.mark.privileged, pytest.mark.bpf]

DAY = 86400
# An hour and a day either way, the epoch (a host whose clock has no battery), and far beyond.
STEPS = {
    "hour": 3600,
    "hour back": -3600,
    "day": DAY,
    "day back": -DAY,
    "epoch": -int(time.time()) + 60,
    "far": 40 * 365 * DAY,
}
NOTHING_HAPPENED = ("restart_killed", "restart_hung", "restart_config", "rebinds")


class Clock:
    """The wall clock of a daemon, which this test moves."""

    def __init__(self, directory: Path) -> None:
        library, self.path = directory / "clock_step.so", directory / "step"
        source = Path(__file__).with_name("clock_step.c")
        subprocess.run(
            ["gcc", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", library, source], check=True
        )
        self.path.write_bytes(bytes(16))
        with self.path.open("r+b") as file:
            self._words = mmap.mmap(file.fileno(), 16)
        self.env = {"LD_PRELOAD": str(library), "AB_CLOCK_STEP": str(self.path)}

    def step(self, seconds: int) -> None:
        self._words[:8] = struct.pack("=q", seconds * 1_000_000_000)

    @property
    def asked(self) -> int:
        return int(struct.unpack("=Q", self._words[8:])[0])

    @property
    def time_ns(self) -> int:
        return time.time_ns() + int(struct.unpack("=q", self._words[:8])[0])

    def close(self) -> None:
        self._words.close()


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[Clock]:
    with contextlib.closing(Clock(tmp_path)) as made:
        yield made


def near(told_ns: int, now_ns: int) -> bool:
    return abs(told_ns - now_ns) < 60 * 1_000_000_000


def test_a_step_of_the_wall_clock_disturbs_nothing(tmp_path: Path, clock: Clock) -> None:
    exporter = "127.0.0.1:9107"
    with (
        netns.pair() as rig,
        Daemon(rig, tmp_path, rest="[watch]\nhang_ms = 1000", env=clock.env, start=False) as daemon,
    ):
        rig.near.run("ip", "link", "set", "lo", "up")
        daemon.write_config(exporter=exporter)
        daemon.start()
        daemon.receives()
        pid, program = daemon.plane_pid(), daemon.attached()
        for rate, (name, seconds) in enumerate(STEPS.items(), 2001):
            asked = clock.asked
            clock.step(seconds)
            before, lags = daemon.value("daemon", "heartbeat_ns"), [0]

            def three_ticks(before: int = before, lags: list[int] = lags) -> bool:
                lags.append(daemon.value("daemon", "event_lag_ns"))
                return daemon.value("daemon", "heartbeat_ns") > before + 2e9

            daemon.wait(three_ticks, "three looks of the supervisor at itself, and some at the worker's heart")
            assert max(lags) < 60e9, name
            daemon.receives()
            assert {what: daemon.value("daemon", what) for what in NOTHING_HAPPENED} == dict.fromkeys(
                NOTHING_HAPPENED, 0
            )
            assert (daemon.state(), daemon.plane_pid(), daemon.attached()) == ("serving", pid, program), name
            # The step is real: what both processes write down as the time has moved.
            with client.follow(daemon.name, oldest=True, wait=False) as records:
                assert near(records.poll()[-1].time_ns, clock.time_ns), name
            daemon.write_config(rest=f"[watch]\nhang_ms = 1000\n[xdp]\nshort_rate = {rate}")
            assert daemon.reload().changes
            assert near(daemon.value("daemon", "config_loaded_ns"), clock.time_ns), name
            assert clock.asked > asked
            with rig.near.entered():
                page = urllib.request.urlopen(f"http://{exporter}/metrics", timeout=10).read()
            assert b"afterburner_worker_records_total" in page
        # And recovery is measured and bounded as ever, with the clock stepped in its middle.
        os.kill(pid, signal.SIGSTOP)
        clock.step(-DAY)
        daemon.wait(lambda: daemon.value("daemon", "restart_hung") == 1 and daemon.state() == "serving", "recovery")
        assert 0 < daemon.value("daemon", "recovery_ns") < 20e9
        os.kill(daemon.plane_pid(), signal.SIGKILL)
        clock.step(DAY)
        daemon.wait(lambda: daemon.value("daemon", "restart_killed") == 1 and daemon.state() == "serving", "recovery")
        assert 0 < daemon.value("daemon", "recovery_ns") < 20e9
        daemon.recovers()
        daemon.assert_frames_add_up()
        assert daemon.stop() == 0
