"""QUIC in the daemon: kernel sockets, handshakes, adoptions, and the connections that the configuration wants.

    [[connect]] ─► Link ─► Endpoint ─► Handover ─► Seat (command ring) ─► worker
    [[listen]]  ────────► Endpoint ─►    │    ◄── Seat (event ring) ◄──── worker
                                         ├─► cids     (XDP: short headers of these go to the worker)
                                         └─► news ─► Link (fates, dials anew), journal, `afterburnerctl connections`

What each of them does stands in its own file; this one wires sockets, clocks and rings to them, and finds the way to a
peer (route, neighbour, queue) for the engine. The way is followed for as long as the connection lives: when the kernel
changes it, the engine is told.

Events are polled: each millisecond and faster while adoptions are under way, every 20 ms else. A worker that is
gone is known by its pidfd, not from here.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine
from ipaddress import IPv6Address, ip_address
from pathlib import Path as FilePath

import msgspec

from afterburnerd import base58
from afterburnerd.abi import control
from afterburnerd.abi.layout import (
    Cid,
    Decoder,
    Path,
    PortKind,
    QuicCommandKind,
    QuicEventKind,
    QuicInject,
    Rule,
)
from afterburnerd.abi.rings import RingBroken
from afterburnerd.cli import EXIT_CONFIG, EXIT_PERMISSION, EXIT_UNREACHABLE
from afterburnerd.config import Config, Connect, Listen
from afterburnerd.net import selftest
from afterburnerd.net.facts import Path as Way
from afterburnerd.net.selftest import Verdict
from afterburnerd.net.watch import Watcher
from afterburnerd.net.xdp import LocalPort, Use
from afterburnerd.observe import messages
from afterburnerd.observe.log import say
from afterburnerd.quic.accept import Limits
from afterburnerd.quic.cids import load_key
from afterburnerd.quic.dial import Dial, EarlyMessage, Target
from afterburnerd.quic.endpoint import Began, Completed, Endpoint, Failed, Forward, PeerReset, Realm
from afterburnerd.quic.front import FrontSettings
from afterburnerd.quic.handover import (
    Closed,
    Confirmed,
    Connection,
    Done,
    Handover,
    Migrated,
    Opened,
    Other,
    Refused,
    Step,
)
from afterburnerd.quic.identity import Identity, IdentityError
from afterburnerd.quic.link import Link, Message
from afterburnerd.quic.link import State as LinkState
from afterburnerd.quic.params import Params
from afterburnerd.quic.port import KernelPort, open_socket, share, source_for
from afterburnerd.quic.shake import Shake
from afterburnerd.quic.tokens import Address, packed_mapped, unpacked
from afterburnerd.quic.trace import Forbidden as KeylogForbidden
from afterburnerd.quic.trace import Settings as TraceSettings
from afterburnerd.quic.trace import Tracer
from afterburnerd.supervisor.backend import Backend, choose
from afterburnerd.supervisor.crossing import Crossings
from afterburnerd.supervisor.device import Device
from afterburnerd.supervisor.keeper import Keeper
from afterburnerd.supervisor.plane import OrderFailed, PlaneGone
from afterburnerd.supervisor.quic_off import QuicOff
from afterburnerd.supervisor.refusal import Refusal
from afterburnerd.supervisor.seat import Seat

FAST = 0.001  # seconds between two looks at events while something is under way
BRISK = 0.005  # while handshakes are under way: their datagrams wake us by themselves, confirmations are not urgent
SLOW = 0.02
EAGER = 0.0002  # seconds that are spent looking for the answer to an adoption: a worker that spins has it in a tenth of that
DIALS_MAX = 64  # dials under way at once: 100 ms of work, far below any timeout
ROWS_MAX = 2000  # of one answer to `connections`: a message of the control socket has an end
CLOSE_SECONDS = 0.5  # for CONNECTION_CLOSE of all connections at the end
UDP_V4, UDP_V6 = 28, 48  # bytes of IP and UDP headers
LEAST_MTU = 1200
MESSAGE_MAX = 65_536  # bytes: AB_QUIC_PORT_MESSAGE of native/quic_port.h


class QuicPort:
    """A kernel socket of ours with its endpoint."""

    def __init__(self, port: KernelPort, listen: Listen | None) -> None:
        self.port = port
        self.listen = listen
        self.users = 0  # links that dial from here; a listener's is not counted


class Routes:
    """The map `cids`, where there is an XDP program; without one the sockets' split by first byte does it."""

    def __init__(self, device: Device, backend: Callable[[], Backend]) -> None:
        self._device = device
        self._backend = backend

    def add(self, cid: bytes, worker: int) -> None:
        if self._device.program is not None and self._backend().receive == "afxdp":
            self._device.program.set_cid(cid, Cid(worker=worker))

    def remove(self, cid: bytes) -> None:
        if self._device.program is not None:
            self._device.program.set_cid(cid, None)


