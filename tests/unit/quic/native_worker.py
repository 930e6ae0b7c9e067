"""The C engine in the place of the stand-in: the same rings, the same events, sealed packets opened again to be noted."""

from __future__ import annotations

from typing import Any

from aioquic.quic.crypto import CryptoPair

from afterburnerd.abi.layout import (
    Path,
    QuicAdopt,
    QuicCommandKind,
    QuicEvent,
    QuicEventKind,
    QuicInject,
    QuicRefusal,
)
from afterburnerd.native import lib
from afterburnerd.quic.tokens import packed_mapped
from afterburnerd.quic.wire import CID_LENGTH

from .rig import CLIENT, SERVER
from .standin import SUITE, Sealed
from .world import Worker

NS = 1_000_000_000
NEVER = (1 << 64) - 1
SETTINGS = {
    "connections": 16,
    "messages": 256,
    "packets": 2048,
    "streams": 16,
    "stream_bytes": 65_536,
    "no_mtu_discovery": 1,
}


def mapped_path(*, client: bool) -> Path:
    """Both ends have a way; the stand-in needs none."""
    here, there = (CLIENT, SERVER) if client else (SERVER, CLIENT)
    return Path(
        local=packed_mapped(here[0]),
        remote=packed_mapped(there[0]),
        local_port=here[1],
        remote_port=there[1],
        dmac=b"\2" * 6,
        smac=b"\4" * 6,
        family=4,
        ttl=64,
        mtu=1472,
    )


class Engine:
    """What a Supervisor of world.py asks of an engine: rx, tx, due, and what was sealed."""

    def __init__(self) -> None:
        self.engine = lib.QuicEngine(**SETTINGS)
        self.sealed: list[Sealed] = []
        self.events: list[tuple[object, ...]] = []  # streams that came whole
        self.openers: dict[int, tuple[bytes, CryptoPair, int]] = {}
        self.parts: dict[tuple[int, int], bytes] = {}
        self.now = 0

    def rx(self, datagram: bytes, now: float) -> None:
        self.now = max(self.now, round(now * NS))
        here = (packed_mapped(SERVER[0]), SERVER[1], packed_mapped(CLIENT[0]), CLIENT[1], 0)
        self.engine.rx([(datagram, *here)], self.now)

    def tx(self, now: float) -> list[tuple[int, bytes]]:
        self.now = max(self.now, round(now * NS))
        out: list[tuple[int, bytes]] = []
        while burst := self.engine.tx(self.now, 16, 1472):
            for data, _, conn, _, _ in burst:
                out.append((conn, data))
                if conn in self.openers:
                    self._note(conn, data)
        return out

    def _note(self, conn: int, data: bytes) -> None:
        secret, pair, length = self.openers[conn]
        _, _, number = pair.decrypt_packet(data, 1 + length, 0)
        self.sealed.append(Sealed(secret, number, data))

    def due(self) -> float | None:
        at = self.engine.deadline()
        # What is due now was due: a virtual clock must not stand still at a time that rounds to a moment before
        return None if at == NEVER else at / NS + 1e-9


class NativeWorker(Worker):
    """Rings around the C engine."""

    def __init__(self, worker: int = 0, slots: int = 64, *, client: bool = True) -> None:
        super().__init__(worker, slots)
        self.engine: Any = Engine()
        self.client = client

    def move(self, now: float, limit: int = 16) -> None:
        engine, c = self.engine, self.engine.engine
        at = engine.now = max(engine.now, round(now * NS))
        for _ in range(min(limit, len(self.commands))):
            command, body = self.commands.popleft()
            kind = command.kind
            if kind == QuicCommandKind.ADOPT:
                adopt = QuicAdopt.unpack(body)
                refusal = self.refuses or c.adopt(body, at)
                if refusal == QuicRefusal.NONE:
                    self._opener(adopt)
                self._tell(QuicEventKind.ADOPTED, command.conn, number=command.number, code=refusal)
            elif kind == QuicCommandKind.INJECT:
                head = QuicInject.unpack(body)
                engine.rx(body[QuicInject.SIZE : QuicInject.SIZE + head.len], now)
            elif kind == QuicCommandKind.SEND:
                code, _ = c.send(command.conn, command.how, body, at, token=command.token)
                if code:
                    self._tell(QuicEventKind.REFUSED, command.conn, code=-code, token=command.token)
            elif kind == QuicCommandKind.CLOSE:
                c.close(command.conn, True, command.code, body, at)
            elif kind == QuicCommandKind.CLOSE_ALL:
                c.close_all(True, command.code, body, at)
            elif kind == QuicCommandKind.STOCK:
                c.stock(command.conn, body)
            elif kind == QuicCommandKind.TOKEN:
                c.send_token(command.conn, body)
            elif kind == QuicCommandKind.DROP:
                c.drop(command.conn, at)
        for item in c.events():
            if item[0] == "data":
                self._data(*item[1:])
            elif item[0] == "done":
                _, conn, token, outcome, first = item
                self._tell(QuicEventKind.DONE, conn, token=token, code=outcome, number=first)
            elif item[0] == "event":
                event = QuicEvent.unpack(item[2])
                self.events.append((event, item[3]))

    def _opener(self, adopt: QuicAdopt) -> None:
        suite = SUITE[adopt.suite]
        secret = adopt.tx_secret[: 48 if adopt.suite == 2 else 32]
        pair = CryptoPair()
        pair.recv.setup(cipher_suite=suite, secret=secret, version=1)
        self.engine.openers[adopt.id] = (secret, pair, CID_LENGTH)

    def _data(self, conn: int, stream: int, offset: int, data: bytes, fin: bool) -> None:
        engine = self.engine
        whole = engine.parts.pop((conn, stream), b"") + data
        assert offset + len(data) == len(whole), "stream bytes out of order"
        if fin:
            engine.events.append(("stream", conn, stream, whole))
        else:
            engine.parts[conn, stream] = whole
