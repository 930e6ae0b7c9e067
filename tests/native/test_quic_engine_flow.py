"""Credit, given and taken, to the last byte: what a peer may still send, what is told of, and who hears that somebody waits."""

from __future__ import annotations

import pytest

from afterburnerd.abi.layout import QuicOutcome, QuicRole, QuicSend
from tests.sim import wire
from tests.sim.hostile import ID, MS, Victim

SECOND = 1_000 * MS
PEER_BIDI, OUR_BIDI, PEER_UNI = 0, 1, 2  # the victim is a server


def send(victim: Victim, data: bytes, token: int = 0, how: QuicSend = QuicSend.UNI, **more: int) -> tuple[int, int]:
    return victim.engine.send(ID, how, data, victim.now, token=token, **more)


def lose_all_but_the_last(victim: Victim, first: int) -> None:
    """Four DATAGRAMs more, which no credit holds back, a packet each; only they are acknowledged."""
    last = victim.opener.least
    for _ in range(4):
        send(victim, b"d" * 500, how=QuicSend.DATAGRAM)
        victim.drain()
    victim.frames.clear()
    victim.say(wire.ack((last, victim.opener.least - 1)), after=MS)
    assert victim.info()["packets_lost"] >= last - first


def test_a_whole_stream_may_use_up_the_window_of_a_stream() -> None:
    victim = Victim()
    victim.say(wire.stream(PEER_UNI, b"w" * 1000, fin=True))
    assert [len(item[4]) for item in victim.told_of("data")] == [1000] and victim.alive()
    victim.say(wire.stream(PEER_UNI + 4, b"w" * 1001, fin=True))
    assert victim.closed and victim.closed.code == wire.FLOW_CONTROL_ERROR


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("over", "code"), [(0, None), (1, wire.FLOW_CONTROL_ERROR)])
def test_streams_together_may_use_up_the_window_of_the_connection(whole: bool, over: int, code: int | None) -> None:
    victim = Victim(ours={"initial_max_data": 1000})
    victim.say(wire.stream(PEER_UNI, b"a" * 600, fin=whole), wire.stream(PEER_UNI + 4, b"b" * (400 + over), fin=whole))
    assert (victim.closed.code if victim.closed else None) == code


@pytest.mark.parametrize(("told", "final"), [(0, 700), (400, 700), (700, 700)])
def test_what_a_reset_leaves_out_makes_room_once(told: int, final: int) -> None:
    """RFC 9000 4.5: the final size counts on the connection, whatever of it was here before."""
    victim = Victim(ours={"initial_max_data": 1000})
    victim.say(wire.stream(PEER_BIDI, b"x" * told), wire.reset_stream(PEER_BIDI, 0, final))
    assert [f.value for f in victim.of("max_data")][-1:] == [1000 + final]
    victim.say(wire.stream(PEER_BIDI + 4, b"y" * 1000))
    assert victim.closed is None


def test_credit_is_told_of_when_half_of_it_is_used_up() -> None:
    victim = Victim(ours={"initial_max_data": 1000, "initial_max_stream_data_bidi_remote": 1000})
    victim.say(wire.stream(PEER_BIDI, b"x" * 500))
    assert not victim.of("max_data") and not victim.of("max_stream_data")
    victim.say(wire.stream(PEER_BIDI, b"x", 500))
    assert [f.value for f in victim.of("max_data")] == [1501]
    assert [(f.stream, f.value) for f in victim.of("max_stream_data")] == [(PEER_BIDI, 1501)]


def test_who_says_that_it_is_blocked_hears_of_what_there_is_even_if_it_is_little() -> None:
    victim = Victim()
    victim.say(wire.stream(PEER_BIDI, b"x" * 10), wire.stream(PEER_UNI, b"y", fin=True))
    assert not victim.of("max_data") and not victim.of("max_stream_data") and not victim.of("max_streams_uni")
    victim.say(wire.data_blocked(10_000))
    assert [f.value for f in victim.of("max_data")] == [10_011]
    victim.say(wire.stream_data_blocked(PEER_BIDI, 2_000))
    assert [f.value for f in victim.of("max_stream_data")] == [2_010]
    victim.say(wire.streams_blocked(8, True))
    assert [f.value for f in victim.of("max_streams_uni")] == [9]
    before = len(victim.frames)
    victim.say(wire.streams_blocked(4, False))
    assert not [f for f in victim.frames[before:] if f.kind.startswith("max_")], "of which none is over"


@pytest.mark.parametrize("role", [QuicRole.SERVER, QuicRole.CLIENT])
def test_each_side_of_a_bidirectional_stream_has_the_credit_that_was_promised_for_it(role: QuicRole) -> None:
    """RFC 9000 18.2: "local" is what whoever sends the parameter opens, "remote" what the other one opens."""
    theirs = {"initial_max_stream_data_bidi_local": 50, "initial_max_stream_data_bidi_remote": 70}
    victim = Victim(role, theirs=theirs)
    code, ours = send(victim, b"o" * 200, how=QuicSend.BIDI_OPEN)
    assert code == 0
    its = 0 if role == QuicRole.SERVER else 1
    victim.say(wire.stream(its, b"?"))
    assert send(victim, b"a" * 200, how=QuicSend.STREAM, stream=its)[0] == 0
    victim.wait(MS)
    sent = {stream: sum(len(f.data) for f in victim.of("stream") if f.stream == stream) for stream in (ours, its)}
    assert sent == {ours: 70, its: 50}
    victim.say(wire.stream(ours, b"x" * 1000, 2000))  # initial_max_stream_data_bidi_local of ours: 3,000
    assert victim.closed is None
    victim.say(wire.stream(ours, b"x", 3000))
    assert victim.closed and victim.closed.code == wire.FLOW_CONTROL_ERROR


