"""The transaction decoder survives a fuzzer under ASan and UBSan, and the fuzzer is one that would notice.

A finding is written out as hex in the failure, with the command that replays it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from afterburnerd.abi.layout import Tx, TxReason, TxSanitize
from afterburnerd.native import lib

from .make_corpus import kept, solana_tx
from .target import TARGETS

TARGET = TARGETS["solana_tx"]


def test_the_decoder_survives_a_run(tmp_path: Path, seed: int) -> None:
    TARGET.survives(tmp_path, seed)


def test_the_corpus_is_what_the_makers_make_and_reaches_every_reason() -> None:
    files = kept("solana_tx")
    assert files == solana_tx(), "stale corpus: python -m tests.fuzz.make_corpus"
    found = {name: TxReason(Tx.unpack(lib.tx_decode(data)).reason) for name, data in files.items()}
    assert set(found.values()) == set(TxReason) - {TxReason.EMPTY, TxReason.TOO_LONG}
    assert {TxSanitize(lib.tx_sanitize(files[name])) for name, reason in found.items() if reason is TxReason.OK} == set(
        TxSanitize
    )


@pytest.mark.parametrize(
    ("check", "without"),
    [
        ("if (ab_unlikely(bytes > c->len - c->at))", "if (0)"),  # no bounds check at all
        ("if (left < 2)", "if (0)"),  # one byte too far, inside a count
        ("if (ab_unlikely(c->len - c->at < 3))", "if (c->len - c->at < 2)"),  # one byte too far, in the header
        ("c->at == c->len ? AB_TX_OK : AB_TX_TRAILING_BYTES", "c->at ? AB_TX_OK : AB_TX_EMPTY"),  # no over-read: a lie
        ("if (!skip(c, V1_HEADER_BYTES))", "if (c->len < 4)"),  # inside the mask of v1
        ("ab_tx_decoded(tx) ? tx->config_mask : 0", "tx->config_mask"),  # values that are not there
        ("if (!skip(c, bodies))", "if (!skip(c, bodies & 0xff))"),  # instructions of v1 that end outside
    ],
)
def test_the_fuzzer_notices_a_missing_check(check: str, without: str, tmp_path: Path) -> None:
    TARGET.notices(tmp_path, check, without)
