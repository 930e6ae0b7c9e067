"""What the engine puts into packets: whole transactions, nothing between the parts of one, nothing held back, nobody starved."""

from __future__ import annotations

import itertools

import pytest

from afterburnerd.abi.layout import QuicEventKind, QuicOutcome, QuicRole, QuicSend
from tests.sim import wire
from tests.sim.hostile import ID, LOCAL, LOCAL_PORT, MS, REMOTE, REMOTE_PORT, Victim, packed

SECOND = 1_000 * MS
EFULL, ECLOSED, ETOOLONG = -1021, -1022, -1023
EINVAL = -1001


def send(victim: Victim, data: bytes, token: int = 0, how: QuicSend = QuicSend.UNI, **more: int) -> int:
    return victim.engine.send(ID, how, data, victim.now, token=token, **more)[0]


def streams(victim: Victim) -> list[wire.Frame]:
    return [f for f in victim.frames if f.kind == "stream"]


def test_a_transaction_that_fits_is_one_frame_and_many_share_a_packet() -> None:
    victim = Victim(theirs={"initial_max_streams_uni": 64})
    for n in range(20):
        assert send(victim, bytes([n]) * 235, token=n) == 0
    victim.drain()
    assert [(f.offset, len(f.data), f.fin) for f in streams(victim)] == [(0, 235, True)] * 20
    assert [f.stream for f in streams(victim)] == [3 + 4 * n for n in range(20)]
    assert len(victim.sent) == 5, "4 of 235 bytes fit a packet of 1,200"


def test_one_a_packet_where_that_is_asked_for() -> None:
    victim = Victim(pack=1)
    for n in range(6):
        send(victim, bytes([n]) * 100)
    victim.drain()
    assert [sum(f.kind == "stream" for f in frames) for _, frames in victim.sent] == [1] * 6


def test_a_long_transaction_lies_in_consecutive_frames_with_no_other_between() -> None:
    victim = Victim(theirs={"initial_max_stream_data_uni": 8192, "initial_max_data": 1 << 20})
    for n, size in enumerate((300, 4096, 300, 3000, 300)):
        send(victim, bytes([n]) * size, token=n)
    victim.drain()
    seen = [f.stream for f in streams(victim)]
    assert seen == sorted(seen), "the parts of two transactions are mixed"
    for n, size in enumerate((300, 4096, 300, 3000, 300)):
        parts = [f for f in streams(victim) if f.stream == 3 + 4 * n]
        assert b"".join(f.data for f in parts) == bytes([n]) * size
        assert [f.fin for f in parts] == [False] * (len(parts) - 1) + [True]


def test_what_waits_for_credit_is_queued_in_order_and_says_so_once() -> None:
    victim = Victim(theirs={"initial_max_streams_uni": 2})
    for n in range(5):
        assert send(victim, bytes([n]) * 10, token=n) == 0
    victim.drain()
    assert [f.stream for f in streams(victim)] == [3, 7]
    assert [f.value for f in victim.of("streams_blocked_uni")] == [2]
    victim.say(wire.max_streams(5, uni=True))
    assert [f.data[0] for f in streams(victim)] == [0, 1, 2, 3, 4]


def test_who_is_blocked_and_has_nothing_under_way_goes_on_saying_so() -> None:
    victim = Victim(
        theirs={"initial_max_streams_uni": 1, "max_idle_timeout": 30_000}, ours={"max_idle_timeout": 30_000}
    )
    send(victim, b"a")
    send(victim, b"b")
    victim.wait(50 * MS)
    victim.acknowledge()
    victim.wait(200 * MS)
    before = len(victim.of("streams_blocked_uni"))
    victim.wait(12 * SECOND)
    assert len(victim.of("streams_blocked_uni")) > before


def test_a_transaction_that_waits_too_long_is_given_up_and_those_behind_it_go() -> None:
    victim = Victim(theirs={"initial_max_streams_uni": 0})
    send(victim, b"old", token=1, expires=victim.now + 5 * MS)
    send(victim, b"new", token=2)
    victim.wait(10 * MS)
    assert [(item[2], item[3]) for item in victim.told_of("done")] == [(1, QuicOutcome.EXPIRED)]
    victim.say(wire.max_streams(1, uni=True))
    assert [f.data for f in streams(victim)] == [b"new"]