def test_a_stream_that_is_blocked_says_so_once_for_each_limit() -> None:
    victim = Victim(theirs={"initial_max_stream_data_bidi_remote": 100})
    _, stream = send(victim, b"o" * 400, how=QuicSend.BIDI_OPEN)
    victim.wait(10 * MS)
    assert [(f.stream, f.value) for f in victim.of("stream_data_blocked")] == [(stream, 100)]
    for limit in (200, 300):
        victim.say(wire.max_stream_data(stream, limit), after=10 * MS)
        victim.say(wire.max_stream_data(stream, limit - 50), after=10 * MS)  # it came late: limits never fall
    assert [f.value for f in victim.of("stream_data_blocked")] == [100, 200, 300]
    assert sum(len(f.data) for f in victim.of("stream")) == 300


@pytest.mark.parametrize(
    ("limit", "kind"),
    [
        ("initial_max_data", "data_blocked"),
        ("initial_max_streams_uni", "streams_blocked_uni"),
        ("initial_max_streams_bidi", "streams_blocked_bidi"),
    ],
)
def test_what_says_that_we_are_blocked_is_said_again_when_it_was_lost(limit: str, kind: str) -> None:
    victim = Victim(theirs={limit: 0})
    first = victim.opener.least
    how = QuicSend.BIDI_OPEN if kind == "streams_blocked_bidi" else QuicSend.UNI
    send(victim, b"waits" * 10, how=how)
    victim.drain()
    assert len(victim.of(kind)) == 1
    lose_all_but_the_last(victim, first)
    if how == QuicSend.BIDI_OPEN:  # who had no room asks again
        send(victim, b"waits" * 10, how=how)
        victim.drain()
    assert len(victim.of(kind)) == 1, "the peer does not know that we wait"


def test_limits_that_were_lost_are_told_again_as_they_are_now() -> None:
    victim = Victim(ours={"initial_max_data": 1000, "initial_max_stream_data_bidi_remote": 1000})
    first = victim.opener.least
    victim.say(wire.stream(PEER_BIDI, b"x" * 600), *(wire.stream(PEER_UNI + 4 * n, b"", fin=True) for n in range(8)))
    told = {kind: victim.of(kind)[-1].value for kind in ("max_data", "max_stream_data", "max_streams_uni")}
    assert told == {"max_data": 1600, "max_stream_data": 1600, "max_streams_uni": 16}
    lose_all_but_the_last(victim, first)
    assert {kind: f.value for kind in told for f in victim.of(kind)} == told


def test_how_long_data_waited_and_what_for_is_counted() -> None:
    for limit, name in (("initial_max_data", "blocked_credit_ns"), ("initial_max_streams_uni", "blocked_streams_ns")):
        victim = Victim(theirs={limit: 0})
        send(victim, b"waits")
        victim.drain()
        victim.wait(SECOND)
        victim.say(wire.max_data(1000), wire.max_streams(10, True), after=MS)
        assert SECOND <= victim.info()[name] <= SECOND + MS, name
        others = {"blocked_credit_ns", "blocked_streams_ns", "blocked_window_ns"} - {name}
        assert all(victim.info()[other] == 0 for other in others)
    victim = Victim(initial_window=2400)
    for _ in range(8):
        send(victim, b"w" * 1000)
    victim.drain()
    victim.now += 20 * MS
    victim.acknowledge()
    victim.drain()
    assert 20 * MS <= victim.info()["blocked_window_ns"] <= 21 * MS


def test_the_last_byte_that_a_datagram_and_crypto_may_have_is_taken() -> None:
    victim = Victim(QuicRole.CLIENT)
    victim.say(wire.datagram(bytes(1200 - 3)))
    assert len(victim.told_of("datagram")) == 1 and victim.closed is None
    victim.say(wire.crypto(4095, b"x"))
    assert victim.closed is None
    victim.say(wire.crypto(4096, b"x"))
    assert victim.closed and victim.closed.code == wire.CRYPTO_BUFFER_EXCEEDED


def test_a_datagram_goes_in_a_probe_no_more_and_is_not_called_lost_while_it_may_arrive() -> None:
    victim = Victim()
    send(victim, b"once", token=1, how=QuicSend.DATAGRAM)
    victim.wait(4 * SECOND)
    assert victim.info()["ptos"] >= 1 and len(victim.of("datagram")) == 1 and not victim.told_of("done")
    victim.acknowledge()
    victim.drain()
    assert [item[2:4] for item in victim.told_of("done")] == [(1, QuicOutcome.ACKNOWLEDGED)]
    assert victim.info()["datagrams_sent"] == 1
