"""The handshake cases of h3spec: a client made of aioquic that is made to misbehave, against the server end of ours.

The 1-RTT cases of that list are in test_threats.py, because there the C engine answers. h3spec accepts a generic code in place
of the right one; here the right one is asked for.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.tls import Epoch, ExtensionType

from afterburnerd.quic.accept import Accept
from afterburnerd.quic.cids import LocalCid
from afterburnerd.quic.front import Front, FrontSettings
from afterburnerd.quic.identity import Identity
from afterburnerd.quic.params import Params

from . import wire
from .aio import ALPN, CLIENT, SERVER

IDENTITY = Identity.generate()
MISSING_EXTENSION = wire.CRYPTO_ERROR + 109
NO_APPLICATION_PROTOCOL = wire.CRYPTO_ERROR + 120


class Client(QuicConnection):
    """aioquic's client, with a hand in its transport parameters and in its Handshake packets."""

    change_parameters: Callable[[bytes], bytes] | None = None

    def _serialize_transport_parameters(self) -> bytes:
        data = super()._serialize_transport_parameters()
        return self.change_parameters(data) if self.change_parameters else data

    def handshake_packet(self, payload: bytes, bits: int = 0) -> bytes:
        """A Handshake packet of these frames."""
        number, size = self._packet_number, 4
        self._packet_number += 1
        payload += bytes(max(0, 4 - len(payload)))
        header = bytes([0xE0 | bits | (size - 1)]) + (1).to_bytes(4, "big")
        header += bytes([len(self._peer_cid.cid)]) + self._peer_cid.cid + bytes([len(self.host_cid)]) + self.host_cid
        header += wire.varint(size + len(payload) + 16, 2) + number.to_bytes(size, "big")
        return bytes(self._cryptos[Epoch.HANDSHAKE].encrypt_packet(header, payload, number))


def configuration(alpn: str) -> QuicConfiguration:
    """With a certificate: a client of aioquic's that has none leaves a request for one without the answer that TLS wants."""
    return QuicConfiguration(
        alpn_protocols=[alpn], is_client=True, verify_mode=0, supported_versions=[1], certificate=IDENTITY.certificate,
        private_key=IDENTITY.key,
    )  # fmt: skip


class Meeting:
    """One handshake, datagram by datagram, without any network between."""

    def __init__(self, *, alpn: str = ALPN, change: Callable[[bytes], bytes] | None = None) -> None:
        self.now = 100.0
        self.client = Client(configuration=configuration(alpn))
        self.client.change_parameters = change
        self.client.connect(SERVER, self.now)
        self.server: Accept | None = None

    def to_server(self, data: bytes) -> None:
        self.now += 0.001
        if self.server is None:
            first = data[6 : 6 + data[5]]
            front = Front(
                FrontSettings(identity=IDENTITY, params=Params(), alpn=(ALPN,)),
                LocalCid(0, b"servers!", bytes(16)),
                is_client=False,
                original_dcid=first,
            )
            self.server = Accept(1, front, CLIENT, first, True, self.now + 60, self.now)
        self.server.receive(data, CLIENT, self.now)

    def first_flight(self) -> None:
        for data, _ in self.client.datagrams_to_send(self.now):
            self.to_server(data)

    def answer(self) -> tuple[int, bool] | None:
        """What the server says; the code that it closes with, and whether that is the application's."""
        assert self.server is not None
        for data in self.server.poll(self.now):
            self.client.receive_datagram(data, SERVER, self.now)
        close = self.client._close_event
        return None if close is None else (close.error_code, close.frame_type is None)

    def shaken_up_to_handshake_keys(self) -> None:
        self.first_flight()
        assert self.answer() is None
        assert self.client._cryptos[Epoch.HANDSHAKE].send.is_valid()


