"""The statistics segment, as its maker sees it: POSIX shared memory `/<name>.stats`, mode 0644.

The supervisor makes it, hands its descriptor and byte offsets to the data plane, and writes its own blocks. Every word
is an aligned u64 with one writer, so nobody locks anything: a reader may look at any time, also when both
processes are dead. That is why it outlives them, and why the next start has to tell a dead one's from a living one's.

    0            header (layout.Segment)
    128          daemon  xdp[reason]  kernel[worker, slot]  worker[w]  queue[worker, slot]  rule[worker, rule]
    text area    two halves; the header's text_offset names the one in force

The description is replaced by writing the free half and then turning `text_offset`, one word, under the sequence count
`text_seq` (odd while it is being turned): a supervisor killed in the middle leaves either text whole.

Replacing a dead daemon's segment is a race with anybody else who starts. The old file is moved aside and looked at again
before it is thrown away; one that turned out to be a living daemon's, made in between, gets its name back.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from enum import Enum

import msgspec

from . import shm
from .description import Block, Description, Field, Info, describe
from .histogram import record
from .layout import MAGIC, VERSION
from .layout import Segment as Header
from .process import Identity
from .stats import StatsReader

# Room for the changing part of the description: 64 workers of 64 queues and 64 rule names of 64 bytes take 17 KiB.
INFO_BYTES = 32 * 1024
PAGE = 4096


def segment_name(name: str) -> str:
    return f"{name}.stats"


class Standing(Enum):
    """What lies under a name."""

    NONE = "none"
    STALE = "stale"  # of a daemon that is dead, or not readable as a segment
    LIVE = "live"


class Inspection(msgspec.Struct, frozen=True):
    standing: Standing
    pid: int = 0
    inode: int = 0
    detail: str = ""


class Segment:
    """Owner of a segment: `create`, then `set`/`add` on the supervisor's own blocks."""

    def __init__(self, name: str, fd: int, size: int, description: Description, text_offset: int, half: int) -> None:
        self.name = name
        self.fd = fd
        self.size = size
        self.description = description
        self._text_offset = text_offset
        self._half = half
        self._map = mmap.mmap(fd, size)
        self._all = memoryview(self._map).cast("Q")
        self._blocks: dict[str, Block] = {b.name: b for b in description.blocks}
        self._fields: dict[str, dict[str, Field]] = {b.name: {f.name: f for f in b.fields} for b in description.blocks}
        self._views: dict[tuple[str, int], memoryview] = {}
        self._inode = os.fstat(fd).st_ino
        self.replaced = ""  # what was wrong with the dead daemon's segment that stood in the place of this one

    @classmethod
    def create(cls, name: str, workers: int, queues: int, rules: int, info: Info) -> Segment:
        """Makes `/<name>.stats` for `workers` workers of `queues` queue slots and `rules` rules each.

        A dead daemon's segment is replaced. A living one's is not: InUse says whose it is.
        """
        description = describe(workers, queues, rules, info)
        last = description.blocks[-1]
        text_offset = _round(last.offset + last.stride * last.count, PAGE)
        half = _round(len(msgspec.json.encode(description)) + INFO_BYTES, PAGE)
        size = text_offset + 2 * half
        fd = shm.create(size)
        segment = None
        try:
            segment = cls(name, fd, size, description, text_offset, half)
            header = Header(
                magic=MAGIC,
                version=VERSION,
                total_bytes=size,
                created_ns=time.time_ns(),
                text_offset=text_offset + half,
                text_capacity=half,
            )
            segment._map[: Header.SIZE] = header.pack()
            segment.set_info(info)
            segment.identify()
            segment._publish()
        except BaseException:
            if segment is not None:
                segment.close()
            else:
                os.close(fd)
            raise
        return segment

    @staticmethod
    def inspect(name: str) -> Inspection:
        """What lies under the name now. Invalid where it is another user's: that is not ours to judge or to remove."""
        full = segment_name(name)
        path = shm.path_of(full)
        try:
            fd, info = shm.open_readonly(full)
        except shm.NotThere:
            return Inspection(Standing.NONE)
        os.close(fd)
        if info.st_uid != os.geteuid() and os.geteuid() != 0:
            raise shm.Invalid(
                f"{path} belongs to uid {info.st_uid}, not to uid {os.geteuid()} that we run as: "
                f"choose another daemon.name, or remove it as its owner: rm {path}"
            )
        try:
            with StatsReader.open(name) as reader:
                snapshot = reader.read()
        except shm.NotThere:
            return Inspection(Standing.NONE)
        except shm.Invalid as e:
            return Inspection(Standing.STALE, inode=info.st_ino, detail=str(e))
        writer = snapshot.identity
        if snapshot.stale or not _belongs(writer, info.st_uid):
            return Inspection(Standing.STALE, writer.pid, snapshot.inode, f"its process {writer.pid} is gone")
        return Inspection(Standing.LIVE, writer.pid, snapshot.inode, f"process {writer.pid} is running")

    def offset(self, block: str, index: int = 0) -> int:
        """Byte offset of a row: what the data plane gets beside `fd`."""
        b = self._blocks[block]
        if not 0 <= index < b.count:
            raise IndexError(f"segment {self.name}: block {block} has {b.count} rows, no row {index}")
        return b.offset + b.stride * index

    def queue_row(self, worker: int, slot: int) -> int:
        """Row of the `queue` and `kernel` blocks for the slot-th queue of a worker."""
        return worker * self.description.queues + slot

    def rule_row(self, worker: int, rule: int) -> int:
        return worker * self.description.rules + rule

    def words(self, block: str, index: int = 0) -> memoryview:
        """The words of a row (format 'Q'). A view is the segment's: after close() it is released."""
        key = (block, index)
        view = self._views.get(key)
        if view is None:
            start = self.offset(block, index) // 8
            view = self._all[start : start + self._blocks[block].stride // 8]
            self._views[key] = view
        return view

    def set(self, block: str, index: int, name: str, value: int) -> None:
        self.words(block, index)[self._fields[block][name].word] = value

    def add(self, block: str, index: int, name: str, value: int = 1) -> None:
        """Read, add, write: right only for the single writer of the block."""
        view, word = self.words(block, index), self._fields[block][name].word
        view[word] = (view[word] + value) & 0xFFFF_FFFF_FFFF_FFFF

    def record(self, block: str, index: int, name: str, value: int) -> None:
        """Adds a value to a histogram."""
        words = self.words(block, index)
        with words[self._fields[block][name].word :] as histogram:
            record(self.description.histogram, histogram, value)

    def get(self, block: str, index: int, name: str) -> int:
        value: int = self.words(block, index)[self._fields[block][name].word]
        return value

    def clear(self, block: str, index: int) -> None:
        """Zeroes a row whose meaning changed (another rule, another queue). Its writer must be at rest."""
        view = self.words(block, index)
        view[:] = memoryview(bytes(len(view) * 8)).cast("Q")

    def set_info(self, info: Info) -> None:
        """Replaces the changing part of the description, where it is another one."""
        if info == self.description.info and self._all[Header.OFFSETS["text_bytes"] // 8]:
            return
        description = msgspec.structs.replace(self.description, info=info)
        text = msgspec.json.encode(description)
        if len(text) >= self._half:
            raise shm.ShmError(
                f"segment {self.name}: its description takes {len(text)} bytes, {self._half - 1} are there: shorten rule names"
            )
        word = {name: offset // 8 for name, offset in Header.OFFSETS.items()}
        free = (
            self._text_offset if self._all[word["text_offset"]] != self._text_offset else self._text_offset + self._half
        )
        self._map[free : free + len(text) + 1] = text + b"\0"
        # x86-64 keeps the order of stores; elsewhere the reader finds a text that does not parse and looks again.
        self._all[word["text_seq"]] += 1
        self._all[word["text_bytes"]] = len(text)
        self._all[word["text_offset"]] = free
        self._all[word["text_seq"]] += 1
        self.description = description

    def identify(self, identity: Identity | None = None) -> None:
        """Writes down whose segment this is (after a fork: again)."""
        own = identity or Identity.own()
        self.set("daemon", 0, "pid", own.pid)
        self.set("daemon", 0, "pid_start_ticks", own.start_ticks)
        self.set("daemon", 0, "pid_namespace", own.namespace)
        self.set("daemon", 0, "heartbeat_ns", time.monotonic_ns())

    def close(self) -> None:
        """Unmaps and closes; the file and its name stay."""
        if self.fd < 0:
            return
        for view in self._views.values():
            view.release()
        self._views.clear()
        self._all.release()
        self._map.close()
        os.close(self.fd)
        self.fd = -1

    def unlink(self) -> None:
        """Removes the name, if it is still this segment's."""
        full = segment_name(self.name)
        try:
            same = shm.path_of(full).lstat().st_ino == self._inode
        except FileNotFoundError:
            return
        if same:
            shm.unlink(full)

    def _publish(self) -> None:
        full = segment_name(self.name)
        path = shm.path_of(full)
        for _ in range(8):  # each turn somebody else made progress; eight of them in a row do not happen
            if shm.publish(self.fd, full, 0o644):
                return
            found = self.inspect(self.name)
            if found.standing is Standing.LIVE:
                raise shm.InUse(
                    f"a daemon named {self.name!r} is running already (process {found.pid}, {path}): "
                    "stop it, or set another daemon.name in the configuration"
                )
            if found.standing is Standing.STALE:
                throw_away(full, found.inode)
                self.replaced = found.detail
        raise shm.InUse(f"{path}: other daemons named {self.name!r} are starting at the same time: start only one")


def throw_away(full: str, inode: int) -> None:
    """Removes the file that was inspected, and no other."""
    aside = f"{full}.old-{os.getpid()}-{time.monotonic_ns()}"
    try:
        shm.path_of(full).rename(shm.path_of(aside))
    except FileNotFoundError:
        return
    except PermissionError:
        path = shm.path_of(full)
        raise shm.Forbidden(
            f"{path}: not ours to replace (uid {os.geteuid()}): remove it as its owner: rm {path}"
        ) from None
    if shm.path_of(aside).lstat().st_ino != inode:
        with contextlib.suppress(FileExistsError):  # a third one was quicker; the caller finds it
            os.link(shm.path_of(aside), shm.path_of(full), follow_symlinks=False)
    shm.unlink(aside)


def _belongs(identity: Identity, uid: int) -> bool:
    """A file that root finds may name any process as its maker; it counts only if that process is its owner's."""
    return os.geteuid() != 0 or uid == 0 or identity.uid() in (uid, None)


def _round(value: int, to: int) -> int:
    return (value + to - 1) // to * to
