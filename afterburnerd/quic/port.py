"""A kernel UDP socket with an endpoint behind it: the thin layer of I/O under everything else in this room.

The socket is bound to one local address, so that replies leave from where the packet came to, and reserves the port. It never
fragments (IP_PMTUDISC_PROBE: QUIC forbids it, and the kernel's own idea of the path MTU is not asked). Where XDP shares the port
out, only long headers and strays come here. Where it does not, the port is a group of two sockets: a classic BPF program on the
first byte gives long headers to this one and short headers to the other, which is the worker's (`share`).

Handshakes under way come before fresh ones: where there is more to do than time, some come to an end instead of all timing out.
So what is there is read at once, what belongs to a connection ID of ours is worked on, and the rest waits its turn, one by one.

Timers are those of the endpoint; the event loop's clock is CLOCK_MONOTONIC, as everywhere.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from ctypes import addressof, create_string_buffer
from typing import Final

from .endpoint import Endpoint
from .tokens import Address

TURN: Final = 0.005  # seconds of work in one go, about: others have their turn in between
FRESH: Final = (
    256  # beginnings of handshakes that wait here, a fifth of a second's work; more are dropped, their senders repeat
)
DATAGRAM: Final = 65_535
RECEIVE_BUFFER: Final = 1 << 20  # bytes: a few hundred first flights

IP_MTU_DISCOVER: Final = 10  # linux/in.h; IPv6's is 23 with the same values
IPV6_MTU_DISCOVER: Final = 23
PMTUDISC_PROBE: Final = 3
# The header's field as the kernel tells it: one byte of IPv4's, an int of IPv6's. It has the ECN mark, which the engine counts also
# of packets that came too early for it: one that is not counted ends the peer's marking for good (RFC 9000 13.4.2).
TOS: Final = (socket.IP_TOS, socket.IPV6_TCLASS)
CONTROL: Final = socket.CMSG_SPACE(4)
SO_ATTACH_REUSEPORT_CBPF: Final = 51
SO_MEMINFO: Final = 55
# Nine words (linux/sock_diag.h), of which the last counts packets for which the socket had no room.
MEMINFO: Final = struct.Struct("32xI")

# Long headers (first byte with 0x80) to socket 0 of the group, short ones to socket 1. What the program reads begins with
# the UDP payload (net/core/sock_reuseport.c, run_bpf_filter).
SPLIT: Final = (
    (0x30, 0, 0, 0),  # ld byte [0]
    (0x45, 0, 1, 0x80),  # jset #0x80, next, skip one
    (0x06, 0, 0, 0),  # ret #0
    (0x06, 0, 0, 1),  # ret #1
)

# Nothing was sent, and nobody can do anything about it now; the peer's or our timer repeats it.
PASSING: Final = {
    errno.EAGAIN,
    errno.ENOBUFS,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.EHOSTDOWN,
    errno.ENETDOWN,
    errno.ECONNREFUSED,
    errno.EPERM,
    errno.EACCES,  # a broadcast address
    errno.EINVAL,
    errno.EADDRNOTAVAIL,
    errno.EMSGSIZE,
}


def open_socket(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket for QUIC on one local address. OSError where the port is taken or the address is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def share(sock: socket.socket) -> socket.socket:
    """The worker's half of the port of a socket that was opened `shared`: short headers come there from now on."""
    host, port = sock.getsockname()[:2]
    other = open_socket(host, port, shared=True)
    code = b"".join(struct.pack("HBBI", *step) for step in SPLIT)
    buffer = create_string_buffer(code)
    program = struct.pack("HP", len(SPLIT), addressof(buffer))
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program)
    except BaseException:
        other.close()
        raise
    return other


