"""The real `afterburnerd` on a rig, for the time of a `with`: started as an operator would, with a configuration file.

Benchmarks and the demo look at the product and not at a model of it. It runs in the namespace of the rig's daemon end, under
a name and a run directory of its own, so that a daemon of this machine is not disturbed. When the `with` ends, however it
ends, so does the daemon: SIGTERM, and SIGKILL after a bounded wait; it is also told to end should we die (PDEATHSIG).
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from ..abi.shm import ShmError
from ..abi.stats import Snapshot, StatsReader
from ..cli import EXIT_UNREACHABLE, ToolError
from . import exits
from .rig import Rig

START_SECONDS = 20.0
STOP_SECONDS = 10.0


class Daemon:
    """One running daemon. `body` is TOML: everything but [daemon], interface.name and exporter.listen, which are set here."""

    def __init__(
        self, rig: Rig, name: str, body: str, interface: str = "", listen: str = "", verbose: bool = False
    ) -> None:
        self.rig = rig
        self.name = name
        self.directory = Path()
        self._body = (
            f'[interface]\nname = "{rig.daemon.device}"\n{interface}\n[exporter]\nlisten = "{listen}"\n\n{body}'
        )
        self.process: subprocess.Popen[bytes] | None = None
        self._reader: StatsReader | None = None
        self._served = False

    def __enter__(self) -> Daemon:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def config(self) -> Path:
        return self.directory / "afterburner.toml"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def _start(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self.config.write_text(f'[daemon]\nname = "{self.name}"\nrun_dir = "{self.directory}"\n\n{self._body}')
        # setpriv (util-linux) has the kernel end it with us; `ip netns exec` and setpriv replace themselves, so that
        # the process ID is the daemon's.
        command = self.rig.daemon.inside(
            "setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "afterburnerd.supervisor.main"
        )
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--config", str(self.config)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        until = time.monotonic() + START_SECONDS
        while True:
            if self.process.poll() is not None:
                raise ToolError(
                    f"afterburnerd ended by {self.process.returncode} before it served:\n{self.said()}",
                    EXIT_UNREACHABLE,
                )
            state = self.state()
            # A daemon whose worker has to be started again (a busy machine) is degraded, too, without any queue.
            if state in ("serving", "degraded") and self.snapshot().rows("queue"):
                self._served = True
                return
            if time.monotonic() > until:
                raise ToolError(
                    f"afterburnerd does not serve after {START_SECONDS:.0f} s ({state}):\n{self.said()}",
                    EXIT_UNREACHABLE,
                )
            exits.sleep(0.02)

    def extend(self, body: str) -> None:
        """Adds to the configuration, and has it read again."""
        with self.config.open("a") as file:
            file.write(body)
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)

    def state(self) -> str:
        try:
            snapshot = self.snapshot()
        except ShmError:
            return "no statistics yet"
        return "stale statistics" if snapshot.stale else snapshot.daemon.state("state")

    def snapshot(self) -> Snapshot:
        """Its figures now."""
        if self._reader is None:
            self._reader = StatsReader.open(self.name)
        return self._reader.read()

    def said(self, lines: int = 20) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> int | None:
        """Ends it in order; its exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def _remove_shared_memory(self) -> None:
        subprocess.run(
            [sys.executable, "-m", "afterburnerd.supervisor.main", "--config", str(self.config), "--clean-up"],
            capture_output=True,
            timeout=30,
            process_group=0,
        )

    def close(self) -> None:
        code = self.stop()
        if code and self._served:  # told to end, it should have ended in order
            print(f"afterburnerd ended by {code}; it said:\n{self.said()}", file=sys.stderr)
        if code:
            self._remove_shared_memory()
        if self._reader:
            self._reader.close()
            self._reader = None
        if self.directory != Path():
            shutil.rmtree(self.directory, ignore_errors=True)
