"""Many connections on one engine: what they cost, that nobody is starved, that a full table refuses, that all can be closed."""

from __future__ import annotations

import os
import time
from pathlib import Path as File

from afterburnerd.abi.layout import (
    QUIC_COMMAND_BYTES,
    QUIC_EVENT_BYTES,
    Path,
    QuicAdopt,
    QuicEvent,
    QuicEventKind,
    QuicRefusal,
    QuicRole,
    QuicSend,
)
from afterburnerd.abi.rings import Ring
from afterburnerd.native import lib
from tests.sim import seal, wire
from tests.sim.hostile import LOCAL, LOCAL_PORT, MS, OURS, REMOTE, REMOTE_PORT, THEIRS, packed

from .test_worker import Bench

WARM = 4096  # connections that are held ready
ROOM = 32 << 10  # bytes that each may cost


def adoption(number: int) -> bytes:
    secret = number.to_bytes(seal.hash_bytes(seal.AES128), "big")
    cid = packed(0, 0)
    ours = QuicAdopt(
        path=Path(
            local=LOCAL, remote=REMOTE, local_port=LOCAL_PORT, remote_port=REMOTE_PORT, family=4, ttl=64, mtu=1472
        ),
        local_cids=(type(cid)(seq=0, len=8, cid=number.to_bytes(8, "big")),),
        peer_cids=(type(cid)(seq=0, len=8, cid=(1 << 40 | number).to_bytes(8, "big")),),
        id=number,
        version=1,
        role=QuicRole.CLIENT,
        suite=seal.AES128,
        confirmed=1,
        tx_secret=secret,
        rx_secret=secret,
        local_count=1,
        peer_count=1,
    )
    local = wire.parameters(**OURS, initial_source_connection_id=b"l")
    remote = wire.parameters(**THEIRS, initial_source_connection_id=b"r", original_destination_connection_id=b"o")
    return QuicAdopt(
        **{f: getattr(ours, f) for f in ours.__struct_fields__}
        | {"local_tparams": local, "local_tparams_len": len(local)}
        | {"remote_tparams": remote, "remote_tparams_len": len(remote)}
    ).pack()


def engine(connections: int, **settings: int) -> lib.QuicEngine:
    config = {
        "messages": 4096,
        "packets": 64 * max(2 * connections, 64),
        "streams": 64,
        "no_mtu_discovery": 1,
        "seed": 1,
    }
    return lib.QuicEngine(connections=connections, **{**config, **settings})


def drain(q: lib.QuicEngine, now: int) -> list[int]:
    """Whose packets, in order."""
    order: list[int] = []
    while out := q.tx(now, 64):
        order += [conn for _, _, conn, _, _ in out]
    return order


def test_a_warm_connection_costs_less_than_32_kib_and_nothing_to_look_at() -> None:
    q = engine(WARM)
    for number in range(1, WARM + 1):
        assert q.adopt(adoption(number), MS) == QuicRefusal.NONE
    drain(q, MS)
    totals = q.totals()
    assert totals["connections"] == WARM
    assert totals["connection_bytes"] <= ROOM
    # 4,096 that have nothing to do make no turn longer: it is a look at the least deadline. Bounded generously.
    start = time.perf_counter()
    for _ in range(1000):
        q.tx(2 * MS, 64)
        q.deadline()
    assert time.perf_counter() - start < 0.5
    q.free()


def test_a_busy_connection_does_not_starve_the_others() -> None:
    q = engine(8, burst_packets=4)
    for number in range(1, 9):
        q.adopt(adoption(number), MS)
    drain(q, MS)
    for number, count in ((1, 200), *((n, 1) for n in range(2, 9))):
        for _ in range(count):
            assert q.send(number, QuicSend.UNI, b"x" * 1000, MS)[0] == 0
    order = drain(q, MS)
    last = max(order.index(n) for n in range(2, 9))
    assert last < 4 + 7, f"the last of the others had its turn only at packet {last}"
    q.free()


def test_peers_that_let_nothing_go_leave_slots_to_the_others() -> None:
    """Each greedy connection leaves a third of what it finds, so that new ones can be adopted, and send."""
    q = engine(8, messages=1024)
    q.adopt(adoption(1), MS)
    left: list[int] = []
    for number in range(1, 7):
        if number > 1:
            assert q.adopt(adoption(number), MS) == QuicRefusal.NONE
        count = 0
        while q.send(number, QuicSend.UNI, b"never acknowledged", MS)[0] == 0:
            count += 1
        assert count > 0, f"nothing is left for connection {number}"
        drain(q, MS)
        left.append(count)
    assert left[0] >= 600 and left == sorted(left, reverse=True), left
    q.free()


def test_a_full_table_refuses_and_has_room_again_when_one_is_gone() -> None:
    q = engine(4)
    assert [q.adopt(adoption(n), MS) for n in range(1, 6)] == [QuicRefusal.NONE] * 4 + [QuicRefusal.FULL]
    assert q.totals()["refused_full"] == 1
    assert q.adopt(adoption(4), MS) != QuicRefusal.NONE
    q.drop(2, MS)
    drain(q, MS)
    assert q.adopt(adoption(5), MS) == QuicRefusal.NONE
    assert q.adopt(adoption(5), MS) != QuicRefusal.NONE, "one number, one connection"
    q.free()


