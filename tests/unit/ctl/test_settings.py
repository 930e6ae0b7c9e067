"""config show, check and diff: what the files say, what is wrong with them, what a reload would cost."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest

from afterburnerd.abi import control
from afterburnerd.config import Config, Memory, load
from afterburnerd.ctl.main import main
from tests.unit.ctl.conftest import FakeDaemon, Tool

TEXT = """[memory]
ring = 1024

[[capture]]
name = "tpu"
port = 8001
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "afterburner.toml"
    path.write_text(TEXT)
    return path


def test_show_prints_toml_that_means_the_same_and_says_where_from(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "show", "--config", str(file)]) == 0
    out = capsys.readouterr().out
    assert "\nring = 1024 " in out
    assert f"# {file}:2\n" in out
    assert "\nframes = 2048 " in out
    again = file.with_name("again.toml")
    again.write_text(out)
    assert load(again).config == load(file).config


def test_show_changed_leaves_the_defaults_out(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "--changed", "--config", str(file)]) == 0
    document = tomllib.loads(capsys.readouterr().out)
    assert document == {"memory": {"ring": 1024}, "capture": [{"name": "tpu", "port": 8001}]}


def test_show_json_has_origins(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-j", "config", "show", "--config", str(file)]) == 0
    document = msgspec.json.decode(capsys.readouterr().out)
    assert document["config"]["memory"]["ring"] == 1024
    assert document["origins"]["capture[0].port"] == {"file": str(file), "line": 6}
    assert "memory" not in document["origins"]


def test_show_running_asks_the_daemon(daemon: FakeDaemon, ctl: Tool) -> None:
    daemon.config = Config(memory=Memory(ring=64))
    assert ctl("config", "show", "--running", "--changed") == 0
    assert tomllib.loads(ctl.out) == {"memory": {"ring": 64}}
    assert ctl("config", "show", "--running", "-j") == 0
    assert ctl.json()["running"] is True


def test_check_of_a_good_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", "--config", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: valid\n"
    assert main(["config", "check", "-j", "--config", str(file)]) == 0
    assert msgspec.json.decode(capsys.readouterr().out) == {"valid": True, "files": [str(file)], "problems": []}


def test_check_tells_everything(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("[memory]\nrung = 1\nframes = 3\n")
    assert main(["config", "check", "--config", str(file)]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{file}:2: memory.rung: unknown key" in err
    assert f"{file}:3: memory.frames: 3 is not accepted" in err
    assert main(["config", "check", "-j", "--config", str(file)]) == 78
    problems = msgspec.json.decode(capsys.readouterr().out)["problems"]
    assert [(p["line"], p["path"]) for p in problems] == [(2, "memory.rung"), (3, "memory.frames")]


def test_diff_says_what_a_reload_would_do(daemon: FakeDaemon, ctl: Tool, file: Path) -> None:
    daemon.config = load(file).config
    assert ctl("config", "diff", "--config", str(file)) == 0
    assert "a reload would change nothing" in ctl.out
    file.write_text(TEXT.replace("8001", "8002"))
    assert ctl("config", "diff", "--config", str(file)) == 0
    assert "capture[tpu].port" in ctl.out
    assert "would apply this at once" in ctl.out
    file.write_text(TEXT.replace("1024", "512"))
    assert ctl("config", "diff", "--config", str(file)) == 0
    assert "restart the data plane" in ctl.out
    file.write_text(TEXT + '[interface]\nname = "eth7"\n')
    assert ctl("config", "diff", "--config", str(file)) == 0
    assert "would be refused" in ctl.out


def test_diff_json(daemon: FakeDaemon, ctl: Tool, file: Path) -> None:
    assert ctl("config", "diff", "-j", "--config", str(file)) == 0
    document = ctl.json()
    assert document["reload"] == "data-plane"
    assert document["changes"] == [
        {"path": "memory.ring", "old": 2048, "new": 1024, "reload": "data-plane"},
        {
            "path": "capture[tpu]",
            "old": None,
            "new": {"name": "tpu", "port": 8001, "address": "any", "vlan": 0, "decoder": "solana-tx"},
            "reload": "live",
        },
    ]


def test_diff_takes_the_file_that_the_daemon_reads(daemon: FakeDaemon, ctl: Tool, file: Path) -> None:
    body = msgspec.Raw(msgspec.json.encode(load(file).config))
    daemon.answer = lambda request: control.RunningConfig(files=(str(file),), config=body)
    assert ctl("config", "diff") == 0
    assert "would change nothing" in ctl.out


def test_diff_needs_a_running_daemon_and_a_valid_file(
    daemon: FakeDaemon, ctl: Tool, file: Path, tmp_path: Path
) -> None:
    file.write_text("[memory]\nring = 3\n")
    assert ctl("config", "diff", "--config", str(file)) == 78
    assert "memory.ring: 3 is not accepted" in ctl.err
    daemon.stop()
    assert ctl("config", "diff", "--config", str(file)) == 3
