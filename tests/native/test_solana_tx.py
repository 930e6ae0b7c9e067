"""The decoder agrees with the Solana SDK (PyPI solders) about every input we can think of.

One comparison, `agree`, is applied to real transactions, to arbitrary well-formed ones, to ones cut at every byte, and to
thousands of mutated ones: the same yes or no, same fields, same instructions and lookups, same verdict of sanitize down to the
kind of error. What differs is named there and nowhere else: bytes behind a transaction (the SDK's deserializer ignores
them, ours accepts with a reason of its own).

Random runs start from the session's seed, shown in pytest's header; AFTERBURNER_SEED replays them.
"""

from __future__ import annotations

import array
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from solders import message as sdk_message
from solders.message import MessageV0, MessageV1, to_bytes_versioned
from solders.message.v1 import MessageError
from solders.transaction import SanitizeError, VersionedTransaction

from afterburnerd.abi.layout import Tx, TxReason, TxSanitize
from afterburnerd.lab import broken
from afterburnerd.lab.transactions import (
    LARGE_SHAPES,
    NO_CONFIG,
    SHAPES,
    Config,
    Instruction,
    Lookup,
    Maker,
    Message,
    Transaction,
    compact_u16,
)
from afterburnerd.native import lib

LEGACY = 0xFF
EVERY_SHAPE = [*SHAPES, *LARGE_SHAPES]
CONFIG = ("priority_fee", "compute_unit_limit", "loaded_accounts_data_size_limit", "heap_size")

INDEX, VALUE = "index out of bounds", "invalid value"
# Which of its errors the SDK raises for each of our reasons. It has one exception to the rule: see sdk_error().
SDK_ERROR = {
    TxSanitize.TOO_MANY_SIGNATURES: INDEX,
    TxSanitize.TOO_MANY_INSTRUCTIONS: INDEX,
    TxSanitize.READONLY_OVERLAP: INDEX,
    TxSanitize.NO_FEE_PAYER: VALUE,
    TxSanitize.EMPTY_LOOKUP: VALUE,
    TxSanitize.TOO_MANY_ACCOUNTS: INDEX,
    TxSanitize.DUPLICATE_ACCOUNT: VALUE,
    TxSanitize.BAD_HEAP_SIZE: VALUE,
    TxSanitize.PROGRAM_INDEX: INDEX,
    TxSanitize.PROGRAM_IS_PAYER: INDEX,
    TxSanitize.ACCOUNT_INDEX: INDEX,
    TxSanitize.MISSING_SIGNATURES: INDEX,
    TxSanitize.EXTRA_SIGNATURES: VALUE,
}

# Of v1 the SDK also says which of its checks failed: an oracle for our reasons, and for the order of the checks.
OUT_OF_BOUNDS = "instruction account index out of bounds"
SDK_V1_ERROR = {
    TxSanitize.TOO_MANY_SIGNATURES: "too many signatures (max 12)",
    TxSanitize.TOO_MANY_INSTRUCTIONS: "too many instructions (max 64)",
    TxSanitize.TOO_MANY_ACCOUNTS: "too many addresses (max 64)",
    TxSanitize.READONLY_OVERLAP: "not enough addresses for required signatures",
    TxSanitize.NO_FEE_PAYER: "must have at least one signer (fee payer)",
    TxSanitize.DUPLICATE_ACCOUNT: "duplicate addresses found in message",
    TxSanitize.BAD_HEAP_SIZE: "heap size must be a multiple of 1024",  # also where it is out of range
    TxSanitize.PROGRAM_INDEX: OUT_OF_BOUNDS,
    TxSanitize.PROGRAM_IS_PAYER: OUT_OF_BOUNDS,
    TxSanitize.ACCOUNT_INDEX: OUT_OF_BOUNDS,
}


def sdk_error(found: TxSanitize, version: int) -> str | None:
    if found is TxSanitize.NO_FEE_PAYER and version == LEGACY:
        return INDEX  # legacy::Message says it so, v0::Message otherwise
    return SDK_ERROR.get(found)


