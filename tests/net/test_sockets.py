"""Long and short headers part ways without XDP; the kernel does what the filter says."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from afterburnerd.net.sockets import open_one, open_pair

LONG, SHORT = bytes([0xC3]), bytes([0x43])


def everything(sock: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(sock.recv(2048))
        except BlockingIOError:
            return found


@pytest.mark.parametrize("text", ["127.0.0.1", "::1"])
def test_the_first_byte_decides_who_gets_a_datagram(text: str) -> None:
    address = ip_address(text)
    pair = open_pair(address, 0)
    port = pair.long.getsockname()[1]
    sent = {LONG: [], SHORT: []}  # type: dict[bytes, list[bytes]]
    for i in range(64):
        with open_one(address, 0) as sender:  # a port each: no hash of a flow can bring this about
            for kind, told in sent.items():
                told.append(kind + bytes([i]))
                sender.sendto(told[-1], (text, port))
    # the loopback delivers within the call of the sender
    assert everything(pair.long) == sent[LONG]
    assert everything(pair.short) == sent[SHORT]
    pair.close()


def test_what_one_side_leaves_behind_comes_to_the_other() -> None:
    pair = open_pair(IPv4Address("127.0.0.1"), 0)
    port = pair.long.getsockname()[1]
    pair.short.close()
    with open_one(IPv4Address("127.0.0.1"), 0) as sender:
        for kind in (LONG, SHORT):
            sender.sendto(kind, ("127.0.0.1", port))
    assert everything(pair.long) == [LONG, SHORT]
    pair.long.close()


def test_a_port_of_somebody_else_is_refused() -> None:
    with open_one(IPv6Address("::1"), 0) as taken, pytest.raises(OSError, match="in use"):
        open_pair(IPv6Address("::1"), taken.getsockname()[1])
