"""What an engine is opened with: the configuration's word, and what no configuration may leave out."""

from __future__ import annotations

import pytest

from afterburnerd.abi import orders
from afterburnerd.config import Quic
from afterburnerd.supervisor.crossing import Crossings
from afterburnerd.supervisor.seat import Seat


def order(**settings: object) -> orders.OpenEngine:
    seat = Seat("abtest-seat", 0, Quic(**settings), lambda seat, up: None, lambda: None, Crossings())  # type: ignore[arg-type]
    return seat.order()


def test_packet_numbers_are_left_out() -> None:
    """Else a peer that acknowledges what it never got opens our window as wide as it likes (RFC 9000 21.4)."""
    assert 0 < order().skip_packets <= 10_000
    assert order().settings()["skip_packets"] == order().skip_packets


@pytest.mark.parametrize("wanted", [True, False])
def test_packets_are_marked_where_that_is_wanted(wanted: bool) -> None:
    assert order(ecn=wanted).ecn is wanted
    assert Quic().ecn