def decode(data: bytes) -> tuple[Tx, TxReason]:
    packed = lib.tx_decode(data)
    # What lies behind the bytes must not matter: Python keeps a zero there, here are others. (The fuzz target proves it.)
    assert lib.tx_decode(memoryview(data + b"\x81\x81\x81\x81")[: len(data)]) == packed, f"read too far: {shown(data)}"
    tx = Tx.unpack(packed)
    return tx, TxReason(tx.reason)


def shown(data: bytes) -> str:
    return data.hex() if len(data) <= 4096 else f"{data[:4096].hex()}... ({len(data)} bytes)"


def runs(data: bytes, offset: int, size: int, count: int) -> list[bytes]:
    return [data[offset + i * size : offset + (i + 1) * size] for i in range(count)]


def agree(data: bytes) -> TxReason:
    """Asserts that decoder and SDK agree about these bytes. Returns our reason."""
    tx, reason = decode(data)
    assert tx.length <= len(data)
    try:
        sdk = VersionedTransaction.from_bytes(data)
    except ValueError:
        assert reason not in (TxReason.OK, TxReason.TRAILING_BYTES), f"accepted what the SDK rejects: {shown(data)}"
        with pytest.raises(ValueError, match=f"reason {int(reason)} at byte"):
            lib.tx_sanitize(data)
        return reason

    packed = bytes(sdk)
    assert data.startswith(packed)
    expected = TxReason.OK if len(packed) == len(data) else TxReason.TRAILING_BYTES
    assert reason is expected, f"{reason.name}, not {expected.name}: {shown(data)}"
    message = sdk.message
    assert tx.length == len(packed)
    assert tx.version == {MessageV0: 0, MessageV1: 1}.get(type(message), LEGACY)
    assert runs(data, tx.signatures_off, 64, tx.num_signatures) == [bytes(s) for s in sdk.signatures]
    header = message.header
    assert (tx.num_required, tx.num_ro_signed, tx.num_ro_unsigned) == (
        header.num_required_signatures,
        header.num_readonly_signed_accounts,
        header.num_readonly_unsigned_accounts,
    )
    assert runs(data, tx.accounts_off, 32, tx.num_accounts) == [bytes(key) for key in message.account_keys]
    assert data[tx.blockhash_off : tx.blockhash_off + 32] == bytes(message.recent_blockhash)
    # What is signed ends with the transaction, or where the signatures of v1 begin.
    end = tx.signatures_off if isinstance(message, MessageV1) else tx.length
    assert data[tx.message_off : end] == to_bytes_versioned(message)
    assert tx.message_off == (0 if isinstance(message, MessageV1) else tx.signatures_off + 64 * tx.num_signatures)

    config = tuple(getattr(message.config, name) for name in CONFIG) if isinstance(message, MessageV1) else (None,) * 4
    assert lib.tx_config(data) == config
    assert tx.config_mask == Config(*config).mask
    assert bool(tx.config_off) is isinstance(message, MessageV1)

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
    assert bool(tx.lookups_off) is isinstance(message, MessageV0)

    found = TxSanitize(lib.tx_sanitize(data))
    try:
        sdk.sanitize()
        error = None
    except SanitizeError as e:
        error = str(e)
    assert error == sdk_error(found, tx.version), f"sanitize: {found.name}, the SDK says {error}: {shown(data)}"
    if isinstance(message, MessageV1):
        try:
            message.validate()
            error = None
        except MessageError as e:
            error = str(e)
        assert error == SDK_V1_ERROR.get(found), f"sanitize: {found.name}, the SDK says {error}: {shown(data)}"
    return reason


# --- real transactions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", EVERY_SHAPE)
def test_a_real_transaction_is_read_as_the_sdk_reads_it(shape: str, seed: int) -> None:
    maker = Maker(seed)
    for _ in range(50):
        data = maker.make(shape)
        assert agree(data) is TxReason.OK
        assert lib.tx_sanitize(data) == TxSanitize.OK


@pytest.mark.parametrize("shape", EVERY_SHAPE)
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


@pytest.mark.parametrize("shape", ["transfer", "transfer-v1"])
def test_only_two_kinds_of_first_byte_begin_a_transaction(shape: str) -> None:
    data = Maker(1).make(shape)
    for first in range(0x80, 0x100):
        if first != 0x81:  # what cannot begin one, and what later versions may begin with
            expected = TxReason.UNKNOWN_VERSION if first in (0x80, 0xFF) else TxReason.UNSUPPORTED_VERSION
            assert agree(bytes([first]) + data[1:]) is expected


