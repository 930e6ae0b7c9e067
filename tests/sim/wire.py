"""The frames of QUIC 1-RTT packets and transport parameters as bytes, written from RFC 9000 and sharing no code with the engine.

Builders take what they are told, lies included: the hostile peer is made of them. `parse` is strict, because what it
reads is what our engine sent: a frame that it does not understand fails the test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Transport error codes, RFC 9000 20.1 and RFC 9001 6.6, 4.8.
NO_ERROR = 0x00
INTERNAL_ERROR = 0x01
CONNECTION_REFUSED = 0x02
FLOW_CONTROL_ERROR = 0x03
STREAM_LIMIT_ERROR = 0x04
STREAM_STATE_ERROR = 0x05
FINAL_SIZE_ERROR = 0x06
FRAME_ENCODING_ERROR = 0x07
TRANSPORT_PARAMETER_ERROR = 0x08
CONNECTION_ID_LIMIT_ERROR = 0x09
PROTOCOL_VIOLATION = 0x0A
CRYPTO_BUFFER_EXCEEDED = 0x0D
KEY_UPDATE_ERROR = 0x0E
AEAD_LIMIT_REACHED = 0x0F
CRYPTO_ERROR = 0x100
UNEXPECTED_MESSAGE = CRYPTO_ERROR + 10  # the TLS alert

MAX_VARINT = (1 << 62) - 1


def varint(value: int, size: int = 0) -> bytes:
    """RFC 9000 16; `size` asks for a longer form than is needed."""
    if size == 0:
        size = 1 if value < 1 << 6 else 2 if value < 1 << 14 else 4 if value < 1 << 30 else 8
    return (value | {1: 0, 2: 1, 4: 2, 8: 3}[size] << (8 * size - 2)).to_bytes(size, "big")


class Cursor:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, count: int) -> bytes:
        assert count <= self.left(), f"{count} bytes wanted, {self.left()} left, in {self.data.hex()}"
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        size = 1 << (self.data[self.at] >> 6)
        return int.from_bytes(self.take(size), "big") & ((1 << (8 * size - 2)) - 1)


# --- builders ---------------------------------------------------------------------------------------------------------

PADDING = b"\x00"
PING = b"\x01"
HANDSHAKE_DONE = b"\x1e"
PATH_CHALLENGE_ZERO = b"\x1a" + bytes(8)


def ack(*ranges: tuple[int, int], delay: int = 0, ecn: tuple[int, int, int] | None = None) -> bytes:
    """`ranges`: (first, last), highest range first."""
    first, last = ranges[0]
    out = (
        bytes([2 if ecn is None else 3]) + varint(last) + varint(delay) + varint(len(ranges) - 1) + varint(last - first)
    )
    for lower, upper in ranges[1:]:
        out += varint(first - upper - 2) + varint(upper - lower)
        first = lower
    return out + b"".join(varint(count) for count in ecn or ())


def reset_stream(stream: int, code: int, final_size: int) -> bytes:
    return b"\x04" + varint(stream) + varint(code) + varint(final_size)


def stop_sending(stream: int, code: int) -> bytes:
    return b"\x05" + varint(stream) + varint(code)


def crypto(offset: int, data: bytes) -> bytes:
    return b"\x06" + varint(offset) + varint(len(data)) + data


def new_token(token: bytes) -> bytes:
    return b"\x07" + varint(len(token)) + token


def stream(stream: int, data: bytes, offset: int = 0, fin: bool = False, length: bool = True) -> bytes:
    kind = 0x08 | (4 if offset else 0) | (2 if length else 0) | (1 if fin else 0)
    out = bytes([kind]) + varint(stream) + (varint(offset) if offset else b"")
    return out + (varint(len(data)) if length else b"") + data


def max_data(value: int) -> bytes:
    return b"\x10" + varint(value)


def max_stream_data(stream: int, value: int) -> bytes:
    return b"\x11" + varint(stream) + varint(value)


def max_streams(value: int, uni: bool) -> bytes:
    return (b"\x13" if uni else b"\x12") + varint(value)


def data_blocked(value: int) -> bytes:
    return b"\x14" + varint(value)


def stream_data_blocked(stream: int, value: int) -> bytes:
    return b"\x15" + varint(stream) + varint(value)


def streams_blocked(value: int, uni: bool) -> bytes:
    return (b"\x17" if uni else b"\x16") + varint(value)


def new_connection_id(sequence: int, retire: int, cid: bytes, token: bytes, length: int | None = None) -> bytes:
    return b"\x18" + varint(sequence) + varint(retire) + bytes([len(cid) if length is None else length]) + cid + token


def retire_connection_id(sequence: int) -> bytes:
    return b"\x19" + varint(sequence)


def path_challenge(data: bytes) -> bytes:
    return b"\x1a" + data


def path_response(data: bytes) -> bytes:
    return b"\x1b" + data


def connection_close(code: int, frame: int | None = 0, reason: bytes = b"") -> bytes:
    """`frame` None: the application's kind."""
    kind = b"\x1d" + varint(code) if frame is None else b"\x1c" + varint(code) + varint(frame)
    return kind + varint(len(reason)) + reason


