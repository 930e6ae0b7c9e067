"""Base58 agrees with published vectors and with solders."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.pubkey import Pubkey
from solders.signature import Signature

from afterburnerd import base58

# https://datatracker.ietf.org/doc/html/draft-msporny-base58-03#section-5, and Bitcoin Core's base58_encode_decode.json
VECTORS = [
    (b"", ""),
    (b"Hello World!", "2NEpo7TZRRrLZSi2U"),
    (b"The quick brown fox jumps over the lazy dog.", "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z"),
    (bytes.fromhex("0000287fb4cd"), "11233QC4"),
    (bytes.fromhex("61"), "2g"),
    (bytes.fromhex("73696d706c792061206c6f6e6720737472696e67"), "2cFupjhnEsSn59qHXstmK2ffpLv2"),
    (bytes.fromhex("00eb15231dfceb60925886b67d065299925915aeb172c06647"), "1NS17iag9jJgTHD1VXjvLCEnZuQ3rJDE9L"),
    (bytes(10), "1111111111"),
]


@pytest.mark.parametrize(("data", "text"), VECTORS)
def test_published_vectors(data: bytes, text: str) -> None:
    assert base58.encode(data) == text
    assert base58.decode(text) == data


@given(st.binary(min_size=32, max_size=32) | st.binary(max_size=28).map(lambda b: bytes(32 - len(b)) + b))
def test_keys_as_solders_writes_them(data: bytes) -> None:
    assert base58.encode(data) == str(Pubkey(data))
    assert base58.decode(str(Pubkey(data))) == data


@given(st.binary(min_size=64, max_size=64))
def test_signatures_as_solders_writes_them(data: bytes) -> None:
    assert base58.encode(data) == str(Signature(data))
    assert base58.decode(str(Signature(data))) == data


@given(st.binary(max_size=80))
def test_there_and_back(data: bytes) -> None:
    assert base58.decode(base58.encode(data)) == data
    assert base58.encode(memoryview(data)) == base58.encode(data)


@pytest.mark.parametrize(("text", "place"), [("0", 1), ("abcO", 4), ("aIb", 2), ("l", 1), ("a b", 2), ("é", 1)])
def test_other_characters_are_named(text: str, place: int) -> None:
    with pytest.raises(ValueError, match=f"at place {place} is not a base58 digit"):
        base58.decode(text)
