"""What emit will send is decided beforehand: shares, weights, and counts by label that follow from a number sent."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from afterburnerd.abi.layout import Tx, TxReason
from afterburnerd.cli import ToolError
from afterburnerd.lab import emit
from afterburnerd.lab.broken import SENDABLE, UNSOUND
from afterburnerd.lab.main import main
from afterburnerd.lab.transactions import SHAPES, Maker
from afterburnerd.native import lib


def test_the_stock_is_what_its_labels_say(seed: int) -> None:
    stock = emit.make_stock(400, seed, emit.weights([]), 0.25, list(SENDABLE))
    for payload, label in zip(stock.payloads, stock.labels, strict=True):
        reason = TxReason(Tx.unpack(lib.tx_decode(payload)).reason)
        assert reason.name.lower() == (label[1:] if label.startswith("!") else "ok"), label
    assert sum(label.startswith("!") for label in stock.labels) == 100


def test_the_same_seed_makes_the_same_bytes(seed: int) -> None:
    make = [emit.make_stock(50, seed, emit.weights([]), 0.1, list(SENDABLE)) for _ in range(2)]
    assert make[0] == make[1]
    assert make[0] != emit.make_stock(50, seed + 1, emit.weights([]), 0.1, list(SENDABLE))


@pytest.mark.parametrize("size", [1, 7, 40, 99])
def test_a_share_holds_wherever_the_run_is_cut_off(size: int) -> None:
    stock = emit.make_stock(size, 1, {"transfer": 1}, 0.3, ["empty"])
    for n in range(size + 1):
        assert abs(sum(label == "!empty" for label in stock.labels[:n]) - 0.3 * n) <= 1


def test_weights_are_proportions() -> None:
    stock = emit.make_stock(40, 1, emit.weights(["transfer=3", "swap"]), 0, [])
    assert Counter(stock.labels) == {"transfer": 30, "swap": 10}


@pytest.mark.parametrize("sent", [0, 1, 6, 7, 8, 21, 25])
def test_the_tally_counts_rounds_and_the_rest(sent: int) -> None:
    stock = emit.Stock((b"",) * 7, tuple("aabbb!c"))
    want = Counter((stock.labels * 4)[:sent])
    assert emit.tally(stock, sent) == want


def test_every_shape_by_default_and_no_fault() -> None:
    assert set(emit.weights([])) == set(SHAPES)
    assert emit.faults([])[0] == 0


@pytest.mark.parametrize(
    ("broken", "share", "reasons"),
    [(["10%"], 0.1, list(SENDABLE)), (["empty"], 1.0, ["empty"]), (["empty", "50%"], 0.5, ["empty"])],
)
def test_faults(broken: list[str], share: float, reasons: list[str]) -> None:
    assert emit.faults(broken) == (share, reasons)


@pytest.mark.parametrize("broken", ["110%", "-1%", "trailing", "x%"])
def test_nonsense_faults_are_usage_errors(broken: str) -> None:
    with pytest.raises(ToolError) as caught:
        emit.faults([broken])
    assert caught.value.exit_code == 64


def test_the_list_is_json_where_that_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emit", "--list", "-j"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["shapes"] == {name: len(Maker(1).make(name)) for name in SHAPES}
    assert (told["malformed"], told["unsound"]) == (list(SENDABLE), list(UNSOUND))


def test_a_misspelt_shape_gets_its_nearest_name() -> None:
    with pytest.raises(ToolError, match="did you mean transfer"):
        emit.weights(["tranfser"])
