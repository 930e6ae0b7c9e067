"""The links of a daemon: dialled when they want it, given what they may send, told what became of it.

    [[connect]], `afterburnerctl dial` ──► Link (quic/link.py: what it keeps, its pauses) ──► dial() ──► endpoint's handshake
    `submit` ──► Link ──► give ──► handover's SEND                                             number ──► link
    engine's word on a message ──► done, refused ──► Link ──► push(): offered again where there was no room

A turn looks only at links whose time to be dialled has come, and at those whose messages were pushed back: 4,096 open ones cost
nothing. At most DIALS_MAX handshakes of ours are under way at once, so a restart of a data plane with many links does not drown in
its own dials, and a turn begins a few, so that those under way are not kept waiting by fresh ones.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from ipaddress import ip_address

import msgspec

from afterburnerd import base58
from afterburnerd.abi.layout import QuicSend
from afterburnerd.cli import EXIT_UNREACHABLE, EXIT_USAGE
from afterburnerd.config import Config, Connect
from afterburnerd.config.check import check as findings
from afterburnerd.observe import messages
from afterburnerd.observe.log import say
from afterburnerd.quic.connection import Connection
from afterburnerd.quic.dial import Dial, EarlyMessage, Target
from afterburnerd.quic.endpoint import Failed
from afterburnerd.quic.front import FrontSettings
from afterburnerd.quic.handover import Handover
from afterburnerd.quic.link import Link, Message
from afterburnerd.quic.link import State as LinkState
from afterburnerd.quic.news import Closed, Done, Refused, StreamOpened
from afterburnerd.supervisor.quic_chores import Chores
from afterburnerd.supervisor.quic_ports import Ports
from afterburnerd.supervisor.quic_ways import Ways
from afterburnerd.supervisor.refusal import Refusal

DIALS_MAX = 64  # dials under way at once: 100 ms of work, far below any timeout
DIALS_TURN = 4  # begun in one turn: 2 ms
MESSAGE_MAX = 65_536  # bytes: AB_QUIC_PORT_MESSAGE of native/quic_port.h
FAILURES_SAID = 3  # more of the same says nothing new; `afterburnerctl connections` has it


class Links:
    """By name."""

    def __init__(
        self,
        config: Callable[[], Config],
        ports: Ports,
        ways: Ways,
        handover: Handover,
        settings: Callable[[], FrontSettings],
        chores: Chores,
    ) -> None:
        self._config = config
        self._ports = ports
        self._ways = ways
        self._handover = handover
        self._places = handover.realm.places
        self._settings = settings
        self._chores = chores
        self.all: dict[str, Link] = {}
        self._pushed: dict[str, Link] = {}  # with messages that an engine had no room for
        self._wanting: list[tuple[float, int, Link]] = []  # a heap: when they want to be dialled
        self._order = itertools.count()  # of equals in it
        self._dialling: set[str] = set()
        self._of: dict[int, Link] = {}  # by number of the handshake or connection
        self._early: dict[int, tuple[EarlyMessage, ...]] = {}  # what a handshake took with it in 0-RTT
        self._tokens = itertools.count(1)

    # --- which there are ---

    def apply(self) -> None:
        """As the configuration has them now."""
        wanted = {c.name: c for c in self._config().connects}
        for name, link in list(self.all.items()):
            if not (is_same(link.target, target_of(wanted[name])) if name in wanted else link.by_hand):
                self.drop(name, 0, "no longer configured")
        for name, connect in wanted.items():
            if name not in self.all:
                self._add(Link(name, target_of(connect), room=connect.messages, kept=connect.streams == "kept"))
            else:
                self.all[name].configured(target_of(connect), connect.messages, kept=connect.streams == "kept")

    def dial(self, name: str, address: str, port: int, server_name: str, pin: str) -> None:
        """A link that lives until it is closed or the daemon ends."""
        if name in self.all:
            raise Refusal(
                f'there is a connection "{name}" already; close it first, or choose another name', EXIT_UNREACHABLE
            )
        try:
            # What [[connect]] does not take is not to be had by hand either
            asked = {"name": name, "address": address, "port": port, "server_name": server_name, "pin": pin}
            connect = msgspec.convert(asked, Connect)
        except msgspec.ValidationError as error:
            raise Refusal(f"cannot dial: {error}", EXIT_USAGE) from None
        wrong = next(findings(msgspec.structs.replace(self._config(), connects=(connect,))), None)
        if wrong is not None:
            raise Refusal(f"cannot dial: {wrong.message}", EXIT_USAGE)
        link = Link(name, target_of(connect), room=connect.messages)
        link.by_hand = True
        self._add(link)
        self._chores.wake()

    def _add(self, link: Link) -> None:
        self.all[link.name] = link
        self._rest(link)

    def _rest(self, link: Link) -> None:
        """Until it wants to be dialled again."""
        self._dialling.discard(link.name)
        due = link.due()
        if due is not None and self.all.get(link.name) is link:
            heapq.heappush(self._wanting, (due, next(self._order), link))

    def drop(self, name: str, code: int, reason: str) -> None:
        link = self.all.pop(name)
        self._dialling.discard(name)
        link.close()
        if link.number is not None:
            self._ports.close_number(link.number, code, reason)

    def close_all(self) -> None:
        for link in self.all.values():
            link.close()

    # --- a turn ---

    def turn(self, now: float) -> None:
        """Dials some of those that want it."""
        begun = 0
        while self._wanting and self._wanting[0][0] <= now and len(self._dialling) < DIALS_MAX and begun < DIALS_TURN:
            link = heapq.heappop(self._wanting)[2]
            if self.all.get(link.name) is not link or not link.wants_dial(now):
                continue  # dropped meanwhile
            begun += 1
            if not self._places.free:
                self._cannot(
                    link, f"all {self._places.each * self._places.workers} places are taken (quic.connections)", now
                )
                continue
            try:
                port = self._ports.to_dial_from(link.target.address[0])
            except OSError as error:
                self._cannot(link, f"no way there: {error.strerror}", now)
                continue
            early = link.early() if self._config().quic.early_data else ()
            dial = port.endpoint.dial(link.target, now, messages=early, settings=self._settings())
            link.dialling(dial.number)
            self._dialling.add(link.name)
            self._of[dial.number] = link
            self._ways.find(dial.number, dial.remote[0], port)
            port.flush()

    def _cannot(self, link: Link, reason: str, now: float) -> None:
        """Not now: the link pauses."""
        if link.failures < FAILURES_SAID:
            say(messages.QUIC_DIAL_FAILED, name=link.name, reason=reason)
        link.dialling(0)
        link.ended(now)
        self._rest(link)

    def due(self) -> float | None:
        """When a turn has something to dial. With as many under way as may be, the end of one brings a turn."""
        return self._wanting[0][0] if self._wanting and len(self._dialling) < DIALS_MAX else None

    def push(self, now: float) -> None:
        """Messages that an engine had no room for, once more."""
        for name, link in list(self._pushed.items()):
            connection = self._handover.connections.get(link.number or 0)
            if not link.pushed or connection is None:
                del self._pushed[name]
            elif now >= link.push_at:
                link.push(lambda m, connection=connection: self._give(connection, m))  # type: ignore[misc]

    @property
    def pushing(self) -> bool:
        return bool(self._pushed)

    # --- messages ---

    def submit(self, name: str, data: bytes, datagram: bool = False) -> int:
        """A message for a link, on a stream or, once, in a DATAGRAM. Returns its token; Refusal where it is not taken."""
        link = self.all.get(name)
        if link is None:
            known = ", ".join(sorted(self.all)) or "none"
            raise Refusal(f'there is no connection "{name}"; there are: {known}', EXIT_UNREACHABLE)
        if not 0 < len(data) <= MESSAGE_MAX:
            raise Refusal(f"{len(data)} bytes: a message has 1 to {MESSAGE_MAX}", EXIT_UNREACHABLE)
        connection = self._handover.connections.get(link.number or 0)
        if datagram:
            self._check_datagram(link, connection, len(data))
        token = next(self._tokens)
        give = (lambda m: self._give(connection, m)) if connection is not None else None
        if not link.submit(Message(token, data, QuicSend.DATAGRAM if datagram else QuicSend.UNI), give):
            raise Refusal(
                f'"{name}" has no room: {len(link)} messages wait for their acknowledgement', EXIT_UNREACHABLE
            )
        self._note_pushed(link)
        self._chores.wake()
        return token

    def _check_datagram(self, link: Link, connection: Connection | None, size: int) -> None:
        """It is sent once and now, so what the engine would refuse, or who cannot be asked, is told at once."""
        if connection is None or link.state is not LinkState.OPEN:
            raise Refusal(
                f'"{link.name}" is not open ({link.state.value}), and a DATAGRAM does not wait for a connection; '
                "`afterburnerctl connections` shows when it is",
                EXIT_UNREACHABLE,
            )
        if not connection.datagram_max:
            raise Refusal(
                f'the peer of "{link.name}" takes no DATAGRAM frames: send it on a stream, without --datagram',
                EXIT_UNREACHABLE,
            )
        if size > connection.datagram_max:
            raise Refusal(
                f'{size} bytes: a DATAGRAM to "{link.name}" has 1 to {connection.datagram_max}; longer messages go on streams',
                EXIT_USAGE,
            )

    def _give(self, connection: Connection, message: Message) -> None:
        self._handover.commands.send(connection, message.token, message.data, message.how, stream=message.stream)

    def done(self, news: Done) -> None:
        link = self._of.get(news.connection.number)
        if link is not None:
            link.done(news.token, news.outcome, news.first_sent_ns)

    def refused(self, news: Refused, now: float) -> None:
        link = self._of.get(news.connection.number)
        if link is not None and news.token:
            link.refused(news.token, news.error, now)
            self._note_pushed(link)

    def _note_pushed(self, link: Link) -> None:
        if link.pushed:
            self._pushed[link.name] = link

    def stream_opened(self, news: StreamOpened) -> None:
        link = self._of.get(news.connection.number)
        if link is not None:
            link.stream_opened(news.token, news.stream)

    # --- what becomes of handshakes and connections ---

    def handed_over(self, dial: Dial) -> None:
        self._early[dial.number] = dial.early_messages

    def opened(self, connection: Connection, now: float) -> None:
        link = self._of.get(connection.number)
        if link is None or link.number != connection.number:
            return
        ms = (now - connection.began) * 1000
        say(
            messages.QUIC_CONNECTED,
            name=link.name,
            address=connection.remote[0],
            port=connection.remote[1],
            identity=base58.encode(connection.peer) if connection.peer else "none",
            took=f"{ms:.1f} ms",
        )
        self._dialling.discard(link.name)
        link.opened(self._early.pop(connection.number, ()), lambda m: self._give(connection, m), now)
        self._note_pushed(link)

    def confirmed(self, connection: Connection) -> None:
        self._early.pop(connection.number, None)

    def failed(self, event: Failed, now: float) -> None:
        """A handshake has come to nothing."""
        number, failure = event.shake.number, event.failure
        link = self._of.pop(number, None)
        if link is not None and link.number == number:
            text = f"{failure.why.value}" + (f" (code {failure.code:#x})" if failure.code else "")
            reason = f"{text}: {failure.reason}" if failure.reason else text
            if link.failures < FAILURES_SAID:
                say(messages.QUIC_DIAL_FAILED, name=link.name, reason=reason)
            link.ended(now)
            self._rest(link)

    def closed(self, news: Closed, now: float) -> None:
        number = news.connection.number
        self._early.pop(number, None)
        link = self._of.pop(number, None)
        if link is not None and link.number == number:
            how = news.by.name.lower() if news.by is not None else "never adopted, or its worker died"
            reason = f"{how}, code {news.code:#x}" + (f": {news.reason}" if news.reason else "")
            if link.state is not LinkState.CLOSED:
                say(messages.QUIC_LOST, name=link.name, reason=reason)
            link.ended(now, ours=news.ours)
            self._rest(link)
            self._chores.wake()


def is_same(a: Target, b: Target) -> bool:
    """Whether a connection to the one is a connection to the other."""
    return msgspec.structs.replace(a, timeout=b.timeout) == b


def target_of(connect: Connect) -> Target:
    return Target(
        (str(ip_address(connect.address)), connect.port),
        connect.server_name,
        base58.decode(connect.pin) if connect.pin else b"",
        connect.timeout_ms / 1000,
    )
