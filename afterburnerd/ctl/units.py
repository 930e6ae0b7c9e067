"""Figures as people read them: three digits that matter, a unit, a fixed idea of what is small.

Machines get base units from `-j`; nothing here is for them.
"""

from __future__ import annotations

import math
from datetime import datetime


def count(value: float) -> str:
    """1234567 -> 1,234,567."""
    return f"{round(value):,}"


def total(value: int) -> str:
    """A count in a narrow table: exact up to seven digits, 1.23 G above. (`-j` is always exact.)"""
    return count(value) if value < 10_000_000 else rate(value)


def rate(value: float) -> str:
    """Per second: 0, 0.5, 12, 1.23 k, 12.3 M."""
    if value == 0:
        return "0"
    if value < 10:
        return f"{value:.1f}"
    return _scaled(value, 1000, ("", " k", " M", " G", " T"))


def size(value: float) -> str:
    """Bytes: 512 B, 8.00 MiB."""
    return _scaled(value, 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


def bits(bytes_per_second: float) -> str:
    """Bytes a second as a network's bits a second: 9.84 Gbit/s."""
    return _scaled(bytes_per_second * 8, 1000, (" bit/s", " kbit/s", " Mbit/s", " Gbit/s", " Tbit/s"))


def duration(ns: float) -> str:
    """Nanoseconds: 850 ns, 4.12 us, 43.0 ms, 2.50 s."""
    return _scaled(ns, 1000, (" ns", " us", " ms", " s")) if ns < 60e9 else age(ns)


def age(ns: float) -> str:
    """A long time: 45 s, 12 min, 3 h 05 min, 4 d 7 h."""
    seconds = int(ns // 1_000_000_000)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if minutes < 1:
        return f"{seconds} s"
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return f"{hours} h {minutes % 60:02} min"
    return f"{days} d {hours % 24} h"


def moment(unix_ns: float) -> str:
    """A point in time, local: 2026-11-21 13:00:00."""
    return datetime.fromtimestamp(unix_ns / 1e9).strftime("%Y-%m-%d %H:%M:%S")


def percent(ratio: float) -> str:
    """0.4321 -> 43 %; what is small but not nothing is not shown as nothing."""
    if 0 < ratio < 0.01:
        return "<1 %"
    return f"{ratio * 100:.0f} %"


def queues(indices: tuple[int, ...]) -> str:
    """(0, 1, 2, 5) -> 0-2,5."""
    parts: list[str] = []
    run: list[int] = []
    for index in sorted(indices):
        if run and index == run[-1] + 1:
            run.append(index)
            continue
        if run:
            parts.append(_run(run))
        run = [index]
    if run:
        parts.append(_run(run))
    return ",".join(parts) or "-"


def _run(run: list[int]) -> str:
    return str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}"


def _scaled(value: float, base: int, units: tuple[str, ...]) -> str:
    """Three digits and the unit that fits. A value that rounds up to the next unit is shown in that."""
    step = 0
    while step < len(units) - 1 and round(value, 0 if value >= 100 else 1 if value >= 10 else 2) >= base:
        value /= base
        step += 1
    if step == 0 and value == int(value):
        return f"{int(value)}{units[0]}"
    digits = max(0, 2 - int(math.log10(value))) if value >= 1 else 2
    return f"{value:.{digits}f}{units[step]}"
