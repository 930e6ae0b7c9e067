"""What was received is acknowledged, when RFC 9000 13.2 says; no packet is taken twice, whatever is forgotten."""

from __future__ import annotations

import itertools
import random

import pytest

from tests.sim import wire

from .quic_leaves import MS, NONE, Bytes, load

lib = load()

RANGES = 64  # AB_QUIC_ACK_RANGES
REORDERING = 16
DELAY = 25 * MS
NOT_ECT, ECT1, ECT0, CE = range(4)


class Received:
    def __init__(self, threshold: int = 2, exponent: int = 3) -> None:
        self.made = lib.ack_new(threshold, DELAY, exponent)

    def add(self, pn: int, now: int = 0, eliciting: bool = True, ecn: int = NOT_ECT) -> bool:
        """As the engine does: asked first, taken down afterwards; the two must agree."""
        seen = lib.ack_seen(self.made, pn)
        added = lib.ack_add(self.made, pn, eliciting, ecn, now)
        assert added != seen
        return bool(added)

    @property
    def deadline(self) -> int:
        return lib.ack_deadline(self.made)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        n = lib.numbers(lib.ack_show, self.made)
        return list(zip(n[2::2], n[3::2], strict=True))

    @property
    def floor(self) -> int:
        return lib.numbers(lib.ack_show, self.made)[0]

    def write(self, now: int = 0, room: int = 1200) -> wire.Frame | None:
        out, length = Bytes(room), Bytes(8)
        largest = lib.ack_write(self.made, out.at, room, length.at, now)
        written = out.get(int.from_bytes(length.get(8), "little"))
        if largest == NONE:
            assert written == b""
            return None
        (frame,) = wire.parse(written)
        assert frame.kind == "ack" and frame.ranges[0][1] == largest
        return frame


# --- when --------------------------------------------------------------------------------------------------------------


def test_every_second_packet_is_acknowledged_at_once_and_a_single_one_within_the_delay() -> None:
    a = Received()
    assert a.deadline == NONE
    a.add(0, 100)
    assert a.write(100) is not None
    a.add(1, 200)
    assert a.deadline == 200 + DELAY and lib.ack_pending(a.made)
    a.add(2, 300)
    assert a.deadline == 0
    assert a.write(300) is not None
    assert a.deadline == NONE and not lib.ack_pending(a.made)


def test_the_first_packet_of_all_waits_as_any_other() -> None:
    a = Received()
    a.add(0, 100)
    assert a.deadline == 100 + DELAY
    b = Received()  # what was before is missing
    b.add(1, 100)
    assert b.deadline == 0


@pytest.mark.parametrize("threshold", [1, 2, 10])
def test_the_threshold_is_configurable(threshold: int) -> None:
    a = Received(threshold)
    for pn in range(threshold):
        assert a.deadline in (NONE, 5 + DELAY)
        a.add(pn, 5)
    assert a.deadline == 0


def test_acks_of_a_burst_gather_until_their_number_or_their_time_is_reached() -> None:
    a = Received()
    lib.ack_thin(a.made, 5, 2 * MS)
    a.add(0, 100)
    assert a.deadline == 100 + DELAY  # one alone waits as ever
    a.add(1, 200)
    assert a.deadline == 200 + 2 * MS
    a.add(2, 300)
    a.add(3, 400)
    assert a.deadline == 200 + 2 * MS  # from the second on, not from the last
    a.add(4, 500)
    assert a.deadline == 0
    assert a.write(500) is not None and a.deadline == NONE
    a.add(5, 600)
    a.add(6, 600 + DELAY - MS)
    assert a.deadline == 600 + DELAY  # never longer than promised
    a.add(8, 700 + DELAY - MS)
    assert a.deadline == 0  # a hole is told at once all the same
    assert a.write(0) is not None
    a.add(9, 800, ecn=CE)
    assert a.deadline == 0
    assert a.write(0) is not None
    lib.ack_thin(a.made, 2, 2 * MS)  # as often as the RFC recommends: no gathering
    a.add(10, 900)
    a.add(11, 900)
    assert a.deadline == 0


