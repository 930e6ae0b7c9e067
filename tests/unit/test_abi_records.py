"""The record ring: wrap-around, exact losses, independence of readers, and no belief in what is found under a name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from afterburnerd.abi import shm
from afterburnerd.abi.layout import VERSION, Record, RecordKind, RecordRing
from afterburnerd.abi.records import Ring, RingReader, remove_rings, rings_of
from tests.record_writer import Writer

SLOT = Record.SIZE + 64


@pytest.fixture
def ring(name: str) -> Iterator[Ring]:
    ring = Ring.create(name, 0, 8, SLOT)
    yield ring
    ring.close()


def fill(writer: Writer, count: int) -> None:
    for _ in range(count):
        writer.write(writer.head.to_bytes(8, "little"), Record(tx=layout_tx(), kind=RecordKind.DATAGRAM))


def layout_tx() -> object:
    from afterburnerd.abi.layout import Tx

    return Tx()


def numbers(slots: list[bytes]) -> list[int]:
    """Of each slot, checked against its payload."""
    found = []
    for slot in slots:
        n = Record.unpack(slot).seq // 2 - 1
        assert int.from_bytes(slot[Record.SIZE : Record.SIZE + 8], "little") == n
        found.append(n)
    return found


def drain(reader: RingReader, limit: int = 100) -> list[int]:
    found = []
    while slots := reader.read(limit):
        found += numbers(slots)
    return found


def test_an_empty_ring_holds_nothing(name: str, ring: Ring) -> None:
    for start in ("next", "oldest", "first"):
        reader = RingReader(name, 0, start)  # type: ignore[arg-type]
        assert (reader.read(10), reader.lost, reader.behind) == ([], 0, 0)
        reader.close()


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_a_reader_that_keeps_up_sees_everything_over_many_rounds(name: str, ring: Ring, limit: int) -> None:
    writer, reader = Writer.to(ring), RingReader(name, 0, "first")
    seen = []
    for step in (1, 7, 3, 5, 2, 7, 7, 1, 4) * 5:
        fill(writer, step)
        seen += drain(reader, limit)
    assert seen == list(range(writer.head))
    assert reader.lost == 0
    reader.close()
    writer.close()


@pytest.mark.parametrize("written", [7, 8, 9, 15, 16, 17, 1000])
def test_a_slow_reader_knows_exactly_how_many_it_lost(name: str, ring: Ring, written: int) -> None:
    writer, reader = Writer.to(ring), RingReader(name, 0, "first")
    fill(writer, written)
    seen = drain(reader)
    # seven of eight slots hold whole records: the eighth is the writer's next
    assert seen == list(range(max(written - 7, 0), written))
    assert reader.lost == written - len(seen)
    reader.close()
    writer.close()


def test_where_a_reader_begins(name: str, ring: Ring) -> None:
    writer = Writer.to(ring)
    fill(writer, 20)
    readers = [RingReader(name, 0, start) for start in ("next", "oldest", "first")]  # type: ignore[arg-type]
    fill(writer, 1)
    assert [drain(r) for r in readers] == [[20], list(range(14, 21)), list(range(14, 21))]
    assert [r.lost for r in readers] == [0, 1, 14]
    for reader in readers:
        reader.close()
    writer.close()


def test_readers_do_not_know_of_each_other(name: str, ring: Ring) -> None:
    writer = Writer.to(ring)
    quick, slow = RingReader(name, 0, "next"), RingReader(name, 0, "next")
    seen = []
    for _ in range(5):
        fill(writer, 4)
        seen += drain(quick)
    assert (seen, quick.lost) == (list(range(20)), 0)
    assert (drain(slow), slow.lost) == (list(range(13, 20)), 13)
    quick.close()
    slow.close()
    writer.close()


def test_what_is_overtaken_while_it_is_copied_is_not_delivered(
    name: str, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer laps the reader between its look at the head and the end of its copy."""
    writer, reader = Writer.to(ring), RingReader(name, 0, "first")
    fill(writer, 7)

    class Lapping:
        """The reader's view of the ring's bytes, in whose copying the writer comes round."""

        def __init__(self, view: memoryview) -> None:
            self.view = view

        def __getitem__(self, part: slice) -> bytes:
            before = bytes(self.view[part])[: 3 * SLOT]
            fill(writer, 5)
            return before + bytes(self.view[part])[3 * SLOT :]  # a copy torn in the middle

        def release(self) -> None:
            self.view.release()

    monkeypatch.setattr(reader, "_bytes", Lapping(reader._bytes))
    first = reader.read(7)
    assert numbers(first) == [5, 6]  # 0..4 were overwritten or about to be
    assert reader.lost == 5
    reader.close()
    writer.close()


