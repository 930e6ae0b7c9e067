"""Transport parameters, read back by aioquic."""

from __future__ import annotations

import pytest
from aioquic._buffer import Buffer
from aioquic.quic.packet import pull_quic_transport_parameters

from afterburnerd.quic.front import parameter_ids
from afterburnerd.quic.params import DATAGRAM_MOST, Params, datagram_max


def test_a_server_says_what_is_a_servers_to_say() -> None:
    data = Params().encode(
        initial_scid=b"12345678", original_dcid=b"original", retry_scid=b"retry", reset_token=bytes(16)
    )
    read = pull_quic_transport_parameters(Buffer(data=data))
    assert read.original_destination_connection_id == b"original" and read.retry_source_connection_id == b"retry"
    assert read.stateless_reset_token == bytes(16) and read.initial_source_connection_id == b"12345678"
    assert not read.disable_active_migration


def test_nothing_stands_there_twice_and_grease_is_grease() -> None:
    for _ in range(50):
        ids = parameter_ids(Params().encode(initial_scid=b""))
        assert len(ids) == len(set(ids))
        strange = [number for number in ids if number > 0x20]
        assert len(strange) == 1 and strange[0] % 31 == 27
    assert max(parameter_ids(Params(grease=False).encode(initial_scid=b""))) == 0x20


def test_it_fits_what_the_adoption_has_room_for() -> None:
    from afterburnerd.abi.layout import QUIC_TPARAMS

    longest = Params(max_data=1 << 61, max_streams_uni=1 << 60).encode(
        initial_scid=bytes(20), original_dcid=bytes(20), retry_scid=bytes(20), reset_token=bytes(16)
    )
    assert len(longest) < QUIC_TPARAMS


@pytest.mark.parametrize(
    ("frame", "most"),
    [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 1),
        (65, 63),
        (66, 63),
        (67, 64),
        (1000, 997),
        (1158, 1155),
        (1159, 1155),
        (65_535, 1155),
    ],
)
def test_what_a_datagram_may_have(frame: int, most: int) -> None:
    """Type, length (two bytes of it from 64 on) and data are at most what the peer says, and a packet of every path."""
    assert datagram_max(frame) == most <= DATAGRAM_MOST
