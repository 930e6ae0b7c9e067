"""Files of traced connections: whose they are, how large they get, and that keys are written only where that is allowed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from afterburnerd.abi.layout import Path as Way
from afterburnerd.abi.layout import QuicClose, QuicCommandKind, QuicEvent, QuicEventKind, QuicQlog, QuicQlogFrame
from afterburnerd.quic.news import Closed
from afterburnerd.quic.trace import FILES_MAX, Forbidden, Settings, Tracer
from tests import qlog_schema

RANDOM = bytes(range(32))


class Conn:
    """What a tracer looks at of a connection."""

    def __init__(self, number: int, *, is_client: bool = True, engine: object = "here") -> None:
        self.number, self.is_client, self.engine = number, is_client, engine
        self.name, self.remote, self.path, self.client_random = "x", ("192.0.2.1", 9), Way(), RANDOM


class Hand:
    """A handover that takes commands."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []
        self.commands = self

    def put(self, connection: Any, kind: QuicCommandKind, body: bytes = b"", **more: int) -> None:
        assert kind is QuicCommandKind.TRACE
        self.told.append((connection.number, more["code"]))


class World:
    def __init__(self, directory: Path, *, allow: bool = True, limit: int = 1 << 20) -> None:
        self.directory, self.hand, self.trouble = directory / "trace", Hand(), list[str]()
        self.settings = Settings(str(self.directory), limit, allow)
        self.tracer: Any = Tracer(self.hand, self.settings, self.trouble.append)  # type: ignore[arg-type]

    def files(self) -> list[str]:
        return sorted(p.name for p in self.directory.iterdir()) if self.directory.exists() else []


def sent(number: int, frames: int = 1) -> tuple[QuicEvent, bytes]:
    event = QuicEvent(kind=QuicEventKind.QLOG, code=QuicQlog.SENT, number=number, token=99, time_ns=time.monotonic_ns())
    return event, (QuicQlogFrame(len=1).pack() + b"\x01") * frames


def keys(*, ours: bool, generation: int = 0) -> tuple[QuicEvent, bytes]:
    return QuicEvent(kind=QuicEventKind.KEYS, number=generation, code=int(ours)), bytes([ours]) * 32


def closed(connection: Conn) -> Closed:
    return Closed(connection, QuicClose.PEER, 0, True, 0, "bye", None)  # type: ignore[arg-type]


def test_off_costs_nothing_and_writes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.tracer.began(Conn(7))
    world.tracer.event(Conn(7), *sent(1))
    world.tracer.closed(closed(Conn(7)), 0)
    assert world.files() == [] and world.hand.told == []


def test_qlog_of_one_connection_from_on_to_its_end(tmp_path: Path) -> None:
    world, c = World(tmp_path), Conn(7)
    (path,) = world.tracer.switch("qlog", [c], on=True)
    assert path.name == "7-client.sqlog" and path.stat().st_mode & 0o777 == 0o600
    assert world.directory.stat().st_mode & 0o777 == 0o700
    for number in range(3):
        world.tracer.event(c, *sent(number))
        world.tracer.event(Conn(8), *sent(100))
        world.tracer.event(c, *keys(ours=True))  # not asked for
    world.tracer.closed(closed(c), time.monotonic_ns())
    header, events = qlog_schema.read(path)
    assert header["trace"]["configuration"]["peer"] == "192.0.2.1 9"
    assert [e["data"].get("header", {}).get("packet_number") for e in events] == [0, 1, 2, None]
    assert world.files() == ["7-client.sqlog"] and world.hand.told == [(7, 1)]


def test_off_ends_it_and_tells_the_engine(tmp_path: Path) -> None:
    world, c = World(tmp_path), Conn(7, is_client=False)
    (qlog,) = world.tracer.switch("qlog", [c], on=True)
    (log,) = world.tracer.switch("keylog", [c], on=True)
    assert world.tracer.switch("qlog", [c], on=True) == [qlog], "it goes on in the same file"
    world.tracer.event(c, *keys(ours=True))
    world.tracer.event(c, *keys(ours=False))
    world.tracer.switch("qlog", [c], on=False)
    world.tracer.switch("keylog", [c], on=False)
    world.tracer.event(c, *keys(ours=True, generation=1))
    assert world.hand.told == [(7, 1), (7, 3), (7, 2), (7, 0)]
    assert log.read_text() == (
        f"SERVER_TRAFFIC_SECRET_0 {RANDOM.hex()} {'01' * 32}\nCLIENT_TRAFFIC_SECRET_0 {RANDOM.hex()} {'00' * 32}\n"
    )
    assert log.stat().st_mode & 0o777 == 0o600


