"""The decoder agrees with the Solana SDK (PyPI solders) about every input we can think of.

One comparison, `agree`, is applied to real transactions, to arbitrary well-formed ones, to ones cut at every byte, and to
thousands of mutated ones: the same yes or no, same fields, same instructions and lookups, same verdict of sanitize down to the
kind of error. What differs is named there and nowhere else: bytes behind a transaction (the SDK's deserializer ignores
them, ours accepts with a reason of its own) and version 1 transactions (the SDK reads them, ours says so and declines).

Random runs start from the session's seed, shown in pytest's header; AFTERBURNER_SEED replays them.
"""

from __future__ import annotations

import array
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from solders.message import MessageV0
from solders.transaction import SanitizeError, VersionedTransaction

from afterburnerd.abi.layout import Tx, TxReason, TxSanitize
from afterburnerd.lab import broken
from afterburnerd.lab.transactions import SHAPES, Instruction, Lookup, Maker, Message, Transaction, compact_u16
from afterburnerd.native import lib

LEGACY = 0xFF

INDEX, VALUE = "index out of bounds", "invalid value"
# Which of its errors the SDK raises for each of our reasons. It has one exception to the rule: see sdk_error().
SDK_ERROR = {
    TxSanitize.READONLY_OVERLAP: INDEX,
    TxSanitize.NO_FEE_PAYER: VALUE,
    TxSanitize.EMPTY_LOOKUP: VALUE,
    TxSanitize.TOO_MANY_ACCOUNTS: INDEX,
    TxSanitize.PROGRAM_INDEX: INDEX,
    TxSanitize.PROGRAM_IS_PAYER: INDEX,
    TxSanitize.ACCOUNT_INDEX: INDEX,
    TxSanitize.MISSING_SIGNATURES: INDEX,
    TxSanitize.EXTRA_SIGNATURES: VALUE,
}


def sdk_error(found: TxSanitize, version: int) -> str | None:
    if found is TxSanitize.NO_FEE_PAYER and version == LEGACY:
        return INDEX  # legacy::Message says it so, v0::Message otherwise
    return SDK_ERROR.get(found)


def decode(data: bytes) -> tuple[Tx, TxReason]:
    packed = lib.tx_decode(data)
    # What lies behind the bytes must not matter: Python keeps a zero there, here are others. (The fuzz target proves it.)
    assert lib.tx_decode(memoryview(data + b"\x81\x81\x81\x81")[: len(data)]) == packed, f"read too far: {data.hex()}"
    tx = Tx.unpack(packed)
    return tx, TxReason(tx.reason)


def runs(data: bytes, offset: int, size: int, count: int) -> list[bytes]:
    return [data[offset + i * size : offset + (i + 1) * size] for i in range(count)]


def agree(data: bytes) -> TxReason:
    """Asserts that decoder and SDK agree about these bytes. Returns our reason."""
    tx, reason = decode(data)
    assert tx.length <= len(data)
    try:
        sdk = VersionedTransaction.from_bytes(data)
    except ValueError:
        assert reason not in (TxReason.OK, TxReason.TRAILING_BYTES), f"accepted what the SDK rejects: {data.hex()}"
        with pytest.raises(ValueError, match=f"reason {int(reason)} at byte"):
            lib.tx_sanitize(data)
        return reason
    if sdk.version() == 1:
        assert reason is TxReason.UNSUPPORTED_VERSION and tx.version == 1
        return reason

    packed = bytes(sdk)
    assert data.startswith(packed)
    expected = TxReason.OK if len(packed) == len(data) else TxReason.TRAILING_BYTES
    assert reason is expected, f"{reason.name}, not {expected.name}: {data.hex()}"
    message = sdk.message
    assert tx.length == len(packed)
    assert tx.version == (0 if isinstance(message, MessageV0) else LEGACY)
    assert runs(data, tx.signatures_off, 64, tx.num_signatures) == [bytes(s) for s in sdk.signatures]
    header = message.header
    assert (tx.num_required, tx.num_ro_signed, tx.num_ro_unsigned) == (
        header.num_required_signatures,
        header.num_readonly_signed_accounts,
        header.num_readonly_unsigned_accounts,
    )
    assert runs(data, tx.accounts_off, 32, tx.num_accounts) == [bytes(key) for key in message.account_keys]
    assert data[tx.blockhash_off : tx.blockhash_off + 32] == bytes(message.recent_blockhash)
    # What is signed begins at message_off and ends with the transaction.
    assert (
        data[tx.message_off : tx.length] == packed[tx.message_off :]
        and tx.message_off == tx.signatures_off + 64 * tx.num_signatures
    )

    instructions = lib.tx_instructions(data)
    assert instructions == [(ix.program_id_index, bytes(ix.accounts), bytes(ix.data)) for ix in message.instructions]
    assert tx.num_instructions == len(instructions)
    lookups = lib.tx_lookups(data)
    if isinstance(message, MessageV0):
        assert lookups == [
            (bytes(t.account_key), bytes(t.writable_indexes), bytes(t.readonly_indexes))
            for t in message.address_table_lookups
        ]
    assert tx.num_lookups == len(lookups)

    found = TxSanitize(lib.tx_sanitize(data))
    try:
        sdk.sanitize()
        error = None
    except SanitizeError as e:
        error = str(e)
    assert error == sdk_error(found, tx.version), f"sanitize: {found.name}, the SDK says {error}: {data.hex()}"
    return reason


