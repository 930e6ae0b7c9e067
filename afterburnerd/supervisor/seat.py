"""The place of a QUIC engine beside a worker's process: the rings of one data plane, from its start to its death.

    Keeper.up ──► seat.open(plane)   rings made, OpenEngine ordered (before the seal)
              ──► seat.up()          every queue is bound: paths lead somewhere, connections may be adopted
    death     ──► seat.down()        the rings go with the process; what it had is lost
    end       ──► seat.close()       the table of connections, which outlives processes, goes too

Whoever sleeps is woken: a worker with `idle = "sleep"` by us when a command is put, we by a worker where something is awaited
(`doze`). A worker that spins makes no system call for it, and none makes one for what nobody waits for.

Secrets of connections lie in the command ring until the engine has consumed them, so its memory is anonymous, and a new
process never sees the rings of a dead one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from afterburnerd.abi import orders
from afterburnerd.abi.connections import Table
from afterburnerd.abi.layout import (
    QUIC_COMMAND_BYTES,
    QUIC_EVENT_BYTES,
    QuicCommand,
    QuicEvent,
)
from afterburnerd.abi.rings import Consumer, Producer, Ring
from afterburnerd.config import Quic
from afterburnerd.plane import Plane
from afterburnerd.quic.places import rows_for
from afterburnerd.supervisor.crossing import Crossings

COMMAND_SLOTS = 256  # 1 MiB: sixteen turns of the loop
PACKETS_EACH = 64  # records of sent packets: a block for each connection, which the engine insists on
# A packet number is left out every so many on average: who acknowledges it acknowledges what it never got (RFC 9000 21.4).
# Often enough to catch it within a second of a busy connection; a hole costs the peer one range of its ACK.
SKIP_PACKETS = 1024
# Streams that are under way in pieces. A peer may cut as many as it may open, and send all beginnings before any end (aioquic
# does); for what finds no object no packet is acknowledged, and the connection stands still until an object is free.
STREAMS_LEAST = 256
STREAMS_ROOM = 64 << 20  # bytes of reassembly at most
EVENT_SLOTS = 1024  # 2 MiB: a fate for each of as many messages between two looks


class Seat:
    """Of one worker. Implements `Engine` of quic/handover.py while the process lives."""

    def __init__(
        self,
        name: str,
        worker: int,
        config: Quic,
        changed: Callable[[Seat, bool], None],
        told: Callable[[], None],
        crossings: Crossings,
    ) -> None:
        self._name = name  # of the daemon's shared memory
        self._worker = worker
        self.config = config
        self.workers = 1  # how many there are
        self._crossings = crossings
        self._changed = changed  # called with True when it can adopt, with False when it is gone
        self._told = told  # called when the worker rang, because there are events
        self._rings: list[Ring] = []
        self._commands: Producer | None = None
        self._events: Consumer | None = None
        self._table: Table | None = None
        self._is_up = False
        self._work_bell = self._news_bell = -1  # eventfds: rung by us, by the engine
        self._loop: asyncio.AbstractEventLoop | None = None  # that listens to the news bell
        self.woke = False  # the worker slept when the latest command was put: its answer takes a while longer

    @property
    def worker(self) -> int:
        return self._worker

    @property
    def is_up(self) -> bool:
        return self._is_up

    async def open(self, plane: Plane) -> None:
        """Makes the rings of this process and has the engine opened."""
        self.down()
        commands = Ring.create("commands", COMMAND_SLOTS, QUIC_COMMAND_BYTES)
        self._rings.append(commands)
        events = Ring.create("events", EVENT_SLOTS, QUIC_EVENT_BYTES)
        self._rings.append(events)
        await plane.order(self.order(), (commands.fd, events.fd, self._shown().fd), 30.0)
        self._work_bell, self._news_bell = (os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(2))
        await plane.order(orders.OpenBells(), (self._work_bell, self._news_bell))
        for order, fd in self._crossings.of(self._worker, self.workers):
            await plane.order(order, (fd,))
        self._commands, self._events = Producer(commands), Consumer(events)

    def _shown(self) -> Table:
        """The table that everybody reads connections from: the same one as before, unless its size is another."""
        rows = rows_for(self.config.connections)
        if self._table is not None and self._table.rows != rows:
            self._table.close()
            self._table = None
        if self._table is None:
            self._table = Table.create(self._name, self._worker, rows)
        return self._table

    def close(self) -> None:
        """At the end."""
        self.down()
        if self._table is not None:
            self._table.unlink()
            self._table.close()
            self._table = None

    def order(self) -> orders.OpenEngine:
        quic = self.config
        rows = rows_for(quic.connections)
        return orders.OpenEngine(
            connections=rows,
            connections_limit=quic.connections,
            packets=max(65_536, PACKETS_EACH * rows),
            streams=max(STREAMS_LEAST, min(quic.max_streams, STREAMS_ROOM // quic.max_stream_bytes)),
            stream_bytes=quic.max_stream_bytes,
            uni_window=1 << max(6, (quic.max_streams - 1).bit_length()),
            cc=0 if quic.congestion == "cubic" else 1,
            initial_window=quic.initial_window,
            hystart=quic.hystart,
            ack_threshold=quic.ack_threshold,
            pacing=quic.pacing,
            ecn=quic.ecn,
            skip_packets=SKIP_PACKETS,
            keep_alive_ms=quic.keep_alive_ms,
            seed=int.from_bytes(os.urandom(7), "big") | 1,
        )

    def up(self) -> None:
        if self._commands is not None and not self._is_up:
            self._is_up = True
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._news_bell, self._rung)
            self._changed(self, True)

    def down(self) -> None:
        if self._is_up:
            self._is_up = False
            self._changed(self, False)
        self._commands = self._events = None
        for ring in self._rings:
            ring.close()
        self._rings.clear()
        if self._loop is not None:
            self._loop.remove_reader(self._news_bell)
            self._loop = None
        for bell in (self._work_bell, self._news_bell):
            if bell >= 0:
                os.close(bell)
        self._work_bell = self._news_bell = -1

    def put(self, command: QuicCommand, body: bytes | bytearray) -> bool:
        if self._commands is None or not self._commands.put(command, body):
            return False
        self.woke = self._commands.wakes()
        if self.woke:
            os.eventfd_write(self._work_bell, 1)
        return True

    # --- sleep and waking ---

    def doze(self) -> bool:
        """The worker rings from here on. False: there are events already."""
        return self._events is None or self._events.doze()

    def wake(self) -> None:
        if self._events is not None:
            self._events.wake()

    @property
    def news_bell(self) -> int:
        """-1: there is none."""
        return self._news_bell

    def silence(self) -> None:
        """The bell has been heard."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._news_bell)

    def _rung(self) -> None:
        self.silence()
        self._told()

    def take(self) -> list[tuple[QuicEvent, bytes]]:
        """Events that are there. RingBroken: the worker is not to be believed any more."""
        return self._events.take(256) if self._events is not None else []