def test_only_version_0_can_follow_signatures() -> None:
    data = Maker(1).make("transfer-v0")
    for version in range(1, 0x80):
        expected = TxReason.UNKNOWN_VERSION if version in (1, 127) else TxReason.UNSUPPORTED_VERSION
        assert agree(data[:65] + bytes([0x80 | version]) + data[66:]) is expected


# --- version 1 ----------------------------------------------------------------------------------------------------------


def _v1(
    config: Config = NO_CONFIG,
    keys: int = 3,
    required: int = 1,
    readonly: int = 1,
    instructions: tuple[Instruction, ...] = (),
) -> bytes:
    """A v1 transaction whose keys all differ; signed by nobody."""
    chosen = tuple(bytes([0, i]) * 16 for i in range(keys))
    message = Message(1, required, 0, readonly, chosen, b"h" * 32, instructions, config=config)
    return Transaction((b"s" * 64,) * required, message).pack()


def test_every_bit_of_the_mask_alone_and_every_known_combination() -> None:
    whole = _v1(Config(1, 2, 3, 32 * 1024))
    for bit in range(32):
        mask = (1 << bit).to_bytes(4, "little")
        reason = agree(whole[:4] + mask + whole[8:])
        # The values of the others are then taken for instructions and signatures; their number is right by chance alone.
        assert (reason is TxReason.BAD_CONFIG_MASK) is (bit in (0, 1) or bit > 4)
    for said in range(16):
        config = Config(*(1024 * (40 + i) if said >> i & 1 else None for i in range(4)))
        data = _v1(config, instructions=(Instruction(2, b"\x01\x00", b"data"),))
        assert agree(data) is TxReason.OK
        assert lib.tx_config(data) == (
            config.priority_fee,
            config.compute_unit_limit,
            config.loaded_accounts_size,
            config.heap_size,
        )
        assert TxSanitize(lib.tx_sanitize(data)) is TxSanitize.OK


def test_reading_stops_at_a_bad_mask() -> None:
    data = _v1()
    tx, reason = decode(data[:4] + b"\x20" + data[5:])
    assert reason is TxReason.BAD_CONFIG_MASK and (tx.length, tx.num_required, tx.num_accounts) == (4, 1, 0)


@pytest.mark.parametrize("value", [0, 1, 2**31, 2**32 - 1])
def test_configuration_values_of_every_size(value: int) -> None:
    fee = value << 32 | (value ^ 0x5A)
    data = _v1(Config(fee, value, value ^ 1, value ^ 2))
    assert agree(data) is TxReason.OK
    assert lib.tx_config(data) == (fee, value, value ^ 1, value ^ 2)


def test_the_limits_of_version_1_and_one_beyond() -> None:
    least = Instruction(1, b"", b"")
    cases = [
        (_v1(keys=14, required=12), TxSanitize.OK),
        (_v1(keys=14, required=13), TxSanitize.TOO_MANY_SIGNATURES),
        (_v1(instructions=(least,) * 64), TxSanitize.OK),
        (_v1(instructions=(least,) * 65), TxSanitize.TOO_MANY_INSTRUCTIONS),
        (_v1(instructions=(least,) * 255), TxSanitize.TOO_MANY_INSTRUCTIONS),
        (_v1(keys=64, instructions=(Instruction(63, bytes(range(64)), b""),)), TxSanitize.OK),
        (_v1(keys=65), TxSanitize.TOO_MANY_ACCOUNTS),
        (_v1(keys=255), TxSanitize.TOO_MANY_ACCOUNTS),
        (_v1(keys=64, instructions=(Instruction(63, b"\x40", b""),)), TxSanitize.ACCOUNT_INDEX),
        (_v1(keys=64, instructions=(Instruction(64, b"", b""),)), TxSanitize.PROGRAM_INDEX),
        (_v1(keys=0, required=0, readonly=0), TxSanitize.NO_FEE_PAYER),
        (_v1(keys=2, required=1, readonly=1), TxSanitize.OK),
        (_v1(keys=1, required=1, readonly=1), TxSanitize.READONLY_OVERLAP),
        (_v1(instructions=(Instruction(1, bytes(255), bytes(40_000)),)), TxSanitize.OK),
    ]
    for number, (data, expected) in enumerate(cases):
        assert agree(data) is TxReason.OK, number
        assert TxSanitize(lib.tx_sanitize(data)) is expected, number


