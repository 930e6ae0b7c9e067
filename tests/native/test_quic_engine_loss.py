"""What the engine makes of acknowledgements that come, and of those that do not: loss, round trip, window, size of the path.

The formulas are tested by themselves (test_quic_cc.py, test_quic_rtt.py, test_quic_mtu.py); this is what the engine feeds them.
"""

from __future__ import annotations

import pytest

from afterburnerd.abi.layout import Path, QuicOutcome, QuicRole, QuicSend
from tests.sim import wire
from tests.sim.hostile import ID, LOCAL, LOCAL_PORT, MS, REMOTE, REMOTE_PORT, Victim

from .test_quic_engine_send import grown

SECOND = 1_000 * MS
ELSEWHERE = REMOTE[:-1] + b"\x09"  # another host
ROOMY = {"initial_max_data": 1 << 30, "initial_max_streams_uni": 1 << 20, "initial_max_stream_data_uni": 1 << 20}


def packets(victim: Victim, count: int, size: int = 500, gap: int = 0) -> list[int]:
    """So many packets of one message each, the next one `gap` later: their numbers."""
    numbers = []
    for _ in range(count):
        assert victim.engine.send(ID, QuicSend.UNI, b"p" * size, victim.now)[0] == 0
        victim.drain()
        numbers.append(victim.opener.least - 1)
        victim.now += gap
    return numbers


def acknowledge(victim: Victim, *ranges: tuple[int, int], delay: int = 0) -> None:
    """Newest range first."""
    victim.arrive(victim.sealer.seal(wire.ack(*ranges, delay=delay)))
    victim.drain()


def elsewhere(victim: Victim, *frames: bytes) -> None:
    """A packet of another host."""
    victim.engine.rx([(victim.sealer.seal(b"".join(frames)), ELSEWHERE, 9, LOCAL, LOCAL_PORT, 0)], victim.now)
    victim.drain()


def test_a_packet_is_lost_when_the_third_one_behind_it_has_arrived() -> None:
    """RFC 9002 6.1.1."""
    victim = grown(Victim(theirs=ROOMY))
    numbers = packets(victim, 4)
    victim.now += MS
    acknowledge(victim, (numbers[2], numbers[2]))
    assert victim.info()["packets_lost"] == 0
    acknowledge(victim, (numbers[3], numbers[3]))
    assert victim.info()["packets_lost"] == 1