# --- real transactions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_a_real_transaction_is_read_as_the_sdk_reads_it(shape: str, seed: int) -> None:
    maker = Maker(seed)
    for _ in range(50):
        data = maker.make(shape)
        assert agree(data) is TxReason.OK
        assert lib.tx_sanitize(data) == TxSanitize.OK


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cut_at_any_byte_is_named_by_the_section_it_falls_into(shape: str, seed: int) -> None:
    transaction = Maker(seed).transaction(shape)
    data, end = transaction.pack(), 0
    for section, piece in transaction.sections():
        for cut in range(end, end + len(piece)):
            expected = TxReason.EMPTY if cut == 0 else TxReason[f"TRUNCATED_{section.upper()}"]
            assert agree(data[:cut]) is expected, f"cut at byte {cut}"
        end += len(piece)
    assert end == len(data)


@pytest.mark.parametrize("reason", broken.MALFORMED)
def test_a_broken_transaction_gets_its_reason(reason: str, seed: int) -> None:
    maker = Maker(seed)
    for _ in range(100):
        data = broken.malformed(maker, reason)
        found = decode(data)[1] if reason == "too_long" else agree(data)
        assert found is TxReason[reason.upper()]


@pytest.mark.parametrize("reason", broken.UNSOUND)
def test_an_unsound_transaction_gets_its_reason(reason: str, seed: int) -> None:
    maker = Maker(seed)
    for _ in range(100):
        data = broken.unsound(maker, reason)
        assert agree(data) is TxReason.OK
        assert TxSanitize(lib.tx_sanitize(data)) is TxSanitize[reason.upper()]


def test_reading_stops_where_the_fault_is() -> None:
    data = Maker(1).make("transfer")
    bad = data[:68] + b"\x83\x00" + data[69:]  # 3 account keys, spelled in two bytes
    tx, reason = decode(bad)
    assert reason is TxReason.BAD_COMPACT_U16 and tx.length == 68
    assert (tx.num_signatures, tx.message_off, tx.num_required, tx.num_accounts) == (1, 65, 1, 0)


def test_more_than_offsets_can_say_is_too_long_and_one_byte_less_is_not() -> None:
    room = 65_535 - len(_memo_of(0).pack()) - 2  # its length takes two bytes more
    data = _memo_of(room).pack()
    assert len(data) == 65_535
    assert agree(data) is TxReason.OK
    assert decode(_memo_of(room + 1).pack())[1] is TxReason.TOO_LONG


def _memo_of(size: int) -> Transaction:
    message = Message(None, 1, 0, 1, (b"a" * 32, b"b" * 32), b"c" * 32, (Instruction(1, b"", b"x" * size),))
    return Transaction((b"s" * 64,), message)


def test_only_two_kinds_of_first_byte_begin_a_transaction() -> None:
    data = Maker(1).make("transfer")
    for first in range(0x80, 0x100):
        expected = TxReason.UNSUPPORTED_VERSION if first == 0x81 else TxReason.UNKNOWN_VERSION
        assert decode(bytes([first]) + data[1:])[1] is expected
        if first != 0x81:  # 0x81 is for agree() where the rest is a version 1 transaction
            agree(bytes([first]) + data[1:])


def test_only_version_0_can_follow_signatures() -> None:
    data = Maker(1).make("transfer-v0")
    for version in range(1, 0x80):
        assert agree(data[:65] + bytes([0x80 | version]) + data[66:]) is TxReason.UNKNOWN_VERSION


# --- every compact-u16 --------------------------------------------------------------------------------------------------


