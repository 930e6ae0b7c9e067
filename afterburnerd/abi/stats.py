"""The statistics segment, as its readers see it: `afterburnerctl`, the exporter, anybody's own tool.

    with StatsReader.open("afterburner") as reader:
        before = reader.read()
        ...
        after = reader.read()
        for worker in after.rows("worker"):
            print(worker.labels, worker.state("state"), worker.value("decoded"), worker.histogram("gap").quantile(0.99))
        print(Delta(before, after).rate("queue", "rx_packets"))

No process is asked: the figures stand in shared memory, also after both processes died (`Snapshot.stale`). Words
are found by the names in the segment's own description, never by this version's schema, so a reader and a daemon
of different versions understand each other as far as their names agree.

A snapshot is one copy of the whole segment; each word is whole, but two words may be some nanoseconds apart.
"""

from __future__ import annotations

import os
import time
from types import TracebackType

import msgspec

from . import shm
from .description import Block, Description, Field, Info
from .histogram import Histogram
from .layout import MAGIC
from .layout import Segment as Header
from .process import Identity

LIMIT = 256 << 20  # no segment of ours comes near; a stranger's file of terabytes is not read
TEXT_LIMIT = 16 << 20
ATTEMPTS = 50


class StatsReader:
    """Follows `/<name>.stats`, also across restarts of the daemon, which make the segment anew."""

    def __init__(self, name: str, fd: int, owner: int) -> None:
        self.name = name
        self.path = shm.path_of(f"{name}.stats")
        self.owner = owner  # user ID that the file belongs to
        self._fd = fd
        self._text_seq = -1
        self._layout: Layout | None = None

    @classmethod
    def open(cls, name: str) -> StatsReader:
        """NotThere, Forbidden or Invalid tell why there is nothing to be read."""
        fd, info = shm.open_readonly(f"{name}.stats")
        return cls(name, fd, info.st_uid)

    def read(self) -> Snapshot:
        info = os.fstat(self._fd)
        if info.st_nlink == 0:  # removed: by a stop, or to be made anew
            self._reopen()
            info = os.fstat(self._fd)
        if info.st_size > LIMIT:
            raise self._invalid(f"{info.st_size} bytes long")
        taken_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        data = shm.read(self._fd, info.st_size)
        header = self._header(data)
        if header.total_bytes != len(data):
            raise self._invalid(f"{len(data)} bytes long, and says {header.total_bytes}")
        layout = self._layout
        if layout is None or header.text_seq != self._text_seq:
            layout = self._describe(header)
        return Snapshot(layout, header, memoryview(data).cast("Q"), taken_ns, wall_ns, info.st_ino)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> StatsReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _reopen(self) -> None:
        fd, info = shm.open_readonly(f"{self.name}.stats")
        os.close(self._fd)
        self._fd, self.owner, self._text_seq, self._layout = fd, info.st_uid, -1, None

    def _header(self, data: bytes) -> Header:
        if len(data) < Header.SIZE or len(data) % 8:
            raise self._invalid(f"{len(data)} bytes long")
        header = Header.unpack(data)
        if header.magic != MAGIC:
            raise self._invalid("its first bytes are not those of a statistics segment")
        if header.text_offset > header.total_bytes:
            raise self._invalid("its description lies beyond its end")
        return header

    def _describe(self, header: Header) -> Layout:
        """Reads the description under its sequence count."""
        for attempt in range(ATTEMPTS):
            text = shm.read(self._fd, min(header.text_capacity, TEXT_LIMIT), header.text_offset).partition(b"\0")[0]
            again = self._header(shm.read(self._fd, Header.SIZE))
            # An odd count that stays is that of a supervisor killed while it wrote: the text in force is whole all the same.
            settled = again.text_seq == header.text_seq and (header.text_seq % 2 == 0 or attempt == ATTEMPTS - 1)
            if settled:
                try:
                    layout = Layout(msgspec.json.decode(text, type=Description), header.total_bytes)
                except (msgspec.DecodeError, ValueError) as e:
                    raise self._invalid(f"its description does not hold: {e}") from e
                self._text_seq, self._layout = header.text_seq, layout
                return layout
            header = again
            time.sleep(0.0002)
        raise self._invalid("its description changes all the time")

    def _invalid(self, what: str) -> shm.Invalid:
        return shm.Invalid(f"{self.path}: not the statistics of a daemon ({what}); if no daemon runs: rm {self.path}")