def test_the_first_of_several_contradictions_is_the_sdks() -> None:
    """Each of these is refused for two reasons at least; agree() compares the first with what the SDK says."""
    full = (Instruction(1, b"", b""),) * 65
    same = Message(1, 1, 0, 0, (b"k" * 32,) * 3, b"h" * 32, (Instruction(9, b"", b""),), config=Config(heap_size=1))
    for data, expected in [
        (_v1(required=13, instructions=full), TxSanitize.TOO_MANY_SIGNATURES),
        (_v1(keys=65, instructions=full), TxSanitize.TOO_MANY_INSTRUCTIONS),
        (_v1(keys=65, required=66), TxSanitize.TOO_MANY_SIGNATURES),
        (_v1(required=0, instructions=full), TxSanitize.TOO_MANY_INSTRUCTIONS),
        (_v1(required=0, keys=65), TxSanitize.TOO_MANY_ACCOUNTS),
        (_v1(required=0, readonly=200), TxSanitize.READONLY_OVERLAP),
        (_v1(Config(heap_size=1), instructions=(Instruction(0, b"", b""),)), TxSanitize.BAD_HEAP_SIZE),
        (Transaction((b"s" * 64,), same).pack(), TxSanitize.DUPLICATE_ACCOUNT),
    ]:
        assert agree(data) is TxReason.OK
        assert TxSanitize(lib.tx_sanitize(data)) is expected


def test_any_two_keys_that_are_alike_are_found() -> None:
    keys = tuple(bytes(31) + bytes([i]) for i in range(9))
    for a in range(9):
        for b in range(a):
            twice = (*keys[:a], keys[b], *keys[a + 1 :])
            for chosen, expected in ((keys, TxSanitize.OK), (twice, TxSanitize.DUPLICATE_ACCOUNT)):
                data = Transaction((b"s" * 64,), Message(1, 1, 0, 0, chosen, b"h" * 32, ())).pack()
                assert agree(data) is TxReason.OK
                assert TxSanitize(lib.tx_sanitize(data)) is expected
    legacy = Message(None, 1, 0, 0, (keys[0], keys[0]), b"h" * 32, ())
    assert agree(Transaction((b"s" * 64,), legacy).pack()) is TxReason.OK  # agree(): no other version minds


def test_the_heap_sizes_that_version_1_allows() -> None:
    for size in (0, 1024, 31 * 1024, 32 * 1024, 32 * 1024 + 1, 33 * 1024, 256 * 1024, 257 * 1024, 2**32 - 1024):
        data = _v1(Config(heap_size=size))
        assert agree(data) is TxReason.OK
        allowed = size % 1024 == 0 and 32 <= size // 1024 <= 256
        assert TxSanitize(lib.tx_sanitize(data)) is (TxSanitize.OK if allowed else TxSanitize.BAD_HEAP_SIZE)


def test_what_the_sdk_says_of_version_1_is_what_we_wrote_down() -> None:
    assert (sdk_message.v1.MAX_SIGNATURES, sdk_message.v1.MAX_INSTRUCTIONS, sdk_message.v1.MAX_ADDRESSES) == (
        12,
        64,
        64,
    )
    assert len(Maker(1).make("max-v1")) == sdk_message.v1.MAX_TRANSACTION_SIZE


def test_size_is_no_business_of_the_decoder() -> None:
    """Up to 4,096 bytes by SIMD-0296, which whoever carries a transaction asks for; the SDK's sanitize() does not."""
    data = _v1(instructions=(Instruction(1, b"", bytes(20_000)), Instruction(2, b"", bytes(40_000))))
    assert agree(data) is TxReason.OK and lib.tx_sanitize(data) == TxSanitize.OK


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


