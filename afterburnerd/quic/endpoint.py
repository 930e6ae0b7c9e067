"""Everything that happens on one kernel UDP socket before and beside the engine: who a datagram is for.

    datagram ─┬─ long ──┬─ connection ID of a handshake ─► Dial / Accept
              │         ├─ of an adopted connection ─────► its 1-RTT part: event Forward; the rest is over
              │         ├─ foreign version ──────────────► Version Negotiation     (where we listen)
              │         └─ Initial, unknown ─────────────► Acceptor                (where we listen)
              └─ short ─┬─ of a handshake ───────────────► kept until adoption
                        ├─ of an adopted connection ─────► event Forward
                        ├─ ends in a peer's reset token ─► event PeerReset
                        └─ a stranger's ─────────────────► stateless reset, never for a connection ID that somebody has

One endpoint a socket; what all endpoints share (the table of connection IDs, tickets, tokens, numbers) is a `Realm`. Sans-I/O:
`receive`, `timer`, `due`; what is to be sent and what happened is taken from `outgoing` and `events`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from .accept import Accept, Acceptor, Limits, Reply
from .cids import Mint, Registry
from .dial import Dial, EarlyMessage, Target
from .front import FrontSettings
from .places import Places
from .shake import Failure, Shake, State
from .strays import Bucket, ResetTokens
from .tickets import ServerTickets, TicketStore
from .tokens import Address, TokenMaker, TokenStore
from .wire import (
    CID_LENGTH,
    FOREIGN,
    INITIAL,
    INITIAL_MIN,
    RESET_MIN,
    is_short,
    parse_long,
    split,
    stateless_reset,
    version_negotiation,
)

TOMBSTONE_SECONDS: Final = 5.0  # late packets of a handshake that is over: 3 PTO of a path with 750 ms
# Answers to strangers, a second and at once: each costs tens of microseconds, and goes to an address that nobody proved.
RESETS: Final = (200.0, 100.0)
NEGOTIATIONS: Final = (200.0, 100.0)
REFUSALS: Final = (500.0, 250.0)
RETRIES: Final = (5000.0, 2500.0)


class Outgoing(msgspec.Struct, frozen=True):
    datagram: bytes
    remote: Address


class Began(msgspec.Struct, frozen=True):
    """A client's handshake has begun: whoever needs to know the way to it has a round trip to find out."""

    shake: Shake


class Completed(msgspec.Struct, frozen=True):
    """A handshake is complete: the engine may adopt."""

    shake: Shake


class Failed(msgspec.Struct, frozen=True):
    """A handshake came to nothing; or, after its completion, the peer closed in a Handshake packet."""

    shake: Shake
    failure: Failure


class Forward(msgspec.Struct, frozen=True):
    """A 1-RTT datagram of an adopted connection that reached the kernel socket."""

    number: int
    datagram: bytes
    remote: Address
    tos: int = 0


class PeerReset(msgspec.Struct, frozen=True):
    """A peer has lost its state of a connection: the datagram ends in the token that it gave us."""

    number: int
    datagram: bytes
    remote: Address


Event = Began | Completed | Failed | Forward | PeerReset


class Realm:
    """What all endpoints of a daemon share."""

    def __init__(self, key: bytes) -> None:
        self.mint = Mint(key)
        self.registry = Registry()  # our connection IDs in handshakes and adopted connections, tombstones
        self.reset_tokens = ResetTokens()  # of adopted connections' peers
        self.tickets = TicketStore()
        self.tokens = TokenStore()
        self.server_tickets = ServerTickets()
        self.token_maker = TokenMaker()
        self.numbers = itertools.count(1)
        self.places = Places()


