"""Packets are marked only on paths that carry marks and with peers that report them (RFC 9000 13.4.2 and A.4)."""

from __future__ import annotations

import pytest

from .quic_leaves import MS, S, load

lib = load()

DISABLED, TESTING, UNKNOWN, CAPABLE, FAILED = range(5)
NOT_ECT, ECT0 = 0, 2
PTO = 100 * MS


class Path:
    def __init__(self, enabled: bool = True) -> None:
        self.made = lib.ecn_new(enabled)
        self.now = 1 * S

    @property
    def state(self) -> int:
        return lib.ecn_state(self.made)

    def send(self, packets: int = 1) -> int:
        """How many of them were marked."""
        marks = [lib.ecn_mark(self.made, PTO, self.now) for _ in range(packets)]
        assert set(marks) <= {NOT_ECT, ECT0}
        return marks.count(ECT0)

    def ack(self, marked: int, ect0: int, ce: int = 0, ect1: int = 0, counts: bool = True) -> int:
        return lib.ecn_acked(self.made, marked, counts, ect0, ect1, ce)


def test_ten_packets_test_a_path_and_no_more_are_marked_until_one_is_confirmed() -> None:
    path = Path()
    assert path.send(30) == 10 and path.state == UNKNOWN
    assert path.ack(3, 3) == 0 and path.state == CAPABLE
    assert path.send(1000) == 1000


def test_the_test_ends_after_three_ptos_too() -> None:
    path = Path()
    assert path.send(2) == 2
    path.now += 3 * PTO - 1
    assert path.send() == 1
    path.now += 1
    assert path.send() == 0 and path.state == UNKNOWN


def test_a_confirmation_during_the_test_ends_it() -> None:
    path = Path()
    path.send(2)
    path.ack(2, 2)
    assert path.state == CAPABLE and path.send(50) == 50


@pytest.mark.parametrize(
    ("why", "marked", "ect0", "ce", "ect1", "counts"),
    [
        ("no counts", 2, 0, 0, 0, False),
        ("marks were cleared", 3, 2, 0, 0, True),
        ("all were", 3, 0, 0, 0, True),
        ("another mark than ours", 3, 3, 0, 1, True),
        ("more than we marked", 3, 11, 0, 0, True),
    ],
)
def test_wrong_counts_end_it(why: str, marked: int, ect0: int, ce: int, ect1: int, counts: bool) -> None:
    path = Path()
    path.send(10)
    assert path.ack(marked, ect0, ce, ect1, counts) == 0
    assert path.state == FAILED and path.send(10) == 0
    assert path.ack(1, 10) == 0 and path.state == FAILED  # for this path it stays so


def test_counts_that_shrink_end_it() -> None:
    path = Path()
    path.send(10)
    path.ack(3, 3, 1)
    assert path.state == CAPABLE
    path.ack(0, 2, 1)
    assert path.state == FAILED
    path = Path()
    path.send(10)
    path.ack(3, 3, 1)
    path.ack(1, 5, 0)
    assert path.state == FAILED


def test_an_ack_that_proves_nothing_changes_nothing() -> None:
    path = Path()
    path.send(10)
    path.ack(0, 0, counts=False)  # of packets that were not marked
    assert path.state in (TESTING, UNKNOWN)
    path.ack(5, 5)
    path.ack(0, 5, counts=False)
    assert path.state == CAPABLE


def test_counts_may_run_ahead_of_what_is_newly_acknowledged() -> None:
    """An ACK was lost, or did not raise the largest number: its packets are in the counts all the same."""
    path = Path()
    path.send(10)
    path.ack(2, 6)
    assert path.state == CAPABLE
    path.ack(1, 6 + 1)
    assert path.state == CAPABLE
    path.ack(2, 7 + 1)  # but never behind
    assert path.state == FAILED


def test_congestion_is_told_once_for_each_growth_of_the_count() -> None:
    path = Path()
    path.send(10)
    assert path.ack(3, 2, 1) == 1
    path.send(100)
    assert path.ack(10, 12, 1) == 0
    assert path.ack(10, 20, 3) == 1 and path.state == CAPABLE


def test_congestion_is_not_believed_of_a_path_that_is_not_proven() -> None:
    path = Path()
    path.send(10)
    assert path.ack(0, 0, 1) == 0
    assert path.state == TESTING


def test_a_path_that_loses_all_that_is_marked_is_given_up() -> None:
    path = Path()
    path.send(11)
    lib.ecn_lost(path.made, 9)
    assert path.state == UNKNOWN
    lib.ecn_lost(path.made, 1)
    assert path.state == FAILED
    early = Path()
    early.send(4)
    lib.ecn_lost(early.made, 4)
    assert early.state == TESTING  # the test goes on
    early.now += 3 * PTO
    early.send()
    assert early.state == FAILED


def test_losses_on_a_path_that_is_proven_are_congestion() -> None:
    path = Path()
    path.send(10)
    path.ack(1, 1)
    lib.ecn_lost(path.made, 500)
    assert path.state == CAPABLE


def test_a_new_path_is_tested_anew_and_the_counts_go_on() -> None:
    path = Path()
    path.send(10)
    path.ack(10, 10)
    path.send(90)
    path.ack(90, 100)
    lib.ecn_new_path(path.made)
    assert path.state == TESTING
    assert path.send(20) == 10
    path.ack(10, 105, 5)
    assert path.state == CAPABLE
    failed = Path()
    failed.send(1)
    failed.ack(1, 0, counts=False)
    lib.ecn_new_path(failed.made)
    assert failed.state == TESTING


def test_where_the_backend_cannot_mark_nothing_is_marked() -> None:
    path = Path(enabled=False)
    assert path.send(20) == 0
    path.ack(1, 1, 1)
    lib.ecn_new_path(path.made)
    assert path.state == DISABLED and path.send() == 0
