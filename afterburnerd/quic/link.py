"""A lasting relation to one server: dials it, keeps every message until its fate is known, dials anew when a connection ends.

    IDLE ──► DIALLING ──► OPEN ──► PAUSED ──► DIALLING ...
                └──────────────────►─┘

A connection may die under a message: with its worker, by the peer, by time. What was not acknowledged goes again on the next
connection, in 0-RTT where the server's ticket allows it. So a message has exactly one fate as far as we can know: it was
acknowledged, it was given up here (no room, too old, too often, the link is closed), or it still waits. At the server it may have
arrived before the connection died: Solana transactions are idempotent by signature. DATAGRAMs are not repeated.

After the death or restart of a data plane there is no pause, for the peer did nothing wrong; after failures of the peer's the pause
doubles from 100 ms to 5 s, and starts over once a connection has held for a while. Sans-I/O, time is a parameter.
"""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

import msgspec

from ..abi.layout import QuicOutcome, QuicSend
from .dial import EarlyMessage, Target
from .kept import Kept

PAUSE_MIN: Final = 0.1  # seconds
PAUSE_MAX: Final = 5.0
STEADY: Final = 5.0  # a connection that held so long clears the count of failures
EARLY_MESSAGES: Final = 64  # offered to a dial for 0-RTT; it takes what fits
ATTEMPTS_MAX: Final = 16  # connections that may die under a message before it is given up
NO_ROOM: Final = 1021  # AB_QUIC_EFULL and AB_QUIC_ECLOSED of native/quic.h, without their signs
CLOSING: Final = 1022
NO_STREAM: Final = 1024
PUSH_PAUSE: Final = 0.005  # seconds until what the engine had no room for is offered again
PUSH_BURST: Final = 64
FINAL: Final = {QuicOutcome.ACKNOWLEDGED, QuicOutcome.RESET, QuicOutcome.STOPPED, QuicOutcome.LOST, QuicOutcome.EXPIRED}


class State(enum.Enum):
    IDLE = "idle"
    DIALLING = "dialling"
    OPEN = "open"
    PAUSED = "paused"
    CLOSED = "closed"


class Message(msgspec.Struct):
    token: int
    data: bytes
    how: QuicSend = QuicSend.UNI
    stream: int = 0  # STREAM: which
    attempts: int = 0  # connections that it was given to


