"""A view says what happened between two looks at the statistics, and nothing else."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from afterburnerd.abi import control
from afterburnerd.abi.stats import Snapshot, StatsReader
from afterburnerd.ctl.view import Drop, View, look
from tests.unit.ctl.conftest import DEGRADED, FakeDaemon

SECOND = 1_000_000_000


def snapshot(reader: StatsReader, at: int) -> Snapshot:
    """A snapshot that pretends to be taken at a certain second."""
    taken = reader.read()
    taken.taken_ns = at * SECOND
    return taken


@pytest.fixture
def reader(daemon: FakeDaemon) -> StatsReader:
    return StatsReader.open(daemon.name)


def test_rates_belong_to_the_window_and_counts_to_the_whole_life(daemon: FakeDaemon, reader: StatsReader) -> None:
    s = daemon.segment
    s.set("worker", 0, "run_ns", 100 * SECOND)
    s.set("worker", 0, "busy_ns", 99 * SECOND)
    before = snapshot(reader, 100)
    s.add("worker", 0, "decoded", 5000)
    s.add("worker", 0, "run_ns", 2 * SECOND)
    s.add("worker", 0, "busy_ns", SECOND // 2)
    s.add("worker", 0, "malformed_empty", 3)
    s.add("worker", 0, "malformed_trailing_bytes", 1)
    s.add("queue", s.queue_row(0, 0), "rx_packets", 600)
    s.add("queue", s.queue_row(0, 1), "rx_packets", 400)
    s.add("queue", s.queue_row(0, 1), "rx_bursts", 100)
    s.add("queue", s.queue_row(0, 1), "rx_bytes", 4000)
    s.add("queue", s.queue_row(0, 1), "tx_kicks", 2)
    s.add("queue", s.queue_row(0, 1), "rx_kicks", 4)
    view = look(daemon.name, before, snapshot(reader, 102), None, "")
    assert view.window == 2.0
    first, second = view.workers
    assert (first.decoded, first.decoded_rate) == (1_005_000, 2500.0)
    assert (first.malformed, first.malformed_rate) == (4, 2.0)
    assert (first.busy, first.received_rate) == (0.25, 500.0)
    assert (second.decoded, second.decoded_rate, second.busy) == (1_000_000, 0.0, 0.0)
    queue = view.queues[1]
    assert (queue.queue, queue.worker, queue.mode) == (1, 0, "copy")
    assert (queue.rx_packets, queue.rx_rate, queue.rx_bytes_rate, queue.batch, queue.kicks_rate) == (
        500_400,
        200,
        2000,
        4,
        3,
    )


def test_workers_are_described(daemon: FakeDaemon, reader: StatsReader) -> None:
    now = snapshot(reader, 1)
    view = look(daemon.name, now, now, daemon.status, "")
    assert [(w.index, w.cpu, w.queues, w.pid, w.state) for w in view.workers] == [
        (0, 3, (0, 1), 1000, "running"),
        (1, -1, (2,), 1001, "running"),
    ]
    assert [(w.restarts, w.last_failure) for w in view.workers] == [(1, "killed by SIGKILL"), (0, "")]
    assert [w.restarts for w in look(daemon.name, now, now, None, "gone").workers] == [None, None]


def test_latency_of_the_window_and_of_the_whole_life_over_all_workers(daemon: FakeDaemon, reader: StatsReader) -> None:
    daemon.record(0, "latency", 1 << 20)
    before = snapshot(reader, 1)
    daemon.record(0, "latency", 16, 99)
    daemon.record(1, "latency", 4096, 1)
    view = look(daemon.name, before, snapshot(reader, 2), None, "")
    assert view.latency.count == 100
    assert view.latency.p50 == pytest.approx(16e-9, rel=0.04)
    assert view.latency.max == pytest.approx(4096e-9, rel=0.04)
    assert view.latency_total.count == 101
    assert view.latency_total.max == pytest.approx((1 << 20) * 1e-9, rel=0.04)
    assert [w.latency.count for w in view.workers] == [99, 1]


def test_losses_are_gathered_from_every_place_in_the_order_of_the_way(daemon: FakeDaemon, reader: StatsReader) -> None:
    s = daemon.segment
    rows = s.description.blocks[1].rows
    down = next(i for i, labels in enumerate(rows) if labels == {"verdict": "drop", "reason": "worker_down"})
    passed = next(i for i, labels in enumerate(rows) if labels["verdict"] == "pass")
    s.set("xdp", down, "packets", 7)
    s.set("xdp", passed, "packets", 1000)
    s.set("worker", 0, "drop_no_rule", 2)
    s.set("worker", 1, "drop_no_rule", 3)
    s.set("worker", 1, "drop_short", 1)
    before = snapshot(reader, 1)
    s.set("kernel", s.queue_row(1, 0), "rx_ring_full", 4)
    s.set("queue", s.queue_row(0, 0), "tx_dropped", 9)
    view = look(daemon.name, before, snapshot(reader, 3), None, "")
    assert view.drops == (
        Drop("xdp", "worker_down", 7, 0.0),
        Drop("kernel", "rx_ring_full", 4, 2.0),
        Drop("worker", "no_rule", 5, 0.0),
        Drop("worker", "short", 1, 0.0),
        Drop("transmit", "no_room", 9, 4.5),
    )


def test_a_rule_is_summed_over_workers_and_named_by_the_daemon(daemon: FakeDaemon, reader: StatsReader) -> None:
    s = daemon.segment
    s.set("rule", s.rule_row(0, 1), "packets", 10)
    s.set("rule", s.rule_row(1, 1), "packets", 5)
    s.set("rule", s.rule_row(1, 1), "malformed", 2)
    now = snapshot(reader, 1)
    view = look(daemon.name, now, now, daemon.status, "")
    assert [(r.name, r.where, r.decoder, r.packets, r.malformed) for r in view.rules] == [
        ("tpu", "any:8001", "solana-tx", 0, 0),
        ("votes", "[2001:db8::1]:8002", "raw", 15, 2),
    ]
    assert [r.where for r in look(daemon.name, now, now, None, "").rules] == ["", ""]


def test_a_rule_of_a_vlan_says_so(daemon: FakeDaemon, reader: StatsReader) -> None:
    captures = tuple(replace(c, vlans=(7, 42)) for c in daemon.status.captures)
    now = snapshot(reader, 1)
    view = look(daemon.name, now, now, replace(daemon.status, captures=captures), "")
    assert [r.where for r in view.rules] == ["any:8001 vlan 7.42", "[2001:db8::1]:8002 vlan 7.42"]


def test_a_restart_in_between_counts_from_the_restart(daemon: FakeDaemon, reader: StatsReader) -> None:
    before = snapshot(reader, 1)
    daemon.segment.set("worker", 0, "decoded", 10)  # begun anew: lower than before
    view = look(daemon.name, before, snapshot(reader, 2), None, "")
    assert view.workers[0].decoded_rate == 10.0


@pytest.mark.parametrize(
    ("view", "degraded"),
    [
        (View(name="x", running=True, state="serving"), False),
        (View(name="x", running=True, state="degraded"), True),
        (View(name="x", running=True, state="recovering"), True),
        (View(name="x", running=True, state="serving", notices=(control.Notice(text="slow"),)), False),
        (View(name="x", running=True, state="serving", notices=(control.Notice(text="off", degraded=True),)), True),
        (View(name="x", running=False, state="dead"), False),
    ],
)
def test_what_is_degraded(view: View, degraded: bool) -> None:
    assert view.degraded is degraded


def test_the_dead_are_dead(daemon: FakeDaemon, reader: StatsReader) -> None:
    daemon.segment.set("daemon", 0, "state", DEGRADED)
    daemon.die()
    now = reader.read()
    view = look(daemon.name, now, now, None, "not running")
    assert (view.running, view.stale, view.state) == (False, True, "dead")
    assert {w.state for w in view.workers} == {"down"}
    assert replace(view, name="other").workers[0].decoded == 1_000_000
