"""What a trace needs and is not there is told with the command that gets it; and it ends when it should."""

from __future__ import annotations

import json
import os
import re
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from afterburnerd.cli import ToolError
from afterburnerd.ctl import trace
from afterburnerd.ctl.main import main
from afterburnerd.ctl.trace import program
from afterburnerd.ctl.trace.events import RECORD


def refused(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    assert main(["trace", *words]) == code
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    return err


def test_without_root(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "needs root: run it with sudo" in refused(capsys, 77)


def test_without_bcc_or_with_another_of_that_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "check_rights", lambda: None)
    monkeypatch.setitem(sys.modules, "bcc", None)
    assert "apt install python3-bpfcc" in refused(capsys, 69, "--interface", "all", "--port", "1")
    other = ModuleType("bcc")
    other.__file__ = "/somewhere/bcc/__init__.py"
    monkeypatch.setitem(sys.modules, "bcc", other)
    assert "/somewhere/bcc/__init__.py is not the bcc" in refused(capsys, 69, "--interface", "all", "--port", "1")


def test_without_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BCC_KERNEL_SOURCE", raising=False)
    nothing = tmp_path / "kheaders.tar.xz"
    with pytest.raises(ToolError, match=r"apt install linux-headers-6\.1\.0-56-amd64") as caught:
        program.check_headers("6.1.0-56-amd64", tmp_path, nothing)
    assert caught.value.exit_code == 69
    nothing.touch()
    program.check_headers("6.1.0-56-amd64", tmp_path, nothing)
    (tmp_path / "6.1.0-56-amd64/build").mkdir(parents=True)
    program.check_headers("6.1.0-56-amd64", tmp_path, tmp_path / "none")


def test_without_tracefs_or_a_tracepoint(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="mount -t tracefs none /sys/kernel/tracing"):
        program.tracefs([tmp_path])
    for name in program.TRACEPOINTS[1:]:
        (tmp_path / "events" / name).mkdir(parents=True)
        (tmp_path / "events" / name / "format").touch()
    with pytest.raises(ToolError, match=r"no tracepoint xdp/xdp_exception$"):
        program.tracefs([tmp_path])


def test_the_program_is_told_everything_that_it_asks_for() -> None:
    class Offsets:
        def offset(self, structure: str, field: str) -> int:
            return 8

    btf: Any = Offsets()
    told = program.definitions(btf, "field:enum skb_drop_reason reason;", {8001, 8002}, 3)
    assert "-DOURS(port)=((port) == 8001 || (port) == 8002)" in told and "-DREASON=args->reason" in told
    assert "-DOURS(port)=(0)" in program.definitions(btf, "", (), 0)
    assert "-DREASON=0" in program.definitions(btf, "", (), 0)
    source = program.SOURCE.read_text()
    for flag in told:
        name = re.match(r"-D(\w+)", flag)
        assert name and re.search(rf"\b{name[1]}\b", source.split("*/", 1)[1]), flag


def test_an_interface_that_is_not_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "check_rights", lambda: None)
    said = refused(capsys, 69, "--interface", "nosuch0", "--port", "1")
    assert "there is no interface nosuch0 in this network namespace, which has lo" in said


def test_ports_and_interface_come_from_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "afterburner.toml"
    config.write_text(
        '[interface]\nname = "eth7"\n[[capture]]\nname = "a"\nport = 1\n[[capture]]\nname = "b"\nport = 2\n'
        '[[listen]]\nname = "c"\nport = 3\n'
    )
    given = Namespace(config=str(config), port=None, interface=None)
    assert trace.wanted(given) == ({1, 2, 3}, "eth7")
    assert trace.wanted(Namespace(config=str(config), port=[9], interface=None)) == ({9}, "eth7")
    assert trace.wanted(Namespace(config=str(config), port=None, interface="all")) == ({1, 2, 3}, "")
    assert trace.wanted(Namespace(config="/nonexistent", port=[9], interface="eth0")) == ({9}, "eth0")
    with pytest.raises(ToolError, match=r"cannot be read.*--interface and --port need no configuration") as caught:
        trace.wanted(Namespace(config="/nonexistent", port=[9], interface=None))
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("words", [["--port", "0"], ["--port", "65536"], ["--port", "x"], ["--count", "0"]])
def test_nonsense_is_a_usage_error(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    refused(capsys, 64, *words)


class Kernel:
    """Tells three things a look, and loses one."""

    def __init__(self) -> None:
        self.reasons: dict[int, str] = {}
        self.lost = 0
        self.time = 0.0

    def clock(self) -> float:
        return self.time

    def poll(self, seconds: float) -> list[bytes]:
        self.time += seconds
        self.lost += 1
        record = RECORD.pack(5, 0, 1, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, bytes(16), bytes(16))
        return [record] * 3

    def symbol(self, address: int) -> str:
        return ""


def test_the_count_ends_it_in_the_middle_of_what_came(capsys: pytest.CaptureFixture[str]) -> None:
    kernel = Kernel()
    trace.follow(Namespace(json=True, count=4, seconds=None), kernel, kernel.clock)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [t["event"] for t in told] == [*["xdp_exception"] * 3, "lost", "xdp_exception", "lost"]
    assert told[3] == {"event": "lost", "count": 1}


def test_the_time_ends_it_and_losses_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    kernel = Kernel()
    trace.follow(Namespace(json=False, count=None, seconds=1.0), kernel, kernel.clock)
    out, err = capsys.readouterr()
    assert kernel.time == pytest.approx(1.0)
    assert len(out.splitlines()) == 12
    assert err.splitlines()[-1] == "afterburnerctl: 12 events, 4 more lost"
