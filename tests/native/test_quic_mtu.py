"""The search finds what the path carries (RFC 8899), on a path that tells nothing but by losing what is too large."""

from __future__ import annotations

import random

import pytest

from .quic_leaves import MS, NONE, S, load

lib = load()

BASE, GAIN = 1200, 20
DISABLED, SEARCHING, COMPLETE = range(3)
RAISE = 600 * S


class Search:
    def __init__(self, limit: int, path: int, search: bool = True) -> None:
        self.made = lib.mtu_new(limit, search)
        self.path = path
        self.now = 1 * S
        self.probes: list[int] = []
        self.pn = 0

    @property
    def size(self) -> int:
        return lib.mtu_size(self.made)

    @property
    def state(self) -> int:
        return lib.mtu_state(self.made)

    def probe(self, lost: bool = False) -> bool:
        """One probe and its fate; False where none is wanted."""
        size = lib.mtu_probe(self.made, self.now)
        if size == 0:
            assert lib.mtu_deadline(self.made) > self.now
            return False
        assert lib.mtu_deadline(self.made) <= self.now
        assert lib.mtu_probe(self.made, self.now) == size
        lib.mtu_probe_sent(self.made)
        assert lib.mtu_probe(self.made, self.now) == 0 and lib.mtu_deadline(self.made) == NONE, "one at a time"
        self.probes.append(size)
        self.now += 10 * MS
        before = self.size
        if size <= self.path and not lost:
            assert lib.mtu_probe_acked(self.made, size, self.now) == 1
            assert self.size == size > before
        else:
            lib.mtu_probe_lost(self.made, size, self.now)
            assert self.size == before
        return True

    def run(self) -> int:
        for count in range(200):
            if not self.probe():
                return count
        raise AssertionError("the search has no end")


@pytest.mark.parametrize("limit", [1472, 1452, 8972, 65527, 1210, 1201])
def test_a_path_that_carries_what_its_interface_does_takes_one_probe(limit: int) -> None:
    search = Search(limit, limit)
    assert search.size == BASE
    assert search.run() == 1
    assert search.size == min(limit, 65527) and search.state == COMPLETE
    assert lib.mtu_deadline(search.made) == NONE  # nothing can be gained any more


@pytest.mark.parametrize("limit", [1200, 1000, 0])
def test_there_is_nothing_to_search_up_to_base(limit: int) -> None:
    search = Search(limit, 1500)
    assert not search.probe() and search.state == DISABLED and search.size == BASE


def test_discovery_can_be_switched_off() -> None:
    search = Search(1472, 1472, search=False)
    assert not search.probe() and search.size == BASE


