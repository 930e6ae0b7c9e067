"""Address validation tokens (RFC 9000 8.1): ours as a server, and those that servers gave us.

A server's token says, under an AEAD that only we have the key of, to which address it was given, when, and for Retry which
connection IDs were in play; so a Retry keeps nothing in memory. A Retry token holds for one address and port and some seconds,
one of NEW_TOKEN for an address and some hours. The first byte tells them apart, as 8.1.1 asks.

A client keeps the tokens of NEW_TOKEN by server address *and* name: validators are known by an SNI of `{ip}.{port}.sol`, and a
token shown to the wrong one costs a handshake.
"""

from __future__ import annotations

import functools
import os
import struct
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

RETRY_MARK: Final = 0xA1
NEW_MARK: Final = 0xA2
NONCE: Final = 12
RETRY_SECONDS: Final = 15.0  # a client sends it back at once (8.1.4 asks for a short time)
NEW_SECONDS: Final = 24 * 3600.0

Address = tuple[str, int]


class RetryToken(msgspec.Struct, frozen=True):
    """What a valid Retry token says: the handshake goes on with these in its transport parameters."""

    original_dcid: bytes
    retry_scid: bytes


class TokenMaker:
    """A server's side. The key lives as long as the process: an older token only costs a Retry."""

    def __init__(self, key: bytes | None = None) -> None:
        self._aead = AESGCM(key or os.urandom(16))

    def _seal(self, mark: int, body: bytes) -> bytes:
        nonce = os.urandom(NONCE)
        return bytes((mark,)) + nonce + self._aead.encrypt(nonce, body, bytes((mark,)))

    def _open(self, token: bytes) -> bytes | None:
        try:
            return self._aead.decrypt(token[1 : 1 + NONCE], token[1 + NONCE :], token[:1])
        except (InvalidTag, ValueError):
            return None

    def retry(self, address: Address, original_dcid: bytes, retry_scid: bytes, now: float) -> bytes:
        body = (
            struct.pack("!dHBB", now, address[1], len(original_dcid), len(retry_scid))
            + original_dcid
            + retry_scid
            + packed(address)
        )
        return self._seal(RETRY_MARK, body)

    def new(self, address: Address, now: float) -> bytes:
        return self._seal(NEW_MARK, struct.pack("!d", now) + packed(address))

    @staticmethod
    def is_retry(token: bytes) -> bool:
        """Whether a token claims to come from a Retry: a wrong one of those is INVALID_TOKEN (8.1.3), other wrong ones
        are as good as none."""
        return token[:1] == bytes((RETRY_MARK,))

    def check_retry(self, token: bytes, address: Address, dcid: bytes, now: float) -> RetryToken | None:
        body = self._open(token) if self.is_retry(token) else None
        if body is None:
            return None
        made, port, original, retry = struct.unpack_from("!dHBB", body)
        at = struct.calcsize("!dHBB")
        found = RetryToken(body[at : at + original], body[at + original : at + original + retry])
        good = (
            0 <= now - made <= RETRY_SECONDS
            and port == address[1]
            and body[at + original + retry :] == packed(address)
            and found.retry_scid == dcid
        )
        return found if good else None

    def check_new(self, token: bytes, address: Address, now: float) -> bool:
        body = self._open(token) if token[:1] == bytes((NEW_MARK,)) else None
        if body is None:
            return False
        (made,) = struct.unpack_from("!d", body)
        return 0 <= now - made <= NEW_SECONDS and body[8:] == packed(address)


class TokenStore:
    """A client's side: the latest token of each server, used once (8.1.3), the longest unused server forgotten first."""

    def __init__(self, limit: int = 8192) -> None:
        self._limit = limit
        self._tokens: OrderedDict[tuple[Address, str], bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tokens)

    def put(self, server: Address, name: str, token: bytes) -> None:
        self._tokens[server, name] = token
        self._tokens.move_to_end((server, name))
        while len(self._tokens) > self._limit:
            self._tokens.popitem(last=False)

    def take(self, server: Address, name: str) -> bytes:
        return self._tokens.pop((server, name), b"")


def packed(address: Address) -> bytes:
    found = ip_address(address[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        return found.ipv4_mapped.packed
    return found.packed


@functools.lru_cache(4096)  # addresses of peers, of some packets each
def packed_mapped(host: str) -> bytes:
    """16 bytes: IPv4 is mapped into ::ffff:0:0/96, as everywhere between the processes."""
    data = packed((host, 0))
    return bytes(10) + b"\xff\xff" + data if len(data) == 4 else data


def unpacked(data: bytes) -> str:
    """The other way."""
    address = IPv6Address(data)
    return str(address.ipv4_mapped or address)
