"""A server's side: which Initials become handshakes, and what is said to the others.

    Initial ─► 1200 bytes, 8-byte DCID ─► token? ─┬─ Retry's, good ──────────► address proven ─┐
                                                  ├─ Retry's, bad ──► INVALID_TOKEN            ├─► room? ─► Front ─► opened? ─► Accept
                                                  ├─ NEW_TOKEN's, good ──────► address proven ─┤    │                │
                                                  └─ none ─► Retry wanted? ─┬─ no ─────────────┘    no: CONNECTION_REFUSED
                                                                            └─ yes: Retry (keeps nothing)      no: forgotten

Nothing is kept of a datagram before a packet in it could be opened. Retry is asked for always, never, or from so many handshakes
under way on, for then somebody may be making up addresses. The room is bounded four ways: handshakes altogether, handshakes
of one address (IPv6: of a /64), connections of the listener, places in the engines' tables (places.py). Behind the XDP program's token buckets this is the second line.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Literal

import msgspec
from aioquic.quic.packet import encode_quic_retry
from aioquic.tls import SessionTicket

from .cids import LocalCid
from .front import Front, FrontSettings
from .identity import PeerIdentity
from .places import Places
from .refusal import CONNECTION_REFUSED, INVALID_TOKEN, initial_close
from .shake import Shake
from .tickets import ServerTickets
from .tokens import Address, RetryToken, TokenMaker
from .wire import INITIAL, INITIAL_MIN, ODCID_MIN, VERSION_1, Long

HANDSHAKE_SECONDS: Final = 2.0  # what validators give a client (facts: connections)


class Limits(msgspec.Struct, frozen=True):
    """Bounds of a listening endpoint."""

    handshakes: int = 256  # under way at once
    handshakes_per_source: int = 32  # of one IPv4 address or IPv6 /64
    connections: int = 4096  # handshakes and adopted ones of this endpoint
    timeout: float = HANDSHAKE_SECONDS  # seconds for a handshake
    retry: Literal["always", "never", "auto"] = "auto"
    retry_from: int = 32  # auto: ask for Retry from so many handshakes under way on


class Accept(Shake):
    """A connection that a client opened."""

    def __init__(
        self, number: int, front: Front, remote: Address, first_dcid: bytes, proven: bool, deadline: float, now: float
    ) -> None:
        super().__init__(number, front, remote, deadline, now)
        self.first_dcid = first_dcid  # that the client's first Initials carry: ours to answer until confirmed
        self.proven = proven  # the address was proven by a token
        self.resumed = False
        self.peer = PeerIdentity()

    def _completed(self, front: Front, now: float) -> None:
        self.resumed = front.hello.session_resumed
        self.peer = front.peer


class Reply(msgspec.Struct, frozen=True):
    """A datagram for an Initial that did not become a connection, and why, for the counters."""

    why: Literal["retry", "refused", "invalid_token"]
    datagram: bytes


class Acceptor:
    """Decides on Initials of one endpoint. The endpoint keeps what becomes of them."""

    def __init__(
        self, settings: FrontSettings, limits: Limits, tokens: TokenMaker, tickets: ServerTickets, places: Places
    ) -> None:
        self.settings = settings
        self.limits = limits
        self.tokens = tokens
        self.tickets = tickets
        self._places = places
        self.under_way = 0  # handshakes, not yet complete
        self.connections = 0  # those and adopted ones
        self.sources: Counter[str] = Counter()  # handshakes under way by source

    # --- room: the endpoint tells of beginnings and ends ---

    def began(self, remote: Address) -> None:
        self.under_way += 1
        self.connections += 1
        self.sources[source(remote)] += 1

    def shaken(self, remote: Address) -> None:
        """A handshake is over, well or not."""
        self.under_way -= 1
        key = source(remote)
        self.sources[key] -= 1
        if self.sources[key] <= 0:
            del self.sources[key]

    def ended(self) -> None:
        """A connection is gone."""
        self.connections -= 1

    def _room(self, remote: Address) -> bool:
        return (
            self._places.free
            and self.under_way < self.limits.handshakes
            and self.connections < self.limits.connections
            and self.sources[source(remote)] < self.limits.handshakes_per_source
        )

    def wants_retry(self) -> bool:
        return self.limits.retry == "always" or (
            self.limits.retry == "auto" and self.under_way >= self.limits.retry_from
        )

    # --- the decision ---

    def consider(
        self, header: Long, datagram: bytes, remote: Address, number: int, cid: LocalCid, now: float
    ) -> Accept | Reply | None:
        """An Initial for a connection ID that nobody has. None: drop it without a word."""
        if header.kind != INITIAL or len(datagram) < INITIAL_MIN or len(header.dcid) < ODCID_MIN:
            return None
        retried: RetryToken | None = None
        proven = False
        if header.token:
            retried = self.tokens.check_retry(header.token, remote, header.dcid, now)
            if retried is None and self.tokens.is_retry(header.token):
                return Reply("invalid_token", initial_close(header, INVALID_TOKEN, "the token is not of this Retry"))
            proven = retried is not None or self.tokens.check_new(header.token, remote, now)
        if not proven and self.wants_retry():
            token = self.tokens.retry(remote, header.dcid, cid.cid, now)
            return Reply(
                "retry",
                encode_quic_retry(
                    version=VERSION_1,
                    source_cid=cid.cid,
                    destination_cid=header.scid,
                    original_destination_cid=header.dcid,
                    retry_token=token,
                ),
            )
        if not self._room(remote):
            return Reply("refused", initial_close(header, CONNECTION_REFUSED, "no room"))
        front = Front(
            self.settings,
            cid,
            is_client=False,
            original_dcid=retried.original_dcid if retried else header.dcid,
            retry_scid=retried.retry_scid if retried else None,
            fetch_ticket=lambda label: self._fetch(front, label),
            keep_ticket=lambda ticket: self.tickets.put(ticket, front.peer),
        )
        front.receive_datagram(datagram, remote, now)
        if not front.started:
            front.dismantle()
            return None
        if proven:
            front.validate_path()
        return Accept(number, front, remote, header.dcid, proven, now + self.limits.timeout, now)

    def _fetch(self, front: Front, label: bytes) -> SessionTicket | None:
        found = self.tickets.take(label)
        if found is None:
            return None
        front.resumed_from = found[1].public
        return found[0]


def source(remote: Address) -> str:
    """Who counts as one source: an IPv4 address, the /64 of an IPv6 one."""
    address: IPv4Address | IPv6Address = ip_address(remote[0].partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return address.packed[:8].hex()
        address = address.ipv4_mapped
    return str(address)
