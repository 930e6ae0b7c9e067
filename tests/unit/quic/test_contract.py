"""What we rely on in aioquic's private parts. A newer version that differs fails here, by name, before it fails elsewhere."""

from __future__ import annotations

import importlib.metadata
import inspect
import tomllib
from pathlib import Path

import pytest
from aioquic import tls
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import END_STATES, MAX_EARLY_DATA, QuicConnection, QuicConnectionId, QuicConnectionState
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.stream import QuicStream

from afterburnerd.quic.front import Front
from afterburnerd.quic.hello import Hello

VERSION = "1.7.2"
ROOT = Path(__file__).resolve().parents[3]

CONNECTION_METHODS = {
    "_update_traffic_key": ["self", "direction", "epoch", "cipher_suite", "secret"],
    "_serialize_transport_parameters": ["self"],
    "_parse_transport_parameters": ["self", "data", "from_session_ticket"],
    "_replenish_connection_ids": ["self"],
    "_handle_ack_frame": ["self", "context", "frame_type", "buf"],
    "_initialize": ["self", "peer_cid"],
    "_receive_version_negotiation_packet": ["self", "header", "now"],
    "_confirm_handshake": ["self"],
    "datagrams_to_send": ["self", "now"],
    "receive_datagram": ["self", "data", "addr", "now"],
}
CONNECTION_FIELDS = [
    "_close_at",
    "_close_event",
    "_cryptos",
    "_crypto_streams",
    "_handshake_complete",
    "_handshake_confirmed",
    "_host_cids",
    "_is_client",
    "_local_initial_source_connection_id",
    "_network_paths",
    "_original_destination_connection_id",
    "_packet_number",
    "_peer_cid",
    "_peer_cid_available",
    "_remote_initial_source_connection_id",
    "_remote_max_datagram_frame_size",
    "_retry_source_connection_id",
    "_spaces",
    "_state",
    "host_cid",
]
CONTEXT_FIELDS = [
    "_cipher_suites",
    "_dec_key",
    "_enc_key",
    "_is_client",
    "_max_early_data",
    "_peer_certificate",
    "_request_client_certificate",
    "_session_resumed",
    "_signature_algorithms",
    "_supported_groups",
    "alpn_negotiated",
    "early_data_accepted",
    "key_schedule",
    "received_extensions",
]


def test_the_version_is_the_one_that_was_read() -> None:
    assert importlib.metadata.version("aioquic") == VERSION
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"aioquic=={VERSION}" in project["dependencies"]


@pytest.mark.parametrize("name", CONNECTION_METHODS)
def test_a_method_that_is_overridden_is_there_with_its_arguments(name: str) -> None:
    method = getattr(QuicConnection, name)
    assert list(inspect.signature(method).parameters) == CONNECTION_METHODS[name]


@pytest.mark.parametrize("name", ["_client_handle_certificate_verify", "_server_handle_finished"])
def test_a_step_of_tls_is_there(name: str) -> None:
    assert callable(getattr(tls.Context, name))


def plain() -> QuicConnection:
    connection = QuicConnection(configuration=QuicConfiguration(is_client=True, server_name="x", verify_mode=0))
    connection.connect(("192.0.2.1", 1), 0.0)
    return connection


def test_the_fields_that_are_read_or_written_are_there() -> None:
    connection = plain()
    assert [name for name in CONNECTION_FIELDS if not hasattr(connection, name)] == []
    assert [name for name in CONTEXT_FIELDS if not hasattr(connection.tls, name)] == []
    assert {"cid", "sequence_number", "stateless_reset_token", "was_sent"} == set(QuicConnectionId.__dataclass_fields__)


def test_traffic_secrets_come_through_the_callback_and_nowhere_else() -> None:
    """TLS calls what `update_traffic_key_cb` says; connection._initialize points it at the method that is overridden."""
    connection = plain()
    assert connection.tls.update_traffic_key_cb == connection._update_traffic_key
    source = inspect.getsource(QuicConnection)
    installs = [line for line in source.splitlines() if ".send.setup(" in line or ".recv.setup(" in line]
    assert len(installs) == 2, "secrets are installed somewhere else as well"
    method = inspect.getsource(QuicConnection._update_traffic_key)
    assert all(line in method for line in installs)


def test_without_a_1rtt_key_nothing_of_1rtt_is_written() -> None:
    source = inspect.getsource(QuicConnection._write_application)
    assert "if self._cryptos[tls.Epoch.ONE_RTT].send.is_valid():" in source
    assert source.index(".is_valid()") < source.index("start_packet")
    assert not CryptoPair().send.is_valid()


def test_there_is_one_counter_of_packet_numbers() -> None:
    assert "packet_number=self._packet_number" in inspect.getsource(QuicConnection.datagrams_to_send)


def test_a_senders_buffer_begins_at_what_was_not_acknowledged() -> None:
    stream = QuicStream()
    stream.sender.write(b"abc")
    assert stream.sender._buffer_start == 0 and bytes(stream.sender._buffer) == b"abc"


def test_a_context_can_become_one_of_ours() -> None:
    connection = plain()
    context = connection.tls
    hello = Hello.adapt(context, is_client=True, ask_certificate=False)
    assert hello is context and not hello.early_data_accepted and not hello._request_client_certificate
    hello.early_data_accepted = True
    assert hello.early_data_accepted


def test_reasons_by_which_ends_are_told_apart() -> None:
    source = inspect.getsource(QuicConnection)
    assert 'reason_phrase="Idle timeout"' in source
    assert 'reason_phrase="Could not find a common protocol version"' in source
    assert QuicConnectionState.DRAINING in END_STATES and MAX_EARLY_DATA == 0xFFFFFFFF


def test_front_overrides_what_it_thinks_it_overrides() -> None:
    for name in CONNECTION_METHODS:
        if name not in ("_confirm_handshake", "receive_datagram"):
            assert name in vars(Front), name
