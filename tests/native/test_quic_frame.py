"""Every frame of a 1-RTT packet is read as RFC 9000 section 19 and RFC 9221 say, or refused with the code that they name.

Three readers are compared: ours, the one of tests/sim/wire.py (from the RFC, in Python), and aioquic's.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.packet import pull_ack_frame, push_ack_frame
from aioquic.quic.rangeset import RangeSet

from tests.sim import wire
from tests.sim.wire import FRAME_ENCODING_ERROR, MAX_VARINT, PROTOCOL_VIOLATION, varint

from .aioquic_pair import Pair
from .quic_leaves import NONE, Bytes, load

lib = load()
CLIENT, SERVER = 0, 1


@dataclass
class Frame:
    """struct ab_quic_frame as the test library shows it."""

    type: int
    size: int
    fields: tuple[int, ...]
    first: bytes  # the runs of bytes that it points to
    second: bytes
    count: int  # ACK: ranges behind the first


@dataclass
class Reading:
    frames: list[Frame]
    code: int
    type: int
    again: bytes  # what was read, written


def read(payload: bytes, role: int = CLIENT) -> Reading:
    data, out = Bytes(payload), Bytes(12 * 8 * (len(payload) + 1))
    again, written = Bytes(len(payload)), Bytes(8)
    answer = lib.frames(data.at, len(payload), role, out.at, len(payload), again.at, written.at)
    count = answer >> 32
    frames = []
    raw = out.get(96 * count)
    for at in range(0, len(raw), 96):
        n = [int.from_bytes(raw[at + i : at + i + 8], "little") for i in range(0, 96, 8)]
        ack = n[0] in (2, 3)
        runs = [payload[n[8] : n[8] + n[9]], b"" if ack else payload[n[10] : n[10] + n[11]]]
        frames.append(Frame(n[0], n[1], tuple(n[2:8]), runs[0], runs[1], n[11] if ack else 0))
    assert answer >> 16 & 0xFFFF != 0xFFFF, "a frame that was read could not be written"
    return Reading(frames, answer >> 16 & 0xFFFF, answer & 0xFFFF, again.get(int.from_bytes(written.get(8), "little")))


def ranges(payload: bytes) -> list[tuple[int, int]]:
    data, out = Bytes(payload), Bytes(16 * (len(payload) + 1))
    count = lib.ack_ranges(data.at, len(payload), out.at)
    raw = out.get(16 * count)
    n = [int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8)]
    return list(zip(n[::2], n[1::2], strict=True))


TOKEN = bytes(range(16))


def number(rng: random.Random, bits: int = 62) -> int:
    return rng.getrandbits(rng.randint(1, bits))


def random_ack(rng: random.Random) -> bytes:
    top = number(rng)
    parts = [(max(0, top - rng.choice([0, 0, number(rng, 20)])), top)]
    while rng.random() < 0.8 and len(parts) < 40:
        upper = parts[-1][0] - 2 - rng.choice([0, 1, number(rng, 16)])
        if upper < 0:
            break
        parts.append((max(0, upper - rng.choice([0, number(rng, 16)])), upper))
    ecn = rng.choice([None, (number(rng), number(rng), number(rng))])
    return wire.ack(*parts, delay=number(rng), ecn=ecn)


def random_frame(rng: random.Random, last: bool = False) -> tuple[int, bytes]:
    """A type and a frame of it that is right; `last`: one that may take the rest of the packet."""
    data = rng.randbytes(rng.choice([0, 1, 17, 63, 64, 235, 1000]))
    limit = rng.choice([0, 1, 1 << 60, number(rng, 60)])
    sequence = number(rng)
    kinds: dict[int, Any] = {
        0x00: lambda: b"\0" * rng.randint(1, 40) + b"\1",
        0x01: lambda: wire.PING,
        0x02: lambda: random_ack(rng),
        0x04: lambda: wire.reset_stream(number(rng), number(rng), number(rng)),
        0x05: lambda: wire.stop_sending(number(rng), number(rng)),
        0x06: lambda: wire.crypto(number(rng, 61), data),
        0x07: lambda: wire.new_token(data or b"t"),
        0x08: lambda: wire.stream(number(rng), data, rng.choice([0, number(rng, 61)]), rng.random() < 0.5, not last),
        0x10: lambda: wire.max_data(number(rng)),
        0x11: lambda: wire.max_stream_data(number(rng), number(rng)),
        0x12: lambda: wire.max_streams(limit, rng.random() < 0.5),
        0x14: lambda: wire.data_blocked(number(rng)),
        0x15: lambda: wire.stream_data_blocked(number(rng), number(rng)),
        0x16: lambda: wire.streams_blocked(limit, rng.random() < 0.5),
        0x18: lambda: wire.new_connection_id(
            sequence, rng.choice([0, sequence, sequence // 2]), rng.randbytes(rng.randint(1, 20)), rng.randbytes(16)
        ),
        0x19: lambda: wire.retire_connection_id(number(rng)),
        0x1A: lambda: wire.path_challenge(rng.randbytes(8)),
        0x1B: lambda: wire.path_response(rng.randbytes(8)),
        0x1C: lambda: wire.connection_close(number(rng), rng.choice([None, 0, number(rng)]), data),
        0x1E: lambda: wire.HANDSHAKE_DONE,
        0x30: lambda: wire.datagram(data, not last),
    }
    kind = rng.choice(list(kinds))
    return kind, kinds[kind]()


def same(ours: Frame, theirs: wire.Frame, payload: bytes) -> None:
    """One frame as two readers saw it."""
    f = theirs.fields
    kind = theirs.kind
    if kind == "padding":
        assert (ours.type, ours.fields[0]) == (0, f["count"])
    elif kind == "ack":
        assert ours.fields[0] == f["ranges"][0][1] and ours.fields[2] == f["ranges"][0][0]
        assert ours.fields[1] == f["delay"] and ours.count == len(f["ranges"]) - 1
        assert ours.fields[3:] == (f["ecn"] or (0, 0, 0)) and ours.type == (2 if f["ecn"] is None else 3)
        assert ranges(payload) == f["ranges"]
    elif kind == "stream":
        assert ours.type & ~7 == 8 and ours.fields[:3] == (f["stream"], f["offset"], f["fin"])
        assert ours.first == f["data"]
    elif kind == "crypto":
        assert (ours.type, ours.fields[0], ours.first) == (6, f["offset"], f["data"])
    elif kind in ("new_token", "datagram"):
        assert ours.first == f.get("token", f.get("data"))
    elif kind == "new_connection_id":
        assert ours.fields[:2] == (f["sequence"], f["retire"]) and (ours.first, ours.second) == (f["cid"], f["token"])
    elif kind in ("path_challenge", "path_response"):
        assert ours.type == (0x1A if kind == "path_challenge" else 0x1B) and ours.first == f["data"]
    elif kind == "connection_close":
        assert ours.type == (0x1D if f["app"] else 0x1C) and ours.first == f["reason"]
        assert ours.fields[:2] == (f["code"], f["cause"] or 0)
    else:
        names = wire.PLAIN[ours.type]
        assert names[0] == kind
        values = [f[name] for name in names[1]]
        if 0x10 <= ours.type <= 0x17 and len(values) == 1:
            values = [0, *values]  # of no stream
        assert list(ours.fields[: len(values)]) == values


def test_random_payloads_are_read_as_the_model_reads_them_and_written_as_they_were(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(1500):
        made = [random_frame(rng)[1] for _ in range(rng.randint(0, 6))] + [random_frame(rng, last=True)[1]]
        payload = b"".join(made)
        reading = read(payload)
        assert reading.code == 0, f"{reading.code:#x} for {payload.hex()}"
        assert reading.again == payload
        expected = wire.parse(payload)
        assert len(reading.frames) == len(expected), payload.hex()
        at = 0
        for ours, theirs in zip(reading.frames, expected, strict=True):
            same(ours, theirs, payload[at:])
            at += ours.size
        assert at == len(payload)


def test_a_frame_that_is_cut_is_refused_wherever_it_is_cut(seed: int) -> None:
    rng = random.Random(seed)
    seen = set()
    for _ in range(600):
        kind, frame = random_frame(rng)
        if kind in (0x00, 0x01, 0x1E):
            continue
        seen.add(kind)
        for length in range(1, len(frame)) if len(frame) < 100 else rng.sample(range(1, len(frame)), 40):
            reading = read(frame[:length])
            assert (reading.code, reading.frames) == (FRAME_ENCODING_ERROR, []), frame[:length].hex()
            assert reading.type == frame[0]
    assert len(seen) == 18


def test_random_bytes_never_do_harm(seed: int) -> None:
    """The model raises where we refuse, and the other way round (both are strict)."""
    rng = random.Random(seed)
    agreed = 0
    for _ in range(4000):
        frame = bytearray(random_frame(rng)[1])
        frame[rng.randrange(len(frame))] = rng.getrandbits(8)
        reading = read(bytes(frame))
        try:
            wire.parse(bytes(frame))
        except (AssertionError, IndexError):
            assert reading.code, frame.hex()
            continue
        agreed += reading.code == 0  # the model does not judge values
    assert agreed > 1000


# --- codes ------------------------------------------------------------------------------------------------------------

HUGE = MAX_VARINT


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"", PROTOCOL_VIOLATION),  # RFC 9000 12.4: no frames
        (b"\x1f", FRAME_ENCODING_ERROR),  # 12.4: unknown
        (b"\x20", FRAME_ENCODING_ERROR),
        (b"\x2f", FRAME_ENCODING_ERROR),
        (b"\x32", FRAME_ENCODING_ERROR),
        (varint(0xAF), FRAME_ENCODING_ERROR),  # ACK_FREQUENCY, which we did not offer
        (varint(HUGE), FRAME_ENCODING_ERROR),
        (b"\x40", FRAME_ENCODING_ERROR),  # not even a type
        (varint(0x01, 2), PROTOCOL_VIOLATION),  # 12.4: longer than necessary
        (varint(0x08, 2) + b"\0", PROTOCOL_VIOLATION),
        (varint(0x02, 8) + b"\0\0\0\0", PROTOCOL_VIOLATION),
        (wire.ack((0, 0)), 0),
        (b"\x02\x00\x00\x00\x01", FRAME_ENCODING_ERROR),  # 19.3.1: packet -1
        (b"\x02\x05\x00\x01\x00\x04\x00", FRAME_ENCODING_ERROR),  # the gap leads there
        (b"\x02\x05\x00\x01\x00\x03\x01", FRAME_ENCODING_ERROR),  # the length does
        (b"\x02\x05\x00\x01\x00\x03\x00", 0),  # and here both end at packet 0
        (b"\x02\x05\x00" + varint(HUGE) + b"\x00\x00\x00", FRAME_ENCODING_ERROR),  # more ranges than bytes
        (b"\x02" + varint(HUGE) + b"\x00\x01\x00" + varint(HUGE) + b"\x00", FRAME_ENCODING_ERROR),
        (wire.crypto(HUGE, b""), 0),
        (wire.crypto(HUGE, b"x"), FRAME_ENCODING_ERROR),  # 19.6
        (wire.crypto(HUGE - 1, b"x"), 0),
        (wire.stream(0, b"", HUGE), 0),
        (wire.stream(0, b"x", HUGE), FRAME_ENCODING_ERROR),  # 19.8
        (wire.stream(0, b"x", HUGE, length=False), FRAME_ENCODING_ERROR),
        (wire.stream(0, b"x", HUGE - 1), 0),
        (b"\x0a\x00" + varint(HUGE), FRAME_ENCODING_ERROR),
        (wire.new_token(b""), FRAME_ENCODING_ERROR),  # 19.7
        (wire.max_streams(1 << 60, True), 0),
        (wire.max_streams((1 << 60) + 1, True), FRAME_ENCODING_ERROR),  # 19.11
        (wire.max_streams((1 << 60) + 1, False), FRAME_ENCODING_ERROR),
        (wire.streams_blocked((1 << 60) + 1, True), FRAME_ENCODING_ERROR),  # 19.14
        (wire.streams_blocked((1 << 60) + 1, False), FRAME_ENCODING_ERROR),
        (wire.new_connection_id(1, 0, b"", TOKEN), FRAME_ENCODING_ERROR),  # 19.15
        (wire.new_connection_id(1, 0, bytes(21), TOKEN), FRAME_ENCODING_ERROR),
        (wire.new_connection_id(1, 0, bytes(20), TOKEN), 0),
        (wire.new_connection_id(1, 2, bytes(8), TOKEN), FRAME_ENCODING_ERROR),
        (wire.new_connection_id(2, 2, bytes(8), TOKEN), 0),
        (b"\x31" + varint(HUGE), FRAME_ENCODING_ERROR),
        (b"\x1c\x00\x00" + varint(HUGE), FRAME_ENCODING_ERROR),
    ],
)
def test_what_is_wrong_has_its_code(frame: bytes, code: int) -> None:
    for role in (CLIENT, SERVER):
        if frame[:1] != b"\x07":
            assert read(frame, role).code == code
    assert read(frame).code == code


def test_what_only_a_server_sends_is_refused_by_one() -> None:
    for frame in (wire.HANDSHAKE_DONE, wire.new_token(b"token")):
        assert read(frame, CLIENT).code == 0
        reading = read(frame, SERVER)
        assert (reading.code, reading.type) == (PROTOCOL_VIOLATION, frame[0])
    assert read(wire.new_token(b""), SERVER).code == PROTOCOL_VIOLATION  # whatever it says


def test_what_stands_before_an_error_was_given_out_and_nothing_of_the_bad_frame() -> None:
    reading = read(wire.PING + wire.max_data(5) + wire.new_token(b"") + wire.PING)
    assert [f.type for f in reading.frames] == [0x01, 0x10]
    assert (reading.code, reading.type) == (FRAME_ENCODING_ERROR, 0x07)


def test_a_stream_frame_without_a_length_takes_the_rest() -> None:
    (frame,) = read(wire.stream(2, b"rest\0\0\1", fin=True, length=False)).frames
    assert (frame.first, frame.fields[:3]) == (b"rest\0\0\1", (2, 0, 1))


def test_an_explicit_offset_of_zero_is_one() -> None:
    (frame,) = read(b"\x0e\x02\x00\x01x").frames
    assert (frame.type, frame.fields[1], frame.first) == (0x0E, 0, b"x")


# --- writing ----------------------------------------------------------------------------------------------------------


def test_nothing_is_written_where_the_frame_does_not_fit(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(400):
        kind, frame = random_frame(rng)
        if kind == 0x00:
            frame = frame[:-1]
        source, out = Bytes(frame), Bytes(len(frame))
        for room in {0, 1, len(frame) // 2, len(frame) - 1, rng.randrange(len(frame))} - {len(frame)}:
            assert lib.frame_rewrite(source.at, len(frame), out.at, room) == NONE, frame.hex()
        assert lib.frame_rewrite(source.at, len(frame), out.at, len(frame)) == len(frame)
        assert out.get(len(frame)) == frame


@pytest.mark.parametrize(
    ("kind", "a", "b", "length", "size"),
    [
        (0x0E, 4, HUGE - 1, 1, 1 + 1 + 8 + 1 + 1),  # STREAM: up to the last offset
        (0x0E, 4, HUGE, 1, None),
        (0x0E, HUGE + 1, 0, 1, None),
        (0x0A, 4, 1, 1, None),  # an offset that the type has no field for
        (0x0A, 4, 0, 1, 4),
        (0x06, HUGE - 1, 0, 1, 1 + 8 + 1 + 1),  # CRYPTO
        (0x06, HUGE, 0, 1, None),
        (0x07, 0, 0, 0, None),  # NEW_TOKEN
        (0x07, 0, 0, 1, 3),
        (0x00, 0, 0, 0, None),  # PADDING
        (0x12, 0, 1 << 60, 0, 9),  # MAX_STREAMS
        (0x12, 0, (1 << 60) + 1, 0, None),
        (0x17, 0, (1 << 60) + 1, 0, None),
        (0x10, 0, HUGE + 1, 0, None),  # MAX_DATA
        (0x18, 3, 3, 20, 1 + 1 + 1 + 1 + 20 + 16),  # NEW_CONNECTION_ID
        (0x18, 3, 4, 20, None),
        (0x18, 3, 3, 21, None),
        (0x18, 3, 3, 0, None),
        (0x1F, 0, 0, 0, None),  # nothing that there is
        (0x40, 0, 0, 0, None),
        (HUGE + 1, 0, 0, 0, None),
    ],
)
def test_what_would_not_be_read_is_not_written(kind: int, a: int, b: int, length: int, size: int | None) -> None:
    assert lib.frame_make(kind, a, b, length) == (NONE if size is None else size)


@pytest.mark.parametrize("length", [0, 1, 63, 64, 235, 16_383, 16_384])
@pytest.mark.parametrize("offset", [0, 1, 70_000, MAX_VARINT - 20_000])
def test_the_header_of_a_stream_frame(length: int, offset: int) -> None:
    data = bytes(length)
    for with_length in (True, False):
        for fin in (True, False):
            out = Bytes(32)
            answer = lib.stream_put(out.at, 1_000_002, offset, length, with_length, fin)
            expected = wire.stream(1_000_002, data, offset, fin, with_length)
            header = expected[: len(expected) - length]
            assert answer >> 32 == answer & 0xFFFFFFFF == len(header)
            assert out.get(len(header)) == header


@pytest.mark.parametrize("length", [0, 63, 64, 1200])
def test_the_header_of_a_datagram_frame(length: int) -> None:
    for with_length in (True, False):
        out = Bytes(16)
        expected = wire.datagram(bytes(length), with_length)
        assert out.get(lib.datagram_put(out.at, length, with_length)) == expected[: len(expected) - length]


def test_what_a_type_tells() -> None:
    """RFC 9000 table 3."""
    types = [*range(0x1F), 0x30, 0x31]
    eliciting, in_flight, probing = ({t for t in types if lib.frame_is(t, kind)} for kind in range(3))
    assert set(types) - eliciting == {0x00, 0x02, 0x03, 0x1C, 0x1D}  # N
    assert set(types) - in_flight == {0x02, 0x03, 0x1C, 0x1D}  # C and the closing ones
    assert probing == {0x00, 0x18, 0x1A, 0x1B}  # P


# --- aioquic ----------------------------------------------------------------------------------------------------------


def test_acks_of_aioquic_are_read_and_ours_by_aioquic(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        received, at = RangeSet(), number(rng, 30)
        for _ in range(rng.randint(1, 20)):
            length = rng.randint(1, 50)
            received.add(at, at + length)
            at += length + rng.randint(1, 100)
        buffer = Buffer(capacity=1000)
        buffer.push_uint_var(2)
        push_ack_frame(buffer, received, delay := number(rng, 20), capacity=1000)
        payload = buffer.data
        assert read(payload).frames[0].fields[1] == delay
        assert ranges(payload) == [(r.start, r.stop - 1) for r in reversed(list(received))]
        again, told = pull_ack_frame(Buffer(data=read(payload).again[1:]))
        assert (list(again), told) == (list(received), delay)


def test_the_frames_of_a_connection_of_aioquic_are_read_as_aioquic_reads_them() -> None:
    payloads = Pair().talk()
    types = set()
    for role, payload, frames in payloads:
        reading = read(payload, role)
        assert reading.code == 0
        assert [(f.type, f.size) for f in reading.frames] == frames
        # It writes lengths in two bytes always, so what we write is shorter, and says the same.
        assert len(reading.again) <= len(payload)
        assert [replace(f, size=0) for f in read(reading.again, role).frames] == [
            replace(f, size=0) for f in reading.frames
        ]
        types |= {kind for kind, _ in frames}
    assert len(payloads) > 50
    # What aioquic sends at all.
    assert types >= {0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x11, 0x18, 0x19, 0x1A, 0x1B, 0x1D, 0x1E, 0x31}, types
    assert types & {0x0A, 0x0B} and types & {0x0E, 0x0F} and types & {0x12, 0x13}
