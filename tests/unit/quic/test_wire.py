"""Headers without keys: against aioquic's own packets, and against anything."""

from __future__ import annotations

import os

from aioquic._buffer import Buffer
from aioquic.quic.packet import pull_quic_header
from hypothesis import given
from hypothesis import strategies as st

from afterburnerd.quic.wire import (
    FOREIGN,
    HANDSHAKE,
    INITIAL,
    NEGOTIATION,
    encode_varint,
    is_short,
    parse_long,
    split,
    stateless_reset,
    varint,
)

from .rig import CLIENT, Ours, Plain

# RFC 9000 A.1
VARINTS = {
    151_288_809_941_952_652: "c2197c5eff14e88c",
    494_878_333: "9d7f3e7d",
    15_293: "7bbd",
    37: "25",
}


def test_varints_of_the_rfc() -> None:
    for value, data in VARINTS.items():
        assert encode_varint(value).hex() == data
        assert varint(bytes.fromhex(data), 0) == (value, len(data) // 2)
    assert varint(bytes.fromhex("4025"), 0) == (37, 2)


@given(st.integers(0, (1 << 62) - 1))
def test_varints_come_back(value: int) -> None:
    data = encode_varint(value)
    assert varint(data, 0) == (value, len(data)) and varint(data[:-1], 0) is None


@given(st.binary(max_size=1500))
def test_anything_can_be_looked_at(data: bytes) -> None:
    header = parse_long(data)
    if header is not None:
        assert 7 <= header.end <= len(data)
    if data:
        long, short = split(data)
        assert long + short == data and (not short or is_short(short))


@given(st.binary(min_size=1, max_size=60), st.integers(0, 59), st.integers(0, 255))
def test_a_changed_initial_can_be_looked_at(tail: bytes, at: int, byte: int) -> None:
    data = bytearray(b"\xc3\0\0\0\1\x08" + bytes(8) + b"\x08" + bytes(8) + b"\0\x40\x20" + tail)
    data[at % len(data)] = byte
    parse_long(bytes(data))
    split(bytes(data))


def test_coalesced_packets_are_parted_where_the_1rtt_packet_begins() -> None:
    """aioquic as a server sends Initial, Handshake and (once it may) 1-RTT packets; each end is where aioquic sees it."""
    ours, plain = Ours(), Plain()
    ours.dial(100.0)
    plain.receive(ours.outgoing(100.0)[0], CLIENT, 100.0)
    (answer,) = plain.outgoing(100.0)[:1]
    buf, at, kinds = Buffer(data=answer), 0, []
    while at < len(answer) and answer[at] & 0x80:
        header = parse_long(answer, at)
        assert header is not None
        buf.seek(at)
        theirs = pull_quic_header(buf)
        assert header.end - at == theirs.packet_length and header.dcid == theirs.destination_cid
        kinds.append(header.kind)
        at = header.end
    assert kinds[:2] == [INITIAL, HANDSHAKE]
    whole = answer[:at]
    dcid = parse_long(answer).dcid  # type: ignore[union-attr]
    one_rtt = b"\x45" + dcid + os.urandom(30)
    assert split(whole + one_rtt) == (whole, one_rtt)
    stranger = b"\x45" + os.urandom(38)
    assert split(whole + stranger) == (whole + stranger, b""), "for another connection ID: RFC 9000 12.2"
    assert split(whole + bytes(20)) == (whole + bytes(20), b""), "padding"
    assert split(one_rtt) == (b"", one_rtt)


def test_versions_are_read_as_far_as_the_invariants_go() -> None:
    head = b"\xff\x12\x34\x56\x78\x15" + bytes(21) + b"\x03abc"
    header = parse_long(head + os.urandom(10))
    assert header is not None and header.kind == FOREIGN and len(header.dcid) == 21 and header.scid == b"abc"
    assert parse_long(b"\xc0\0\0\0\1\x15" + bytes(21) + b"\0\0\0") is None, "longer than version 1 allows"
    negotiation = parse_long(b"\x80\0\0\0\0\x01a\x01b\0\0\0\1")
    assert negotiation is not None and negotiation.kind == NEGOTIATION


def test_a_reset_is_smaller_than_what_it_answers() -> None:
    token = bytes(range(16))
    assert stateless_reset(token, 21) is None
    for size in (22, 30, 43, 1200):
        reset = stateless_reset(token, size)
        assert reset is not None and 21 <= len(reset) < size and reset.endswith(token) and reset[0] & 0xC0 == 0x40