def test_all_are_closed_at_once_and_forgotten_in_time() -> None:
    q = engine(64)
    for number in range(1, 65):
        q.adopt(adoption(number), MS)
    drain(q, MS)
    q.events()
    q.close_all(True, 3, b"going down", MS)
    assert q.adopt(adoption(99), MS) == QuicRefusal.CLOSING
    assert sorted(drain(q, MS)) == list(range(1, 65)), "a CONNECTION_CLOSE for each"
    closed = [QuicEvent.unpack(item[2]) for item in q.events() if item[0] == "event"]
    assert len([e for e in closed if e.kind == QuicEventKind.CLOSED and e.code == 3]) == 64
    now = MS
    while q.totals()["connections"]:
        now = max(now, q.deadline())
        assert now < 10_000 * MS, "they do not end"
        drain(q, now)
    assert q.deadline() == 2**64 - 1
    q.free()


def test_deadlines_of_many_come_in_order() -> None:
    """Each has its own idle timeout's end; the heap must give them out one by one, whatever came between."""
    q = engine(256)
    for number in range(1, 257):
        q.adopt(adoption(number), number * 7919 % 256 * MS)
    drain(q, 300 * MS)
    q.events()
    ended: list[int] = []
    now = 300 * MS
    while q.totals()["connections"]:
        now = max(now, q.deadline())
        drain(q, now)
        ended += [
            e.time_ns
            for i in q.events()
            if i[0] == "event" and (e := QuicEvent.unpack(i[2])).kind == QuicEventKind.CLOSED
        ]
        assert now < 3_600_000 * MS
    assert len(ended) == 256 and ended == sorted(ended)
    q.free()


def test_a_workers_engine_has_all_its_pages_before_its_first_packet() -> None:
    """Else the first packets that reach a new page wait for the kernel to find one: 5 ms for a large one."""

    def resident() -> int:
        return int(File("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    bench = Bench()
    rings = Ring.create("commands", 64, QUIC_COMMAND_BYTES), Ring.create("events", 64, QUIC_EVENT_BYTES)
    before = resident()
    bench.worker.open_engine(rings[0].bytes, rings[1].bytes, messages=32768, seed=1)
    grown = resident() - before
    bench.worker.close()
    assert grown > 32768 * 1280, f"{grown >> 20} MiB of at least 40"


def closed(q: lib.QuicEngine) -> list[int]:
    """Whose end was told, in order."""
    events = [QuicEvent.unpack(item[2]) for item in q.events() if item[0] == "event"]
    return [e.conn for e in events if e.kind == QuicEventKind.CLOSED]


def test_a_full_ring_of_events_is_asked_once_a_turn_however_many_have_something_to_tell() -> None:
    """4,096 that were asked in vain took 107 us of each turn."""
    many = 300
    q = engine(many)
    for number in range(1, many + 1):
        assert q.adopt(adoption(number), MS) == QuicRefusal.NONE
    drain(q, MS)
    q.events()
    q.room(0)
    for number in range(1, many + 1):
        q.drop(number, MS)
    assert q.send(1, QuicSend.UNI, b"too late", MS)[0] != 0
    for turn in range(20):
        drain(q, MS)
        assert 1 <= q.room(0) <= 8, f"turn {turn}"
    assert q.events() == [] and q.deadline() == 0
    told: list[int] = []
    for room in (1, 5, 0, 7):
        q.room(room)
        q.tx(MS, 64)
        fresh = closed(q)
        assert len(fresh) == room, "all the room is used, and no more"
        told += fresh
    q.room(1 << 60)
    drain(q, MS)
    told += closed(q)
    assert told == list(range(1, many + 1)), "first come, first told, and each once"
    assert q.totals()["connections"] == 0
    q.free()


def test_who_waits_for_the_fates_of_its_messages_is_in_nobodys_way() -> None:
    """CLOSED is the last thing that is told of a connection, so one with many messages waits until all were taken."""
    q = engine(8)
    for number in range(1, 9):
        assert q.adopt(adoption(number), MS) == QuicRefusal.NONE
    for token in range(1, 51):
        assert q.send(1, QuicSend.UNI, b"never answered", MS, token=token)[0] == 0
    drain(q, MS)
    q.events()
    q.room(0)
    for number in range(1, 9):
        q.drop(number, MS)
    drain(q, MS)
    told: list[object] = []
    for _ in range(200):
        q.room(3)
        q.tx(MS, 64)
        told += [item[2] if item[0] == "done" else QuicEvent.unpack(item[2]).conn for item in q.events()]
    assert told[:50] == list(range(1, 51)) and sorted(told[50:]) == list(range(1, 9)), told
    assert q.totals()["connections"] == q.totals()["slots_used"] == 0
    q.free()


def test_a_peer_that_begins_streams_and_ends_none_leaves_objects_to_put_together_what_others_send() -> None:
    q = engine(2, streams=8)
    for number in (1, 2):
        assert q.adopt(adoption(number), MS) == QuicRefusal.NONE
    secrets = {number: number.to_bytes(seal.hash_bytes(seal.AES128), "big") for number in (1, 2)}
    peers = {number: seal.Sealer(seal.AES128, secrets[number], number.to_bytes(8, "big")) for number in (1, 2)}

    def says(number: int, *frames: bytes) -> None:
        q.rx([(peers[number].seal(b"".join(frames)), REMOTE, REMOTE_PORT, LOCAL, LOCAL_PORT, 0)], MS)
        drain(q, MS)

    for n in range(8):  # each of the streams that it may have, in a packet of its own
        says(1, wire.stream(3 + 4 * n, b"begun"))
    assert 4 <= q.totals()["objects_used"] <= 6
    q.events()
    says(2, wire.stream(3, b"in two "))
    says(2, wire.stream(3, b"parts", 7, fin=True))
    assert [item[4] for item in q.events() if item[0] == "data"] == [b"in two ", b"parts"]
    q.free()
