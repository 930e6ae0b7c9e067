"""What the benchmark of the raw path makes of its rounds: medians, ratios of medians, goals."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from afterburnerd.lab import bench_raw, report
from afterburnerd.lab.labio import Samples


def samples(p50: int, p99: int = 9000, lost: int = 0) -> Samples:
    return Samples(count=1000, lost=lost, beyond=0, min=1, p50=p50, p90=p50, p99=p99, p999=p99, max=p99)


def one(
    ours: int = 3000, floor: int = 2500, sockets: int = 3600, rate: float = 950e3, floor_rate: float = 1e6
) -> bench_raw.Round:
    return bench_raw.Round(
        samples(ours), samples(floor + 300, 5000), samples(floor, 5000), samples(sockets), rate, floor_rate, 0.5
    )


def loss(missing: int = 0) -> bench_raw.Loss:
    return bench_raw.Loss(
        sent=1_000_000,
        decoded=1_000_000 - missing,
        rate=760e3,
        frames=65536,
        longest_gap_ns=20_000_000,
        steal_seconds=0.1,
        kernel_drops=0,
    )


def by_name(rounds: list[bench_raw.Round], lost: int = 0) -> dict[str, report.Result]:
    return {result.figure: result for result in bench_raw.results(rounds, loss(lost))}


def test_figures_are_medians_and_ratios_of_medians() -> None:
    figures = by_name([one(3000, 2500), one(2000, 2400), one(9000, 9000)])
    assert figures["rtt_p50"].value == pytest.approx(3000e-9)
    assert figures["rtt_p50"].reference_value == pytest.approx(2500e-9)
    assert figures["rtt_p50"].ratio == pytest.approx(1.2)
    assert figures["receive_decode_rate"].ratio == pytest.approx(0.95)
    assert figures["loss_longest_gap"].value == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("rounds", "lost", "missed"),
    [
        ([one()], 0, set()),
        ([one(ours=3251)], 0, {"rtt_p50"}),  # above 1.3 times the floor
        ([one(ours=3249)], 0, set()),
        ([one(ours=3200, sockets=3100)], 0, {"rtt_p50_sockets"}),
        ([one(rate=899e3)], 0, {"receive_decode_rate"}),
        ([one()], 1, {"loss_at_80_percent"}),
        ([one()], -1, {"loss_at_80_percent"}),  # more came than was sent: then somebody miscounts
    ],
)
def test_goals(rounds: list[bench_raw.Round], lost: int, missed: set[str]) -> None:
    assert {name for name, result in by_name(rounds, lost).items() if result.met is False} == missed


def test_a_stock_of_transactions_has_the_size_that_everybody_speaks_of() -> None:
    with bench_raw.stock() as path:
        packed = Path(path).read_bytes()
    assert len(packed) % 237 == 0
    assert {packed[i : i + 2] for i in range(0, len(packed), 237)} == {(235).to_bytes(2, "little")}


def test_it_reports_as_one_json_object() -> None:
    made = report.Report("raw", {"cpus": 2}, {"rounds": 1}, tuple(bench_raw.results([one()], loss())))
    read = json.loads(msgspec.json.encode(made))
    assert set(read) == {"bench", "machine", "settings", "results"}
    assert set(read["results"][0]) == {
        "figure",
        "unit",
        "value",
        "reference",
        "reference_value",
        "ratio",
        "goal",
        "met",
    }
    assert {"rtt_p50", "rtt_p99", "receive_decode_rate", "loss_at_80_percent"} <= {r["figure"] for r in read["results"]}
