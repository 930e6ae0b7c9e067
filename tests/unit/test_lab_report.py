"""A benchmark's report: goals are judged in the right direction, and --json leaves standard output to the object alone."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from afterburnerd.lab import report
from afterburnerd.lab.report import EXIT_MISSED, EXIT_OK, Report, Result, quantity, result

KEYS = ["figure", "unit", "value", "reference", "reference_value", "ratio", "goal", "met"]


def shown(it: Report) -> str:
    console = Console(file=io.StringIO(), width=160)
    for renderable in report.render(it):
        console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def one(*results: Result) -> Report:
    return Report("x", {"cpu": "abacus", "cpus": 2, "kernel": "6.1", "load_1min": 0.5}, {"rounds": 3}, results)


@pytest.mark.parametrize(
    ("value", "better", "met"),
    [(10.0, "higher", True), (9.9, "higher", False), (10.0, "lower", True), (10.1, "lower", False)],
)
def test_a_goal_is_a_floor_or_a_ceiling(value: float, better: report.Better, met: bool) -> None:
    assert result("f", "s", value, goal=10.0, better=better).met is met


def test_a_goal_relative_to_the_reference_is_given_in_the_unit_of_the_value() -> None:
    r = result("rtt_p50", "s", 5.0e-6, reference="floor", reference_value=4.0e-6, goal_ratio=1.3, better="lower")
    assert r.ratio == pytest.approx(1.25) and r.goal == pytest.approx(5.2e-6) and r.met is True
    assert (
        result("rtt_p50", "s", 5.3e-6, reference="floor", reference_value=4.0e-6, goal_ratio=1.3, better="lower").met
        is False
    )
    assert result("rate", "packets/s", 91.0, reference="bare", reference_value=100.0, goal_ratio=0.9).met is True
    assert result("rate", "packets/s", 89.0, reference="bare", reference_value=100.0, goal_ratio=0.9).met is False


def test_of_two_goals_the_stricter_one_counts() -> None:
    assert result("f", "s", 1.0, reference="r", reference_value=2.0, goal=3.0, goal_ratio=2.0).goal == 4.0
    assert (
        result("f", "s", 1.0, reference="r", reference_value=2.0, goal=3.0, goal_ratio=2.0, better="lower").goal == 3.0
    )


def test_a_goal_whose_reference_could_not_be_measured_is_not_met() -> None:
    assert result("f", "s", 1.0, goal_ratio=1.3, better="lower").met is False


def test_a_ceiling_of_zero_is_a_goal() -> None:
    assert result("loss", "%", 0.0, goal=0.0, better="lower").met is True
    assert result("loss", "%", 0.1, goal=0.0, better="lower").met is False


def test_a_figure_without_goal_is_neither_met_nor_missed() -> None:
    assert result("f", "s", 1.0).met is None and one(result("f", "s", 1.0)).exit_code == EXIT_OK


def test_a_missed_goal_shows_in_the_exit_code() -> None:
    good, bad = result("f", "s", 1.0, goal=1.0), result("g", "s", 1.0, goal=2.0)
    assert one(good).exit_code == EXIT_OK and one(good, bad).exit_code == EXIT_MISSED


def test_the_json_is_one_object_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    report.say("meanwhile")
    assert report.publish(one(result("f", "s", 1.0, goal=2.0)), json=True) == EXIT_MISSED
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and "meanwhile" in err
    told = json.loads(out)
    assert list(told) == ["bench", "machine", "settings", "results"]
    assert [list(r) for r in told["results"]] == [KEYS]
    assert told["results"][0] == {
        "figure": "f",
        "unit": "s",
        "value": 1.0,
        "reference": None,
        "reference_value": None,
        "ratio": None,
        "goal": 2.0,
        "met": False,
    }


def test_the_table_shows_every_figure_with_its_reference_and_verdict() -> None:
    text = shown(
        one(
            result("decoder_rate", "transactions/s", 93.5e6, reference="solders", reference_value=6.5e6, goal=10e6),
            result("rtt_p50", "s", 6.2e-6, reference="floor", reference_value=4.1e-6, goal_ratio=1.3, better="lower"),
        )
    )
    first, second = (next(line for line in text.splitlines() if name in line) for name in ("decoder_rate", "rtt_p50"))
    for piece in ("93.5 M/s", "6.5 M/s  solders", "14.4", "10 M/s", "met"):
        assert piece in first
    for piece in ("6.2 us", "4.1 us  floor", "1.51", "5.33 us", "missed"):
        assert piece in second
    assert "abacus" in text and "rounds 3" in text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (93.46e6, "transactions/s", "93.5 M/s"),
        (999.0, "packets/s", "999 /s"),
        (4.123e-6, "s", "4.12 us"),
        (0.0, "s", "0 s"),
        (3e-10, "s", "0.3 ns"),
        (30.0, "s", "30 s"),
        (8388608.0, "bytes", "8 MiB"),
        (512.0, "bytes", "512 B"),
        (0.25, "%", "0.25 %"),
        (None, "s", "-"),
    ],
)
def test_quantities_are_written_as_a_person_does(value: float | None, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_the_machine_is_named() -> None:
    facts = report.machine()
    assert facts["kernel"] and facts["cpu"] and isinstance(facts["cpus"], int) and facts["cpus"] >= 1
    assert report.steal_seconds() >= 0.0
