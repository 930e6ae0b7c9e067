"""The table of connections: what everybody may see of them, in POSIX shared memory `/<name>.connections.<worker>`.

    0     header: magic, geometry; the time of the worker's latest look on a cache line of its own
    384   row 0 | row 1 | ...        one for each place in the engine's table; a free one has id 0

The supervisor lays it out (`Table.create`) and hands it to the data plane, whose C code alone writes it (quic_rows.h). It lies
beside the statistics segment and not in it, because `quic.connections` can change with a reload and the segment's size cannot,
and because whoever scrapes counters once a second need not copy 1.8 MB of rows.

A reader copies the file twice: a row whose sequence word is even in the first copy and the same in the second was whole while
the first was made. Rows that were being written are copied again, a few times. So a reader needs neither process, and rows of
the dead can be read as well: they say when they were written.

Mode 0644 like the statistics: a row has no key, no connection ID and no token.
"""

from __future__ import annotations

import os
import time

import msgspec

from . import shm
from .layout import QUIC_ROWS_MAGIC, VERSION, QuicRole, QuicRow, QuicRows, QuicState

KIND = "connections"
MODE = 0o644
WORDS = QuicRow.SIZE // 8
TRIES = 64
ID_WORD = QuicRow.OFFSETS["id"] // 8
MAX_ROWS = 1 << 20


def table_name(name: str, worker: int) -> str:
    return shm.name_of(name, KIND, worker)


def tables_of(name: str) -> list[int]:
    """Workers that have a table under this name now."""
    return shm.workers_of(name, KIND)


def remove_tables(name: str, keep: int = 0) -> None:
    """Removes the tables of workers `keep` and up."""
    shm.remove_workers(name, KIND, keep)


