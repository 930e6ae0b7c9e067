"""Frames that the data plane builds are frames to the kernel too: it verifies both checksums and hands the payload to a socket."""

from __future__ import annotations

import random
import socket
from ipaddress import ip_address

import pytest

from afterburnerd.abi.layout import Path
from afterburnerd.native import lib
from afterburnerd.net.xdp import mapped
from tests import netns

pytestmark = pytest.mark.privileged

IP_RECVTOS, IPV6_RECVTCLASS, IPV6_TCLASS = 13, 66, 67


@pytest.mark.parametrize("version", [4, 6])
def test_the_kernel_takes_them_and_refuses_broken_ones(version: int, seed: int) -> None:
    rng = random.Random(seed)
    with netns.pair() as rig:
        local, remote = (rig.near.ipv4, rig.far.ipv4) if version == 4 else (rig.near.ipv6, rig.far.ipv6)
        with rig.far.entered():
            receiver = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        with rig.near.entered():
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with receiver, wire:
            receiver.bind((remote, 0))
            receiver.settimeout(5)
            if version == 4:
                receiver.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
            else:
                receiver.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVTCLASS, 1)
            wire.bind((rig.near.ifname, 0))
            path = Path(
                local=mapped(ip_address(local)),
                remote=mapped(ip_address(remote)),
                local_port=4433,
                remote_port=receiver.getsockname()[1],
                dmac=rig.far.mac,
                smac=rig.near.mac,
                family=version,
                dscp=10,
                mtu=1452,
            )
            for length in (1, 2, 3, 17, 255, 256, 257, 1199, 1200, 1452):
                payload, ecn = rng.randbytes(length), rng.randint(0, 3)
                frame = lib.frame_build(path.pack(), payload, ecn)
                broken = bytearray(frame)
                broken[-1] ^= 1 + rng.randrange(255)
                wire.send(bytes(broken))  # in front of the good one: would be received first
                wire.send(frame)
                data, control, _flags, (host, port, *_rest) = receiver.recvmsg(2048, 128)
                assert (data, host, port) == (payload, local, 4433)
                tos = [value[0] for level, kind, value in control if kind in (socket.IP_TOS, IPV6_TCLASS)]
                assert tos == [10 << 2 | ecn]