class Layout:
    """A description, checked against the size of the segment, with its words found by name."""

    def __init__(self, description: Description, size: int) -> None:
        self.description = description
        self.info: Info = description.info
        self.blocks: dict[str, Block] = {}
        self.fields: dict[str, dict[str, Field]] = {}
        self._rows: dict[str, list[tuple[int, dict[str, str]]]] = {}
        geometry = description.histogram
        if not (0 <= geometry.sub_bits < geometry.max_bits <= 64):
            raise ValueError(f"histogram geometry {geometry}")
        if geometry.buckets != (geometry.max_bits - geometry.sub_bits + 1) << geometry.sub_bits:
            raise ValueError(f"histogram geometry {geometry}")
        counts = {
            "worker": description.workers,
            "queue": description.workers * description.queues,
            "rule": description.workers * description.rules,
        }
        for b in description.blocks:
            if counts.get(b.per, b.count) != b.count:
                raise ValueError(f"block {b.name} has {b.count} rows")
            if b.offset < 0 or b.stride <= 0 or b.count < 0 or b.offset % 8 or b.stride % 8:
                raise ValueError(f"block {b.name} is misplaced")
            if b.offset + b.stride * b.count > size:
                raise ValueError(f"block {b.name} reaches beyond the end")
            for f in b.fields:
                words = 4 + geometry.buckets if f.kind == "histogram" else 1
                if f.word < 0 or (f.word + words) * 8 > b.stride:
                    raise ValueError(f"{b.name}.{f.name} reaches beyond its block")
            self.blocks[b.name] = b
            self.fields[b.name] = {f.name: f for f in b.fields}

    def rows(self, block: Block) -> list[tuple[int, dict[str, str]]]:
        """Number and labels of the rows that stand for something: few of those that there is room for."""
        found = self._rows.get(block.name)
        if found is None:
            every = ((i, self._labels(block, i)) for i in range(block.count))
            found = self._rows[block.name] = [(i, labels) for i, labels in every if labels is not None]
        return found

    def _labels(self, block: Block, index: int) -> dict[str, str] | None:
        """What row `index` stands for; None where it stands for nothing (description.py says how rows are numbered)."""
        d, info = self.description, self.info
        match block.per:
            case "daemon":
                return {}
            case "worker":
                return {"worker": str(index)} if index < len(info.workers) else None
            case "queue":
                worker, slot = divmod(index, d.queues)
                if worker >= len(info.workers) or slot >= len(info.workers[worker].queues):
                    return None
                return {"worker": str(worker), "queue": str(info.workers[worker].queues[slot])}
            case "rule":
                worker, rule = divmod(index, d.rules)
                if worker >= len(info.workers) or rule >= len(info.rules):
                    return None
                return {"worker": str(worker), "rule": info.rules[rule]}
        return block.rows[index] if index < len(block.rows) else None


