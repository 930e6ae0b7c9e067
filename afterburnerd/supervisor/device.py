"""The interface as the supervisor holds it: which rung of the ladder is in force, the XDP program, the privileged sockets.

    rung      XDP program          receives by
    native    in the driver        AF_XDP, zero-copy or copy (the worker tries both)
    generic   behind the driver    AF_XDP, copy
    socket    none                 UDP sockets

Only the supervisor opens sockets and writes the socket map; a worker gets descriptors. The supervisor keeps its own copy
of each AF_XDP socket, to ask the kernel for its statistics without a system call in any loop, and closes it with the
worker's, or the queue would stay taken.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Literal

from afterburnerd.abi import orders
from afterburnerd.abi.layout import PortKind
from afterburnerd.abi.segment import Segment
from afterburnerd.cli import EXIT_PERMISSION, EXIT_UNREACHABLE
from afterburnerd.config import Capture, Config
from afterburnerd.net.facts import Facts, Link
from afterburnerd.net.xdp import Budget, LocalPort, Settings, Sizes, Use, XdpProgram
from afterburnerd.observe import messages
from afterburnerd.observe.log import say
from afterburnerd.supervisor.capture import Entry
from afterburnerd.supervisor.refusal import Refusal

Rung = Literal["native", "generic", "socket"]
Address = tuple[socket.AddressFamily, str, int]  # family, host, port

AF_XDP = 44
SOL_XDP = 283
XDP_STATISTICS = 7
SO_PREFER_BUSY_POLL = 69
SO_BUSY_POLL_BUDGET = 70
STATISTICS = struct.Struct("<6Q")  # struct xdp_statistics, Linux 5.9
STATISTIC_NAMES = (
    "rx_dropped",
    "rx_invalid_descs",
    "tx_invalid_descs",
    "rx_ring_full",
    "rx_fill_ring_empty",
    "tx_ring_empty",
)
# The kernel keeps XDP_PACKET_HEADROOM in front of each frame; a frame has Ethernet's header and up to two tags.
HEADROOM = 256
L2_BYTES = 14 + 2 * 4
# Exact local address and port pairs: 64 rules on 64 addresses.
PORTS = 4096
HUGE = {"auto": 0, "require": 1, "off": 2}
WANT = {"auto": 0, "zero-copy": 1, "copy": 2, "generic": 2}


class Xsk:
    """Our copy of an AF_XDP socket that a worker serves."""

    def __init__(self, queue: int, sock: socket.socket) -> None:
        self.queue = queue
        self.sock = sock
        self.seen = (0,) * len(STATISTIC_NAMES)

    def close(self) -> None:
        self.sock.close()


class Device:
    """One interface. `open` climbs down the ladder to the first rung that holds."""

    def __init__(self, config: Config, facts: Facts) -> None:
        self.config = config
        self.facts = facts
        self.rung: Rung = "socket"
        self.program: XdpProgram | None = None
        self.quic_ports: dict[LocalPort, Use] = {}  # local ports of QUIC, beside those of capture rules
        self.fallbacks: list[str] = []  # why a better rung is not in force
        self._entries: tuple[Entry, ...] = ()
        self._counted: list[tuple[int, int]] = []  # what the segment has of the program's counters

    @property
    def link(self) -> Link:
        if self.facts.link is None:
            raise Refusal(f"interface {self.facts.interface} is gone", EXIT_UNREACHABLE)
        return self.facts.link

    @property
    def queue_count(self) -> int:
        return self.link.queues.rx if self.link.queues is not None else 1

    @property
    def mtu(self) -> int:
        """0 while the interface is away."""
        return self.facts.link.mtu if self.facts.link is not None else 0

    @property
    def multi_buffer(self) -> bool:
        """Whether a frame of this MTU may not fit one frame of packet memory."""
        return self.link.mtu + L2_BYTES > self.config.memory.frame_size - HEADROOM

    # --- ladder ------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Loads and attaches. Refusal where the configured mode cannot be had; `fallbacks` says what was tried."""
        mode = self.config.interface.mode
        if mode == "socket":
            return
        try:
            self._check_xsk()
            self._load()
        except Refusal as refusal:
            if mode != "auto":
                raise
            self.fallbacks.append(str(refusal))
            return
        for rung in self._rungs():
            try:
                self.attach(rung)
                return
            except Refusal as refusal:
                if refusal.final or (mode != "auto" and rung == self._rungs()[-1]):
                    self.close()
                    raise
                self.fallbacks.append(str(refusal))
        self.close()

    def _rungs(self) -> tuple[Rung, ...]:
        mode = self.config.interface.mode
        if mode == "generic":
            return ("generic",)
        return ("native",) if mode in ("zero-copy", "copy") else ("native", "generic")

    def step_down(self, why: str) -> bool:
        """A worker could not bind on this rung: try the next. False when the ladder ends or the mode is fixed."""
        if self.config.interface.mode != "auto" or self.rung == "socket":
            return False
        self.fallbacks.append(why)
        if self.rung == "native" and self.program is not None:
            self.program.detach()
            try:
                self.attach("generic")
                return True
            except Refusal as refusal:
                if refusal.final:
                    raise
                self.fallbacks.append(str(refusal))
        self.close()
        self.rung = "socket"
        return True

    def say_fallback(self, why: str) -> None:
        """To the journal: the rung in force is not the best one, and why."""
        say(messages.MODE_FALLBACK, interface=self.facts.interface, reason=why, mode=self.rung)

    def _check_xsk(self) -> None:
        name = self.facts.interface
        if not self.link.ethernet:
            raise Refusal(
                f'{name} is no Ethernet device: AF_XDP serves it not; use interface.mode = "socket"', EXIT_UNREACHABLE
            )
        if self.multi_buffer and self.config.interface.jumbo == "off":
            raise Refusal(
                f"{name}: an MTU of {self.link.mtu} does not fit a frame of {self.config.memory.frame_size} bytes "
                '(256 of them are the kernel\'s): set interface.jumbo = "auto", a larger memory.frame_size, or a smaller MTU',
                EXIT_UNREACHABLE,
            )
        try:
            socket.socket(AF_XDP, socket.SOCK_RAW).close()
        except PermissionError:
            raise Refusal(
                'AF_XDP needs CAP_NET_RAW: start the daemon with systemd or as root, or set interface.mode = "socket"',
                EXIT_PERMISSION,
            ) from None
        except OSError as error:
            raise Refusal(
                f"this kernel has no AF_XDP sockets (CONFIG_XDP_SOCKETS): {error.strerror}", EXIT_UNREACHABLE
            ) from None

    def _load(self) -> None:
        try:
            self.program = XdpProgram(Sizes(cids=self.config.xdp.max_cids, ports=PORTS))
            self.program.configure(self.settings())
        except OSError as error:
            self.close()
            raise _refusal(error) from None

    def settings(self) -> Settings:
        xdp = self.config.xdp
        return Settings(
            mac=self.link.mac,
            stamp=self.config.interface.timestamps,
            initial=Budget(xdp.initial_rate, xdp.initial_burst),
            source=Budget(xdp.source_rate, xdp.source_burst),
            short=Budget(xdp.short_rate, xdp.short_burst),
        )

    def attach(self, rung: Rung) -> None:
        assert self.program is not None and rung != "socket"
        try:
            self.program.attach(self.link.index, rung)
        except OSError as error:
            raise _refusal(error) from None
        self.rung = rung
        say(messages.XDP_ATTACHED, interface=self.facts.interface, mode=rung)

    def refresh(self) -> None:
        """After a change of the interface: the program knows its MAC, and hangs on it."""
        if self.program is None:
            return
        self.program.configure(self.settings())
        self.ensure_attached()

    def ensure_attached(self) -> None:
        """Hangs the program on the interface again where it lost it; Refusal where somebody else took the place."""
        if self.program is not None and not self.program.attached():
            self.attach(self.rung)

    def close(self) -> None:
        """Detaches and forgets the program."""
        if self.program is not None:
            self.program.close()
            self.program = None

    # --- what workers get --------------------------------------------------------------------------------------------

    def open_xsk(self, queue: int) -> Xsk:
        sock = socket.socket(AF_XDP, socket.SOCK_RAW)
        if self.config.interface.busy_poll:
            # Above the default of 8 it needs CAP_NET_ADMIN, which a worker does not have.
            sock.setsockopt(socket.SOL_SOCKET, SO_PREFER_BUSY_POLL, 1)
            sock.setsockopt(socket.SOL_SOCKET, SO_BUSY_POLL_BUDGET, self.config.interface.busy_poll_budget)
        return Xsk(queue, sock)

    def queue_order(self, slot: int, queue: int) -> orders.OpenQueue:
        memory, interface = self.config.memory, self.config.interface
        return orders.OpenQueue(
            slot=slot,
            ifindex=self.link.index,
            queue=queue,
            frames=memory.frames,
            frame_size=memory.frame_size,
            ring=memory.ring,
            huge_pages=HUGE[memory.huge_pages],
            mode=WANT[interface.mode] if self.rung == "native" else WANT["generic"],
            generic=self.rung == "generic",
            multi_buffer=self.multi_buffer,
            busy_poll=interface.busy_poll,
            busy_usecs=interface.busy_poll_us,
            busy_budget=interface.busy_poll_budget,
            verify_udp=interface.verify_udp_checksum,
        )

    def publish(self, entries: Iterable[Entry]) -> None:
        """What XDP hands to workers from now on."""
        self._entries = tuple(entries)
        self.publish_again()

    def publish_again(self) -> None:
        """After a change of `quic_ports`."""
        if self.program is not None:
            captured = {
                LocalPort(e.address, e.port, tuple(vid for vid in e.vlans if vid)): Use(PortKind.CAPTURE, rule=e.rule)
                for e in self._entries
            }
            self.program.set_ports(captured | self.quic_ports)

    def serve(self, xsk: Xsk) -> None:
        """Frames of this queue go to this socket from now on; until then they were dropped and counted."""
        assert self.program is not None
        self.program.set_xsk(xsk.queue, xsk.sock.fileno())

    # --- figures -----------------------------------------------------------------------------------------------------

    def count(self, segment: Segment) -> None:
        """Copies the program's counters into the statistics segment."""
        if self.program is None or (pairs := self.program.pairs()) == self._counted:
            return
        self._counted = pairs
        for reason, (packets, octets) in enumerate(pairs):
            segment.set("xdp", reason, "packets", packets)
            segment.set("xdp", reason, "bytes", octets)


