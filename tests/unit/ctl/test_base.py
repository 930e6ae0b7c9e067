"""The daemon is found, also behind a file that is wrong, missing or forbidden."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from afterburnerd.cli import ToolError
from afterburnerd.ctl import base
from afterburnerd.ctl.base import find_daemon


def args(config: Path | None = None, name: str | None = None, run_dir: str | None = None) -> Namespace:
    return Namespace(config=str(config) if config else None, name=name, run_dir=run_dir)


@pytest.fixture
def default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "etc" / "afterburner.toml"
    monkeypatch.setattr(base, "DEFAULT_PATH", str(path))
    return path


def test_no_file_at_the_usual_place_means_the_defaults(default: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert find_daemon(args()).name == "afterburner"
    default.parent.mkdir()
    place = find_daemon(args())
    assert (place.name, place.run_dir, place.given) == ("afterburner", "/run/afterburner", False)
    assert capsys.readouterr().err == ""


def test_the_file_says_where(default: Path) -> None:
    default.parent.mkdir()
    default.write_text('[daemon]\nname = "two"\nrun_dir = "/run/two"\n')
    place = find_daemon(args())
    assert (place.name, place.run_dir) == ("two", "/run/two")
    place = find_daemon(args(name="three"))
    assert (place.name, place.run_dir, place.name_given) == ("three", "/run/two", True)


def test_a_wrong_file_is_told_and_read_as_far_as_it_goes(default: Path, capsys: pytest.CaptureFixture[str]) -> None:
    default.parent.mkdir()
    default.write_text('[daemon]\nname = "two"\n[memory]\nring = 3\nrung = 4\n')
    assert find_daemon(args()).name == "two"
    err = capsys.readouterr().err
    assert f"{default}:4: memory.ring" in err
    assert "(and 1 more)" in err


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="No such file") as caught:
        find_daemon(args(tmp_path / "none.toml"))
    assert caught.value.exit_code == 78


def test_a_named_file_must_be_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ToolError, match="Permission denied") as caught:
        find_daemon(args(tmp_path / "x.toml"))
    assert caught.value.exit_code == 77


def test_a_forbidden_file_at_the_usual_place_is_told_and_the_defaults_are_taken(
    default: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    default.parent.mkdir()
    default.write_text("")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert find_daemon(args()).name == "afterburner"
    assert "Permission denied" in capsys.readouterr().err


def test_name_and_run_dir_need_no_file(default: Path, capsys: pytest.CaptureFixture[str]) -> None:
    default.parent.mkdir()
    default.write_text("nonsense")
    place = find_daemon(args(name="a", run_dir="/b"))
    assert (place.name, place.run_dir) == ("a", "/b")
    assert capsys.readouterr().err == ""
