"""Our transport parameters (RFC 9000 18.2), from the configuration to the bytes of the TLS extension.

aioquic hard-codes some of them (stream counts, max_ack_delay, the limit of connection IDs) and leaves others out
(max_udp_payload_size, disable_active_migration), so `front.py` sends these bytes instead. They are promises of the engine's,
not of aioquic's: the same bytes go to the engine with the adoption, which refuses them if it has not the room.
version_information (RFC 9368) is not sent: we speak one version, so there is nothing to be talked down from.
"""

from __future__ import annotations

import os

import msgspec

from .wire import encode_varint

ORIGINAL_DCID = 0x00
MAX_IDLE_TIMEOUT = 0x01
RESET_TOKEN = 0x02
MAX_UDP_PAYLOAD = 0x03
MAX_DATA = 0x04
MAX_STREAM_DATA_BIDI_LOCAL = 0x05
MAX_STREAM_DATA_BIDI_REMOTE = 0x06
MAX_STREAM_DATA_UNI = 0x07
MAX_STREAMS_BIDI = 0x08
MAX_STREAMS_UNI = 0x09
ACK_DELAY_EXPONENT = 0x0A
MAX_ACK_DELAY = 0x0B
DISABLE_ACTIVE_MIGRATION = 0x0C
ACTIVE_CID_LIMIT = 0x0E
INITIAL_SCID = 0x0F
RETRY_SCID = 0x10
MAX_DATAGRAM_FRAME = 0x20


DATAGRAM_MOST = 1200 - 45  # bytes that a DATAGRAM may have on every path: native/quic_message.c


class Params(msgspec.Struct, frozen=True):
    """What an end promises. The defaults are those of a client of a validator's TPU."""

    max_idle_timeout_ms: int = 30_000  # 0: none of our own
    max_udp_payload_size: int = 1472  # bytes: an Ethernet frame of 1500 over IPv4
    max_data: int = 8 << 20  # bytes in flight towards us, all streams
    max_stream_data_bidi_local: int = 1 << 16  # bytes a stream that we opened
    max_stream_data_bidi_remote: int = 1 << 16
    max_stream_data_uni: int = 1 << 16
    max_streams_bidi: int = 16  # streams that the peer may have open
    max_streams_uni: int = 2048
    ack_delay_exponent: int = 3
    max_ack_delay_ms: int = 25
    active_cid_limit: int = 4  # connection IDs of the peer that we keep
    max_datagram_frame_size: int = 65_535  # 0: no DATAGRAM frames (RFC 9221)
    disable_active_migration: bool = False
    grease: bool = True  # one parameter that nobody knows, so that nobody comes to rely on there being none

    def encode(
        self,
        *,
        initial_scid: bytes,
        original_dcid: bytes | None = None,
        retry_scid: bytes | None = None,
        reset_token: bytes | None = None,
    ) -> bytes:
        """The extension's body. The last three are a server's to send."""
        out = bytearray()

        def put(number: int, value: bytes) -> None:
            out.extend(encode_varint(number) + encode_varint(len(value)) + value)

        for number, value in (
            (MAX_IDLE_TIMEOUT, self.max_idle_timeout_ms),
            (MAX_UDP_PAYLOAD, self.max_udp_payload_size),
            (MAX_DATA, self.max_data),
            (MAX_STREAM_DATA_BIDI_LOCAL, self.max_stream_data_bidi_local),
            (MAX_STREAM_DATA_BIDI_REMOTE, self.max_stream_data_bidi_remote),
            (MAX_STREAM_DATA_UNI, self.max_stream_data_uni),
            (MAX_STREAMS_BIDI, self.max_streams_bidi),
            (MAX_STREAMS_UNI, self.max_streams_uni),
            (ACK_DELAY_EXPONENT, self.ack_delay_exponent),
            (MAX_ACK_DELAY, self.max_ack_delay_ms),
            (ACTIVE_CID_LIMIT, self.active_cid_limit),
        ):
            put(number, encode_varint(value))
        if self.max_datagram_frame_size:
            put(MAX_DATAGRAM_FRAME, encode_varint(self.max_datagram_frame_size))
        if self.disable_active_migration:
            put(DISABLE_ACTIVE_MIGRATION, b"")
        put(INITIAL_SCID, initial_scid)
        if original_dcid is not None:
            put(ORIGINAL_DCID, original_dcid)
        if retry_scid is not None:
            put(RETRY_SCID, retry_scid)
        if reset_token is not None:
            put(RESET_TOKEN, reset_token)
        if self.grease:
            draw = os.urandom(3)
            put(31 * (draw[0] + 1) + 27, draw[: draw[1] % 4])  # RFC 9000 18.1
        return bytes(out)


def datagram_max(frame: int) -> int:
    """Bytes of the longest DATAGRAM that every path carries to a peer that takes frames so long; 0: it takes none."""
    # Type and length stand before the data, and the length has two bytes from 64 on (RFC 9221 4).
    return max(0, min(DATAGRAM_MOST, max(min(63, frame - 2), frame - 3)))