def test_every_message_meets_exactly_one_fate() -> None:
    victim = Victim(theirs={"initial_max_streams_uni": 8})
    for n in range(12):
        send(victim, bytes(2000) if n % 3 == 0 else b"x", token=n)
    victim.drain()
    victim.acknowledge()
    victim.wait(30 * MS)
    victim.engine.close(ID, True, 7, b"", victim.now)
    victim.wait(10 * SECOND)
    fates = {item[2]: item[3] for item in victim.told_of("done")}
    assert len(victim.told_of("done")) == 12 and set(fates) == set(range(12))
    assert fates[0] == QuicOutcome.ACKNOWLEDGED and fates[11] == QuicOutcome.CLOSED
    totals = victim.engine.totals()
    assert totals["slots_used"] == totals["blocks_used"] == totals["objects_used"] == totals["connections"] == 0


def test_a_full_pool_pushes_back_and_takes_more_when_some_are_acknowledged() -> None:
    victim = Victim(theirs={"initial_max_streams_uni": 60})
    taken = 0
    while send(victim, b"x" * 10, token=taken) == 0:
        taken += 1
        assert taken < 1000
    assert send(victim, b"x") == EFULL and victim.engine.totals()["pushed_back"] >= 2
    victim.drain()
    victim.acknowledge()
    victim.wait(30 * MS)
    assert send(victim, b"x") == 0


def test_what_was_lost_goes_first_and_again() -> None:
    victim = Victim(theirs={"initial_max_streams_uni": 60})
    send(victim, b"lost")
    victim.drain()
    first = victim.opener.least
    for n in range(4):
        send(victim, bytes([n]))
        victim.drain()
    victim.frames.clear()
    victim.say(wire.ack((first, victim.opener.least - 1)))  # all but the first
    assert [f.data for f in streams(victim)] == [b"lost"]
    assert victim.info()["packets_lost"] == 1


def test_a_token_arrives_though_its_packet_is_lost() -> None:
    victim = Victim(theirs={"initial_max_streams_uni": 60})
    assert victim.engine.send_token(ID, b"t" * 64) == 0
    victim.drain()
    assert [f.token for f in victim.of("new_token")] == [b"t" * 64]
    first = victim.opener.least
    for n in range(4):
        send(victim, bytes([n]))
        victim.drain()
    victim.frames.clear()
    victim.say(wire.ack((first, victim.opener.least - 1)))
    assert [f.token for f in victim.of("new_token")] == [b"t" * 64]
    victim.acknowledge()
    victim.wait(2 * SECOND)
    assert len(victim.of("new_token")) == 1 and victim.info()["unacked"] == 0, "acknowledged, and given up all the same"


def test_a_token_is_a_servers_and_fits_a_packet() -> None:
    assert Victim(role=QuicRole.CLIENT).engine.send_token(ID, b"t") == EINVAL
    victim = Victim()
    assert victim.engine.send_token(ID, b"") == EINVAL
    assert victim.engine.send_token(ID, b"t" * 513) == ETOOLONG
    assert victim.engine.send_token(ID + 1, b"t") == ECLOSED
    assert victim.engine.send_token(ID, b"t" * 512) == 0
    victim.drain()
    assert [len(f.token) for f in victim.of("new_token")] == [512]


@pytest.mark.parametrize("how", [QuicSend.BIDI_OPEN, QuicSend.UNI])
def test_nothing_of_a_stream_follows_its_reset_not_even_what_was_lost_before(how: QuicSend) -> None:
    """RFC 9000 19.4: "ceases transmission and retransmission of STREAM frames"."""
    victim = Victim(theirs={"initial_max_streams_uni": 60, "initial_max_stream_data_uni": 1 << 16})
    first = victim.opener.least
    send(victim, b"s" * 4096, token=1, how=how)
    for _ in range(3):
        victim.drain(1)
        victim.now += 10 * MS
    victim.arrive(victim.sealer.seal(wire.ack((first + 1, victim.opener.least - 1))))  # all but the first
    begun = streams(victim)[0]
    assert victim.info()["packets_lost"] == 1 and len(streams(victim)) == 3 and not streams(victim)[-1].fin
    # its beginning waits to be sent again, and its end for the first time, when the peer says that it wants neither
    victim.frames.clear()
    victim.arrive(victim.sealer.seal(wire.stop_sending(begun.stream, 5)))
    victim.drain()
    victim.acknowledge()
    victim.wait(2 * SECOND)
    assert [(f.stream, f.code) for f in victim.of("reset_stream")] == [(begun.stream, 5)]
    assert streams(victim) == []
    assert [item[2:4] for item in victim.told_of("done")] == [(1, QuicOutcome.STOPPED)]
    assert victim.engine.totals()["slots_used"] == 0


