"""The record ring: what a worker captured, in POSIX shared memory `/<name>.records.<worker>`, for any number of readers.

    0     header: magic, geometry, `head` (number of the next record) on a cache line of its own
    256   slot 0 | slot 1 | ... | slot (slots - 1)         record n lies in slot n mod slots

The supervisor lays a ring out (`Ring.create`) and hands it to the data plane, whose C code alone writes it (record.h,
which also says in which order). Nobody writes for a reader: it maps the ring read-only, and the writer never looks at it.

Reading takes a run of slots with one copy and asks afterwards how far the writer has come. The writer publishes `head`
= h before it touches the slot of record h, which is that of record h - slots: so whatever is younger than that was whole
while it was copied. Numbers are dense, so what was overtaken is known exactly, and counted.

Mode 0640: what a trading host captures is for its group. The mapping of a reader lives on the trust that the file's owner
does not cut it short (that would be a SIGBUS); a ring that others than its owner may write is refused.
"""

from __future__ import annotations

import mmap
import os
import time
from typing import Literal

from . import shm
from .layout import RECORD_MAGIC, VERSION, Record, RecordRing

# Where a reader begins: with the next record to come, the oldest still there, or the very first (those gone count as lost).
Start = Literal["next", "oldest", "first"]

HEAD_WORD = RecordRing.OFFSETS["head"] // 8
KIND = "records"
MODE = 0o640
CREATED_WORD = RecordRing.OFFSETS["created_ns"] // 8
SLOT_ALIGN = 64
SLOT_LIMIT = 1 << 20


def ring_name(name: str, worker: int) -> str:
    return shm.name_of(name, KIND, worker)


def rings_of(name: str) -> list[int]:
    """Workers that have a ring under this name now."""
    return shm.workers_of(name, KIND)


class Ring:
    """A ring as its maker sees it: to be handed over by descriptor. Its daemon must own the name (see Segment.create)."""

    def __init__(self, name: str, worker: int, fd: int, size: int) -> None:
        self.name = name
        self.worker = worker
        self.fd = fd
        self.size = size

    @classmethod
    def create(cls, name: str, worker: int, slots: int, slot_bytes: int, gid: int = -1) -> Ring:
        """Makes an empty ring, in place of one that an earlier daemon left. `gid`: group that may read, -1: our own."""
        if slots <= 0 or slots & (slots - 1):
            raise ValueError(f"records.slots = {slots}: must be a power of two")
        if slot_bytes % SLOT_ALIGN or not Record.SIZE + SLOT_ALIGN <= slot_bytes <= SLOT_LIMIT:
            raise ValueError(
                f"records.slot_bytes = {slot_bytes}: must be a multiple of {SLOT_ALIGN}, "
                f"from {Record.SIZE + SLOT_ALIGN} to {SLOT_LIMIT}"
            )
        size = RecordRing.SIZE + slots * slot_bytes
        header = RecordRing(
            magic=RECORD_MAGIC,
            version=VERSION,
            slot_bytes=slot_bytes,
            slots=slots,
            worker=worker,
            created_ns=time.time_ns(),
        )
        fd = shm.create(size)
        try:
            os.pwrite(fd, header.pack(), 0)
            if gid >= 0:
                os.fchown(fd, -1, gid)
            shm.publish_anew(fd, name, KIND, worker, MODE)
        except BaseException:
            os.close(fd)
            raise
        return cls(name, worker, fd, size)

    def close(self) -> None:
        """Closes; the ring and its name stay."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def unlink(self) -> None:
        shm.unlink(ring_name(self.name, self.worker))


def remove_rings(name: str, keep: int = 0) -> None:
    """Removes the rings of workers `keep` and up: of an earlier daemon that had more of them, or at the end (keep = 0)."""
    shm.remove_workers(name, KIND, keep)


class RingReader:
    """Reads one worker's ring from a position of its own. `lost` counts the records that it was too late for."""

    def __init__(self, name: str, worker: int, start: Start) -> None:
        full = ring_name(name, worker)
        self.path = shm.path_of(full)
        self.worker = worker
        self.lost = 0
        fd, info = shm.open_readonly(full)
        try:
            if info.st_mode & 0o022:
                raise shm.Invalid(f"{self.path}: others than its owner may write it; remove it: rm {self.path}")
            if info.st_size < RecordRing.SIZE:
                raise self._invalid(f"{info.st_size} bytes long")
            self._map = mmap.mmap(fd, info.st_size, prot=mmap.PROT_READ)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self._bytes = memoryview(self._map)
        self._words = self._bytes[: RecordRing.SIZE].cast("Q")
        self.header = RecordRing.unpack(self._bytes)
        try:
            self._check(info.st_size)
        except BaseException:
            self.close()
            raise
        self.slots = self.header.slots
        self.slot_bytes = self.header.slot_bytes
        head = self._words[HEAD_WORD]
        self.next = {"next": head, "oldest": max(head - self.slots + 1, 0), "first": 0}[start]

    @property
    def behind(self) -> int:
        """Records that were written and not yet read."""
        head: int = self._words[HEAD_WORD]
        return 0 if self._laid_out_anew else head - self.next

    @property
    def _laid_out_anew(self) -> bool:
        return bool(self._words[CREATED_WORD] != self.header.created_ns)

    @property
    def removed(self) -> bool:
        """The ring has lost its name: its daemon stopped, or made it anew. What is in it can still be read.

        Also where it was laid out anew in place, which ours do not do: then there is nothing left to be read.
        """
        return os.fstat(self._fd).st_nlink == 0 or self._laid_out_anew

    def read(self, limit: int) -> list[bytes]:
        """Up to `limit` records (slots, in order), at once; none where nothing is new."""
        words, slots, size = self._words, self.slots, self.slot_bytes
        head = words[HEAD_WORD]
        first = self.next
        if head <= first or self._laid_out_anew:
            return []
        # Record head - slots is out of reach: its slot is the next to be written, and may be in the middle of it.
        first = max(first, head - slots + 1)
        count = min(head - first, limit, slots - first % slots)
        start = RecordRing.SIZE + first % slots * size
        copy = bytes(self._bytes[start : start + count * size])
        safe = words[HEAD_WORD] - slots + 1  # read after the copy: x86-64 keeps the order of loads
        if safe > first:
            overtaken = min(safe - first, count)
            copy = copy[overtaken * size :]
            count -= overtaken
            first += overtaken
        self.lost += first - self.next
        self.next = first + count
        return [copy[i * size : (i + 1) * size] for i in range(count)]

    def close(self) -> None:
        if self._fd >= 0:
            self._words.release()
            self._bytes.release()
            self._map.close()
            os.close(self._fd)
            self._fd = -1

    def _check(self, size: int) -> None:
        h = self.header
        if h.magic != RECORD_MAGIC:
            raise self._invalid("its first bytes are not those of a record ring")
        if h.version != VERSION:
            raise self._invalid(
                f"of layout version {h.version}, this reader knows {VERSION}: use the daemon's own client"
            )
        if h.slots == 0 or h.slots & (h.slots - 1) or h.slot_bytes % 8 or h.slot_bytes < Record.SIZE:
            raise self._invalid(f"{h.slots} slots of {h.slot_bytes} bytes")
        if RecordRing.SIZE + h.slots * h.slot_bytes > size:
            raise self._invalid(f"{h.slots} slots of {h.slot_bytes} bytes in {size} bytes")

    def _invalid(self, what: str) -> shm.Invalid:
        return shm.Invalid(f"{self.path}: not a record ring that can be read here ({what})")
