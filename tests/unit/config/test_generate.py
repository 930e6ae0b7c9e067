"""The shipped file and the reference say what the model says."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from afterburnerd import generated
from afterburnerd.config import Config, generate, load, schema

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "config" / "afterburner.toml"

SETTING = re.compile(r"#?([a-z][a-z_]*) = (.*)")
HEADER = re.compile(r"#?(\[{1,2})([a-z]+)\]{1,2}")


def settings() -> dict[tuple[str, str], list[Any]]:
    """Every setting of the shipped file in order, commented out or not, read without the model."""
    found: dict[tuple[str, str], list[Any]] = {}
    table = ""
    for line in SHIPPED.read_text().splitlines():
        if header := HEADER.fullmatch(line):
            table = header.group(2)
        elif setting := SETTING.fullmatch(line):
            found.setdefault((table, setting.group(1)), []).append(tomllib.loads(f"v = {setting.group(2)}")["v"])
    return found


def test_the_shipped_file_is_valid_and_changes_nothing() -> None:
    assert load(SHIPPED).config == Config()


def test_the_shipped_file_has_every_key_and_no_other() -> None:
    assert list(settings()) == [(s.name, k.name) for s in schema.sections() for k in s.keys]


def test_the_shipped_file_shows_the_defaults() -> None:
    found = settings()
    for section in schema.sections():
        for key in section.keys:
            shown = schema.convert(found[section.name, key.name][0], key.type)
            assert key.required or shown == key.default, f"{section.name}.{key.name}"


def test_what_is_commented_out_is_valid_when_it_is_not(tmp_path: Path) -> None:
    """Examples come behind the default of the same key, so each key is set to its last line."""
    file = tmp_path / "afterburner.toml"
    seen: dict[tuple[str, str], str] = {}
    table, order = "", []
    for line in SHIPPED.read_text().splitlines():
        if header := HEADER.fullmatch(line):
            table = header.group(2)
            order.append((table, ""))
            seen[table, ""] = line.removeprefix("#")
        elif setting := SETTING.fullmatch(line):
            if (table, setting.group(1)) not in seen:
                order.append((table, setting.group(1)))
            seen[table, setting.group(1)] = line.removeprefix("#")
    file.write_text("\n".join(seen[k] for k in order))
    config = load(file).config
    assert config.interface.name == "eth0"
    assert config.captures[0].name == "tpu"


def test_every_setting_has_prose_in_front_of_it() -> None:
    lines = SHIPPED.read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        if SETTING.fullmatch(line) or HEADER.fullmatch(line):
            assert above.startswith("# ") or SETTING.fullmatch(above), line


def test_generated_files_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().out


def test_check_sees_a_stale_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    (tmp_path / "docs" / "configuration.md").write_text("old")
    capsys.readouterr()
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("docs/configuration.md: stale")


def test_the_reference_names_every_key() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    for section in schema.sections():
        _, _, rest = text.partition(f"## `{'[[' if section.array else '['}{section.name}]")
        chapter = rest.partition("\n## ")[0]
        for key in section.keys:
            assert f"| `{key.name}` |" in chapter
