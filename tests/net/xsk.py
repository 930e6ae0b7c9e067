"""A receive-only AF_XDP socket in plain Python, independent of the C helper: what did the kernel put into the ring?

It owns 64 frames of 4 KiB, all of them given to FILL at the start and again once read. Slow, which does not matter here.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import select
import socket
import struct
import time
from types import TracebackType
from typing import Self

AF_XDP, SOL_XDP = 44, 283
MMAP_OFFSETS, RX_RING, UMEM_REG, FILL_RING, COMPLETION_RING = 1, 2, 4, 5, 6
PGOFF_RX, PGOFF_FILL = 0, 0x100000000
COPY, USE_SG = 1 << 1, 1 << 4
PKT_CONTD = 1  # of a descriptor: the frame goes on in the next one
FRAMES, FRAME_SIZE = 64, 4096
META = 16  # bytes in front of a frame that are shown with it

_libc = ctypes.CDLL(None, use_errno=True)


class Ring:
    def __init__(self, fd: int, offsets: tuple[int, int, int, int], entry: int, at: int) -> None:
        self.producer, self.consumer, self.entries, _flags = offsets
        self.entry = entry
        self.memory = mmap.mmap(
            fd, self.entries + FRAMES * entry, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=at
        )

    def word(self, at: int) -> int:
        return int(struct.unpack_from("<I", self.memory, at)[0])

    def set_word(self, at: int, value: int) -> None:
        struct.pack_into("<I", self.memory, at, value & 0xFFFFFFFF)

    def slot(self, index: int) -> int:
        return self.entries + (index % FRAMES) * self.entry


class Xsk:
    """Bind inside the namespace of the interface. `frames()` returns what has come, as (metadata room, frame)."""

    def __init__(self, ifindex: int, queue: int = 0, flags: int = COPY) -> None:
        self.sock = socket.socket(AF_XDP, socket.SOCK_RAW)
        self.umem = mmap.mmap(-1, FRAMES * FRAME_SIZE)
        fd = self.sock.fileno()
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.umem))
        self.sock.setsockopt(SOL_XDP, UMEM_REG, struct.pack("<QQIII4x", address, FRAMES * FRAME_SIZE, FRAME_SIZE, 0, 0))
        for ring in (FILL_RING, COMPLETION_RING, RX_RING):
            self.sock.setsockopt(SOL_XDP, ring, struct.pack("<I", FRAMES))
        raw = self.sock.getsockopt(SOL_XDP, MMAP_OFFSETS, 128)
        offsets = struct.unpack("<16Q", raw)
        self.rx = Ring(fd, offsets[0:4], 16, PGOFF_RX)
        self.fill = Ring(fd, offsets[8:12], 8, PGOFF_FILL)
        for i in range(FRAMES):
            struct.pack_into("<Q", self.fill.memory, self.fill.slot(i), i * FRAME_SIZE)
        self.fill.set_word(self.fill.producer, FRAMES)
        self._bind(ifindex, queue, flags)

    def _bind(self, ifindex: int, queue: int, flags: int) -> None:
        where = struct.pack("<HHIII", AF_XDP, flags, ifindex, queue, 0)
        deadline = time.monotonic() + 10
        while _libc.bind(self.sock.fileno(), where, len(where)) < 0:
            number = ctypes.get_errno()
            if (
                number != errno.EBUSY or time.monotonic() > deadline
            ):  # a socket just closed holds the queue for a moment
                raise OSError(number, f"bind(AF_XDP, ifindex {ifindex}, queue {queue})")
            time.sleep(0.01)

    def fileno(self) -> int:
        return self.sock.fileno()

    def frames(self, timeout: float = 10.0, least: int = 1) -> list[tuple[bytes, bytes]]:
        """At least that many frames, unless the time runs out first."""
        found: list[tuple[bytes, bytes]] = []
        deadline = time.monotonic() + timeout
        while len(found) < least and time.monotonic() < deadline:
            select.select([self.sock], [], [], max(0.0, deadline - time.monotonic()))
            found += self._drain()
        return found

    def _drain(self) -> list[tuple[bytes, bytes]]:
        at, end = self.rx.word(self.rx.consumer), self.rx.word(self.rx.producer)
        filled = self.fill.word(self.fill.producer)
        found: list[tuple[bytes, bytes]] = []
        whole, head = b"", b""
        while at != end:
            address, length, options = struct.unpack_from("<QII", self.rx.memory, self.rx.slot(at))
            if not whole:
                head = self.umem[address - META : address]
            whole += self.umem[address : address + length]
            if not options & PKT_CONTD:
                found.append((head, whole))
                whole = b""
            base = address // FRAME_SIZE * FRAME_SIZE
            struct.pack_into("<Q", self.fill.memory, self.fill.slot(filled), base)
            at, filled = at + 1 & 0xFFFFFFFF, filled + 1 & 0xFFFFFFFF
        self.rx.set_word(self.rx.consumer, at)
        self.fill.set_word(self.fill.producer, filled)
        return found

    def close(self) -> None:
        self.sock.close()
        for memory in (self.rx.memory, self.fill.memory):
            memory.close()
        with contextlib.suppress(BufferError):  # ctypes keeps an export of the area until it is collected
            self.umem.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
