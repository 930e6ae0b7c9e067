"""QUIC in the daemon: kernel sockets, handshakes, adoptions, and the connections that the configuration wants.

    [[connect]] ─► Link ─► Endpoint ─► Handover ─► Seat (command ring) ─► worker
    [[listen]]  ────────► Endpoint ─►    │    ◄── Seat (event ring) ◄──── worker
                                         ├─► cids     (XDP: short headers of these go to the worker)
                                         └─► news ─► Link (fates, dials anew), journal, `afterburnerctl connections`

What each of them does stands in its own file of the room `quic`; here they are given sockets, clocks, rings and ways:

    quic_ports      listeners and sockets to dial from       quic_links      links: dialled, fed, told
    quic_ways       route and neighbour of each peer         quic_adoptions  complete handshakes get their path
    quic_paths      rings or sockets, worker, queue          quic_news       events of workers, to whom they concern
    quic_seats      the workers, as QUIC sees them           quic_desk       answers to `afterburnerctl`

This one puts them together and turns the wheel. Events are looked for every 20 ms; while handshakes or adoptions are under way
workers ring when they have some (seat.py). A worker that is gone is known by its pidfd, not from here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path as FilePath

from afterburnerd.abi import control
from afterburnerd.cli import EXIT_CONFIG
from afterburnerd.config import Config
from afterburnerd.net.facts import Path as Way
from afterburnerd.net.watch import Watcher
from afterburnerd.observe import messages
from afterburnerd.observe.log import say
from afterburnerd.quic.cids import load_key
from afterburnerd.quic.endpoint import Realm
from afterburnerd.quic.front import FrontSettings
from afterburnerd.quic.handover import Handover
from afterburnerd.quic.identity import Identity, IdentityError
from afterburnerd.quic.news import RESTARTS
from afterburnerd.quic.params import Params
from afterburnerd.quic.port import KernelPort
from afterburnerd.quic.trace import Settings as TraceSettings
from afterburnerd.quic.trace import Tracer
from afterburnerd.supervisor.device import Device
from afterburnerd.supervisor.keeper import Keeper
from afterburnerd.supervisor.quic_adoptions import Adoptions
from afterburnerd.supervisor.quic_chores import Chores, clock
from afterburnerd.supervisor.quic_desk import Desk
from afterburnerd.supervisor.quic_links import Links
from afterburnerd.supervisor.quic_news import Messenger
from afterburnerd.supervisor.quic_off import QuicOff
from afterburnerd.supervisor.quic_paths import Paths, payload_of
from afterburnerd.supervisor.quic_ports import Ports
from afterburnerd.supervisor.quic_seats import Seats
from afterburnerd.supervisor.quic_ways import Ways
from afterburnerd.supervisor.refusal import Refusal
from afterburnerd.supervisor.seat import Seat

FAST = 0.001  # seconds between two turns while commands wait for room in a ring
SLOW = 0.02
CLOSE_SECONDS = 0.5  # for CONNECTION_CLOSE of all connections before their workers end


class QuicService(QuicOff):
    """`prepare` once, before the workers; `run` beside them; `configure` with each reload; `stop` before the workers end."""

    wanted = True

    def __init__(self, config: Config, device: Device, watcher: Watcher, adopted: Callable[[int], None]) -> None:
        super().__init__()
        self.adopted = adopted  # told how long each adoption took, ns
        self.config = config
        self.device = device
        self._chores = Chores()
        self._seats = Seats(lambda: self.config, self._seat_changed, self._told)
        self._paths = Paths(lambda: self.config, device, self._seats)
        self._ways = Ways(watcher, self._chores, self._retry, self._moved)
        self._parts: Parts | None = None  # from `prepare` on
        self._stopping = False

    # --- what others ask ---------------------------------------------------------------------------------------------

    def backend(self) -> control.QuicBackend:
        return self._paths.backend().status()

    def seat(self, worker: int) -> Seat:
        return self._seats.seat(worker)

    def workers_made(self, keepers: list[Keeper], republish: Callable[[], Awaitable[None]]) -> None:
        self._seats.made(keepers)
        self._count_places()
        self.parts.ports.republish = republish

    def rules(self) -> bytes:
        return self.parts.ports.rules()

    def submit(self, name: str, data: bytes, datagram: bool = False) -> int:
        return self.parts.links.submit(name, data, datagram)

    def dial(self, name: str, address: str, port: int, server_name: str, pin: str) -> None:
        self.parts.links.dial(name, address, port, server_name, pin)

    def close_named(self, what: str, code: int, reason: str) -> None:
        self.parts.desk.close_named(what, code, reason)

    def trace(self, request: control.TraceRequest) -> control.Traced:
        return self.parts.desk.trace(request)

    def connections(self) -> control.Connections:
        return self.parts.desk.connections()

    # --- putting together --------------------------------------------------------------------------------------------

    @property
    def parts(self) -> Parts:
        assert self._parts is not None
        return self._parts

    def prepare(self) -> None:
        """Reads keys, before any process starts. Refusal where they cannot be had."""
        quic = self.config.quic
        try:
            identity = Identity.load(FilePath(quic.identity)) if quic.identity else Identity.generate()
            key = FilePath(quic.reset_key or f"{self.config.daemon.run_dir}/reset.key")
            realm = Realm(load_key(key))
        except IdentityError as error:
            raise Refusal(f"quic.identity: {error}", EXIT_CONFIG) from None
        except (OSError, ValueError) as error:
            raise Refusal(f"quic.reset_key: {error}", EXIT_CONFIG) from None
        self._parts = Parts(self, identity, realm, self._chores, self._seats, self._paths, self._ways)

    # --- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For the daemon's life."""
        if self._paths.needs_test:
            self._paths.testing = True
            self._chores.spawn(self._test(), "self-test of AF_XDP")
        self._apply()
        ways = asyncio.create_task(self._ways.follow(), name="quic ways")
        try:
            while True:
                self._turn(clock())
                pause = self._pause(clock())
                if not self._awaits_news:
                    await self._chores.pause(pause)
                else:
                    await self._chores.pause(pause if self._seats.doze() else 0)
                    self._seats.wake()
        finally:
            ways.cancel()

    async def _test(self) -> None:
        await self._paths.test()
        self._retry()
        self._chores.wake()

    def _turn(self, now: float) -> None:
        parts = self.parts
        if self._dials:
            parts.links.turn(now)
        parts.adoptions.turn(now)
        parts.links.push(now)
        parts.handover.pump(now)
        parts.messenger.look(now)
        parts.ports.flush()

    def _pause(self, now: float) -> float:
        """Datagrams wake us by themselves, and so do events that somebody waits for; room in a ring does not."""
        parts = self.parts
        if parts.handover.busy or parts.links.pushing:
            return FAST
        due = parts.links.due() if self._dials else None
        return min(SLOW, max(0.0, due - now)) if due is not None else SLOW

    @property
    def _dials(self) -> bool:
        return not self._stopping and self._seats.any_up

    @property
    def _awaits_news(self) -> bool:
        """Workers are to ring when they have something to tell: an adoption, a confirmation. Fates of messages are looked for
        at leisure, or a busy connection would cost its worker a system call for each."""
        return self.parts.handover.busy or self.parts.ports.shaking

    async def stop(self) -> None:
        """CONNECTION_CLOSE to everybody, within a bound; the engine sends it."""
        if self._stopping or self._parts is None:
            return
        self._stopping = True
        parts = self.parts
        parts.links.close_all()
        parts.handover.close_unexported(clock(), 0, "shutting down")
        parts.ports.abort_all("shutting down")
        parts.handover.close_adopted(0, "shutting down")
        await self._all_closed()
        self._chores.cancel()

    async def leave(self) -> None:
        """Links are dialled again meanwhile, and what is complete before the next workers are there waits for them."""
        if self._parts is None or self._stopping:
            return
        self._parts.handover.close_adopted(0, RESTARTS)
        await self._all_closed()

    async def _all_closed(self) -> None:
        until = clock() + CLOSE_SECONDS
        while self.parts.handover.adopted and clock() < until:
            self._turn(clock())
            await asyncio.sleep(FAST)
        self.parts.ports.flush()

    def close(self) -> None:
        """No worker lives any more."""
        if self._parts is not None:
            self._parts.tracer.close()
            self._parts.ports.close()
        self._seats.close()

    # --- configuration -----------------------------------------------------------------------------------------------

    def check(self, config: Config) -> None:
        """Everything that a reload may change can be put into force; what fails then is told as trouble."""

    def configure(self, config: Config) -> None:
        self.config = config
        if self._parts is not None and not self._stopping:
            self._count_places()
            self._parts.tracer.configure(trace_settings(config))
            self._apply()
            self._parts.ports.adjust()
            self._chores.wake()

    def _apply(self) -> None:
        """Listeners and links as the configuration has them now."""
        self.parts.ports.apply()
        self.parts.links.apply()

    def _count_places(self) -> None:
        places = self.parts.handover.realm.places
        places.each, places.workers = self.config.quic.connections, len(self.config.workers)

    def addresses_changed(self) -> None:
        """Listeners on "any" follow the addresses of the interface."""
        if self._parts is not None and not self._stopping:
            self._parts.ports.apply()

    def mtu_changed(self) -> None:
        """Peers of handshakes from here on are told what may be sent to us now."""
        if self._parts is not None and not self._stopping:
            self._parts.ports.adjust()

    # --- what the parts tell -----------------------------------------------------------------------------------------

    def port_events(self, port: KernelPort) -> None:
        """A datagram was worked on: a handshake that is complete is adopted before the next one is looked at, and the answer to
        an adoption that was not there in time as soon as it is."""
        parts, fresh = self.parts, bool(port.endpoint.events)
        if not fresh and not parts.handover.exported:
            return
        now = clock()
        parts.adoptions.events(port, now)
        if parts.handover.exported:
            parts.messenger.look(now, wait=fresh)
        port.send()
        self._chores.wake()

    def _retry(self) -> None:
        self.parts.adoptions.retry()

    def _moved(self, number: int, way: Way) -> None:
        self.parts.adoptions.moved(number, way)

    def _told(self) -> None:
        if self._parts is not None:
            self._parts.messenger.look(clock())
            self._chores.wake()

    def _seat_changed(self, seat: Seat, is_up: bool) -> None:
        if self._parts is None:
            return
        now = clock()
        if is_up:
            self._parts.adoptions.refresh()
            self._parts.handover.engine_up(seat)
        else:
            self._parts.handover.engine_down(seat.worker, now)
            self._parts.messenger.tell(now)
        self._chores.wake()


