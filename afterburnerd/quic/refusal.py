"""Refusing a connection without making one: an Initial with CONNECTION_CLOSE, sealed with the keys that anybody can derive.

For CONNECTION_REFUSED (no room) and INVALID_TOKEN (a Retry token that is not ours or no more: RFC 9000 8.1.3). Costs two key
derivations and no memory; whoever calls bounds how often.
"""

from __future__ import annotations

import os
from typing import Final

from aioquic.quic.crypto import CryptoPair

from .wire import CID_LENGTH, FIXED, LONG, VERSION_1, Long, encode_varint

CONNECTION_REFUSED: Final = 0x02
INVALID_TOKEN: Final = 0x0B
TRANSPORT_CLOSE: Final = 0x1C


def initial_close(header: Long, code: int, reason: str = "") -> bytes:
    """The answer to a client's Initial. Not padded: it elicits no ACK, and must not amplify (RFC 9000 14.1)."""
    pair = CryptoPair()
    pair.setup_initial(cid=header.dcid, is_client=False, version=VERSION_1)
    text = reason.encode()[:64]
    frame = bytes((TRANSPORT_CLOSE,)) + encode_varint(code) + b"\0" + encode_varint(len(text)) + text
    number = b"\0\0"
    scid = os.urandom(CID_LENGTH)
    head = (
        bytes((LONG | FIXED | len(number) - 1,))
        + VERSION_1.to_bytes(4, "big")
        + bytes((len(header.scid),))
        + header.scid
        + bytes((len(scid),))
        + scid
        + b"\0"  # no token
        + (0x4000 | len(number) + len(frame) + pair.aead_tag_size).to_bytes(2, "big")
        + number
    )
    return bytes(pair.encrypt_packet(head, frame, 0))
