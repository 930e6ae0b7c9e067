"""The supervisor's look at packet memory: what does not add up is said once for each queue, under the queue's own number."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from afterburnerd.abi.description import Info
from afterburnerd.abi.segment import Segment
from afterburnerd.observe import messages
from afterburnerd.supervisor import pulse


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = Segment.create(f"abtest-pulse-{os.getpid()}", 2, 4, 4, Info())
    yield made
    made.unlink()
    made.close()


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
