"""Quantities that people type, and what they mean."""

from __future__ import annotations

import argparse

import pytest

from afterburnerd.lab import quantities


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("2m", 120), ("7", 7), ("0.5s", 0.5), ("1h", 3600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert quantities.duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "pps"), [("1000", 1000), ("100k", 100_000), ("1.5M", 1_500_000), ("max", 0), ("5/s", 5)]
)
def test_rates(text: str, pps: int) -> None:
    assert quantities.rate(text) == pps


@pytest.mark.parametrize("text", ["", "0", "-1", "5x", "1.5.5", "k", "inf", "nan", "1e3"])
def test_nonsense_is_refused(text: str) -> None:
    for parse in (quantities.duration, quantities.rate, quantities.amount):
        with pytest.raises(argparse.ArgumentTypeError):
            parse(text)


@pytest.mark.parametrize(
    ("parse", "text"), [(quantities.duration, "25h"), (quantities.rate, "101M"), (quantities.payload_size, "8951")]
)
def test_bounds(parse: object, text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse(text)  # type: ignore[operator]
