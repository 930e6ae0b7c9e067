"""What a handover has to tell: each is a frozen struct, appended to `Handover.news` in the order in which it became true.

The first news of a connection that an engine has taken is Opened, the last of any connection is Closed.
"""

from __future__ import annotations

import msgspec

from ..abi.layout import Path, QuicClose, QuicClosed, QuicEvent, QuicOutcome
from .connection import Connection

# Reasons of ours for a connection's end.
DIED = "the data plane died"
RESTARTS = "the data plane restarts"


class Opened(msgspec.Struct, frozen=True):
    """ROUTED: messages may be given to the engine, in the order of `send`."""

    connection: Connection


class Confirmed(msgspec.Struct, frozen=True):
    connection: Connection


class Done(msgspec.Struct, frozen=True):
    """The fate of a message."""

    connection: Connection
    token: int
    outcome: QuicOutcome
    first_sent_ns: int


class Refused(msgspec.Struct, frozen=True):
    """The engine refused a command; of a SEND, the message with this token was not accepted."""

    connection: Connection
    token: int
    error: int


class StreamOpened(msgspec.Struct, frozen=True):
    connection: Connection
    token: int
    stream: int


class Migrated(msgspec.Struct, frozen=True):
    connection: Connection
    path: Path


class Closed(msgspec.Struct, frozen=True):
    """The last news of a connection."""

    connection: Connection
    by: QuicClose | None  # None: it was never installed, or its worker died
    code: int
    is_app: bool
    frame_type: int
    reason: str
    last: QuicClosed | None  # what the engine counted

    @property
    def ours(self) -> bool:
        """By no fault of the peer's: our data plane is, or will be, another one."""
        return (self.by, self.reason) in ((None, DIED), (QuicClose.LOCAL, RESTARTS))


class Other(msgspec.Struct, frozen=True):
    """An event that is not for here: key log, qlog, key updates."""

    connection: Connection | None
    event: QuicEvent
    body: bytes


News = Opened | Confirmed | Done | Refused | StreamOpened | Migrated | Closed | Other
