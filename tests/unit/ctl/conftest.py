"""A daemon to look at: a real statistics segment and a control socket, without processes or packets behind them."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from afterburnerd.abi import control
from afterburnerd.abi.description import Info, WorkerInfo
from afterburnerd.abi.process import Identity
from afterburnerd.abi.segment import Segment
from afterburnerd.config import Config
from afterburnerd.ctl.main import main

INFO = Info(
    version="9.9",
    interface="ve0",
    driver="veth",
    workers=(WorkerInfo(3, (0, 1)), WorkerInfo(-1, (2,))),
    rules=("tpu", "votes"),
)
SERVING, DEGRADED = 2, 3
RUNNING = 2
ZERO_COPY, COPY = 1, 2


class FakeDaemon:
    """Figures can be set, answers of the control socket replaced."""

    def __init__(self, name: str, run_dir: Path) -> None:
        self.name = name
        self.run_dir = run_dir
        self.segment = Segment.create(name, 2, 2, 4, INFO)
        self.status = control.Status(
            version="9.9",
            pid=os.getpid(),
            name=name,
            state="serving",
            generation=2,
            config_files=("/etc/afterburner/afterburner.toml",),
            workers=(
                control.WorkerStatus(index=0, restarts=1, last_failure="killed by SIGKILL"),
                control.WorkerStatus(index=1),
            ),
            captures=(
                control.CaptureStatus(index=0, name="tpu", address="any", port=8001, decoder="solana-tx"),
                control.CaptureStatus(index=1, name="votes", address="2001:db8::1", port=8002, decoder="raw"),
            ),
        )
        self.config = Config()
        self.reload = control.ReloadResult(ok=True, generation=3)
        self.answer: Callable[[control.Request], control.Reply | None] = self._answer
        self.requests: list[control.Request] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(run_dir / control.SOCKET_NAME))
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.fill()

    def fill(self) -> None:
        """Figures of a healthy daemon."""
        s = self.segment
        for name, value in {
            "state": SERVING,
            "start_time_ns": time.time_ns() - 3_600_000_000_000,
            "config_generation": 2,
            "interface_up": 1,
            "interface_mtu": 1500,
            "interface_queues": 3,
            "xdp_attached": 1,
            "heartbeat_ns": time.monotonic_ns(),
        }.items():
            s.set("daemon", 0, name, value)
        for worker in (0, 1):
            s.set("worker", worker, "state", RUNNING)
            s.set("worker", worker, "pid", 1000 + worker)
            s.set("worker", worker, "heartbeat_ns", time.monotonic_ns())
            s.set("worker", worker, "decoded", 1_000_000)
        for row in (s.queue_row(0, 0), s.queue_row(0, 1), s.queue_row(1, 0)):
            s.set("queue", row, "mode", COPY)
            s.set("queue", row, "rx_packets", 500_000)
            for name, value in (("frames", 2048), ("frames_rx", 2000), ("frames_worker", 40), ("frames_tx", 8)):
                s.set("queue", row, name, value)

    def record(self, worker: int, histogram: str, value: int, times: int = 1) -> None:
        """Record into a histogram as hist.h does, for values below 32 or powers of two."""
        block = next(b for b in self.segment.description.blocks if b.name == "worker")
        word = next(f.word for f in block.fields if f.name == histogram)
        words = self.segment.words("worker", worker)
        e = max(value.bit_length() - 6, 0)
        bucket = value if value < 32 else (e << 5) + (value >> e)
        words[word + 2] = value if not words[word] else min(words[word + 2], value)
        words[word + 3] = max(words[word + 3], value)
        words[word] += times
        words[word + 1] += value * times
        words[word + 4 + bucket] += times

    def die(self) -> None:
        """As if both processes had been killed: the figures stay, nobody answers."""
        self.segment.identify(Identity(2**22 + 1, 1, Identity.own().namespace))
        self.stop()

    def stop(self) -> None:
        """Close the control socket."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _answer(self, request: control.Request) -> control.Reply | None:
        if isinstance(request, control.StatusRequest):
            return self.status
        if isinstance(request, control.ConfigRequest):
            return control.RunningConfig(generation=2, config=msgspec.Raw(msgspec.json.encode(self.config)))
        if isinstance(request, control.ReloadRequest):
            return self.reload
        return control.Pong(version="9.9")

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                file = connection.makefile("rb")
                while line := file.readline():
                    self.requests.append(control.decode_request(line))
                    reply = self.answer(self.requests[-1])
                    if reply is None:  # play dead until the client gives up
                        file.readline()
                    else:
                        connection.sendall(control.encode(reply))


@pytest.fixture
def daemon(name: str, tmp_path: Path) -> Iterator[FakeDaemon]:
    daemon = FakeDaemon(name, tmp_path)
    yield daemon
    daemon.stop()
    daemon.segment.close()


class Tool:
    """afterburnerctl, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
        self.options = options
        self._capsys = capsys
        self.out = ""
        self.err = ""

    def __call__(self, *words: str) -> int:
        code = main([*words, *self.options])
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self) -> dict[str, object]:
        """The one document that was printed."""
        (line,) = self.out.splitlines()
        document: dict[str, object] = msgspec.json.decode(line)
        return document


@pytest.fixture
def ctl(capsys: pytest.CaptureFixture[str], name: str, tmp_path: Path) -> Tool:
    return Tool(capsys, ["--name", name, "--run-dir", str(tmp_path)])