def without(identifier: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        c, out = wire.Cursor(data), b""
        while c.left():
            kind, body = c.varint(), b""
            body = c.take(c.varint())
            if kind != identifier:
                out += wire.varint(kind) + wire.varint(len(body)) + body
        return out

    return change


def adding(**values: int | bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        for name in values:
            data = without(wire.PARAMETERS[name])(data)
        return data + wire.parameters(**values)

    return change


PARAMETERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("initial_source_connection_id is missing", without(0x0F)),
    ("original_destination_connection_id is received", adding(original_destination_connection_id=b"DUMMY")),
    ("preferred_address is received", adding(preferred_address=bytes(25) + b"\x08" + bytes(24))),
    ("retry_source_connection_id is received", adding(retry_source_connection_id=b"DUMMY")),
    ("stateless_reset_token is received", adding(stateless_reset_token=bytes(16))),
    ("max_udp_payload_size < 1200", adding(max_udp_payload_size=1090)),
    ("ack_delay_exponent > 20", adding(ack_delay_exponent=30)),
    ("max_ack_delay >= 2^14", adding(max_ack_delay=1 << 15)),
]


@pytest.mark.parametrize("change", [c[1] for c in PARAMETERS], ids=[c[0] for c in PARAMETERS])
def test_wrong_transport_parameters_end_the_handshake(change: Callable[[bytes], bytes]) -> None:
    meeting = Meeting(change=change)
    meeting.first_flight()
    assert meeting.answer() == (wire.TRANSPORT_PARAMETER_ERROR, False)


@pytest.mark.parametrize(
    ("payload", "bits", "code"),
    [
        (wire.PING, 0x0C, wire.PROTOCOL_VIOLATION),
        (wire.path_challenge(b"01234567"), 0, wire.PROTOCOL_VIOLATION),
        (wire.crypto(0, b"\x18\x00\x00\x01\x01"), 0, wire.UNEXPECTED_MESSAGE),
        (wire.crypto(0, b"\x05\x00\x00\x00"), 0, wire.UNEXPECTED_MESSAGE),
    ],
    ids=["reserved bits in Handshake", "PATH_CHALLENGE in Handshake", "TLS KeyUpdate in Handshake", "EndOfEarlyData"],
)
def test_a_wrong_handshake_packet_ends_the_handshake(payload: bytes, bits: int, code: int) -> None:
    meeting = Meeting()
    meeting.shaken_up_to_handshake_keys()
    meeting.to_server(meeting.client.handshake_packet(payload, bits))
    assert meeting.answer() == (code, False)


def test_no_common_application_protocol() -> None:
    meeting = Meeting(alpn="dummy")
    meeting.first_flight()
    assert meeting.answer() == (NO_APPLICATION_PROTOCOL, False)


@pytest.mark.parametrize("other", [None, 0xFFA5], ids=["left out", "under the number of the drafts"])
def test_the_extension_of_transport_parameters_is_missing(other: int | None) -> None:
    meeting = Meeting()
    meeting.client = Client(configuration=configuration(ALPN))
    # the ClientHello is made by `connect`, from what `_initialize` put there
    initialize = meeting.client._initialize

    def strip(peer_cid: bytes) -> None:
        initialize(peer_cid)
        extensions = meeting.client.tls.handshake_extensions
        kept = [(other, data) for kind, data in extensions if other and kind == ExtensionType.QUIC_TRANSPORT_PARAMETERS]
        meeting.client.tls.handshake_extensions = kept

    meeting.client._initialize = strip  # type: ignore[method-assign]
    meeting.client.connect(SERVER, meeting.now)
    meeting.first_flight()
    assert meeting.answer() == (MISSING_EXTENSION, False)


def test_an_honest_client_is_let_in() -> None:
    """The toolbox itself: without any change the handshake completes, in the two flights that it takes.

    aioquic's second one is one datagram of three packets, whose Initial is valid only for the padding in the 1-RTT packet.
    """
    meeting = Meeting()
    for _ in range(2):
        meeting.first_flight()
        assert meeting.answer() is None
    assert meeting.server is not None and meeting.server.front is not None and meeting.server.front.complete
