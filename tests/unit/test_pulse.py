"""The supervisor's look at packet memory: what does not add up is said once for each queue, under the queue's own number."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from afterburnerd.abi.description import Info
from afterburnerd.abi.segment import Segment
from afterburnerd.config import Config
from afterburnerd.observe import messages
from afterburnerd.supervisor import pulse


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = Segment.create(f"abtest-pulse-{os.getpid()}", 2, 4, 4, Info())
    yield made
    made.unlink()
    made.close()


SECOND = 1_000_000_000


class Worker:
    """As much of a keeper as the pulse asks for."""

    def __init__(self, running: bool = True, starting: bool = False, failing: bool = False) -> None:
        self.running, self.starting, self.failing = running, starting, failing

    def well(self, now: int, silence: int, recovery: int, excused_until: int) -> bool:
        assert (silence, recovery) == (5 * SECOND, 30 * SECOND)
        return self.running or self.starting or now - excused_until <= recovery


def beating(segment: Segment, *workers: Worker) -> tuple[pulse.Pulse, SimpleNamespace]:
    facts = SimpleNamespace(link=True)
    parts: Any = SimpleNamespace(keepers=workers, config=Config())
    device: Any = SimpleNamespace(facts=facts)
    nothing: Any = None
    return pulse.Pulse(device, parts, nothing, nothing, segment, nothing), facts


def test_an_interface_that_returns_gives_its_workers_the_time_of_a_recovery(segment: Segment) -> None:
    beat, facts = beating(segment, Worker(running=False, failing=True))
    assert not beat.alive(100 * SECOND)
    facts.link = None
    assert beat.alive(200 * SECOND)  # nothing is wrong with us
    facts.link = True
    assert beat.alive(201 * SECOND)
    assert beat.alive(230 * SECOND)
    assert not beat.alive(231 * SECOND)


def test_who_waits_while_another_starts_is_well_and_who_failed_is_not(segment: Segment) -> None:
    waiting, failed = Worker(running=False), Worker(running=False, failing=True)
    one_starts = Worker(running=False, starting=True)
    assert beating(segment, one_starts, waiting)[0].alive(100 * SECOND)
    assert not beating(segment, Worker(), waiting)[0].alive(100 * SECOND)
    assert not beating(segment, one_starts, waiting, failed)[0].alive(100 * SECOND)


def test_each_queue_whose_memory_does_not_add_up_is_said_once(
    segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(pulse, "say", lambda message, **fields: said.append((message, fields)))
    keepers = [SimpleNamespace(index=0, numbers=(0, 2)), SimpleNamespace(index=1, numbers=(1, 3))]
    parts: Any = SimpleNamespace(keepers=keepers)
    nothing: Any = None
    beat = pulse.Pulse(nothing, parts, nothing, nothing, segment, nothing)
    beat.check_frames()
    assert said == []
    segment.set("queue", segment.queue_row(1, 1), "frame_errors", 7)
    beat.check_frames()
    beat.check_frames()
    assert said == [(messages.FRAME_ERRORS, {"worker": 1, "queue": 3, "errors": 7})]
