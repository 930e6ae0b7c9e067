"""Complete handshakes become connections once, when their way is known; a way that changes is told to the engine, and no other one."""

from __future__ import annotations

from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import pytest

from afterburnerd.abi.layout import Path, QuicCommandKind
from afterburnerd.net.facts import Path as Way
from afterburnerd.net.facts import Reason
from afterburnerd.quic.endpoint import Completed
from afterburnerd.quic.shake import State
from afterburnerd.supervisor.quic_adoptions import Adoptions

PEER, OURS = "192.0.2.1", "192.0.2.9"


def way(mac: bytes = b"\x02" * 6, reason: Reason | None = None) -> Way:
    return Way(destination=IPv4Address(PEER), asked_source=IPv4Address(OURS), mac=mac, reason=reason)


class World:
    """Everything around adoptions: one port with its endpoint, ways that are known when `known` says so, a handover that notes."""

    def __init__(self) -> None:
        self.known: dict[int, Way] = {}
        self.begun: list[int] = []
        self.commands: list[tuple[QuicCommandKind, Path]] = []
        self.closed: list[int] = []
        self.connections: dict[int, Any] = {}
        self.port: Any = SimpleNamespace(local=(OURS, 5000), endpoint=SimpleNamespace(events=[]))
        nothing: Any = lambda *_, **__: None  # noqa: E731
        ports: Any = SimpleNamespace(is_ready=lambda port: True)
        ways: Any = SimpleNamespace(of=self.known.get, forget=nothing, find=nothing)
        paths: Any = SimpleNamespace(testing=False, of=lambda way, port, remote: (0, self.path(way, remote)))
        handover: Any = SimpleNamespace(
            connections=self.connections,
            begin=self._begin,
            close=lambda connection, *_: self.closed.append(connection.number),
            commands=SimpleNamespace(put=lambda c, kind, body: self.commands.append((kind, Path.unpack(body)))),
        )
        tracer: Any = SimpleNamespace(began=nothing)
        chores: Any = SimpleNamespace(wake=nothing, spawn=nothing)
        links: Any = SimpleNamespace(handed_over=nothing)
        self.adoptions = Adoptions(ports, ways, paths, links, handover, tracer, chores)

    @staticmethod
    def path(way: Way, remote: tuple[str, int]) -> Path:
        return Path(family=4, remote_port=remote[1], mtu=1472, dmac=way.mac)

    def _begin(self, shake: Any, endpoint: object, path: Path, worker: int, now: float) -> Any:
        assert shake.state is State.COMPLETE, "this one has no secrets any more"
        self.begun.append(shake.number)
        self.connections[shake.number] = connection = SimpleNamespace(
            number=shake.number, remote=shake.remote, path=path
        )
        return connection

    def complete(self, number: int) -> Any:
        shake = SimpleNamespace(number=number, remote=(PEER, 9), state=State.COMPLETE)
        self.port.endpoint.events.append(Completed(shake))  # type: ignore[arg-type]
        self.adoptions.events(self.port, 0.0)
        return shake


async def test_a_complete_handshake_waits_for_its_way_and_is_handed_over_once() -> None:
    world = World()
    world.complete(1)
    world.adoptions.retry()
    assert world.begun == []
    world.known[1] = way()
    world.adoptions.retry()
    world.adoptions.retry()
    assert world.begun == [1]


@pytest.mark.parametrize("ended", [State.FAILED, State.CONFIRMED])
async def test_a_handshake_that_ended_while_it_waited_is_not_handed_over(ended: State) -> None:
    """It waited too long for its way, or its peer closed: it is complete no more when the way is there."""
    world = World()
    world.complete(1).state = ended
    world.known[1] = way()
    world.adoptions.retry()
    world.complete(2)
    world.known[2] = way()
    world.adoptions.retry()
    assert world.begun == [2]


async def test_an_engine_hears_of_its_path_when_it_has_changed_and_only_then() -> None:
    """Each PATH begins the search for the path's MTU anew, and the kernel tells of a neighbour whenever it asks after it."""
    world = World()
    world.known[1] = way()
    world.complete(1)
    for _ in range(3):
        world.adoptions.moved(1, way())
    assert world.commands == []
    for mac in (b"\x03" * 6, b"\x03" * 6, b"\x04" * 6):
        world.adoptions.moved(1, way(mac))
    assert [(kind, path.dmac[0]) for kind, path in world.commands] == [(QuicCommandKind.PATH, 3), (QuicCommandKind.PATH, 4)]  # fmt: skip
    first, second = (path.generation for _, path in world.commands)
    assert second == first + 1 and world.connections[1].path == world.commands[-1][1]


async def test_a_way_that_is_away_for_a_while_moves_nothing_and_a_lost_source_closes() -> None:
    world = World()
    world.known[1] = way()
    world.complete(1)
    world.adoptions.moved(1, way(reason=Reason.LINK_DOWN))
    assert world.commands == [] and world.closed == []
    world.adoptions.moved(1, way(reason=Reason.BAD_SOURCE))
    assert world.commands == [] and world.closed == [1]
    world.adoptions.moved(99, way())  # of nobody
