"""Variable-length integers and packet numbers are what RFC 9000 says, and never reach beyond what they are given."""

from __future__ import annotations

import random

import pytest

from tests.sim.wire import MAX_VARINT, varint

from .quic_leaves import NONE, Bytes, load

lib = load()


def read(data: bytes) -> tuple[int, int] | None:
    """The value and the bytes it took."""
    source, out = Bytes(data), Bytes(16)
    if not lib.varint_read(source.at, len(data), out.at):
        assert int.from_bytes(out.get(16)[8:], "little") == 0, "it moved all the same"
        return None
    value, taken = out.get(16)[:8], out.get(16)[8:]
    return int.from_bytes(value, "little"), int.from_bytes(taken, "little")


def write(value: int, room: int = 8) -> bytes | None:
    out = Bytes(16)
    length = lib.varint_write(out.at, room, value)
    return None if length == NONE else out.get(length)


# RFC 9000 A.1
@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("c2197c5eff14e88c", 151_288_809_941_952_652),
        ("9d7f3e7d", 494_878_333),
        ("7bbd", 15_293),
        ("25", 37),
        ("4025", 37),
    ],
)
def test_the_examples_of_the_rfc_are_read(data: str, value: int) -> None:
    assert read(bytes.fromhex(data)) == (value, len(data) // 2)
    if data != "4025":  # the RFC's example of a form that is longer than needed
        assert write(value) == bytes.fromhex(data)


EDGES = [0, 1, 63, 64, 16_383, 16_384, (1 << 30) - 1, 1 << 30, MAX_VARINT]


@pytest.mark.parametrize("value", EDGES)
def test_the_shortest_form_is_written_and_any_is_read(value: int) -> None:
    shortest = varint(value)
    assert lib.varint_size(value) == len(shortest)
    assert write(value) == shortest
    for size in (1, 2, 4, 8):
        if size >= len(shortest):
            assert read(varint(value, size) + b"\xff") == (value, size)


@pytest.mark.parametrize("value", EDGES)
def test_a_byte_too_little_is_refused(value: int) -> None:
    shortest = varint(value)
    assert write(value, len(shortest) - 1) is None
    for length in range(len(shortest)):
        assert read(shortest[:length]) is None


def test_what_cannot_be_written_is_refused() -> None:
    assert write(MAX_VARINT + 1) is None
    assert write(NONE) is None


def test_random_integers_survive(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(2000):
        value = rng.getrandbits(rng.randint(1, 62))
        written = write(value)
        assert written == varint(value)
        assert read(written + rng.randbytes(rng.randint(0, 3))) == (value, len(written))


# RFC 9000 A.2
def test_the_examples_of_the_rfc_choose_their_length() -> None:
    assert lib.pn_bytes(0xAC5C02, 0xABE8B3) == 2
    assert lib.pn_bytes(0xACE8FE, 0xABE8B3) == 3
    assert lib.pn_truncate(0xAC5C02, 2) == 0x5C02
    assert lib.pn_truncate(0xACE8FE, 3) == 0xACE8FE


# RFC 9000 A.3
def test_the_example_of_the_rfc_is_decoded() -> None:
    assert lib.pn_decode(0xA82F30EA + 1, 0x9B32, 2) == 0xA82F9B32


def decode(expected: int, truncated: int, bits: int) -> int:
    """RFC 9000 figure 47, with Python's unbounded integers."""
    window = 1 << bits
    candidate = (expected & ~(window - 1)) | truncated
    if candidate <= expected - window // 2 and candidate < (1 << 62) - window:
        return candidate + window
    if candidate > expected + window // 2 and candidate >= window:
        return candidate - window
    return candidate


def test_packet_numbers_decode_as_the_pseudo_code_does(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(20_000):
        size = rng.randint(1, 4)
        expected = rng.choice(
            [rng.getrandbits(rng.randint(1, 62)), (1 << 62) - 1 - rng.getrandbits(10), rng.getrandbits(9)]
        )
        truncated = rng.choice([rng.getrandbits(8 * size), expected & ((1 << 8 * size) - 1)])
        assert lib.pn_decode(expected, truncated, size) == decode(expected, truncated, 8 * size), (
            f"{expected=} {truncated=} {size=}"
        )


def test_a_receiver_finds_every_number_that_is_sent(seed: int) -> None:
    """Whatever of the packets since the largest acknowledged one has arrived, the next is told from its neighbours."""
    rng = random.Random(seed)
    for _ in range(20_000):
        acked = rng.choice([NONE, rng.getrandbits(rng.randint(1, 40))])
        base = 0 if acked == NONE else acked + 1
        pn = base + rng.getrandbits(rng.randint(1, 22))
        size = lib.pn_bytes(pn, acked)
        arrived = rng.randint(base, pn)  # what the receiver expects next, at least what it acknowledged plus one
        assert lib.pn_decode(arrived, lib.pn_truncate(pn, size), size) == pn, f"{acked=} {pn=} {arrived=}"
        if arrived < pn:  # it was overtaken by those behind it, as many as may be under way
            assert lib.pn_decode(pn + rng.randint(1, 60), lib.pn_truncate(pn, size), size) == pn
