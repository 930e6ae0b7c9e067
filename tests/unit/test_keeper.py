"""When a worker counts as hung, and how long a failing one is left alone: on a clock of our own."""

from __future__ import annotations

from typing import Any

import pytest

from afterburnerd.abi.description import Info
from afterburnerd.abi.segment import Segment
from afterburnerd.config import Config
from afterburnerd.supervisor.cpu import check_fifo, choose_cpu
from afterburnerd.supervisor.keeper import Backoff, HeartWatch, Keeper, bind_seconds
from afterburnerd.supervisor.refusal import Refusal

MS = 1_000_000


def watch() -> HeartWatch:
    w = HeartWatch(hang_ns=500 * MS, interval_ns=100 * MS)
    w.start(0)
    return w


def test_a_heart_that_stands_still_is_noticed_after_the_configured_time() -> None:
    w = watch()
    verdicts = [w.hangs(heartbeat=0, now=now * MS) for now in range(100, 701, 100)]
    assert verdicts == [False] * 5 + [True, True]


def test_a_beating_heart_is_never_a_hang() -> None:
    w = watch()
    assert not any(w.hangs(heartbeat=now * MS - 10 * MS, now=now * MS) for now in range(100, 5000, 100))


def test_a_watcher_that_woke_late_looks_again_before_it_acts() -> None:
    w = watch()
    assert not w.hangs(heartbeat=100 * MS, now=2000 * MS)  # both stood still: no verdict
    assert not w.hangs(heartbeat=100 * MS, now=2100 * MS)
    assert not w.hangs(heartbeat=2450 * MS, now=2500 * MS)  # it was the machine, and the worker goes on


def test_after_a_late_look_a_real_hang_is_still_noticed() -> None:
    w = watch()
    looks = [2000, 2100, 2200, 2300, 2400, 2500]
    assert [w.hangs(heartbeat=100 * MS, now=t * MS) for t in looks] == [False] * 5 + [True]


def test_the_first_failure_costs_no_pause_and_further_ones_double_up_to_the_limit() -> None:
    b = Backoff(minimum=0.1, maximum=1.0, steady=10)
    assert [b.after(ran=60.0)] + [b.after(ran=0.2) for _ in range(6)] == pytest.approx(
        [0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    )


def test_a_steady_run_forgives_former_failures() -> None:
    b = Backoff(minimum=0.1, maximum=1.0, steady=10)
    for _ in range(5):
        b.after(ran=0.1)
    assert b.after(ran=11) == 0
    assert b.after(ran=1) == pytest.approx(0.1)


def test_a_processor_that_is_not_ours_is_refused_by_name() -> None:
    with pytest.raises(Refusal, match=r"worker\[0\]\.cpu = 8000"):
        choose_cpu(8000, 0)


def test_real_time_scheduling_is_for_isolated_processors_only() -> None:
    check_fifo(0, 1, 0, [])
    check_fifo(10, 3, 0, [2, 3])
    with pytest.raises(Refusal, match="isolcpus=1"):
        check_fifo(10, 1, 0, [2, 3])


def test_large_memory_has_more_time() -> None:
    assert bind_seconds(8 << 20, 5000) == pytest.approx(5.08)
    assert bind_seconds(1 << 30, 500) == pytest.approx(15.24)
    assert bind_seconds(8 << 20, 60_000) == pytest.approx(60.08)


async def test_who_sees_a_restart_counted_finds_the_state_that_goes_with_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: Any = None
    seen: list[tuple[bool, str, int]] = []
    segment = Segment.create(name, 1, 1, 1, Info())

    def look() -> None:
        seen.append((keeper.running, keeper.last_failure, segment.get("daemon", 0, "restart_killed")))

    async def fails() -> tuple[str, str]:
        return "restart_killed", "killed by a test"

    async def ends() -> None:
        keeper._stopping = True

    keeper = Keeper(0, Config(), nothing, segment, -1, look)
    keeper.running = True
    monkeypatch.setattr(keeper, "_until_it_fails", fails)
    monkeypatch.setattr(keeper, "_bring_back", ends)
    await keeper.keep()
    assert seen == [(False, "killed by a test", 0)]
    assert segment.get("daemon", 0, "restart_killed") == 1
    segment.close()
