"""One handshake under way, client or server: a Front, what came too early for the engine, and when it must be over.

    SHAKING ──► COMPLETE ──► CONFIRMED            aioquic's object is dropped with the last step
       └──────────┴──► FAILED

COMPLETE is when the engine may adopt. Until CONFIRMED the Front lives on to repeat its last flight (a client's Finished; a
server is confirmed with its completion). 1-RTT packets that reach the kernel socket meanwhile are kept, bounded, and go to the
engine once it has adopted; more than that are dropped, and repeated by the peer as any lost packet.
"""

from __future__ import annotations

import enum
from collections import Counter
from typing import Final

import msgspec

from .front import Front
from .tokens import Address
from .wire import split

EARLY_DATAGRAMS: Final = (
    64  # 1-RTT datagrams kept for the engine; a peer's first flight (10 packets) fits several times
)


class State(enum.Enum):
    SHAKING = "shaking"
    COMPLETE = "complete"
    CONFIRMED = "confirmed"
    FAILED = "failed"


class Why(enum.Enum):
    """Why a handshake failed."""

    TIMEOUT = "timed out"
    PEER = "closed by the peer"
    ERROR = "error of the peer"
    VERSION = "no common version"
    ABORTED = "given up"


class Failure(msgspec.Struct, frozen=True):
    why: Why
    code: int = 0  # QUIC error code where one was sent or received
    reason: str = ""
    is_app: bool = False  # the code is the application's


class Early(msgspec.Struct, frozen=True):
    """A 1-RTT datagram that the engine has to see."""

    datagram: bytes
    remote: Address
    tos: int = 0  # as its IP header had it: the engine counts ECN marks


class Shake:
    """Base of Dial (client) and Accept (server). Owned by an Endpoint, which has the socket."""

    def __init__(self, number: int, front: Front, remote: Address, deadline: float, now: float) -> None:
        self.number = number  # the supervisor's number of the connection
        self.front: Front | None = front
        self.remote = remote
        self.state = State.SHAKING
        self.failure: Failure | None = None
        self.early: list[Early] = []
        self.counts: Counter[str] = Counter()  # the endpoint's, once it has one
        self.began = now
        self.deadline = deadline  # of the handshake; no more after COMPLETE
        self.completed_at: float | None = None
        self.own_cid = front.cid
        self.when: float | None = now  # moves with `poll` alone, so that looking costs nothing

    def receive(self, datagram: bytes, remote: Address, now: float, tos: int = 0) -> None:
        """A datagram that the endpoint found to be this connection's."""
        long, short = split(datagram)
        if short:
            self.keep(short, remote, tos)
        # A peer must not move before the handshake is confirmed (RFC 9000 9): another address is a stranger's
        if long and self.front is not None and remote == self.remote:
            # As long as it came: an Initial counts only in a datagram of 1,200 bytes, and the 1-RTT packet behind it may
            # be what makes it so long (RFC 9000 14.1). Zeros are no packet; aioquic leaves them.
            self.front.receive_datagram(long + bytes(len(short)), remote, now)

    def keep(self, datagram: bytes, remote: Address, tos: int = 0) -> None:
        if len(self.early) < EARLY_DATAGRAMS:
            self.early.append(Early(datagram, remote, tos))
            self.counts["kept"] += 1
        else:
            self.counts["keep_dropped"] += 1

    def poll(self, now: float) -> list[bytes]:
        """What is to be sent now. Call it after every datagram and timer: the state moves here."""
        datagrams = self._poll(now)
        self.when = self._due()
        return datagrams

    def _poll(self, now: float) -> list[bytes]:
        front = self.front
        if front is None:
            return []
        if self.state is State.SHAKING and now >= self.deadline:
            self._fail(Failure(Why.TIMEOUT, reason=f"no handshake within {self.deadline - self.began:g} s"))
            return []
        timer = front.get_timer()
        if timer is not None and now >= timer and not front.finished:
            front.handle_timer(now)
        datagrams = [] if front.finished else [data for data, _ in front.datagrams_to_send(now)]
        ended = front.ended
        if ended is not None and self.state is State.COMPLETE and ended.idle:
            if front.secrets is None:
                front.dismantle()
                self.front = None  # nothing more to repeat; whether the connection lives is the engine's to say
            else:  # no way was found, or no worker was there: without its keys it is nobody's
                self._fail(Failure(Why.TIMEOUT, reason="no worker took the connection within its idle timeout"))
        elif ended is not None:
            why = Why.PEER if ended.by_peer else Why.VERSION if ended.no_version else Why.ERROR
            self._fail(Failure(why, ended.code, ended.reason, ended.frame_type is None))
        elif front.complete and self.state is State.SHAKING:
            self.state = State.COMPLETE
            self.completed_at = front.complete_at or now
            self._completed(front, now)
        return datagrams

    @property
    def due(self) -> float | None:
        """When `poll` has something to do without a datagram."""
        return self.when

    def _due(self) -> float | None:
        front = self.front
        if front is None or front.finished:
            return None
        timer = front.get_timer()
        if self.state is State.SHAKING:
            return self.deadline if timer is None else min(timer, self.deadline)
        return timer

    def confirm(self) -> None:
        """The engine says so: Initial and Handshake keys go, and with them all that aioquic held."""
        if self.front is not None:
            self.front.confirm()
        self.state = State.CONFIRMED
        self.release()

    def abort(self, now: float, code: int, reason: str) -> list[bytes]:
        """Gives up, and says so to the peer if anything was heard of it."""
        front = self.front
        if front is None or self.state is State.FAILED:
            return []
        datagrams: list[bytes] = []
        if front.ended is None and (front.is_client or front.started):
            front.close_unexported(code, reason)
            datagrams = [data for data, _ in front.datagrams_to_send(now)]
        self._fail(Failure(Why.ABORTED, code, reason))
        return datagrams

    def release(self) -> None:
        """Drops aioquic's object, and the secrets with it."""
        if self.front is not None:
            self.front.dismantle()
        self.front = None
        self.when = None
        self.early = []

    def _completed(self, front: Front, now: float) -> None:
        """For subclasses."""

    def _fail(self, failure: Failure) -> None:
        self.failure = failure
        self.state = State.FAILED
        self.release()