def datagram(data: bytes, length: bool = True) -> bytes:
    return (b"\x31" + varint(len(data)) if length else b"\x30") + data


# --- reading what the engine sent -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    kind: str
    fields: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(name) from None


def ack_ranges(c: Cursor, ecn: bool) -> dict[str, Any]:
    last, delay, count, length = (c.varint() for _ in range(4))
    assert length <= last
    ranges = [(last - length, last)]
    for _ in range(count):
        gap, length = c.varint(), c.varint()
        upper = ranges[-1][0] - gap - 2
        assert 0 <= length <= upper, "an acknowledgement of a negative packet number"
        ranges.append((upper - length, upper))
    return {"ranges": ranges, "delay": delay, "ecn": tuple(c.varint() for _ in range(3)) if ecn else None}


# kind -> fields, each a varint
PLAIN: dict[int, tuple[str, tuple[str, ...]]] = {
    0x01: ("ping", ()),
    0x04: ("reset_stream", ("stream", "code", "final_size")),
    0x05: ("stop_sending", ("stream", "code")),
    0x10: ("max_data", ("value",)),
    0x11: ("max_stream_data", ("stream", "value")),
    0x12: ("max_streams_bidi", ("value",)),
    0x13: ("max_streams_uni", ("value",)),
    0x14: ("data_blocked", ("value",)),
    0x15: ("stream_data_blocked", ("stream", "value")),
    0x16: ("streams_blocked_bidi", ("value",)),
    0x17: ("streams_blocked_uni", ("value",)),
    0x19: ("retire_connection_id", ("sequence",)),
    0x1E: ("handshake_done", ()),
}


def parse(payload: bytes) -> list[Frame]:
    """The frames of a packet; padding is one frame, with its length."""
    frames: list[Frame] = []
    c = Cursor(payload)
    assert payload, "a packet without frames"
    while c.left():
        kind = c.varint()
        if kind == 0x00:
            start = c.at - 1
            while c.left() and c.data[c.at] == 0:
                c.at += 1
            frames.append(Frame("padding", {"count": c.at - start}))
        elif kind in PLAIN:
            name, names = PLAIN[kind]
            frames.append(Frame(name, {field: c.varint() for field in names}))
        elif kind in (0x02, 0x03):
            frames.append(Frame("ack", ack_ranges(c, kind == 3)))
        elif kind == 0x06:
            offset = c.varint()
            frames.append(Frame("crypto", {"offset": offset, "data": c.take(c.varint())}))
        elif kind == 0x07:
            frames.append(Frame("new_token", {"token": c.take(c.varint())}))
        elif 0x08 <= kind <= 0x0F:
            number, offset = c.varint(), c.varint() if kind & 4 else 0
            data = c.take(c.varint() if kind & 2 else c.left())
            frames.append(Frame("stream", {"stream": number, "offset": offset, "data": data, "fin": bool(kind & 1)}))
        elif kind == 0x18:
            sequence, retire = c.varint(), c.varint()
            cid = c.take(c.take(1)[0])
            frames.append(
                Frame("new_connection_id", {"sequence": sequence, "retire": retire, "cid": cid, "token": c.take(16)})
            )
        elif kind in (0x1A, 0x1B):
            frames.append(Frame("path_challenge" if kind == 0x1A else "path_response", {"data": c.take(8)}))
        elif kind in (0x1C, 0x1D):
            code = c.varint()
            cause = c.varint() if kind == 0x1C else None
            frames.append(
                Frame(
                    "connection_close",
                    {"code": code, "app": kind == 0x1D, "cause": cause, "reason": c.take(c.varint())},
                )
            )
        elif kind in (0x30, 0x31):
            frames.append(Frame("datagram", {"data": c.take(c.varint() if kind & 1 else c.left())}))
        else:
            raise AssertionError(f"frame type {kind:#x} in {payload.hex()}")
    return frames


# --- transport parameters ---------------------------------------------------------------------------------------------

PARAMETERS = {
    "original_destination_connection_id": 0x00,
    "max_idle_timeout": 0x01,
    "stateless_reset_token": 0x02,
    "max_udp_payload_size": 0x03,
    "initial_max_data": 0x04,
    "initial_max_stream_data_bidi_local": 0x05,
    "initial_max_stream_data_bidi_remote": 0x06,
    "initial_max_stream_data_uni": 0x07,
    "initial_max_streams_bidi": 0x08,
    "initial_max_streams_uni": 0x09,
    "ack_delay_exponent": 0x0A,
    "max_ack_delay": 0x0B,
    "disable_active_migration": 0x0C,
    "preferred_address": 0x0D,
    "active_connection_id_limit": 0x0E,
    "initial_source_connection_id": 0x0F,
    "retry_source_connection_id": 0x10,
    "max_datagram_frame_size": 0x20,
}


def parameters(**values: int | bytes | bool) -> bytes:
    """RFC 9000 18.2 as the TLS extension carries it; True: present and empty."""
    out = b""
    for name, value in values.items():
        body = b"" if value is True else value if isinstance(value, bytes) else varint(value)
        out += varint(PARAMETERS[name]) + varint(len(body)) + body
    return out
