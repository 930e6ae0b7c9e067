"""The decoder benchmark says what was asked for, on standard output alone, and does not count what it did not decode.

Whether the goal is met is for the benchmark to say, not for a test on a busy machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from afterburnerd.cli import ToolError
from afterburnerd.lab import bench_decoder, cores, main, report


def decoder(*words: str) -> int:
    """The benchmark as it is called, without the end of the process."""
    args = main.build_parser().parse_args(["bench", "decoder", *words])
    code: int = args.run(args)
    return code


def test_json_holds_the_figures_with_solders_as_reference(capfd: pytest.CaptureFixture[str]) -> None:
    before = os.sched_getaffinity(0)
    decoder("--json", "--rounds", "1")
    told = json.loads(capfd.readouterr().out)
    assert told["bench"] == "decoder" and told["settings"]["transaction_bytes"] == 235
    figures = {r["figure"]: r for r in told["results"]}
    assert list(figures) == ["decoder_rate", "decoder_rate_median", "decoder_rate_mixed"]
    for r in figures.values():
        assert r["unit"] == "transactions/s" and r["goal"] == 10e6 and r["met"] is (r["value"] >= 10e6)
        assert r["reference"] == "solders" and r["ratio"] == pytest.approx(r["value"] / r["reference_value"])
    assert os.sched_getaffinity(0) == before


def test_without_solders_there_is_no_reference_but_a_figure(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "solders.transaction", None)
    decoder("--json", "--rounds", "1")
    out, err = capfd.readouterr()
    first = json.loads(out)["results"][0]
    assert first["value"] > 0 and first["reference"] is None and first["ratio"] is None
    assert "make setup" in err


def test_a_stock_that_does_not_decode_gives_no_figure() -> None:
    sample = bench_decoder._ours([b"\x01" + bytes(234)])
    with pytest.raises(AssertionError, match="the figure would be worthless"):
        sample()


def test_the_affinity_is_restored_on_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.sched_getaffinity(0)
    monkeypatch.setattr(report, "result", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bench_decoder.measure(rounds=1, seed=1, cpu=cores.usable_cpus()[-1])
    assert os.sched_getaffinity(0) == before


def test_it_runs_by_itself() -> None:
    command = [sys.executable, "-m", "afterburnerd.lab.main", "bench", "decoder", "--json", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    missed = not all(r["met"] for r in json.loads(done.stdout)["results"])
    assert done.returncode == (report.EXIT_MISSED if missed else report.EXIT_OK), done.stderr


def test_no_rounds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        decoder("--rounds", "0")
    assert refused.value.code == 64 and "--rounds" in capsys.readouterr().err


def test_a_cpu_that_we_may_not_use_is_named() -> None:
    with pytest.raises(ToolError, match="--cpu 4095: this process may run on CPU "):
        decoder("--rounds", "1", "--cpu", "4095")
