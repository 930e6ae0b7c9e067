"""Looking at one daemon again and again: reads the statistics, asks the control socket, makes views.

The daemon may stop, die and start anew between two looks; a watcher follows it. What it cannot see it leaves out of the
view instead of failing: figures without a control socket are still figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from afterburnerd.abi import shm
from afterburnerd.abi.control import ControlClient, ControlError, Status
from afterburnerd.abi.stats import Snapshot, StatsReader
from afterburnerd.cli import EXIT_NOT_RUNNING, EXIT_UNREACHABLE, ToolError
from afterburnerd.ctl.base import Place
from afterburnerd.ctl.quicview import tables
from afterburnerd.ctl.view import View, look


class Watcher:
    """Follows one daemon."""

    def __init__(self, place: Place, sleep: Callable[[float], None] = time.sleep) -> None:
        self.place = place
        self.name = place.name
        self.control: ControlError | None = None  # why the control socket did not answer last time
        self._sleep = sleep
        self._reader: StatsReader | None = None
        self._before: Snapshot | None = None

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the statistics."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def look(self, window: float = 0.25) -> View:
        """A view of now. The first one has to wait for its window, later ones go back to the one before.

        ToolError, with the exit code that fits, where there is nothing to be seen at all.
        """
        status = self._ask()
        try:
            if self._reader is None:
                self._reader = StatsReader.open(self.name)
            if self._before is None:
                self._before = self._reader.read()
                if not self._before.stale:  # the dead have no rates to wait for
                    self._sleep(window)
            after = self._reader.read()
        except shm.ShmError as error:
            self.close()
            self._before = None
            raise self._nothing(error, status) from None
        view = look(self.name, self._before, after, status, str(self.control or ""), tables(self.name))
        self._before = after
        return view

    def _ask(self) -> Status | None:
        self.control = None
        try:
            with ControlClient(self.place.run_dir) as daemon:
                status = daemon.status()
        except ControlError as error:
            self.control = error
            return None
        if status.name and not self.place.name_given and status.name != self.name:
            self.close()
            self.name, self._before = status.name, None
        return status

    def _nothing(self, error: shm.ShmError, status: Status | None) -> ToolError:
        if isinstance(error, shm.NotThere) and status is not None:
            return ToolError(
                f"the daemon (PID {status.pid}) answers, but its statistics are gone: {error}", EXIT_UNREACHABLE
            )
        if isinstance(error, shm.NotThere) and self.control is not None:
            if self.control.exit_code == EXIT_NOT_RUNNING:
                return ToolError(f"{self.control} (nor is there {shm.path_of(f'{self.name}.stats')})", EXIT_NOT_RUNNING)
            return ToolError(str(self.control), self.control.exit_code)
        return ToolError(str(error), error.exit_code)
