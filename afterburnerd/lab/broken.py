"""Broken transactions on demand: at least one way to each reason of the decoder and of its sanitize.

They are made from real ones by the smallest fault that leads to the reason, at a place that the seed chooses, so a
receiver cannot tell them from line noise or from a sender's bug. Names are those of the enums, in lower case:
`malformed(maker, "truncated_header")`, `unsound(maker, "program_is_payer")`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from .transactions import SHAPES, Instruction, Lookup, Maker, Message, Transaction, compact_u16, memo

Breaker = Callable[[Maker], bytes]


def malformed(maker: Maker, reason: str) -> bytes:
    """Bytes that the decoder refuses for this reason."""
    if reason not in MALFORMED:
        raise ValueError(f"no malformed reason {reason!r}: there are {', '.join(MALFORMED)}")
    return MALFORMED[reason](maker)


def unsound(maker: Maker, reason: str) -> bytes:
    """A well-formed transaction, signed, that sanitize refuses for this reason."""
    if reason not in UNSOUND:
        raise ValueError(f"no unsound reason {reason!r}: there are {', '.join(UNSOUND)}")
    return UNSOUND[reason](maker)


# --- malformed ----------------------------------------------------------------------------------------------------------


def _any(maker: Maker) -> bytes:
    return maker.make(maker.random.choice(list(SHAPES)))


def _of_version(maker: Maker, *versions: int | None) -> Transaction:
    """A transaction of a shape that has one of these versions."""
    while True:
        transaction = maker.transaction(maker.random.choice(list(SHAPES)))
        if transaction.message.version in versions:
            return transaction


def _cut(section: str, *versions: int | None) -> Breaker:
    """Ends the transaction somewhere inside a section, or at its very beginning; what comes first keeps a byte."""

    def breaker(maker: Maker) -> bytes:
        out = b""
        for name, piece in _of_version(maker, *versions).sections():
            if name == section:
                return out + piece[: maker.random.randrange(0 if out else 1, len(piece))]
            out += piece
        raise AssertionError(f"no section {section}")

    return breaker


def _bad_config_mask(maker: Maker) -> bytes:
    """A v1 transaction whose mask has a bit that means nothing yet, or one of the two that belong together."""
    data = bytearray(_of_version(maker, 1).pack())
    mask = int.from_bytes(data[4:8], "little")
    if maker.random.random() < 0.5:
        mask |= 1 << maker.random.randrange(5, 32)
    else:
        mask ^= maker.random.choice((0b01, 0b10))
    data[4:8] = mask.to_bytes(4, "little")
    return bytes(data)


def _bad_compact_u16(maker: Maker) -> bytes:
    """One of the counts behind the header is spelled in a way that is forbidden."""
    transaction = _of_version(maker, None, 0)
    spelled: list[int] = []

    def take_down(value: int) -> bytes:
        spelled.append(value)
        return compact_u16(value)

    list(transaction.sections(take_down))
    chosen = maker.random.randrange(len(spelled))
    value = spelled[chosen]
    alias = compact_u16(value)
    alias = alias[:-1] + bytes([alias[-1] | 0x80, 0])  # the same number with a superfluous zero byte
    if value < 0x80 and maker.random.random() < 0.3:
        alias = bytes([value | 0x80, 0x80, 0])  # with two of them
    above = bytes(
        [maker.random.randrange(0x80, 0x100), maker.random.randrange(0x80, 0x100), maker.random.randrange(4, 0x100)]
    )
    seen = 0

    def lie(value: int) -> bytes:
        nonlocal seen
        seen += 1
        return compact_u16(value) if seen != chosen + 1 else maker.random.choice((alias, above))

    return b"".join(piece for _, piece in transaction.sections(lie))


def _version(first: tuple[int, ...], later: tuple[int, ...]) -> Breaker:
    """Either the first byte of all is one of `first`, or the version byte behind the signatures is one of `later`."""

    def breaker(maker: Maker) -> bytes:
        if maker.random.random() < 0.5:
            return bytes([maker.random.choice(first)]) + _any(maker)[1:]
        pieces = dict(maker.transaction("transfer-v0").sections())
        pieces["header"] = bytes([maker.random.choice(later)]) + pieces["header"][1:]
        return b"".join(pieces.values())

    return breaker


BEYOND = tuple(range(0x82, 0xFF))  # version bytes that may get a meaning; 0xff begins off-chain messages

MALFORMED: dict[str, Breaker] = {
    "empty": lambda maker: b"",
    "too_long": lambda maker: _any(maker).ljust(65_536, b"\0"),  # more than fits a datagram: for the decoder's tests
    "unknown_version": _version((0x80, 0xFF), (0x81, 0xFF)),
    "unsupported_version": _version(BEYOND, BEYOND),
    "bad_compact_u16": _bad_compact_u16,
    "bad_config_mask": _bad_config_mask,
    "truncated_signatures": _cut("signatures", None, 0, 1),
    "truncated_header": _cut("header", None, 0, 1),
    "truncated_accounts": _cut("accounts", None, 0, 1),
    "truncated_blockhash": _cut("blockhash", None, 0, 1),
    "truncated_config": _cut("config", 1),
    "truncated_instructions": _cut("instructions", None, 0, 1),
    "truncated_lookups": _cut("lookups", 0),
    "trailing_bytes": lambda maker: _any(maker) + maker.random.randbytes(maker.random.randrange(1, 65)),
}
SENDABLE = tuple(reason for reason in MALFORMED if reason != "too_long")


# --- unsound ------------------------------------------------------------------------------------------------------------


def _bend(bend: Callable[[Maker, Message], Message], *shapes: str) -> Breaker:
    """Signs a message of one of the shapes after `bend` made it contradict itself."""
    return lambda maker: maker.sign(bend(maker, maker.transaction(maker.random.choice(shapes)).message)).pack()


def _with_instruction(message: Message, instruction: Instruction) -> Message:
    return msgspec.structs.replace(message, instructions=(*message.instructions, instruction))


def _readonly_overlap(maker: Maker, message: Message) -> Message:
    return msgspec.structs.replace(
        message, readonly_unsigned=len(message.keys) - message.required + maker.random.randrange(1, 9)
    )


def _no_fee_payer(maker: Maker, message: Message) -> Message:
    return msgspec.structs.replace(message, readonly_signed=message.required)


def _empty_lookup(maker: Maker, message: Message) -> Message:
    return msgspec.structs.replace(message, lookups=(*message.lookups, Lookup(maker.key(), b"", b"")))


def _too_many_accounts(maker: Maker, message: Message) -> Message:
    lookup = Lookup(
        maker.key(), bytes(range(128)), bytes(range(128, 257 - len(message.keys))) + bytes(len(message.keys))
    )
    return msgspec.structs.replace(message, lookups=(lookup,))


def _too_many_signatures(maker: Maker) -> bytes:
    """Thirteen signers; those that the maker has no keys of sign with noise."""
    signers = [signer.key for signer in maker.signers] + [maker.key() for _ in range(5)]
    return maker.sign(maker.compile(memo(b"one too many", *signers), version=1)).pack()


def _too_many_instructions(maker: Maker, message: Message) -> Message:
    """The least that an instruction can be, often enough."""
    more = (Instruction(len(message.keys) - 1, b"", b""),) * maker.random.randrange(64, 80)
    return msgspec.structs.replace(message, instructions=message.instructions + more)


def _duplicate_account(maker: Maker, message: Message) -> Message:
    there = maker.random.randrange(1, len(message.keys))
    keys = (*message.keys[:there], message.keys[maker.random.randrange(there)], *message.keys[there + 1 :])
    return msgspec.structs.replace(message, keys=keys)


def _bad_heap_size(maker: Maker, message: Message) -> Message:
    size = maker.random.choice((0, 31 * 1024, 32 * 1024 - 1, 33 * 1024 + 512, 256 * 1024 + 1, 257 * 1024, 2**32 - 1024))
    return msgspec.structs.replace(message, config=msgspec.structs.replace(message.config, heap_size=size))


def _program_index(maker: Maker, message: Message) -> Message:
    return _with_instruction(message, Instruction(maker.random.randrange(len(message.keys), 256), b"", b""))


def _program_is_payer(maker: Maker, message: Message) -> Message:
    return _with_instruction(message, Instruction(0, b"", b""))


def _account_index(maker: Maker, message: Message) -> Message:
    loaded = sum(len(lookup.writable) + len(lookup.readonly) for lookup in message.lookups)
    beyond = maker.random.randrange(len(message.keys) + loaded, 256)
    return _with_instruction(message, Instruction(len(message.keys) - 1, bytes([0, beyond, 1]), b""))


def _missing_signatures(maker: Maker) -> bytes:
    transaction = maker.transaction("multisig")
    return msgspec.structs.replace(transaction, signatures=transaction.signatures[:-1]).pack()


def _extra_signatures(maker: Maker) -> bytes:
    transaction = maker.transaction("multisig")
    return msgspec.structs.replace(transaction, signatures=(*transaction.signatures, maker.random.randbytes(64))).pack()


UNSOUND: dict[str, Breaker] = {
    "too_many_signatures": _too_many_signatures,
    "too_many_instructions": _bend(_too_many_instructions, "transfer-v1"),
    "readonly_overlap": _bend(_readonly_overlap, "transfer", "transfer-v1"),
    "no_fee_payer": _bend(_no_fee_payer, "multisig", "transfer-v0", "transfer-v1"),
    "empty_lookup": _bend(_empty_lookup, "swap-v0"),
    "too_many_accounts": _bend(_too_many_accounts, "transfer-v0"),  # the v1 way, 65 keys, would not fit a datagram
    "duplicate_account": _bend(_duplicate_account, "swap-v1"),
    "bad_heap_size": _bend(_bad_heap_size, "transfer-v1"),
    "program_index": _bend(_program_index, "swap-v0", "swap-v1"),
    "program_is_payer": _bend(_program_is_payer, "memo", "transfer-v1"),
    "account_index": _bend(_account_index, "swap-v0", "swap-v1"),
    "missing_signatures": _missing_signatures,
    "extra_signatures": _extra_signatures,
}
