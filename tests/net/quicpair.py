"""Two workers with a QUIC engine each, joined by real I/O, their connection adopted at both ends with mirrored secrets.

No handshake, no supervisor: commands go into the rings as the supervisor would put them, events and records come out. Both
workers live in the test's process and are driven turn by turn, so a test decides what happens in between.

    Side("client") -- commands --> worker, engine == AF_XDP or sockets on veth == worker, engine --> events, records -- Side("server")
"""

from __future__ import annotations

import mmap
import os
import random
import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import Literal, Protocol

from afterburnerd.abi import lone, schema
from afterburnerd.abi.layout import (
    QUIC_COMMAND_BYTES,
    QUIC_EVENT_BYTES,
    RECORD_MAGIC,
    Cid,
    Decoder,
    Path,
    PortKind,
    QuicAdopt,
    QuicCid,
    QuicCommand,
    QuicCommandKind,
    QuicData,
    QuicEvent,
    QuicEventKind,
    QuicRole,
    QuicSend,
    Record,
    RecordKind,
    RecordRing,
    Rule,
)
from afterburnerd.abi.rings import Consumer, Producer, Ring
from afterburnerd.native import lib
from afterburnerd.net.xdp import LocalPort, Settings, Use, XdpProgram, mapped
from afterburnerd.quic.port import open_socket
from tests import netns
from tests.sim import wire

By = Literal["afxdp", "socket"]
PORTS = {"client": 40001, "server": 8009}
CONN = 7
SLOTS, SLOT_BYTES = 4096, 2048  # of the record ring: with room for any frame
RX_SLOT, TX_SLOT = 0, 1  # the second only where it is of another kind
TURNS = 64  # of a worker at a time


def memory(size: int) -> int:
    fd = os.memfd_create("afterburner-test")
    os.ftruncate(fd, size)
    return fd


class Worker(Protocol):
    """What a side needs of lib.Worker, or of a process that has one."""

    def set_rules(self, rules: bytes, /) -> None: ...
    def open_udp(self, slot: int, fd: int, quic: bool = False, mtu: int = 0, /) -> None: ...
    def open_xsk(
        self, slot: int, fd: int, ifindex: int, queue: int, frames: int, frame_size: int, ring: int, huge_pages: int,
        mode: int, generic: bool, multi_buffer: bool, busy_poll: bool, busy_usecs: int, busy_budget: int,
        verify_udp: bool,
    ) -> object: ...  # fmt: skip
    def close_slot(self, slot: int, /) -> None: ...
    def run(self, turns: int = 0, /) -> object: ...
    def close(self) -> None: ...


