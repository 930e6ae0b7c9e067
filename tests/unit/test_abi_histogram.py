"""Histograms as readers see them: the same buckets as hist.h, quantiles within their error, windows by subtraction."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from afterburnerd.abi.description import Geometry
from afterburnerd.abi.histogram import Histogram, record
from afterburnerd.abi.kinds import HIST_BUCKETS, HIST_MAX_BITS, HIST_SUB_BITS
from afterburnerd.native import lib

GEOMETRY = Geometry(HIST_SUB_BITS, HIST_MAX_BITS, HIST_BUCKETS)
EMPTY = Histogram(GEOMETRY, 0, 0, 0, (0,) * HIST_BUCKETS)
values = st.integers(min_value=0, max_value=(1 << 64) - 1)


def recorded(numbers: list[int]) -> Histogram:
    """As the C writer records them."""
    words = [0] * (4 + HIST_BUCKETS)
    for n in numbers:
        words[4 + lib.hist_index(n)] += 1
    words[0], words[1] = len(numbers), sum(numbers)
    words[2], words[3] = min(numbers, default=0), max(numbers, default=0)
    return Histogram.from_words(GEOMETRY, words)


def test_what_python_records_is_what_c_would() -> None:
    numbers = [7, 0, 31, 32, 1_000, 999_999, 1 << 50]
    words = memoryview(bytearray(8 * (4 + HIST_BUCKETS))).cast("Q")
    for n in numbers:
        record(GEOMETRY, words, n)
    assert Histogram.from_words(GEOMETRY, list(words)) == recorded(numbers) and words[0] == len(numbers)


@given(values)
def test_buckets_are_those_of_the_c_writer(value: int) -> None:
    index = EMPTY.index(value)
    assert index == lib.hist_index(value)
    assert EMPTY.edge(index) == lib.hist_edge(index)


@given(
    st.lists(st.integers(min_value=0, max_value=(1 << 40) - 1), min_size=1), st.floats(min_value=0, max_value=0.9999)
)
def test_a_quantile_is_at_most_a_32nd_above_the_true_one(numbers: list[int], q: float) -> None:
    true = sorted(numbers)[int(q * len(numbers))]
    assert true <= recorded(numbers).quantile(q) <= max(true * 33 / 32, true)


@given(st.lists(values, max_size=200))
def test_a_quantile_never_leaves_what_was_recorded(numbers: list[int]) -> None:
    histogram = recorded(numbers)
    assert histogram.count == len(numbers)
    assert 0 <= histogram.quantile(0) <= histogram.quantile(0.5) <= histogram.quantile(1) == max(numbers, default=0)


def test_an_empty_one_says_zero() -> None:
    assert (EMPTY.count, EMPTY.mean, EMPTY.quantile(0.5), EMPTY.occupied()) == (0, 0.0, 0, [])


@given(st.lists(values, max_size=300))
def test_powers_of_two_lose_nothing(numbers: list[int]) -> None:
    powers = [1 << k for k in range(HIST_SUB_BITS, HIST_MAX_BITS)]
    assert recorded(numbers).below(powers) == [sum(n < p for n in numbers) for p in powers]


@given(st.lists(values, max_size=100), st.lists(values, max_size=100))
def test_a_difference_is_what_came_after(before: list[int], after: list[int]) -> None:
    window = recorded(before + after) - recorded(before)
    assert window.buckets == recorded(after).buckets
    assert window.sum == sum(after)
    if after:
        assert window.min <= min(after)
        assert window.max >= max(after)
        assert window.quantile(0.5) <= window.max


@given(st.lists(values, max_size=100), st.lists(values, max_size=100))
def test_a_sum_is_both(one: list[int], other: list[int]) -> None:
    assert recorded(one) + recorded(other) == recorded(one + other)


def test_one_begun_anew_counts_from_its_beginning() -> None:
    old, new = recorded([5] * 10 + [700] * 3), recorded([5, 9])
    assert new - old == new


def test_the_mean_is_exact_whatever_the_buckets() -> None:
    rng = random.Random(7)
    numbers = [rng.randrange(1 << 30) for _ in range(1000)]
    assert recorded(numbers).mean == sum(numbers) / 1000