def test_a_probe_carries_what_was_not_acknowledged() -> None:
    victim = Victim()
    send(victim, b"precious")
    victim.drain()
    victim.frames.clear()
    victim.wait(2 * SECOND)
    assert b"precious" in [f.data for f in streams(victim)]
    assert victim.info()["ptos"] >= 1 and victim.info()["packets_lost"] == 0


def test_numbers_are_left_out_and_the_gaps_are_not_regular() -> None:
    victim = Victim(skip_packets=8, theirs={"initial_max_streams_uni": 1 << 20, "initial_max_data": 1 << 20})
    for _ in range(200):
        send(victim, b"x")
        victim.drain()
        numbers = [number for number, _ in victim.sent]
        victim.arrive(victim.sealer.seal(wire.ack((numbers[-1], numbers[-1]))))
        victim.now += MS
    numbers = [number for number, _ in victim.sent]
    gaps = [b for a, b in itertools.pairwise(numbers) if b != a + 1]
    spans = {b - a for a, b in itertools.pairwise(gaps)}
    assert len(gaps) >= 10 and len(spans) > 3


def test_a_stream_of_the_peer_that_stays_open_does_not_stop_the_others() -> None:
    """The limit counts streams that are over, not the lowest that is not."""
    victim = Victim(ours={"initial_max_streams_uni": 8}, uni_window=1024)
    victim.say(wire.stream(2, b"open for ever"))
    for n in range(1, 40):
        victim.say(wire.stream(2 + 4 * n, b"x", fin=True))
        assert victim.closed is None, f"stream {n}"
    assert victim.of("max_streams_uni")


@pytest.mark.parametrize("size", [1, 235, 1232])
def test_data_is_told_in_place_once_and_whole(size: int) -> None:
    victim = Victim(ours={"initial_max_stream_data_uni": 4096})
    packet = victim.sealer.seal(wire.stream(2, b"d" * min(size, 1100), fin=True))
    victim.arrive(packet)
    victim.arrive(packet)
    victim.drain()
    assert [(i[3], len(i[4]), i[5]) for i in victim.told_of("data")] == [(0, min(size, 1100), True)]
    assert victim.info()["packets_duplicate"] == 1


def test_a_larger_mtu_is_found_and_used() -> None:
    victim = Victim(no_mtu_discovery=0, mtu=1472, theirs={"initial_max_streams_uni": 64})
    for n in range(4):
        send(victim, bytes([n]) * 235)
        victim.wait(MS)
        victim.acknowledge()
        victim.wait(30 * MS)
    assert victim.info()["mtu"] == 1472


def test_the_stock_of_connection_ids_is_announced_as_the_peer_stores_them() -> None:
    victim = Victim(local_cids=4, theirs={"active_connection_id_limit": 3}, settle=False)
    victim.drain()
    assert [f.sequence for f in victim.of("new_connection_id")] == [1, 2]
    victim.say(wire.retire_connection_id(1))
    assert [f.sequence for f in victim.of("new_connection_id")] == [1, 2, 3]
    assert [e.number for e, _ in victim.event(QuicEventKind.CID_RETIRED)] == [1]


def test_what_is_kept_of_lost_packets_never_stops_the_sender() -> None:
    """Records of lost packets wait for a late acknowledgement; where they hold the last block, they go."""
    victim = Victim(packets=64 * 6, theirs={"initial_max_streams_uni": 4096, "initial_max_data": 1 << 20})
    send(victim, b"lost")
    victim.drain()
    lost = victim.opener.least - 1
    for n in range(900):
        assert send(victim, b"x", token=n) == 0
        fresh = victim.drain()
        assert any(f.kind == "stream" for f in fresh), f"after {n} packets it is silent"
        victim.now += 1000
        victim.arrive(victim.sealer.seal(wire.ack((lost + 1, victim.opener.least - 1))))


@pytest.mark.parametrize("disabled", [False, True])
def test_a_nat_that_forgets_moves_the_connection_whatever_we_said_of_migration(disabled: bool) -> None:
    """disable_active_migration binds the peer, not the NAT in front of it: without an answer the connection would be lost."""
    victim = Victim(ours={"disable_active_migration": True} if disabled else {})
    victim.say(wire.stream(2, b"from elsewhere", fin=True), port=50_000)
    assert victim.of("path_challenge") and 50_000 in victim.sent_to
    challenge = victim.of("path_challenge")[0].data
    victim.say(wire.path_response(challenge), port=50_000)
    assert victim.event(QuicEventKind.MIGRATED) and victim.info()["migrations"] == 1


