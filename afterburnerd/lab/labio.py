"""Runs the lab's C program (native/, installed as bin/afterburner-labio) and reads its lines.

One `Labio` is one process: started in the namespace of its end and on its core, ended with the `with` block whatever
happens. It prints JSON lines; progress and results come out as the Structs below. Everything is synchronous: a lab command
waits for nothing else, and waits with a bound.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import msgspec

from ..cli import ToolError
from . import exits

PROGRAM = Path(__file__).parent / "bin" / "afterburner-labio"


class LabioError(ToolError):
    """The program failed, and said why."""

    def __init__(self, message: str, exit_code: int = 69) -> None:
        super().__init__(message, exit_code)


class Samples(msgspec.Struct, frozen=True):
    """Round-trip times in ns, after warming up."""

    count: int
    lost: int  # no answer within 50 ms
    beyond: int  # measured, but more than were kept
    min: int = 0
    p50: int = 0
    p90: int = 0
    p99: int = 0
    p999: int = 0
    max: int = 0
    mean: int = 0
    buckets: tuple[tuple[int, int, int], ...] = ()  # from, below, how many; those that have any


class Line(msgspec.Struct, frozen=True):
    """Any line of a sender or receiver; what does not apply is 0."""

    ready: bool = False
    final: bool = False
    queued: int = 0  # handed to the kernel
    completed: int = 0  # came back as sent (sockets: same as queued)
    refused: int = 0  # answered by "port unreachable"
    packets: int = 0  # received
    bytes: int = 0
    elapsed_ns: int = 0
    now_ns: int = 0  # CLOCK_MONOTONIC
    turned: int = 0  # pong: sent back
    ignored: int = 0
    huge: bool = False  # packet memory in 2 MiB pages
    rx_dropped: int = 0
    rx_ring_full: int = 0
    fill_empty: int = 0


class Labio:
    """One running program. `options` become command-line options: duration_ms=100 -> --duration-ms 100."""

    def __init__(self, mode: str, **options: str | int | bool | None) -> None:
        if not PROGRAM.exists():
            raise LabioError(f"{PROGRAM} is missing: run `make build`")
        self.mode = mode
        command = [str(PROGRAM), mode]
        for name, value in options.items():
            option = "--" + name.rstrip("_").replace("_", "-")
            if value is True:
                command.append(option)
            elif value is not None and value is not False:
                command += [option, str(value)]
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._pending = b""

    def __enter__(self) -> Labio:
        # Its own session: a Ctrl-C of the terminal reaches us, and we end it in order; and where the kernel groups by
        # session (sched_autogroup) it gets the share of a core that a data plane gets.
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process, "used outside of its `with`"
        return self._process

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def raw_lines(self, timeout: float) -> Iterator[bytes]:
        """Lines until the end of output; LabioError when it failed, TimeoutError when it says nothing for `timeout` s."""
        assert self.process.stdout
        handle = self.process.stdout.fileno()
        while True:
            line, separator, rest = self._pending.partition(b"\n")
            if separator:
                self._pending = rest
                yield line
                continue
            with exits.interruptible():
                there = select.select([handle], [], [], timeout)[0]
            if not there:
                raise TimeoutError(f"afterburner-labio {self.mode} said nothing for {timeout:g} s")
            chunk = os.read(handle, 65536)
            if not chunk:
                break
            self._pending += chunk
        self._check()

    def lines(self, timeout: float = 30) -> Iterator[Line]:
        for line in self.raw_lines(timeout):
            yield msgspec.json.decode(line, type=Line)

    def wait_ready(self, timeout: float = 15) -> None:
        for line in self.lines(timeout):
            if line.ready:
                return
        raise LabioError(f"afterburner-labio {self.mode} ended before it was ready")

    def result(self, timeout: float = 60) -> Line:
        """The last line of a sender, receiver or pong."""
        final = None
        for line in self.lines(timeout):
            if line.final:
                final = line
        if final is None:
            raise LabioError(f"afterburner-labio {self.mode} ended without a result")
        return final

    def samples(self, timeout: float = 120) -> Samples:
        """What a ping measured."""
        lines = list(self.raw_lines(timeout))
        if not lines:
            raise LabioError(f"afterburner-labio {self.mode} ended without a result")
        return msgspec.json.decode(lines[-1], type=Samples)

    def stop(self) -> Line:
        """Asks it to end, and returns its last line."""
        self.process.send_signal(signal.SIGTERM)
        return self.result(10)

    def close(self) -> None:
        if self._process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            until = time.monotonic() + 2
            while self.process.poll() is None and time.monotonic() < until:
                time.sleep(0.005)
            if self.process.poll() is None:
                self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _check(self) -> None:
        assert self.process.stderr
        said = self.process.stderr.read().decode(errors="replace").strip()
        code = self.process.wait(10)
        if code:
            raise LabioError(said or f"afterburner-labio {self.mode} ended by {code}", code if code in (64, 77) else 69)
