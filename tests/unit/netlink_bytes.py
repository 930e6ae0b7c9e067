"""Netlink messages put together byte by byte from the kernel's headers (linux/if_link.h, rtnetlink.h, neighbour.h).

Independent of pyroute2's encoder on purpose: what our parsers are shown has been through pyroute2's decoder only.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address
from typing import Any

from afterburnerd.net import rtnl

from pyroute2.netlink.rtnl.marshal import MarshalRtnl  # isort: skip

NESTED = 0x8000


def attribute(kind: int, payload: bytes) -> bytes:
    """struct nlattr and its payload, padded to four bytes."""
    return struct.pack("=HH", len(payload) + 4, kind) + payload + bytes(-len(payload) % 4)


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def message(kind: int, body: bytes, flags: int = 0) -> Any:
    """`body` behind a struct nlmsghdr, as pyroute2 decodes it."""
    data = struct.pack("=IHHII", len(body) + 16, kind, flags, 0, 0) + body
    (decoded,) = MarshalRtnl().parse(data)
    assert decoded["header"]["error"] is None, decoded["header"]["error"]
    return decoded


def link(
    index: int,
    name: str,
    *attributes: bytes,
    kind: int = rtnl.RTM_NEWLINK,
    flags: int = 0x11043,
    family: int = 0,
    mtu: int = 1500,
    hardware: int = 1,
) -> Any:
    """RTM_NEWLINK: struct ifinfomsg, IFLA_IFNAME 3, IFLA_ADDRESS 1, IFLA_MTU 4 and what is given."""
    body = struct.pack("=BxHiII", family, hardware, index, flags, 0)
    body += attribute(3, name.encode() + b"\0") + attribute(1, bytes([2, 0, 0, 0, 0, index])) + attribute(4, u32(mtu))
    return message(kind, body + b"".join(attributes))


def lower(index: int) -> bytes:
    """IFLA_LINK."""
    return attribute(5, u32(index))


def info(kind: str, data: bytes = b"") -> bytes:
    """IFLA_LINKINFO with IFLA_INFO_KIND and IFLA_INFO_DATA."""
    return attribute(18 | NESTED, attribute(1, kind.encode() + b"\0") + (attribute(2 | NESTED, data) if data else b""))


def vlan(vid: int, protocol: int | None = 0x8100) -> bytes:
    """IFLA_LINKINFO of a VLAN device: IFLA_VLAN_ID 1, IFLA_VLAN_FLAGS 2, IFLA_VLAN_PROTOCOL 5 (big-endian)."""
    data = attribute(1, struct.pack("=H", vid)) + attribute(2, struct.pack("=II", 1, 0xFFFFFFFF))
    if protocol is not None:
        data += attribute(5, struct.pack("!H", protocol))
    return info("vlan", data)


def address(
    index: int, text: str, length: int, *, peer: str | None = None, flags: int = 0x80, kind: int = rtnl.RTM_NEWADDR
) -> Any:
    """RTM_NEWADDR: struct ifaddrmsg; IPv4 has IFA_LOCAL 2 beside IFA_ADDRESS 1."""
    ip = ip_address(text)
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    body = struct.pack("=BBBBI", family, length, flags & 0xFF, 253 if ip.is_link_local else 0, index)
    body += attribute(1, ip_address(peer).packed if peer else ip.packed)
    if ip.version == 4 or peer:
        body += attribute(2, ip.packed)
    return message(kind, body + attribute(8, u32(flags)))


def neighbour(
    index: int, text: str, mac: bytes | None, state: int, *, kind: int = rtnl.RTM_NEWNEIGH, family: int | None = None
) -> Any:
    """RTM_NEWNEIGH: struct ndmsg, NDA_DST 1, NDA_LLADDR 2."""
    ip = ip_address(text)
    if family is None:
        family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    body = struct.pack("=B3xiHBB", family, index, state, 0, 1) + attribute(1, ip.packed)
    return message(kind, body + (attribute(2, mac) if mac is not None else b""))


def route(
    destination: str | None,
    length: int,
    *attributes: bytes,
    kind: int = rtnl.RTM_NEWROUTE,
    route_type: int = 1,
    family: int = socket.AF_INET,
    flags: int = 0,
) -> Any:
    """RTM_NEWROUTE: struct rtmsg, RTA_DST 1 and what is given."""
    body = struct.pack("=BBBBBBBBI", family, length, 0, 0, 254, 3, 0, route_type, flags)
    if destination is not None:
        body += attribute(1, ip_address(destination).packed)
    return message(kind, body + b"".join(attributes))
