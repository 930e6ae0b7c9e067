"""A sealed process: what it may still do, and that anything else is its end."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import cc, netns
from tests.system.daemonrig import Daemon

SEALED = """
import os, sys, socket, ctypes, signal, time
from afterburnerd.native import lib
sock = socket.socketpair()
lib.sandbox_drop({uid}, {gid})
lib.sandbox_seal()
{act}
os._exit(0)
"""


def sealed(act: str, uid: int = -1, gid: int = -1) -> int:
    code = SEALED.format(act=act, uid=uid, gid=gid)
    return subprocess.run([sys.executable, "-c", code], timeout=30, capture_output=True).returncode


@pytest.mark.parametrize(
    "act",
    [
        "sock[0].send(b'x'); sock[1].recv(10)",
        "bytearray(50_000_000)",
        "time.sleep(0.01)",
        "time.monotonic_ns()",
        "os.getpid()",
    ],
)
def test_its_work_is_allowed(act: str) -> None:
    assert sealed(act) == 0


@pytest.mark.parametrize(
    "act",
    [
        "open('/etc/hostname')",
        "socket.socket()",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "os.kill(os.getpid(), 0)",
        "os.listdir('/')",
        "sock[0].connect(b'x')",
        "os.setuid(0)",
        "os.unlink('/nosuchfile')",
        "ctypes.CDLL(None).ptrace(0, 0, 0, 0)",
    ],
)
def test_anything_else_ends_it(act: str) -> None:
    assert sealed(act) == -signal.SIGSYS


@pytest.mark.privileged
def test_it_becomes_the_user_it_is_told_to_be_and_holds_nothing() -> None:
    code = (
        "from afterburnerd.native import lib\nlib.sandbox_drop(65534, 65534)\nprint(open('/proc/self/status').read())"
    )
    text = subprocess.run([sys.executable, "-c", code], timeout=30, capture_output=True, text=True, check=True).stdout
    assert_holds_nothing(text)
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["65534"] * 4
    assert status["Gid"].split() == ["65534"] * 4
    assert status["Groups"].strip() == ""


def test_a_process_whose_parent_is_gone_is_told_so() -> None:
    code = "from afterburnerd.native import lib\nlib.parent_death(1 if __import__('os').getppid() != 1 else 2)"
    done = subprocess.run([sys.executable, "-c", code], timeout=30, capture_output=True, text=True)
    assert done.returncode == 1
    assert "is gone" in done.stderr


def test_a_parent_that_dies_while_the_user_changes_is_noticed(tmp_path: Path) -> None:
    sources = [cc.ROOT / "tests/native/c/orphan.c", cc.NATIVE / "sandbox.c"]
    program = cc.program(tmp_path / "orphan", *sources, flags=["-Wl,--wrap=setresuid"])
    done = cc.run(program)
    assert (done.returncode, done.stdout) == (0, f"{errno.ESRCH}\n"), done.stderr


def assert_holds_nothing(status: str) -> None:
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert fields["NoNewPrivs"].strip() == "1"


@pytest.fixture
def rig() -> Iterator[netns.Pair]:
    with netns.pair() as pair:
        yield pair


@pytest.mark.privileged
def test_a_serving_data_plane_is_sealed(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as daemon:
        pid = daemon.plane_pid()
        status = Path(f"/proc/{pid}/status").read_text()
        assert_holds_nothing(status)
        assert "Seccomp:\t2" in status
        # Undumpable: not even another process of the same user can look into it.
        assert Path(f"/proc/{pid}/mem").stat().st_uid == 0
        cpus = status.partition("Cpus_allowed_list:\t")[2].splitlines()[0]
        assert cpus == str(daemon.status().workers[0].cpu)
