"""Commands to engines keep their order, whatever their rings have room for, and die with their worker."""

from __future__ import annotations

from typing import Any

from afterburnerd.abi.layout import QUIC_SEND_MORE, Path, QuicCommand, QuicCommandKind
from afterburnerd.quic.commands import BODY_MAX, INJECTS_WAITING, Commands
from afterburnerd.quic.connection import Step


class Ring:
    """An engine with room for so many commands."""

    def __init__(self, room: int, worker: int = 0) -> None:
        self.worker, self.room = worker, room
        self.taken: list[tuple[QuicCommand, bytes]] = []

    def put(self, command: QuicCommand, body: bytes | bytearray) -> bool:
        if self.room == 0:
            return False
        self.room -= 1
        self.taken.append((command, bytes(body)))
        return True

    def bodies(self) -> list[bytes]:
        return [body for _, body in self.taken]


class Conn:
    """What is looked at of a connection."""

    def __init__(self, engine: Ring | None, number: int = 7) -> None:
        self.engine, self.number, self.step, self.path = engine, number, Step.RELEASED, Path(family=4)


def world(room: int) -> tuple[Commands, Ring, Any]:
    commands, ring = Commands(), Ring(room)
    commands.up(ring)
    return commands, ring, Conn(ring)


def test_what_has_no_room_waits_and_all_behind_it_too() -> None:
    commands, ring, conn = world(2)
    for n in range(5):
        commands.put(conn, QuicCommandKind.PING, b"%d" % n)
    assert ring.bodies() == [b"0", b"1"] and commands.waiting and not commands.takes(0)
    ring.room = 1
    commands.put(conn, QuicCommandKind.PING, b"5")  # there is room, and it is not its turn
    commands.close_all(3, "bye")
    commands.pump()
    assert ring.bodies() == [b"0", b"1", b"2"]
    ring.room = 9
    commands.pump()
    assert ring.bodies() == [b"0", b"1", b"2", b"3", b"4", b"5", b"bye"] and not commands.waiting
    numbers = [command.number for command, _ in ring.taken]
    assert numbers == sorted(set(numbers))
    assert not commands.takes(0)  # it closes all it has, and adopts no more
    commands.down(0)
    commands.up(ring)
    assert commands.takes(0)


def test_an_offer_does_not_wait() -> None:
    commands, ring, conn = world(0)
    assert commands.offer(0, conn, QuicCommandKind.ADOPT, bytearray(b"secret")) is None
    ring.room = 1
    commands.pump()
    assert not ring.taken, "secrets wait with their owner, not here"
    assert commands.offer(0, conn, QuicCommandKind.ADOPT, bytearray(b"secret")) is ring
    assert not commands.takes(1), "there is no such engine"


def test_a_long_message_goes_in_several_commands() -> None:
    commands, ring, conn = world(9)
    data = bytes(range(256)) * 40
    commands.send(conn, 77, data)
    assert b"".join(ring.bodies()) == data and len(ring.taken) == -(-len(data) // BODY_MAX)
    more = [command.flags & QUIC_SEND_MORE for command, _ in ring.taken]
    assert all(more[:-1]) and not more[-1] and {command.token for command, _ in ring.taken} == {77}
    commands.send(conn, 78, b"")
    assert ring.taken[-1][1] == b"" and not ring.taken[-1][0].flags


def test_datagrams_that_wait_are_bounded() -> None:
    commands, _, conn = world(0)
    taken = [commands.inject(conn, b"\x40", ("192.0.2.1", 1)) for _ in range(INJECTS_WAITING + 10)]
    assert taken == [True] * INJECTS_WAITING + [False] * 10


def test_what_waits_for_a_worker_dies_with_it() -> None:
    commands, ring, conn = world(0)
    commands.put(conn, QuicCommandKind.PING)
    assert commands.down(0) is ring and not commands.waiting and commands.down(0) is None
    fresh = Ring(9)
    commands.up(fresh)
    commands.pump()
    assert not fresh.taken


def test_a_connection_without_an_engine_is_told_nothing() -> None:
    commands, ring, conn = world(9)
    conn.engine = None
    commands.put(conn, QuicCommandKind.PING)
    conn.engine, conn.step = ring, Step.GONE
    commands.put(conn, QuicCommandKind.PING)
    assert not ring.taken and not commands.waiting
