"""`afterburnerctl trace` tells what the kernel drops, where and why: on real drops, through real tracepoints."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import queue
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import netns
from tests.system.daemonrig import PORT, ROOT, Daemon

pytestmark = [pytest.mark.privileged, pytest.mark.bpf]

CTL = ROOT / ".venv" / "bin" / "afterburnerctl"
NOBODY = 9998  # a port on which nobody listens
# In mounts of its own: tracefs, which `ip netns exec` hides, and the headers that are installed where those of the running
# kernel would be. That may be another kernel's: what is read from the kernel's structures does not come from them.
INSIDE = """
mount -t tracefs none /sys/kernel/tracing
if [ ! -e /lib/modules/$(uname -r)/build ]; then
    mkdir -p /lib/modules; mount -t tmpfs none /lib/modules; mkdir /lib/modules/$(uname -r)
    ln -s "$1" /lib/modules/$(uname -r)/build; ln -s "$2" /lib/modules/$(uname -r)/source
fi
shift 2
exec "$@"
"""


@pytest.fixture(scope="module")
def headers() -> tuple[Path, Path]:
    """What bcc compiles with: the build and the source directory of some kernel."""
    missing = ""
    if importlib.util.find_spec("bcc") is None:
        missing = "python3-bpfcc is not installed"
    built = sorted(Path("/usr/src").glob("linux-headers-*-amd64"))
    if not built and not Path("/lib/modules", platform.release(), "build").exists():
        missing = "no kernel headers are installed (linux-headers-amd64)"
    if missing:
        pytest.fail(f"{missing}: run `make setup`") if os.environ.get("CI") else pytest.skip(missing)
    return (built[-1], Path(str(built[-1]).replace("-amd64", "-common"))) if built else (Path("/"), Path("/"))


class Trace:
    """A running `afterburnerctl trace` in the near namespace."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def until(self, do: Callable[[], None], wanted: Callable[[str], bool], seconds: float = 60) -> str:
        """Does something again and again until a line is as wanted: the trace takes a while to begin."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            do()
            with contextlib.suppress(queue.Empty):
                while True:
                    if wanted(line := self.lines.get(timeout=0.2)):
                        return line
            assert self.process.poll() is None, "the trace ended"
        raise AssertionError(f"nothing of the kind within {seconds} s")


@contextlib.contextmanager
def trace(rig: netns.Pair, headers: tuple[Path, Path], *options: str) -> Iterator[Trace]:
    command = [
        "ip",
        "netns",
        "exec",
        rig.near.name,
        "unshare",
        "-m",
        "sh",
        "-ec",
        INSIDE,
        "sh",
        *map(str, headers),
        str(CTL),
    ]
    with subprocess.Popen([*command, "trace", *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Trace(process)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                assert process.wait(20) == 0
            finally:
                process.kill()


def send(rig: netns.Pair, port: int, count: int = 1, address: str = "") -> None:
    with rig.far.entered():
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.bind(("", 40000))
        for _ in range(count):
            with contextlib.suppress(ConnectionRefusedError):
                sock.sendto(b"x" * 100, (address or rig.near.ipv4, port))


def test_frames_without_room_are_told_with_queue_and_reason(tmp_path: Path, headers: tuple[Path, Path]) -> None:
    with (
        netns.pair() as rig,
        Daemon(rig, tmp_path, memory="frames = 128\nring = 64", rest="[watch]\nhang_ms = 60000") as daemon,
        trace(rig, headers, "-j", "--config", str(daemon.config)) as running,
    ):
        pid = daemon.plane_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            line = running.until(lambda: send(rig, PORT, 200), lambda line: "xdp_redirect_err" in line)
        finally:
            os.kill(pid, signal.SIGCONT)
        event: dict[str, Any] = json.loads(line)
        assert (event["event"], event["interface"], event["action"]) == (
            "xdp_redirect_err",
            rig.near.ifname,
            "redirect",
        )
        assert event["index"] == 0  # the queue
        assert event["program"] == daemon.attached()
        assert event["error"] in ("ENOBUFS", "ENOMEM")
        assert "RX ring is full" in event["hint"] or "FILL ring is empty" in event["hint"]
        assert abs(event["time_ns"] - time.time_ns()) < 120e9
        daemon.recovers()


@pytest.mark.parametrize("family", [4, 6])
def test_datagrams_that_the_kernel_drops_are_told_with_its_reason(headers: tuple[Path, Path], family: int) -> None:
    with netns.pair() as rig:
        address = rig.near.ipv4 if family == 4 else rig.near.ipv6
        with trace(rig, headers, "-j", "--interface", rig.near.ifname, "--port", str(NOBODY)) as running:
            # Another port is none of its business.
            line = running.until(
                lambda: (send(rig, NOBODY - 1, 3, address), send(rig, NOBODY, 1, address))[0], lambda line: True
            )
        event: dict[str, Any] = json.loads(line)
        assert (event["event"], event["interface"], event["reason"]) == ("kfree_skb", rig.near.ifname, "NO_SOCKET")
        shown = rig.near.ipv4 if family == 4 else f"[{rig.near.ipv6}]"
        assert event["destination"] == f"{shown}:{NOBODY}"
        assert event["source"].endswith(":40000") and (rig.far.ipv4 if family == 4 else rig.far.ipv6) in event["source"]
        assert "udp" in event["location"]


def test_a_person_is_told_in_sentences_and_the_count_ends_it(headers: tuple[Path, Path]) -> None:
    with netns.pair() as rig:
        options = ("--interface", "all", "--port", str(NOBODY), "--count", "1")
        with trace(rig, headers, *options) as running:
            line = running.until(lambda: send(rig, NOBODY), lambda line: True)
            assert f"> {rig.near.ipv4}:{NOBODY} dropped: NO_SOCKET in " in line
            assert running.process.wait(20) == 0


def test_where_tracepoints_are_hidden_it_says_how_to_see_them() -> None:
    with netns.pair() as rig:
        done = subprocess.run(
            ["ip", "netns", "exec", rig.near.name, CTL, "trace", "--interface", "all", "--port", "1"],
            capture_output=True,
            text=True,
            env={**os.environ, "BCC_KERNEL_SOURCE": "/usr/src"},
        )
    assert done.returncode == 69
    assert "mount -t tracefs none /sys/kernel/tracing" in done.stderr
