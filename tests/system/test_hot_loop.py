"""After start the hot loop makes no allocation and no system call but the kick: counted from outside, under traffic."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import background, netns
from tests.system.daemonrig import PORT, RAW, Daemon

pytestmark = pytest.mark.privileged

SPIN = 'idle = "spin"\nnice = 0'
ECHO = RAW.replace('"raw"', '"echo"')
SOLANA = RAW.replace('"raw"', '"solana-tx"')


@contextlib.contextmanager
def traffic(rig: netns.Pair) -> Iterator[None]:
    """Datagrams all the time, a few thousand a second, from another thread."""
    with rig.far.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send() -> None:
        for _ in range(20):
            sock.sendto(b"\x01" + bytes(234), (rig.near.ipv4, PORT))

    with sock, background.repeating(send, 0.005):
        yield


def system_calls(pid: int, seconds: float) -> dict[str, int]:
    """What strace saw a process do in that time, by name of the call."""
    strace = subprocess.Popen(
        ["strace", "-f", "-qq", "-e", "signal=none", "-p", str(pid)], stderr=subprocess.PIPE, text=True
    )
    time.sleep(seconds)
    strace.terminate()
    _, text = strace.communicate(timeout=20)
    found: dict[str, int] = {}
    for line in text.splitlines():
        if match := re.match(r"(?:\[pid +\d+\] )?(\w+)\(", line):
            found[match[1]] = found.get(match[1], 0) + 1
    return found


@pytest.mark.bpf
@pytest.mark.parametrize(
    ("captures", "allowed"),
    [pytest.param(SOLANA, set(), id="capture"), pytest.param(ECHO, {"sendto"}, id="echo")],
)
def test_the_loop_makes_no_system_call_but_the_kick(tmp_path: Path, captures: str, allowed: set[str]) -> None:
    with netns.pair() as rig, Daemon(rig, tmp_path, captures, worker=SPIN) as daemon, traffic(rig):
        daemon.wait(lambda: daemon.rule("tpu", "packets") > 100, "traffic")
        before = daemon.rule("tpu", "packets")
        calls = system_calls(daemon.plane_pid(), 2.0)
        moved = daemon.rule("tpu", "packets") - before
        assert moved > 100
        assert set(calls) == allowed, calls
        if allowed:
            kicks = sum(q.value("tx_kicks") for q in daemon.queues())
            assert kicks >= calls["sendto"] > 0  # every one of them is counted


def test_the_socket_backend_makes_only_its_own_system_calls(tmp_path: Path) -> None:
    with netns.pair() as rig, Daemon(rig, tmp_path, SOLANA, worker=SPIN, interface='mode = "socket"') as daemon:
        with traffic(rig):
            daemon.wait(lambda: daemon.rule("tpu", "packets") > 100, "traffic")
            calls = system_calls(daemon.plane_pid(), 1.0)
        assert set(calls) == {"recvmmsg"}


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("malloc") / "malloc_count.so"
    source = Path(__file__).with_name("malloc_count.c")
    subprocess.run(
        ["gcc", "-O1", "-shared", "-fPIC", "-fno-builtin", "-Wall", "-Werror", "-o", library, source], check=True
    )
    return library


@pytest.mark.parametrize("captures", [pytest.param(SOLANA, id="capture"), pytest.param(ECHO, id="echo")])
def test_the_loop_does_not_allocate(tmp_path: Path, counter: Path, captures: str) -> None:
    counts = tmp_path / "counts"
    counts.mkdir()
    env = {"LD_PRELOAD": str(counter), "AB_MALLOC_COUNT": str(counts)}

    def calls(pid: int) -> int:
        return int.from_bytes((counts / str(pid)).read_bytes(), "little")

    with netns.pair() as rig, Daemon(rig, tmp_path, captures, worker=SPIN, env=env) as daemon, traffic(rig):
        daemon.wait(lambda: daemon.rule("tpu", "packets") > 100, "traffic")
        pid, before = daemon.plane_pid(), daemon.rule("tpu", "packets")
        assert calls(pid) > 1000  # its start is counted: the counter works
        at_start = calls(pid)
        daemon.wait(lambda: daemon.rule("tpu", "packets") > before + 2000, "more traffic")
        assert calls(pid) == at_start


@pytest.mark.parametrize("idle", ["sleep", "spin"])
def test_who_sleeps_is_not_woken_late_for_the_kernels_convenience(tmp_path: Path, idle: str) -> None:
    ours = int(Path("/proc/self/timerslack_ns").read_text())  # what a child has from us
    with netns.pair() as rig, Daemon(rig, tmp_path, RAW, worker=f'idle = "{idle}"\nnice = 0') as daemon:
        slack = int(Path(f"/proc/{daemon.plane_pid()}/timerslack_ns").read_text())
        assert slack == (1 if idle == "sleep" else ours), "nanoseconds"
