"""Transport parameters are judged by every rule of RFC 9000 18.2 and 7.4, and read as aioquic writes them."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.packet import (
    QuicPreferredAddress,
    QuicTransportParameters,
    pull_quic_transport_parameters,
    push_quic_transport_parameters,
)

from tests.sim.wire import MAX_VARINT, PARAMETERS, TRANSPORT_PARAMETER_ERROR, parameters, varint

from .quic_leaves import NONE, Bytes, load

lib = load()

NUMBERS = [
    "max_idle_timeout",
    "max_udp_payload_size",
    "initial_max_data",
    "initial_max_stream_data_bidi_local",
    "initial_max_stream_data_bidi_remote",
    "initial_max_stream_data_uni",
    "initial_max_streams_bidi",
    "initial_max_streams_uni",
    "active_connection_id_limit",
    "max_datagram_frame_size",
    "max_ack_delay",
    "ack_delay_exponent",
]
DEFAULTS = dict.fromkeys(NUMBERS, 0) | {
    "max_udp_payload_size": 65527,
    "active_connection_id_limit": 2,
    "max_ack_delay": 25,
    "ack_delay_exponent": 3,
}
SOURCE = b"\x01" * 8
ORIGINAL = b"\x02" * 8
SERVER = {"initial_source_connection_id": SOURCE, "original_destination_connection_id": ORIGINAL}
CLIENT = {"initial_source_connection_id": SOURCE}


def words(numbers: list[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def shown(made: int) -> dict[str, Any]:
    n = lib.numbers(lib.tparams_show, made)
    said: dict[str, Any] = dict(zip(NUMBERS, n[:12], strict=True))
    said["disable_active_migration"] = bool(n[12])
    at = 13
    for name in ("original_destination", "initial_source", "retry_source"):
        said[f"{name}_connection_id"] = None if n[at] == NONE else words(n[at + 1 : at + 4])[: n[at]]
        at += 4
    said["stateless_reset_token"] = words(n[at + 1 : at + 3]) if n[at] else None
    at += 3
    said["preferred_address"] = None
    if n[at]:
        cid = words(n[at + 7 : at + 10])[: n[at + 6]]
        v4, v6 = words(n[at + 1 : at + 2])[:4], words(n[at + 2 : at + 4])
        said["preferred_address"] = (v4, n[at + 4], v6, n[at + 5], cid, words(n[at + 10 : at + 12]))
    return said


def parse(body: bytes, from_server: bool) -> dict[str, Any] | str:
    """What was read, or why it was refused."""
    made, data, why = lib.tparams_new(), Bytes(body), Bytes(128)
    code = lib.tparams_parse(made, data.at, len(body), from_server, why.at)
    text = why.get(128).split(b"\0")[0].decode()
    assert code in (0, TRANSPORT_PARAMETER_ERROR) and bool(code) == bool(text)
    said = shown(made)
    lib.free(made)
    return text if code else said


def server(**values: Any) -> dict[str, Any] | str:
    return parse(parameters(**SERVER, **values), True)


def test_what_is_not_said_has_its_default() -> None:
    said = parse(parameters(**CLIENT), False)
    assert isinstance(said, dict)
    assert {name: said[name] for name in NUMBERS} == DEFAULTS
    assert said["initial_source_connection_id"] == SOURCE
    assert [said[name] for name in ("stateless_reset_token", "preferred_address", "retry_source_connection_id")] == [
        None
    ] * 3
    assert said["disable_active_migration"] is False


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("max_udp_payload_size", 1199, False),
        ("max_udp_payload_size", 1200, True),
        ("ack_delay_exponent", 20, True),
        ("ack_delay_exponent", 21, False),
        ("ack_delay_exponent", 256 + 3, False),
        ("max_ack_delay", (1 << 14) - 1, True),
        ("max_ack_delay", 1 << 14, False),
        ("max_ack_delay", 1 << 16, False),
        ("initial_max_streams_bidi", 1 << 60, True),
        ("initial_max_streams_bidi", (1 << 60) + 1, False),
        ("initial_max_streams_uni", 1 << 60, True),
        ("initial_max_streams_uni", (1 << 60) + 1, False),
        ("active_connection_id_limit", 1, False),
        ("active_connection_id_limit", 0, False),
        ("active_connection_id_limit", 2, True),
        ("max_idle_timeout", MAX_VARINT, True),
        ("initial_max_data", MAX_VARINT, True),
        ("max_datagram_frame_size", MAX_VARINT, True),
        ("stateless_reset_token", bytes(15), False),
        ("stateless_reset_token", bytes(16), True),
        ("stateless_reset_token", bytes(17), False),
        ("retry_source_connection_id", bytes(20), True),
        ("retry_source_connection_id", bytes(21), False),
        ("retry_source_connection_id", b"", True),
        ("disable_active_migration", True, True),
        ("disable_active_migration", b"\0", False),
        ("preferred_address", bytes(24) + b"\x01c" + bytes(16), True),
        ("preferred_address", bytes(24) + b"\x14" + bytes(20) + bytes(16), True),
        ("preferred_address", bytes(24) + b"\x00" + bytes(16), False),  # a connection ID of no bytes
        ("preferred_address", bytes(24) + b"\x15" + bytes(21) + bytes(16), False),
        ("preferred_address", bytes(24) + b"\x01c" + bytes(15), False),
        ("preferred_address", bytes(24) + b"\x01c" + bytes(17), False),
        ("preferred_address", bytes(24), False),
        ("preferred_address", b"", False),
        ("initial_max_data", b"", False),  # no number
        ("initial_max_data", b"\x40", False),  # half of one
        ("initial_max_data", b"\x01\x00", False),  # something behind it
    ],
)
def test_ranges_and_lengths(name: str, value: Any, right: bool) -> None:
    said = server(**{name: value})
    if not right:
        assert isinstance(said, str)
    else:
        assert isinstance(said, dict)
        if name != "preferred_address":
            assert said[name] == value


def test_a_payload_beyond_what_udp_can_carry_is_no_limit() -> None:
    said = server(max_udp_payload_size=MAX_VARINT)
    assert isinstance(said, dict) and said["max_udp_payload_size"] == 65527


SERVERS = {
    "original_destination_connection_id": ORIGINAL,
    "stateless_reset_token": bytes(16),
    "preferred_address": bytes(24) + b"\x01c" + bytes(16),
    "retry_source_connection_id": SOURCE,
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_client_may_not_send_what_is_a_servers(name: str) -> None:
    assert parse(parameters(**CLIENT, **{name: SERVERS[name]}), False) == "a client sent a parameter of a server"


def test_connection_ids_must_be_there() -> None:
    assert "initial_source_connection_id" in str(parse(b"", False))
    assert "initial_source_connection_id" in str(parse(parameters(original_destination_connection_id=b""), True))
    assert "original_destination_connection_id" in str(parse(parameters(**CLIENT), True))
    assert isinstance(parse(parameters(initial_source_connection_id=b""), False), dict)  # empty is there


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_nothing_may_be_sent_twice(name: str) -> None:
    value: Any = {**SERVERS, **SERVER, "disable_active_migration": True}.get(name, 1300 if "payload" in name else 2)
    twice = parameters(**{name: value})
    body = parameters(**{key: other for key, other in SERVER.items() if key != name})
    assert isinstance(parse(body + twice, True), dict)
    assert "twice" in str(parse(body + twice + twice, True))


def test_unknown_parameters_are_skipped_but_not_twice(seed: int) -> None:
    rng = random.Random(seed)
    unknown = [31 * n + 27 for n in range(20)]  # RFC 9000 18.1: reserved, to exercise this
    unknown += [0x11, 0x1F, 0x21, 0x2AB2, 0xFF04DE1B, MAX_VARINT]
    rng.shuffle(unknown)
    body = b"".join(varint(number) + varint(3) + rng.randbytes(3) for number in unknown)
    said = parse(body + parameters(**CLIENT), False)
    assert isinstance(said, dict) and {name: said[name] for name in NUMBERS} == DEFAULTS
    again = varint(rng.choice(unknown)) + varint(0)
    assert "twice" in str(parse(body + parameters(**CLIENT) + again, False))


def test_a_body_that_is_cut_is_refused() -> None:
    body = parameters(
        **SERVER, initial_max_data=1 << 20, preferred_address=SERVERS["preferred_address"], ack_delay_exponent=4
    )
    ends = set()
    for length in range(len(body)):
        said = parse(body[:length], True)
        if isinstance(said, dict):
            ends.add(length)
    # Only where a parameter ends; and never before both connection IDs were there.
    assert ends == {20, 20 + 6, 20 + 6 + 44}


def random_parameters(rng: random.Random, from_server: bool) -> QuicTransportParameters:
    def maybe(value: Any) -> Any:
        return value if rng.random() < 0.7 else None

    t = QuicTransportParameters(
        initial_source_connection_id=rng.randbytes(rng.randint(0, 20)),
        max_udp_payload_size=maybe(rng.randint(1200, 65527)),
        ack_delay_exponent=maybe(rng.randint(0, 20)),
        max_ack_delay=maybe(rng.randint(0, (1 << 14) - 1)),
        active_connection_id_limit=maybe(rng.randint(2, 1000)),
        initial_max_streams_bidi=maybe(rng.getrandbits(60)),
        initial_max_streams_uni=maybe(rng.getrandbits(rng.randint(1, 60))),
        disable_active_migration=rng.random() < 0.5,
    )
    for name in NUMBERS:
        if getattr(t, name) is None and name not in ("max_udp_payload_size", "ack_delay_exponent", "max_ack_delay"):
            setattr(t, name, maybe(rng.getrandbits(rng.randint(2, 60)) | 2))
    if from_server:
        t.original_destination_connection_id = rng.randbytes(rng.randint(0, 20))
        t.retry_source_connection_id = maybe(rng.randbytes(rng.randint(0, 20)))
        t.stateless_reset_token = maybe(rng.randbytes(16))
        t.preferred_address = maybe(
            QuicPreferredAddress(
                ("192.0.2.7", 4433), ("2001:db8::7", 4434), rng.randbytes(rng.randint(1, 20)), rng.randbytes(16)
            )
        )
    return t


def test_what_aioquic_writes_is_read_and_what_we_write_is_read_by_aioquic(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        from_server = rng.random() < 0.5
        theirs = random_parameters(rng, from_server)
        buffer = Buffer(capacity=4096)
        push_quic_transport_parameters(buffer, theirs)
        body = buffer.data
        made, data, why = lib.tparams_new(), Bytes(body), Bytes(128)
        assert lib.tparams_parse(made, data.at, len(body), from_server, why.at) == 0, why.get(128)
        said = shown(made)
        for name in NUMBERS:
            expected = getattr(theirs, name)
            assert said[name] == (DEFAULTS[name] if expected is None else expected), name
        for name in (*SERVERS, "initial_source_connection_id"):
            if name != "preferred_address":
                assert said[name] == getattr(theirs, name), name
        assert said["disable_active_migration"] == theirs.disable_active_migration
        if address := theirs.preferred_address:
            v4, v6 = bytes([192, 0, 2, 7]), bytes.fromhex("20010db8000000000000000000000007")
            cid, token = address.connection_id, address.stateless_reset_token
            assert said["preferred_address"] == (v4, 4433, v6, 4434, cid, token)

        out = Bytes(1024)
        length = lib.tparams_write(made, from_server, out.at, 1024)
        again = pull_quic_transport_parameters(Buffer(data=out.get(length)))
        for name in NUMBERS:
            expected, told = getattr(theirs, name), getattr(again, name)
            assert (DEFAULTS[name] if told is None else told) == (DEFAULTS[name] if expected is None else expected)
        for name in (*SERVERS, "initial_source_connection_id", "disable_active_migration"):
            assert getattr(again, name) == getattr(theirs, name)
        for room in (0, 1, length // 2, length - 1):
            assert lib.tparams_write(made, from_server, out.at, room) == NONE
        lib.free(made)
