"""The C writer of the table of connections and its Python reader, at full speed on the same rows: nothing torn surfaces."""

from __future__ import annotations

import mmap
import subprocess
import time
from pathlib import Path

import pytest

from afterburnerd.abi import shm
from afterburnerd.abi.connections import Table, read_table, sum_up
from afterburnerd.abi.layout import QuicRow, QuicRows
from tests import cc


def build(folder: Path, native: Path = cc.NATIVE) -> Path:
    sources = [cc.ROOT / "tests/native/c/rows_hammer.c", native / "quic_rows.c", native / "quic_info.c"]
    return cc.program(folder / "rows_hammer", *sources, include=native)


@pytest.fixture(scope="module")
def hammer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("hammer"))


def torn_in(hammer: Path, name: str, rows: int, seconds: float) -> tuple[int, int, int]:
    """Rows read while they are written: how many, how many of them torn, and how many the writer wrote."""
    table = Table.create(name, 0, rows)
    writer = subprocess.Popen(
        [hammer, shm.path_of(f"{name}.connections.0")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout and writer.stdin
    assert writer.stdout.readline() == "ready\n"
    seen = torn = 0
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for row in read_table(name, 0).rows:
                seen += 1
                figures = {row.id, row.time_ns, row.adopted_ns, row.srtt_ns, row.cwnd, row.data_limit}
                counts = {getattr(row.counts, f) for f in row.counts.__struct_fields__}
                torn += len(figures | counts) != 1
            sum_up(name, 0)
    finally:
        writer.stdin.close()
        written = int(writer.stdout.read())
        assert writer.wait(10) == 0
        table.unlink()
        table.close()
    return seen, torn, written


@pytest.mark.parametrize("rows", [1, 7, 512])
def test_no_torn_row_surfaces(hammer: Path, name: str, rows: int) -> None:
    seen, torn, written = torn_in(hammer, name, rows, 2)
    assert torn == 0
    assert seen > 100 and written > 1000, (seen, written)


def test_a_writer_without_sequence_is_noticed(tmp_path: Path, name: str) -> None:
    """The test above can fail: here the writer leaves the word even while it writes."""
    native = tmp_path / "native"
    native.mkdir()
    for path in [*cc.NATIVE.glob("*.h"), cc.NATIVE / "quic_rows.c", cc.NATIVE / "quic_info.c"]:
        text = path.read_text()
        if path.name == "quic_rows.c":
            line = "__atomic_load_n(&row->seq, __ATOMIC_RELAXED) + 1) | 1"
            assert text.count(line) == 1
            text = text.replace(line, "__atomic_load_n(&row->seq, __ATOMIC_RELAXED) * 0) | 1")
            text = text.replace("__atomic_store_n(&row->seq, seq, __ATOMIC_RELAXED);", "")
        (native / path.name).write_text(text)
    faulty = build(tmp_path, native)
    assert any(torn_in(faulty, name, 64, 3)[1] for _ in range(10))


def test_a_row_that_a_killed_writer_left_half_is_left_out_and_emptied_by_the_next(hammer: Path, name: str) -> None:
    table = Table.create(name, 0, 2)
    with mmap.mmap(table.fd, 0) as memory:
        for index in (0, 1):
            start = QuicRows.SIZE + index * QuicRow.SIZE
            memory[start : start + 8] = (3 - index).to_bytes(8, "little")
            memory[start + 8 : start + 16] = (77).to_bytes(8, "little")
    found = read_table(name, 0)
    assert (len(found.rows), found.torn) == (1, 1)
    # Its input has ended before it begins, so it opens the table and writes nothing.
    path = shm.path_of(f"{name}.connections.0")
    done = subprocess.run([hammer, path], stdin=subprocess.DEVNULL, text=True, capture_output=True)
    assert done.returncode == 0
    found = read_table(name, 0)
    assert (found.rows, found.torn) == ((), 0)
    table.unlink()
    table.close()
