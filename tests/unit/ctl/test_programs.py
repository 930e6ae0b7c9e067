"""Names of well-known programs belong to the right addresses."""

from __future__ import annotations

import pytest
from solders import system_program, token
from solders.compute_budget import ID as COMPUTE_BUDGET
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey

from afterburnerd import base58
from afterburnerd.ctl.programs import PROGRAMS, label


@pytest.fixture(scope="module")
def bank() -> LiteSVM:
    return LiteSVM()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_cluster_has_such_a_program(bank: LiteSVM, name: str) -> None:
    account = bank.get_account(Pubkey(PROGRAMS[name]))
    assert account is not None
    assert account.executable


def test_the_names_that_solders_knows() -> None:
    assert PROGRAMS["system"] == bytes(system_program.ID)
    assert PROGRAMS["token"] == bytes(token.ID)
    assert PROGRAMS["compute-budget"] == bytes(COMPUTE_BUDGET)


def test_addresses_begin_with_their_names() -> None:
    """They are vanity addresses, so none can have been taken for another."""
    begins = {
        "vote": "Vote",
        "stake": "Stake",
        "memo": "Memo",
        "loader": "BPFLoader",
        "associated-token": "AToken",
        "token-2022": "Tokenz",
    }
    assert {n: base58.encode(PROGRAMS[n])[: len(b)] for n, b in begins.items()} == begins
    assert len(set(PROGRAMS.values())) == len(PROGRAMS)


def test_labels() -> None:
    assert label(bytes(32)) == "system"
    assert label(bytes([1] * 32)) == str(Pubkey(bytes([1] * 32)))
