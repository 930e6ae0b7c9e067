"""The front of a connection: aioquic's handshake, without its 1-RTT keys.

    datagrams with long headers ─► aioquic ─► datagrams with long headers
                                      │
       both 1-RTT secrets, both transport-parameter extensions, the next packet number, the server's tickets:
       caught where they arise, handed to the engine by export.py

One encryptor per key holds by structure: `_update_traffic_key` is where TLS hands over the 1-RTT secrets, and they are not
installed but kept. aioquic then has no 1-RTT key to build a packet with, so HANDSHAKE_DONE, NEW_CONNECTION_ID and session
tickets stay unsent in its state, and belong to the engine. 1-RTT packets of the peer are not shown to it (wire.split). Only the
last packet of a connection that no engine was ever given is sealed here (`close_unexported`).

This file and hello.py know what is private to aioquic, whose version is pinned for that reason. What they rely on is listed
in tests/unit/quic/test_contract.py, which fails loudly where another version differs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    END_STATES,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionId,
    QuicConnectionState,
    QuicReceiveContext,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicHeader, pull_quic_transport_parameters
from aioquic.tls import CipherSuite, Direction, Epoch, SessionTicket

from .cids import LocalCid, PeerCid
from .hello import CIPHER_SUITES, Hello
from .identity import Identity, PeerIdentity
from .params import Params
from .wire import CID_LENGTH, INITIAL_MIN, VERSION_1

# aioquic's logger speaks of what a stranger's packet did; failures reach us as events. It names no secrets, and must not
# fill a journal at a peer's will.
logging.getLogger("quic").setLevel(logging.CRITICAL + 1)

INITIAL_RTT = (
    0.1  # seconds, until there is a sample: the first repetition after 300 ms (RFC 9002 6.2.2 allows what is known)
)
# Limits that a server must not lower where it accepts 0-RTT (RFC 9000 7.4.1).
REMEMBERED = (
    "active_connection_id_limit",
    "initial_max_data",
    "initial_max_stream_data_bidi_local",
    "initial_max_stream_data_bidi_remote",
    "initial_max_stream_data_uni",
    "initial_max_streams_bidi",
    "initial_max_streams_uni",
    "max_datagram_frame_size",
)


class Secrets(msgspec.Struct):
    """Generation 0 of the 1-RTT keys; wiped once the engine has them. Never printed."""

    suite: CipherSuite
    send: bytes = b""
    receive: bytes = b""

    def __repr__(self) -> str:
        return f"<Secrets of {self.suite.name}>"

    def complete(self) -> bool:
        return bool(self.send and self.receive)


class SecretLines:
    """What aioquic takes for the file of a key log."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.write = tell

    def flush(self) -> None:
        """Nothing waits."""


class Ended(msgspec.Struct, frozen=True):
    code: int  # transport error, or the application's where frame_type is None
    frame_type: int | None
    reason: str
    by_peer: bool
    idle: bool = False  # nothing came for the idle timeout
    no_version: bool = False  # Version Negotiation without version 1


class FrontSettings(msgspec.Struct, frozen=True):
    """What all connections of an endpoint have in common."""

    identity: Identity
    params: Params = Params()
    alpn: tuple[str, ...] = ("solana-tpu",)
    cipher_suites: tuple[CipherSuite, ...] = tuple(CIPHER_SUITES)
    ask_certificate: bool = True  # server: from clients, as validators do (none is no failure)
    datagram_size: int = INITIAL_MIN  # bytes of our handshake datagrams: fits every path
    tell_secrets: Callable[[str], None] | None = None  # for a key log: lines with the handshake's secrets
    first_version: int = VERSION_1  # client: what it begins with; another one makes a server negotiate
    clock: Callable[[], float] | None = None  # for figures alone: when exactly a handshake was complete


