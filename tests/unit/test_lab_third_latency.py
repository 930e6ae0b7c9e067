"""What a run against a third-party server adds up to."""

from __future__ import annotations

import pytest

from afterburnerd.cli import ToolError
from afterburnerd.lab.third_latency import _samples


def test_warming_up_is_left_out_and_what_is_missing_is_lost() -> None:
    found = {sequence: 1000 + sequence for sequence in range(200) if sequence != 150} | {0: 10**9}
    samples = _samples(found, warm=100, count=200)
    assert (samples.count, samples.lost) == (99, 1)
    assert (samples.min, samples.max) == (1100, 1199)
    assert samples.min < samples.p50 < samples.p90 < samples.p99 <= samples.max


def test_a_run_that_ended_while_warming_up_is_none() -> None:
    with pytest.raises(ToolError, match="only 50 of 200"):
        _samples(dict.fromkeys(range(50), 5), warm=100, count=200)
