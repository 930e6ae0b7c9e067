"""Pacing spreads a window over a round trip, lets bursts pass within their bound, and keeps out of short paths."""

from __future__ import annotations

import random

import pytest

from .quic_leaves import MS, NONE, S, load

lib = load()

MTU = 1200
BURST = 10 * MTU
LEAST = 16 * MTU  # AB_QUIC_PACER_BURST_PACKETS


class Paced:
    def __init__(self, rtt: int, window: int, slow_start: bool = False, burst: int = BURST, enabled: bool = True):
        self.now = 1 * S
        self.pacer = lib.pacer_new(enabled, burst, self.now)
        self.cc, self.estimate = lib.cc_new(0, 0, window, MTU), lib.rtt_new(0, 0)
        lib.rtt_sample(self.estimate, rtt, 0, 1, self.now)
        if not slow_start:  # one loss ends it
            lib.cc_lose(self.cc, 1, self.now)
            lib.cc_update(self.cc, self.estimate, 0, 0, 0, self.now)
        self.window = lib.numbers(lib.cc_show, self.cc)[0]
        lib.pacer_update(self.pacer, self.cc, self.estimate, self.now)

    def room(self) -> int:
        return lib.pacer_room(self.pacer, self.now)

    def drain(self) -> int:
        """Sends all that may go now; bytes."""
        sent = 0
        while self.room() >= MTU:
            lib.pacer_sent(self.pacer, MTU)
            sent += MTU
        return sent


@pytest.mark.parametrize(("slow_start", "gain"), [(True, 2.0), (False, 1.25)])
@pytest.mark.parametrize("rtt", [1 * MS, 37 * MS, 200 * MS])
@pytest.mark.parametrize("window", [50_000, 5_000_000])
def test_a_window_is_spread_over_a_round_trip(rtt: int, window: int, slow_start: bool, gain: float) -> None:
    paced = Paced(rtt, window, slow_start)
    paced.drain()
    begin, sent = paced.now, 0
    while paced.now < begin + 6 * rtt:
        paced.now = max(paced.now + 1, lib.pacer_when(paced.pacer, MTU))
        assert paced.room() >= MTU, "it was not true"
        sent += paced.drain()
    rate = sent / ((paced.now - begin) / rtt)
    assert rate == pytest.approx(gain * paced.window, rel=0.01, abs=2 * MTU / 6)


def test_a_pause_allows_a_burst_and_no_more() -> None:
    paced = Paced(100 * MS, 200_000)
    paced.drain()
    paced.now += 10 * S
    assert paced.drain() == LEAST
    assert paced.drain() == 0 and lib.pacer_when(paced.pacer, MTU) > paced.now
    paced = Paced(100 * MS, 200_000, burst=100 * MTU)
    assert paced.drain() == 100 * MTU


def test_when_is_the_first_nanosecond_at_which_there_is_room(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        paced = Paced(rng.randint(1 * MS, S), rng.randint(10_000, 10**8))
        paced.drain()
        paced.now += rng.randint(0, 1000)
        paced.drain()
        when = lib.pacer_when(paced.pacer, MTU)
        assert when > paced.now
        # a look in between must not lose what has trickled in
        for _ in range(20):
            paced.now = rng.randint(paced.now, when - 1)
            assert paced.room() < MTU
        assert lib.pacer_when(paced.pacer, MTU) == when
        paced.now = when
        assert paced.room() >= MTU


def test_a_probe_overdraws_nothing() -> None:
    paced = Paced(100 * MS, 200_000)
    paced.drain()
    lib.pacer_sent(paced.pacer, 5000)
    assert paced.room() == 0


@pytest.mark.parametrize("rtt", [10_000, 100_000, 499_999])
def test_short_paths_are_not_paced(rtt: int) -> None:
    paced = Paced(rtt, 10_000_000)
    for _ in range(10_000):
        assert paced.room() == NONE
        lib.pacer_sent(paced.pacer, MTU)
    assert lib.pacer_when(paced.pacer, MTU) == 0


def test_not_paced_where_switched_off_or_before_a_sample() -> None:
    paced = Paced(100 * MS, 50_000, enabled=False)
    assert paced.room() == NONE and lib.pacer_when(paced.pacer, 1 << 30) == 0
    fresh = lib.pacer_new(1, 0, 5)
    lib.pacer_update(fresh, lib.cc_new(0, 0, 0, MTU), lib.rtt_new(0, 0), 6)
    assert lib.pacer_room(fresh, 7) == NONE


def test_a_path_that_becomes_long_begins_with_a_burst_and_is_paced_then() -> None:
    paced = Paced(100_000, 1_000_000)
    for _ in range(60):
        lib.rtt_sample(paced.estimate, 80 * MS, 0, 1, paced.now)
    paced.now += 50 * MS
    lib.pacer_update(paced.pacer, paced.cc, paced.estimate, paced.now)
    assert paced.drain() == LEAST
    assert lib.pacer_when(paced.pacer, MTU) > paced.now


def test_extremes_do_not_wrap() -> None:
    for rtt in (500_000, 60 * S):
        for window in (1, 1 << 40):
            paced = Paced(rtt, window)
            for step in (0, 1, S, 100 * S, 10_000 * S, 1 << 62):
                paced.now += step
                assert paced.room() <= LEAST
                assert paced.room() == LEAST or 0 < step < 10_000 * S  # hours fill any bucket
                paced.drain()
            when = lib.pacer_when(paced.pacer, MTU)
            assert when <= paced.now + 60 * S