class QuicService(QuicOff):
    """`prepare` once, before the workers; `run` beside them; `configure` with each reload; `stop` before the workers end."""

    wanted = True

    def __init__(self, config: Config, device: Device, watcher: Watcher) -> None:
        super().__init__()
        self.config = config
        self.device = device
        self.watcher = watcher
        self.keepers: list[Keeper] = []
        self.links: dict[str, Link] = {}
        self._pushed: dict[str, Link] = {}  # links with messages that an engine had no room for
        self._restless: dict[str, Link] = {}  # those that are not open: all that a turn looks at
        self.ports: dict[Address, QuicPort] = {}
        self.halves: dict[Address, tuple[int, int]] = {}  # shared ports: worker and slot of the other half
        self._identity: Identity | None = None
        self._realm: Realm | None = None
        self._handover: Handover | None = None
        self._tracer: Tracer | None = None
        self._seats: dict[int, Seat] = {}
        self._crossings = Crossings()
        self._testing = False
        self._verdict: Verdict | None = None  # of the self-test of AF_XDP, where something depends on it
        self._ways: dict[tuple[str, str], Way] = {}  # by peer's and local address
        self._users: dict[tuple[str, str], set[int]] = {}  # numbers of handshakes and connections that go there
        self._key_of: dict[int, tuple[str, str]] = {}
        self._finding: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._waiting: dict[int, tuple[Shake, KernelPort]] = {}  # complete, and their way is not known yet
        self._early: dict[int, tuple[EarlyMessage, ...]] = {}
        self._owners: dict[int, KernelPort] = {}
        self._link_of: dict[int, Link] = {}
        self._tokens = itertools.count(1)
        self._republish: Callable[[], Awaitable[None]] | None = None
        self._ready: set[Address] = set()  # ports that every worker's table has
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    # --- by what packets go ------------------------------------------------------------------------------------------

    async def _test(self) -> None:
        """Connections that are complete meanwhile wait for it: some tenths of a second, once."""
        try:
            self._verdict = await selftest.run()
        finally:
            self._testing = False
        self._retry_waiting()
        self._wake.set()

    def way_in_and_out(self) -> Backend:
        return choose(self.config.quic, self.device.rung, self._verdict)

    def backend(self) -> control.QuicBackend:
        return self.way_in_and_out().status()

    # --- what others ask ---------------------------------------------------------------------------------------------

    @property
    def handover(self) -> Handover:
        assert self._handover is not None
        return self._handover

    def seat(self, worker: int) -> Seat:
        """For a keeper, before its process starts."""
        seat = self._seats.get(worker)
        if seat is None:
            seat = self._seats[worker] = Seat(
                self.config.daemon.name, worker, self.config.quic, self._seat_changed, self._crossings
            )
        seat.config = self.config.quic
        seat.workers = len(self.config.workers)
        return seat

    def workers_made(self, keepers: list[Keeper], republish: Callable[[], Awaitable[None]]) -> None:
        """Other keepers than before: the halves of shared ports are theirs to have."""
        self._republish = republish
        before = {k.index: k.quic_sockets for k in self.keepers}
        self.keepers = keepers
        for keeper in keepers:
            keeper.quic_sockets = before.get(keeper.index, [])

    # --- life --------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Reads keys, before any process starts. Refusal where they cannot be had."""
        quic = self.config.quic
        try:
            self._identity = Identity.load(FilePath(quic.identity)) if quic.identity else Identity.generate()
            key = FilePath(quic.reset_key or f"{self.config.daemon.run_dir}/reset.key")
            self._realm = Realm(load_key(key))
        except IdentityError as error:
            raise Refusal(f"quic.identity: {error}", EXIT_CONFIG) from None
        except (OSError, ValueError) as error:
            raise Refusal(f"quic.reset_key: {error}", EXIT_CONFIG) from None
        self._handover = Handover(self._realm, Routes(self.device, self.way_in_and_out))
        self._tracer = Tracer(self._handover, self._trace_settings(), _cannot_trace)

    def settings(self) -> FrontSettings:
        quic, link = self.config.quic, self.device.facts.link
        assert self._identity is not None
        mtu = link.mtu if link is not None else 1500
        params = Params(
            max_idle_timeout_ms=quic.idle_timeout_ms,
            max_udp_payload_size=max(LEAST_MTU, min(mtu, 65_535) - UDP_V4),
            max_data=quic.max_data,
            max_stream_data_bidi_local=quic.max_stream_bytes,
            max_stream_data_bidi_remote=quic.max_stream_bytes,
            max_stream_data_uni=quic.max_stream_bytes,
            max_streams_uni=quic.max_streams,
        )
        return FrontSettings(
            identity=self._identity,
            params=params,
            alpn=(quic.alpn,),
            tell_secrets=self.tracer.handshake_line if quic.allow_keylog else None,
        )

    def _trace_settings(self) -> TraceSettings:
        quic = self.config.quic
        directory = quic.trace_dir or f"{self.config.daemon.run_dir}/trace"
        return TraceSettings(directory, quic.trace_bytes, quic.allow_keylog)

    @property
    def tracer(self) -> Tracer:
        assert self._tracer is not None
        return self._tracer

    async def run(self) -> None:
        """For the daemon's life."""
        if "auto" in (self.config.quic.receive, self.config.quic.send) and self.device.rung != "socket":
            self._testing = True
            self._spawn(self._test(), "self-test of AF_XDP")
        self.apply()
        loop = asyncio.get_running_loop()
        ways = asyncio.create_task(self._follow_ways(), name="quic ways")
        try:
            while True:
                self._turn(loop.time())
                pause = self._pause(loop.time())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            ways.cancel()

    def _pause(self, now: float) -> float:
        if self.handover.busy or self._pushed:
            return FAST
        if any(p.port.endpoint.shakes for p in self.ports.values()):
            return BRISK
        due = min((d for link in self._restless.values() if (d := link.due()) is not None), default=now + SLOW)
        return min(SLOW, max(FAST, due - now))

    async def stop(self) -> None:
        """CONNECTION_CLOSE to everybody, within a bound; the engine sends it."""
        if self._stopping or self._handover is None:
            return
        self._stopping = True
        for link in self.links.values():
            link.close()
        now = asyncio.get_running_loop().time()
        for quic_port in self.ports.values():
            for number in list(quic_port.port.endpoint.shakes):
                if number not in self.handover.connections:
                    quic_port.port.endpoint.abort(number, now, 0, "shutting down")
            quic_port.port.flush()
        self.handover.close_all(0, "shutting down")
        until = now + CLOSE_SECONDS
        while self.handover.connections and asyncio.get_running_loop().time() < until:
            self._turn(asyncio.get_running_loop().time())
            await asyncio.sleep(FAST)
        for task in self._tasks | set(self._finding.values()):
            task.cancel()

    def close(self) -> None:
        """No worker lives any more."""
        if self._tracer is not None:
            self._tracer.close()
        for quic_port in self.ports.values():
            quic_port.port.close()
        self.ports.clear()
        for seat in self._seats.values():
            seat.close()
        self._crossings.close()
        for keeper in self.keepers:
            for sock in keeper.quic_sockets:
                sock.close()
            keeper.quic_sockets.clear()

    # --- configuration -----------------------------------------------------------------------------------------------

    def check(self, config: Config) -> None:
        """Everything that a reload may change can be put into force; what fails then is told as trouble."""

    def configure(self, config: Config) -> None:
        self.config = config
        if self._handover is not None and not self._stopping:
            self.tracer.configure(self._trace_settings())
            self.apply()
            for quic_port in self.ports.values():
                quic_port.port.endpoint.adjust(self.settings())
            self._wake.set()

    def apply(self) -> None:
        """Listeners and links as the configuration has them now."""
        self._apply_listens()
        wanted = {c.name: c for c in self.config.connects}
        for name in [n for n in self.links if n not in wanted or self.links[n].target != target_of(wanted[n])]:
            self._drop_link(name, 0, "no longer configured")
        for name, connect in wanted.items():
            if name not in self.links:
                self._add_link(Link(name, target_of(connect), room=connect.messages))

    def _add_link(self, link: Link) -> None:
        self.links[link.name] = self._restless[link.name] = link

    def _drop_link(self, name: str, code: int, reason: str) -> None:
        link = self.links.pop(name)
        self._restless.pop(name, None)
        link.close()
        if link.number is not None:
            self.close_number(link.number, code, reason)

    def _apply_listens(self) -> None:
        wanted: dict[Address, Listen] = {}
        for listen in self.config.listens:
            for host in self._hosts(listen):
                wanted.setdefault((host, listen.port), listen)
        for address, quic_port in list(self.ports.items()):
            if quic_port.listen is not None and wanted.get(address) != quic_port.listen:
                self._close_port(address)
        self.trouble.clear()
        for address, listen in wanted.items():
            if address not in self.ports:
                try:
                    self._open_port(address, listen)
                except OSError as error:
                    self.trouble[listen.name] = f"UDP port {address[1]} of {address[0]}: {error.strerror}"
                    say(messages.QUIC_PORT_FAILED, name=listen.name, reason=self.trouble[listen.name])
                else:
                    say(messages.QUIC_LISTENS, name=listen.name, address=address[0], port=address[1])
        self._publish()

    def _hosts(self, listen: Listen) -> list[str]:
        if listen.address != "any":
            return [str(ip_address(listen.address))]
        return [str(a.address) for a in self.device.facts.local_addresses() if not a.address.is_link_local]

    def addresses_changed(self) -> None:
        """Listeners on "any" follow the addresses of the interface."""
        if self._handover is not None and not self._stopping:
            self._apply_listens()

    # --- sockets -----------------------------------------------------------------------------------------------------

    def _open_port(self, address: Address, listen: Listen | None) -> QuicPort:
        assert self._realm is not None
        sock = open_socket(address[0], address[1], shared=True)
        endpoint = Endpoint(self._realm, self.settings(), limits_of(listen) if listen is not None else None)
        port = KernelPort(sock, endpoint, self._port_events)
        quic_port = QuicPort(port, listen)
        self.ports[port.local] = quic_port
        return quic_port

    def _close_port(self, address: Address) -> None:
        quic_port = self.ports.pop(address)
        now = asyncio.get_running_loop().time()
        for number in list(quic_port.port.endpoint.shakes):
            quic_port.port.endpoint.abort(number, now, 0, "no longer listening")
        for connection in [c for c in self.handover.connections.values() if c.endpoint is quic_port.port.endpoint]:
            self.handover.close(connection, now, 0, "no longer listening")
        quic_port.port.flush()
        quic_port.port.close()

    def _publish(self) -> None:
        """The local ports of ours, to the workers' tables and to XDP, which parts long and short headers of them."""
        self.device.quic_ports = {local: Use(PortKind.QUIC, listen=listens) for local, listens in self._locals()}
        wanted = set(self.ports)
        self._ready &= wanted
        if self._republish is None or wanted == self._ready:
            self.device.publish_again()
            return

        async def publish(republish: Callable[[], Awaitable[None]]) -> None:
            try:
                await republish()
            except (OrderFailed, PlaneGone, TimeoutError, OSError) as error:
                # A worker that is down takes the rules of its next start from `rules`.
                say(messages.REBIND_FAILED, interface=self.device.facts.interface, reason=str(error))
            self._ready |= wanted
            self._retry_waiting()
            self._wake.set()

        self._spawn(publish(self._republish), "quic rules")

    def rules(self) -> bytes:
        """Every local port of ours is the engine's, in the worker's own look at a frame as well."""
        return b"".join(
            Rule(
                addr=packed_mapped(str(port.address)),
                port=port.port,
                vlan_outer=(*port.vlans, 0)[0],
                vlan_inner=(*port.vlans, 0, 0)[1],
                decoder=Decoder.QUIC,
            ).pack()
            for port, _ in self._locals()
        )

    def _locals(self) -> list[tuple[LocalPort, bool]]:
        """Our ports as packets to them carry them, and whether we listen there."""
        tags = {str(a.address): tuple(tag.vid for tag in a.vlans) for a in self.device.facts.local_addresses()}
        return [
            (LocalPort(ip_address(host), port, tags.get(host, ())), p.listen is not None)
            for (host, port), p in self.ports.items()
        ]

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _dial_port(self, host: str) -> QuicPort:
        """The socket to dial from: one for each local address."""
        source = source_for(host)
        for quic_port in self.ports.values():
            if quic_port.listen is None and quic_port.port.local[0] == source:
                return quic_port
        quic_port = self._open_port((source, 0), None)
        self._publish()
        return quic_port

    # --- a turn ------------------------------------------------------------------------------------------------------

    def _turn(self, now: float) -> None:
        self._dial(now)
        for quic_port in list(self.ports.values()):
            self._endpoint_events(quic_port.port, now)
        self._push(now)
        self.handover.pump(now)
        self._look(now)
        for quic_port in self.ports.values():
            quic_port.port.flush()

    def _look(self, now: float) -> None:
        """Events that are there; while a worker has an adoption to answer, it is waited for a moment."""
        clock = asyncio.get_running_loop().time
        until = clock() + EAGER
        while True:
            told = False
            for seat in list(self._seats.values()):
                told = self._take(seat, now) or told
            self._news(now)
            if not told and not (self.handover.exported and clock() < until):
                return

    def _push(self, now: float) -> None:
        """Messages that an engine had no room for, once more."""
        for name, link in list(self._pushed.items()):
            connection = self.handover.connections.get(link.number or 0)
            if not link.pushed or connection is None:
                del self._pushed[name]
            elif now >= link.push_at:
                link.push(lambda m, connection=connection: self._give(connection, m))  # type: ignore[misc]

    def _port_events(self, port: KernelPort) -> None:
        """Something came up at a socket: a complete handshake is adopted before the next datagram is looked at."""
        now = asyncio.get_running_loop().time()
        self._endpoint_events(port, now)
        if self.handover.exported:
            self._look(now)
        port.flush()
        self._wake.set()

    def _take(self, seat: Seat, now: float) -> bool:
        try:
            events = seat.take()
        except RingBroken as error:
            keeper = next((k for k in self.keepers if k.index == seat.worker), None)
            if keeper is not None:
                keeper.restart(f"its event ring is broken: {error}", keeper.plane)
            seat.down()
            return False
        for event, body in events:
            if event.kind == QuicEventKind.STRAY:
                self._stray(body)
            else:
                self.handover.event(event, body, now)
        return bool(events)

    def _stray(self, body: bytes) -> None:
        where = QuicInject.unpack(body)
        local, remote = (unpacked(where.local), where.local_port), (unpacked(where.remote), where.remote_port)
        quic_port = self.ports.get(local)
        if quic_port is not None:
            quic_port.port.receive(body[QuicInject.SIZE : QuicInject.SIZE + where.len], remote)

    def _dial(self, now: float) -> None:
        if self._stopping or not any(seat.is_up for seat in self._seats.values()):
            return
        if not self._restless:
            return
        under_way = sum(link.state is LinkState.DIALLING for link in self._restless.values())
        for link in list(self._restless.values()):
            if under_way >= DIALS_MAX:
                return
            if not link.wants_dial(now):
                continue
            under_way += 1
            try:
                port = self._dial_port(link.target.address[0]).port
            except OSError as error:
                say(messages.QUIC_DIAL_FAILED, name=link.name, reason=f"no way there: {error.strerror}")
                link.dialling(0)
                link.ended(now)
                continue
            messages_early = link.early() if self.config.quic.early_data else ()
            dial = port.endpoint.dial(link.target, now, messages=messages_early, settings=self.settings())
            link.dialling(dial.number)
            self._link_of[dial.number] = link
            self._find_way(dial.number, dial.remote[0], port)
            port.flush()

    def _endpoint_events(self, port: KernelPort, now: float) -> None:
        while port.endpoint.events:
            event = port.endpoint.events.pop(0)
            if isinstance(event, Began):
                self._find_way(event.shake.number, event.shake.remote[0], port)
            elif isinstance(event, Completed):
                self._completed(event.shake, port, now)
            elif isinstance(event, Failed):
                self._failed(event, now)
            elif isinstance(event, Forward):
                self.handover.inject(event.number, event.datagram, event.remote)
            elif isinstance(event, PeerReset):
                self.handover.peer_reset(event.number, now)

    def _failed(self, event: Failed, now: float) -> None:
        number, failure = event.shake.number, event.failure
        self.handover.shake_failed(event.shake, now)
        self._waiting.pop(number, None)
        link = self._link_of.pop(number, None)
        if link is not None and link.number == number:
            text = f"{failure.why.value}" + (f" (code {failure.code:#x})" if failure.code else "")
            reason = f"{text}: {failure.reason}" if failure.reason else text
            if link.failures < 3:  # more of the same says nothing new; `afterburnerctl connections` has it
                say(messages.QUIC_DIAL_FAILED, name=link.name, reason=reason)
            link.ended(now)
        if number not in self.handover.connections:
            self._forget_way(number)

    def _completed(self, shake: Shake, port: KernelPort, now: float) -> None:
        number = shake.number
        way = self._ways.get(self._key_of.get(number, ("", "")))
        if way is None or port.local not in self._ready or self._testing:
            self._waiting[number] = (shake, port)  # its way is on its way
            return
        worker, path = self._path(way, port, shake.remote)
        if path is None:
            self._share(number, shake, port)
            return
        self._begin(shake, port, path, worker, now)

    def _begin(self, shake: Shake, port: KernelPort, path: Path, worker: int, now: float) -> None:
        if isinstance(shake, Dial):
            self._early[shake.number] = shake.early_messages
        self._owners[shake.number] = port
        self.tracer.began(self.handover.begin(shake, port.endpoint, path, worker, now))

    # --- ways --------------------------------------------------------------------------------------------------------

    def _find_way(self, number: int, host: str, port: KernelPort) -> None:
        """Follows the way to a peer for this connection; connections to one host share it."""
        key = (host, port.local[0])
        self._users.setdefault(key, set()).add(number)
        self._key_of[number] = key
        if key in self._ways or key in self._finding:
            return

        async def find() -> None:
            try:
                self._ways[key] = await self.watcher.follow(host, ip_address(key[1]))
            except (OSError, TimeoutError, ValueError) as error:
                say(messages.QUIC_DIAL_FAILED, name=host, reason=f"no way there: {error}")
                now = asyncio.get_running_loop().time()
                for lost in self._users.get(key, set()) & port.endpoint.shakes.keys():
                    port.endpoint.abort(lost, now, 1, "no way to the peer")
            finally:
                self._finding.pop(key, None)
            if key not in self._users and key in self._ways:  # nobody wants it any more
                self._unfollow(key)
            self._retry_waiting()
            self._wake.set()

        self._finding[key] = asyncio.create_task(find(), name=f"way to {host}")

    def _retry_waiting(self) -> None:
        """Handshakes that were complete before their way, or their port, was ready."""
        now = asyncio.get_running_loop().time()
        for number in list(self._waiting):
            self._completed(*self._waiting.pop(number), now)

    def _forget_way(self, number: int) -> None:
        key = self._key_of.pop(number, None)
        if key is None:
            return
        users = self._users[key]
        users.discard(number)
        if not users:
            del self._users[key]
            self._unfollow(key)

    def _unfollow(self, key: tuple[str, str]) -> None:
        way = self._ways.pop(key, None)
        if way is not None:
            with contextlib.suppress(KeyError):
                self.watcher.unfollow(way.destination, way.asked_source)

    def _path(self, way: Way, port: KernelPort, remote: Address) -> tuple[int, Path | None]:
        """The worker and the way as the engine needs it; None: a socket has to be shared first."""
        host, local_port = port.local
        six = isinstance(ip_address(host), IPv6Address)
        common = {
            "local": packed_mapped(host),
            "remote": packed_mapped(remote[0]),
            "local_port": local_port,
            "remote_port": remote[1],
            "family": 6 if six else 4,
            "ttl": 64,
            "mtu": max(LEAST_MTU, min(way.mtu or 1500, 65_535) - (UDP_V6 if six else UDP_V4)),
        }
        half, backend = self.halves.get(port.local), self.way_in_and_out()
        on_rings = way.usable and self.device.program is not None
        if on_rings and ((half is None and not backend.mixed) or (half is not None and backend.send == "afxdp"
                         and backend.mixed)):  # fmt: skip
            # Where packets come in by the worker's half of the port, they leave by that worker's first queue.
            worker, slot = self._queue_of(port, remote) if half is None else (half[0], 0)
            outer, inner = (*(tag.vid for tag in way.vlans), 0, 0)[:2]
            return worker, Path(
                **common,  # type: ignore[arg-type]
                vlan_outer=outer,
                vlan_inner=inner,
                dmac=way.mac,
                smac=way.source_mac,
                slot=slot,
            )
        if half is None:
            return 0, None
        return half[0], Path(**common, io=1, slot=half[1])  # type: ignore[arg-type]

    def _queue_of(self, port: KernelPort, remote: Address) -> tuple[int, int]:
        """Worker and slot of the queue on which the handshake's packets came in."""
        assert self.device.program is not None
        flow = self.device.program.flow((ip_address(remote[0]), remote[1]), (ip_address(port.local[0]), port.local[1]))
        queue = flow.rx_queue if flow is not None else 0
        for keeper in self.keepers:
            if queue in keeper.queues:
                return keeper.index, keeper.queues.index(queue)
        return (self.keepers[0].index if self.keepers else 0), 0

    def _share(self, number: int, shake: Shake, port: KernelPort) -> None:
        """The kernel's way to this peer is not that of the rings: from here on the worker has half of the port."""

        async def do() -> None:
            keeper = self.keepers[0]
            if port.local not in self.halves:
                sock = share(port.sock)
                self.halves[port.local] = (keeper.index, await keeper.add_quic_socket(sock))
            self._completed(shake, port, asyncio.get_running_loop().time())
            self._wake.set()

        self._spawn(do(), f"share {number}")

    async def _follow_ways(self) -> None:
        """Routes and neighbours change under connections: their engines are told."""
        async for _ in self.watcher.events(self.watcher.facts):
            fresh = {(p.destination, p.asked_source): p for p in self.watcher.facts.paths}
            for key, way in list(self._ways.items()):
                now = fresh.get((way.destination, way.asked_source))
                if now is None or now == way:
                    continue
                self._ways[key] = now
                for number in self._users.get(key, set()) if now.usable else ():
                    connection, port = self.handover.connections.get(number), self._owners.get(number)
                    if connection is not None and port is not None:
                        self._move(connection, port, now)

    def _move(self, connection: Connection, port: KernelPort, way: Way) -> None:
        _, path = self._path(way, port, connection.remote)
        if path is not None and path != connection.path:
            connection.path = msgspec.structs.replace(path, generation=connection.path.generation + 1)
            self.handover.command(connection, QuicCommandKind.PATH, connection.path.pack())

    # --- news --------------------------------------------------------------------------------------------------------

    def _news(self, now: float) -> None:
        handover = self.handover
        while handover.news:
            news = handover.news.pop(0)
            if isinstance(news, Opened):
                self._opened(news.connection, now)
            elif isinstance(news, Confirmed):
                self._early.pop(news.connection.number, None)
            elif isinstance(news, Done):
                link = self._link_of.get(news.connection.number)
                if link is not None:
                    link.done(news.token, news.outcome, news.first_sent_ns)
            elif isinstance(news, Refused):
                link = self._link_of.get(news.connection.number)
                if link is not None and news.token:
                    link.refused(news.token, news.error, now)
                    if link.pushed:
                        self._pushed[link.name] = link
            elif isinstance(news, Migrated):
                self._migrated(news.connection)
            elif isinstance(news, Other):
                self.tracer.event(news.connection, news.event, news.body)
            elif isinstance(news, Closed):
                self.tracer.closed(news, time.monotonic_ns())
                self._closed(news, now)

    def _opened(self, connection: Connection, now: float) -> None:
        connection.routed_at = asyncio.get_running_loop().time()
        self.tracer.began(connection)  # one that no engine had room for at first
        link = self._link_of.get(connection.number)
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
        self._restless.pop(link.name, None)
        link.opened(self._early.pop(connection.number, ()), lambda m: self._give(connection, m), now)

    def _give(self, connection: Connection, message: Message) -> None:
        self.handover.send(connection, message.token, message.data, message.how)

    def _migrated(self, connection: Connection) -> None:
        port = self._owners.get(connection.number)
        if port is not None:
            self._forget_way(connection.number)
            self._find_way(connection.number, connection.remote[0], port)

    def _closed(self, news: Closed, now: float) -> None:
        number = news.connection.number
        self._forget_way(number)
        self._owners.pop(number, None)
        self._early.pop(number, None)
        link = self._link_of.pop(number, None)
        if link is not None and link.number == number:
            ours = news.by is None and news.connection.is_client and news.reason == "the data plane died"
            how = news.by.name.lower() if news.by is not None else "never adopted, or its worker died"
            reason = f"{how}, code {news.code:#x}" + (f": {news.reason}" if news.reason else "")
            if link.state is not LinkState.CLOSED:
                say(messages.QUIC_LOST, name=link.name, reason=reason)
            link.ended(now, ours=ours)
            if self.links.get(link.name) is link:
                self._restless[link.name] = link
            self._wake.set()

    def _seat_changed(self, seat: Seat, is_up: bool) -> None:
        now = asyncio.get_running_loop().time()
        if self._handover is None:
            return
        if is_up:
            self.handover.engine_up(seat)
        else:
            self.handover.engine_down(seat.worker, now)
            self._news(now)
        self._wake.set()

    # --- control -----------------------------------------------------------------------------------------------------

    def submit(self, name: str, data: bytes) -> int:
        """A message for a link. Returns its token; Refusal where it is not taken."""
        link = self.links.get(name)
        if link is None:
            known = ", ".join(sorted(self.links)) or "none"
            raise Refusal(f'there is no connection "{name}"; there are: {known}', EXIT_UNREACHABLE)
        if not 0 < len(data) <= MESSAGE_MAX:
            raise Refusal(f"{len(data)} bytes: a message has 1 to {MESSAGE_MAX}", EXIT_UNREACHABLE)
        token = next(self._tokens)
        connection = self.handover.connections.get(link.number or 0)
        give = (lambda m: self._give(connection, m)) if connection is not None else None
        if not link.submit(Message(token, data), give):
            raise Refusal(
                f'"{name}" has no room: {len(link)} messages wait for their acknowledgement', EXIT_UNREACHABLE
            )
        self._wake.set()
        return token

    def dial(self, name: str, address: str, port: int, server_name: str, pin: str) -> None:
        """A link that lives until it is closed or the daemon ends."""
        if name in self.links:
            raise Refusal(
                f'there is a connection "{name}" already; close it first, or choose another name', EXIT_UNREACHABLE
            )
        try:
            host = str(ip_address(address))
            key = base58.decode(pin) if pin else b""
        except ValueError as error:
            raise Refusal(str(error), EXIT_UNREACHABLE) from None
        self._add_link(Link(name, Target((host, port), server_name, key)))
        self._wake.set()

    def close_number(self, number: int, code: int, reason: str) -> bool:
        now = asyncio.get_running_loop().time()
        connection = self.handover.connections.get(number)
        if connection is not None:
            self.handover.close(connection, now, code, reason)
        else:
            for quic_port in self.ports.values():
                if number in quic_port.port.endpoint.shakes:
                    quic_port.port.endpoint.abort(number, now, code, reason)
                    break
            else:
                return False
        self._wake.set()
        return True

    def close_named(self, what: str, code: int, reason: str) -> None:
        """A link by its name (it is not dialled again until the next reload), or a connection by its number."""
        if what in self.links:
            self._drop_link(what, code, reason)
        elif not (what.isdigit() and self.close_number(int(what), code, reason)):
            raise _unknown(what)

    def trace(self, request: control.TraceRequest) -> control.Traced:
        """Refusal where it is not allowed, or there is no such connection, or the files cannot be made."""
        known = self.handover.connections
        chosen = dict(known) if request.every else {}
        for what in request.connections:
            number = self.links[what].number if what in self.links else int(what) if what.isdigit() else None
            if number is None or number not in known:
                raise _unknown(what)
            chosen[number] = known[number]
        try:
            if request.new:
                self.tracer.switch_new(request.kind, on=request.on)
            files = self.tracer.switch(request.kind, list(chosen.values()), on=request.on)
        except KeylogForbidden as error:
            raise Refusal(str(error), EXIT_PERMISSION) from None
        except OSError as error:
            raise Refusal(f"{error.filename or self.config.quic.trace_dir}: {error.strerror}", EXIT_CONFIG) from None
        self._wake.set()
        return control.Traced(files=tuple(str(path) for path in files), connections=len(chosen))

    def connections(self) -> control.Connections:
        now = asyncio.get_running_loop().time()
        named = {link.number: link for link in self.links.values() if link.number is not None}
        rows = [
            control.ConnectionStatus(
                number=c.number,
                name=named[c.number].name if c.number in named else "",
                role="client" if c.is_client else "server",
                state="open" if c.step >= Step.RELEASED else c.step.name.lower(),
                address=c.remote[0],
                port=c.remote[1],
                local=unpacked(c.path.local),
                local_port=c.path.local_port,
                identity=base58.encode(c.peer) if c.peer else "",
                worker=c.engine.worker if c.engine is not None else -1,
                io="socket" if c.path.io else "afxdp",
                waiting=len(named[c.number]) if c.number in named else 0,
                age=now - c.began,
                adoption=c.routed_at - c.began if c.routed_at is not None else 0.0,
            )
            for c in self.handover.connections.values()
        ]
        for link in self.links.values():
            if link.number is None or link.number not in self.handover.connections:
                rows.append(
                    control.ConnectionStatus(
                        name=link.name,
                        role="client",
                        state=link.state.value,
                        address=link.target.address[0],
                        port=link.target.address[1],
                        waiting=len(link),
                    )
                )
        listeners = tuple(
            control.ListenerStatus(
                name=p.listen.name,
                address=address[0],
                port=address[1],
                counts=dict(p.port.endpoint.counts),
                handshakes=len(p.port.endpoint.shakes),
            )
            for address, p in self.ports.items()
            if p.listen is not None
        )
        return control.Connections(
            connections=tuple(rows[:ROWS_MAX]), total=len(rows), listeners=listeners, trouble=dict(self.trouble)
        )


def _unknown(what: str) -> Refusal:
    return Refusal(f'there is no connection "{what}"; `afterburnerctl connections` lists them', EXIT_UNREACHABLE)


def _cannot_trace(why: str) -> None:
    say(messages.QUIC_TRACE_FAILED, reason=why)


def target_of(connect: Connect) -> Target:
    return Target(
        (str(ip_address(connect.address)), connect.port),
        connect.server_name,
        base58.decode(connect.pin) if connect.pin else b"",
        connect.timeout_ms / 1000,
    )


def limits_of(listen: Listen) -> Limits:
    return Limits(
        handshakes=listen.handshakes,
        handshakes_per_source=listen.per_source,
        connections=listen.connections,
        timeout=listen.timeout_ms / 1000,
        retry=listen.retry,
        retry_from=listen.retry_from,
    )
