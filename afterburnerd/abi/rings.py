"""Rings of commands and events between supervisor and worker, the supervisor's side of them (native/quic_ring.h has the other).

    Ring.create("commands", slots, QUIC_COMMAND_BYTES) -> Producer(ring).put(QuicCommand(...), body)
    Ring.create("events", slots, QUIC_EVENT_BYTES)     -> Consumer(ring).take()

The memory is an anonymous memfd that goes to the data plane with the order that opens the engine, and to nobody else:
commands carry secrets. It is sealed against being cut short, kept out of core files, and a slot that held a secret is wiped
by whoever consumes it.

One side writes `head`, the other `tail`; a slot belongs to the producer until `head` has passed it and to the consumer until
`tail` has. A consumer that goes to sleep says so in `asleep`, and whoever puts something then rings its bell (an eventfd that is
none of the ring's business). A store to a memoryview of words is one aligned store of 8 bytes, and x86-64 keeps the order of stores and that of
loads, so what is written before `head` is seen by who has seen `head` (abi/records.py relies on the same). A ring lives as
long as its data plane: the next one gets rings of its own.

What the worker writes is not believed: it is copied out once and then read; counts that cannot be raise RingBroken, upon which
the supervisor replaces the worker.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct

from .layout import QUIC_RING_MAGIC, VERSION, QuicCommand, QuicEvent, QuicEventKind, QuicRing

HEAD_WORD = QuicRing.OFFSETS["head"] // 8
TAIL_WORD = QuicRing.OFFSETS["tail"] // 8
ASLEEP_WORD = QuicRing.OFFSETS["asleep"] // 8
LENGTH = struct.Struct("<I")
SLOT_ALIGN = 64
SLOT_LIMIT = 8192  # AB_QUIC_SLOT_MAX
SECRET_EVENTS = frozenset({QuicEventKind.KEYS, QuicEventKind.CRYPTO, QuicEventKind.TOKEN, QuicEventKind.RESET_TOKEN})


class RingBroken(Exception):
    """The other side's count or length is impossible."""


class Ring:
    """The memory of a ring: `fd` to be handed over, `words` and `bytes` to be worked on."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, size)
        self._map.madvise(mmap.MADV_DONTDUMP)
        self.bytes = memoryview(self._map)
        self.words = self.bytes[: QuicRing.SIZE].cast("Q")
        header = QuicRing.unpack(self.bytes)
        if header.magic != QUIC_RING_MAGIC or header.version != VERSION:
            raise RingBroken("no ring of this layout version")
        if QuicRing.SIZE + header.slots * header.slot_bytes > size:
            raise RingBroken(f"{header.slots} slots of {header.slot_bytes} bytes in {size} bytes")
        self.slots = header.slots
        self.slot_bytes = header.slot_bytes

    @classmethod
    def create(cls, name: str, slots: int, slot_bytes: int) -> Ring:
        """An empty ring. `name` is what /proc shows of it."""
        if slots <= 0 or slots & (slots - 1):
            raise ValueError(f"{slots} slots: must be a power of two")
        if slot_bytes % SLOT_ALIGN or not QuicCommand.SIZE < slot_bytes <= SLOT_LIMIT:
            raise ValueError(f"slots of {slot_bytes} bytes: must be a multiple of {SLOT_ALIGN}, up to {SLOT_LIMIT}")
        size = QuicRing.SIZE + slots * slot_bytes
        fd = os.memfd_create(f"afterburner-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            header = QuicRing(magic=QUIC_RING_MAGIC, version=VERSION, slot_bytes=slot_bytes, slots=slots)
            os.pwrite(fd, header.pack(), 0)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            return cls(fd, size)
        except BaseException:
            os.close(fd)
            raise

    def slot(self, number: int) -> memoryview:
        at = QuicRing.SIZE + (number % self.slots) * self.slot_bytes
        return self.bytes[at : at + self.slot_bytes]

    def close(self) -> None:
        if self.fd >= 0:
            self.words.release()
            self.bytes.release()
            self._map.close()
            os.close(self.fd)
            self.fd = -1


class Producer:
    """The side that writes commands."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self._head: int = ring.words[HEAD_WORD]

    @property
    def body_limit(self) -> int:
        """Bytes of body that fit a slot."""
        return self.ring.slot_bytes - QuicCommand.SIZE

    @property
    def room(self) -> int:
        """Commands that may be put now."""
        used = self._head - self.ring.words[TAIL_WORD]
        if not 0 <= used <= self.ring.slots:
            raise RingBroken(f"the worker has consumed {self.ring.words[TAIL_WORD]} of {self._head} commands")
        return self.ring.slots - used

    def put(self, command: QuicCommand, body: bytes | bytearray | memoryview = b"") -> bool:
        """False where the ring is full: nothing was written. `command.length` is set from the body."""
        size = len(body)
        if size > self.body_limit:
            raise ValueError(f"a body of {size} bytes; a slot has room for {self.body_limit}")
        if self.room == 0:
            return False
        slot = self.ring.slot(self._head)
        slot[: QuicCommand.SIZE] = command.pack()
        LENGTH.pack_into(slot, QuicCommand.OFFSETS["length"], size)
        slot[QuicCommand.SIZE : QuicCommand.SIZE + size] = body
        self._head += 1
        self.ring.words[HEAD_WORD] = self._head
        return True

    def wakes(self) -> bool:
        """Whether the consumer sleeps and its bell is to be rung: true once for each time that it went to sleep."""
        if not self.ring.words[ASLEEP_WORD]:
            return False
        self.ring.words[ASLEEP_WORD] = 0
        return True


class Consumer:
    """The side that reads events."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self._tail: int = ring.words[TAIL_WORD]

    @property
    def waiting(self) -> int:
        count: int = self.ring.words[HEAD_WORD] - self._tail
        if not 0 <= count <= self.ring.slots:
            raise RingBroken(f"the worker has written {self.ring.words[HEAD_WORD]} events, {self._tail} were consumed")
        return count

    def doze(self) -> bool:
        """From here on the producer rings the bell when it has put something. False: something is here already."""
        self.ring.words[ASLEEP_WORD] = 1
        if not self.waiting:
            return True
        self.wake()
        return False

    def wake(self) -> None:
        """No bell any more."""
        self.ring.words[ASLEEP_WORD] = 0

    def take(self, limit: int = 64) -> list[tuple[QuicEvent, bytes]]:
        """Up to `limit` events with their bodies, oldest first."""
        found = []
        for _ in range(min(self.waiting, limit)):
            slot = self.ring.slot(self._tail)
            copy = bytes(slot)
            event = QuicEvent.unpack(copy)
            if event.length > self.ring.slot_bytes - QuicEvent.SIZE:
                raise RingBroken(f"an event with a body of {event.length} bytes")
            if event.kind in SECRET_EVENTS:
                slot[:] = bytes(self.ring.slot_bytes)
            found.append((event, copy[QuicEvent.SIZE : QuicEvent.SIZE + event.length]))
            self._tail += 1
            self.ring.words[TAIL_WORD] = self._tail
        return found
