"""The engine's benchmark counts what arrived and was acknowledged, in every mode, and says where the time went."""

from __future__ import annotations

import argparse
import json
import os
import subprocess

import pytest

from afterburnerd.cli import ToolError
from afterburnerd.lab import bench_engine, labio

# Transactions: they may have been sent before the counting began, and acknowledged in it.
UNDER_WAY = 640


def run(*arguments: str) -> list[dict[str, float]]:
    command = [str(labio.PROGRAM), "engine", "--warm-ms", "2", "--duration-ms", "20", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("suite", ["1", "2", "3"])
@pytest.mark.parametrize("pack", ["0", "1"])
def test_what_is_counted_came_with_fin_and_was_acknowledged(suite: str, pack: str) -> None:
    for line in run("--size", "235", "--suite", suite, "--pack", pack):
        assert line["failed"] == 0 < line["transactions"]
        assert line["transactions"] == min(line["fins"], line["acked"])
        # What one end has counted and the other has not is under way: two batches at most.
        assert abs(line["fins"] - line["acked"]) <= UNDER_WAY
        # A few packets carry something else: an MTU probe, what happened to be left over at the end of a batch.
        if pack == "1":
            assert line["transactions"] <= line["packets"] + UNDER_WAY
        else:
            # A loop that was off its CPU for a while probes and repeats: so four a packet is too much to ask for.
            assert 3 * line["packets"] < line["transactions"] <= 5 * line["packets"] + UNDER_WAY
        assert line["bytes"] > 235 * line["transactions"], "they are not on the wire"


def test_a_transaction_longer_than_a_datagram_arrives_too() -> None:
    [line] = run("--size", "4096")
    assert line["failed"] == 0 < line["transactions"] and line["packets"] >= 3 * line["transactions"]


def test_the_report_has_both_rates_with_their_goals_and_every_stage() -> None:
    report = bench_engine.measure(rounds=1, size=235, backend=None, cpu=max(os.sched_getaffinity(0)))
    figures = {result.figure: result for result in report.results}
    assert figures["engine_unpacked_rate"].goal == 2.5e6 and figures["engine_packed_rate"].goal == 8e6
    for stage in ("cost", "accept", "frames_out", "seal", "mask_out", "mask_in", "open", "frames_in", "acks"):
        for mode in ("unpacked", "packed", "unpacked_aes256", "packed_aes256"):
            assert figures[f"{mode}_{stage}"].value >= 0
    floor = figures["packed_cost"].reference_value
    assert floor is not None and figures["packed_cost"].value > floor > 0


@pytest.mark.parametrize(("name", "value"), [("size", 0), ("size", 5000), ("cpu", 4096)])
def test_what_cannot_be_is_refused_by_name(name: str, value: int) -> None:
    arguments = argparse.Namespace(rounds=1, size=235, backend=None, cpu=None, json=False)
    setattr(arguments, name, value)
    with pytest.raises(ToolError, match=f"--{name} {value}"):
        bench_engine.run(arguments)
