"""What the supervisor keeps of a connection, from the end of its handshake to its own: half a KiB once its engine has it.

Until RELEASED it has the handshake's object, and with it the keys of long headers; which 1-RTT secrets are where at each step is
written in handover.py. The connection IDs of ours stand here by sequence number, because the map `cids` must lose exactly those;
so do the peer's stateless reset tokens.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from ..abi.layout import Path
from .dial import Dial
from .endpoint import Endpoint
from .params import datagram_max
from .shake import Shake
from .tickets import TicketShim

if TYPE_CHECKING:
    from .commands import Engine


class Step(enum.IntEnum):
    HELD = 1
    EXPORTED = 2
    INSTALLED = 3
    ROUTED = 4
    INJECTED = 5
    CONFIRMED = 6
    RELEASED = 7
    GONE = 8  # closed, refused or lost


class Connection:
    """What the supervisor keeps of a connection: half a KiB once it is RELEASED."""

    __slots__ = (
        "began",
        "cids",
        "client_random",
        "confirmed_at",
        "datagram_max",
        "endpoint",
        "engine",
        "is_client",
        "name",
        "next_seq",
        "number",
        "path",
        "peer",
        "remote",
        "routed_at",
        "shake",
        "shim",
        "step",
        "tokens",
    )

    def __init__(self, shake: Shake, endpoint: Endpoint, path: Path, now: float) -> None:
        front = shake.front
        assert front is not None
        self.number = shake.number
        self.step = Step.HELD
        self.shake: Shake | None = shake  # until RELEASED
        self.endpoint = endpoint
        self.engine: Engine | None = None
        self.is_client = front.is_client
        self.remote = shake.remote
        self.path = path
        self.name = front.configuration.server_name or ""  # client: the SNI
        self.client_random: bytes = front.hello.client_random or b""  # names it in a key log; everybody saw it pass
        self.peer = front.peer.public  # key that the peer proved; empty: none
        self.datagram_max = datagram_max(front.peer_datagram_frame)  # bytes; 0: the peer takes no DATAGRAM frames
        self.cids: dict[int, bytes] = {shake.own_cid.seq: shake.own_cid.cid}
        self.next_seq = 1
        self.tokens: dict[int, bytes] = {c.seq: c.token for c in front.peer_cids() if c.token}
        self.shim: TicketShim | None = (shake.shim if isinstance(shake, Dial) else None) or TicketShim(front)
        self.began = shake.completed_at if shake.completed_at is not None else now
        self.confirmed_at: float | None = None
        self.routed_at: float | None = None  # by the handover's clock

    def __repr__(self) -> str:
        return f"<Connection {self.number} {self.step.name} {self.remote[0]}:{self.remote[1]}>"