def test_what_does_not_elicit_an_ack_never_makes_one_due() -> None:
    a = Received()
    for pn in (0, 1, 2, 5, 3):
        a.add(pn, 1, eliciting=False)
        assert a.deadline == NONE and not lib.ack_pending(a.made)
    assert a.ranges == [(0, 3), (5, 5)]  # but it is acknowledged along with the rest


def settled(up_to: int = 10) -> Received:
    """Everything up to and including `up_to` received and acknowledged."""
    a = Received()
    for pn in range(up_to + 1):
        a.add(pn, 1)
    a.write(1)
    assert a.deadline == NONE
    return a


def test_a_hole_is_told_at_once_and_so_is_what_fills_it() -> None:
    a = settled(10)
    a.add(12, 2)
    assert a.deadline == 0  # 13.2.1: larger than the largest, with packets missing between
    a.write(2)
    a.add(13, 3)
    assert a.deadline == 3 + DELAY  # the hole is old
    a.write(3)
    a.add(11, 4)
    assert a.deadline == 0  # 13.2.1: smaller than the largest


def test_a_hole_that_a_packet_without_ack_opened_is_told_with_the_next_that_elicits_one() -> None:
    a = settled(10)
    a.add(12, 2, eliciting=False)
    assert a.deadline == NONE
    a.add(13, 3)
    assert a.deadline == 0


def test_packets_without_ack_are_not_missing() -> None:
    a = settled(10)
    a.add(11, 2, eliciting=False)
    a.add(12, 3)
    assert a.deadline == 3 + DELAY
    a = settled(10)
    a.add(12, 2, eliciting=False)
    a.add(11, 3)  # overtaken by one that elicits nothing: neither reordered in the sense of 13.2.1, nor a hole
    assert a.deadline == 3 + DELAY


def test_congestion_is_told_at_once() -> None:
    a = settled(10)
    a.add(11, 2, ecn=CE)
    assert a.deadline == 0
    a = settled(10)
    a.add(11, 2, ecn=ECT0)
    assert a.deadline == 2 + DELAY


def test_what_was_pruned_is_not_missing() -> None:
    a = settled(10)
    for pn in range(11, 60):
        a.add(pn, 2, eliciting=False)
    lib.ack_acked(a.made, 59)
    assert a.floor == 59 - REORDERING
    a.add(60, 3)
    assert a.deadline == 3 + DELAY


# --- what ---------------------------------------------------------------------------------------------------------------


def test_the_delay_counts_from_the_largest_packet_and_is_scaled() -> None:
    a = Received(exponent=3)
    a.add(5, 1000)
    a.add(4, 999_000)
    frame = a.write(1000 + 80_000_000)
    assert frame and frame.delay == 80_000 >> 3
    a = Received(exponent=0)
    a.add(5, 1000)
    frame = a.write(1000 + 80_000_999)
    assert frame and frame.delay == 80_000
    frame = a.write(0)  # a clock that was read before the packet was
    assert frame and frame.delay == 0


def test_marks_are_counted_and_told() -> None:
    a = Received()
    for pn, ecn in enumerate([ECT0, ECT0, ECT1, NOT_ECT, CE, ECT0, CE]):
        a.add(pn, 1, eliciting=pn % 2 == 0, ecn=ecn)
    a.add(6, 1, ecn=CE)  # a replay counts for nothing
    frame = a.write(1)
    assert frame and frame.ecn == (3, 1, 2)
    b = Received()
    b.add(0, 1)
    frame = b.write(1)
    assert frame and frame.ecn is None