def test_a_nat_that_forgets_is_counted_once_though_its_path_is_asked_for_its_size_as_well() -> None:
    """A small packet from elsewhere allows a small challenge only; a second one, of full size, belongs to the same move."""
    victim = Victim()
    victim.say(wire.PING, port=50_000)
    answered: set[bytes] = set()
    for _ in range(3):
        fresh = {f.data for f in victim.of("path_challenge")} - answered
        answered |= fresh
        for challenge in fresh:
            victim.say(wire.path_response(challenge), port=50_000)
    assert len(answered) >= 2 and victim.bytes_to[50_000] > 1200
    assert victim.info()["migrations"] == 1


def test_a_packet_that_is_overtaken_by_hundreds_can_still_be_opened() -> None:
    """RFC 9000 17.1: with one byte of its number 127 packets were the end of it, 0.1 ms at full rate."""
    victim = Victim()
    victim.acknowledge()
    for _ in range(3):
        victim.say(wire.PING)
        victim.acknowledge()
        assert victim.opener.bits & 3 >= 1, "one byte of the packet number"


def grown(victim: Victim) -> Victim:
    """Round trips of 2 ms until its search for an MTU is over."""
    for n in range(16):
        send(victim, b"z", token=1000 + n)
        victim.drain()
        victim.now += 2 * MS
        victim.acknowledge()
        victim.drain()
    victim.frames.clear()
    victim.sent.clear()
    return victim


@pytest.mark.parametrize("size", [1232, 1281, 1300, 1400, 1425])
def test_what_fits_the_datagram_is_one_frame_however_many_slots_hold_it(size: int) -> None:
    victim = grown(Victim(no_mtu_discovery=0, message_bytes=1280))
    assert victim.info()["mtu"] == 1472
    send(victim, b"a" * 100)
    send(victim, b"b" * size)
    send(victim, b"c" * 100)
    victim.drain()
    assert [(f.offset, len(f.data), f.fin) for f in streams(victim)] == [
        (0, 100, True),
        (0, size, True),
        (0, 100, True),
    ]
    assert b"".join(f.data for f in streams(victim)) == b"a" * 100 + b"b" * size + b"c" * 100
    victim.now += 2 * MS
    victim.acknowledge()
    assert victim.engine.totals()["slots_used"] == 0


def test_what_was_one_frame_of_two_slots_arrives_also_when_it_was_lost() -> None:
    victim = grown(Victim(no_mtu_discovery=0, message_bytes=1280))
    send(victim, b"b" * 1400, token=1)
    victim.drain()
    victim.frames.clear()
    victim.wait(2 * SECOND)
    parts = {f.offset: f.data for f in streams(victim)}
    assert b"".join(parts[at] for at in sorted(parts)) == b"b" * 1400
    victim.acknowledge()
    victim.drain()
    assert [d[2:4] for d in victim.told_of("done") if d[2] == 1] == [(1, QuicOutcome.ACKNOWLEDGED)]


def test_an_acknowledgement_in_the_packet_is_no_reason_to_cut() -> None:
    victim = Victim()
    size = 1200 - 1 - 8 - 1 - 16 - 5 - 10  # of a datagram: header, number, tag, the frame's header, nearly full
    victim.arrive(victim.sealer.seal(wire.PING))
    victim.arrive(victim.sealer.seal(wire.PING))  # the second one: to be acknowledged at once
    send(victim, b"x" * size)
    victim.drain()
    assert [(f.offset, len(f.data), f.fin) for f in streams(victim)] == [(0, size, True)]
    assert any(f.kind == "ack" for f in victim.frames)


def test_a_transaction_beyond_a_streams_credit_is_not_mixed_with_another_one() -> None:
    victim = Victim(theirs={"initial_max_stream_data_uni": 1200})
    send(victim, b"a" * 3000)
    send(victim, b"b" * 3000)
    victim.drain()
    victim.say(wire.max_stream_data(3, 3000), wire.max_stream_data(7, 3000))
    seen = [f.stream for f in streams(victim)]
    # each runs until its credit is used up, and then until it is over
    assert seen == sorted(seen[: seen.index(7)]) + seen[seen.index(7) :] and len(set(seen)) == 2
    runs = [stream for stream, _ in itertools.groupby(seen)]
    assert len(runs) <= 4, f"parts are mixed: {seen}"
    for stream, byte in ((3, b"a"), (7, b"b")):
        assert b"".join(f.data for f in streams(victim) if f.stream == stream) == byte * 3000


