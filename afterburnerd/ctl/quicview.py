"""QUIC in `status` and `top`, as data: how many connections, by what means, and what moves.

Connections are counted in their tables (abi/connections.py), rates come from the statistics: both without asking the daemon.
"""

from __future__ import annotations

import statistics

from msgspec import Struct

from afterburnerd.abi.connections import ROLES, STATES, Rows, read_table, tables_of
from afterburnerd.abi.layout import QuicState
from afterburnerd.abi.shm import ShmError
from afterburnerd.abi.stats import Delta


class Engine(Struct, frozen=True):
    """The engine of one worker."""

    worker: int
    connections: int
    room: int  # connections that it takes
    crypto: str  # who protects packets
    crypto_reason: str  # why that one
    over: dict[str, int]  # connections by how their datagrams leave: afxdp, socket


class QuicView(Struct, frozen=True):
    """All of them. Rates are per second of the window."""

    engines: tuple[Engine, ...] = ()
    states: dict[str, int] = {}
    roles: dict[str, int] = {}
    rtt: float = 0.0  # median of the smoothed round trips of open connections, seconds
    rtt_max: float = 0.0
    sent_rate: float = 0.0  # packets
    received_rate: float = 0.0
    lost_rate: float = 0.0
    acked_rate: float = 0.0  # messages
    resent_rate: float = 0.0
    streams_rate: float = 0.0  # received


def tables(name: str) -> tuple[Rows, ...]:
    """Every table of a daemon that can be read."""
    found = []
    for worker in tables_of(name):
        try:
            found.append(read_table(name, worker))
        except ShmError:
            continue
    return tuple(found)


def quic_view(found: tuple[Rows, ...], delta: Delta) -> QuicView | None:
    """None where there is no QUIC."""
    if not found:
        return None
    rows = [row for table in found for row in table.rows]
    trips = [row.srtt_ns / 1e9 for row in rows if row.state == QuicState.OPEN]
    workers = delta.after.rows("worker")

    def rate(name: str) -> float:
        return sum(delta.row_rate(w, name) for w in workers if name in w)

    return QuicView(
        engines=tuple(
            Engine(
                worker=table.worker,
                connections=len(table.rows),
                room=table.size,
                crypto=table.crypto,
                crypto_reason=table.crypto_reason,
                over={
                    kind: count
                    for io, kind in ((0, "afxdp"), (1, "socket"))
                    if (count := sum(row.io == io for row in table.rows))
                },
            )
            for table in found
        ),
        states={text: n for state, text in STATES.items() if (n := sum(row.state == state for row in rows))},
        roles={text: n for role, text in ROLES.items() if (n := sum(row.role == role for row in rows))},
        rtt=statistics.median(trips) if trips else 0.0,
        rtt_max=max(trips, default=0.0),
        sent_rate=rate("quic_packets_sent"),
        received_rate=rate("quic_packets_received"),
        lost_rate=rate("quic_packets_lost"),
        acked_rate=rate("quic_messages_acked"),
        resent_rate=rate("quic_retransmitted"),
        streams_rate=rate("quic_streams_received"),
    )
