"""CPUs for spinning ends: the last ones unless chosen, two different ones, and none that there is not."""

from __future__ import annotations

import argparse
import os

import pytest

from afterburnerd.cli import ToolError
from afterburnerd.lab import cores


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 0, 2, 5})


def chosen(*words: str, receiver: str = "receiver") -> cores.Cores:
    parser = argparse.ArgumentParser()
    cores.add_pair(parser, receiver)
    return cores.pair(parser.parse_args(words))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), (3, 5)),
        (("--receiver-cpu", "3"), (5, 3)),
        (("--sender-cpu", "0"), (0, 5)),
        (("--sender-cpu", "5", "--receiver-cpu", "0"), (5, 0)),
    ],
)
def test_two_ends(four: None, words: tuple[str, ...], expected: tuple[int, int]) -> None:
    assert chosen(*words) == cores.Cores(*expected)


@pytest.mark.parametrize("words", [("--sender-cpu", "5"), ("--sender-cpu", "1"), ("--worker-cpu", "9")])
def test_two_ends_that_cannot_be(four: None, words: tuple[str, ...]) -> None:
    with pytest.raises(ToolError, match="--sender-cpu and --worker-cpu: two different ones of 0, 2, 3, 5") as refused:
        chosen(*words, receiver="worker")
    assert refused.value.exit_code == 64


def test_one_cpu_is_not_enough_for_two_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1})
    with pytest.raises(ToolError, match="two CPUs") as refused:
        chosen()
    assert refused.value.exit_code == 69


def test_one_end(four: None) -> None:
    parser = argparse.ArgumentParser()
    cores.add_one(parser)
    assert cores.one(parser.parse_args([])) == 5
    assert cores.one(parser.parse_args(["--cpu", "0"])) == 0
    with pytest.raises(ToolError, match="--cpu 1: this process may run on CPU 0, 2, 3, 5"):
        cores.one(parser.parse_args(["--cpu", "1"]))


def test_staying_on_one_ends_with_the_block() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(ZeroDivisionError), cores.staying_on(max(before)):
        assert os.sched_getaffinity(0) == {max(before)}
        raise ZeroDivisionError
    assert os.sched_getaffinity(0) == before
