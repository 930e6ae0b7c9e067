"""The histogram's buckets cover every value without a gap and keep the promised error."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from afterburnerd.abi.layout import HIST_BUCKETS
from afterburnerd.native import lib


@given(st.integers(min_value=0, max_value=(1 << 40) - 1))
def test_a_value_lies_within_its_bucket(value: int) -> None:
    index = lib.hist_index(value)
    assert lib.hist_edge(index) <= value < lib.hist_edge(index + 1)


def test_a_bucket_is_at_most_a_32nd_of_its_value_wide() -> None:
    for index in range(HIST_BUCKETS):
        low, high = lib.hist_edge(index), lib.hist_edge(index + 1)
        assert high > low
        assert high - low == 1 or (high - low) * 32 <= low


def test_values_beyond_the_range_land_in_the_last_bucket() -> None:
    assert lib.hist_index(1 << 41) == HIST_BUCKETS - 1
    assert lib.hist_index((1 << 64) - 1) == HIST_BUCKETS - 1
