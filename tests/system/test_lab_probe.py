"""`afterburner-lab probe` for a moment: both directions and both ways, every message accounted for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest

from afterburnerd.lab.cores import usable_cpus

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.bpf,
    pytest.mark.skipif(len(usable_cpus()) < 2, reason="both ends spin: two CPUs"),
]
SHORT = ("--duration", "300ms", "--interval", "100us")


def probe(*words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "afterburnerd.lab.main", "probe", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("by", ["afxdp", "socket"])
def test_every_message_is_accounted_for(by: str) -> None:
    done = probe(*SHORT, "--by", by, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["direction"], one["by"]) for one in found] == [("up", by), ("down", by)]
    for one in found:
        assert one["sent"] == one["received"] == one["acknowledged"] > 100, one
        assert one["gaps"] == 0 and one["packets_sent"] > 0
        latency = one["latency"]
        assert 0 < latency["min"] <= latency["p50"] <= latency["p99"] <= latency["max"]
        assert latency["min"] <= latency["mean"] <= latency["max"]
        buckets = latency["buckets"]
        assert sum(count for _, _, count in buckets) == latency["count"] and all(count for _, _, count in buckets)
        assert buckets[0][0] <= latency["min"] < buckets[0][1] and buckets[-1][0] <= latency["max"] < buckets[-1][1]
        assert all(before[1] <= after[0] for before, after in pairwise(buckets))


def test_the_line_of_statistics() -> None:
    done = probe(*SHORT, "--direction", "down")
    assert done.returncode == 0, done.stderr
    numbers = r"\[STATS\] Lat\(us\) Avg=[\d.]+ Min=[\d.]+ Max=[\d.]+ \| RX: (\d+) \| Lost: 0"
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("[STATS]")]
    found = re.fullmatch(numbers, line)
    assert found and int(found[1]) > 100
    bars = re.findall(r"^ +[\d.]+ to +[\d.]+ us  (#+) +([\d,]+) +[\d.]+ %$", done.stdout, re.M)
    assert max(len(bar) for bar, _ in bars) == 40
    (of,) = re.findall(r"of (\d+) messages", done.stdout)
    assert sum(int(count.replace(",", "")) for _, count in bars) == int(of)


def test_an_interval_that_nobody_can_keep_is_refused() -> None:
    done = probe("--interval", "10ns")
    assert done.returncode == 64 and "--interval" in done.stderr
