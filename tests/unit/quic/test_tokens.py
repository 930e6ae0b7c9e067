"""Address validation: a token is good for one address, one time, one connection ID; a client's is shown to who gave it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterburnerd.quic.tokens import NEW_SECONDS, RETRY_SECONDS, TokenMaker, TokenStore, packed_mapped, unpacked

V4 = ("192.0.2.1", 5000)
V6 = ("2001:db8::1", 5000)


@pytest.mark.parametrize("address", [V4, V6])
def test_a_retry_token_comes_back(address: tuple[str, int]) -> None:
    maker = TokenMaker()
    token = maker.retry(address, b"original", b"retried", 10.0)
    found = maker.check_retry(token, address, b"retried", 10.0 + RETRY_SECONDS)
    assert found is not None and (found.original_dcid, found.retry_scid) == (b"original", b"retried")
    assert maker.check_retry(token, address, b"retried", 10.1 + RETRY_SECONDS) is None
    assert maker.check_retry(token, address, b"retried", 9.9) is None
    assert maker.check_retry(token, (address[0], 5001), b"retried", 11.0) is None
    assert maker.check_retry(token, ("192.0.2.2", 5000), b"retried", 11.0) is None
    assert maker.check_retry(token, address, b"another", 11.0) is None
    assert TokenMaker().check_retry(token, address, b"retried", 11.0) is None
    assert not maker.check_new(token, address, 11.0)


def test_a_new_token_is_for_an_address_not_a_port() -> None:
    maker = TokenMaker()
    token = maker.new(V4, 10.0)
    assert maker.check_new(token, (V4[0], 9), 10.0 + NEW_SECONDS)
    assert not maker.check_new(token, (V4[0], 9), 10.1 + NEW_SECONDS)
    assert not maker.check_new(token, ("192.0.2.2", V4[1]), 11.0)
    assert not maker.is_retry(token) and maker.check_retry(token, V4, b"", 11.0) is None


def test_ipv4_through_a_dual_stack_socket_is_the_same_address() -> None:
    maker = TokenMaker()
    assert maker.check_new(maker.new(("::ffff:192.0.2.1", 1), 1.0), V4, 2.0)
    assert (
        unpacked(packed_mapped("192.0.2.1")) == "192.0.2.1" and unpacked(packed_mapped("2001:db8::1")) == "2001:db8::1"
    )


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(1, 255))
def test_tokens_that_were_made_up_or_changed_are_worth_nothing(junk: bytes, at: int, flip: int) -> None:
    maker = TokenMaker()
    assert maker.check_retry(junk, V4, b"", 1.0) is None and not maker.check_new(junk, V4, 1.0)
    for token in (maker.retry(V4, b"o", b"r", 1.0), maker.new(V4, 1.0)):
        changed = bytearray(token)
        changed[at % len(token)] ^= flip
        assert maker.check_retry(bytes(changed), V4, b"r", 1.0) is None and not maker.check_new(bytes(changed), V4, 1.0)


def test_a_clients_tokens_stay_with_server_and_name_and_are_used_once() -> None:
    store = TokenStore(limit=2)
    store.put(V4, "a.sol", b"1")
    store.put(V4, "a.sol", b"2")
    assert store.take(V4, "b.sol") == b"" and store.take(V6, "a.sol") == b""
    assert store.take(V4, "a.sol") == b"2" and store.take(V4, "a.sol") == b""
    for port in range(5):
        store.put((V4[0], port), "a.sol", b"x")
    assert len(store) == 2