class Front(QuicConnection):
    """One handshake. Sans-I/O as its parent: `receive_datagram`, `datagrams_to_send`, `get_timer`, `handle_timer`."""

    def __init__(
        self,
        settings: FrontSettings,
        cid: LocalCid,
        *,
        is_client: bool,
        server_name: str = "",
        pin: bytes = b"",
        ticket: SessionTicket | None = None,
        token: bytes = b"",
        original_dcid: bytes | None = None,
        retry_scid: bytes | None = None,
        fetch_ticket: Callable[[bytes], SessionTicket | None] | None = None,
        keep_ticket: Callable[[SessionTicket], None] | None = None,
    ) -> None:
        self.settings = settings
        self.pin = pin  # client: the only key that the server may have
        self.secrets: Secrets | None = None
        self.local_params = b""
        self.remote_params = b""
        self.remembered: bytes = b""  # the server's transport parameters that came with the ticket
        self.early_packets: set[int] = set()  # numbers of the 0-RTT packets that were sent
        self.resumed_from = b""  # the peer's key as it was proven when the ticket was earned; a resumption proves none
        self.rtt: float | None = None  # seconds, smallest sample; not clamped at 1 ms as aioquic's is
        self.offered: tuple[int, ...] | None = (
            None  # client: versions that the server negotiates for; None: it need not
        )
        self.complete_at: float | None = None  # by the settings' clock
        super().__init__(
            configuration=QuicConfiguration(
                alpn_protocols=list(settings.alpn),
                certificate=settings.identity.certificate,
                cipher_suites=list(settings.cipher_suites),
                connection_id_length=CID_LENGTH,
                idle_timeout=settings.params.max_idle_timeout_ms / 1000 or 3600.0,
                initial_rtt=INITIAL_RTT,
                is_client=is_client,
                max_datagram_frame_size=settings.params.max_datagram_frame_size or None,
                max_datagram_size=settings.datagram_size,
                private_key=settings.identity.key,
                secrets_log_file=SecretLines(settings.tell_secrets) if settings.tell_secrets else None,  # type: ignore[arg-type]
                server_name=server_name or None,
                session_ticket=ticket,
                original_version=settings.first_version,
                supported_versions=[VERSION_1, *{settings.first_version} - {VERSION_1}],
                token=token,
                verify_mode=0,  # ssl.CERT_NONE: no names or issuers; CertificateVerify is checked all the same
            ),
            original_destination_connection_id=original_dcid,
            retry_source_connection_id=retry_scid,
            session_ticket_fetcher=fetch_ticket,
            session_ticket_handler=keep_ticket,
        )
        self.cid = cid
        self._host_cids = [
            QuicConnectionId(
                cid=cid.cid,
                sequence_number=cid.seq,
                stateless_reset_token=cid.token,
                was_sent=True,
            )
        ]
        self.host_cid = cid.cid
        self._local_initial_source_connection_id = cid.cid

    # --- what is seen from outside ---

    @property
    def is_client(self) -> bool:
        return self._is_client

    @property
    def complete(self) -> bool:
        """TLS is through on our side: everything that the engine needs is here."""
        return self._handshake_complete

    @property
    def started(self) -> bool:
        """A server's: an Initial could be opened, so this is a connection and not noise."""
        return bool(self._spaces) and self._remote_initial_source_connection_id is not None

    @property
    def finished(self) -> bool:
        """Nothing will be sent or understood any more."""
        return self._state in END_STATES

    @property
    def hello(self) -> Hello:
        assert isinstance(self.tls, Hello)
        return self.tls

    @property
    def peer(self) -> PeerIdentity:
        """The key that the peer proved, now or when it earned the ticket."""
        return PeerIdentity(self.resumed_from) if self.hello.session_resumed else self.hello.peer()

    @property
    def ended(self) -> Ended | None:
        """How the handshake failed, from the moment it is known."""
        close = self._close_event
        if close is None:
            return None
        by_peer = self._state == QuicConnectionState.DRAINING
        return Ended(
            close.error_code,
            close.frame_type,
            close.reason_phrase,
            by_peer,
            idle=not by_peer and close.reason_phrase == "Idle timeout",
            no_version=not by_peer and close.reason_phrase == "Could not find a common protocol version",
        )

    @property
    def suite(self) -> CipherSuite:
        assert self.secrets is not None
        return self.secrets.suite

    @property
    def next_packet_number(self) -> int:
        """The lowest number that was never used: aioquic has one counter for all spaces."""
        return self._packet_number

    @property
    def peer_datagram_frame(self) -> int:
        """Bytes of the longest DATAGRAM frame that the peer takes; 0: none."""
        return self._remote_max_datagram_frame_size or 0

    @property
    def original_dcid(self) -> bytes:
        return self._original_destination_connection_id

    def validate_path(self) -> None:
        """A server's: the client's address is proven by a token, so no limit of three times holds (RFC 9000 8.1.2)."""
        for path in self._network_paths:
            path.is_validated = True

    def peer_cids(self) -> list[PeerCid]:
        """Connection IDs of the peer's; the first is the one in use."""
        known = [self._peer_cid, *self._peer_cid_available]
        return [PeerCid(c.sequence_number or 0, bytes(c.cid), bytes(c.stateless_reset_token or b"")) for c in known]

    def pending_crypto(self) -> bytes:
        """1-RTT CRYPTO bytes from offset 0, none of which was ever sent: a server's session tickets."""
        sender = self._crypto_streams[Epoch.ONE_RTT].sender
        assert sender._buffer_start == 0
        return bytes(sender._buffer)

    def idle_deadline(self) -> float | None:
        return self._close_at

    def early_ranges(self) -> list[tuple[int, int]]:
        """The 0-RTT packets that were sent, as ranges, both ends inclusive."""
        ranges: list[tuple[int, int]] = []
        for number in sorted(self.early_packets):
            if ranges and ranges[-1][1] == number - 1:
                ranges[-1] = (ranges[-1][0], number)
            else:
                ranges.append((number, number))
        return ranges

    def confirm(self) -> None:
        """Client: HANDSHAKE_DONE has come to the engine, so Initial and Handshake keys go (RFC 9001 4.9.2)."""
        if not self._handshake_confirmed and self._handshake_complete:
            self._confirm_handshake()

    def close_unexported(self, code: int, reason: str) -> None:
        """CONNECTION_CLOSE, in all packets that the peer may be able to open: after a complete handshake that is a 1-RTT packet,
        for a server confirms with its completion and has no other key then. Whose secrets were exported has none here."""
        if self.complete and self.secrets is not None and self.secrets.complete():
            self._cryptos[Epoch.ONE_RTT].send.setup(
                cipher_suite=self.secrets.suite, secret=self.secrets.send, version=VERSION_1
            )
        self.close(code, 0, reason)

    def wipe(self) -> None:
        """Forgets the 1-RTT secrets: the engine has them."""
        self.secrets = None
        if hasattr(self, "tls"):
            self.tls._enc_key = None
            self.tls._dec_key = None
            self.tls.key_schedule = None

    def dismantle(self) -> None:
        """Takes it apart, for good. aioquic's objects refer to one another in circles, 90 KiB of them: left to the garbage
        collector they would be kept until it has looked at everything that lives, which stops the daemon for longer than an
        adoption may take."""
        self.wipe()
        self.__dict__.clear()

    # --- where aioquic would do otherwise ---

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        Hello.adapt(self.tls, is_client=self._is_client, ask_certificate=self.settings.ask_certificate, pin=self.pin)

    def _update_traffic_key(self, direction: Direction, epoch: Epoch, cipher_suite: CipherSuite, secret: bytes) -> None:
        if epoch == Epoch.ZERO_RTT and not self._is_client:
            return  # refused: the packets stay closed
        if epoch != Epoch.ONE_RTT:
            super()._update_traffic_key(direction, epoch, cipher_suite, secret)
            return
        if self.settings.tell_secrets is not None:
            side = "CLIENT" if self._is_client == (direction == Direction.ENCRYPT) else "SERVER"
            self.settings.tell_secrets(f"{side}_TRAFFIC_SECRET_0 {self.tls.client_random.hex()} {secret.hex()}\n")
        if self.secrets is None or self.secrets.suite != cipher_suite:
            self.secrets = Secrets(suite=cipher_suite)
        if direction == Direction.ENCRYPT:
            self.secrets.send = secret
            early = self._cryptos[Epoch.ZERO_RTT].send
            if self._is_client and early.is_valid():
                early.teardown()  # RFC 9001 4.9.3
        else:
            self.secrets.receive = secret
        if self.secrets.complete() and self.settings.clock is not None:
            self.complete_at = self.settings.clock()

    def _serialize_transport_parameters(self) -> bytes:
        server = not self._is_client
        self.local_params = self.settings.params.encode(
            initial_scid=self._local_initial_source_connection_id,
            original_dcid=self._original_destination_connection_id if server else None,
            retry_scid=self._retry_source_connection_id if server else None,
            reset_token=self.cid.token if server else None,
        )
        return self.local_params

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        if from_session_ticket:
            self.remembered = data
        else:
            self.remote_params = data
            if len(set(ids := parameter_ids(data))) != len(ids):
                raise transport_error(
                    QuicErrorCode.TRANSPORT_PARAMETER_ERROR, "a transport parameter stands there twice"
                )
            if self._is_client and self.tls.early_data_accepted and self.remembered:
                check_remembered(self.remembered, data)
        super()._parse_transport_parameters(data, from_session_ticket)

    def _replenish_connection_ids(self) -> None:
        """Nothing: connection IDs after the first are minted for the engine, which tells the peer of them."""

    def _receive_version_negotiation_packet(self, header: QuicHeader, now: float) -> None:
        self.offered = tuple(header.supported_versions)
        super()._receive_version_negotiation_packet(header=header, now=now)

    def _handle_ack_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        at = buf.tell()
        largest = buf.pull_uint_var()
        buf.seek(at)
        packet = self._spaces[context.epoch].sent_packets.get(largest)
        if packet is not None and packet.sent_time is not None:
            sample = context.time - packet.sent_time
            self.rtt = sample if self.rtt is None else min(self.rtt, sample)
        super()._handle_ack_frame(context, frame_type, buf)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, tuple[str, int]]]:
        datagrams = super().datagrams_to_send(now)
        if self._is_client and self._cryptos[Epoch.ZERO_RTT].send.is_valid():
            self.early_packets.update(self._spaces[Epoch.ONE_RTT].sent_packets)
        return datagrams


def parameter_ids(data: bytes) -> list[int]:
    """The parameters that an extension holds, in order; what cannot be read ends the list (aioquic says so itself)."""
    buf, ids = Buffer(data=data), list[int]()
    try:
        while not buf.eof():
            ids.append(buf.pull_uint_var())
            buf.pull_bytes(buf.pull_uint_var())
    except ValueError:
        pass
    return ids


def check_remembered(remembered: bytes, fresh: bytes) -> None:
    """Limits that 0-RTT data was sent under must still hold."""
    try:
        before = pull_quic_transport_parameters(Buffer(data=remembered))
        after = pull_quic_transport_parameters(Buffer(data=fresh))
    except ValueError:
        return  # aioquic's own reading of them raises the right error
    for name in REMEMBERED:
        if (getattr(after, name) or 0) < (getattr(before, name) or 0):
            raise transport_error(QuicErrorCode.PROTOCOL_VIOLATION, f"{name} is lower than 0-RTT data was sent under")


def transport_error(code: QuicErrorCode, reason: str) -> QuicConnectionError:
    return QuicConnectionError(error_code=code, frame_type=QuicFrameType.CRYPTO, reason_phrase=reason)
