"""The benchmark of the XDP program measures what it says, and gives the process its privileges back."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from afterburnerd.abi.layout import XdpReason
from afterburnerd.lab import bench_xdp
from afterburnerd.lab.main import main

pytestmark = [pytest.mark.privileged, pytest.mark.bpf]


def effective() -> int:
    found = re.search(r"CapEff:\s*(\w+)", Path("/proc/thread-self/status").read_text())
    assert found
    return int(found[1], 16)


def test_json_holds_every_case_and_the_stamp(capfd: pytest.CaptureFixture[str]) -> None:
    before = effective()
    assert main(["bench", "xdp", "--rounds", "1", "--repeat", "1k", "-j"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["bench"] == "xdp"
    figures = {r["figure"]: r for r in told["results"]}
    assert list(figures) == [*(case.figure for case in bench_xdp.cases()), "stamp"]
    for figure in figures.values():
        assert (figure["unit"], figure["reference"]) == ("s", "loaded as root")
        assert 0 < abs(figure["value"]) < 1e-3
    assert effective() == before


def test_a_frame_that_ends_otherwise_gives_no_figure() -> None:
    side = bench_xdp.Run()
    case = bench_xdp.cases()[0]
    wrong = bench_xdp.Case(case.figure, case.frame, XdpReason.REDIRECT_CAPTURE)
    with pytest.raises(AssertionError, match="the figure would be worthless"):
        side.nanoseconds(wrong, 10)
    side.program.close()


def test_only_the_named_capabilities_are_in_effect_inside() -> None:
    before = effective()
    wanted = 1 << bench_xdp.CAP_BPF | 1 << bench_xdp.CAP_NET_ADMIN
    with pytest.raises(ZeroDivisionError), bench_xdp.capabilities(wanted):
        assert effective() == wanted
        _ = 1 // 0
    assert effective() == before