class Side:
    """One end: a worker on its end of the pair, what it was told and what it tells."""

    def __init__(
        self,
        name: Literal["client", "server"],
        rig: netns.Pair,
        rx: By,
        tx: By,
        *,
        version: int = 4,
        frames: int = 256,
        ring: int = 0,
        sndbuf: int = 0,
        verify: bool = False,
        queue: int = 0,
        program: XdpProgram | None = None,
        mtu: int = 1480,
        **config: int,
    ) -> None:
        self.name = name
        self.end, peer = (rig.near, rig.far) if name == "client" else (rig.far, rig.near)
        self.shared = {
            "stats": memory(lone.SIZE),
            "bell": memory(4096),
            "records": memory(RecordRing.SIZE + SLOTS * SLOT_BYTES),
        }
        self.stats, self.bell, self.records = (mmap.mmap(fd, 0) for fd in self.shared.values())
        self.records[: RecordRing.SIZE] = RecordRing(
            magic=RECORD_MAGIC, version=schema.VERSION, slot_bytes=SLOT_BYTES, slots=SLOTS
        ).pack()
        self.read = 0
        self.command_ring = Ring.create("commands", 64, QUIC_COMMAND_BYTES)
        self.event_ring = Ring.create("events", 64, QUIC_EVENT_BYTES)
        self.commands, self.consumer = Producer(self.command_ring), Consumer(self.event_ring)
        self.number = 0
        self.events: list[tuple[QuicEvent, bytes]] = []
        self.local = ip_address(self.end.ipv4 if version == 4 else self.end.ipv6)
        self.remote = ip_address(peer.ipv4 if version == 4 else peer.ipv6)
        self.path = Path(
            local=mapped(self.local),
            remote=mapped(self.remote),
            local_port=PORTS[name],
            remote_port=PORTS["server" if name == "client" else "client"],
            dmac=peer.mac,
            smac=self.end.mac,
            family=version,
            io=int(tx == "socket"),
            mtu=mtu - 28,
            slot=RX_SLOT if rx == tx else TX_SLOT,
        )
        self.program = program  # of another worker on the same interface
        self.queue = queue
        self.mtu, self.ring = mtu, ring
        self.worker = self.make_worker()
        self.receives_by = rx
        self.verify = verify
        self.worker.set_rules(Rule(addr=mapped(self.local), port=PORTS[name], decoder=Decoder.QUIC).pack())
        for slot, kind in ((RX_SLOT, rx), (TX_SLOT, tx)):
            if slot == RX_SLOT or rx != tx:
                self._open(slot, kind, frames, sndbuf, receives=slot == RX_SLOT)
        self.open_engine({"connections": 8, "messages": 2048, "packets": 8192, "streams": 64, "seed": 1, **config})

    def make_worker(self) -> Worker:
        worker = lib.Worker(index=0, stats=self.stats, bell=self.bell, **lone.OFFSETS)
        worker.set_records(self.records)
        return worker

    def open_engine(self, config: dict[str, int]) -> None:
        assert isinstance(self.worker, lib.Worker)
        self.worker.open_engine(self.command_ring.bytes, self.event_ring.bytes, **config)

    def _open(self, slot: int, kind: By, frames: int, sndbuf: int, receives: bool) -> None:
        with self.end.entered():
            if kind == "socket":
                sock = open_socket(str(self.local), PORTS[self.name])
                number = sock.detach()
                self.worker.open_udp(slot, number, True, self.mtu)
                if sndbuf:
                    with socket.socket(fileno=number) as again:
                        again.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
                        again.detach()
                return
            xsk = socket.socket(44, socket.SOCK_RAW)
            if self.program is None:
                self.program = XdpProgram()
                self.program.configure(Settings(mac=self.end.mac))
                self.program.set_ports({LocalPort(self.local, PORTS[self.name]): Use(PortKind.QUIC)})
                self.program.attach(self.end.ifindex, "native")
            self.worker.open_xsk(
                slot=slot, fd=xsk.dup().detach(), ifindex=self.end.ifindex, queue=self.queue, frames=frames, frame_size=2048,
                ring=self.ring or frames, huge_pages=2, mode=2, generic=False, multi_buffer=self.mtu > 2048, busy_poll=False, busy_usecs=0,
                busy_budget=0, verify_udp=self.verify,
            )  # fmt: skip
            if receives:
                self.program.set_xsk(self.queue, xsk.fileno())
            self.xsk = xsk

    def know(self, cid: bytes) -> None:
        """What the supervisor writes into `cids`."""
        if self.receives_by == "afxdp":
            assert self.program is not None
            self.program.set_cid(cid, Cid())

    def close(self) -> None:
        self.worker.close()
        if self.program is not None:
            self.program.close()
            self.xsk.close()
        self.command_ring.close()
        self.event_ring.close()
        for fd in self.shared.values():
            os.close(fd)

    # --- what the supervisor does ---

    def command(self, kind: QuicCommandKind, body: bytes = b"", **fields: int) -> int:
        self.number += 1
        assert self.commands.put(QuicCommand(**{"number": self.number, "conn": CONN, "kind": kind, **fields}), body)
        return self.number

    def send(self, data: bytes, token: int = 0, how: QuicSend = QuicSend.UNI, **fields: int) -> None:
        """As long as it is: in one command or several."""
        room = self.commands.body_limit
        for at in range(0, max(len(data), 1), room):
            more = schema_flag("QUIC_SEND_MORE") if at + room < len(data) else 0
            body = data[at : at + room]
            self.command(QuicCommandKind.SEND, body, how=how, token=token, flags=fields.get("flags", 0) | more)

    def turn(self, turns: int = TURNS) -> None:
        self.worker.run(turns)
        self.events += self.consumer.take()

    def told(self, kind: QuicEventKind) -> list[tuple[QuicEvent, bytes]]:
        return [item for item in self.events if item[0].kind == kind]

    def received(self) -> list[tuple[Record, QuicData, bytes]]:
        """Records since the last call."""
        head: int = struct.unpack_from("<Q", self.records, RecordRing.OFFSETS["head"])[0]
        assert head - self.read <= SLOTS, "the test reads too seldom"
        found = []
        for number in range(self.read, head):
            at = RecordRing.SIZE + number % SLOTS * SLOT_BYTES
            record = Record.unpack(self.records, at)
            assert record.seq == 2 * number + 2 and record.kind in (RecordKind.STREAM, RecordKind.QUIC_DATAGRAM)
            data = self.records[at + Record.SIZE : at + Record.SIZE + record.stored]
            found.append((record, QuicData.unpack(self.records, at + Record.OFFSETS["tx"]), data))
        self.read = head
        return found

    def word(self, name: str, slot: int = -1) -> int:
        """A statistic of the worker, or of one of its sources."""
        return lone.read(self.stats, "worker", name) if slot < 0 else lone.read(self.stats, "queue", name, slot)