def losing(victim: Victim, messages: int = 1) -> tuple[int, int]:
    """So many small messages on their way, whose packets will be lost by the range that is returned."""
    first = victim.opener.least
    for n in range(messages):
        send(victim, bytes([0xF0 + n]) * 50, token=900 + n)
        victim.drain()
    lost = victim.opener.least
    for n in range(4):
        send(victim, bytes([n]) * 20, token=950 + n)
        victim.drain()
    assert lost - first == messages
    victim.frames.clear()
    return lost, victim.opener.least - 1


def runs(victim: Victim) -> list[int]:
    """Whose frames, one entry for each time that another stream's follow."""
    return [stream for stream, _ in itertools.groupby(f.stream for f in streams(victim))]


ROOMY = {"initial_max_stream_data_uni": 1 << 16, "initial_max_data": 1 << 20, "initial_max_streams_uni": 1000}


def test_what_was_lost_waits_for_the_end_of_a_transaction_that_is_partly_sent() -> None:
    victim = Victim(theirs=ROOMY)
    acked = losing(victim, 3)
    send(victim, b"L" * 4096, token=1)
    victim.drain(1)
    [begun] = streams(victim)
    assert not begun.fin and len(begun.data) < 4096
    victim.arrive(victim.sealer.seal(wire.ack(acked)))
    victim.drain()
    assert victim.info()["packets_lost"] == 3
    # the long one to its end, then what was lost
    assert runs(victim)[0] == begun.stream and begun.stream not in runs(victim)[1:], runs(victim)
    assert b"".join(f.data for f in streams(victim) if f.stream == begun.stream) == b"L" * 4096
    assert [f.data[0] for f in streams(victim) if f.stream != begun.stream] == [0xF0, 0xF1, 0xF2]


def test_what_was_lost_waits_for_one_transaction_and_not_for_those_behind_it() -> None:
    victim = Victim(theirs=ROOMY)
    acked = losing(victim)
    for n in range(8):
        send(victim, b"L" * 4096, token=1 + n)
    victim.drain(1)
    first = streams(victim)[0].stream
    victim.arrive(victim.sealer.seal(wire.ack(acked)))
    victim.drain()
    order = runs(victim)
    assert order[0] == first and order[1] < first and order[2:] == [first + 4 * n for n in range(1, 8)], order


@pytest.mark.parametrize("credit", ["of the connection", "of the stream"])
def test_what_was_lost_does_not_wait_for_a_transaction_that_has_no_credit(credit: str) -> None:
    """The peer may give none before it has got what is missing."""
    theirs = dict(
        ROOMY, **{"initial_max_data" if credit == "of the connection" else "initial_max_stream_data_uni": 3000}
    )
    victim = Victim(theirs=theirs)
    acked = losing(victim, 2)
    send(victim, b"L" * 4096, token=1)
    victim.drain(1)
    begun = streams(victim)[0].stream
    victim.arrive(victim.sealer.seal(wire.ack(acked)))
    victim.drain()
    assert runs(victim)[0] == begun and runs(victim)[1] < begun, runs(victim)
    assert len(runs(victim)) == 3, "the credit that there is was not used up first"
    victim.say(wire.max_data(1 << 20), wire.max_stream_data(begun, 1 << 16))
    parts = sorted({f.offset: f.data for f in streams(victim) if f.stream == begun}.items())
    assert b"".join(data for _, data in parts) == b"L" * 4096


def test_a_transaction_beyond_a_streams_credit_goes_on_before_what_is_new_or_lost() -> None:
    """It has an object then, and waits in the ring of streams, behind the queue of those that have none."""
    victim = Victim(theirs=dict(ROOMY, initial_max_stream_data_uni=2600))
    acked = losing(victim)
    send(victim, b"L" * 4096, token=1)
    victim.drain(1)
    begun = streams(victim)[0].stream
    send(victim, b"new", token=2)
    victim.arrive(victim.sealer.seal(wire.ack(acked)))
    victim.drain()
    assert runs(victim)[0] == begun and sum(len(f.data) for f in streams(victim) if f.stream == begun) == 2600
    assert begun not in runs(victim)[1:], runs(victim)
    assert [f.data for f in streams(victim) if f.stream != begun] == [b"\xf0" * 50, b"new"]


