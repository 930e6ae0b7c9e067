"""Is the process that wrote this still the one that it was? A process ID alone does not tell: the kernel reuses them."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

# A supervisor ticks once a second; ten missed ticks are a verdict where nothing better can be had.
HEARTBEAT_LIMIT_NS = 10_000_000_000


class Identity(msgspec.Struct, frozen=True):
    """One process, distinguishable from a later one with the same ID."""

    pid: int = 0
    start_ticks: int = 0  # field 22 of /proc/PID/stat
    namespace: int = 0  # inode of its PID namespace, 0: unknown

    @classmethod
    def own(cls) -> Identity:
        pid = os.getpid()
        return cls(pid, start_ticks(pid) or 0, pid_namespace())

    def alive(self, heartbeat_ns: int, now_ns: int) -> bool:
        """Whether it runs. From another PID namespace (a container beside it) only its heartbeat can be seen."""
        if self.pid <= 0:
            return False
        if self.namespace and self.namespace != pid_namespace():
            return now_ns - heartbeat_ns < HEARTBEAT_LIMIT_NS
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OverflowError:
            return False
        except PermissionError:
            pass  # it exists, and belongs to somebody else
        ticks = start_ticks(self.pid)
        if ticks is None:  # gone just now, or /proc hides other users' processes (hidepid)
            return now_ns - heartbeat_ns < HEARTBEAT_LIMIT_NS
        return ticks == self.start_ticks

    def uid(self) -> int | None:
        """Effective user of the process. /proc/PID itself belongs to root where a process has capabilities."""
        try:
            text = Path(f"/proc/{self.pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return None
        return next((int(line.split()[2]) for line in text.splitlines() if line.startswith("Uid:")), None)


def start_ticks(pid: int) -> int | None:
    """When the process started; 0 where it has ended and awaits its parent (a zombie), None where it is not to be seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    fields = text.rpartition(b")")[2].split()  # the name in brackets may hold anything, brackets too
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def pid_namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino
