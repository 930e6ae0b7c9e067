"""The table of connections in shared memory: what is read is what was written, and a stranger's file is not believed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from afterburnerd.abi import shm
from afterburnerd.abi.connections import Table, read_table, remove_tables, sum_up, table_name, tables_of
from afterburnerd.abi.layout import QuicCounts, QuicRole, QuicRow, QuicRows, QuicState


@pytest.fixture
def table(name: str) -> Iterator[Table]:
    made = Table.create(name, 3, 8)
    yield made
    made.close()


def put(table: Table, index: int, **fields: int) -> None:
    row = QuicRow(counts=QuicCounts(packets_sent=5), **fields)  # type: ignore[arg-type]
    os.pwrite(table.fd, row.pack(), QuicRows.SIZE + index * QuicRow.SIZE)


def test_rows_in_use_are_read_with_every_figure(table: Table) -> None:
    put(table, 0, id=7, seq=2, cwnd=1000, role=QuicRole.SERVER, state=QuicState.OPEN)
    put(table, 5, id=9, seq=4)
    put(table, 6, id=0, seq=2, cwnd=5)
    found = read_table(table.name, 3)
    assert (found.worker, found.size, found.torn) == (3, 8, 0)
    assert [(r.id, r.cwnd, r.role, r.counts.packets_sent) for r in found.rows] == [(7, 1000, 1, 5), (9, 0, 0, 5)]


def test_a_row_that_is_being_written_is_left_out_and_told(table: Table) -> None:
    put(table, 1, id=7, seq=3)
    put(table, 2, id=8, seq=2)
    found = read_table(table.name, 3)
    assert ([r.id for r in found.rows], found.torn) == ([8], 1)


def test_sums_are_by_role_and_state(table: Table) -> None:
    put(table, 0, id=1, seq=2, cwnd=10, in_flight=1, srtt_ns=300, role=QuicRole.CLIENT, state=QuicState.OPEN)
    put(table, 1, id=2, seq=2, cwnd=20, in_flight=2, srtt_ns=100, role=QuicRole.CLIENT, state=QuicState.OPEN)
    put(table, 2, id=3, seq=2, cwnd=40, slots=4, role=QuicRole.SERVER, state=QuicState.DRAINING)
    put(table, 3, id=0, seq=2, cwnd=999, role=QuicRole.SERVER, state=QuicState.DRAINING)
    found = sum_up(table.name, 3)
    assert set(found) == {("client", "open"), ("server", "draining")}
    ours = found["client", "open"]
    assert (ours.connections, ours.cwnd, ours.in_flight, ours.srtt_ns) == (2, 30, 3, (100, 300))
    assert (found["server", "draining"].connections, found["server", "draining"].slots) == (1, 4)


def test_tables_are_found_replaced_and_removed(table: Table) -> None:
    Table.create(table.name, 0, 2).close()
    assert tables_of(table.name) == [0, 3]
    put(table, 0, id=7, seq=2)
    Table.create(table.name, 3, 4).close()  # of the next daemon
    assert (read_table(table.name, 3).size, read_table(table.name, 3).rows) == (4, ())
    remove_tables(table.name, keep=1)
    assert tables_of(table.name) == [0]
    remove_tables(table.name)
    assert tables_of(table.name) == []


def test_no_table_is_told_as_such(name: str) -> None:
    with pytest.raises(shm.NotThere):
        read_table(name, 0)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"", "0 bytes long"),
        (QuicRows().pack(), "first bytes"),
        (QuicRows(magic=0x534E4F43_53424642, version=99, row_bytes=QuicRow.SIZE, rows=1).pack(), "version 99"),
        (QuicRows(magic=0x534E4F43_53424642, version=1, row_bytes=QuicRow.SIZE, rows=1 << 40).pack(), "rows in"),
        (QuicRows(magic=0x534E4F43_53424642, version=1, row_bytes=QuicRow.SIZE, rows=9).pack(), "9 rows in"),
    ],
)
def test_what_is_no_table_is_not_believed(name: str, header: bytes, said: str) -> None:
    path = shm.path_of(table_name(name, 0))
    path.write_bytes(header)
    path.chmod(0o644)
    for look in (read_table, sum_up):
        with pytest.raises(shm.Invalid, match=said):
            look(name, 0)


def test_a_table_that_anybody_may_write_is_not_believed(table: Table) -> None:
    os.fchmod(table.fd, 0o666)
    with pytest.raises(shm.Invalid, match="may write it"):
        read_table(table.name, 3)


def test_a_row_carries_nothing_secret() -> None:
    """It lies in named memory that everybody may read."""
    named = set(QuicRow.__struct_fields__)
    assert not {n for n in named if "secret" in n or "key" in n or "cid" in n or "token" in n}
    assert not {
        n for n, f in QuicRow.__annotations__.items() if f == "bytes" and n not in ("local", "remote", "counts")
    }