def _with_count(spelling: bytes, body: bytes) -> bytes:
    """A transaction whose only instruction has data of the length that `spelling` claims, and body behind it."""
    return b"\x00\x01\x00\x00\x00" + bytes(32) + b"\x01\x01\x00" + spelling + body


def test_a_count_of_every_length_and_its_aliases() -> None:
    most = 65_535 - len(_with_count(compact_u16(65_000), b""))
    for value in [0, 1, 0x7F, 0x80, 0x81, 0x3FFF, 0x4000, 0x4001, 0x7FFF, 0x8000, most]:
        spelling = compact_u16(value)
        assert agree(_with_count(spelling, bytes(value))) is TxReason.OK
        assert agree(_with_count(spelling, bytes(value))[:-1]) is TxReason.TRUNCATED_INSTRUCTIONS
        for end in range(len(spelling)):
            assert agree(_with_count(spelling[:end], b"")) is TxReason.TRUNCATED_INSTRUCTIONS
        if len(spelling) < 3:
            alias = spelling[:-1] + bytes([spelling[-1] | 0x80, 0])
            assert agree(_with_count(alias, bytes(value))) is TxReason.BAD_COMPACT_U16


@pytest.mark.parametrize("first", [0x80, 0x81, 0xC3, 0xFF])
def test_every_second_and_third_byte_of_a_count(first: int) -> None:
    """Exhaustive where the SDK would be slow: what compact_u16 never writes is bad, all else is the number it stands for."""
    numbers = {compact_u16(value): value for value in range(65_536)}
    for second in range(256):
        for third in range(256):
            spelled = bytes([first, second, third])
            value = numbers.get(spelled[:2], numbers.get(spelled))
            left = 1 if spelled[:2] in numbers else 0
            if value is None:
                expected = TxReason.BAD_COMPACT_U16
            elif value > left:
                expected = TxReason.TRUNCATED_INSTRUCTIONS
            else:
                expected = TxReason.TRAILING_BYTES if value < left else TxReason.OK
            assert decode(_with_count(spelled, b""))[1] is expected, spelled.hex()


# --- arbitrary well-formed transactions -----------------------------------------------------------------------------------

byte = st.integers(0, 255)
key = st.binary(min_size=32, max_size=32)
# Sizes at which the spelling of a count changes are rare by chance; they are offered here.
run = st.one_of(st.binary(max_size=12), st.sampled_from([0x7F, 0x80, 0x81, 0x3FFF, 0x4000]).map(bytes))
instructions = st.one_of(
    st.lists(st.builds(Instruction, byte, run, run), max_size=5),
    st.builds(
        lambda ix, n: [ix] * n,
        st.builds(Instruction, byte, st.binary(max_size=3), st.just(b"")),
        st.sampled_from([0x7F, 0x80, 300]),
    ),
)
lookups = st.one_of(
    st.lists(st.builds(Lookup, key, st.binary(max_size=9), st.binary(max_size=9)), max_size=4),
    st.builds(
        lambda one, n: [one] * n,
        st.builds(Lookup, key, st.binary(max_size=2), st.just(b"")),
        st.sampled_from([0x80, 300]),
    ),
)
keys = st.one_of(
    st.lists(key, max_size=6), st.builds(lambda one, n: [one] * n, key, st.sampled_from([0x7F, 0x80, 256, 257]))
)


@st.composite
def transactions(draw: st.DrawFn) -> bytes:
    version = draw(st.sampled_from([None, 0]))
    sound = draw(st.booleans())
    chosen = draw(keys)
    required = draw(st.integers(0, 127 if version is None else 255))
    if sound and chosen:
        required = min(required % len(chosen) + 1, 127)
    message = Message(
        version=version,
        required=required,
        readonly_signed=draw(st.integers(0, required - 1)) if sound and required else draw(byte),
        readonly_unsigned=draw(st.integers(0, min(255, len(chosen) - required))) if sound and chosen else draw(byte),
        keys=tuple(chosen),
        blockhash=draw(key),
        instructions=tuple(draw(instructions)),
        lookups=tuple(draw(lookups)) if version == 0 else (),
    )
    signatures = required if sound and required <= 127 else draw(st.integers(0, 5))
    return Transaction((b"s" * 64,) * signatures, message).pack()


@settings(max_examples=1500, deadline=None)
@given(transactions())
def test_any_well_formed_transaction_is_read_as_the_sdk_reads_it(data: bytes) -> None:
    if len(data) <= 65_535:
        assert agree(data) is TxReason.OK


