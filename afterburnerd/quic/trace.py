"""Files of what connections do (qlog) and of their keys (key log), for those that somebody asked to be traced.

    afterburnerctl qlog on WHO ─► Tracer ─► command TRACE ─► engine
                    <trace_dir>/NUMBER-client.sqlog ◄── Tracer ◄── events QLOG, KEY_UPDATE, KEYS, Closed
                    <trace_dir>/NUMBER-client.keys

Off, nothing of this costs the engine more than a bit that it looks at. A key log opens everything that was or will be said on
a connection to whoever has the file and a capture of the packets; so the configuration has to allow it (`quic.allow_keylog`),
and it is for test networks. It has the form of SSLKEYLOGFILE, which Wireshark and tshark take. Of a connection that is traced
from its beginning (`new`) it has the secrets of the handshake and of generation 0, from which all others follow. Of one
that is under way already it has what the engine still knows: our present secret and, since keys are derived ahead, the
peer's next one, which opens nothing before the next key update. So `new` is what one wants.

Files are ours alone (0600), and bounded: one that has grown to half of `quic.trace_bytes` becomes NAME.1, in place of the one
before; of more than FILES_MAX the oldest go.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec

from ..abi.layout import QuicCommandKind, QuicEvent, QuicEventKind
from . import qlog
from .connection import Connection
from .handover import Handover
from .news import Closed
from .tokens import unpacked

Kind = Literal["qlog", "keylog"]
BITS: Final[dict[Kind, int]] = {"qlog": 1, "keylog": 2}
ENDINGS: Final[dict[Kind, str]] = {"qlog": ".sqlog", "keylog": ".keys"}
FILES_MAX: Final = 64
HELLOS_MAX: Final = 1024  # handshakes whose secrets wait for their connection
LINES_MAX: Final = 16  # of one of them


class TraceFile:
    """One file of bounded size. OSError: it cannot be written."""

    def __init__(self, path: Path, limit: int, head: Callable[[], bytes]) -> None:
        self.path = path
        self._limit = max(limit // 2, 4096)
        self._head = head  # what each file begins with
        self._fd = -1
        self._size = 0

    def write(self, data: bytes) -> None:
        if self._fd >= 0 and self._size + len(data) > self._limit:
            self.close()
            self.path.replace(self.path.with_name(self.path.name + ".1"))
        if self._fd < 0:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self._size = 0
            self._put(self._head())
        self._put(data)

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            done = os.write(self._fd, view)
            view = view[done:]
            self._size += done

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _Traced:
    """One connection that is being traced."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.files: dict[Kind, TraceFile] = {}
        self.writer: qlog.Writer | None = None
        self.told = 0  # bits that the engine knows of
        self.whole = False  # its key log began with the handshake

    @property
    def bits(self) -> int:
        return sum(BITS[kind] for kind in self.files)


class Settings(msgspec.Struct, frozen=True):
    """Of the configuration."""

    directory: str
    file_bytes: int
    allow_keylog: bool


class Forbidden(Exception):
    """A key log is asked for, and the configuration does not allow it."""


