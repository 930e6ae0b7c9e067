"""A client's handshake: to whom, with which ticket and token, and what travels in 0-RTT.

0-RTT is sent by aioquic, for its packets have long headers. Messages go each on a unidirectional stream of its own, in order:
2, 6, 10 ... as the engine would number them. aioquic can tell nothing of their fate, because acknowledgements of 0-RTT
packets come in 1-RTT packets, and a Retry or a rejection loses them whole. So the rule is simple: after adoption the same
messages are handed to the engine again, first and in the same order. It gives them the same stream IDs, so a server that had
accepted them sees repetitions of stream bytes, which QUIC drops, and one that had not sees them for the first time. No byte
arrives twice at an application, and each message has one fate, told by the engine.
"""

from __future__ import annotations

from typing import Final

import msgspec
from aioquic._buffer import Buffer
from aioquic.quic.packet import pull_quic_transport_parameters

from .cids import LocalCid
from .front import Front, FrontSettings
from .identity import server_name
from .shake import Shake
from .tickets import Ticket, TicketShim
from .tokens import Address

CONNECT_SECONDS: Final = 4.0  # the validators' own client gives up then (facts: reference client)
EARLY_BYTES: Final = 10 * 1200  # of 0-RTT data: what fits the initial window of aioquic


class Target(msgspec.Struct, frozen=True):
    """Whom to dial."""

    address: Address
    name: str = ""  # SNI; empty: `{ip}.{port}.sol`
    pin: bytes = b""  # Ed25519 key that the server must prove; empty: any
    timeout: float = CONNECT_SECONDS  # seconds

    @property
    def server_name(self) -> str:
        return self.name or server_name(*self.address)


class EarlyMessage(msgspec.Struct, frozen=True):
    """A message that may travel in 0-RTT; the token is the sender's, and comes back with its fate."""

    token: int
    data: bytes


class Dial(Shake):
    """A connection that we open."""

    def __init__(
        self,
        number: int,
        settings: FrontSettings,
        cid: LocalCid,
        target: Target,
        now: float,
        *,
        ticket: Ticket | None = None,
        token: bytes = b"",
        messages: tuple[EarlyMessage, ...] = (),
    ) -> None:
        front = Front(
            settings,
            cid,
            is_client=True,
            server_name=target.server_name,
            pin=target.pin,
            ticket=ticket.session if ticket else None,
            token=token,
            # aioquic asks for tickets only where somebody would take them; they come to TicketShim, not here
            keep_ticket=lambda _: None,
        )
        super().__init__(number, front, target.address, now + target.timeout, now)
        self.target = target
        self.shim: TicketShim | None = None
        self.early_messages: tuple[EarlyMessage, ...] = ()
        self.early_accepted = False
        self.resumed = False
        if ticket is not None:
            front.resumed_from = ticket.peer.public
            if ticket.early_data and messages:
                self.early_messages = fitting(ticket, messages)
        front.connect(target.address, now)
        for i, message in enumerate(self.early_messages):
            front.send_stream_data(4 * i + 2, message.data, end_stream=True)

    def _completed(self, front: Front, now: float) -> None:
        self.shim = TicketShim(front)
        self.resumed = front.hello.session_resumed
        self.early_accepted = front.hello.early_data_accepted


def fitting(ticket: Ticket, messages: tuple[EarlyMessage, ...]) -> tuple[EarlyMessage, ...]:
    """As many messages, in order, as the server's remembered limits and a first flight have room for."""
    for number, data in ticket.session.other_extensions:
        if number == 0x39:  # quic_transport_parameters (RFC 9001 8.2)
            params = pull_quic_transport_parameters(Buffer(data=data))
            break
    else:
        return ()
    streams = params.initial_max_streams_uni or 0
    room = min(params.initial_max_data or 0, EARLY_BYTES)
    longest = params.initial_max_stream_data_uni or 0
    taken: list[EarlyMessage] = []
    for message in messages[:streams]:
        room -= len(message.data)
        if room < 0 or not 0 < len(message.data) <= longest:
            break
        taken.append(message)
    return tuple(taken)
