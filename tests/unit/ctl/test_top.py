"""top shows view after view, outlives the daemon, and gives the terminal back."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import msgspec

from afterburnerd.ctl.view import View
from tests.unit.ctl.conftest import FakeDaemon, Tool


def test_pages_into_a_pipe(daemon: FakeDaemon, ctl: Tool) -> None:
    assert ctl("top", "--count", "2", "--interval", "0.02") == 0
    assert ctl.out.count(f"{daemon.name} 9.9 on ve0") == 2
    assert "in worker" in ctl.out
    assert all(line == line.rstrip() for line in ctl.out.splitlines())


def test_json_lines(daemon: FakeDaemon, ctl: Tool) -> None:
    assert ctl("top", "-j", "--count", "3", "--interval", "0.02") == 0
    views = [msgspec.json.decode(line, type=View) for line in ctl.out.splitlines()]
    assert [v.state for v in views] == ["serving"] * 3
    assert all(v.window > 0 for v in views)


def test_the_dead_can_be_watched_too(daemon: FakeDaemon, ctl: Tool) -> None:
    daemon.die()
    assert ctl("top", "--count", "1") == 0
    assert "stale figures" in ctl.out


def test_nothing_there_is_3(ctl: Tool) -> None:
    assert ctl("top", "--count", "1") == 3
    assert "not running" in ctl.err


def test_it_stays_when_the_daemon_goes(daemon: FakeDaemon, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "afterburnerd.ctl.main", "top", "-j", "--interval", "0.05"]
    command += ["--name", daemon.name, "--run-dir", str(tmp_path)]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}  # as it is for an operator
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as top:
        assert top.stdout is not None
        assert msgspec.json.decode(top.stdout.readline(), type=View).running
        daemon.stop()
        daemon.segment.unlink()
        for line in top.stdout:
            view = msgspec.json.decode(line, type=View)
            if not view.running:
                break
        assert "not running" in view.control
        top.send_signal(signal.SIGINT)
        assert top.wait(10) == 0


def read_until(fd: int, wanted: bytes) -> bytes:
    """Read from a terminal until something has been shown."""
    seen = b""
    deadline = time.monotonic() + 30
    while wanted not in seen:
        assert select.select([fd], [], [], deadline - time.monotonic())[0], seen
        seen += os.read(fd, 65_536)
    return seen


def on_a_terminal(daemon: FakeDaemon, run_dir: Path) -> tuple[subprocess.Popen[bytes], int, int]:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 200))
    command = [sys.executable, "-m", "afterburnerd.ctl.main", "top", "--interval", "0.05"]
    command += ["--name", daemon.name, "--run-dir", str(run_dir)]
    env = os.environ | {"TERM": "xterm-256color"}
    top = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True)
    return top, ours, theirs


ALTERNATE_SCREEN, BACK = b"\x1b[?1049h", b"\x1b[?1049l"


def test_q_ends_it_and_the_terminal_is_as_before(daemon: FakeDaemon, tmp_path: Path) -> None:
    top, ours, theirs = on_a_terminal(daemon, tmp_path)
    try:
        before = termios.tcgetattr(theirs)
        assert ALTERNATE_SCREEN in read_until(ours, b"serving")
        os.write(ours, b"q")
        read_until(ours, BACK)
        assert top.wait(10) == 0
        assert termios.tcgetattr(theirs) == before
    finally:
        top.kill()
        top.wait()
        os.close(ours)
        os.close(theirs)


def test_sigterm_gives_the_terminal_back(daemon: FakeDaemon, tmp_path: Path) -> None:
    top, ours, theirs = on_a_terminal(daemon, tmp_path)
    try:
        read_until(ours, b"serving")
        top.terminate()
        assert b"Traceback" not in read_until(ours, BACK)
        assert top.wait(10) == 128 + signal.SIGTERM
    finally:
        top.kill()
        top.wait()
        os.close(ours)
        os.close(theirs)