class Parts:
    """What needs the keys of the realm."""

    def __init__(
        self,
        service: QuicService,
        identity: Identity,
        realm: Realm,
        chores: Chores,
        seats: Seats,
        paths: Paths,
        ways: Ways,
    ) -> None:
        def config() -> Config:
            return service.config

        def settings() -> FrontSettings:
            return front_settings(service.config, service.device, identity, self.tracer)

        def retry() -> None:
            self.adoptions.retry()

        self.handover = handover = Handover(realm, paths, clock)
        self.tracer = tracer = Tracer(handover, trace_settings(service.config), _cannot_trace)
        self.ports = ports = Ports(
            config, service.device, realm, handover, settings, chores, service.trouble, service.port_events, retry
        )
        self.links = links = Links(config, ports, ways, handover, settings, chores)
        self.adoptions = Adoptions(ports, ways, paths, links, handover, tracer, chores)
        self.messenger = Messenger(seats, ports, links, self.adoptions, handover, tracer, service.adopted)
        self.desk = Desk(config, links, ports, handover, tracer, chores, service.trouble)


def front_settings(config: Config, device: Device, identity: Identity, tracer: Tracer) -> FrontSettings:
    """Of handshakes from here on."""
    quic, link = config.quic, device.facts.link
    params = Params(
        max_idle_timeout_ms=quic.idle_timeout_ms,
        max_udp_payload_size=payload_of(link.mtu if link is not None else 1500, six=False),
        max_data=quic.max_data,
        max_stream_data_bidi_local=quic.max_stream_bytes,
        max_stream_data_bidi_remote=quic.max_stream_bytes,
        max_stream_data_uni=quic.max_stream_bytes,
        max_streams_uni=quic.max_streams,
    )
    return FrontSettings(
        identity=identity,
        params=params,
        alpn=(quic.alpn,),
        tell_secrets=tracer.handshake_line if quic.allow_keylog else None,
        clock=time.monotonic,
    )


def trace_settings(config: Config) -> TraceSettings:
    quic = config.quic
    directory = quic.trace_dir or f"{config.daemon.run_dir}/trace"
    return TraceSettings(directory, quic.trace_bytes, quic.allow_keylog)


def _cannot_trace(why: str) -> None:
    say(messages.QUIC_TRACE_FAILED, reason=why)
