"""What a worker shows of its connections, while two of them talk: rows agree with the counters, and go when the connection goes."""

from __future__ import annotations

import mmap
import random

import pytest

from afterburnerd.abi.connections import Table, read_table, sum_up
from afterburnerd.abi.layout import QuicCommandKind, QuicEventKind, QuicRole, QuicState
from afterburnerd.native import lib
from afterburnerd.quic.tokens import unpacked
from tests.net.quicpair import CONN
from tests.net.test_quic_pair import exchange, pair

pytestmark = [pytest.mark.privileged, pytest.mark.bpf]


def test_rows_follow_their_connections(name: str, seed: int) -> None:
    with pair(("socket", "socket"), ("socket", "socket"), seed) as made:
        tables = [Table.create(name, w, 8) for w in (0, 1)]
        for table, side in zip(tables, (made.client, made.server), strict=True):
            assert isinstance(side.worker, lib.Worker)
            side.worker.show_connections(mmap.mmap(table.fd, 0))
            with pytest.raises(RuntimeError):
                side.worker.show_connections(mmap.mmap(table.fd, 0))
            shown = read_table(name, table.worker)
            assert shown.crypto.split()[0] in ("ipsec-mb", "libcrypto")
        exchange(made, random.Random(seed), 50)

        def sent() -> bool:
            found = read_table(name, 0).rows
            return len(found) == 1 and found[0].counts.messages_acked == 50 and found[0].slots == 0

        made.until(sent, "the row says that all was acknowledged")
        (row,) = read_table(name, 0).rows
        assert (row.id, row.role, row.state, row.io, row.suite) == (CONN, QuicRole.CLIENT, QuicState.OPEN, 1, 1)
        assert row.counts.packets_sent > 0 and row.counts.bytes_sent > row.counts.packets_sent
        assert 0 < row.min_rtt_ns <= row.srtt_ns and row.cwnd > 0 and row.mtu >= 1200
        assert row.uni_opened == 50 and row.adopted_ns < row.time_ns
        made.until(lambda: bool(read_table(name, 1).rows), "the other side shows it as well")
        (other,) = read_table(name, 1).rows
        assert other.role == QuicRole.SERVER
        assert (unpacked(other.remote), other.remote_port) == (unpacked(row.local), row.local_port)
        assert set(sum_up(name, 0)) == {("client", "open")}

        made.client.command(QuicCommandKind.CLOSE, b"enough")
        made.until(lambda: bool(made.server.told(QuicEventKind.CLOSED)), "the server hears of the end")
        made.until(lambda: not read_table(name, 0).rows and not read_table(name, 1).rows, "both rows are free")
        for table in tables:
            table.unlink()
            table.close()


def test_a_table_of_another_shape_is_refused(name: str, seed: int) -> None:
    with pair(("socket", "socket"), ("socket", "socket"), seed) as made:
        assert isinstance(made.client.worker, lib.Worker)
        with pytest.raises(OSError, match="none of layout"):
            made.client.worker.show_connections(mmap.mmap(-1, 8192))
