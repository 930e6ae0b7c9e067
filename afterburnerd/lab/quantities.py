"""Quantities as people type them: 500ms, 30s, 2m; 100k, 1.5M; 10%."""

from __future__ import annotations

import argparse
import re

_DURATION = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_SCALE = {"": 1, "k": 1_000, "M": 1_000_000}


def duration(text: str) -> float:
    """Seconds. An argparse type: its errors become usage errors."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|)", text)
    if not found or not 0 < (seconds := float(found[1]) * _DURATION[found[2]]) <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write 500ms, 30s or 2m (a day at most)")
    return seconds


def amount(text: str) -> int:
    """A positive whole number, with k or M."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kM]?)", text)
    value = round(float(found[1]) * _SCALE[found[2]]) if found else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on: write 1000, 100k or 1.5M")
    return value


def rate(text: str) -> int:
    """Packets a second; 0 stands for "max"."""
    if text == "max":
        return 0
    try:
        value = amount(text.removesuffix("/s"))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate: write 1000, 100k, 1.5M or max") from None
    if value > 100_000_000:
        raise argparse.ArgumentTypeError(f"{text!r}: nothing here sends more than 100M packets a second")
    return value


def payload_size(text: str) -> int:
    if not text.isdigit() or not 0 <= int(text) <= 8950:
        raise argparse.ArgumentTypeError(f"{text!r} is not a payload size: 0 to 8950 bytes")
    return int(text)


def count_text(value: float) -> str:
    """1,234,567"""
    return f"{value:,.0f}"


def rate_text(value: float, what: str = "packets") -> str:
    """1.23 M packets/s"""
    for name, scale in (("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {name} {what}/s"
    return f"{value:.3g} {what}/s"