class Table:
    """A table as its maker sees it: to be handed over by descriptor. Its daemon must own the name (see Segment.create)."""

    def __init__(self, name: str, worker: int, fd: int, rows: int) -> None:
        self.name = name
        self.worker = worker
        self.fd = fd
        self.rows = rows

    @classmethod
    def create(cls, name: str, worker: int, rows: int) -> Table:
        """Makes an empty table, in place of one that an earlier daemon left."""
        header = QuicRows(
            magic=QUIC_ROWS_MAGIC,
            version=VERSION,
            row_bytes=QuicRow.SIZE,
            rows=rows,
            worker=worker,
            created_ns=time.time_ns(),
        )
        fd = shm.create(QuicRows.SIZE + rows * QuicRow.SIZE)
        try:
            os.pwrite(fd, header.pack(), 0)
            shm.publish_anew(fd, name, KIND, worker, MODE)
        except BaseException:
            os.close(fd)
            raise
        return cls(name, worker, fd, rows)

    def close(self) -> None:
        """Closes; the table and its name stay."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def unlink(self) -> None:
        shm.unlink(table_name(self.name, self.worker))


class Rows(msgspec.Struct, frozen=True):
    """A table at one moment: its rows that are in use."""

    worker: int
    size: int  # rows that there are
    written_ns: int  # CLOCK_MONOTONIC of the worker's latest look at its connections, 0: none yet
    rows: tuple[QuicRow, ...]
    crypto: str = ""  # who protects packets, and why that one; empty: no engine has been opened yet
    crypto_reason: str = ""
    torn: int = 0  # rows that were being written each time: left out


def read_table(name: str, worker: int) -> Rows:
    """Every connection of a worker. ShmError where there is no table, or none that can be read here."""
    fd, path = _open(name, worker)
    try:
        header, data = _copy(fd, path)
        seqs = _words(shm.read(fd, len(data), QuicRows.SIZE))[0::WORDS].tolist()
        before = _words(data)[0::WORDS].tolist()
        ids = _words(data)[ID_WORD::WORDS].tolist()
        rows, torn = [], 0
        for index, (seq, was, number) in enumerate(zip(seqs, before, ids, strict=False)):
            start = index * QuicRow.SIZE
            raw: bytes | None = data[start : start + QuicRow.SIZE]
            if seq != was or was & 1:
                raw = _again(fd, QuicRows.SIZE + start)
            elif number == 0:
                continue
            if raw is None:
                torn += 1
            elif (row := QuicRow.unpack(raw)).id:
                rows.append(row)
    finally:
        os.close(fd)
    return Rows(header.worker, header.rows, header.written_ns, tuple(rows), *_crypto(header), torn)


def _again(fd: int, offset: int) -> bytes | None:
    """A row that was being written; None: it still is (or its writer was killed in the middle of it)."""
    for _ in range(TRIES):
        raw = shm.read(fd, QuicRow.SIZE, offset)
        seq = raw[:8]
        if not raw[0] & 1 and shm.read(fd, 8, offset) == seq:
            return raw
    return None


def _crypto(header: QuicRows) -> tuple[str, str]:
    crypto, reason = (bytes(t).rstrip(b"\0").decode(errors="replace") for t in (header.crypto, header.crypto_reason))
    return crypto, reason


class Sums(msgspec.Struct, frozen=True):
    """Connections of one role in one state, all together."""

    connections: int = 0
    cwnd: int = 0
    in_flight: int = 0
    slots: int = 0
    srtt_ns: tuple[int, ...] = ()  # of each, sorted


def sum_up(name: str, worker: int) -> dict[tuple[str, str], Sums]:
    """By role and state. Columns instead of rows: 4,096 connections take 3 ms instead of 60, and no two figures have to
    be of the same moment."""
    fd, path = _open(name, worker)
    try:
        data = _copy(fd, path)[1]
    finally:
        os.close(fd)
    words = _words(data)
    columns = {n: words[QuicRow.OFFSETS[n] // 8 :: WORDS].tolist() for n in ("cwnd", "in_flight", "slots", "srtt_ns")}
    kinds = zip(
        data[QuicRow.OFFSETS["role"] :: QuicRow.SIZE], data[QuicRow.OFFSETS["state"] :: QuicRow.SIZE], strict=True
    )
    found: dict[tuple[int, int], list[int]] = {}
    for index, (number, kind) in enumerate(zip(words[ID_WORD::WORDS].tolist(), kinds, strict=True)):
        if number:
            found.setdefault(kind, []).append(index)
    return {
        (ROLES.get(role, "unknown"), STATES.get(state, "unknown")): Sums(
            connections=len(indices),
            cwnd=sum(columns["cwnd"][i] for i in indices),
            in_flight=sum(columns["in_flight"][i] for i in indices),
            slots=sum(columns["slots"][i] for i in indices),
            srtt_ns=tuple(sorted(columns["srtt_ns"][i] for i in indices)),
        )
        for (role, state), indices in found.items()
    }


ROLES = {int(r): r.name.lower() for r in QuicRole}
STATES = {int(s): s.name.lower() for s in QuicState if s != QuicState.FREE}


def _words(data: bytes) -> memoryview:
    return memoryview(data).cast("Q")


def _open(name: str, worker: int) -> tuple[int, str]:
    full = table_name(name, worker)
    fd, info = shm.open_readonly(full)
    path = str(shm.path_of(full))
    if info.st_mode & 0o022:
        os.close(fd)
        raise shm.Invalid(f"{path}: others than its owner may write it; remove it: rm {path}")
    return fd, path


def _copy(fd: int, path: str) -> tuple[QuicRows, bytes]:
    raw = shm.read(fd, QuicRows.SIZE)
    if len(raw) < QuicRows.SIZE:
        raise shm.Invalid(f"{path}: not a table of connections: {len(raw)} bytes long")
    header = QuicRows.unpack(raw)
    if header.magic != QUIC_ROWS_MAGIC:
        raise shm.Invalid(f"{path}: not a table of connections: its first bytes say something else")
    if header.version != VERSION or header.row_bytes != QuicRow.SIZE:
        raise shm.Invalid(
            f"{path}: of layout version {header.version}, this reader knows {VERSION}: use the daemon's own client"
        )
    size = header.rows * QuicRow.SIZE
    if not 0 < header.rows <= MAX_ROWS or os.fstat(fd).st_size < QuicRows.SIZE + size:
        raise shm.Invalid(f"{path}: not a table of connections: {header.rows} rows in {os.fstat(fd).st_size} bytes")
    return header, shm.read(fd, size, QuicRows.SIZE)
