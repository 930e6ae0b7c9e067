"""The places in the engines' tables: who may begin a handshake, and which worker a connection goes to.

    dial, Initial ──► take() ──► handshake ──┬─► fails ─────────────────────────► give_back()
       no place: CONNECTION_REFUSED          └─► ADOPT to `choose()` ──► ends ──► give_back(worker)

A server whose handshake is complete has no keys left that its client listens to, and 1-RTT keys are the engine's alone. So a
connection that no table has room for must be refused at its Initial, and a place is taken then, for handshakes as for dials of
ours. A table has more rows than places (`rows_for`): a connection that is over holds its row for three PTO more (RFC 9000 10.2),
and those must not be missing to the next one.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Container

ROWS_MORE_LEAST = 16
ROWS_MORE_SHARE = 8  # an eighth: as many ends within three PTO


def rows_for(places: int) -> int:
    """Rows of a worker's table with so many places."""
    return places + max(ROWS_MORE_LEAST, places // ROWS_MORE_SHARE)


class Places:
    """Of all workers."""

    def __init__(self) -> None:
        self.each = sys.maxsize  # of one worker
        self.workers = 1
        self.taken = 0  # handshakes and connections
        self._on: Counter[int] = Counter()  # connections by worker

    @property
    def free(self) -> bool:
        return self.taken < self.each * self.workers

    def take(self) -> None:
        self.taken += 1

    def give_back(self) -> None:
        self.taken -= 1

    def settle(self, worker: int) -> None:
        """A connection is on its way to this worker's table."""
        self._on[worker] += 1

    def leave(self, worker: int) -> None:
        self._on[worker] -= 1

    def choose(self, wanted: int, workers: Container[int]) -> int:
        """The worker that is wanted, or the emptiest where that one is full: packets cross over to it (crossing.py)."""
        if self._on[wanted] < self.each:
            return wanted
        others = [w for w in range(self.workers) if w in workers]
        return min(others, key=lambda w: self._on[w], default=wanted)
