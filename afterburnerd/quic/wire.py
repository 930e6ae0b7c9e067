"""What can be seen of a QUIC packet without keys: headers, coalesced parts, and the packets that need no connection.

RFC 8999 (invariants) and RFC 9000 section 17. Nothing here trusts a length: a parser answers None where a datagram is not
what it says. `split` parts the long-header packets of a datagram, which aioquic may see, from the 1-RTT packet behind them,
which only the engine has keys for.
"""

from __future__ import annotations

import os
from typing import Final

import msgspec

VERSION_1: Final = 1
CID_LENGTH: Final = 8  # of every connection ID that we mint: XDP must find them (abi: CID_LEN)
CID_MAX: Final = 20  # RFC 9000 17.2
ODCID_MIN: Final = 8  # RFC 9000 7.2: the first destination of a client has at least 8 bytes
INITIAL_MIN: Final = 1200  # RFC 9000 14.1: smaller datagrams with an Initial are dropped
TOKEN_BYTES: Final = 16  # stateless reset token
# RFC 9000 10.3: a reset is a short header whose bits are random, at least 5 bytes, and the token; with fewer than 21 bytes
# it could be told from a packet. One of ours is always smaller than what it answers, so that two ends cannot loop.
RESET_MIN: Final = 21
RESET_MAX: Final = 42  # enough to look like a small packet with a connection ID

LONG: Final = 0x80
FIXED: Final = 0x40

INITIAL: Final = "initial"
ZERO_RTT: Final = "0rtt"
HANDSHAKE: Final = "handshake"
RETRY: Final = "retry"
NEGOTIATION: Final = "negotiation"
FOREIGN: Final = "foreign"  # a version that is not ours: nothing behind the connection IDs is known
KINDS: Final = (INITIAL, ZERO_RTT, HANDSHAKE, RETRY)


class Long(msgspec.Struct, frozen=True):
    """A long header."""

    kind: str
    version: int
    dcid: bytes
    scid: bytes
    token: bytes  # of an Initial
    end: int  # offset behind this packet


def is_short(datagram: bytes | memoryview) -> bool:
    return len(datagram) > 0 and not datagram[0] & LONG


def varint(data: bytes, at: int) -> tuple[int, int] | None:
    """A variable-length integer (RFC 9000 16) and the offset behind it."""
    if at >= len(data):
        return None
    size = 1 << (data[at] >> 6)
    if at + size > len(data):
        return None
    return int.from_bytes(data[at : at + size], "big") & ((1 << (8 * size - 2)) - 1), at + size


def encode_varint(value: int) -> bytes:
    for size, mark in ((1, 0), (2, 1), (4, 2), (8, 3)):
        if value < 1 << (8 * size - 2):
            return (value | mark << (8 * size - 2)).to_bytes(size, "big")
    raise ValueError(f"{value} does not fit a variable-length integer")


def parse_long(data: bytes, at: int = 0) -> Long | None:
    """The long header at an offset. Versions but 1 are read as far as the invariants go."""
    if len(data) - at < 7 or not data[at] & LONG:
        return None
    first = data[at]
    version = int.from_bytes(data[at + 1 : at + 5], "big")
    place = at + 5
    cids: list[bytes] = []
    for _ in range(2):
        if place >= len(data):
            return None
        size = data[place]
        if place + 1 + size > len(data):
            return None
        cids.append(data[place + 1 : place + 1 + size])
        place += 1 + size
    dcid, scid = cids
    if version == 0:
        return Long(NEGOTIATION, 0, dcid, scid, b"", len(data))
    if version != VERSION_1:
        return Long(FOREIGN, version, dcid, scid, b"", len(data))
    if not first & FIXED or len(dcid) > CID_MAX or len(scid) > CID_MAX:
        return None
    kind = KINDS[first >> 4 & 3]
    if kind == RETRY:
        return Long(RETRY, version, dcid, scid, b"", len(data))
    token = b""
    if kind == INITIAL:
        found = varint(data, place)
        if found is None or found[1] + found[0] > len(data):
            return None
        token, place = data[found[1] : found[1] + found[0]], found[1] + found[0]
    found = varint(data, place)
    if found is None or found[1] + found[0] > len(data):
        return None
    return Long(kind, version, dcid, scid, token, found[1] + found[0])


def split(data: bytes) -> tuple[bytes, bytes]:
    """A datagram as (long-header packets, 1-RTT packet behind them). What is neither (padding) stays with the first. A 1-RTT
    packet for another connection ID than the first packet's is left out (RFC 9000 12.2)."""
    if is_short(data):
        return b"", data
    at, dcid = 0, b""
    while at < len(data) and data[at] & LONG:
        header = parse_long(data, at)
        if header is None:
            return data, b""
        dcid = dcid or header.dcid
        at = header.end
    if at < len(data) and data[at] & FIXED and data[at + 1 : at + 1 + len(dcid)] == dcid:
        return data[:at], data[at:]
    return data, b""


def version_negotiation(header: Long) -> bytes:
    """The answer to a version that we do not speak: ours, and one that nobody does (RFC 9000 6.3)."""
    grease = int.from_bytes(os.urandom(4), "big") & 0xF0F0F0F0 | 0x0A0A0A0A
    return b"".join(
        (
            bytes((LONG | FIXED | os.urandom(1)[0] & 0x3F, 0, 0, 0, 0, len(header.scid))),
            header.scid,
            bytes((len(header.dcid),)),
            header.dcid,
            VERSION_1.to_bytes(4, "big"),
            grease.to_bytes(4, "big"),
        )
    )


def stateless_reset(token: bytes, answered: int) -> bytes | None:
    """A stateless reset for a datagram of `answered` bytes; None: it is too small to be answered (RFC 9000 10.3.3)."""
    size = min(answered - 1, RESET_MAX)
    if size < RESET_MIN:
        return None
    noise = bytearray(os.urandom(size - TOKEN_BYTES))
    noise[0] = FIXED | noise[0] & 0x3F
    return bytes(noise) + token
