"""A segment as a busy daemon would have it, with every figure known."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from afterburnerd.abi import shm
from afterburnerd.abi.connections import Table
from afterburnerd.abi.description import Info, WorkerInfo
from afterburnerd.abi.layout import (
    DaemonState,
    QueueMode,
    QuicCounts,
    QuicRole,
    QuicRow,
    QuicRows,
    QuicState,
    WorkerState,
)
from afterburnerd.abi.segment import Segment
from afterburnerd.abi.stats import Snapshot, StatsReader


def _row(number: int, role: QuicRole, state: QuicState, **figures: int) -> QuicRow:
    return QuicRow(id=number, seq=2, role=role, state=state, counts=QuicCounts(), **figures)  # type: ignore[arg-type]


NOW_NS = 9_000_000_000_000
INFO = Info(
    version="0.1.0",
    interface="ve0",
    driver="veth",
    workers=(WorkerInfo(1, (0, 1)), WorkerInfo(2, (2,))),
    rules=("swaps", 'odd "name" \\ \n here'),
)
ROWS = (
    _row(1, QuicRole.CLIENT, QuicState.OPEN, srtt_ns=30_000_000, cwnd=150_000, in_flight=1_000, slots=4),
    _row(2, QuicRole.CLIENT, QuicState.OPEN, srtt_ns=10_000_000, cwnd=50_000, in_flight=500, slots=1),
    _row(3, QuicRole.SERVER, QuicState.DRAINING, srtt_ns=5_000_000, cwnd=1, in_flight=1, slots=1),
)


@contextmanager
def segment(workers: int = 2, queues: int = 2, rules: int = 2, info: Info = INFO) -> Iterator[Segment]:
    """Removed afterwards, whatever happens."""
    name = f"abtest-{os.getpid()}-{time.monotonic_ns()}"
    made = Segment.create(name, workers, queues, rules, info)
    try:
        yield made
    finally:
        made.unlink()
        made.close()
        for path in shm.DIRECTORY.glob(f"{name}*"):
            path.unlink()


def fill(s: Segment) -> None:
    """Numbers every word of every row, and puts enums, histograms and heartbeats into states that can be."""
    for block in s.description.blocks:
        for row in range(block.count):
            for field in block.fields:
                if field.name in ("pid", "pid_start_ticks", "pid_namespace"):
                    continue
                words = s.words(block.name, row)
                if field.kind == "histogram":
                    values = [50, 90, 127, 128, 1 << 20, 3_000_000, 1 << 39]
                    record(s, block.name, row, field.name, values)
                elif field.unit == "ns":
                    words[field.word] = (field.word + row) * 1_000_000_001
                else:
                    words[field.word] = field.word * 100 + row
    s.set("daemon", 0, "state", DaemonState.SERVING)
    for name, value in (("interface_up", 1), ("xdp_attached", 1), ("xdp_generic", 0)):
        s.set("daemon", 0, name, value)
    s.set("daemon", 0, "heartbeat_ns", NOW_NS - 250_000_000)
    for worker in range(s.description.workers):
        s.set("worker", worker, "state", WorkerState.RUNNING)
        s.set("worker", worker, "heartbeat_ns", NOW_NS - 1_500)
    for row in range(s.description.workers * s.description.queues):
        s.set("queue", row, "mode", QueueMode.COPY)


def fill_connections(s: Segment) -> None:
    """Worker 0 has three connections, worker 1 has room for some."""
    for worker, rows in ((0, ROWS), (1, ())):
        table = Table.create(s.name, worker, 8)
        for index, row in enumerate(rows):
            os.pwrite(table.fd, row.pack(), QuicRows.SIZE + 2 * index * QuicRow.SIZE)
        table.close()


def record(s: Segment, block: str, row: int, name: str, values: list[int]) -> None:
    from afterburnerd.native import lib

    field = next(f for b in s.description.blocks if b.name == block for f in b.fields if f.name == name)
    words = s.words(block, row)
    for value in values:
        words[field.word + 4 + lib.hist_index(value)] += 1
        words[field.word] += 1
        words[field.word + 1] += value
    words[field.word + 2], words[field.word + 3] = min(values), max(values)


class FixedTime(StatsReader):
    """Reads as of NOW_NS: ages come out the same each time."""

    def read(self) -> Snapshot:
        snapshot = super().read()
        snapshot.taken_ns = NOW_NS
        return snapshot
