"""The lab's transactions are real: an SDK reads them, their signatures verify, a virtual machine executes them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import TransactionMetadata

from afterburnerd.lab import broken, transactions
from afterburnerd.lab.transactions import LARGE_SHAPES, SHAPES, Config, Maker, compact_u16

SIZES = {
    "transfer": 235,
    "transfer-bare": 215,
    "transfer-v0": 217,
    "memo": 235,
    "multisig": 487,
    "swap": 983,
    "swap-v0": 495,
    "transfer-v1": 236,
    "swap-v1": 956,
    "max": 1232,
    "max-v1": 4096,
}
EXECUTABLE = {
    "transfer",
    "transfer-bare",
    "transfer-v0",
    "memo",
    "multisig",
    "transfer-v1",
    "max",
    "max-v1",
}  # a swap needs the program it calls


@pytest.mark.parametrize("shape", [*SHAPES, *LARGE_SHAPES])
def test_a_shape_has_its_size_and_its_signatures_verify(shape: str, seed: int) -> None:
    maker = Maker(seed)
    for _ in range(20):
        data = maker.make(shape)
        assert len(data) == SIZES[shape]
        sdk = VersionedTransaction.from_bytes(data)
        assert bytes(sdk) == data
        sdk.sanitize()
        assert all(sdk.verify_with_results()) and sdk.signatures


@pytest.mark.parametrize("shape", sorted(EXECUTABLE))
def test_an_executable_shape_is_executed(shape: str, seed: int) -> None:
    machine, maker = _funded(seed)
    for _ in range(5):
        result = machine.send_transaction(VersionedTransaction.from_bytes(maker.make(shape)))
        assert isinstance(result, TransactionMetadata), result


def test_a_transfer_moves_its_lamports_in_spite_of_the_padding(seed: int) -> None:
    machine, maker = _funded(seed)
    message = maker.transaction("transfer").message
    target = Pubkey(message.keys[1])
    machine.send_transaction(VersionedTransaction.from_bytes(maker.sign(message).pack()))
    assert machine.get_balance(target) == int.from_bytes(message.instructions[0].data[4:12], "little") > 0


@pytest.mark.parametrize("shape", ["transfer-v1", "swap-v1", "max-v1"])
def test_a_version_1_shape_says_its_limits_as_the_sdk_would(shape: str, seed: int) -> None:
    message = Maker(seed).transaction(shape).message
    config, expected = VersionedTransaction.from_bytes(Maker(seed).make(shape)).message.config, message.config
    assert (config.priority_fee, config.compute_unit_limit, config.heap_size) == (
        expected.priority_fee,
        expected.compute_unit_limit,
        expected.heap_size,
    )
    # A cluster takes a limit that is not said for zero: nothing could be executed.
    assert config.compute_unit_limit and config.loaded_accounts_data_size_limit == expected.loaded_accounts_size > 0


def test_a_version_1_swap_calls_what_the_legacy_one_calls_but_the_compute_budget(seed: int) -> None:
    plain, v1 = Maker(seed).transaction("swap").message, Maker(seed).transaction("swap-v1").message
    theirs, ours = plain.instructions[-1], v1.instructions[0]
    assert len(v1.instructions) == 1 and transactions.COMPUTE_BUDGET_PROGRAM not in v1.keys
    assert [v1.keys[i] for i in ours.accounts] == [plain.keys[i] for i in theirs.accounts]
    assert (v1.keys[ours.program], ours.data) == (plain.keys[theirs.program], theirs.data)
    assert Config(*range(4)).mask == v1.config.mask == 0x1F


def _funded(seed: int) -> tuple[LiteSVM, Maker]:
    machine, maker = LiteSVM(), Maker(seed)
    maker.blockhash = bytes(machine.latest_blockhash())
    for signer in maker.signers:
        machine.airdrop(Pubkey(signer.key), 10_000_000_000)
    return machine, maker


def test_a_swap_loads_accounts_from_tables_as_it_would_name_them_itself(seed: int) -> None:
    """The v0 form must mean the same as the legacy form: same accounts, same rights, for every instruction."""
    calls, pools = transactions._swap_calls(Maker(seed))
    plain = Maker(seed).compile(*calls)
    tables = [
        transactions.Table(b"t" * 32, tuple(pools[:7])),
        transactions.Table(b"u" * 32, tuple(reversed(pools[7:]))),
    ]
    loading = Maker(seed).compile(*calls, version=0, tables=tables)
    assert len(loading.keys) < len(plain.keys) and len(loading.lookups) == 2

    writable = [tables[i].entries[at] for i, lookup in enumerate(loading.lookups) for at in lookup.writable]
    readonly = [tables[i].entries[at] for i, lookup in enumerate(loading.lookups) for at in lookup.readonly]
    everything = [*loading.keys, *writable, *readonly]
    for ours, theirs in zip(loading.instructions, plain.instructions, strict=True):
        assert everything[ours.program] == plain.keys[theirs.program] and ours.data == theirs.data
        assert [everything[i] for i in ours.accounts] == [plain.keys[i] for i in theirs.accounts]
    last_writable = len(plain.keys) - plain.readonly_unsigned
    assert set(writable) <= set(plain.keys[:last_writable]) and set(readonly) <= set(plain.keys[last_writable:])


def test_the_same_seed_gives_the_same_bytes_in_another_process() -> None:
    script = (
        "from afterburnerd.lab.transactions import *; from afterburnerd.lab import broken; import hashlib; m = Maker(7);"
        "print(hashlib.sha256(b''.join([m.make(s) for s in SHAPES] + [broken.malformed(m, r) for r in broken.MALFORMED]"
        " + [broken.unsound(m, r) for r in broken.UNSOUND])).hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": h},
        ).stdout
        for h in ("1", "2")
    ]
    assert runs[0] == runs[1]


def test_no_two_transactions_are_alike() -> None:
    maker = Maker(3)
    assert len({maker.make("transfer") for _ in range(500)}) == 500
    assert Maker(3).make("transfer") != Maker(4).make("transfer")


def test_a_wrong_name_says_which_there_are() -> None:
    with pytest.raises(ValueError, match="no shape 'transfr': there are transfer,"):
        Maker(1).make("transfr")
    with pytest.raises(ValueError, match="no malformed reason 'ok': there are empty,"):
        broken.malformed(Maker(1), "ok")
    with pytest.raises(ValueError, match="no unsound reason 'x': there are too_many_signatures,"):
        broken.unsound(Maker(1), "x")


@pytest.mark.parametrize("value", [-1, 65_536])
def test_a_compact_u16_refuses_what_it_cannot_hold(value: int) -> None:
    with pytest.raises(ValueError, match="0 to 65,535"):
        compact_u16(value)


def test_well_known_keys_are_what_their_names_say() -> None:
    named = {
        "11111111111111111111111111111111": transactions.SYSTEM_PROGRAM,
        "ComputeBudget111111111111111111111111111111": transactions.COMPUTE_BUDGET_PROGRAM,
        "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr": transactions.MEMO_PROGRAM,
        "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA": transactions.TOKEN_PROGRAM,
        "JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4": transactions.SWAP_PROGRAM,
    }
    for text, key in named.items():
        assert Pubkey.from_string(text) == Pubkey(key)
