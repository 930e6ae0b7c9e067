"""Two aioquic connections in memory, and what they tell each other: each 1-RTT payload, with the frames aioquic sees in it."""

from __future__ import annotations

import datetime
import ssl
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import NetworkAddress, QuicConnection, QuicReceiveContext
from aioquic.tls import Epoch
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

Payload = tuple[int, bytes, list[tuple[int, int]]]  # role of the receiver (1 server), bytes, frames: type, size


def certificate() -> tuple[x509.Certificate, Ed25519PrivateKey]:
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start.replace(year=2100))
    return builder.sign(key, None), key


class Pair:
    ADDRESSES: tuple[NetworkAddress, NetworkAddress] = (("192.0.2.1", 1111), ("192.0.2.2", 4433))

    def __init__(self) -> None:
        chain, key = certificate()
        common: dict[str, Any] = {"alpn_protocols": ["t"], "max_datagram_frame_size": 1200, "max_data": 200_000}
        common["max_stream_data"] = 20_000
        client = QuicConfiguration(is_client=True, verify_mode=ssl.CERT_NONE, server_name="test", **common)
        server = QuicConfiguration(is_client=False, certificate=chain, private_key=key, **common)
        # Handlers of tickets, so that the server sends some.
        self.client = QuicConnection(configuration=client, session_ticket_handler=lambda ticket: None)
        self.now = 0.0
        self.payloads: list[Payload] = []
        self.client.connect(self.ADDRESSES[1], now=self.now)
        self.server = QuicConnection(
            configuration=server,
            original_destination_connection_id=self.client.original_destination_connection_id,
            session_ticket_handler=lambda ticket: None,
        )
        for connection in (self.client, self.server):
            self._watch(connection)

    def _watch(self, connection: QuicConnection) -> None:
        """Notes each 1-RTT payload and, of each frame, what its handler took."""
        role = int(connection is self.server)
        frames: list[tuple[int, int]] = []
        handlers = connection._QuicConnection__frame_handlers  # type: ignore[attr-defined]
        receive = connection._payload_received

        def watched(handler: Any) -> Any:
            def handle(context: QuicReceiveContext, frame_type: int, buffer: Any) -> None:
                begin = buffer.tell() - 1
                try:
                    handler(context, frame_type, buffer)
                finally:
                    frames.append((frame_type, buffer.tell() - begin))

            return handle

        def received(context: QuicReceiveContext, plain: bytes, **options: Any) -> Any:
            frames.clear()
            answer = receive(context, plain, **options)
            if context.epoch == Epoch.ONE_RTT:
                self.payloads.append((role, bytes(plain), list(frames)))
            return answer

        for number, (handler, epochs) in list(handlers.items()):
            handlers[number] = (watched(handler), epochs)
        connection._payload_received = received  # type: ignore[method-assign]

    def exchange(self, times: int = 30) -> None:
        ends = (self.client, self.server)
        for _ in range(times):
            for i, (sender, receiver) in enumerate((ends, ends[::-1])):
                for data, _ in sender.datagrams_to_send(now=self.now):
                    receiver.receive_datagram(data, self.ADDRESSES[i], now=self.now)
            self.now += 0.01

    def talk(self) -> list[Payload]:
        """A bit of everything that aioquic can do."""
        client, server = self.client, self.server
        self.exchange()
        for i in range(100):
            stream = client.get_next_available_stream_id(is_unidirectional=True)
            client.send_stream_data(stream, bytes(20 * i), end_stream=True)
        both = client.get_next_available_stream_id()
        client.send_stream_data(both, bytes(100_000))
        self.exchange()
        server.send_stream_data(both, b"answer")
        for connection in (client, server):
            connection.send_ping(1)
            connection.send_datagram_frame(b"datagram" * 20)
        self.exchange()
        client.change_connection_id()
        client.request_key_update()
        self.exchange()
        other = client.get_next_available_stream_id()
        client.send_stream_data(other, b"x" * 5000)
        self.exchange()
        client.reset_stream(other, 7)
        server.stop_stream(both, 8)
        self.exchange()
        # Rebinding: the server challenges the path.
        self.ADDRESSES = (("192.0.2.1", 2222), self.ADDRESSES[1])
        client.send_ping(2)
        self.exchange()
        server.close(error_code=5, reason_phrase="enough")
        self.exchange(2)
        return self.payloads