def test_frames_a_packet_are_as_configured_while_a_transaction_is_partly_sent() -> None:
    victim = Victim(theirs=ROOMY, pack=1)
    send(victim, b"L" * 3000)
    for _ in range(4):
        send(victim, b"small")
    victim.drain()
    assert [sum(f.kind == "stream" for f in frames) for _, frames in victim.sent] == [1] * 7


def test_a_datagram_that_the_path_has_become_too_small_for_is_told_as_lost() -> None:
    victim = grown(Victim(no_mtu_discovery=0, initial_window=2464))
    for n in range(20):
        send(victim, b"w" * 1100, token=n)
    victim.drain()
    assert send(victim, b"D" * 1260, token=77, how=QuicSend.DATAGRAM) == -1023, "longer than max_datagram_frame_size"
    assert send(victim, b"D" * 1190, token=77, how=QuicSend.DATAGRAM) == 0
    assert send(victim, b"d" * 100, token=78, how=QuicSend.DATAGRAM) == 0
    # the window is full; then the peer comes from another host, and what that path carries is not known
    elsewhere = REMOTE[:-1] + b"\x09"

    def say(*frames: bytes) -> None:
        victim.engine.rx([(victim.sealer.seal(b"".join(frames)), elsewhere, 9, LOCAL, LOCAL_PORT, 0)], victim.now)
        victim.drain()

    say(wire.PING)
    assert victim.info()["mtu"] == 1200
    say(wire.path_response(victim.of("path_challenge")[0].data))
    for _ in range(30):
        victim.now += 10 * MS
        say(wire.ack((victim.adopted.next_pn, victim.opener.least - 1)))
    outcomes = {d[2]: d[3] for d in victim.told_of("done")}
    assert outcomes.get(77) == QuicOutcome.LOST and outcomes.get(78) == QuicOutcome.ACKNOWLEDGED, outcomes


def test_an_mtu_beyond_our_own_buffers_is_not_waited_for() -> None:
    victim = grown(Victim(no_mtu_discovery=0, mtu=8952, theirs={"max_udp_payload_size": 65527}))
    room = len(victim.engine.tx(victim.now, 1) or [b""]) and 1500  # of the binding's buffers
    assert 1472 < victim.info()["mtu"] <= room


def test_persistent_congestion_leaves_the_least_window() -> None:
    """RFC 9002 7.6: everything over a long time was lost; one packet lost is an ordinary reduction."""
    for count, persistent in ((1, False), (6, True)):
        victim = grown(Victim())
        window = victim.info()["cwnd"]
        first = victim.opener.least
        for n in range(count):
            send(victim, b"l" * 100, token=n)
            victim.drain()
            victim.now += 100 * MS if persistent else MS
        for n in range(3):
            send(victim, b"h" * 100, token=50 + n)
            victim.drain()
        last = victim.opener.least - 1
        victim.now += 2 * MS
        victim.arrive(victim.sealer.seal(wire.ack((last, last))))
        victim.drain()
        assert victim.info()["packets_lost"] >= count and first < last
        if persistent:
            assert victim.info()["cwnd"] == 2 * 1200
        else:
            assert 2 * 1200 < victim.info()["cwnd"] < window


def window_with_marks(victim: Victim, ce: int) -> int:
    """The congestion window after all is acknowledged, `ce` packets of it as marked."""
    victim.now += 2 * MS
    first, last = victim.adopted.next_pn, victim.opener.least - 1
    victim.arrive(victim.sealer.seal(wire.ack((first, last), ecn=(victim.marked - ce, 0, ce))))
    victim.drain()
    return int(victim.info()["cwnd"])


def test_a_mark_of_congestion_reduces_the_window_once() -> None:
    """RFC 9002 7.1, RFC 9000 13.4.2: CE that the peer reports is a congestion event, the same one again is not."""
    victim = Victim(ecn=1, settle=False, theirs={"initial_max_data": 1 << 20})

    def window(ce: int) -> int:
        for n in range(4):
            send(victim, b"e" * 1000, token=n)
        victim.drain()
        return window_with_marks(victim, ce)

    whole, reduced, after = window(0), window(1), window(1)
    assert victim.marked > 8 and whole > reduced, "CE was not answered"
    assert after >= reduced, "the same mark was answered twice"


