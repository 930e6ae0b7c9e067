"""The RTT estimator is that of RFC 9002 section 5, in integers."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from .quic_leaves import MS, load

lib = load()

LATEST, MIN, SMOOTHED, VAR, FIRST, SAMPLED, PTO, LOSS_DELAY, PERSISTENT = range(9)
MAX_ACK_DELAY = 25 * MS


def show(rtt: int) -> list[int]:
    return lib.numbers(lib.rtt_show, rtt)


def test_before_the_first_sample_the_initial_rtt_is_assumed() -> None:
    rtt = lib.rtt_new(0, MAX_ACK_DELAY)
    assert show(rtt)[:6] == [0, 0, 333 * MS, 333 * MS // 2, 0, 0]
    assert show(rtt)[PTO] == 333 * MS + 4 * (333 * MS // 2) + MAX_ACK_DELAY
    assert show(lib.rtt_new(7 * MS, 0))[SMOOTHED] == 7 * MS


def test_the_first_sample_replaces_what_was_assumed() -> None:
    rtt = lib.rtt_new(0, MAX_ACK_DELAY)
    lib.rtt_sample(rtt, 40 * MS, 30 * MS, 1, 1234)  # its delay is not taken off
    assert show(rtt)[:6] == [40 * MS, 40 * MS, 40 * MS, 20 * MS, 1234, 1]


def test_the_delay_of_the_peer_is_taken_off_within_bounds() -> None:
    def after(latest: int, delay: int, confirmed: bool) -> int:
        """The adjusted sample, told by what it does to a smoothed RTT of 80 ms."""
        rtt = lib.rtt_new(0, MAX_ACK_DELAY)
        lib.rtt_sample(rtt, 80 * MS, 0, 1, 1)
        lib.rtt_sample(rtt, latest, delay, confirmed, 2)
        return (show(rtt)[SMOOTHED] - 70 * MS) * 8

    assert after(200 * MS, 10 * MS, True) == 190 * MS
    assert after(200 * MS, 60 * MS, True) == 175 * MS  # bounded by max_ack_delay once confirmed
    assert after(200 * MS, 60 * MS, False) == 140 * MS  # not before
    assert after(100 * MS, 20 * MS, True) == 80 * MS  # to the minimum and not below it
    assert after(99 * MS, 20 * MS, True) == 99 * MS  # a delay that cannot be is not believed
    assert after(60 * MS, 20 * MS, True) == 60 * MS  # a new minimum itself


class Model:
    """RFC 9002 5.3, in exact fractions."""

    def __init__(self) -> None:
        self.min = self.smoothed = self.var = Fraction(0)
        self.sampled = False

    def sample(self, latest: int, delay: int, confirmed: bool) -> None:
        if not self.sampled:
            self.sampled, self.min, self.smoothed, self.var = (
                True,
                Fraction(latest),
                Fraction(latest),
                Fraction(latest, 2),
            )
            return
        self.min = min(self.min, Fraction(latest))
        delay = min(delay, MAX_ACK_DELAY) if confirmed else delay
        adjusted = latest - delay if latest >= self.min + delay else latest
        self.var = self.var * 3 / 4 + abs(self.smoothed - adjusted) / 4
        self.smoothed = self.smoothed * 7 / 8 + Fraction(adjusted) / 8


def test_random_samples_give_what_exact_arithmetic_gives(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(20):
        rtt, model = lib.rtt_new(0, MAX_ACK_DELAY), Model()
        base = 10 ** rng.randint(4, 9)
        for now in range(1, 200):
            latest, delay = rng.randint(base, 3 * base), rng.choice([0, rng.randint(0, 2 * base)])
            confirmed = rng.random() < 0.8
            lib.rtt_sample(rtt, latest, delay, confirmed, now)
            model.sample(latest, delay, confirmed)
            shown = show(rtt)
            assert shown[MIN] == model.min
            # each sample rounds three divisions, and forgets what it rounded before by and by
            assert abs(shown[SMOOTHED] - model.smoothed) <= 32 and abs(shown[VAR] - model.var) <= 64
            smoothed, var = shown[SMOOTHED], shown[VAR]
            assert shown[PTO] == smoothed + max(4 * var, MS) + MAX_ACK_DELAY
            assert shown[LOSS_DELAY] == max(max(latest, smoothed) * 9 // 8, MS)
            assert shown[PERSISTENT] == 3 * shown[PTO]


def test_the_minimum_begins_anew_when_asked() -> None:
    rtt = lib.rtt_new(0, MAX_ACK_DELAY)
    lib.rtt_sample(rtt, 1 * MS, 0, 1, 1)
    lib.rtt_restart_min(rtt)
    lib.rtt_sample(rtt, 9 * MS, 0, 1, 2)
    assert show(rtt)[MIN] == 9 * MS
    lib.rtt_sample(rtt, 8 * MS, 0, 1, 3)
    assert show(rtt)[MIN] == 8 * MS


def test_a_sample_of_nothing_is_not_taken_for_none() -> None:
    rtt = lib.rtt_new(0, MAX_ACK_DELAY)
    lib.rtt_sample(rtt, 0, 0, 1, 1)
    lib.rtt_sample(rtt, 5 * MS, 0, 1, 1)
    assert show(rtt)[MIN] == 1


@pytest.mark.parametrize("exponent", [0, 3, 20])
def test_the_delay_field_is_scaled_and_cannot_overflow(exponent: int) -> None:
    assert lib.rtt_ack_delay(100, exponent) == 100 * 1000 << exponent
    for field in ((1 << 62) - 1, 1 << 41, 1 << 40):
        assert lib.rtt_ack_delay(field, exponent) == 1000 << 40  # twelve days, whatever is said
