"""Connection IDs of ours: minted here, by batches, with reset tokens that a key gives; and who owns which.

    mint ─► (ahead) ─► handshake (sequence number 0) ─► adoption (a stock for NEW_CONNECTION_ID) ─► retired by the peer ─► tombstone ─► gone

The engine is handed a stock and never mints: every connection ID has to be in the map `cids` before a peer hears of it, and
the loop makes no bpf(). A token is HMAC-SHA256(key, connection ID), so that resets can be sent for connections of an earlier
life of the daemon. A connection ID that was retired, and the original one that a client chose for us, keep a tombstone for
3 PTO: late packets belong to a connection that knows of it, and no reset is due.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from .wire import CID_LENGTH, TOKEN_BYTES

KEY_BYTES = 32
AHEAD = 64  # connection IDs that lie ready: for a dozen adoptions between two turns


class LocalCid(msgspec.Struct, frozen=True):
    """A connection ID of ours, with the token that resets what it names."""

    seq: int
    cid: bytes
    token: bytes


class PeerCid(msgspec.Struct, frozen=True):
    """One of the peer's; the token may be missing (a client's first one has none)."""

    seq: int
    cid: bytes
    token: bytes = b""


class Mint:
    """Makes connection IDs. The key must outlive the process (load_key), or resets will not be believed."""

    def __init__(self, key: bytes, draw: Callable[[int], bytes] = os.urandom) -> None:
        if len(key) < KEY_BYTES:
            raise ValueError(f"the key of reset tokens has {len(key)} bytes: {KEY_BYTES} or more")
        self._key = key
        self._draw = draw
        self._ready: list[tuple[bytes, bytes]] = []  # with their tokens

    def token(self, cid: bytes) -> bytes:
        return hmac.digest(self._key, cid, "sha256")[:TOKEN_BYTES]

    def ahead(self) -> None:
        """Makes some while nobody waits for them: a stock of them in the middle of an adoption was a tenth of it."""
        while len(self._ready) < AHEAD:
            self._ready.append(self._fresh())

    def _fresh(self) -> tuple[bytes, bytes]:
        cid = self._draw(CID_LENGTH)
        return cid, self.token(cid)

    def make(self, seq: int, taken: Registry) -> LocalCid:
        while True:
            cid, token = self._ready.pop() if self._ready else self._fresh()
            if cid not in taken:
                return LocalCid(seq, cid, token)


class Registry:
    """Which connection a connection ID belongs to, tombstones included. Owners are the supervisor's connection numbers."""

    def __init__(self) -> None:
        self._owners: dict[bytes, int] = {}
        self._dead: dict[bytes, float] = {}  # tombstones: until when; in the order in which they were made

    def __contains__(self, cid: bytes) -> bool:
        return cid in self._owners

    def __len__(self) -> int:
        return len(self._owners)

    def owner(self, cid: bytes) -> int | None:
        return self._owners.get(cid)

    def buried(self, cid: bytes) -> bool:
        return cid in self._dead

    def of(self, owner: int) -> Iterator[bytes]:
        return (cid for cid, number in self._owners.items() if number == owner)

    def add(self, cid: bytes, owner: int) -> None:
        if self._owners.setdefault(cid, owner) != owner:
            raise ValueError(f"connection ID {cid.hex()} is connection {self._owners[cid]}'s, not {owner}'s")

    def bury(self, cid: bytes, until: float) -> None:
        """It is answered for, by nobody, until then."""
        if cid in self._owners:
            self._dead[cid] = until

    def remove(self, cid: bytes) -> None:
        self._owners.pop(cid, None)
        self._dead.pop(cid, None)

    def expire(self, now: float) -> list[bytes]:
        """Removes tombstones whose time is over, and tells which: they leave the map `cids` as well."""
        over = [cid for cid, until in self._dead.items() if until <= now]
        for cid in over:
            self.remove(cid)
        return over

    def next_expiry(self) -> float | None:
        return min(self._dead.values(), default=None)


def load_key(path: Path) -> bytes:
    """The key of reset tokens: read, or made with the first start. Only its owner may read it."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = os.urandom(KEY_BYTES)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(key)
        fresh.rename(path)
    if len(key) < KEY_BYTES:
        raise ValueError(
            f"{path}: {len(key)} bytes, a key of reset tokens has {KEY_BYTES}; remove the file to have a new one made"
        )
    return key