v1_instructions = st.one_of(
    st.lists(st.builds(Instruction, byte, st.binary(max_size=12), run), max_size=5),
    st.builds(
        lambda ix, n: [ix] * n,
        st.builds(Instruction, byte, st.binary(max_size=3), st.binary(max_size=2)),
        st.sampled_from([63, 64, 65, 255]),
    ),
    st.just([Instruction(1, bytes(255), b"")]),
)
v1_keys = st.one_of(
    st.lists(key, max_size=6),
    st.builds(lambda n: [bytes([i]) * 32 for i in range(n)], st.sampled_from([12, 13, 63, 64, 65, 255])),
)
word = st.one_of(st.none(), st.integers(0, 2**32 - 1))
configs = st.builds(
    Config,
    st.one_of(st.none(), st.integers(0, 2**64 - 1)),
    word,
    word,
    st.one_of(word, st.sampled_from([size * 1024 for size in (31, 32, 33, 255, 256, 257)])),
)


@st.composite
def v1_transactions(draw: st.DrawFn) -> bytes:
    sound = draw(st.booleans())
    chosen = draw(v1_keys)
    required = draw(st.one_of(st.integers(0, 14), byte))
    if sound and chosen:
        required = min(required % len(chosen) + 1, 12)
    message = Message(
        version=1,
        required=required,
        readonly_signed=draw(st.integers(0, required - 1)) if sound and required else draw(byte),
        readonly_unsigned=draw(st.integers(0, max(0, len(chosen) - required))) if sound else draw(byte),
        keys=tuple(chosen),
        blockhash=draw(key),
        instructions=tuple(draw(v1_instructions)),
        config=draw(configs),
    )
    return Transaction((b"s" * 64,) * required, message).pack()


@settings(max_examples=1500, deadline=None)
@given(v1_transactions(), st.binary(max_size=3))
def test_any_well_formed_v1_transaction_is_read_as_the_sdk_reads_it(data: bytes, behind: bytes) -> None:
    assume(len(data) + len(behind) <= 65_535)
    assert agree(data) is TxReason.OK
    assert agree(data + behind) is (TxReason.TRAILING_BYTES if behind else TxReason.OK)


@settings(max_examples=500, deadline=None)
@given(v1_transactions(), st.integers(min_value=1))
def test_any_v1_transaction_is_refused_without_its_last_bytes(data: bytes, fewer: int) -> None:
    assert agree(data[: -1 - fewer % len(data)]) not in (TxReason.OK, TxReason.TRAILING_BYTES)


@settings(max_examples=3000, deadline=None)
@given(st.integers(0, 0x3F), st.binary(max_size=400))
def test_any_bytes_behind_a_v1_header_are_judged_as_the_sdk_judges_them(mask: int, data: bytes) -> None:
    agree(b"\x81" + data[:3] + bytes([mask, 0, 0, 0]) + data[3:])


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
    if tx.version == 1:
        heads = range(tx.instructions_off, tx.instructions_off + 4 * tx.num_instructions)
        spots += [1, 4, 4, 40, 41, *rng.sample(heads, min(4, len(heads)))]
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
    stock = [maker.make(shape) for shape in SHAPES for _ in range(6)] + [_v1() for _ in range(6)]
    stock += [broken.malformed(maker, reason) for reason in broken.SENDABLE for _ in range(2) if reason != "empty"]
    stock += [broken.unsound(maker, reason) for reason in broken.UNSOUND for _ in range(2)]
    seen: Counter[TxReason] = Counter()
    v1 = 0
    for _ in range(25_000):
        data = bytearray(rng.choice(stock))
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            if data:
                rng.choice(MUTATIONS)(rng, data, rng.choice(stock))
        reason = agree(bytes(data))
        seen[reason] += 1
        v1 += reason is TxReason.OK and data[0] == 0x81
    # A run that saw only one answer would prove nothing.
    missing = set(TxReason) - set(seen) - {TxReason.TOO_LONG}
    assert not missing, f"seed {seed} never led to {missing}"
    assert seen[TxReason.OK] > 2000 and seen[TxReason.TRAILING_BYTES] > 200 and v1 > 1000, (seen, v1)


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
        lib.tx_decode_many(bytes(10), array.array("I", [5, 10]), memoryview(bytearray(65))[1:])