class Row:
    """One row of a block: the figures of one worker, one queue, ..."""

    __slots__ = ("_fields", "_geometry", "_words", "block", "index", "labels")

    def __init__(self, snapshot: Snapshot, block: Block, index: int, labels: dict[str, str]) -> None:
        start = (block.offset + block.stride * index) // 8
        self.block = block
        self.index = index
        self.labels = labels
        self._words = snapshot.words[start : start + block.stride // 8]
        self._fields = snapshot.layout.fields[block.name]
        self._geometry = snapshot.layout.description.histogram

    @property
    def fields(self) -> tuple[Field, ...]:
        return self.block.fields

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def value(self, name: str) -> int:
        """A counter, gauge or internal word. KeyError: this daemon's version does not count that."""
        value: int = self._words[self._fields[name].word]
        return value

    def get(self, name: str, default: int = 0) -> int:
        """As `value`, for figures that an older daemon may not have."""
        return self.value(name) if name in self._fields else default

    def state(self, name: str) -> str:
        """Name of an enum's value, lower case."""
        field, value = self._fields[name], self.value(name)
        return field.states[value] if value < len(field.states) else f"unknown_{value}"

    def histogram(self, name: str) -> Histogram:
        field = self._fields[name]
        if field.kind != "histogram":
            raise KeyError(f"{self.block.name}.{name} is a {field.kind}, no histogram")
        words = self._words[field.word : field.word + 4 + self._geometry.buckets]
        return Histogram.from_words(self._geometry, words.tolist())


class Snapshot:
    """The segment at one moment."""

    def __init__(
        self, layout: Layout, header: Header, words: memoryview, taken_ns: int, wall_ns: int, inode: int
    ) -> None:
        self.layout = layout
        self.header = header
        self.words = words
        self.taken_ns = taken_ns  # CLOCK_MONOTONIC
        self.wall_ns = wall_ns  # CLOCK_REALTIME
        self.inode = inode
        daemon = self.daemon
        self.identity = Identity(daemon.get("pid"), daemon.get("pid_start_ticks"), daemon.get("pid_namespace"))
        # Looked at now: the answer belongs to this moment as the figures do.
        self.stale = not self.identity.alive(daemon.get("heartbeat_ns"), taken_ns)

    @property
    def info(self) -> Info:
        return self.layout.info

    @property
    def created_ns(self) -> int:
        """CLOCK_REALTIME at which the segment was made: tells one life of the daemon from the next."""
        return self.header.created_ns

    @property
    def daemon(self) -> Row:
        try:
            return self.rows("daemon")[0]
        except (KeyError, IndexError):
            raise shm.Invalid("the statistics have no row about the daemon itself") from None

    @property
    def blocks(self) -> tuple[str, ...]:
        return tuple(self.layout.blocks)

    def rows(self, block: str) -> list[Row]:
        """The rows that stand for something. KeyError: this daemon's version has no such block."""
        b = self.layout.blocks[block]
        return [Row(self, b, i, labels) for i, labels in self.layout.rows(b)]

    def total(self, block: str, name: str) -> int:
        """Sum over the rows of a block."""
        return sum(row.get(name) for row in self.rows(block))

    def heartbeat_age_ns(self, row: Row) -> int | None:
        """How long ago the writer of a row with a heartbeat (daemon, worker) was last seen alive; None: never."""
        beat = row.get("heartbeat_ns")
        return max(self.taken_ns - beat, 0) if beat else None


class Delta:
    """What happened between two snapshots. Where the daemon was started anew in between, what happened since."""

    def __init__(self, before: Snapshot, after: Snapshot) -> None:
        self.before = before
        self.after = after
        self.restarted = before.created_ns != after.created_ns
        self.seconds = max(after.taken_ns - before.taken_ns, 1) / 1e9
        self._rows: dict[str, dict[tuple[tuple[str, str], ...], Row]] = {}

    def previous(self, row: Row) -> Row | None:
        """The same worker, queue, ... in the earlier snapshot."""
        if self.restarted or row.block.name not in self.before.layout.blocks:
            return None
        rows = self._rows.get(row.block.name)
        if rows is None:
            rows = {tuple(r.labels.items()): r for r in self.before.rows(row.block.name)}
            self._rows[row.block.name] = rows
        return rows.get(tuple(row.labels.items()))

    def change(self, row: Row, name: str) -> int:
        """By how much a counter went up. One that went down was begun anew."""
        before, now = self.previous(row), row.get(name)
        then = before.get(name) if before is not None else 0
        return now - then if now >= then else now

    def row_rate(self, row: Row, name: str) -> float:
        return self.change(row, name) / self.seconds

    def rate(self, block: str, name: str) -> float:
        """Per second, all rows of a block together."""
        return sum(self.change(row, name) for row in self.after.rows(block)) / self.seconds

    def ratio(self, row: Row, part: str, whole: str) -> float:
        """E.g. busy_ns of run_ns: 0 where nothing happened."""
        base = self.change(row, whole)
        return self.change(row, part) / base if base else 0.0

    def histogram(self, row: Row, name: str) -> Histogram:
        """What was recorded in between: percentiles of the window."""
        before, now = self.previous(row), row.histogram(name)
        return now - before.histogram(name) if before is not None and name in before else now
