"""What a statistics segment says about itself, so that a reader needs no schema of its own.

The text at the end of a segment is this module's `Description` as JSON: where each block lies, which words it has, what
they mean. `Info` is the part of it that changes while the daemon lives: which worker serves which queues, and the names
of the rules. A reader of another version decodes what it knows and leaves the rest: fields are only ever added.

Rows: a block has `count` rows of `stride` bytes. Which row stands for what follows from `per`:

    daemon    one row
    reason    row i is enum xdp_reason i; its labels are written out in `rows`
    worker    row w
    queue     row w * queues + slot; the NIC queue behind a slot is info.workers[w].queues[slot]; further slots are free
    rule      row w * rules + i; its name is info.rules[i]; further rows are free
"""

from __future__ import annotations

import msgspec

from . import schema
from .kinds import HIST_BUCKETS, HIST_MAX_BITS, HIST_SUB_BITS
from .layout import Segment as Header

ALIGN = 128  # two cache lines, as the blocks are: see kinds.Block.words


class Field(msgspec.Struct, frozen=True, omit_defaults=True):
    """One statistic of a block: kinds.Stat, plus the word at which it begins."""

    name: str
    word: int
    kind: str
    unit: str = ""
    metric: str = ""
    labels: dict[str, str] = {}
    states: tuple[str, ...] = ()
    help: str = ""


class Block(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    per: str
    writer: str
    help: str
    offset: int  # bytes from the beginning of the segment
    stride: int  # bytes from row to row
    count: int
    fields: tuple[Field, ...]
    rows: tuple[dict[str, str], ...] = ()  # labels of each row, where `per` does not give them


class Geometry(msgspec.Struct, frozen=True):
    """Log-linear histogram: count, sum, min, max, then `buckets` words (kinds.py, hist.h)."""

    sub_bits: int
    max_bits: int
    buckets: int


class WorkerInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    cpu: int = -1  # processor asked for, -1: not pinned
    queues: tuple[int, ...] = ()  # NIC queues that it serves, in order of its slots


class Info(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the supervisor tells of itself; may change while the daemon runs."""

    version: str = ""  # of the package
    interface: str = ""
    driver: str = ""
    workers: tuple[WorkerInfo, ...] = ()
    rules: tuple[str, ...] = ()  # names, by index
    extra: dict[str, str] = {}  # anything else worth showing to a person


class Description(msgspec.Struct, frozen=True):
    version: int  # of the schema
    workers: int  # rows that the segment has room for: workers,
    queues: int  # queue slots of each worker,
    rules: int  # rules of each worker
    histogram: Geometry
    blocks: tuple[Block, ...]
    info: Info = Info()


def describe(workers: int, queues: int, rules: int, info: Info) -> Description:
    """Lays the blocks of this version's schema out behind the header."""
    counts = {
        "daemon": 1,
        "reason": len(_enum("xdp_reason")),
        "worker": workers,
        "queue": workers * queues,
        "rule": workers * rules,
    }
    offset, blocks = Header.SIZE, []
    for b in schema.BLOCKS:
        word, fields = 0, []
        for s in b.stats:
            states = tuple(m.lower() for m in _enum(s.states)) if s.states else ()
            fields.append(Field(s.name, word, s.kind, s.unit, s.metric, dict(s.labels), states, s.help))
            word += s.words
        rows = tuple(_verdict(m) for m in _enum("xdp_reason")) if b.per == "reason" else ()
        blocks.append(Block(b.name, b.per, b.writer, b.help, offset, b.words * 8, counts[b.per], tuple(fields), rows))
        offset += b.words * 8 * counts[b.per]
        assert offset % ALIGN == 0
    geometry = Geometry(HIST_SUB_BITS, HIST_MAX_BITS, HIST_BUCKETS)
    return Description(schema.VERSION, workers, queues, rules, geometry, tuple(blocks), info)


def _enum(name: str) -> list[str]:
    return [member for member, _ in next(e for e in schema.ENUMS if e.name == name).members]


def _verdict(member: str) -> dict[str, str]:
    verdict, _, reason = member.lower().partition("_")
    return {"verdict": verdict, "reason": reason}