def test_a_mark_of_congestion_counts_where_the_last_packet_demanded_no_acknowledgement() -> None:
    """RFC 9002 7.1, B.7: the time of the largest acknowledged packet decides, whatever was in it."""
    victim = Victim(ecn=1, settle=False, theirs={"initial_max_data": 1 << 20})

    def window(ce: int) -> int:
        for n in range(4):
            send(victim, b"e" * 1000, token=n)
        victim.drain()
        victim.arrive(victim.sealer.seal(wire.PING))
        victim.arrive(victim.sealer.seal(wire.PING))
        assert {f.kind for f in victim.drain()} <= {"ack", "padding"}, "the last one is an acknowledgement alone"
        return window_with_marks(victim, ce)

    whole, reduced, after = window(0), window(1), window(1)
    assert whole > reduced, "CE was not answered"
    assert after >= reduced, "the same mark was answered twice"


def test_the_round_trip_is_known_where_the_last_packet_demanded_no_acknowledgement() -> None:
    """RFC 9002 5.1: one of those newly acknowledged has to be ack-eliciting, not the largest. What went to another address
    says nothing of this path."""
    victim = Victim(settle=False)
    send(victim, b"e")
    victim.drain()
    victim.arrive(victim.sealer.seal(wire.PING))
    victim.arrive(victim.sealer.seal(wire.PING))
    victim.drain()
    victim.now += 7 * MS
    victim.acknowledge()
    victim.drain()
    assert victim.info()["latest_rtt_ns"] == 7 * MS
    send(victim, b"e")
    victim.drain()
    victim.now += 40 * MS
    victim.arrive(victim.sealer.seal(wire.PATH_CHALLENGE_ZERO), 50_000)  # probes, and does not move
    assert any(f.kind == "path_response" for f in victim.drain())
    victim.now += MS
    victim.acknowledge()
    victim.drain()
    assert victim.info()["latest_rtt_ns"] == 7 * MS


@pytest.mark.parametrize(
    ("what", "goes_on"),
    [("right", True), ("none", False), ("too few", False), ("ect1", False), ("more than sent", False)],
)
def test_marks_that_do_not_arrive_as_they_were_sent_end_the_marking(what: str, goes_on: bool) -> None:
    """RFC 9000 13.4.2.1."""
    victim = Victim(ecn=1, settle=False, theirs={"initial_max_data": 1 << 20})
    for turn in range(6):
        send(victim, b"e" * 1000, token=turn)
        victim.drain()
        victim.now += 2 * MS
        marks = {
            "right": (victim.marked, 0, 0), "none": None, "too few": (max(0, victim.marked - turn - 1), 0, 0), "ect1": (victim.marked, 1, 0),
            "more than sent": (victim.marked + 5, 0, 0),
        }[what]  # fmt: skip
        victim.arrive(victim.sealer.seal(wire.ack((victim.adopted.next_pn, victim.opener.least - 1), ecn=marks)))
        victim.drain()
    before = victim.marked
    assert before
    send(victim, b"marked?")
    victim.drain()
    assert (victim.marked > before) is goes_on


def test_hystart_is_as_configured() -> None:
    """A round trip that grows with the queue: with HyStart++ slow start ends before anything is lost."""
    windows = []
    for hystart in (0, 1):
        victim = Victim(
            hystart=hystart,
            messages=8192,
            initial_window=20 * 1200,
            theirs={"initial_max_streams_uni": 1 << 20, "initial_max_data": 1 << 30},
        )
        acked = victim.adopted.next_pn
        for round_ms in (40, 40, 60, 80, 100, 120, 140, 160, 180):
            while send(victim, b"w" * 1100) == 0 and victim.info()["queued"] < 64:
                pass
            victim.drain()
            sent, victim.now = victim.opener.least, victim.now + round_ms * MS
            for last in range(acked + 1, min(sent, acked + 40)):
                victim.say(wire.ack((acked, last)))
            acked = sent - 1
            victim.say(wire.ack((victim.adopted.next_pn, acked)))
        assert victim.info()["packets_lost"] == 0
        windows.append(victim.info()["cwnd"])
    assert windows[1] < windows[0] / 2, windows


def test_a_preferred_address_is_declined_with_its_connection_id() -> None:
    """A client may stay where it is (RFC 9000 9.6.1). It says so by retiring sequence number 1, once, and whatever the server
    says of that number later changes nothing."""
    address = bytes((192, 0, 2, 99)) + (4433).to_bytes(2, "big") + bytes(18)
    victim = Victim(
        role=QuicRole.CLIENT,
        theirs={"preferred_address": address + b"\x08" + b"PREFCID!" + bytes(range(16))},
        settle=False,
    )
    victim.drain()
    assert [f.sequence for f in victim.of("retire_connection_id")] == [1]
    victim.acknowledge()
    victim.say(wire.new_connection_id(1, 0, b"PREFCID!", bytes(range(16))))
    victim.say(wire.new_connection_id(2, 2, b"THE-NEXT", bytes(16)))
    victim.acknowledge()
    assert [f.sequence for f in victim.of("retire_connection_id")] == [1, 0]
    assert send(victim, b"onwards") == 0
    victim.drain()
    assert streams(victim)[-1].data == b"onwards" and victim.alive()
    assert set(victim.sent_to) == {REMOTE_PORT}