def test_keys_are_written_only_where_the_configuration_allows_it(tmp_path: Path) -> None:
    world, c = World(tmp_path, allow=False), Conn(7)
    for call in (
        lambda: world.tracer.switch("keylog", [c], on=True),
        lambda: world.tracer.switch_new("keylog", on=True),
    ):
        with pytest.raises(Forbidden, match=r"quic\.allow_keylog = true"):
            call()
    world.tracer.handshake_line("CLIENT_HANDSHAKE_TRAFFIC_SECRET aa bb\n")
    world.tracer.began(c)
    world.tracer.event(c, *keys(ours=True))
    assert world.files() == [] and world.hand.told == []


def test_a_reload_that_forbids_keys_ends_their_logs(tmp_path: Path) -> None:
    world, c = World(tmp_path), Conn(7)
    world.tracer.switch_new("keylog", on=True)
    (log,) = world.tracer.switch("keylog", [c], on=True)
    world.tracer.configure(Settings(str(world.directory), 1 << 20, allow_keylog=False))
    world.tracer.event(c, *keys(ours=True))
    world.tracer.began(Conn(8))
    assert log.read_text() == "" and world.hand.told == [(7, 2), (7, 0)] and world.files() == ["7-client.keys"]


def test_connections_to_come_are_traced_from_their_handshake_on(tmp_path: Path) -> None:
    world, c = World(tmp_path), Conn(9, engine=None)
    world.tracer.switch_new("keylog", on=True)
    world.tracer.switch_new("qlog", on=True)
    line = f"CLIENT_HANDSHAKE_TRAFFIC_SECRET {RANDOM.hex()} 11"
    world.tracer.handshake_line(line)
    world.tracer.handshake_line("SERVER_HANDSHAKE_TRAFFIC_SECRET ff 22\n")  # another's
    world.tracer.began(c)
    assert world.hand.told == [], "no engine has it yet"
    c.engine = "here"
    world.tracer.began(c)
    world.tracer.began(c)
    assert world.hand.told == [(9, 3)]
    world.tracer.event(c, *keys(ours=True))
    world.tracer.event(c, *keys(ours=True, generation=1))
    # The handshake told generation 0, so the engine need not.
    later = f"CLIENT_TRAFFIC_SECRET_1 {RANDOM.hex()} {'01' * 32}"
    assert (world.directory / "9-client.keys").read_text().splitlines() == [line, later]
    world.tracer.switch_new("qlog", on=False)
    world.tracer.switch_new("keylog", on=False)
    world.tracer.began(Conn(10))
    assert world.files() == ["9-client.keys", "9-client.sqlog"]


def test_files_are_bounded_and_each_is_whole(tmp_path: Path) -> None:
    world, c = World(tmp_path, limit=64 * 1024), Conn(7)
    world.tracer.switch("qlog", [c], on=True)
    for number in range(2000):
        world.tracer.event(c, *sent(number))
    assert world.files() == ["7-client.sqlog", "7-client.sqlog.1"]
    seen: list[int] = []
    for name in ("7-client.sqlog.1", "7-client.sqlog"):
        path = world.directory / name
        assert path.stat().st_size <= 33 * 1024
        seen += [e["data"]["header"]["packet_number"] for e in qlog_schema.read(path)[1]]
    assert seen == list(range(seen[0], 2000)) and len(seen) > 100


def test_the_oldest_files_go(tmp_path: Path) -> None:
    world = World(tmp_path)
    keep = world.directory / "notes.txt"
    for number in range(FILES_MAX + 8):
        world.tracer.switch("qlog", [Conn(number)], on=True)
        if number == 0:
            keep.write_text("not ours")
    assert len(world.files()) == FILES_MAX + 1 and keep.exists()
    world.tracer.close()


def test_a_disk_that_is_full_ends_the_trace_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, c = World(tmp_path), Conn(7)
    world.tracer.switch("qlog", [c], on=True)

    def full(fd: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("afterburnerd.quic.trace.os.write", full)
        world.tracer.event(c, *sent(1))
    assert len(world.trouble) == 1 and "No space left" in world.trouble[0] and world.hand.told == [(7, 1), (7, 0)]


def test_a_link_that_somebody_planted_is_not_followed(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.directory.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (world.directory / "7-client.sqlog").symlink_to(victim)
    world.tracer.switch("qlog", [Conn(7)], on=True)
    assert victim.read_text() == "precious" and not (world.directory / "7-client.sqlog").is_symlink()
