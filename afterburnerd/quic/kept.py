"""Streams that are kept open: messages go one behind the other on the client's bidirectional streams 0, 4, 8 and 12, in turn.

The other way to send (`connect.streams = "kept"`), for servers that read transactions so. A stream has no end and messages no
borders: who reads it must find them in the bytes, and a lost packet holds up what stands behind it on its stream alone.

    place ──► fewer than four are open or opening ──► BIDI_OPEN ──► answer STREAM: `opened`
       ├────► else the next one in turn ───────────► STREAM
       └────► none is open yet ────────────────────► wait

A stream that the peer stops, or that is no more, is forgotten, and the next message opens another. All of it goes with the
connection. Sans-I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..abi.layout import QuicSend

if TYPE_CHECKING:
    from .link import Message

STREAMS: Final = 4


class Kept:
    """Of one link."""

    def __init__(self) -> None:
        self.streams: list[int] = []
        self._opening: set[int] = set()  # tokens
        self._turn = 0

    def place(self, message: Message) -> bool:
        """Says how a message goes. False: not now."""
        if len(self.streams) + len(self._opening) < STREAMS:
            self._opening.add(message.token)
            message.how = QuicSend.BIDI_OPEN
            return True
        if not self.streams:
            return False
        message.how = QuicSend.STREAM
        message.stream = self.streams[self._turn % len(self.streams)]
        self._turn += 1
        return True

    def opened(self, token: int, stream: int) -> None:
        self._opening.discard(token)
        self.streams.append(stream)

    def refused(self, message: Message) -> None:
        """The engine did not take it: no stream was opened, or the one that was meant is no more."""
        self._opening.discard(message.token)

    def ended(self, stream: int) -> None:
        if stream in self.streams:
            self.streams.remove(stream)

    def clear(self) -> None:
        """With the connection."""
        self.streams.clear()
        self._opening.clear()
        self._turn = 0