def test_a_record_left_half_written_by_a_killed_writer_is_not_seen(name: str, ring: Ring) -> None:
    writer, reader = Writer.to(ring), RingReader(name, 0, "first")
    fill(writer, 10)
    at = (RecordRing.SIZE + writer.head % 8 * SLOT) // 8
    writer.words[at] = 2 * writer.head + 1  # begun, never finished: slot of record 2
    assert drain(reader) == list(range(3, 10))
    writer.close()
    again = Writer.to(ring)
    fill(again, 1)
    assert drain(reader) == [10]
    again.close()
    reader.close()


def test_a_ring_replaces_a_dead_daemons(name: str, ring: Ring) -> None:
    reader = RingReader(name, 0, "first")
    other = Ring.create(name, 0, 16, SLOT)
    assert reader.removed
    fresh = RingReader(name, 0, "first")
    assert (fresh.slots, fresh.removed) == (16, False)
    assert fresh.header.created_ns > reader.header.created_ns
    for r in (reader, fresh, other):
        r.close()


def test_rings_of_workers_that_are_no_more_are_removed(name: str) -> None:
    rings = [Ring.create(name, worker, 8, SLOT) for worker in range(4)]
    assert rings_of(name) == [0, 1, 2, 3]
    remove_rings(name, keep=2)
    assert rings_of(name) == [0, 1]
    remove_rings(name)
    assert rings_of(name) == []
    for r in rings:
        r.close()


def test_only_the_group_may_read(name: str, ring: Ring) -> None:
    assert shm.path_of(f"{name}.records.0").stat().st_mode & 0o7777 == 0o640


@pytest.mark.privileged
def test_a_reader_without_permission_is_told_so(name: str) -> None:
    ring = Ring.create(name, 0, 8, SLOT, gid=4711)
    for groups, expected in (([4711], 0), ([4712], 77)):
        child = os.fork()
        if child == 0:
            os.setgroups(groups)
            os.setgid(4713)
            os.setuid(4713)
            try:
                RingReader(name, 0, "next")
                os._exit(0)
            except shm.Forbidden as e:
                os._exit(e.exit_code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == expected
    ring.close()


@pytest.mark.privileged
def test_a_strangers_ring_is_not_removed(name: str) -> None:
    path = shm.path_of(f"{name}.records.0")
    path.write_bytes(b"")
    os.chown(path, 4711, 4711)
    child = os.fork()
    if child == 0:
        os.setuid(4712)
        try:
            Ring.create(name, 0, 8, SLOT)
        except shm.Invalid as e:
            os._exit(0 if "belongs to uid 4711" in str(e) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert path.stat().st_uid == 4711


def test_a_ring_that_others_may_write_is_refused(name: str, ring: Ring) -> None:
    shm.path_of(f"{name}.records.0").chmod(0o660)
    with pytest.raises(shm.Invalid, match="others than its owner may write it"):
        RingReader(name, 0, "next")


@pytest.mark.parametrize(
    "change",
    [
        {"magic": 1},
        {"version": VERSION + 1},
        {"slots": 0},
        {"slots": 7},
        {"slots": 1 << 60},
        {"slot_bytes": 0},
        {"slot_bytes": 121},
        {"slot_bytes": 1 << 62},
    ],
)
def test_a_header_that_lies_is_refused_and_nothing_leaks(name: str, ring: Ring, change: dict[str, int]) -> None:
    header = {"magic": ring_header(ring).magic, "version": VERSION, "slots": 8, "slot_bytes": SLOT} | change
    os.pwrite(ring.fd, RecordRing(**header).pack(), 0)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(shm.Invalid, match="not a record ring that can be read here"):
        RingReader(name, 0, "next")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def ring_header(ring: Ring) -> RecordRing:
    return RecordRing.unpack(os.pread(ring.fd, RecordRing.SIZE, 0))


@pytest.mark.parametrize(("slots", "slot_bytes"), [(0, SLOT), (7, SLOT), (-8, SLOT), (8, 128), (8, 1400), (8, 1 << 21)])
def test_a_shape_that_cannot_be_is_refused(name: str, slots: int, slot_bytes: int) -> None:
    with pytest.raises(ValueError, match="must be a"):
        Ring.create(name, 0, slots, slot_bytes)
    assert rings_of(name) == []