def acks_for(victim: Victim, pings: int) -> int:
    """How many ACKs so many packets bring at once, each looked at for itself."""
    return sum(
        victim.arrive(victim.sealer.seal(wire.PING)) and any(f.kind == "ack" for f in victim.drain())
        for _ in range(pings)
    )


@pytest.mark.parametrize(("threshold", "each"), [(1, 1), (2, 2), (0, 32), (8, 8)])
def test_acks_gather_once_the_peer_has_sent_a_lot_and_the_round_trip_is_known(threshold: int, each: int) -> None:
    victim = Victim(ack_threshold=threshold)
    assert acks_for(victim, 64) == 64 // min(each, 2), "a fresh connection's window grows with each ACK"
    assert acks_for(victim, 64) == 64 // min(each, 2)
    send(victim, b"how far is it?")
    victim.drain()
    victim.now += 2 * MS
    victim.acknowledge()
    victim.drain()
    assert acks_for(victim, 64) == 64 // each
    if each > 2:
        assert acks_for(victim, 2) == 0
        assert any(f.kind == "ack" for f in victim.wait(MS)), "a quarter of the round trip at the longest"


def test_nothing_is_told_twice_where_the_ring_has_room_for_a_part_of_it() -> None:
    victim = Victim(local_cids=3, theirs={"active_connection_id_limit": 3})
    assert victim.engine.stock(ID, packed(0, 3).pack() + packed(0, 4).pack()) == 2
    victim.settle()
    victim.events.clear()
    victim.engine.room(0)
    victim.sealer.generation = 1
    victim.arrive(victim.sealer.seal(wire.retire_connection_id(0), cid=b"\xa0\x01" + bytes(6)))
    victim.drain()
    for _ in range(10):
        victim.engine.room(1)
        victim.engine.tx(victim.now, 1)
        victim.drain()
    kinds = [kind for kind, _, _ in victim.events]
    assert kinds == [QuicEventKind.CID_RETIRED, QuicEventKind.CIDS_LOW, QuicEventKind.KEY_UPDATE]


def test_a_lost_packet_repeats_the_limits_of_its_own_streams_alone() -> None:
    """With all of them a peer could have each packet cost a look at thousands, and be told of limits that it knows."""
    count = 24
    victim = Victim(
        streams=64,
        ours={"initial_max_streams_uni": 64, "initial_max_stream_data_uni": 1000, "initial_max_data": 1 << 20},
    )

    def limits() -> list[tuple[int, int]]:
        told = [(f.stream, f.value) for f in victim.of("max_stream_data")]
        victim.frames.clear()
        return told

    for n in range(count):
        victim.arrive(victim.sealer.seal(wire.stream(2 + 4 * n, bytes(600))))
    victim.drain()
    assert limits() == [(2 + 4 * n, 1600) for n in range(count)], "each once, in the order in which they became due"
    victim.acknowledge()
    first = victim.opener.least
    victim.say(wire.stream(2, bytes(600), 600), wire.stream(10, bytes(600), 600))
    assert limits() == [(2, 2200), (10, 2200)]
    lost = victim.opener.least - 1
    victim.say(wire.stream(10, bytes(600), 1200))  # a newer one of the second, in another packet
    assert limits() == [(10, 2800)]
    for n in range(4):
        send(victim, bytes([n]))
        victim.drain()
    victim.say(wire.ack((lost + 1, victim.opener.least - 1)))
    assert lost == first and limits() == [(2, 2200)], "what is newer was told, and has arrived"
    # one that is over is not told again, and its place is free for another
    victim.say(wire.stream(2, bytes(600), 600 + 600))
    assert limits() == [(2, 2800)]
    lost = victim.opener.least - 1
    victim.say(wire.stream(2, b"", 1800, fin=True))
    for n in range(4):
        send(victim, bytes([n]))
        victim.drain()
    victim.say(wire.ack((lost + 1, victim.opener.least - 1)))
    assert limits() == [] and victim.alive()
