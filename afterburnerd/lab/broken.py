"""Broken transactions on demand: at least one way to each reason of the decoder and of its sanitize.

They are made from real ones by the smallest fault that leads to the reason, at a place that the seed chooses, so a
receiver cannot tell them from line noise or from a sender's bug. Names are those of the enums, in lower case:
`malformed(maker, "truncated_header")`, `unsound(maker, "program_is_payer")`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from .transactions import SHAPES, Instruction, Lookup, Maker, Message, compact_u16

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


def _cut(section: str) -> Breaker:
    """Ends the transaction somewhere inside a section (or at its very beginning, the signatures excepted)."""

    def breaker(maker: Maker) -> bytes:
        shapes = [name for name in SHAPES if section != "lookups" or name.endswith("-v0") or name == "transfer-v0"]
        out = b""
        for name, piece in maker.transaction(maker.random.choice(shapes)).sections():
            if name == section:
                return out + piece[: maker.random.randrange(1 if name == "signatures" else 0, len(piece))]
            out += piece
        raise AssertionError(f"no section {section}")

    return breaker


def _bad_compact_u16(maker: Maker) -> bytes:
    """One of the counts behind the header is spelled in a way that is forbidden."""
    transaction = maker.transaction(maker.random.choice(list(SHAPES)))
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


def _unknown_version(maker: Maker) -> bytes:
    """Either the first byte of all is a version that does not exist, or that of the message one that cannot be there."""
    if maker.random.random() < 0.5:
        first = maker.random.choice([b for b in range(0x80, 0x100) if b != 0x81])
        return bytes([first]) + _any(maker)[1:]
    transaction = maker.transaction("transfer-v0")
    pieces = dict(transaction.sections())
    pieces["header"] = bytes([maker.random.randrange(0x81, 0x100)]) + pieces["header"][1:]
    return b"".join(pieces.values())


MALFORMED: dict[str, Breaker] = {
    "empty": lambda maker: b"",
    "too_long": lambda maker: _any(maker).ljust(65_536, b"\0"),  # more than fits a datagram: for the decoder's tests
    "unknown_version": _unknown_version,
    "unsupported_version": Maker.make_v1,
    "bad_compact_u16": _bad_compact_u16,
    "truncated_signatures": _cut("signatures"),
    "truncated_header": _cut("header"),
    "truncated_accounts": _cut("accounts"),
    "truncated_blockhash": _cut("blockhash"),
    "truncated_instructions": _cut("instructions"),
    "truncated_lookups": _cut("lookups"),
    "trailing_bytes": lambda maker: _any(maker) + maker.random.randbytes(maker.random.randrange(1, 65)),
}
SENDABLE = tuple(reason for reason in MALFORMED if reason != "too_long")


# --- unsound ------------------------------------------------------------------------------------------------------------


def _bend(shape: str, bend: Callable[[Maker, Message], Message]) -> Breaker:
    """Signs a message after `bend` made it contradict itself."""
    return lambda maker: maker.sign(bend(maker, maker.transaction(shape).message)).pack()


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


def _program_index(maker: Maker, message: Message) -> Message:
    return _with_instruction(message, Instruction(maker.random.randrange(len(message.keys), 256), b"", b""))


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
    "readonly_overlap": _bend("transfer", _readonly_overlap),
    "no_fee_payer": _bend("multisig", _no_fee_payer),
    "empty_lookup": _bend("swap-v0", _empty_lookup),
    "too_many_accounts": _bend("transfer-v0", _too_many_accounts),
    "program_index": _bend("swap-v0", _program_index),
    "program_is_payer": _bend("memo", lambda maker, message: _with_instruction(message, Instruction(0, b"", b""))),
    "account_index": _bend("swap-v0", _account_index),
    "missing_signatures": _missing_signatures,
    "extra_signatures": _extra_signatures,
}
