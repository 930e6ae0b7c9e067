"""Programs that everybody calls, by the names that everybody gives them. All others are shown by their address."""

from __future__ import annotations

from afterburnerd import base58

ADDRESSES = {
    "system": "11111111111111111111111111111111",
    "vote": "Vote111111111111111111111111111111111111111",
    "stake": "Stake11111111111111111111111111111111111111",
    "compute-budget": "ComputeBudget111111111111111111111111111111",
    "address-lookup-table": "AddressLookupTab1e1111111111111111111111111",
    "loader": "BPFLoaderUpgradeab1e11111111111111111111111",
    "token": "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA",
    "token-2022": "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb",
    "associated-token": "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL",
    "memo": "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr",
}

PROGRAMS = {name: base58.decode(text) for name, text in ADDRESSES.items()}
"""Name -> key."""

_NAMES = {key: name for name, key in PROGRAMS.items()}


def label(key: bytes) -> str:
    """Name of a well-known program, base58 of another."""
    return _NAMES.get(key) or base58.encode(key)