def test_any_path_is_found_within_the_gain(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(400):
        limit = rng.choice([1472, 1500, 8972, rng.randint(1201, 9500), 65527])
        path = rng.randint(BASE, limit)
        search = Search(limit, path)
        count = search.run()
        assert search.size <= path < search.size + GAIN or search.size == path, f"{limit=} {path=}: {search.size}"
        assert count <= 90
        assert all(BASE < size <= limit for size in search.probes)
        assert lib.mtu_deadline(search.made) == (NONE if search.size == limit else search.now + RAISE)


@pytest.mark.parametrize(("path", "count"), [(1452, 2), (1432, 4), (1392, 6), (1372, 7)])
def test_common_tunnels_are_found_exactly(path: int, count: int) -> None:
    search = Search(1472, path)
    search.run()
    assert search.size == path
    assert len(set(search.probes)) <= count + 1


def test_three_lost_probes_condemn_a_size_and_two_do_not() -> None:
    search = Search(1472, 1472)
    search.probe(lost=True)
    search.probe(lost=True)
    search.probe()
    assert search.probes == [1472] * 3 and search.size == 1472
    search = Search(1472, 1472)
    for _ in range(3):
        search.probe(lost=True)
    search.run()
    assert search.probes[:4] == [1472, 1472, 1472, 1452] and 1452 <= search.size < 1472


def test_after_ten_minutes_it_tries_again() -> None:
    search = Search(1472, 1400)
    search.run()
    assert search.size < 1472
    search.path = 1472
    search.now += RAISE - 20 * MS
    assert not search.probe()
    search.now += RAISE
    assert search.run() == 1 and search.size == 1472


def test_a_probe_that_comes_late_still_counts() -> None:
    search = Search(8972, 1300)
    while 4324 not in search.probes or search.probes[-1] == 4324:
        search.probe()
    search.path = 8000
    assert lib.mtu_probe_acked(search.made, 4324, search.now) == 1  # it was only slow
    assert search.size == 4324
    search.run()  # what was said of larger sizes is not believed either
    assert 8000 - GAIN < search.size <= 8000


def test_a_fate_that_belongs_to_no_probe_changes_nothing() -> None:
    search = Search(1472, 1400)
    lib.mtu_probe_lost(search.made, 1472, search.now)
    assert search.size == BASE and lib.mtu_probe(search.made, search.now) == 1472
    assert lib.mtu_probe_acked(search.made, 1200, search.now) == 0
    assert lib.mtu_probe_acked(search.made, 1473, search.now) == 0  # beyond what is allowed by now
    assert search.size == BASE


def found(path: int = 1472) -> Search:
    search = Search(1472, path)
    search.run()
    return search


def test_the_interface_may_shrink_and_grow() -> None:
    search = found()
    lib.mtu_set_max(search.made, 1380)
    assert search.size == 1380
    search.run()
    assert search.size == 1380 and search.state == COMPLETE
    lib.mtu_set_max(search.made, 1472)
    assert search.size == 1380
    assert search.run() == 1 and search.size == 1472
    lib.mtu_set_max(search.made, 600)
    assert search.size == BASE and not search.probe()


# --- black holes ----------------------------------------------------------------------------------------------------------


def test_three_times_of_loss_without_one_large_packet_through_are_a_black_hole() -> None:
    search = found()
    lib.mtu_acked(search.made, 100, 1472)
    for event in range(3):
        assert search.size == 1472
        fell = [lib.mtu_lost(search.made, 101 + 10 * event + i, 1472, search.now + event) for i in range(5)]
        assert fell == [event == 2, False, False, False, False]
    assert search.size == BASE and search.state == SEARCHING
    search.path = 1400
    search.run()
    assert 1380 < search.size <= 1400


def test_small_packets_prove_nothing_and_large_ones_everything() -> None:
    search = found()
    for event in range(20):
        lib.mtu_acked(search.made, 100 + event, 1200)
        assert not lib.mtu_lost(search.made, 200 + event, 1200, search.now + event)
    for event in range(20):
        assert not lib.mtu_lost(search.made, 300 + 3 * event, 1472, search.now + 2 * event)
        assert not lib.mtu_lost(search.made, 301 + 3 * event, 1472, search.now + 2 * event + 1)
        lib.mtu_acked(search.made, 302 + 3 * event, 1300)
    assert search.size == 1472


def test_what_is_older_than_a_large_packet_that_came_through_is_no_sign() -> None:
    search = found()
    lib.mtu_acked(search.made, 1000, 1472)
    lib.mtu_acked(search.made, 900, 1472)
    for event in range(20):
        assert not lib.mtu_lost(search.made, 901 + event, 1472, search.now + event)
    assert search.size == 1472


def test_ptos_in_a_row_are_a_black_hole_too() -> None:
    search = found()
    assert not lib.mtu_pto(search.made, 1, search.now) and not lib.mtu_pto(search.made, 2, search.now)
    assert lib.mtu_pto(search.made, 3, search.now) and search.size == BASE
    assert not lib.mtu_pto(search.made, 4, search.now)  # it is at base already
    assert search.run() == 1 and search.size == 1472


def test_after_each_further_black_hole_the_search_waits_twice_as_long() -> None:
    search = found()
    lib.mtu_pto(search.made, 3, search.now)
    for hole in range(14):
        search.run()
        assert search.size == 1472
        assert lib.mtu_pto(search.made, 3, search.now) and search.size == BASE
        pause = min(S << hole, RAISE)
        assert lib.mtu_deadline(search.made) == search.now + pause
        assert not lib.mtu_probe(search.made, search.now + pause - 1)
        search.now += pause


def test_without_discovery_nothing_falls() -> None:
    search = Search(1472, 1472, search=False)
    for event in range(9):
        assert not lib.mtu_lost(search.made, event, 1472, event) and not lib.mtu_pto(search.made, event, event)
    assert search.size == BASE and search.state == DISABLED
