"""The vocabulary in which the schema is written: what a layout can consist of.

Two families live here. *Statistics* are blocks of u64 words with a single writer, self-described in the segment.
*Structs and enums* are fixed layouts that two processes, or a process and the kernel, read with the same eyes.
This module knows nothing of particular fields (schema.py) nor of output formats (generate.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

StatKind = Literal["counter", "gauge", "enum", "histogram", "internal"]
Home = Literal["bpf", "native"]

# Log-linear histogram geometry: 32 linear steps per power of two bound the width of a bucket to 1/32 of its value,
# so a midpoint is at most 1.6 % off and an edge at most 3.1 %. Values up to 2^40 ns (18 minutes) have a bucket of their own.
HIST_SUB_BITS = 5
HIST_SUB = 1 << HIST_SUB_BITS
HIST_MAX_BITS = 40
HIST_BUCKETS = (HIST_MAX_BITS - HIST_SUB_BITS + 1) * HIST_SUB
HIST_WORDS = 4 + HIST_BUCKETS  # count, sum, min, max, buckets


@dataclass(frozen=True, slots=True)
class Stat:
    """One statistic: `words` u64 words at a fixed place of its block.

    metric  name in Prometheus without the `afterburner_` prefix; empty: not exported
    unit    "ns" and "ticks" are converted to seconds on the way out; "bytes", "packets" ... stay as they are
    labels  constant labels beside those of the block, e.g. (("reason", "checksum"),)
    states  for kind "enum": the name of the schema enum whose members the value counts through
    """

    name: str
    kind: StatKind
    unit: str
    help: str
    metric: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    states: str = ""

    @property
    def words(self) -> int:
        return HIST_WORDS if self.kind == "histogram" else 1


@dataclass(frozen=True, slots=True)
class Block:
    """A run of statistics that one process writes; `per` says what one instance of it stands for."""

    name: str
    writer: Literal["supervisor", "data plane"]
    per: Literal["daemon", "reason", "worker", "queue", "rule"]
    help: str
    stats: tuple[Stat, ...]

    @property
    def words(self) -> int:
        # 16 words are two cache lines: neighbours of different writers never share one, nor an adjacent-line prefetch.
        used = sum(s.words for s in self.stats)
        return (used + 15) // 16 * 16


@dataclass(frozen=True, slots=True)
class Derived:
    """A metric that stands in no word: the exporter works it out when it is asked."""

    metric: str
    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    help: str


@dataclass(frozen=True, slots=True)
class Field:
    """A member of a fixed-layout struct. `type` is u8, u16, u32, u64 or the name of another struct."""

    type: str
    name: str
    help: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Struct:
    name: str
    home: Home
    help: str
    fields: tuple[Field, ...]
    size: int  # guarded by a static assert: changing a layout is a decision, not an accident


@dataclass(frozen=True, slots=True)
class Enum:
    """`members` are (NAME, help) in order of value, counted from zero."""

    name: str
    prefix: str
    home: Home
    help: str
    members: tuple[tuple[str, str], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Constant:
    name: str
    home: Home
    value: int
    help: str
