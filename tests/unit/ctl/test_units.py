"""Figures are short, and never lie about their size."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterburnerd.ctl import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.04, "0.0"),
        (0.5, "0.5"),
        (9.96, "10.0"),
        (12, "12"),
        (999.4, "999"),
        (999.6, "1.00 k"),
        (1234, "1.23 k"),
        (1.5e6, "1.50 M"),
    ],
)
def test_rate(value: float, text: str) -> None:
    assert units.rate(value) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (850, "850 ns"),
        (999.7, "1.00 us"),
        (4120, "4.12 us"),
        (43_000_000, "43.0 ms"),
        (999_999, "1.00 ms"),
        (2.5e9, "2.50 s"),
        (90e9, "1 min"),
    ],
)
def test_duration(ns: float, text: str) -> None:
    assert units.duration(ns) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600 * 3 + 300, "3 h 05 min"), (86_400 * 4 + 7200, "4 d 2 h")],
)
def test_age(seconds: float, text: str) -> None:
    assert units.age(seconds * 1e9) == text


def test_sizes_bits_percents_and_lists() -> None:
    assert units.size(8 << 20) == "8.00 MiB"
    assert units.size(1023) == "1023 B"
    assert units.bits(1.25e9) == "10.0 Gbit/s"
    assert units.count(1234567) == "1,234,567"
    assert (units.total(9_999_999), units.total(10_000_000)) == ("9,999,999", "10.0 M")
    assert [units.percent(x) for x in (0, 0.001, 0.5, 1)] == ["0 %", "<1 %", "50 %", "100 %"]
    assert units.queues(()) == "-"
    assert units.moment(datetime(2026, 11, 21, 13, 0, 5).timestamp() * 1e9) == "2026-11-21 13:00:05"
    assert units.queues((5, 0, 1, 2, 7, 8)) == "0-2,5,7-8"


SCALE = {"": 1, "ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}


@given(st.floats(min_value=1, max_value=59e9))
def test_a_duration_can_be_read_back(ns: float) -> None:
    number, unit = units.duration(ns).split()
    assert float(number) * SCALE[unit] == pytest.approx(ns, rel=0.006)
    assert float(number) < 1000