def count_xsk(xsk: Xsk, segment: Segment, row: int) -> None:
    """Adds what the kernel counted since the last look: a socket begins at zero, the segment goes on."""
    try:
        now = STATISTICS.unpack(xsk.sock.getsockopt(SOL_XDP, XDP_STATISTICS, STATISTICS.size))
    except OSError:  # its device is gone
        return
    for name, before, after in zip(STATISTIC_NAMES, xsk.seen, now, strict=True):
        if after > before:
            segment.add("kernel", row, name, after - before)
    xsk.seen = now


def open_udp(captures: Iterable[Capture], held: Mapping[Address, socket.socket]) -> dict[Address, socket.socket]:
    """The socket backend's sockets: one for each rule and address family. Refusal where a port is taken.

    What is `held` already is taken over as it is, with the datagrams that wait in it; closing the rest is the caller's.
    """
    sockets: dict[Address, socket.socket] = {}
    try:
        for capture in captures:
            for family, host in _hosts(capture):
                address = (family, host, capture.port)
                sockets[address] = held[address] if address in held else _open_udp(capture, address)
    except BaseException:
        for address, sock in sockets.items():
            if address not in held:
                sock.close()
        raise
    return sockets


def _open_udp(capture: Capture, address: Address) -> socket.socket:
    family, host, port = address
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # A burst of 2,048 datagrams, as much as the packet memory of a queue; the kernel may allow less.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        what = "is in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
        raise Refusal(
            f"capture.{capture.name}: UDP port {port} of {host}: {what}; `ss -lunp` shows by whom",
            EXIT_UNREACHABLE,
        ) from None
    return sock


def _hosts(capture: Capture) -> list[tuple[socket.AddressFamily, str]]:
    if capture.address == "any":
        every = [(socket.AF_INET, "0.0.0.0")]
        if socket.has_ipv6:
            every.append((socket.AF_INET6, "::"))
        return every
    return [(socket.AF_INET6 if ":" in capture.address else socket.AF_INET, capture.address)]


def _refusal(error: OSError) -> Refusal:
    text = error.args[1] if len(error.args) > 1 else str(error)
    code = EXIT_PERMISSION if error.errno in (errno.EPERM, errno.EACCES) else EXIT_UNREACHABLE
    # Another program or daemon sits on the interface: falling back would hide a conflict that a person must resolve.
    return Refusal(text, code, final=error.errno == errno.EBUSY)
