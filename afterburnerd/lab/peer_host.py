"""An end of QUIC in one program: the supervisor's half (handshakes, handover) and a data plane, over AF_XDP or a UDP socket.

    kernel socket ─► Endpoint ─► Handover ─► command ring ─► data plane: worker, engine ══ AF_XDP or socket ══ network
                                    │     ◄─ event ring ◄──┤
                          Client or Server ◄─ record ring ◄┘   what came on streams and in DATAGRAMs

All of it is the product's: the rooms `quic` and `net`, the process of `afterburnerd.dataplane`. What is missing of a daemon is what
a test does not want: a configuration, the control socket, second chances. A data plane that dies ends the program.

With sockets, long and short headers of a port part ways by a classic BPF filter, as in the daemon. With AF_XDP the XDP program
hangs on the interface for as long as this lives, and every queue of it is served. A changed local port (`rebind`) is a NAT's
doing: same connection IDs, another port, and nobody told the peer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from ipaddress import ip_address
from pathlib import Path as FilePath
from typing import Final, Literal, Protocol

import msgspec

from ..abi import lone, orders
from ..abi.layout import (
    QUIC_COMMAND_BYTES,
    QUIC_EVENT_BYTES,
    Cid,
    Decoder,
    Path,
    PortKind,
    QuicCommand,
    QuicCommandKind,
    QuicData,
    QuicEvent,
    QuicEventKind,
    QuicInject,
    Record,
    RecordKind,
    Rule,
)
from ..abi.records import Ring as RecordRing
from ..abi.records import RingReader
from ..abi.rings import Consumer, Producer, Ring
from ..cli import EXIT_PERMISSION, EXIT_UNREACHABLE, EXIT_USAGE, ToolError
from ..net.facts import Path as Way
from ..net.watch import Watcher, watch
from ..net.xdp import LocalPort, Settings, Use, XdpProgram
from ..plane import OrderFailed, Plane, PlaneGone
from ..quic.accept import Limits
from ..quic.connection import Connection
from ..quic.dial import Dial, EarlyMessage, Target
from ..quic.endpoint import Began, Completed, Endpoint, Failed, Forward, PeerReset, Realm
from ..quic.front import FrontSettings
from ..quic.handover import Handover
from ..quic.news import Closed, News, Other
from ..quic.places import rows_for
from ..quic.port import KernelPort, open_socket, share
from ..quic.shake import Failure, Shake
from ..quic.tokens import Address, packed_mapped, unpacked
from ..quic.trace import Settings as TraceSettings
from ..quic.trace import Tracer
from . import rig

Backend = Literal["afxdp", "socket"]
AF_XDP: Final = 44
IP_MTU: Final = 14  # linux/in.h
IPV6_MTU: Final = 24  # linux/in6.h
COMMAND_SLOTS, EVENT_SLOTS = 256, 4096
RECORD_SLOTS, RECORD_BYTES = 16_384, 2048  # 32 MiB: 20 ms at full speed, and a stream of 300 kB many times
MESSAGE_SLOTS: Final = 16_384
FRAMES, FRAME_BYTES, XSK_RING = 4096, 2048, 2048
STREAM_BYTES: Final = 1 << 16  # credit of a stream, and room for its reassembly
SKIP_PACKETS: Final = 1024  # as in the daemon: a number is left out every so many
OBJECTS: Final = 512  # streams under way in pieces, all connections
UDP_V4, UDP_V6 = 28, 48  # bytes of IP and UDP headers
DATAGRAM_MOST: Final = 1472  # bytes of UDP payload: of Ethernet, also where a device (lo) would take more
LEAST_MTU: Final = 1200
START_SECONDS, STOP_SECONDS = 20.0, 5.0
FAST, SLOW = 0.0005, 0.002  # seconds between two looks, after one that found something and after one that did not


class Options(msgspec.Struct, frozen=True, kw_only=True):
    local: Address
    backend: Backend
    interface: str = ""  # AF_XDP; empty: the one that has the address
    cpu: int = -1  # the data plane's own, where it spins; -1: any, and it sleeps when nothing comes
    connections: int = 256
    uni: int = 128  # streams that a peer may have open
    bidi: int = 128
    records: bool = True  # look at what arrives


class Owner(Protocol):
    """Who a host tells. Calls come from the event loop, in order."""

    def completed(self, shake: Shake) -> None: ...
    def failed(self, shake: Shake, failure: Failure) -> None: ...
    def news(self, news: News) -> None: ...
    def stream(self, number: int, stream: int, data: bytes, fin: bool) -> None: ...
    def datagram(self, number: int, data: bytes) -> None: ...


class _Seat:
    """The command ring, as the handover knows it."""

    worker = 0

    def __init__(self, commands: Producer) -> None:
        self._commands = commands

    def put(self, command: QuicCommand, body: bytes | bytearray) -> bool:
        return self._commands.put(command, body)


class _Routes:
    """The map `cids`; sockets need none."""

    def __init__(self) -> None:
        self.program: XdpProgram | None = None

    def add(self, cid: bytes, worker: int) -> None:
        if self.program is not None:
            self.program.set_cid(cid, Cid(worker=worker))

    def remove(self, cid: bytes) -> None:
        if self.program is not None:
            self.program.set_cid(cid, None)


class Host:
    """One local address and port. `async with`; `run` beside whatever else is done; `stop` in the end."""

    def __init__(self, options: Options, realm: Realm, settings: FrontSettings, limits: Limits | None, owner: Owner):
        self.options = options
        self.owner = owner
        self._routes = _Routes()
        self.endpoint = Endpoint(realm, settings, limits)
        self.handover = Handover(realm, self._routes)
        self.lost = 0  # records that came faster than they were read
        self.closed_by_plane = ""  # why the data plane ended
        self._held = contextlib.AsyncExitStack()
        self._plane: Plane | None = None
        self._port: KernelPort | None = None
        self._events: Consumer | None = None
        self._records: RingReader | None = None
        self._watcher: Watcher | None = None
        self._xsks: list[socket.socket] = []
        self._locals: list[Address] = []  # ours: where we listen or dial from, then those of rebindings
        self._slots = 0
        self._ways: dict[str, Way] = {}
        self._finding: dict[str, asyncio.Task[None]] = {}
        self._waiting: list[Shake] = []  # complete, and the way is not known yet
        self._tracer: Tracer | None = None
        self._wake = asyncio.Event()

    # --- life --------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Host:
        try:
            await self._open()
        except (OSError, OrderFailed, PlaneGone, TimeoutError) as error:
            await self._held.aclose()
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            code = EXIT_PERMISSION if isinstance(error, PermissionError) else EXIT_UNREACHABLE
            raise ToolError(f"{self.options.local[0]}, {self.options.backend}: {text}", code) from None
        except BaseException:
            await self._held.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._finding.values():
            task.cancel()
        await self._held.aclose()

    async def _open(self) -> None:
        options = self.options
        sock = _bind(options.local, shared=options.backend == "socket")
        self._port = KernelPort(sock, self.endpoint, self._woken)
        self._held.callback(self._port.close)
        if options.backend == "afxdp":
            await self._load(options.interface or interface_of(options.local[0]))
        plane = await self._start_plane()
        await self._publish(self._port.local)
        if options.backend == "socket":
            await self._open_half(sock)
        else:
            await self._open_queues()
        await plane.order(orders.Seal(uid=-1, gid=-1), timeout=START_SECONDS)

    async def _start_plane(self) -> Plane:
        held, options = self._held, self.options
        stats = os.memfd_create("afterburner-lab", os.MFD_CLOEXEC)
        held.callback(os.close, stats)
        os.ftruncate(stats, lone.SIZE)
        name = f"afterburner-lab-peer-{os.getpid()}"
        ring = RecordRing.create(name, 0, RECORD_SLOTS, RECORD_BYTES)
        held.callback(ring.close)
        try:
            self._records = RingReader(name, 0, "first")
        finally:
            ring.unlink()  # who has it open keeps it, and nothing is left however we end
        held.callback(self._records.close)
        plane = self._plane = Plane()
        held.push_async_callback(plane.stop, STOP_SECONDS)
        await plane.start(
            orders.Setup(
                worker=0,
                parent=os.getpid(),
                cpu=options.cpu,
                nice=0,
                fifo=0,
                sleeps=options.cpu < 0,
                records=options.records,
                **lone.OFFSETS,
            ),
            stats,
            ring.fd if options.records else None,
            START_SECONDS,
        )
        commands = Ring.create("commands", COMMAND_SLOTS, QUIC_COMMAND_BYTES)
        held.callback(commands.close)
        events = Ring.create("events", EVENT_SLOTS, QUIC_EVENT_BYTES)
        held.callback(events.close)
        rows = rows_for(options.connections)
        engine = orders.OpenEngine(
            connections=rows,
            connections_limit=options.connections,
            messages=MESSAGE_SLOTS,
            packets=max(65_536, 64 * rows),
            streams=OBJECTS,
            stream_bytes=STREAM_BYTES,
            uni_window=_power(options.uni),
            bidi_window=_power(options.bidi),
            ecn=True,
            skip_packets=SKIP_PACKETS,
            seed=int.from_bytes(os.urandom(7), "big") | 1,
        )
        await plane.order(engine, (commands.fd, events.fd), START_SECONDS)
        self._events = Consumer(events)
        self.handover.engine_up(_Seat(Producer(commands)))
        return plane

    @property
    def plane(self) -> Plane:
        assert self._plane is not None
        return self._plane

    @property
    def port(self) -> KernelPort:
        assert self._port is not None
        return self._port

    async def run(self) -> None:
        """Until it is cancelled, or the data plane has ended."""
        while not self.plane.ended.done():
            told = self._turn()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAST if told else SLOW):
                    await self._wake.wait()
            self._wake.clear()
        self.closed_by_plane = self.plane.ended.result()

    async def stop(self, reason: str) -> None:
        """CONNECTION_CLOSE with code 0 to everybody, within a bound."""
        now = time.monotonic()
        for number in list(self.endpoint.shakes):
            if number not in self.handover.connections:
                self.endpoint.abort(number, now, 0, reason)
        self.port.flush()
        self.handover.commands.close_all(0, reason)
        while self.handover.connections and time.monotonic() < now + 1.0 and not self.plane.ended.done():
            self._turn()
            await asyncio.sleep(FAST)

    # --- what is asked for -------------------------------------------------------------------------------------------

    def dial(self, target: Target, messages: tuple[EarlyMessage, ...]) -> Dial:
        dial = self.endpoint.dial(target, time.monotonic(), messages=messages)
        self._find_way(dial)
        self.port.flush()
        self._wake.set()
        return dial

    def trace(self, directory: FilePath, limit: int) -> None:
        """A qlog of each connection to come."""
        self._tracer = Tracer(self.handover, TraceSettings(str(directory), limit, False), _cannot_trace)
        self._tracer.switch_new("qlog", on=True)
        self._held.callback(self._tracer.close)

    def nudge(self) -> None:
        """Something was asked of the handover: the next look is soon."""
        self._wake.set()

    async def rebind(self, connection: Connection) -> int:
        """The connection goes on from another local port; the port."""
        host = self.options.local[0]
        sock = _bind((host, 0), shared=self.options.backend == "socket")
        self._held.callback(sock.close)
        local: Address = (host, sock.getsockname()[1])
        await self._publish(local)
        slot = connection.path.slot
        if self.options.backend == "socket":
            slot = await self._open_half(sock)
        moved = msgspec.structs.replace(
            connection.path, local_port=local[1], slot=slot, generation=connection.path.generation + 1
        )
        connection.path = moved
        self.handover.commands.put(connection, QuicCommandKind.PATH, moved.pack())
        self._wake.set()
        return local[1]

    # --- I/O ---------------------------------------------------------------------------------------------------------

    async def _load(self, interface: str) -> None:
        if os.geteuid() != 0:
            raise ToolError("AF_XDP needs root: run it as root, or with --backend socket", EXIT_PERMISSION)
        self._watcher = await self._held.enter_async_context(watch(interface))
        link = self._watcher.facts.link
        if link is None:
            raise ToolError(f"--interface {interface}: there is no such device", EXIT_USAGE)
        program = self._routes.program = XdpProgram()
        self._held.callback(program.close)
        program.configure(Settings(mac=link.mac))
        program.attach(link.index)

    async def _open_queues(self) -> None:
        assert self._watcher is not None and self._routes.program is not None
        link = self._watcher.facts.link
        assert link is not None and self._routes.program.attachment is not None
        for queue in range(max(1, link.queues.rx if link.queues else 1)):
            xsk = socket.socket(AF_XDP, socket.SOCK_RAW)
            self._held.callback(xsk.close)
            order = orders.OpenQueue(
                slot=self._slots, ifindex=link.index, queue=queue, frames=FRAMES, frame_size=FRAME_BYTES, ring=XSK_RING,
                huge_pages=0, mode=0, generic=self._routes.program.attachment.mode == "generic", multi_buffer=False,
                busy_poll=False, busy_usecs=0, busy_budget=0, verify_udp=False,
            )  # fmt: skip
            await self.plane.order(order, (xsk.fileno(),), START_SECONDS)
            self._routes.program.set_xsk(queue, xsk.fileno())
            self._slots += 1

    async def _open_half(self, sock: socket.socket) -> int:
        """The worker's half of a shared port; its slot."""
        with share(sock) as half:
            slot = self._slots
            await self.plane.order(orders.OpenSocket(slot=slot, quic=True), (half.fileno(),))
        self._slots += 1
        return slot

    async def _publish(self, local: Address) -> None:
        """A port more that is ours, to the worker and to XDP."""
        self._locals.append(local)
        rules = b"".join(Rule(addr=packed_mapped(h), port=p, decoder=Decoder.QUIC).pack() for h, p in self._locals)
        await self.plane.order(orders.SetRules(rules=rules))
        if self._routes.program is not None:
            listens = self.endpoint.acceptor is not None
            self._routes.program.set_ports(
                {LocalPort(ip_address(h), p): Use(PortKind.QUIC, listen=listens) for h, p in self._locals}
            )

    # --- ways --------------------------------------------------------------------------------------------------------

    def _find_way(self, shake: Shake) -> None:
        host, watcher = shake.remote[0], self._watcher
        if watcher is None or host in self._ways or host in self._finding:
            return

        async def find() -> None:
            try:
                self._ways[host] = await watcher.follow(host, ip_address(self.options.local[0]))
            except (OSError, TimeoutError) as error:
                self._abort(shake, f"no way to {host}: {error}")
            self._finding.pop(host, None)
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                self._begin(one)
            self._wake.set()

        self._finding[host] = asyncio.create_task(find(), name=f"way to {host}")

    def _abort(self, shake: Shake, why: str) -> None:
        self.endpoint.abort(shake.number, time.monotonic(), 1, why)

    def _path(self, shake: Shake) -> Path | None:
        """None: it is not known yet."""
        host, port = self.port.local
        six = ":" in host
        room = UDP_V6 if six else UDP_V4
        common = Path(
            local=packed_mapped(host),
            remote=packed_mapped(shake.remote[0]),
            local_port=port,
            remote_port=shake.remote[1],
            family=6 if six else 4,
            ttl=64,
            mtu=min(DATAGRAM_MOST, max(LEAST_MTU, _mtu_towards(shake.remote) - room)),
        )
        if self._watcher is None:
            return msgspec.structs.replace(common, io=1, slot=0)
        way = self._ways.get(shake.remote[0])
        if way is None:
            return None
        if not way.usable:
            assert way.reason is not None
            self._abort(shake, f"AF_XDP cannot be used towards {shake.remote[0]}: {way.reason.explanation}")
            return None
        outer, inner = (*(tag.vid for tag in way.vlans), 0, 0)[:2]
        assert self._routes.program is not None
        flow = self._routes.program.flow((ip_address(shake.remote[0]), shake.remote[1]), (ip_address(host), port))
        slot = flow.rx_queue if flow is not None and flow.rx_queue < self._slots else 0
        return msgspec.structs.replace(
            common,
            vlan_outer=outer,
            vlan_inner=inner,
            dmac=way.mac,
            smac=way.source_mac,
            slot=slot,
            mtu=min(common.mtu, way.mtu - room),
        )

    # --- a turn ------------------------------------------------------------------------------------------------------

    def _woken(self, port: KernelPort) -> None:
        """Something came up at the kernel socket."""
        self._turn()

    def _turn(self) -> bool:
        """Everything that is there. False: nothing was."""
        now = time.monotonic()
        self._endpoint_events(now)
        self.handover.pump(now)
        assert self._events is not None
        events: list[tuple[QuicEvent, bytes]] = self._events.take(256)
        told = self._read() or bool(events)  # what arrived before a connection ended is read before its end is told
        for event, body in events:
            if event.kind == QuicEventKind.STRAY:
                self._stray(body)
            else:
                self.handover.event(event, body, now)
        while self.handover.news:
            news = self.handover.news.pop(0)
            if self._tracer is not None and isinstance(news, Other):
                self._tracer.event(news.connection, news.event, news.body)
            elif self._tracer is not None and isinstance(news, Closed):
                self._tracer.closed(news, time.monotonic_ns())
            self.owner.news(news)
        self.port.flush()
        return told

    def _endpoint_events(self, now: float) -> None:
        while self.endpoint.events:
            event = self.endpoint.events.pop(0)
            if isinstance(event, Began):
                self._find_way(event.shake)
            elif isinstance(event, Completed):
                self.owner.completed(event.shake)
                self._begin(event.shake)
            elif isinstance(event, Failed):
                self.handover.shake_failed(event.shake, now)
                if event.shake.number not in self.handover.connections:
                    self.owner.failed(event.shake, event.failure)
            elif isinstance(event, Forward):
                self.handover.inject(event.number, event.datagram, event.remote, event.tos)
            elif isinstance(event, PeerReset):
                self.handover.peer_reset(event.number, now)

    def _begin(self, shake: Shake) -> None:
        if shake.front is None:
            return
        path = self._path(shake)
        if path is not None:
            connection = self.handover.begin(shake, self.endpoint, path, 0, time.monotonic())
            if self._tracer is not None:
                self._tracer.began(connection)
        elif shake.front is not None:
            self._waiting.append(shake)

    def _stray(self, body: bytes) -> None:
        where = QuicInject.unpack(body)
        remote = (unpacked(where.remote), where.remote_port)
        self.port.receive(body[QuicInject.SIZE : QuicInject.SIZE + where.len], remote, where.tos)

    def _read(self) -> bool:
        """What came on streams."""
        assert self._records is not None
        found = False
        while self.options.records and (slots := self._records.read(1024)):
            found = True
            for slot in slots:
                record = Record.unpack(slot)
                if record.kind not in (RecordKind.STREAM, RecordKind.QUIC_DATAGRAM):
                    continue
                data = QuicData.unpack(slot, Record.OFFSETS["tx"])
                payload = slot[Record.SIZE : Record.SIZE + record.stored]
                if record.kind == RecordKind.QUIC_DATAGRAM:
                    self.owner.datagram(data.conn, payload)
                elif not data.reset:
                    self.owner.stream(data.conn, data.stream, payload, bool(data.fin))
        self.lost = self._records.lost
        return found