@settings(max_examples=3000, deadline=None)
@given(st.binary(max_size=400))
@example(b"")
@example(b"\x81")
@example(b"\x00\x81" + bytes(80))
def test_any_bytes_are_judged_as_the_sdk_judges_them(data: bytes) -> None:
    agree(data)


# --- mutated ones -------------------------------------------------------------------------------------------------------

Mutation = Callable[[random.Random, bytearray, bytes], None]


def flip_bits(rng: random.Random, data: bytearray, other: bytes) -> None:
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def set_byte(rng: random.Random, data: bytearray, other: bytes) -> None:
    data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0x81, 0xFF, rng.randrange(256)))


def splice(rng: random.Random, data: bytearray, other: bytes) -> None:
    data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]


def drop_run(rng: random.Random, data: bytearray, other: bytes) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 2, 32, 64, rng.randrange(1, 100)))]


def add_run(rng: random.Random, data: bytearray, other: bytes) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice((rng.randbytes(rng.choice((1, 2, 32, 64))), other[: rng.randrange(100)]))


def cut(rng: random.Random, data: bytearray, other: bytes) -> None:
    del data[rng.randrange(len(data)) :]


def lie_about_a_count(rng: random.Random, data: bytearray, other: bytes) -> None:
    """One of the bytes that hold a count (or are near one) is off by a little, or wildly."""
    tx = decode(bytes(data))[0]
    spots = [
        0,
        tx.message_off,
        tx.accounts_off - 1,
        tx.instructions_off - 1,
        tx.instructions_off + 1,
        tx.lookups_off - 1,
    ]
    at = rng.choice([spot for spot in spots if 0 <= spot < len(data)])
    data[at] = rng.choice((data[at] + 1, data[at] - 1, rng.randrange(256), 0, 0x80)) & 0xFF


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    set_byte,
    splice,
    drop_run,
    add_run,
    cut,
    lie_about_a_count,
    lie_about_a_count,
)


def test_mutated_transactions_are_judged_as_the_sdk_judges_them(seed: int) -> None:
    rng = random.Random(seed)
    maker = Maker(seed)
    stock = [maker.make(shape) for shape in SHAPES for _ in range(6)] + [maker.make_v1() for _ in range(3)]
    stock += [broken.malformed(maker, reason) for reason in broken.SENDABLE for _ in range(2) if reason != "empty"]
    stock += [broken.unsound(maker, reason) for reason in broken.UNSOUND for _ in range(2)]
    seen: Counter[TxReason] = Counter()
    for _ in range(20_000):
        data = bytearray(rng.choice(stock))
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            if data:
                rng.choice(MUTATIONS)(rng, data, rng.choice(stock))
        seen[agree(bytes(data))] += 1
    # A run that saw only one answer would prove nothing.
    missing = set(TxReason) - set(seen) - {TxReason.TOO_LONG}
    assert not missing, f"seed {seed} never led to {missing}"
    assert seen[TxReason.OK] > 2000 and seen[TxReason.TRAILING_BYTES] > 200, seen


# --- batches ------------------------------------------------------------------------------------------------------------


def test_a_batch_gives_what_each_one_gives_alone(seed: int) -> None:
    maker = Maker(seed)
    items = [maker.make(shape) for shape in SHAPES] + [broken.malformed(maker, reason) for reason in broken.SENDABLE]
    maker.random.shuffle(items)
    ends = array.array("I", [sum(map(len, items[: i + 1])) for i in range(len(items))])
    out = bytearray(Tx.SIZE * len(items))
    good, nanoseconds = lib.tx_decode_many(b"".join(items), ends, out)
    assert out == b"".join(lib.tx_decode(item) for item in items)
    assert good == len(SHAPES) and nanoseconds > 0


def test_a_batch_refuses_bounds_that_are_none() -> None:
    with pytest.raises(ValueError, match="must not decrease"):
        lib.tx_decode_many(bytes(10), array.array("I", [5, 4]), bytearray(64))
    with pytest.raises(ValueError, match="nor exceed the 10 bytes"):
        lib.tx_decode_many(bytes(10), array.array("I", [5, 11]), bytearray(64))
    with pytest.raises(ValueError, match="out has 63 bytes"):
        lib.tx_decode_many(bytes(10), array.array("I", [5, 10]), bytearray(63))
    with pytest.raises(ValueError, match="aligned"):
        lib.tx_decode_many(bytes(10), memoryview(bytearray(9))[1:], bytearray(64))
