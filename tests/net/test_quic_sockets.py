"""Long and short headers part ways without XDP; the kernel does what the filter on the first byte says."""

from __future__ import annotations

import socket

import pytest

from afterburnerd.quic.port import KernelPort, open_socket, share
from tests import waiting
from tests.unit.quic.rig import Ours

LONG, SHORT = bytes([0xC3]), bytes([0x43])


def everything(sock: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(sock.recv(2048))
        except BlockingIOError:
            return found


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_first_byte_decides_who_gets_a_datagram(host: str) -> None:
    with open_socket(host, 0, shared=True) as ours, share(ours) as workers:
        sent: dict[bytes, list[bytes]] = {LONG: [], SHORT: []}
        for i in range(64):
            with open_socket(host, 0) as sender:  # a port each: no hash of a flow can bring this about
                for kind, told in sent.items():
                    told.append(kind + bytes([i]))
                    sender.sendto(told[-1], ours.getsockname())
        # the loopback delivers within the call of the sender
        assert everything(ours) == sent[LONG]
        assert everything(workers) == sent[SHORT]


def test_what_one_side_leaves_behind_comes_to_the_other() -> None:
    """A worker that has died: the supervisor hears of its peers until there is a next one."""
    with open_socket("127.0.0.1", 0, shared=True) as ours, open_socket("127.0.0.1", 0) as sender:
        share(ours).close()
        for kind in (LONG, SHORT):
            sender.sendto(kind, ours.getsockname())
        assert everything(ours) == [LONG, SHORT]


async def test_what_a_socket_had_no_room_for_is_counted() -> None:
    with open_socket("127.0.0.1", 0, shared=True) as sock, open_socket("127.0.0.1", 0) as sender:
        port = KernelPort(sock, Ours().endpoint, lambda _: None)
        assert port.counts() == {}
        with share(sock) as half:
            port.half = half
            for each in (sock, half):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # the least that there is: two packets or so
            for kind in (LONG, SHORT):
                for _ in range(20):
                    sender.sendto(kind + bytes(1000), port.local)
            taken = 0

            def all_told() -> bool:
                nonlocal taken
                taken += len(everything(sock)) + len(everything(half))
                return taken + port.counts().get("socket_full", 0) == 40

            waiting.until(all_told, "each to be here or counted")
            assert 0 < taken < 40
        port.half = None
        port.close()
