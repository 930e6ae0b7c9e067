"""When a worker counts as hung, and how long a failing one is left alone: on a clock of our own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from afterburnerd.abi.description import Info
from afterburnerd.abi.layout import WorkerState
from afterburnerd.abi.segment import Segment
from afterburnerd.config import Config
from afterburnerd.plane import Plane
from afterburnerd.supervisor.cpu import check_fifo, choose_cpu
from afterburnerd.supervisor.keeper import LONGEST_NS, Backoff, HeartWatch, Keeper, bind_seconds
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


def test_a_heart_that_was_just_heard_is_left_alone_until_it_could_be_found_silent() -> None:
    w = watch()
    looks, now = [], 0
    while now < 3000 * MS:
        now = w.due_ns
        looks.append(now // MS)
        assert not w.hangs(heartbeat=now - MS, now=now)
    assert looks == [100, *range(499, 3300, 399)]


def test_a_heart_that_stops_just_after_a_look_is_noticed_in_time_all_the_same() -> None:
    w = watch()
    assert not w.hangs(heartbeat=100 * MS, now=100 * MS)
    assert not w.hangs(heartbeat=101 * MS, now=(first := w.due_ns))  # for 399 ms
    assert not w.hangs(heartbeat=101 * MS, now=(second := w.due_ns))  # for 499 ms
    assert w.hangs(heartbeat=101 * MS, now=(third := w.due_ns))
    assert [first // MS, second // MS, third // MS] == [500, 600, 700]


def test_a_machine_that_stood_still_for_longer_than_a_hang_may_take_never_looks_like_one() -> None:
    """Whenever it stopped and for however long: the worker beats again as soon as the watcher looks again."""
    for stop in range(100, 1100, 7):
        for length in range(1, 1500, 13):
            w, now, end = watch(), 0, stop + length
            while now < (end + 1000) * MS:
                now = w.due_ns if not stop * MS < w.due_ns < end * MS else end * MS
                heartbeat = min(now, stop * MS) if now <= end * MS else now
                assert not w.hangs(heartbeat, now), (stop, length, now)


def test_an_old_heartbeat_or_one_of_the_future_puts_no_look_off() -> None:
    w = watch()
    w.hangs(heartbeat=0, now=10**15)
    assert w.due_ns == 10**15 + 100 * MS
    w.hangs(heartbeat=2**63, now=10**15)
    assert w.due_ns == 10**15 + LONGEST_NS


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


@pytest.fixture
def keeper(name: str) -> Iterator[Keeper]:
    nothing: Any = None
    segment = Segment.create(name, 1, 1, 1, Info())
    made = Keeper(0, Config(), nothing, segment, -1, lambda: None)
    yield made
    segment.unlink()
    segment.close()


SECOND = 1_000_000_000


def test_a_worker_that_nobody_keeps_is_not_well(keeper: Keeper) -> None:
    """A restart failed before it was this one's turn: no attempt, no failure, no process."""
    made = keeper.down_since_ns
    assert keeper.well(made + 29 * SECOND, 5 * SECOND, 30 * SECOND)
    assert not keeper.well(made + 31 * SECOND, 5 * SECOND, 30 * SECOND)


def test_a_worker_has_the_time_of_a_recovery_from_its_end_and_again_from_the_next(keeper: Keeper) -> None:
    keeper.down_since_ns = 0
    keeper.segment.set("worker", 0, "heartbeat_ns", 100 * SECOND)
    assert keeper.well(104 * SECOND, 5 * SECOND, 30 * SECOND)
    assert not keeper.well(106 * SECOND, 5 * SECOND, 30 * SECOND)  # it runs, and its heart does not beat
    keeper._went_down()
    first = keeper.down_since_ns
    keeper._went_down()  # on its way down it is marked more than once
    assert keeper.down_since_ns == first > 0
    assert keeper.well(first + 29 * SECOND, 5 * SECOND, 30 * SECOND)
    assert not keeper.well(first + 31 * SECOND, 5 * SECOND, 30 * SECOND)


def test_orders_and_a_first_start_have_limits_of_their_own_and_failed_starts_do_not(keeper: Keeper) -> None:
    keeper.plane = cast(Plane, SimpleNamespace(waiting=True))
    late = keeper.down_since_ns + 60 * SECOND
    assert keeper.starting and keeper.well(late, 5 * SECOND, 30 * SECOND)
    keeper.failing = True
    assert not keeper.starting and not keeper.well(late, 5 * SECOND, 30 * SECOND)
    keeper.down_since_ns, keeper.failing = 0, False
    assert keeper.well(late, 5 * SECOND, 30 * SECOND)  # its heart stands still for the order's sake


async def test_an_order_excuses_a_silent_heart_only_once_the_worker_has_left_its_loop_for_it(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.plane = plane = cast(Plane, Ended())
    plane.waiting = True
    looks = 0

    async def doze(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 100:
            keeper.segment.set("worker", 0, "state", WorkerState.RUNNING)
        await asyncio.sleep(0)

    monkeypatch.setattr(keeper, "_doze", doze)
    keeper.down_since_ns = 0
    keeper.segment.set("worker", 0, "heartbeat_ns", time.monotonic_ns() - 60 * SECOND)
    keeper.segment.set("worker", 0, "state", WorkerState.PAUSED)
    assert keeper.well(time.monotonic_ns(), 5 * SECOND, 30 * SECOND)
    counter, why = await asyncio.wait_for(keeper._until_it_fails(), 20)
    assert counter == "restart_hung" and "watch.hang_ms = 500" in why
    assert looks >= 100  # and so many found it carrying out the order
    assert not keeper.well(time.monotonic_ns(), 5 * SECOND, 30 * SECOND)  # nor does the watchdog wait for the order


class Ended:
    """A process as a keeper sees it, until it is told to end."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.pid, self.waiting = 1, False

    async def close(self) -> None:
        await asyncio.sleep(0)


async def test_a_wish_for_another_process_ends_the_one_that_was_meant_and_none_after_it(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies while an order is out, so its keeper replaces it; who waited for the order wants it replaced too."""
    planes: list[Any] = []
    came: asyncio.Queue[None] = asyncio.Queue()

    async def up() -> None:
        keeper.segment.set("worker", 0, "heartbeat_ns", time.monotonic_ns() + 3600 * SECOND)
        planes.append(Ended())
        keeper.plane = planes[-1]
        keeper.down_since_ns = 0
        came.put_nowait(None)

    monkeypatch.setattr(keeper, "up", up)
    monkeypatch.setattr(keeper, "device", SimpleNamespace(facts=SimpleNamespace(link=True)))
    keeping = asyncio.create_task(keeper.keep())
    await asyncio.wait_for(came.get(), 20)
    planes[0].ended.set_result("killed by a test")
    keeper.restart("it could not follow", planes[0])
    await asyncio.wait_for(came.get(), 20)
    keeper.restart("it could not follow", planes[0])
    await asyncio.sleep(0.3)  # three looks
    assert len(planes) == 2
    keeper.restart("another configuration", planes[1])
    await asyncio.wait_for(came.get(), 20)
    keeping.cancel()
    counted = [keeper.segment.get("daemon", 0, f"restart_{why}") for why in ("killed", "config")]
    assert counted == [1, 1]


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
    keeper.down_since_ns = 0
    monkeypatch.setattr(keeper, "_until_it_fails", fails)
    monkeypatch.setattr(keeper, "_bring_back", ends)
    await keeper.keep()
    assert seen == [(False, "killed by a test", 0)]
    assert segment.get("daemon", 0, "restart_killed") == 1
    segment.close()
