"""The way to the engines: one command ring for each worker, and what waits here while it is full.

    put ──► ring has room, nothing waits ──► ring ──► worker
       └──► else: waiting, in order ──► pump ──► ring

Commands of one worker keep their order whatever happens: behind one that waits, all wait. ADOPT does not wait here, because its
body holds secrets: it is offered again by the handover (`offer`). The rings, and what waits for them, die with their worker.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from ..abi.layout import (
    QUIC_COMMAND_BYTES,
    QUIC_SEND_MORE,
    QuicCommand,
    QuicCommandKind,
    QuicInject,
    QuicSend,
)
from .connection import Connection, Step
from .tokens import Address, packed_mapped

BODY_MAX: Final = QUIC_COMMAND_BYTES - QuicCommand.SIZE
REASON_MAX: Final = 256  # bytes of a close's reason that travel
INJECTS_WAITING: Final = 4096  # datagrams that wait for room in a ring; more are dropped


class Engine(Protocol):
    """The engine of one worker, as its command ring."""

    @property
    def worker(self) -> int:
        """Index of the worker."""

    def put(self, command: QuicCommand, body: bytes | bytearray) -> bool:
        """False: the ring has no room now."""


class Commands:
    """To all engines."""

    def __init__(self) -> None:
        self.engines: dict[int, Engine] = {}  # by worker
        self._waiting: dict[int, deque[tuple[QuicCommand, bytes | bytearray]]] = {}  # by worker: behind a full ring
        self._closing: set[int] = set()  # workers that close all they have: nothing begins there any more
        self._number = 0  # of the last command

    def up(self, engine: Engine) -> None:
        self.engines[engine.worker] = engine
        self._waiting[engine.worker] = deque()
        self._closing.discard(engine.worker)

    def down(self, worker: int) -> Engine | None:
        self._waiting.pop(worker, None)
        return self.engines.pop(worker, None)

    @property
    def waiting(self) -> bool:
        return any(self._waiting.values())

    def takes(self, worker: int) -> bool:
        """There is an engine that goes on, and nothing waits for it."""
        return worker in self.engines and not self._waiting[worker] and worker not in self._closing

    def offer(self, worker: int, connection: Connection, kind: QuicCommandKind, body: bytearray) -> Engine | None:
        """Writes a command to an engine that `takes`. Returns the engine; None: its ring is full, and nothing waits."""
        engine = self.engines[worker]
        return engine if engine.put(self._next(connection.number, kind), body) else None

    def _next(self, number: int, kind: QuicCommandKind, **more: int) -> QuicCommand:
        self._number += 1
        return QuicCommand(number=self._number, conn=number, kind=kind, **more)

    def put(self, connection: Connection, kind: QuicCommandKind, body: bytes | bytearray = b"", **more: int) -> None:
        """A command to the engine of a connection; behind a full ring it waits. None for a connection without one."""
        engine = connection.engine
        if engine is not None and connection.step is not Step.GONE:
            self._put(engine, self._next(connection.number, kind, **more), body)

    def _put(self, engine: Engine, command: QuicCommand, body: bytes | bytearray) -> None:
        waiting = self._waiting[engine.worker]
        if waiting or not engine.put(command, body):
            waiting.append((command, body))

    def pump(self) -> None:
        """What waits, as far as there is room now."""
        for worker, waiting in self._waiting.items():
            engine = self.engines[worker]
            while waiting and engine.put(*waiting[0]):
                waiting.popleft()

    def send(
        self,
        connection: Connection,
        token: int,
        data: bytes,
        how: QuicSend = QuicSend.UNI,
        *,
        stream: int = 0,
        flags: int = 0,
    ) -> None:
        """A message; one that is longer than a slot goes in several commands, which the worker puts together."""
        for at in range(0, max(1, len(data)), BODY_MAX):
            more = QUIC_SEND_MORE if at + BODY_MAX < len(data) else 0
            self.put(
                connection,
                QuicCommandKind.SEND,
                data[at : at + BODY_MAX],
                token=token,
                how=how,
                stream=stream,
                flags=flags | more,
            )

    def close_all(self, code: int = 0, reason: str = "") -> None:
        """Every worker closes all its connections, and adopts no more: the next process will."""
        self._closing |= self.engines.keys()
        for engine in self.engines.values():
            self._put(
                engine, self._next(0, QuicCommandKind.CLOSE_ALL, code=code, flags=1), reason.encode()[:REASON_MAX]
            )

    def inject(self, connection: Connection, datagram: bytes, remote: Address, tos: int = 0) -> bool:
        """A datagram for the engine of a ROUTED connection; best effort, as the network's. False: too many wait already."""
        assert connection.engine is not None
        if len(self._waiting[connection.engine.worker]) >= INJECTS_WAITING:
            return False
        where = QuicInject(
            local=connection.path.local,
            remote=packed_mapped(remote[0]),
            local_port=connection.path.local_port,
            remote_port=remote[1],
            family=connection.path.family,
            tos=tos,
            len=len(datagram),
        )
        self.put(connection, QuicCommandKind.INJECT, where.pack() + datagram)
        return True
