"""QUIC connections as data: rows of shared memory, joined with what the supervisor says of them, where it answers.

    rows of each worker (abi/connections.py) --.
    control.Connections (names, identities) ----+--> look() --> Found --> connections.py: tables, JSON
    statistics (queues, heartbeats) -----------'

Figures are the data plane's: they are there when the supervisor does not answer, and of the dead. Names, identities, what waits
in front of a connection that is not there yet, and listeners are the supervisor's. JSON uses base units: seconds, bytes.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from afterburnerd.abi import shm
from afterburnerd.abi.connections import ROLES, STATES, read_table, tables_of
from afterburnerd.abi.control import (
    Connections,
    ConnectionsRequest,
    ConnectionStatus,
    ControlClient,
    ControlError,
    ListenerStatus,
)
from afterburnerd.abi.layout import QuicRow
from afterburnerd.abi.stats import Snapshot, StatsReader
from afterburnerd.cli import EXIT_USAGE, ToolError
from afterburnerd.ctl.base import Place
from afterburnerd.ctl.filters import FilterError, Network, source

SUITES = {1: "aes-128-gcm", 2: "aes-256-gcm", 3: "chacha20-poly1305"}
OLD_SECONDS = 5.0
"""Figures are written anew every 0.1 s, by a busy worker with 4,096 connections every few seconds: older ones are of a worker
that is gone."""


class ConnectionView(Struct, frozen=True, kw_only=True):
    """One connection. Without figures (`age` and below are 0) it is one that no data plane has, or has yet."""

    number: int = 0  # 0: there is none at the moment
    name: str = ""  # of [[connect]] or dial; empty: accepted, or the daemon was not asked
    identity: str = ""  # public key that the peer proved, base58
    role: str = ""  # client, server
    state: str = (
        ""  # of the engine: handshake, open, closing, draining; else of the supervisor: idle, dialling, paused ...
    )
    peer: str = ""
    peer_port: int = 0
    local: str = ""
    local_port: int = 0
    worker: int = -1
    queue: int = -1  # of the interface; -1: leaves through a socket
    io: str = ""  # afxdp, socket
    figures_age: float | None = None  # seconds since the figures were written, None: there are none
    age: float = 0.0  # seconds since the adoption
    suite: str = ""
    key_phase: int = 0
    key_generation: int = 0  # ours
    peer_key_generation: int = 0
    mtu: int = 0  # bytes of UDP payload
    ecn: int = 0
    rtt: float = 0.0  # smoothed
    rtt_variation: float = 0.0
    rtt_min: float = 0.0
    rtt_latest: float = 0.0
    pto: float = 0.0
    cwnd: int = 0
    in_flight: int = 0
    slots: int = 0  # message slots held: to be sent or to be acknowledged
    datagram_max: int | None = None  # bytes that a DATAGRAM to the peer may have, 0: it takes none; None: not asked
    waiting: int | None = None  # messages that the supervisor keeps until they are acknowledged; None: not asked
    uni_opened: int = 0
    uni_limit: int = 0
    bidi_opened: int = 0
    bidi_limit: int = 0
    streams: int = 0  # objects of streams that are more than a frame
    data_sent: int = 0
    data_limit: int = 0
    trace: tuple[str, ...] = ()  # qlog, keylog
    counts: dict[str, float] = {}  # all that it counted; times in seconds


class Found(Struct, frozen=True, kw_only=True):
    """All connections of a daemon at one moment."""

    name: str = ""
    stale: bool = False  # figures of a daemon that is dead
    connections: tuple[ConnectionView, ...] = ()
    listeners: tuple[ListenerStatus, ...] = ()
    trouble: dict[str, str] = {}  # listeners that could not be had, and why
    notes: tuple[str, ...] = ()  # what could not be seen, and why


class Wanted(Struct, frozen=True):
    """Which connections, in which order. Empty tuples: any."""

    peers: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    role: str = ""
    sort: str = "number"
    reverse: bool = False

    def choose(self, connections: Iterable[ConnectionView]) -> tuple[ConnectionView, ...]:
        asked = [_asked(text) for text in self.peers]
        chosen = [
            c
            for c in connections
            if (not self.states or c.state in self.states)
            and (not self.role or c.role == self.role)
            and (not asked or any(matches(c) for matches in asked))
        ]
        # Equal ones stay in the order of their numbers, those without one at the end.
        chosen.sort(key=lambda c: (c.number == 0, c.number, c.name))
        key, largest_first = SORTS[self.sort]
        chosen.sort(key=key, reverse=largest_first != self.reverse)
        return tuple(chosen)


def _asked(text: str) -> Callable[[ConnectionView], bool]:
    """An address, network, either with a port; else a name, an identity, or the beginning of one of them."""
    try:
        where = source(text)
    except FilterError as error:
        if set(text) & set("./:[]"):  # which neither a name nor an identity has
            raise ToolError(str(error).replace("--source", "--peer", 1), EXIT_USAGE) from None
        return lambda c: c.name.startswith(text) or c.identity.startswith(text)
    return lambda c: (not where.port or c.peer_port == where.port) and _within(c.peer, where.network)


def _within(address: str, network: Network | None) -> bool:
    return network is None or (bool(address) and ipaddress.ip_address(address) in network)


# What connections can be sorted by, and whether the largest comes first.
SORTS: dict[str, tuple[Callable[[ConnectionView], Any], bool]] = {
    "number": (lambda c: (c.number == 0, c.number), False),
    "name": (lambda c: (not c.name, c.name), False),
    "peer": (lambda c: (not c.peer, ":" in c.peer, c.peer and ipaddress.ip_address(c.peer).packed, c.peer_port), False),
    "age": (lambda c: c.age, True),
    "rtt": (lambda c: c.rtt, True),
    "cwnd": (lambda c: c.cwnd, True),
    "in-flight": (lambda c: c.in_flight, True),
    "lost": (lambda c: c.counts.get("packets_lost", 0), True),
    "resent": (lambda c: c.counts.get("messages_resent", 0), True),
    "sent": (lambda c: c.counts.get("bytes_sent", 0), True),
    "received": (lambda c: c.counts.get("bytes_received", 0), True),
}


def look(place: Place) -> Found:
    """What there is now. ShmError where nothing is to be seen at all."""
    answer, why = _ask(place)
    with StatsReader.open(place.name) as reader:
        snapshot = reader.read()
    notes = [why] if why and not snapshot.stale else []
    rows: list[ConnectionView] = []
    now = time.monotonic_ns()
    for worker in tables_of(place.name):
        try:
            table = read_table(place.name, worker)
        except shm.ShmError as error:
            notes.append(str(error))
            continue
        rows += [of_row(row, worker, now, snapshot) for row in table.rows]
        if table.torn:
            notes.append(f"worker {worker}: {table.torn} rows were being written all the time, and are left out")
    return Found(
        name=place.name,
        stale=snapshot.stale,
        connections=tuple(join(rows, answer.connections if answer else ())),
        listeners=answer.listeners if answer else (),
        trouble=answer.trouble if answer else {},
        notes=tuple(notes),
    )


def _ask(place: Place) -> tuple[Connections | None, str]:
    try:
        with ControlClient(place.run_dir) as daemon:
            return daemon.ask(ConnectionsRequest(), Connections), ""
    except ControlError as error:
        return None, f"without names and listeners: {error}"


def of_row(row: QuicRow, worker: int, now_ns: int, snapshot: Snapshot | None = None) -> ConnectionView:
    """A row in base units."""
    counts = {f: getattr(row.counts, f) for f in row.counts.__struct_fields__}
    return ConnectionView(
        number=row.id,
        role=ROLES.get(row.role, "unknown"),
        state=STATES.get(row.state, "unknown"),
        peer=_address(row.remote),
        peer_port=row.remote_port,
        local=_address(row.local),
        local_port=row.local_port,
        worker=worker,
        queue=_queue(snapshot, worker, row.slot) if row.io == 0 else -1,
        io="socket" if row.io else "afxdp",
        figures_age=max(now_ns - row.time_ns, 0) / 1e9,
        age=max(row.time_ns - row.adopted_ns, 0) / 1e9,
        suite=SUITES.get(row.suite, "unknown"),
        key_phase=row.tx_generation & 1,
        key_generation=row.tx_generation,
        peer_key_generation=row.rx_generation,
        mtu=row.mtu,
        ecn=row.ecn,
        rtt=row.srtt_ns / 1e9,
        rtt_variation=row.rttvar_ns / 1e9,
        rtt_min=0.0 if row.min_rtt_ns == NONE else row.min_rtt_ns / 1e9,
        rtt_latest=row.latest_rtt_ns / 1e9,
        pto=row.pto_ns / 1e9,
        cwnd=row.cwnd,
        in_flight=row.in_flight,
        slots=row.slots,
        uni_opened=row.uni_opened,
        uni_limit=row.uni_limit,
        bidi_opened=row.bidi_opened,
        bidi_limit=row.bidi_limit,
        streams=row.streams,
        data_sent=row.data_sent,
        data_limit=row.data_limit,
        trace=tuple(name for bit, name in ((1, "qlog"), (2, "keylog")) if row.trace & bit),
        counts={(n[:-3] if n.endswith("_ns") else n): v / 1e9 if n.endswith("_ns") else v for n, v in counts.items()},
    )


NONE = 0xFFFF_FFFF_FFFF_FFFF  # a smallest round trip before the first


def join(rows: Iterable[ConnectionView], said: Iterable[ConnectionStatus]) -> Iterable[ConnectionView]:
    """Rows with what the supervisor calls them, and then those that it alone knows."""
    left = {c.number: c for c in said if c.number}
    for row in rows:
        known = left.pop(row.number, None)
        if known is None:
            yield row
            continue
        more = {n: getattr(row, n) for n in row.__struct_fields__}
        told = {n: getattr(known, n) for n in ("name", "identity", "waiting", "datagram_max")}
        yield ConnectionView(**{**more, **told})
    for c in (*left.values(), *(c for c in said if not c.number)):
        yield ConnectionView(
            number=c.number,
            name=c.name,
            identity=c.identity,
            role=c.role,
            state=c.state,
            peer=c.address,
            peer_port=c.port,
            local=c.local,
            local_port=c.local_port,
            worker=c.worker,
            io=c.io,
            waiting=c.waiting,
        )


def _queue(snapshot: Snapshot | None, worker: int, slot: int) -> int:
    workers = snapshot.info.workers if snapshot is not None else ()
    queues = workers[worker].queues if worker < len(workers) else ()
    return queues[slot] if slot < len(queues) else -1


def _address(packed: bytes) -> str:
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address)
