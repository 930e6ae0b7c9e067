"""/healthz: 200 while packets are handled, 503 with the reason otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from afterburnerd.abi.layout import DaemonState, QueueMode, WorkerState
from afterburnerd.abi.process import Identity
from afterburnerd.abi.segment import Segment
from afterburnerd.observe.exporter import Exporter
from tests.unit.observe.segments import NOW_NS, FixedTime, fill, segment


@pytest.fixture
def filled() -> Iterator[Segment]:
    with segment() as s:
        fill(s)
        yield s


def answer(s: Segment) -> tuple[int, str]:
    response = Exporter(s.name, partial(FixedTime.open, s.name)).respond("/healthz", {})
    return response.status, response.body.decode().strip()


def test_serving(filled: Segment) -> None:
    assert answer(filled) == (200, "serving")


def test_degraded_is_serving_and_says_what_is_missing(filled: Segment) -> None:
    filled.set("daemon", 0, "state", DaemonState.DEGRADED)
    filled.set("queue", filled.queue_row(0, 1), "mode", QueueMode.CLOSED)
    assert answer(filled) == (200, "degraded, queue 1 is not bound")


@pytest.mark.parametrize("state", ["STOPPED", "STARTING", "RECOVERING", "STOPPING"])
def test_every_other_state_is_not_serving(filled: Segment, state: str) -> None:
    filled.set("daemon", 0, "state", DaemonState[state])
    filled.set("worker", 1, "state", WorkerState.DOWN)
    assert answer(filled) == (503, f"{state.lower()}, worker 1 is down")


def test_a_silent_supervisor_is_not_serving_whatever_it_said_last(filled: Segment) -> None:
    filled.set("daemon", 0, "heartbeat_ns", NOW_NS - 5_100_000_000)
    assert answer(filled) == (503, "the supervisor has not been heard for 5.1 s")


def test_a_dead_supervisor_is_not_serving(filled: Segment) -> None:
    filled.identify(Identity((1 << 22) + 1, 1))
    filled.set("daemon", 0, "heartbeat_ns", NOW_NS)
    assert answer(filled) == (503, f"not running: the supervisor (process {(1 << 22) + 1}) is dead")


def test_no_segment_is_not_serving() -> None:
    response = Exporter("abtest-nobody").respond("/healthz", {})
    assert response.status == 503
    assert b"no daemon of this name is running" in response.body