class Endpoint:
    """A socket's handshakes."""

    def __init__(self, realm: Realm, settings: FrontSettings, limits: Limits | None = None) -> None:
        self.realm = realm
        self.settings = settings
        self.acceptor = (
            Acceptor(settings, limits, realm.token_maker, realm.server_tickets, realm.places) if limits else None
        )
        self.shakes: dict[int, Shake] = {}  # until confirmed or failed
        self.adopted: set[int] = set()  # numbers of connections that an engine has, on this socket
        self.outgoing: list[Outgoing] = []
        self.events: list[Event] = []
        self.counts: Counter[str] = Counter()  # what became of datagrams and handshakes; names of bounded number
        self._first_dcids: dict[tuple[bytes, Address], Accept] = {}
        self._buried_first: dict[tuple[bytes, Address], float] = {}  # until when, in order
        self._resets = Bucket(*RESETS)
        self._negotiations = Bucket(*NEGOTIATIONS)
        self._refusals = Bucket(*REFUSALS)
        self._retries = Bucket(*RETRIES)

    # --- from the supervisor ---

    def dial(
        self,
        target: Target,
        now: float,
        *,
        messages: tuple[EarlyMessage, ...] = (),
        settings: FrontSettings | None = None,
    ) -> Dial:
        """Begins a handshake; its first flight is in `outgoing`."""
        realm, number = self.realm, next(self.realm.numbers)
        name = target.server_name
        ours = settings or self.settings
        cid = realm.mint.make(0, realm.registry)
        dial = Dial(
            number,
            ours,
            cid,
            target,
            now,
            ticket=realm.tickets.take(target.address, name, pin=target.pin, alpn=ours.alpn),
            token=realm.tokens.take(target.address, name),
            messages=messages,
        )
        realm.registry.add(cid.cid, number)
        realm.places.take()
        self.shakes[number] = dial
        dial.counts = self.counts
        self.counts["dialled"] += 1
        self._poll(dial, now)
        return dial

    def adopt(self, shake: Shake) -> None:
        """The engine has it: from here on its 1-RTT datagrams are events."""
        self.adopted.add(shake.number)

    def confirm(self, number: int, now: float) -> None:
        """The engine says so."""
        shake = self.shakes.pop(number, None)
        if shake is not None:
            self._bury_first(shake, now)
            shake.confirm()

    def abort(self, number: int, now: float, code: int = 0, reason: str = "") -> None:
        """Gives a handshake up; the peer is told where it has been heard of."""
        shake = self.shakes.get(number)
        if shake is not None:
            before = shake.state
            self.outgoing += [Outgoing(data, shake.remote) for data in shake.abort(now, code, reason)]
            self._over(shake, before, now)

    def reset(self, cids: Iterable[bytes], remote: Address) -> None:
        """Nobody has the keys of a connection any more: its peer is told without being asked, in the smallest datagram that
        there is, so that whoever does not know it either has no answer to it."""
        for cid in cids:
            answer = stateless_reset(self.realm.mint.token(cid), RESET_MIN + 1)
            assert answer is not None
            self.counts["reset_sent"] += 1
            self.outgoing.append(Outgoing(answer, remote))

    def ended(self, number: int, now: float, *, is_server: bool) -> None:
        """A connection that was complete is gone; its connection IDs are the caller's to bury."""
        self.adopted.discard(number)
        shake = self.shakes.pop(number, None)
        if shake is not None:
            self._bury_first(shake, now)
            shake.release()
        self.realm.places.give_back()
        if is_server and self.acceptor is not None:
            self.acceptor.ended()

    # --- from the network and the clock ---

    def knows(self, datagram: bytes) -> bool:
        """Whether a datagram is for a connection ID of ours: nothing new begins with it."""
        at = 1 if is_short(datagram) else 6
        return datagram[at : at + CID_LENGTH] in self.realm.registry

    def receive(self, datagram: bytes, remote: Address, now: float, tos: int = 0) -> None:
        if not datagram:
            return
        if is_short(datagram):
            self._short(datagram, remote, now, tos)
        else:
            self._long(datagram, remote, now, tos)

    def adjust(self, settings: FrontSettings) -> None:
        """For handshakes to come."""
        self.settings = settings
        if self.acceptor is not None:
            self.acceptor.settings = settings

    def limit(self, limits: Limits) -> None:
        """For handshakes to come; those that are over a bound now stay."""
        if self.acceptor is not None:
            self.acceptor.limits = limits

    def timer(self, now: float) -> None:
        while self._buried_first and (first := next(iter(self._buried_first.items())))[1] <= now:
            del self._buried_first[first[0]]
        for shake in [s for s in self.shakes.values() if s.when is not None and s.when <= now]:
            self._poll(shake, now)

    def due(self) -> float | None:
        times = [s.when for s in self.shakes.values() if s.when is not None]
        times += itertools.islice(self._buried_first.values(), 1)
        return min(times, default=None)

    # --- inside ---

    def _short(self, datagram: bytes, remote: Address, now: float, tos: int) -> None:
        realm = self.realm
        cid = datagram[1 : 1 + CID_LENGTH]
        owner = realm.registry.owner(cid)
        if owner is not None:
            self._one_rtt(owner, datagram, remote, tos)
        elif (reset := realm.reset_tokens.owner(datagram)) is not None:
            self.counts["peer_reset"] += 1
            self.events.append(PeerReset(reset, datagram, remote))
        elif len(cid) < CID_LENGTH:
            self.counts["short_too_small"] += 1
        else:
            answer = stateless_reset(realm.mint.token(cid), len(datagram))
            if answer is not None and self._resets.take(now):
                self.counts["reset_sent"] += 1
                self.outgoing.append(Outgoing(answer, remote))
            else:
                self.counts["stray_dropped"] += 1

    def _one_rtt(self, owner: int, datagram: bytes, remote: Address, tos: int) -> None:
        shake = self.shakes.get(owner)
        if owner in self.adopted:
            self.counts["forwarded"] += 1
            self.events.append(Forward(owner, datagram, remote, tos))
        elif shake is not None:
            shake.keep(datagram, remote, tos)
        else:
            # Another socket's connection (its peer moved, or sends to another address of ours): the engine decides
            self.counts["forwarded"] += 1
            self.events.append(Forward(owner, datagram, remote, tos))

    def _long(self, datagram: bytes, remote: Address, now: float, tos: int) -> None:
        header = parse_long(datagram)
        if header is None:
            self.counts["malformed"] += 1
            return
        owner = self.realm.registry.owner(header.dcid)
        shake = self.shakes.get(owner) if owner is not None else self._first_dcids.get((header.dcid, remote))
        if shake is not None:
            _, short = split(datagram)
            if short and shake.number in self.adopted:
                self._one_rtt(shake.number, short, remote, tos)
                datagram = datagram[: -len(short)]
            shake.receive(datagram, remote, now, tos)
            self._poll(shake, now)
        elif owner is not None:
            _, short = split(datagram)  # late: confirmed already
            if short:
                self._one_rtt(owner, short, remote, tos)
            self.counts["late"] += 1
        elif self.acceptor is None:
            self.counts["stray_dropped"] += 1
        elif header.kind == FOREIGN:
            if len(datagram) >= INITIAL_MIN and self._negotiations.take(now):
                self.counts["version_negotiation"] += 1
                self.outgoing.append(Outgoing(version_negotiation(header), remote))
            else:
                self.counts["stray_dropped"] += 1
        elif (header.dcid, remote) in self._buried_first:
            self.counts["late"] += 1
        elif header.kind == INITIAL:
            self._initial(self.acceptor, datagram, remote, now)
        else:
            self.counts["stray_dropped"] += 1

    def _initial(self, acceptor: Acceptor, datagram: bytes, remote: Address, now: float) -> None:
        header = parse_long(datagram)
        assert header is not None
        realm = self.realm
        cid = realm.mint.make(0, realm.registry)
        found = acceptor.consider(header, datagram, remote, next(realm.numbers), cid, now)
        if found is None:
            self.counts["initial_dropped"] += 1
        elif isinstance(found, Reply):
            bucket = self._retries if found.why == "retry" else self._refusals
            if bucket.take(now):
                self.counts[found.why] += 1
                self.outgoing.append(Outgoing(found.datagram, remote))
            else:
                self.counts["initial_dropped"] += 1
        else:
            acceptor.began(remote)
            realm.places.take()
            realm.registry.add(cid.cid, found.number)
            self.shakes[found.number] = found
            found.counts = self.counts
            self._first_dcids[header.dcid, remote] = found
            self.counts["accepted"] += 1
            self.events.append(Began(found))
            self._poll(found, now)

    def _poll(self, shake: Shake, now: float) -> None:
        before = shake.state
        self.outgoing += [Outgoing(data, shake.remote) for data in shake.poll(now)]
        self._over(shake, before, now)

    def _over(self, shake: Shake, before: State, now: float) -> None:
        """Tells what a shake has come to, once."""
        if shake.state is before:
            return
        if before is State.SHAKING and isinstance(shake, Accept) and self.acceptor is not None:
            self.acceptor.shaken(shake.remote)
        if shake.state is State.COMPLETE:
            self.counts["completed"] += 1
            self.events.append(Completed(shake))
        elif shake.state is State.FAILED:
            assert shake.failure is not None
            self.counts["failed"] += 1
            self.shakes.pop(shake.number, None)
            self._bury_first(shake, now)
            if shake.number not in self.adopted:  # `ended` is not called for it
                self.realm.registry.remove(shake.own_cid.cid)
                self.realm.places.give_back()
                if isinstance(shake, Accept) and self.acceptor is not None:
                    self.acceptor.ended()
            self.events.append(Failed(shake, shake.failure))

    def _bury_first(self, shake: Shake, now: float) -> None:
        """The connection ID that a client chose for us: late Initials with it are not the beginning of another one."""
        if isinstance(shake, Accept):
            key = (shake.first_dcid, shake.remote)
            if self._first_dcids.pop(key, None) is not None:
                self._buried_first[key] = now + TOMBSTONE_SECONDS