def test_a_packet_is_lost_when_a_later_one_has_arrived_and_nine_eighths_of_the_round_trip_are_over() -> None:
    """RFC 9002 6.1.2."""
    victim = grown(Victim(theirs=ROOMY))
    numbers = packets(victim, 2)
    sent = victim.now
    victim.now += 8 * MS
    acknowledge(victim, (numbers[1], numbers[1]))
    assert victim.info()["packets_lost"] == 0
    victim.wait(sent + 9 * MS - MS // 10 - victim.now)
    assert victim.info()["packets_lost"] == 0
    victim.wait(MS // 5)
    assert victim.info()["packets_lost"] == 1 and victim.info()["ptos"] == 0


def test_what_came_late_after_all_is_counted_and_makes_us_wait_for_more() -> None:
    """RFC 9002 6.1.1 allows a larger threshold: on a path that reorders each loss would halve the window for nothing."""
    victim = grown(Victim(theirs=ROOMY))
    before = victim.info()["packets_lost"]
    numbers = packets(victim, 6)
    victim.now += MS
    acknowledge(victim, (numbers[5], numbers[5]))
    assert victim.info()["packets_lost"] - before == 3
    acknowledge(victim, (numbers[0], numbers[5]))
    assert victim.info()["packets_spurious"] == 3
    victim.acknowledge()
    numbers = packets(victim, 6)
    victim.now += MS
    acknowledge(victim, (numbers[5], numbers[5]))
    assert victim.info()["packets_lost"] - before == 3, "as quick as before"


def test_losses_and_what_is_sent_again_are_counted() -> None:
    victim = grown(Victim(theirs=ROOMY))
    numbers = packets(victim, 5)
    victim.now += MS
    acknowledge(victim, (numbers[4], numbers[4]))
    info = victim.info()
    assert (info["packets_lost"], info["messages_resent"], info["congestion_events"]) == (2, 2, 1)


def test_persistent_congestion_wants_nothing_acknowledged_between() -> None:
    """RFC 9002 7.6.2. A PTO is some 30 ms here, so 90 ms of loss are persistent congestion: 160 are, twice 80 are not."""
    for middle, collapsed in ((False, True), (True, False)):
        victim = grown(Victim(theirs=ROOMY))
        numbers = packets(victim, 5, gap=40 * MS)
        fresh = packets(victim, 4)
        victim.now += 2 * MS
        acknowledge(victim, (fresh[3], fresh[3]), *([(numbers[2], numbers[2])] if middle else []))
        assert (victim.info()["cwnd"] == 2400) is collapsed


def test_persistent_congestion_counts_from_the_first_sample_on() -> None:
    """RFC 9002 7.6.2: before it nobody knows how long a round trip is."""
    victim = Victim(theirs=ROOMY)
    packets(victim, 6, gap=100 * MS)
    last = packets(victim, 4)[-1]
    victim.now += 2 * MS
    acknowledge(victim, (last, last))
    assert victim.info()["packets_lost"] >= 6 and victim.info()["cwnd"] > 2400


def test_after_persistent_congestion_the_least_round_trip_is_measured_anew() -> None:
    """RFC 9002 5.2: the path may be another one."""
    victim = grown(Victim(theirs=ROOMY))
    assert victim.info()["min_rtt_ns"] == 2 * MS
    packets(victim, 5, gap=40 * MS)
    last = packets(victim, 4)[-1]
    victim.now += 2 * MS
    acknowledge(victim, (last, last))
    assert victim.info()["cwnd"] == 2400
    [number] = packets(victim, 1)
    victim.now += 50 * MS
    acknowledge(victim, (number, number))
    assert victim.info()["min_rtt_ns"] == 50 * MS


@pytest.mark.parametrize("lost", [False, True])
def test_packets_of_the_former_path_say_nothing_of_the_new_one(lost: bool) -> None:
    """RFC 9000 9.4: neither their bytes, nor their round trip, nor their loss."""
    victim = grown(Victim(theirs=ROOMY))
    old = packets(victim, 8, 1000)
    elsewhere(victim, wire.PING, bytes(1000))
    assert victim.info()["in_flight"] == 0 and victim.info()["cwnd"] == 128 * 1232 and victim.info()["mtu"] == 1200
    elsewhere(victim, wire.path_response(victim.of("path_challenge")[0].data), bytes(1000))
    packets(victim, 1, 1000)
    under_way = victim.info()["in_flight"]
    assert under_way >= 1000
    victim.now += 700 * MS
    elsewhere(victim, wire.ack((old[7 if lost else 0], old[7])))
    info = victim.info()
    assert info["cwnd"] == 128 * 1232 and info["congestion_events"] == 0 and info["latest_rtt_ns"] == 0
    if lost:
        assert info["packets_lost"] >= 5 and info["in_flight"] > under_way + 5 * 1000, "they were not sent again"
    else:
        assert info["packets_lost"] == 0 and info["in_flight"] == under_way


def test_a_changed_port_is_the_same_path_and_keeps_what_is_known_of_it() -> None:
    """RFC 9000 9.4: a NAT has forgotten."""
    victim = grown(Victim(theirs=ROOMY))
    before = victim.info()
    victim.say(wire.PING, port=9999, after=MS)
    after = victim.info()
    assert [after[k] for k in ("cwnd", "srtt_ns", "min_rtt_ns")] == [before[k] for k in ("cwnd", "srtt_ns", "min_rtt_ns")]  # fmt: skip


def test_the_patience_of_a_former_path_is_not_the_new_ones() -> None:
    victim = grown(Victim(theirs=ROOMY))
    packets(victim, 1)
    while victim.info()["ptos"] < 6:
        victim.now = max(victim.now, victim.engine.deadline())
        victim.drain()
    elsewhere(victim, wire.PING, bytes(1000))
    elsewhere(victim, wire.path_response(victim.of("path_challenge")[0].data), bytes(1000))
    packets(victim, 1)
    sent = victim.now
    while victim.info()["ptos"] < 7:
        victim.now = max(victim.now, victim.engine.deadline())
        victim.drain()
    assert victim.now - sent <= 1100 * MS


def test_a_window_that_is_not_used_does_not_grow() -> None:
    """RFC 9002 7.8."""
    victim = grown(Victim(theirs=ROOMY, messages=2048))
    before = victim.info()["cwnd"]
    for _ in range(50):
        [number] = packets(victim, 1)
        victim.now += 2 * MS
        acknowledge(victim, (number, number))
    assert victim.info()["cwnd"] == before
    for _ in range(4):
        packets(victim, 160, 1100)
        victim.now += 2 * MS
        victim.acknowledge()
        victim.drain()
    assert victim.info()["cwnd"] > before


def test_packets_are_paced_by_the_round_trip_and_wake_themselves() -> None:
    victim = grown(Victim(theirs=ROOMY, pacing=1, initial_window=1 << 20, messages=2048))
    for _ in range(800):
        assert victim.engine.send(ID, QuicSend.UNI, b"p" * 1100, victim.now)[0] == 0
    begin, window = victim.info()["bytes_sent"], victim.info()["cwnd"]
    victim.drain()
    at_once = victim.info()["bytes_sent"] - begin
    assert 64 * 1200 < at_once < 300 * 1200, "a burst, and not all that the window allows"
    victim.wait(2 * MS)
    assert victim.info()["bytes_sent"] - begin > 750 * 1100, "the rest follows within the round trip"
    victim.acknowledge()
    victim.drain()
    assert victim.info()["cwnd"] > window, "it was the pacer that kept the window from being full"


def test_the_delay_that_a_peer_admits_is_counted_by_its_exponent_and_not_for_the_path() -> None:
    """RFC 9002 5.3, RFC 9000 19.3."""
    victim = grown(Victim(theirs={**ROOMY, "ack_delay_exponent": 10}))
    before = victim.info()["srtt_ns"]
    for _ in range(20):
        [number] = packets(victim, 1)
        victim.now += 12 * MS
        acknowledge(victim, (number, number), delay=10_000 >> 10)  # 9 of 1,024 us
    assert victim.info()["latest_rtt_ns"] == 12 * MS
    assert before <= victim.info()["srtt_ns"] <= 3 * MS


def test_the_delay_that_we_admit_is_told_by_our_exponent_and_bounded_as_we_said() -> None:
    victim = Victim(ours={"ack_delay_exponent": 5, "max_ack_delay": 10}, theirs={"max_ack_delay": 100})
    begin = victim.now
    victim.arrive(victim.sealer.seal(wire.PING))
    victim.drain()
    assert not victim.of("ack")
    victim.wait(10 * MS)
    [ack] = victim.of("ack")
    assert ack.delay == 10_000 >> 5 and victim.now == begin + 10 * MS
    assert victim.info()["pto_ns"] == (333 + 4 * 333 // 2 + 100) * MS


def test_what_the_handshake_knew_of_round_trip_and_idleness_goes_on() -> None:
    victim = Victim(state={"rtt_hint_ns": 7 * MS})
    assert victim.info()["srtt_ns"] == 7 * MS and victim.info()["pto_ns"] == (7 + 14 + 25) * MS
    victim = Victim(
        QuicRole.CLIENT, ours={"max_idle_timeout": 900}, state={"rtt_hint_ns": 7 * MS, "idle_deadline_ns": 1_400 * MS}
    )
    victim.wait(390 * MS)
    assert victim.ended() is None
    victim.wait(20 * MS)
    assert victim.ended() is not None


@pytest.mark.parametrize("later", [False, True])
def test_no_datagram_is_longer_than_the_peer_takes(later: bool) -> None:
    victim = Victim(no_mtu_discovery=0, theirs={**ROOMY, "max_udp_payload_size": 1300})
    if later:
        assert victim.engine.set_path(ID, victim.path.pack(), victim.now) == 0
    largest = 0
    for _ in range(12):
        victim.engine.send(ID, QuicSend.UNI, b"z", victim.now)
        while out := victim.engine.tx(victim.now, 16):
            for data, *_ in out:
                victim.opener.open(data)
                largest = max(largest, len(data))
        victim.now += 2 * MS
        victim.acknowledge()
    assert largest == 1300 and victim.info()["mtu"] == 1300


def test_a_probe_of_the_paths_mtu_that_is_lost_is_no_congestion() -> None:
    """RFC 9000 14.4."""
    victim = Victim(no_mtu_discovery=0, theirs=ROOMY)
    before = victim.info()["cwnd"]
    probes = 0
    for _ in range(40):
        sizes: dict[int, int] = {}
        victim.engine.send(ID, QuicSend.UNI, b"z", victim.now)
        while out := victim.engine.tx(victim.now, 16):
            for data, *_ in out:
                sizes[victim.opener.open(data)[0]] = len(data)
        victim.now += 2 * MS
        for number in sorted(n for n, size in sizes.items() if size <= 1200):
            victim.arrive(victim.sealer.seal(wire.ack((number, number))))
        probes += sum(size > 1200 for size in sizes.values())
    info = victim.info()
    assert probes >= 3 and info["packets_lost"] >= 3
    assert (info["mtu"], info["congestion_events"], info["cwnd"]) == (1200, 0, before)


@pytest.mark.parametrize("some", [False, True])
def test_a_path_that_has_shrunk_is_found_out_by_large_packets_alone_that_are_lost(some: bool) -> None:
    """What is lost among large ones that arrive is ordinary loss."""
    victim = grown(Victim(no_mtu_discovery=0, theirs=ROOMY))
    assert victim.info()["mtu"] == 1472
    packets(victim, 1, 1400)
    turns = 0
    while turns < 7 and victim.info()["mtu"] == 1472:
        turns += 1
        arrive = [*(packets(victim, 1, 1400) if some else []), *packets(victim, 4, 10)]
        victim.now += 2 * MS
        for number in arrive:
            acknowledge(victim, (number, number))
    assert victim.info()["packets_lost"] >= 3
    assert (victim.info()["mtu"], turns) == ((1472, 7) if some else (1200, 3))


def test_a_skipped_number_is_remembered_longer_than_until_the_next_one() -> None:
    """An optimist's guess (RFC 9000 21.4) may be about any of the last few."""
    for back in range(1, 5):
        victim = Victim(QuicRole.CLIENT, skip_packets=4, theirs=ROOMY)
        numbers = packets(victim, 40)
        skipped = sorted(set(range(numbers[0], numbers[-1])) - set(numbers))
        assert len(skipped) >= 4
        victim.say(wire.ack((skipped[-back], skipped[-back])))
        assert victim.closed and victim.closed.code == wire.PROTOCOL_VIOLATION, back


def test_who_only_acknowledges_asks_for_an_acknowledgement_now_and_then() -> None:
    """Else it would repeat ever more ranges, for nobody tells it which are known (RFC 9000 13.2.4)."""
    victim = Victim()
    for _ in range(80):
        victim.say(wire.PING, wire.PING)
    acks = sum(any(f.kind == "ack" for f in frames) for _, frames in victim.sent)
    assert acks >= 64 and 1 <= len(victim.of("ping")) <= acks // 16


def test_a_path_of_other_size_is_told_from_one_that_nobody_uses() -> None:
    victim = grown(Victim(no_mtu_discovery=0, theirs=ROOMY))
    other = {name: getattr(victim.path, name) for name in Path.__struct_fields__}
    assert victim.engine.set_path(ID, Path(**{**other, "remote_port": 1}).pack(), victim.now) != 0
    assert victim.engine.set_path(ID, Path(**{**other, "mtu": 1300}).pack(), victim.now) == 0
    assert victim.info()["mtu"] == 1300


def test_the_last_fate_of_what_was_sent_again_is_one() -> None:
    victim = grown(Victim(theirs=ROOMY))
    victim.told.clear()
    victim.engine.send(ID, QuicSend.UNI, b"twice", victim.now, token=5)
    victim.wait(3 * SECOND)
    assert victim.info()["ptos"] > 1
    victim.acknowledge()
    victim.wait(SECOND)
    assert [item[2:4] for item in victim.told_of("done")] == [(5, QuicOutcome.ACKNOWLEDGED)]


def test_a_path_that_loses_all_marked_packets_is_marked_no_more_and_another_one_is_tried() -> None:
    """RFC 9000 A.4: it may drop them for their marks. Another path may not."""
    victim = Victim(ecn=1, settle=False, theirs=ROOMY)
    victim.drain()
    packets(victim, 20)
    assert victim.marked == 10
    victim.now += 2 * MS
    acknowledge(victim, (victim.opener.least - 2, victim.opener.least - 1))
    victim.wait(50 * MS)
    assert victim.info()["packets_lost"] >= 10 and victim.info()["ecn"] == 4, "failed"
    victim.acknowledge()
    packets(victim, 4)
    assert victim.marked == 10
    elsewhere(victim, wire.PING, bytes(1000))
    elsewhere(victim, wire.path_response(victim.of("path_challenge")[0].data), bytes(1000))
    packets(victim, 4)
    assert victim.marked >= 14
    packets(victim, 12)
    assert victim.info()["ecn"] == 2, "judged by what the other path has lost"


def test_an_acknowledgement_that_was_overtaken_says_nothing_of_marks() -> None:
    """RFC 9000 13.4.2.1: its counts are older than those that we know, and no sign of anything."""
    victim = Victim(ecn=1, settle=False, theirs=ROOMY)
    victim.drain()
    numbers = packets(victim, 3)
    victim.now += 2 * MS
    first = victim.adopted.next_pn
    for last, count in ((numbers[2], victim.marked), (numbers[0], victim.marked - 2)):
        newest = [(last, last)] if last == numbers[2] else [(first, last)]
        victim.arrive(victim.sealer.seal(wire.ack(*newest, ecn=(count, 0, 0))))
        victim.drain()
    assert victim.info()["ecn"] == 3, "capable"


def test_what_was_measured_on_a_path_that_was_given_up_does_not_count_on_the_former_one() -> None:
    """RFC 9000 9.4 holds for the way back too."""
    victim = grown(Victim(theirs=ROOMY))
    elsewhere(victim, wire.PING, bytes(1000))
    packets(victim, 1, 100)
    victim.now += 200 * MS
    elsewhere(victim, wire.ack((victim.adopted.next_pn, victim.opener.least - 1)), bytes(1000))
    assert victim.info()["srtt_ns"] == 200 * MS
    victim.wait(6 * SECOND)
    victim.sent_to.clear()
    packets(victim, 1)
    assert set(victim.sent_to) == {REMOTE_PORT} and victim.info()["srtt_ns"] == 333 * MS and victim.closed is None
