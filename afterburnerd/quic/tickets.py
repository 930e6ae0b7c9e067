"""Session tickets: those that servers gave us, those that we gave, and how one is read when aioquic is gone.

A ticket comes in a 1-RTT CRYPTO frame, so the engine reports its bytes, and by then the connection's aioquic object has been
dropped (it weighs 90 KiB). All that is needed to read a ticket is the resumption master secret and what the server said
in its handshake: `TicketShim` keeps that, half a KiB a connection.

    engine: event CRYPTO ─► TicketShim.feed ─► Ticket ─► TicketStore ─► the next dial to that server, once

A client shows a ticket once (RFC 8446 C.4), and only to the server and under the pinned key that it came from: a resumed
handshake has no certificate to check. A server keeps what it gave in memory, bounded; its tickets promise no 0-RTT.
"""

from __future__ import annotations

import datetime
from collections import OrderedDict, deque
from typing import Final

import msgspec
from aioquic import tls
from aioquic._buffer import Buffer, BufferReadError
from aioquic.quic.connection import MAX_EARLY_DATA
from aioquic.tls import CipherSuite, SessionTicket

from .front import Front
from .identity import PeerIdentity
from .tokens import Address

NEW_SESSION_TICKET: Final = 4
MESSAGE_HEAD: Final = 4  # type, 24-bit length
CRYPTO_LIMIT: Final = 16_384  # bytes of an incomplete message that are kept
PER_SERVER: Final = 2  # servers send one or two tickets; quinn sends four
UNEXPECTED_MESSAGE: Final = 0x100 + 10  # CRYPTO_ERROR with the TLS alert
DECODE_ERROR: Final = 0x100 + 50
PROTOCOL_VIOLATION: Final = 0x0A
CRYPTO_BUFFER_EXCEEDED: Final = 0x0D


class CryptoViolation(Exception):
    """What a peer sent as 1-RTT CRYPTO ends the connection with this transport error code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Ticket(msgspec.Struct, frozen=True):
    """A ticket of a server's, with the identity that the server proved when it was earned."""

    session: SessionTicket
    peer: PeerIdentity
    alpn: str

    @property
    def early_data(self) -> bool:
        return self.session.max_early_data_size == MAX_EARLY_DATA


class TicketShim:
    """Reads the CRYPTO bytes of one connection after its handshake."""

    __slots__ = (
        "_alpn",
        "_buffer",
        "_extensions",
        "_is_client",
        "_peer",
        "_secret",
        "_server_name",
        "_suite",
        "offset",
    )

    def __init__(self, front: Front) -> None:
        hello = front.hello
        self.offset = 0  # bytes consumed in order
        self._buffer = b""
        self._is_client = front.is_client
        self._alpn = hello.alpn_negotiated or ""
        self._peer = front.peer
        self._secret = hello.resumption_master_secret() if front.is_client else b""
        self._server_name = front.configuration.server_name
        self._suite: CipherSuite = front.suite
        self._extensions = [
            (number, data)
            for number, data in hello.received_extensions or []
            if number == tls.ExtensionType.QUIC_TRANSPORT_PARAMETERS
        ]

    def feed(self, offset: int, data: bytes) -> list[Ticket]:
        """CRYPTO bytes, which the engine reports in order. CryptoViolation: close the connection with its code."""
        if offset + len(data) <= self.offset:
            return []
        if offset > self.offset:
            raise ValueError(f"CRYPTO bytes from {offset}, expected {self.offset}: the engine reports them in order")
        self._buffer += data[self.offset - offset :]
        self.offset = offset + len(data)
        tickets: list[Ticket] = []
        while len(self._buffer) >= MESSAGE_HEAD:
            size = MESSAGE_HEAD + int.from_bytes(self._buffer[1:MESSAGE_HEAD], "big")
            if not self._is_client or self._buffer[0] != NEW_SESSION_TICKET:
                # KeyUpdate among them: QUIC has its own (RFC 9001 6)
                raise CryptoViolation(UNEXPECTED_MESSAGE, f"TLS message of type {self._buffer[0]} after the handshake")
            if size > CRYPTO_LIMIT:
                raise CryptoViolation(CRYPTO_BUFFER_EXCEEDED, f"a session ticket of {size} bytes")
            if len(self._buffer) < size:
                break
            message, self._buffer = self._buffer[:size], self._buffer[size:]
            tickets.append(self._read(message))
        return tickets

    def _read(self, message: bytes) -> Ticket:
        try:
            fresh = tls.pull_new_session_ticket(Buffer(data=message))
        except (BufferReadError, tls.Alert) as error:
            raise CryptoViolation(DECODE_ERROR, "a session ticket that cannot be read") from error
        if fresh.max_early_data_size not in (None, MAX_EARLY_DATA):
            raise CryptoViolation(
                PROTOCOL_VIOLATION, f"max_early_data_size is {fresh.max_early_data_size}"
            )  # RFC 9001 4.6.1
        algorithm = tls.cipher_suite_hash(self._suite)
        now = tls.utcnow()
        session = SessionTicket(
            age_add=fresh.ticket_age_add,
            cipher_suite=self._suite,
            max_early_data_size=fresh.max_early_data_size,
            not_valid_after=now + datetime.timedelta(seconds=min(fresh.ticket_lifetime, 7 * 86400)),
            not_valid_before=now,
            other_extensions=list(self._extensions),
            resumption_secret=tls.hkdf_expand_label(
                algorithm, self._secret, b"resumption", fresh.ticket_nonce, algorithm.digest_size
            ),
            server_name=self._server_name or "",
            ticket=fresh.ticket,
        )
        return Ticket(session, self._peer, self._alpn)


class TicketStore:
    """A client's tickets by server address and name; the longest unused server is forgotten first."""

    def __init__(self, limit: int = 8192) -> None:
        self._limit = limit
        self._servers: OrderedDict[tuple[Address, str], deque[Ticket]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._servers.values()))

    def put(self, server: Address, name: str, ticket: Ticket) -> None:
        self._servers.setdefault((server, name), deque(maxlen=PER_SERVER)).append(ticket)
        self._servers.move_to_end((server, name))
        while len(self._servers) > self._limit:
            self._servers.popitem(last=False)

    def take(self, server: Address, name: str, *, pin: bytes = b"", alpn: tuple[str, ...] = ()) -> Ticket | None:
        """The youngest that is still good for this dial. It is gone then."""
        tickets = self._servers.get((server, name))
        while tickets:
            ticket = tickets.pop()
            if not tickets:
                del self._servers[server, name]
            if ticket.session.is_valid and (not pin or ticket.peer.public == pin) and (not alpn or ticket.alpn in alpn):
                return ticket
        return None


class ServerTickets:
    """What we gave to clients, with the identity that each had proved. Each is good once."""

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._tickets: OrderedDict[bytes, tuple[SessionTicket, PeerIdentity]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tickets)

    def put(self, ticket: SessionTicket, peer: PeerIdentity) -> None:
        self._tickets[ticket.ticket] = (ticket, peer)
        while len(self._tickets) > self._limit:
            self._tickets.popitem(last=False)

    def take(self, label: bytes) -> tuple[SessionTicket, PeerIdentity] | None:
        return self._tickets.pop(label, None)
