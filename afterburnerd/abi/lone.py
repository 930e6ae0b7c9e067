"""Statistics of one worker that no daemon has: where its blocks lie in memory that is its own, and how they are read.

The layout is that of a segment (description.py) with room for one worker, without its text: whoever runs a worker for itself,
as the self-test, the lab's peer and tests do, maps SIZE bytes and hands over OFFSETS.
"""

from __future__ import annotations

import mmap
from typing import Final

from .description import Info, describe
from .layout import MAX_QUEUES, MAX_RULES

_BLOCKS = {block.name: block for block in describe(1, MAX_QUEUES, MAX_RULES, Info()).blocks}
_WORDS = {block.name: {field.name: field.word for field in block.fields} for block in _BLOCKS.values()}

SIZE: Final = max(block.offset + block.stride * block.count for block in _BLOCKS.values())
OFFSETS: Final = {
    "worker_off": _BLOCKS["worker"].offset,
    "rule_off": _BLOCKS["rule"].offset,
    "queue_off": _BLOCKS["queue"].offset,
    "queue_stride": _BLOCKS["queue"].stride,
}
"""As `native.Worker` and `orders.Setup` take them."""


def read(memory: mmap.mmap, block: str, name: str, row: int = 0) -> int:
    """The first word of a statistic; KeyError: there is none of this name."""
    found = _BLOCKS[block]
    at = found.offset + row * found.stride + 8 * _WORDS[block][name]
    return int.from_bytes(memory[at : at + 8], "little")