def is_key_update(news: News) -> bool:
    """Of ours."""
    return isinstance(news, Other) and news.event.kind == QuicEventKind.KEY_UPDATE and news.event.code == 1


def _cannot_trace(why: str) -> None:
    print(f"afterburner-lab peer: no qlog any more: {why}", file=sys.stderr, flush=True)


def _power(value: int) -> int:
    return 1 << max(6, (value - 1).bit_length())


def _bind(local: Address, *, shared: bool) -> socket.socket:
    try:
        return open_socket(*local, shared=shared)
    except OSError as error:
        raise ToolError(f"UDP port {local[1]} of {local[0]}: {error.strerror}", EXIT_UNREACHABLE) from None


def _mtu_towards(remote: Address) -> int:
    """Of the kernel's way there: bytes of IP."""
    six = ":" in remote[0]
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(remote)
        level, option = (socket.IPPROTO_IPV6, IPV6_MTU) if six else (socket.IPPROTO_IP, IP_MTU)
        mtu: int = probe.getsockopt(level, option)
        return mtu


def interface_of(address: str) -> str:
    """The device that has an address."""
    done = rig.run("ip", "-j", "address", "show")
    for device in msgspec.json.decode(done.stdout):
        if any(ip_address(info["local"]) == ip_address(address) for info in device.get("addr_info", ())):
            return str(device["ifname"])
    raise ToolError(f"{address} is on no device of this host: give the address of one, or --interface", EXIT_USAGE)