def source_for(host: str) -> str:
    """The address that the kernel would send from to reach a host."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        name: str = probe.getsockname()[0]
    return name


class KernelPort:
    """Feeds an endpoint from a socket, and sends what it wants sent. `after` is called behind each datagram."""

    def __init__(self, sock: socket.socket, endpoint: Endpoint, after: Callable[[KernelPort], None]) -> None:
        self.endpoint = endpoint
        self.sock = sock
        host, port = sock.getsockname()[:2]
        self.local: Address = (host, port)
        self.half: socket.socket | None = None  # the worker's, once the port is shared
        self.unsent = 0  # datagrams that the kernel did not take
        self._after = after
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._fresh: deque[tuple[bytes, Address, int]] = deque()  # read, and not looked at yet
        self._again: asyncio.Handle | None = None  # set: `_readable` goes on
        self._loop.add_reader(sock.fileno(), self._readable)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self.sock.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self.sock.close()

    def counts(self) -> dict[str, int]:
        """What became of datagrams, those that the kernel had no room for among them."""
        overflow = sum(
            MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size))[0]
            for sock in (self.sock, self.half)
            if sock is not None
        )
        return {**self.endpoint.counts, **({"socket_full": overflow} if overflow else {})}

    def flush(self) -> None:
        """Sends what waits and arms the timer. Call it after anything was asked of the endpoint."""
        self.send()
        self._arm()

    def send(self) -> None:
        """Sends what waits. `flush` is for whoever may have changed timers."""
        if self._closed or not self.endpoint.outgoing:
            return
        waiting, self.endpoint.outgoing = self.endpoint.outgoing, []
        for outgoing in waiting:
            try:
                self.sock.sendto(outgoing.datagram, outgoing.remote)
            except OSError as error:
                if error.errno not in PASSING:
                    raise
                self.unsent += 1

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._closed:
            return
        due = self.endpoint.due()
        if due is not None:
            self._timer = self._loop.call_at(due, self._timeout)

    def receive(self, datagram: bytes, remote: Address, tos: int) -> None:
        """A datagram that came another way (a worker's stray)."""
        self.endpoint.receive(datagram, remote, self._loop.time(), tos)
        self.flush()
        if self.endpoint.events:
            self._after(self)

    def _readable(self) -> None:
        until = self._loop.time() + TURN
        more = self._read(until)
        while more and self._fresh:
            self._take(*self._fresh.popleft())
            more = self._read(until)
        if self._fresh and self._again is None:
            self._again = self._loop.call_soon(self._go_on)
        self._arm()

    def _go_on(self) -> None:
        self._again = None
        if not self._closed:
            self._readable()

    def _read(self, until: float) -> bool:
        """All that the kernel has. False: it is time for others, who knows what is left."""
        while self._loop.time() < until:
            try:
                datagram, control, _, address = self.sock.recvmsg(DATAGRAM, CONTROL)
            except BlockingIOError:
                return True
            except ConnectionRefusedError:  # an ICMP error of something sent before; its handshake times out by itself
                continue
            remote = (address[0], address[1])
            tos = next((int.from_bytes(data, sys.byteorder) for _, kind, data in control if kind in TOS), 0)
            if self.endpoint.knows(datagram):
                self._take(datagram, remote, tos)
            elif len(self._fresh) < FRESH:
                self._fresh.append((datagram, remote, tos))
            else:
                self.endpoint.counts["initial_dropped"] += 1
        return False

    def _take(self, datagram: bytes, remote: Address, tos: int) -> None:
        collects = gc.isenabled()
        gc.disable()  # half a millisecond, which need not fall between a complete handshake and its adoption
        try:
            self.endpoint.receive(datagram, remote, self._loop.time(), tos)
            # At once: a connection that is complete must not wait for the handshakes behind it, each of which takes a
            # millisecond or more.
            self.send()
            self._after(self)
        finally:
            if collects:
                gc.enable()

    def _timeout(self) -> None:
        self._timer = None
        # The loop may wake a clock tick early; what is due a moment later is due now.
        self.endpoint.timer(self._loop.time() + 0.0005)
        self.flush()
        if self.endpoint.events:
            self._after(self)