def test_the_newest_ranges_go_first_into_little_room() -> None:
    a = Received()
    for pn in range(0, 4000, 100):
        a.add(pn, 1)
    whole = a.write(1)
    assert whole and whole.ranges == [(pn, pn) for pn in range(3900, -1, -100)]
    for room in range(0, 200):
        frame = a.write(1, room)
        if frame is None:
            assert room < 6
            continue
        assert frame.ranges == whole.ranges[: len(frame.ranges)]
        # type, largest, delay, count, first range; then gap and length
        assert len(frame.ranges) == min(40, 1 + (room - 6) // 3)


def test_an_ack_that_has_no_room_stays_due() -> None:
    a = Received()
    a.add(0, 1)
    a.add(1, 1)
    assert a.write(1, 4) is None
    assert a.deadline == 0
    assert a.write(1, 5) is not None


def test_nothing_received_nothing_told() -> None:
    assert Received().write(1) is None
    assert lib.ack_expected(Received().made) == 0


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_the_oldest_range_is_forgotten_and_refused_from_then_on() -> None:
    a = Received()
    for i in range(RANGES):
        assert a.add(10 + 2 * i)
    assert not a.add(10)
    assert not a.add(8)  # older than all that can be kept apart
    assert a.add(9)  # but one that joins the oldest range is
    assert a.ranges[0] == (9, 10)
    assert a.add(10 + 2 * RANGES)
    assert a.ranges[0] == (12, 12) and a.floor == 11 and len(a.ranges) == RANGES
    for pn in (0, 8, 9, 10):
        assert not a.add(pn)
    assert a.add(11)  # a hole above what was forgotten


def test_what_the_peer_knows_that_we_know_is_pruned() -> None:
    a = Received()
    for pn in [*range(0, 100, 2), *range(101, 200)]:
        a.add(pn)
    assert len(a.ranges) == 51
    lib.ack_acked(a.made, 80)
    assert a.floor == 80 - REORDERING and a.ranges[0] == (64, 64)
    assert not a.add(63)
    assert a.add(65)  # one that was overtaken a little is still taken
    lib.ack_acked(a.made, 198)
    assert a.ranges == [(182, 199)]
    lib.ack_acked(a.made, NONE)  # a caller that is mistaken costs no more than this
    assert a.ranges == [(199, 199)] and lib.ack_expected(a.made) == 200
    assert not a.add(199) and a.add(200)
    lib.ack_acked(a.made, 0)
    assert a.ranges == [(199, 200)]


def test_a_replay_is_refused_for_ever(seed: int) -> None:
    """Against a set that forgets nothing: nothing is taken twice, and whatever was not taken for a reason is taken."""
    rng = random.Random(seed)
    for _ in range(30):
        a, taken, top, newest = Received(rng.choice([1, 2, 8])), set[int](), rng.choice([0, rng.getrandbits(40)]), 0
        first, told, log = top, list[int](), list[int]()
        loss, spread = rng.choice([0.0, 0.05, 0.5]), rng.choice([1, 3, 40, 400])
        for step in range(1000):
            choice = rng.random()
            if choice < 0.85:
                pn = max(first, top - int(rng.expovariate(1 / spread))) if rng.random() < 0.5 else top
            else:
                pn = rng.choice(log) if log and choice < 0.9 else max(0, top - rng.randint(0, 5000))
            if pn == top:
                top += 1 + (rng.random() < loss) * rng.randint(1, 3)
            floor, kept = a.floor, a.ranges
            fresh = a.add(pn, step, rng.random() < 0.7, rng.choice([NOT_ECT, NOT_ECT, ECT0, CE]))
            if fresh:
                assert pn not in taken
                taken.add(pn)
                log.append(pn)
            elif pn not in taken:  # refused for age alone
                assert pn < floor or (len(kept) == RANGES and pn < kept[0][0] - 1)
            if rng.random() < 0.05 and (frame := a.write(step, rng.choice([20, 60, 1200]))):
                told.append(frame.ranges[0][1])
                for lower, upper in frame.ranges:
                    assert all(n in taken for n in range(max(lower, upper - 50), upper + 1))
            if told and rng.random() < 0.03:
                lib.ack_acked(a.made, rng.choice(told))
            newest = max(newest, pn)
            ranges = a.ranges
            assert len(ranges) <= RANGES and ranges[-1][1] == newest
            assert all(x[1] + 1 < y[0] for x, y in itertools.pairwise(ranges)), "two ranges that touch"
        # What is kept is exactly what was taken above the floor.
        kept_numbers = {n for lower, upper in a.ranges for n in range(lower, upper + 1)}
        assert kept_numbers == {n for n in taken if n >= a.ranges[0][0]}


def test_in_order_reception_is_one_range() -> None:
    a = Received()
    for pn in range(10_000):
        assert a.add(pn, pn)
        if pn % 2:
            frame = a.write(pn)
            assert frame and frame.ranges == [(a.ranges[0][0], pn)]
        if pn % 100 == 0:
            lib.ack_acked(a.made, pn)
    assert a.ranges == [(9900 - REORDERING, 9999)]
