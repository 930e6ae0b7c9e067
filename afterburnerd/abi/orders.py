"""Orders of the supervisor to a data plane, and its reports: MessagePack structs over a SOCK_SEQPACKET pair.

    supervisor                                   data plane
      Setup + fds (statistics, doorbell, ring) -->  pins itself
                                              <--  Ready
      SetRules, OpenQueue + fd, OpenEngine .. -->  registers memory and rings while it may still lock memory
                                              <--  Done or Failed, one for each order
      Seal                                    -->  drops every privilege, seals itself (seccomp)
                                              <--  Done
      OpenQueue + fd, SetRules, ...  then rings -->  leaves the loop, does them in order, goes back
                                              <--  Done or Failed, one for each order

Descriptors travel with the message that names them (SCM_RIGHTS). Each order has a number that its report repeats. These
are the orders that need Python or memory on the other side; what has to happen within a loop turn (QUIC connections) are
fixed-layout messages that C consumes, in rings that OpenEngine hands over.
"""

from __future__ import annotations

import array
import socket

import msgspec

MESSAGE_MAX = 1 << 20
FDS_MAX = 4


class Order(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all orders."""

    id: int = 0


class Setup(Order, frozen=True):
    """First order. Descriptors: statistics segment, doorbell page, and the record ring if `records`."""

    worker: int
    parent: int  # process ID of the supervisor
    cpu: int  # processor to pin to, -1: leave it where it is
    nice: int
    fifo: int  # SCHED_FIFO priority, 0: no
    sleeps: bool
    records: bool
    worker_off: int  # byte offsets into the statistics segment
    rule_off: int
    queue_off: int
    queue_stride: int


class OpenQueue(Order, frozen=True):
    """Sets up and binds an AF_XDP socket. Descriptor: the socket. Fields as in native/xsk.h."""

    slot: int
    ifindex: int
    queue: int
    frames: int
    frame_size: int
    ring: int
    huge_pages: int
    mode: int
    generic: bool
    multi_buffer: bool
    busy_poll: bool
    busy_usecs: int
    busy_budget: int
    verify_udp: bool


class OpenSocket(Order, frozen=True):
    """Serves a bound UDP socket. Descriptor: the socket. `quic`: for QUIC packets both ways, not for a capture rule. `mtu`: of
    the interface, for the size of buffers; 0: a usual one."""

    slot: int
    quic: bool = False
    mtu: int = 0


class CloseSlot(Order, frozen=True):
    """Unbinds and closes what is open in a slot."""

    slot: int


class SetRules(Order, frozen=True):
    """Replaces the capture rules: struct Rule of layout.py, packed, one behind the other."""

    rules: bytes


class OpenEngine(Order, frozen=True):
    """Opens the QUIC engine, once in the life of a data plane and best before Seal. Descriptors: the rings of commands and
    of events (rings.py), and the table of connections (connections.py) where there is one.

    Fields as in struct ab_quic_config of native/quic.h; 0 and "" are its defaults.
    """

    connections: int = 0
    connections_limit: int = 0
    messages: int = 0
    message_bytes: int = 0
    packets: int = 0
    streams: int = 0
    stream_bytes: int = 0
    uni_window: int = 0
    bidi_window: int = 0
    burst_packets: int = 0
    cc: int = 0
    initial_window: int = 0
    hystart: bool = False
    ack_threshold: int = 0
    pacing: bool = False
    ecn: bool = False
    no_mtu_discovery: bool = False
    skip_packets: int = 0
    keep_alive_ms: int = 0
    confidentiality_limit: int = 0
    integrity_limit: int = 0
    key_update_packets: int = 0
    seed: int = 0
    crypto: str = ""

    def settings(self) -> dict[str, int | str]:
        """As the binding takes them."""
        given = {name: getattr(self, name) for name in self.__struct_fields__ if name != "id"}
        return {name: value if isinstance(value, str) else int(value) for name, value in given.items() if value}


class OpenPeer(Order, frozen=True):
    """A ring to (`outgoing`) or from another worker, for packets of its connections that come in here. Behind OpenEngine.
    Descriptor: the ring (rings.py, slots of QUIC_EVENT_BYTES)."""

    outgoing: bool


class OpenBells(Order, frozen=True):
    """By what supervisor and engine wake one another when one of them sleeps. Behind OpenEngine. Descriptors: two eventfds,
    non-blocking: the one that the supervisor rings when it has put commands, and the one that the engine rings."""


class Seal(Order, frozen=True):
    """Lock memory, become another user, give up every capability, and forbid every system call but a few. For good."""

    uid: int  # -1: stay
    gid: int


class Stop(Order, frozen=True):
    """Give everything back and end."""


AnyOrder = Setup | OpenQueue | OpenSocket | CloseSlot | SetRules | OpenEngine | OpenPeer | OpenBells | Seal | Stop


class Report(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all reports; `id` is that of the order."""

    id: int = 0


class Ready(Report, frozen=True):
    """Set up. `notices` are sentences about what could not be had (a nice value, memory not locked)."""

    pid: int
    cpu: int
    notices: tuple[str, ...] = ()


class Done(Report, frozen=True):
    """The order is carried out. For OpenQueue: the mode in force and whether huge pages were had."""

    mode: int = 0
    huge_pages: bool = False
    notices: tuple[str, ...] = ()


class Failed(Report, frozen=True):
    """The order could not be carried out; nothing of it remains."""

    number: int  # errno, 0 where there is none
    text: str


AnyReport = Ready | Done | Failed

_orders: msgspec.msgpack.Decoder[AnyOrder] = msgspec.msgpack.Decoder(AnyOrder)
_reports: msgspec.msgpack.Decoder[AnyReport] = msgspec.msgpack.Decoder(AnyReport)
_encoder = msgspec.msgpack.Encoder()


def send_order(sock: socket.socket, order: AnyOrder, fds: tuple[int, ...] = ()) -> None:
    """One order with its descriptors; they are duplicated, the caller keeps its own."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([_encoder.encode(order)], rights)


def receive_order(sock: socket.socket) -> tuple[AnyOrder, list[int]] | None:
    """The next order and its descriptors, or None when the supervisor has hung up. BlockingIOError: none there."""
    data, fds, _flags, _address = socket.recv_fds(sock, MESSAGE_MAX, FDS_MAX)
    return (_orders.decode(data), list(fds)) if data else None


def send_report(sock: socket.socket, report: AnyReport) -> None:
    sock.sendall(_encoder.encode(report))


def decode_report(data: bytes) -> AnyReport:
    return _reports.decode(data)
