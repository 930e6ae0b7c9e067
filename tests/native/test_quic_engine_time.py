"""What the engine does when nothing comes: probes, the idle timeout, PINGs, and none of it for thousands at once."""

from __future__ import annotations

import itertools
from collections import Counter

from afterburnerd.abi.layout import QuicClose, QuicEvent, QuicEventKind, QuicRefusal, QuicSend
from tests.sim import wire
from tests.sim.hostile import ID, MS, Victim

from .test_quic_engine_table import adoption, drain, engine

SECOND = 1_000 * MS


def until_pto(victim: Victim, count: int) -> list[list[wire.Frame]]:
    """Lets time pass until so many PTOs have expired: the packets of the last of them."""
    while victim.info()["ptos"] < count:
        victim.sent.clear()
        victim.now = max(victim.now, victim.engine.deadline())
        victim.drain()
    return [frames for _, frames in victim.sent]


def test_a_timeout_sends_two_probes() -> None:
    """RFC 9002 6.2.4 allows one or two; where one in two packets is lost, one more timeout in two is spared. The first brings the
    data, the second a PING where there is no more."""
    victim = Victim()
    victim.engine.send(ID, QuicSend.UNI, b"precious", victim.now)
    victim.drain()
    for count in (1, 2, 3):
        first, second = until_pto(victim, count)
        assert [f.data for f in first if f.kind == "stream"] == [b"precious"]
        assert [f.kind for f in second if f.kind != "padding"] == ["ping"]


def test_two_probes_carry_two_packets_that_were_not_acknowledged() -> None:
    victim = Victim()
    for byte in (b"a", b"b", b"c"):
        victim.engine.send(ID, QuicSend.UNI, byte * 1000, victim.now)
    victim.drain()
    probes = until_pto(victim, 1)
    assert [[f.data[:1] for f in frames if f.kind == "stream"] for frames in probes] == [[b"a"], [b"b"]]


def test_each_timeout_doubles_the_next_and_an_acknowledgement_ends_that() -> None:
    victim = Victim()
    victim.engine.send(ID, QuicSend.UNI, b"precious", victim.now)
    victim.drain()
    at = [victim.now]
    for count in (1, 2, 3):
        until_pto(victim, count)
        at.append(victim.now)
    gaps = [later - sooner for sooner, later in itertools.pairwise(at)]
    assert gaps == [gaps[0], 2 * gaps[0], 4 * gaps[0]]
    victim.acknowledge()
    victim.drain()
    victim.engine.send(ID, QuicSend.UNI, b"more", victim.now)
    victim.drain()
    sent = victim.now
    until_pto(victim, 4)
    assert victim.now - sent < 2 * 3 * gaps[2], "as patient as before"


def test_no_probe_waits_longer_than_a_minute() -> None:
    victim = Victim(ours={"max_idle_timeout": 0}, theirs={"max_idle_timeout": 0})
    victim.engine.send(ID, QuicSend.UNI, b"precious", victim.now)
    victim.drain()
    until_pto(victim, 14)
    last = victim.now
    until_pto(victim, 15)
    assert victim.now - last == 60 * SECOND


def test_an_idle_timeout_shorter_than_three_probe_timeouts_waits_for_those() -> None:
    """RFC 9000 10.1: or one loss would end the connection. Without a sample a PTO is 333 + 4 * 166.5 + 25 ms."""
    victim = Victim(ours={"max_idle_timeout": 100})
    begin = victim.now
    while victim.ended() is None:
        victim.now = max(victim.now, victim.engine.deadline())
        victim.drain()
    ended = victim.ended()
    assert ended and ended.by == QuicClose.IDLE
    assert 3 * 1024 * MS - MS <= victim.now - begin <= 3 * 1025 * MS


def test_the_shorter_idle_timeout_of_both_counts() -> None:
    for ours, theirs, expected in ((10, 30, 10), (30, 10, 10), (0, 10, 10), (10, 0, 10)):
        victim = Victim(ours={"max_idle_timeout": ours * 1000}, theirs={"max_idle_timeout": theirs * 1000})
        begin = victim.now
        victim.wait(expected * SECOND - 100 * MS)
        assert victim.ended() is None
        victim.wait(200 * MS)
        ended = victim.ended()
        assert ended and ended.by == QuicClose.IDLE and ended.time_ns - begin <= expected * SECOND + 100 * MS


def test_what_is_sent_first_after_something_came_puts_off_the_idle_timeout_and_nothing_after_it() -> None:
    """RFC 9000 10.1: else whoever sends into the void would never find out."""
    victim = Victim(ours={"max_idle_timeout": 10_000})
    victim.wait(8 * SECOND)
    victim.engine.send(ID, QuicSend.UNI, b"first", victim.now)
    first = victim.now
    victim.drain()
    victim.wait(6 * SECOND)
    assert victim.ended() is None
    victim.engine.send(ID, QuicSend.UNI, b"second", victim.now)
    victim.wait(10 * SECOND)
    ended = victim.ended()
    assert ended and ended.by == QuicClose.IDLE and abs(ended.time_ns - first - 10 * SECOND) <= MS


def test_what_comes_puts_off_the_idle_timeout_each_time_and_so_does_the_answer() -> None:
    victim = Victim(ours={"max_idle_timeout": 10_000})
    for _ in range(3):
        victim.wait(9 * SECOND)
        victim.engine.send(ID, QuicSend.UNI, b"x", victim.now)
        victim.drain()
        victim.wait(9 * SECOND)
        assert victim.ended() is None
        victim.acknowledge()
        victim.drain()


def test_deadlines_that_come_together_are_looked_at_a_few_in_a_turn() -> None:
    """1 to 2 us each, for their connections are cold: thousands in one turn would hold up what is to be sent by milliseconds."""
    count = 256
    q = engine(count)
    for number in range(1, count + 1):
        assert q.adopt(adoption(number), MS) == QuicRefusal.NONE
    drain(q, MS)
    q.events()
    ended: list[int] = []
    now = MS + 60 * SECOND  # all idle timeouts have come
    while q.totals()["connections"] and len(ended) <= count:
        assert q.deadline() <= now
        q.tx(now, 64)
        events = [QuicEvent.unpack(item[2]) for item in q.events() if item[0] == "event"]
        ended.append(sum(e.kind == QuicEventKind.CLOSED for e in events))
    assert sum(ended) == count
    assert max(ended) == 16 and len(ended) <= count // 16 + 1, ended
    q.free()


def test_pings_of_connections_that_were_adopted_together_are_spread_over_time() -> None:
    """Each pauses up to a half shorter than it may, by a share of its own, and for good: not only the first time."""
    count = 256
    q = engine(count, keep_alive_ms=1000)
    for number in range(1, count + 1):
        q.adopt(adoption(number), MS)
    drain(q, MS)
    pinged: dict[int, int] = {}
    now = MS
    while len(pinged) < count:
        now = max(now, q.deadline())
        assert now <= MS + SECOND, f"{count - len(pinged)} are silent for longer than they may"
        for conn in drain(q, now):
            pinged.setdefault(conn, now)
    assert min(pinged.values()) >= MS + 499 * MS
    share = Counter((at - MS) // (100 * MS) for at in pinged.values())
    assert all(count // 10 <= share[n] <= count // 3 for n in range(5, 10)), share
    q.free()


def test_a_connection_is_kept_alive_by_what_comes_as_well() -> None:
    victim = Victim(keep_alive_ms=1000)
    for _ in range(20):
        victim.say(wire.PING, after=400 * MS)
    assert not victim.of("ping")
    victim.wait(1100 * MS)
    assert victim.of("ping")
