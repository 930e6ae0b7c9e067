"""The kernel sockets of QUIC: one for each address that a [[listen]] names, one for each local address that we dial from.

    [[listen]] ──► apply() ──► socket + endpoint ──► publish ──► XDP: short headers of these ports by `cids`
    dial       ──► to_dial_from(host) ─┘                └──► the workers' tables ──► ready

A port that a worker's table does not have yet would lose the first packets of a connection, so nothing is adopted on it until it
is `ready`. A listener on "any" is one socket for each address of the interface and follows them; one that cannot be had is told
as trouble, and tried again by every reload.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import ip_address

from afterburnerd.abi.layout import Decoder, PortKind, Rule
from afterburnerd.config import Config, Listen
from afterburnerd.net.xdp import LocalPort, Use
from afterburnerd.observe import messages
from afterburnerd.observe.log import say
from afterburnerd.plane import OrderFailed, PlaneGone
from afterburnerd.quic.accept import Limits
from afterburnerd.quic.endpoint import Endpoint, Realm
from afterburnerd.quic.front import FrontSettings
from afterburnerd.quic.handover import Handover
from afterburnerd.quic.port import KernelPort, open_socket, source_for
from afterburnerd.quic.tokens import Address, packed_mapped
from afterburnerd.supervisor.device import Device
from afterburnerd.supervisor.quic_chores import Chores, clock


class Port:
    """A kernel socket of ours with its endpoint."""

    def __init__(self, port: KernelPort, listen: Listen | None) -> None:
        self.port = port
        self.listen = listen  # None: only dialled from


class Ports:
    """By local address. `events`: something has come up at a socket; `ready_again`: more ports are ready than before."""

    def __init__(
        self,
        config: Callable[[], Config],
        device: Device,
        realm: Realm,
        handover: Handover,
        settings: Callable[[], FrontSettings],
        chores: Chores,
        trouble: dict[str, str],
        events: Callable[[KernelPort], None],
        ready_again: Callable[[], None],
    ) -> None:
        self._config = config
        self._device = device
        self._realm = realm
        self._handover = handover
        self._settings = settings
        self._chores = chores
        self._trouble = trouble  # listeners that could not be had, by name: why
        self._events = events
        self._ready_again = ready_again
        self.republish: Callable[[], Awaitable[None]] | None = (
            None  # tells the workers' tables; None: there are none yet
        )
        self.all: dict[Address, Port] = {}
        self._ready: set[Address] = set()  # ports that every worker's table has

    # --- sockets ---

    def apply(self) -> None:
        """Listeners as the configuration has them now."""
        wanted: dict[Address, Listen] = {}
        for listen in self._config().listens:
            for host in self._hosts(listen):
                wanted.setdefault((host, listen.port), listen)
        for address, port in list(self.all.items()):
            if port.listen is None:
                continue
            if address not in wanted:
                self._close(address)
            elif port.listen != wanted[address]:
                port.listen = wanted[address]
                port.port.endpoint.limit(limits_of(port.listen))
        self._trouble.clear()
        for address, listen in wanted.items():
            if address not in self.all:
                try:
                    self._open(address, listen)
                except OSError as error:
                    self._trouble[listen.name] = f"UDP port {address[1]} of {address[0]}: {error.strerror}"
                    say(messages.QUIC_PORT_FAILED, name=listen.name, reason=self._trouble[listen.name])
                else:
                    say(messages.QUIC_LISTENS, name=listen.name, address=address[0], port=address[1])
        self._publish()

    def _hosts(self, listen: Listen) -> list[str]:
        if listen.address != "any":
            return [str(ip_address(listen.address))]
        return [str(a.address) for a in self._device.facts.local_addresses() if not a.address.is_link_local]

    def to_dial_from(self, host: str) -> KernelPort:
        """The socket to reach a host from: one for each local address. OSError: there is no way there."""
        source = source_for(host)
        for port in self.all.values():
            if port.listen is None and port.port.local[0] == source:
                return port.port
        port = self._open((source, 0), None)
        self._publish()
        return port.port

    def _open(self, address: Address, listen: Listen | None) -> Port:
        sock = open_socket(address[0], address[1], shared=True)
        endpoint = Endpoint(self._realm, self._settings(), limits_of(listen) if listen is not None else None)
        port = Port(KernelPort(sock, endpoint, self._events), listen)
        self.all[port.port.local] = port
        return port

    def _close(self, address: Address) -> None:
        port = self.all.pop(address).port
        now = clock()
        for number in list(port.endpoint.shakes):
            port.endpoint.abort(number, now, 0, "no longer listening")
        for connection in [c for c in self._handover.connections.values() if c.endpoint is port.endpoint]:
            self._handover.close(connection, now, 0, "no longer listening")
        port.flush()
        port.close()

    def close(self) -> None:
        """No worker lives any more."""
        for port in self.all.values():
            port.port.close()
        self.all.clear()

    # --- who else has to know them ---

    def is_ready(self, port: KernelPort) -> bool:
        return port.local in self._ready

    def _publish(self) -> None:
        """The local ports of ours, to the workers' tables and to XDP, which parts long and short headers of them."""
        self._device.quic_ports = {local: Use(PortKind.QUIC, listen=listens) for local, listens in self._locals()}
        wanted = set(self.all)
        self._ready &= wanted
        if self.republish is None or wanted == self._ready:
            self._device.publish_again()
        else:
            self._chores.spawn(self._tell_workers(self.republish, wanted), "quic rules")

    async def _tell_workers(self, republish: Callable[[], Awaitable[None]], wanted: set[Address]) -> None:
        try:
            await republish()
        except (OrderFailed, PlaneGone, TimeoutError, OSError) as error:
            # A worker that is down takes the rules of its next start from `rules`.
            say(messages.REBIND_FAILED, interface=self._device.facts.interface, reason=str(error))
        self._ready |= wanted
        self._ready_again()
        self._chores.wake()

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
        tags = {str(a.address): tuple(tag.vid for tag in a.vlans) for a in self._device.facts.local_addresses()}
        return [
            (LocalPort(ip_address(host), port, tags.get(host, ())), p.listen is not None)
            for (host, port), p in self.all.items()
        ]

    # --- all of them at once ---

    @property
    def shaking(self) -> bool:
        """Handshakes are under way."""
        return any(p.port.endpoint.shakes for p in self.all.values())

    def adjust(self) -> None:
        """Handshakes from here on have the settings as they are now."""
        for port in self.all.values():
            port.port.endpoint.adjust(self._settings())

    def flush(self) -> None:
        for port in self.all.values():
            port.port.flush()

    def close_number(self, number: int, code: int, reason: str) -> bool:
        """Closes a connection or a handshake. False: there is none of this number."""
        connection = self._handover.connections.get(number)
        if connection is not None:
            self._handover.close(connection, clock(), code, reason)
        elif not self._abort(number, code, reason):
            return False
        self._chores.wake()
        return True

    def _abort(self, number: int, code: int, reason: str) -> bool:
        for port in self.all.values():
            if number in port.port.endpoint.shakes:
                port.port.endpoint.abort(number, clock(), code, reason)
                return True
        return False

    def abort_all(self, reason: str) -> None:
        """Handshakes that are no connections yet."""
        for port in self.all.values():
            for number in list(port.port.endpoint.shakes):
                if number not in self._handover.connections:
                    port.port.endpoint.abort(number, clock(), 0, reason)
            port.port.flush()


def limits_of(listen: Listen) -> Limits:
    return Limits(
        handshakes=listen.handshakes,
        handshakes_per_source=listen.per_source,
        connections=listen.connections,
        timeout=listen.timeout_ms / 1000,
        retry=listen.retry,
        retry_from=listen.retry_from,
    )
