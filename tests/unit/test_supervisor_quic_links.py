"""Links are dialled a bounded number at once, cost nothing while they are open, and offer again what an engine had no room for."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from afterburnerd.abi.layout import QuicOutcome
from afterburnerd.config import Config, Interface
from afterburnerd.quic.link import NO_ROOM, PUSH_PAUSE, State
from afterburnerd.quic.news import Closed, Done, Refused
from afterburnerd.quic.places import Places
from afterburnerd.supervisor.quic_links import DIALS_MAX, DIALS_TURN, MESSAGE_MAX, Links
from afterburnerd.supervisor.refusal import Refusal


class World:
    """Everything around links: a socket, its endpoint, ways, a handover whose engine takes what it is given."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.dialled: list[int] = []
        self.sent: list[tuple[int, bytes]] = []
        self.closed: list[int] = []
        self.unreachable = False
        self.connections: dict[int, Any] = {}
        self.commands = SimpleNamespace(send=lambda c, token, data, how, stream: self.sent.append((token, data)))
        itself: Any = self
        self.realm = SimpleNamespace(places=Places())
        config = Config(interface=Interface(name="eth0"))
        chores: Any = SimpleNamespace(wake=lambda: None)
        ways: Any = SimpleNamespace(find=lambda number, host, port: None)
        settings: Any = SimpleNamespace
        self.links = Links(lambda: config, itself, ways, itself, settings, chores)

    # --- ports, and the endpoint of the one that there is ---

    def to_dial_from(self, host: str) -> Any:
        if self.unreachable:
            raise OSError(101, "Network is unreachable")
        return SimpleNamespace(endpoint=SimpleNamespace(dial=self._dial), flush=lambda: None)

    def _dial(self, target: Any, now: float, **more: Any) -> Any:
        number = next(self.numbers)
        self.dialled.append(number)
        return SimpleNamespace(number=number, remote=target.address)

    def close_number(self, number: int, code: int, reason: str) -> bool:
        self.closed.append(number)
        return True

    # --- what happens ---

    def add(self, count: int) -> None:
        for n in range(count):
            self.links.dial(f"link-{n}", "192.0.2.1", 1000 + n, "", "")

    def open(self, number: int, now: float) -> Any:
        connection = SimpleNamespace(number=number, remote=("192.0.2.1", 9), peer=b"", began=now, is_client=True)
        self.connections[number] = connection
        self.links.opened(connection, now)  # type: ignore[arg-type]
        return connection


def test_so_many_dials_are_under_way_and_no_more() -> None:
    world = World()
    world.add(DIALS_MAX + 10)
    world.links.turn(0.0)
    assert len(world.dialled) == DIALS_TURN, "others have their turn in between"
    for _ in range(DIALS_MAX):
        world.links.turn(0.1)
    assert len(world.dialled) == DIALS_MAX and world.links.due() is None
    for number in world.dialled[:3]:
        world.open(number, 0.2)
    assert world.links.due() is not None
    world.links.turn(0.3)
    world.links.turn(0.3)
    assert len(world.dialled) == DIALS_MAX + 3


def test_open_links_are_not_looked_at_and_lost_ones_are_dialled_again() -> None:
    world = World()
    world.add(1)
    world.links.turn(0.0)
    connection = world.open(1, 0.1)
    assert world.links.due() is None
    del world.connections[1]
    world.links.closed(Closed(connection, None, 0, False, 0, "the data plane died", None), 0.2)
    assert world.links.due() == 0.2, "at once: the peer did nothing wrong"
    world.links.turn(0.2)
    assert world.dialled == [1, 2]


def test_where_there_is_no_way_a_link_pauses() -> None:
    world = World()
    world.add(1)
    world.unreachable = True
    world.links.turn(0.0)
    (link,) = world.links.all.values()
    assert link.state is State.PAUSED and not world.dialled
    world.unreachable = False
    due = world.links.due()
    assert due is not None and due > 0
    world.links.turn(due)
    assert world.dialled == [1]


def test_what_the_engine_had_no_room_for_is_offered_again_in_a_moment() -> None:
    world = World()
    world.add(1)
    world.links.turn(0.0)
    connection = world.open(1, 0.1)
    token = world.links.submit("link-0", b"x")
    assert world.sent == [(token, b"x")] and not world.links.pushing
    world.links.refused(Refused(connection, token, NO_ROOM), 1.0)
    assert world.links.pushing
    world.links.push(1.0)
    assert len(world.sent) == 1, "not in the same moment"
    world.links.push(1.0 + PUSH_PAUSE)
    assert world.sent == [(token, b"x")] * 2
    world.links.push(1.1)
    assert not world.links.pushing
    world.links.done(Done(connection, token, QuicOutcome.ACKNOWLEDGED, 5))
    assert len(world.links.all["link-0"]) == 0


def test_a_link_that_is_dropped_takes_its_connection_with_it() -> None:
    world = World()
    world.add(1)
    world.links.turn(0.0)
    world.links.drop("link-0", 0, "enough")
    assert world.closed == [1] and not world.links.all and world.links.due() is None


def test_what_cannot_be_is_refused_in_words() -> None:
    world = World()
    world.add(1)
    for call, text in (
        (lambda: world.links.submit("x", b"1"), "there are: link-0"),
        (lambda: world.links.submit("link-0", b""), "1 to"),
        (lambda: world.links.submit("link-0", bytes(MESSAGE_MAX + 1)), "1 to"),
        (lambda: world.links.dial("link-0", "192.0.2.1", 1, "", ""), "already"),
        (lambda: world.links.dial("y", "host.example", 1, "", ""), "host.example"),
    ):
        with pytest.raises(Refusal, match=text):
            call()
