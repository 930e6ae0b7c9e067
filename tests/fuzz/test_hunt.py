"""A hunt goes on after a finding, says how to replay it, and ends with exit code 1; what is found again is not told again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests import hunt


class Stub(hunt.Hunter):
    """Finds something in its second slice."""

    def __init__(self) -> None:
        self.name, self.turns = "stub", 0

    def slice(self, seconds: float) -> tuple[int, list[str]]:
        self.turns += 1
        return 10, ["replay me"] if self.turns == 2 else []


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hunt", *words])
    return hunt.main()


@pytest.mark.parametrize(("slices", "code"), [(1, 0), (2, 1), (5, 1)])
def test_a_finding_does_not_end_the_hunt(
    slices: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr(hunt, "MAKERS", {"stub": Stub})
    monkeypatch.setattr(hunt.time, "monotonic", lambda: next(clock))
    # A stubbed slice takes some ticks of this clock: two before it, one behind it, one to look whether time is over.
    assert call(monkeypatch, "--seconds", str(4 * slices), "--slice", "1", "stub") == code
    said = capsys.readouterr().out
    assert said.count("FOUND  replay me") == code
    assert json.loads(said.splitlines()[-1])["stub"]["tried"] == 10 * slices


def test_a_target_is_hunted_with_a_corpus_that_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hunt, "HUNT", tmp_path)
    assert call(monkeypatch, "--seconds", "2", "eth") == 0
    assert list((tmp_path / "eth" / "corpus").iterdir())
