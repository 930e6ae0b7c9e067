"""The C writer and the Python reader, at full speed on the same ring: nothing torn surfaces, and every loss is counted."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from afterburnerd import client
from afterburnerd.abi import shm
from afterburnerd.abi.layout import Record
from afterburnerd.abi.records import Ring, RingReader
from tests import cc

SLOT = 128 + 512


@pytest.fixture(scope="module")
def hammer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The writer of record.h, as a program of its own."""
    sources = [cc.ROOT / "tests/native/c/record_hammer.c", cc.NATIVE / "record.c"]
    return cc.program(tmp_path_factory.mktemp("hammer") / "record_hammer", *sources)


def start(hammer: Path, name: str) -> subprocess.Popen[str]:
    writer = subprocess.Popen(
        [hammer, shm.path_of(f"{name}.records.0")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout
    assert writer.stdout.readline() == "ready\n"
    return writer


def whole(slot: bytes) -> int:
    """Number of the record, after making sure that every part of it belongs to it."""
    head = Record.unpack(slot)
    n = head.seq // 2 - 1
    assert head.seq % 2 == 0
    assert (head.time_ns, head.mono_ns, head.stored) == (n, n, 512)
    assert slot[Record.SIZE :] == n.to_bytes(8, "little") * 64
    return n


@pytest.mark.parametrize("slots", [2, 16, 4096])
def test_no_torn_record_surfaces_and_losses_add_up(hammer: Path, name: str, slots: int) -> None:
    ring = Ring.create(name, 0, slots, SLOT)
    writer = start(hammer, name)
    readers = [RingReader(name, 0, "first"), RingReader(name, 0, "first")]
    delivered, last = [0, 0], [-1, -1]
    try:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            for i, reader in enumerate(readers):
                if i == 1 and delivered[0] % 64:  # the second one looks seldom
                    continue
                for slot in reader.read(64):
                    n = whole(slot)
                    assert n > last[i]
                    last[i] = n
                    delivered[i] += 1
        written = int(writer.communicate()[0])
    finally:
        writer.kill()
        writer.communicate()
    assert written > 1000
    for i, reader in enumerate(readers):
        while slots_read := reader.read(64):
            for slot in slots_read:
                whole(slot)
            delivered[i] += len(slots_read)
        assert delivered[i] + reader.lost == written
        assert delivered[i] > 0
        reader.close()
    print(f"{slots} slots: {written} written, delivered {delivered}")
    ring.close()


def test_the_client_on_a_running_writer(hammer: Path, name: str) -> None:
    ring = Ring.create(name, 0, 65536, SLOT)
    with client.follow(name) as records:
        writer = start(hammer, name)
        seen = 0
        try:
            for record in records:
                assert record.payload == record.number.to_bytes(8, "little") * 64
                seen += 1
                if seen == 20_000:
                    break
            written = int(writer.communicate()[0])
        finally:
            writer.kill()
            writer.communicate()
        records.timeout = 0.5
        seen += sum(1 for _ in records)
        assert seen + records.lost == written
    ring.close()
