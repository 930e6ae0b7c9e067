"""Datagrams that belong to nobody: what is said to them, and how often.

A short header with an unknown connection ID may be a peer's whose connection died with an earlier process: it is told by a
stateless reset (RFC 9000 10.3). It may be a reset by a peer that lost its own state: its last 16 bytes are then a token
that the peer once gave us. The comparison must not tell by its time how near a guess came (10.3.1), so tokens are kept by a
keyed hash of theirs and looked up by it: an attacker cannot choose what is compared.

Answers to strangers are limited by a token bucket each, because they are sent to addresses that nobody proved.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from .wire import RESET_MIN, TOKEN_BYTES


class Bucket:
    """So many at once, then so many a second."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at: float | None = None

    def take(self, now: float) -> bool:
        if self._at is not None:
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class ResetTokens:
    """Stateless reset tokens that peers gave us, of live connections."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._owners: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def _mark(self, token: bytes) -> bytes:
        return hmac.digest(self._key, token, hashlib.sha256)[:16]

    def add(self, token: bytes, owner: int) -> None:
        if len(token) == TOKEN_BYTES:
            self._owners[self._mark(token)] = owner

    def remove(self, token: bytes) -> None:
        self._owners.pop(self._mark(token), None)

    def owner(self, datagram: bytes) -> int | None:
        """The connection that this datagram resets."""
        return self._owners.get(self._mark(datagram[-TOKEN_BYTES:])) if len(datagram) >= RESET_MIN else None
