"""A writer of record rings for tests: record.h in Python, store by store, and real transactions to put into it."""

from __future__ import annotations

import mmap
import time

from afterburnerd.abi.layout import Record, RecordKind, RecordRing, Tx
from afterburnerd.abi.records import HEAD_WORD, Ring
from afterburnerd.native import lib


class Writer:
    """Writes into the ring that `fd` names. One writer a ring."""

    def __init__(self, fd: int) -> None:
        self.map = mmap.mmap(fd, 0)
        self.header = RecordRing.unpack(self.map)
        self.words = memoryview(self.map).cast("Q")
        self.head = self.header.head

    @classmethod
    def to(cls, ring: Ring) -> Writer:
        return cls(ring.fd)

    def write(self, payload: bytes, record: Record) -> int:
        """Publishes one record and returns its number."""
        n, slot_bytes = self.head, self.header.slot_bytes
        at = RecordRing.SIZE + n % self.header.slots * slot_bytes
        stored = payload[: slot_bytes - Record.SIZE]
        head = bytearray(record.pack())
        head[0:8] = (2 * n + 1).to_bytes(8, "little")
        head[Record.OFFSETS["length"] : Record.OFFSETS["length"] + 2] = len(payload).to_bytes(2, "little")
        head[Record.OFFSETS["stored"] : Record.OFFSETS["stored"] + 2] = len(stored).to_bytes(2, "little")
        self.words[at // 8] = 2 * n + 1
        self.map[at + 8 : at + Record.SIZE] = bytes(head[8:])
        self.map[at + Record.SIZE : at + Record.SIZE + len(stored)] = stored
        self.words[at // 8] = 2 * n + 2
        self.head += 1
        self.words[HEAD_WORD] = self.head
        return n

    def capture(self, payload: bytes, **fields: int | bytes) -> int:
        """As a worker does: decodes, and writes down what it found."""
        tx = Tx.unpack(lib.tx_decode(payload))
        kind = RecordKind.MALFORMED if tx.reason else RecordKind.TRANSACTION
        times = {"time_ns": time.time_ns(), "mono_ns": time.monotonic_ns()}
        return self.write(payload, Record(**{"tx": tx, "kind": kind, "reason": tx.reason, **times, **fields}))  # type: ignore[arg-type]

    def close(self) -> None:
        self.words.release()
        self.map.close()