class Link:
    """One `[[connect]]` entry. `send` is told to put a message on the present connection; `told` hears of final fates."""

    def __init__(
        self,
        name: str,
        target: Target,
        *,
        told: Callable[[int, QuicOutcome, int], None] = lambda token, outcome, first: None,
        room: int = 4096,
        kept: bool = False,
    ) -> None:
        self.name = name
        self.target = target
        self.room = room  # messages that are kept
        self.state = State.IDLE
        self.failures = 0
        self.number: int | None = None  # of the handshake or connection
        self.opened_at = 0.0
        self.pause_until = 0.0
        self._told = told
        self._messages: OrderedDict[int, Message] = OrderedDict()
        self._given: set[int] = set()  # tokens that the present connection has
        self._pushed: deque[int] = deque()  # tokens that its engine had no room for
        self.push_at = 0.0  # when they are offered again
        self.kept = Kept() if kept else None  # streams that are kept open, where messages have none of their own
        self.by_hand = False  # not of the configuration: a reload has no say in it

    def __len__(self) -> int:
        return len(self._messages)

    def configured(self, target: Target, room: int, *, kept: bool) -> None:
        """The configuration says this of it now. What waits beyond a smaller room stays; streams that are open stay so."""
        self.target = target
        self.room = room
        self.by_hand = False
        if kept is not (self.kept is not None):
            self.kept = Kept() if kept else None

    # --- messages ---

    def submit(self, message: Message, give: Callable[[Message], None] | None) -> bool:
        """Takes a message, and gives it to the connection where there is one. False: no room, nothing was taken."""
        if self.state is State.CLOSED or len(self._messages) >= self.room or message.token in self._messages:
            return False
        self._messages[message.token] = message
        if self.state is State.OPEN and give is not None:
            self._give(message, give)
        return True

    def _give(self, message: Message, give: Callable[[Message], None]) -> None:
        message.attempts += 1
        self._given.add(message.token)
        self._place(message, give)

    def _place(self, message: Message, give: Callable[[Message], None]) -> None:
        if self.kept is None or message.how == QuicSend.DATAGRAM or self.kept.place(message):
            give(message)
        else:
            self._pushed.append(message.token)

    def done(self, token: int, outcome: QuicOutcome, first_sent_ns: int) -> None:
        """The engine's word on a message. One that the connection took with it into its death waits for the next."""
        message = self._messages.get(token)
        if message is None:
            return
        if self.kept is not None and outcome in (QuicOutcome.STOPPED, QuicOutcome.RESET):
            self.kept.ended(message.stream)
        again = outcome not in FINAL and message.how != QuicSend.DATAGRAM and message.attempts < ATTEMPTS_MAX
        self._given.discard(token)
        if not again or self.state is State.CLOSED:
            del self._messages[token]
            self._told(token, outcome, first_sent_ns)

    def refused(self, token: int, error: int, now: float) -> None:
        """The engine did not take a message. Where it had no room it is offered again in a moment; where the connection is
        closing, on the next one; what can never be sent is given up."""
        message = self._messages.get(token)
        if message is None:
            return
        if self.kept is not None:
            self.kept.refused(message)
            if error == NO_STREAM:  # it has ended a moment ago
                self.kept.ended(message.stream)
                error = NO_ROOM
        if error == NO_ROOM and self.state is State.OPEN:
            self._pushed.append(token)
            self.push_at = now + PUSH_PAUSE
        elif error in (NO_ROOM, CLOSING) and self.state is not State.CLOSED:
            self._given.discard(token)
        else:
            self._given.discard(token)
            del self._messages[token]
            self._told(token, QuicOutcome.CLOSED, 0)

    @property
    def pushed(self) -> int:
        """Messages that the engine had no room for."""
        return len(self._pushed)

    def push(self, give: Callable[[Message], None]) -> None:
        """Offers some of them again."""
        for _ in range(min(len(self._pushed), PUSH_BURST)):
            message = self._messages.get(self._pushed.popleft())
            if message is not None:
                self._place(message, give)

    def stream_opened(self, token: int, stream: int) -> None:
        """The engine's answer to a message that opens a stream."""
        message = self._messages.get(token)
        if self.kept is not None:
            self.kept.opened(token, stream)
            if message is not None:
                message.stream = stream

    # --- the connection ---

    def wants_dial(self, now: float) -> bool:
        return self.state is State.IDLE or (self.state is State.PAUSED and now >= self.pause_until)

    def due(self) -> float | None:
        return 0.0 if self.state is State.IDLE else self.pause_until if self.state is State.PAUSED else None

    def early(self) -> tuple[EarlyMessage, ...]:
        """What may travel in 0-RTT, each on a stream of its own."""
        if self.kept is not None:
            return ()
        unis = (m for m in self._messages.values() if m.how == QuicSend.UNI)
        return tuple(EarlyMessage(m.token, m.data) for m, _ in zip(unis, range(EARLY_MESSAGES), strict=False))

    def dialling(self, number: int) -> None:
        self.number = number
        self.state = State.DIALLING

    def opened(self, early: tuple[EarlyMessage, ...], give: Callable[[Message], None], now: float) -> None:
        """The connection takes messages. Those that travelled in 0-RTT were given to it already, first."""
        self.state = State.OPEN
        self.opened_at = now
        sent = {m.token for m in early}
        for message in self._messages.values():
            if message.token in sent:
                message.attempts += 1
                self._given.add(message.token)
        for message in list(self._messages.values()):
            if message.token not in sent:
                self._give(message, give)

    def ended(self, now: float, *, ours: bool = False) -> None:
        """The connection, or the attempt at one, is over. `ours`: our data plane died or restarts, so there is no pause."""
        if self.state is State.CLOSED:
            return
        if self.state is State.OPEN and now - self.opened_at >= STEADY:
            self.failures = 0
        self.number = None
        self._given.clear()
        self._pushed.clear()
        if self.kept is not None:
            self.kept.clear()
        for message in [m for m in self._messages.values() if m.attempts >= ATTEMPTS_MAX or m.how == QuicSend.DATAGRAM]:
            if message.attempts:
                del self._messages[message.token]
                self._told(message.token, QuicOutcome.CLOSED, 0)
        self.state = State.PAUSED
        if ours:
            self.pause_until = now
        else:
            self.pause_until = now + min(PAUSE_MIN * 2**self.failures, PAUSE_MAX)
            self.failures = min(self.failures + 1, 16)

    def close(self) -> None:
        """No more is sent; what waits is given up."""
        self.state = State.CLOSED
        waiting = [token for token in self._messages if token not in self._given]
        for token in waiting:
            del self._messages[token]
            self._told(token, QuicOutcome.CLOSED, 0)
