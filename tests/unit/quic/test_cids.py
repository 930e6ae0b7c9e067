"""Connection IDs: minted with tokens that a key gives, owned by one connection, buried before they are gone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from afterburnerd.abi.layout import CID_LEN
from afterburnerd.quic.cids import AHEAD, KEY_BYTES, Mint, Registry, load_key
from afterburnerd.quic.wire import CID_LENGTH


def test_the_length_is_the_one_that_xdp_looks_for() -> None:
    assert CID_LENGTH == CID_LEN


def test_one_that_is_taken_is_not_made_again() -> None:
    draws = iter([b"aaaaaaaa", b"aaaaaaaa", b"bbbbbbbb"])
    mint, registry = Mint(bytes(KEY_BYTES), lambda n: next(draws)), Registry()
    registry.add(mint.make(0, registry).cid, 1)
    assert mint.make(1, registry).cid == b"bbbbbbbb"


def test_what_was_made_ahead_is_looked_at_when_it_is_given() -> None:
    draws = iter([bytes([n]) * CID_LENGTH for n in range(AHEAD)] + [b"bbbbbbbb"])
    mint, registry = Mint(bytes(KEY_BYTES), lambda n: next(draws)), Registry()
    mint.ahead()
    mint.ahead()  # there are enough
    last = bytes([AHEAD - 1]) * CID_LENGTH
    registry.add(last, 1)
    given = [mint.make(seq, registry) for seq in range(1, AHEAD + 1)]
    assert last not in {c.cid for c in given} and given[-1].cid == b"bbbbbbbb"
    assert len({c.cid for c in given}) == AHEAD and all(c.token == mint.token(c.cid) for c in given)


def test_an_id_has_one_owner() -> None:
    registry = Registry()
    registry.add(b"12345678", 1)
    registry.add(b"12345678", 1)
    with pytest.raises(ValueError, match="connection 1's"):
        registry.add(b"12345678", 2)
    assert registry.owner(b"12345678") == 1 and list(registry.of(1)) == [b"12345678"]


def test_a_tombstone_still_answers_for_its_owner_until_its_time() -> None:
    registry = Registry()
    registry.add(b"12345678", 1)
    registry.bury(b"12345678", 10.0)
    assert registry.owner(b"12345678") == 1 and registry.buried(b"12345678") and registry.next_expiry() == 10.0
    assert registry.expire(9.9) == [] and registry.expire(10.0) == [b"12345678"]
    assert b"12345678" not in registry and registry.next_expiry() is None


def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "reset.key"
    key = load_key(path)
    assert len(key) == KEY_BYTES and load_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and [p.name for p in tmp_path.iterdir()] == ["reset.key"]
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match=r"reset\.key"):
        load_key(path)
