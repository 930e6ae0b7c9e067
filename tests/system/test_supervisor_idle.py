"""A supervisor with nothing to do does next to nothing: counted from outside, for shares of a processor depend on the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import netns
from tests.system.daemonrig import RAW, Daemon
from tests.system.test_hot_loop import system_calls

pytestmark = pytest.mark.privileged


@pytest.mark.bpf
def test_an_idle_supervisor_reads_no_files_and_wakes_a_few_times_a_second(tmp_path: Path) -> None:
    """In normal pages, which it has advice on: the advice is for those who ask."""
    with netns.pair() as rig, Daemon(rig, tmp_path, RAW, memory='huge_pages = "auto"') as daemon:
        daemon.wait(lambda: daemon.value("daemon", "rss_bytes") > 0, "its first look at itself")
        seconds = 5
        calls = system_calls(daemon.pid, seconds)
        assert calls["bpf"] >= 2 * (seconds - 2), calls  # it is alive, and looks after its program
        assert "openat" not in calls, calls
        # Two turns of its event loop for each of: a look at the worker's heart (2.5 a second), its own figures (1).
        assert calls["epoll_wait"] <= 2 * 4 * seconds, calls
        assert calls.get("clone", 0) == calls.get("clone3", 0) == calls.get("socket", 0) == 0, calls
