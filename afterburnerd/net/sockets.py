"""UDP sockets of QUIC: what the supervisor shakes hands on, and where there is no AF_XDP, what a worker sends and receives on.

                         .- first byte has 0x80 -> long header:  the supervisor's socket (handshakes)
    datagram to our port -|  classic BPF, SO_REUSEPORT
                         '- else -> short header: the worker's socket (connections)

Both are bound to one address and port. The kernel runs the filter on each datagram, or on each unit that GRO put together: such a
unit lands whole on one side, so each side passes on what is not its own (the worker by the event STRAY, the supervisor by the
command INJECT). No privilege is needed. With one of the two closed everything comes to the other one.

Neither sends fragments, and neither believes ICMP about the MTU: QUIC finds that out itself (RFC 9000 14).
"""

from __future__ import annotations

import ctypes
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

SO_ATTACH_REUSEPORT_CBPF = 51
IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3
IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE = 23, 3
# Classic BPF on the UDP payload: load its first byte; 0x80 set -> socket 0 of the group, else socket 1 (the order of bind).
LOAD_BYTE, JUMP_IF_SET, RETURN = 0x30, 0x45, 0x06
SPLIT = ((LOAD_BYTE, 0, 0, 0), (JUMP_IF_SET, 0, 1, 0x80), (RETURN, 0, 0, 0), (RETURN, 0, 0, 1))


class Pair(NamedTuple):
    """Two sockets on one address and port."""

    long: socket.socket  # long headers: the supervisor's
    short: socket.socket  # short headers: goes to a worker with OpenSocket(quic=True)

    def close(self) -> None:
        self.long.close()
        self.short.close()


def open_one(address: IPv4Address | IPv6Address, port: int, share: bool = False) -> socket.socket:
    """A non-blocking UDP socket for QUIC; port 0: any. `share`: another one follows on the same port."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


def open_pair(address: IPv4Address | IPv6Address, port: int) -> Pair:
    """Both sockets, bound and told apart by the first byte; port 0: any. OSError where the port is taken."""
    long = open_one(address, port, share=True)
    try:
        short = open_one(address, long.getsockname()[1], share=True)
        try:
            attach_split(short)
        except BaseException:
            short.close()
            raise
    except BaseException:
        long.close()
        raise
    return Pair(long, short)


def attach_split(sock: socket.socket) -> None:
    """The filter belongs to the group of sockets; attaching it to one attaches it to all."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in SPLIT)
    memory = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(SPLIT), ctypes.addressof(memory))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program)
