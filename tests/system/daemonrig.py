"""A real afterburnerd in a namespace of its own, for tests that break it on purpose.

    with netns.pair() as rig, Daemon(rig, tmp_path, captures=RAW) as daemon:
        daemon.send(b"...")                      from the far namespace, to the capture rule's port
        daemon.wait(lambda: daemon.rule("tpu", "packets") == 1, "the datagram to be counted")

The daemon runs as it would for a user: the executable, a configuration file, signals, the control socket, the
statistics segment. Nothing here reaches into its process.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from afterburnerd.abi import control, shm
from afterburnerd.abi.stats import Snapshot, StatsReader
from tests import netns

ROOT = Path(__file__).resolve().parents[2]
EXECUTABLE = ROOT / ".venv" / "bin" / "afterburnerd"
PORT = 8001
RAW = f"""
[[capture]]
name = "tpu"
port = {PORT}
decoder = "raw"
"""
_serial = itertools.count()


class Daemon:
    """Starts on entry (unless `start=False`) and is gone on exit, whatever happened to it meanwhile."""

    def __init__(
        self,
        rig: netns.Pair,
        directory: Path,
        captures: str = RAW,
        *,
        interface: str = "",
        memory: str = "",
        worker: str = 'idle = "sleep"\nnice = 0',
        rest: str = "",
        user: str = "",
        start: bool = True,
        prefix: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.rig = rig
        self.name = f"abtest-{os.getpid()}-{next(_serial)}"
        self.directory = directory / self.name
        self.directory.mkdir()
        self.config = self.directory / "afterburner.toml"
        self.parts = {
            "interface": interface,
            "memory": memory,
            "worker": worker,
            "rest": rest,
            "captures": captures,
            "exporter": "",
            "user": user,
        }
        self.prefix = tuple(prefix)
        self.env = {**os.environ, **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self._log = self.directory / "log"
        self._start = start
        self.write_config()

    def write_config(self, **parts: str) -> None:
        self.parts.update(parts)
        p = self.parts
        self.config.write_text(
            f'[daemon]\nname = "{self.name}"\nrun_dir = "{self.directory}/run"\nuser = "{p["user"]}"\n'
            f'[interface]\nname = "{self.rig.near.ifname}"\n{p["interface"]}\n'
            f"[memory]\n{p['memory']}\n[[worker]]\n{p['worker']}\n"
            f'[exporter]\nlisten = "{p["exporter"]}"\n{p["rest"]}\n{p["captures"]}\n'
        )

    def __enter__(self) -> Daemon:
        if self._start:
            try:
                self.start()
            except BaseException:
                self.__exit__(None, None, None)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        for leftover in Path("/dev/shm").glob(f"{self.name}.*"):
            leftover.unlink()

    # --- its life ----------------------------------------------------------------------------------------------------

    def launch(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.rig.near.name, *self.prefix, str(EXECUTABLE), "-c", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
            )
        return self.process

    def start(self) -> None:
        self.launch()
        self.wait(lambda: self.state() in ("serving", "degraded"), "the daemon to serve")

    def refused(self, seconds: float = 20) -> tuple[int, str]:
        """Starts it where it should refuse: exit code and what it said."""
        code = self.launch().wait(seconds)
        return code, self.log()

    @property
    def pid(self) -> int:
        """`ip netns exec` and the prefix replace themselves by the daemon, so it is the process that was started."""
        assert self.process is not None
        return self.process.pid

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    # --- what it says of itself --------------------------------------------------------------------------------------

    def client(self) -> control.ControlClient:
        return control.ControlClient(self.directory / "run", timeout=10)

    def status(self) -> control.Status:
        with self.client() as client:
            return client.status()

    def state(self) -> str:
        try:
            return self.status().state
        except control.ControlError:
            return "unreachable"

    def reload(self) -> control.ReloadResult:
        with self.client() as client:
            return client.reload()

    def plane_pid(self, worker: int = 0) -> int:
        return self.status().workers[worker].pid

    def plane_pid_from_stats(self, worker: int = 0) -> int:
        """As `plane_pid`, without asking the supervisor (it may be stopped)."""
        return self.value("worker", "pid", worker)

    def snapshot(self) -> Snapshot:
        with StatsReader.open(self.name) as reader:
            return reader.read()

    def value(self, block: str, name: str, row: int = 0) -> int:
        return self.snapshot().rows(block)[row].value(name)

    def rule(self, rule: str, name: str) -> int:
        return sum(r.value(name) for r in self.snapshot().rows("rule") if r.labels.get("rule") == rule)

    def xdp(self, reason: str) -> int:
        return sum(r.value("packets") for r in self.snapshot().rows("xdp") if r.labels.get("reason") == reason)

    def queues(self) -> list[Any]:
        return [r for r in self.snapshot().rows("queue") if r.value("mode")]

    def assert_frames_add_up(self) -> None:
        """Invariant 2: every frame is in exactly one place, at every turn so far and now."""
        queues = self.queues()
        assert queues, "no queue is bound"
        for q in queues:
            owned = q.value("frames_rx") + q.value("frames_worker") + q.value("frames_tx")
            if q.state("mode") != "socket":
                assert owned == q.value("frames") > 0, q.labels
            assert q.value("frame_errors") == 0, q.labels

    # --- the world around it -----------------------------------------------------------------------------------------

    def send(self, *payloads: bytes, port: int = PORT, address: str = "") -> None:
        with self.rig.far.entered():
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            for payload in payloads:
                sock.sendto(payload, (address or self.rig.near.ipv4, port))

    def receives(self, count: int = 5) -> None:
        """What is sent now is counted by the rule: the whole path works."""
        before = self.rule("tpu", "packets")
        self.send(*[b"x" * 64] * count)
        self.wait(lambda: self.rule("tpu", "packets") == before + count, f"{count} datagrams to be counted")

    def recovers(self, seconds: float = 20) -> None:
        """After a change of the interface: sooner or later everything that is sent arrives again. What is sent while
        queues are being bound anew, or neighbours found, may be lost."""
        deadline = time.monotonic() + seconds
        while True:
            before = self.rule("tpu", "packets")
            self.send(*[b"x" * 64] * 5)
            with contextlib.suppress(AssertionError):
                self.wait(lambda before=before: self.rule("tpu", "packets") == before + 5, "5 datagrams", 1.0)
                return
            assert time.monotonic() < deadline, f"nothing arrives; log:\n{self.log()}"

    def attached(self) -> int:
        """The program on the interface as the kernel tells an outsider; 0: none."""
        text = netns.run("ip", "-n", self.rig.near.name, "-d", "link", "show", "dev", self.rig.near.ifname)
        words = text.split()
        return int(words[words.index("prog/xdp") + 2]) if "prog/xdp" in words else 0

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 20) -> float:
        """Seconds that it took. Fails with the daemon's log."""
        began = time.monotonic()
        while True:
            # A segment that is being made or removed at this moment is one more reason to look again.
            with contextlib.suppress(control.ControlError, shm.ShmError, OSError, LookupError):
                if condition():
                    return time.monotonic() - began
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the daemon ended ({self.process.returncode}) before {what}:\n{self.log()}")
            if time.monotonic() - began > seconds:
                raise AssertionError(f"waited {seconds} s for {what}; state {self.state()}; log:\n{self.log()}")
            time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False