class Tracer:
    """All that is traced. `trouble` is called with what could not be written; that connection is traced no more."""

    def __init__(self, handover: Handover, settings: Settings, trouble: Callable[[str], None]) -> None:
        self.handover = handover
        self.settings = settings
        self.new: set[Kind] = set()  # what connections to come are traced with
        self._trouble = trouble
        self._traced: dict[int, _Traced] = {}
        self._hellos: OrderedDict[str, list[str]] = OrderedDict()  # by client random: lines of handshakes under way

    # --- what is asked for ---

    def switch(self, kind: Kind, connections: list[Connection], *, on: bool) -> list[Path]:
        """Returns the files. Forbidden; OSError where they cannot be made."""
        if on and kind == "keylog":
            self._check()
        return [path for c in connections if (path := self._switch(kind, c, on=on)) is not None]

    def switch_new(self, kind: Kind, *, on: bool) -> None:
        if on and kind == "keylog":
            self._check()
        if on:
            self.new.add(kind)
        else:
            self.new.discard(kind)
            if kind == "keylog":
                self._hellos.clear()

    def _check(self) -> None:
        if not self.settings.allow_keylog:
            raise Forbidden(
                "a key log opens all that is said on a connection to whoever has it, so the configuration must allow it: "
                "set quic.allow_keylog = true, and reload"
            )

    def configure(self, settings: Settings) -> None:
        """A reload. What is no longer allowed ends now."""
        self.settings = settings
        if not settings.allow_keylog:
            self.switch_new("keylog", on=False)
            for traced in list(self._traced.values()):
                self._switch("keylog", traced.connection, on=False)

    # --- what happens ---

    def began(self, connection: Connection) -> None:
        """It is about to be handed over, or is: what new connections are traced with is told to its engine at once."""
        for kind in sorted(self.new):
            if connection.number in self._traced and kind in self._traced[connection.number].files:
                continue
            try:
                self._switch(kind, connection, on=True)
            except OSError as error:
                self._trouble(f"{error.filename or self.settings.directory}: {error.strerror}")
        traced = self._traced.get(connection.number)
        if traced is not None:
            self._tell(traced)

    def handshake_line(self, line: str) -> None:
        """A secret of a handshake, as aioquic writes it: LABEL CLIENT_RANDOM SECRET."""
        if "keylog" not in self.new:
            return
        words = line.split()
        if len(words) == 3:
            lines = self._hellos.setdefault(words[1], [])
            if len(lines) < LINES_MAX:
                lines.append(line if line.endswith("\n") else line + "\n")
            while len(self._hellos) > HELLOS_MAX:
                self._hellos.popitem(last=False)

    def event(self, connection: Connection | None, event: QuicEvent, body: bytes) -> None:
        traced = self._traced.get(connection.number) if connection is not None else None
        if traced is None or connection is None:
            return
        if event.kind == QuicEventKind.KEYS:
            ours = bool(event.code)
            if event.number == 0 and traced.whole:
                return  # the handshake has told it
            side = "CLIENT" if connection.is_client == ours else "SERVER"
            line = f"{side}_TRAFFIC_SECRET_{event.number} {connection.client_random.hex()} {body.hex()}\n"
            self._write(traced, "keylog", line.encode())
        elif traced.writer is not None:
            self._write(traced, "qlog", traced.writer.event(event, body))

    def closed(self, news: Closed, time_ns: int) -> None:
        traced = self._traced.get(news.connection.number)
        if traced is None:
            return
        if traced.writer is not None:
            self._write(
                traced, "qlog", traced.writer.closed(time_ns, news.by, news.code, news.reason, is_app=news.is_app)
            )
        self._forget(traced)

    def close(self) -> None:
        for traced in list(self._traced.values()):
            self._forget(traced)

    # --- files ---

    def _switch(self, kind: Kind, connection: Connection, *, on: bool) -> Path | None:
        traced = self._traced.get(connection.number)
        if not on:
            if traced is not None and kind in traced.files:
                traced.files.pop(kind).close()
                if kind == "qlog":
                    traced.writer = None
                self._tell(traced)
                if not traced.files:
                    del self._traced[connection.number]
            return None
        if traced is not None and kind in traced.files:
            return traced.files[kind].path
        directory = Path(self.settings.directory)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_room(directory)
        role = "client" if connection.is_client else "server"
        path = directory / f"{connection.number}-{role}{ENDINGS[kind]}"
        file = TraceFile(path, self.settings.file_bytes, lambda: self._head(kind, connection))
        fresh = traced or _Traced(connection)
        if kind == "qlog":
            fresh.writer = qlog.Writer(is_client=connection.is_client, start_ns=time.monotonic_ns())
        lines = self._hellos.pop(connection.client_random.hex(), []) if kind == "keylog" else []
        fresh.whole = fresh.whole or bool(lines)
        file.write("".join(lines).encode())
        fresh.files[kind] = file
        self._traced[connection.number] = fresh
        self._tell(fresh)
        return path

    def _head(self, kind: Kind, connection: Connection) -> bytes:
        if kind == "keylog":
            return b""
        traced = self._traced.get(connection.number)
        if traced is not None and traced.writer is not None:  # a file that goes on from another begins anew
            traced.writer = qlog.Writer(is_client=connection.is_client, start_ns=time.monotonic_ns())
        return qlog.header(
            f"connection {connection.number}" + (f" to {connection.name}" if connection.name else ""),
            is_client=connection.is_client,
            reference_ms=time.time_ns() / 1e6,
            group=str(connection.number),
            peer=connection.remote,
            local=(unpacked(connection.path.local), connection.path.local_port),
        )

    def _write(self, traced: _Traced, kind: Kind, data: bytes) -> None:
        file = traced.files.get(kind)
        if file is None or not data:
            return
        try:
            file.write(data)
        except OSError as error:
            self._trouble(f"{file.path}: {error.strerror}")
            self._switch(kind, traced.connection, on=False)

    def _tell(self, traced: _Traced) -> None:
        """The engine, where it has the connection; else with `began`."""
        if traced.connection.engine is not None and traced.told != traced.bits:
            self.handover.commands.put(traced.connection, QuicCommandKind.TRACE, code=traced.bits)
            traced.told = traced.bits

    def _forget(self, traced: _Traced) -> None:
        for file in traced.files.values():
            file.close()
        self._traced.pop(traced.connection.number, None)


def _make_room(directory: Path) -> None:
    """Room for one more of our files."""
    ours = [p for p in directory.iterdir() if p.name.removesuffix(".1").endswith(tuple(ENDINGS.values()))]
    ours.sort(key=lambda p: p.lstat().st_mtime_ns)
    for path in ours[: max(len(ours) - FILES_MAX + 1, 0)]:
        path.unlink()