def schema_flag(name: str) -> int:
    return next(c.value for c in schema.CONSTANTS if c.name == name)


def cid(side: str, sequence: int = 0) -> bytes:
    return bytes([0xC1 if side == "client" else 0x5E, sequence]) + bytes(6)


class Pair:
    """Both sides, adopted."""

    def __init__(self, client: Side, server: Side, seed: int, suite: int = 1, **tparams: int) -> None:
        self.client, self.server = client, server
        rng = random.Random(seed)
        secrets = {side.name: rng.randbytes(48 if suite == 2 else 32) for side in (client, server)}
        common = {
            "max_idle_timeout": 30_000, "initial_max_data": 1 << 24, "initial_max_stream_data_bidi_local": 1 << 14,
            "initial_max_stream_data_bidi_remote": 1 << 14, "initial_max_stream_data_uni": 1 << 14,
            "initial_max_streams_bidi": 16, "initial_max_streams_uni": 1024, "active_connection_id_limit": 4,
            "max_datagram_frame_size": 1200, **tparams,
        }  # fmt: skip
        parameters = {
            "client": wire.parameters(**common, initial_source_connection_id=cid("client")),
            "server": wire.parameters(
                **common,
                initial_source_connection_id=cid("server"),
                original_destination_connection_id=b"original",
                stateless_reset_token=bytes([0x5E]) * 16,
            ),
        }
        for side, peer in ((client, server), (server, client)):
            side.know(cid(side.name))
            adopt = QuicAdopt(
                path=side.path,
                local_cids=(QuicCid(len=8, has_token=1, cid=cid(side.name), token=bytes([0x5E]) * 16),),
                peer_cids=(
                    QuicCid(len=8, has_token=int(side is client), cid=cid(peer.name), token=bytes([0x5E]) * 16),
                ),
                id=CONN,
                version=1,
                role=QuicRole.CLIENT if side is client else QuicRole.SERVER,
                suite=suite,
                confirmed=int(side is server),
                tx_secret=secrets[side.name],
                rx_secret=secrets[peer.name],
                next_pn=5,
                local_count=1,
                peer_count=1,
                local_tparams_len=len(parameters[side.name]),
                remote_tparams_len=len(parameters[peer.name]),
                local_tparams=parameters[side.name],
                remote_tparams=parameters[peer.name],
            )
            side.command(QuicCommandKind.ADOPT, adopt.pack())

    def turn(self) -> None:
        self.client.turn()
        self.server.turn()

    def until(self, condition: Callable[[], bool], what: str, rounds: int = 20_000) -> None:
        for _ in range(rounds):
            if condition():
                return
            self.turn()
        told = [
            (QuicEventKind(e.kind).name, e.code, body[:40]) for s in (self.client, self.server) for e, body in s.events
        ]
        raise AssertionError(f"{what}: not within {rounds} rounds; told so far: {told[-20:]}")

    def close(self) -> None:
        self.client.close()
        self.server.close()
