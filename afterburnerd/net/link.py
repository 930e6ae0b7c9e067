"""Links and addresses: from rtnetlink's messages to facts.

A RTM_NEWLINK message holds the whole of a link as it is now, so a table of links is kept by replacing entries. What
rtnetlink does not carry (driver, queues, rings, NUMA node, the MTU of a veth's far end) is read when the link is ours and
something about it was said (`Details`).

Messages of family AF_BRIDGE come over the same group and speak of a *port* of a bridge: their RTM_DELLINK is a link
that left the bridge, not one that is gone. `parse_link` returns None for them, and so must every user.
"""

from __future__ import annotations

import pathlib
import socket
from ipaddress import ip_address

import msgspec

from afterburnerd.net.ethtool import Ethtool
from afterburnerd.net.facts import Address, Link, Queues, Rings, VlanTag, XdpProgram
from afterburnerd.net.rtnl import Message, packed_mac

_IFF_UP, _IFF_NOARP, _IFF_LOWER_UP = 0x1, 0x80, 0x10000
_ARPHRD_ETHER = 1
_IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x08, 0x40
_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host"}
_XDP_MODES = {"xdp": "native", "xdpgeneric": "generic", "xdpoffload": "offloaded", "xdpmulti": "several"}


def parse_link(message: Message) -> Link | None:
    """The link that a RTM_NEWLINK or RTM_DELLINK message speaks of; None if it speaks of a bridge port."""
    if message["family"] != socket.AF_UNSPEC:
        return None
    flags = message["flags"]
    info = message.get_attr("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") if info else None) or ""
    queues = Queues(
        rx=message.get_attr("IFLA_NUM_RX_QUEUES") or 1,
        tx=message.get_attr("IFLA_NUM_TX_QUEUES") or 1,
        max_rx=message.get_attr("IFLA_NUM_RX_QUEUES") or 1,
        max_tx=message.get_attr("IFLA_NUM_TX_QUEUES") or 1,
    )
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME") or "",
        mac=packed_mac(message.get_attr("IFLA_ADDRESS")),
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(flags & _IFF_UP),
        carrier=bool(flags & _IFF_LOWER_UP),
        operstate=message.get_attr("IFLA_OPERSTATE") or "UNKNOWN",
        ethernet=message["ifi_type"] == _ARPHRD_ETHER,
        arp=not flags & _IFF_NOARP,
        kind=kind,
        lower=message.get_attr("IFLA_LINK") or None,
        lower_namespace=message.get_attr("IFLA_LINK_NETNSID"),
        master=message.get_attr("IFLA_MASTER") or None,
        vlan=_vlan(info) if kind == "vlan" else None,
        xdp=_xdp(message),
        queues=queues,
        carrier_changes=message.get_attr("IFLA_CARRIER_CHANGES") or 0,
    )


def _vlan(info: Message) -> VlanTag | None:
    data = info.get_attr("IFLA_INFO_DATA")
    vid = data.get_attr("IFLA_VLAN_ID") if data else None
    if vid is None:
        return None
    return VlanTag(vid=vid, protocol=data.get_attr("IFLA_VLAN_PROTOCOL") or 0x8100)


def _xdp(message: Message) -> XdpProgram | None:
    xdp = message.get_attr("IFLA_XDP")
    mode = _XDP_MODES.get(xdp.get_attr("IFLA_XDP_ATTACHED") or "") if xdp else None
    return XdpProgram(mode=mode, program=xdp.get_attr("IFLA_XDP_PROG_ID") or 0) if mode else None


def parse_address(message: Message) -> Address | None:
    """The address that a RTM_NEWADDR or RTM_DELADDR message speaks of."""
    # IFA_LOCAL is ours and IFA_ADDRESS the peer's on a point-to-point link; elsewhere they are equal, or IPv6 sends but one.
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    if text is None:
        return None
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    return Address(
        index=message["index"],
        address=ip_address(text),
        prefix_length=message["prefixlen"],
        scope=_SCOPES.get(message["scope"], str(message["scope"])),
        tentative=bool(flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED)),
    )


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What rtnetlink does not tell of a link; field for field the same as in Link."""

    driver: str
    queues: Queues | None
    rings: Rings | None
    numa_node: int | None
    peer_mtu: int | None


def read_details(link: Link, ethtool: Ethtool, sysfs: pathlib.Path, peer_mtu: int | None = None) -> Details:
    return Details(
        driver=ethtool.driver(link.name) or link.kind,
        queues=ethtool.queues(link.name) or link.queues,
        rings=ethtool.rings(link.name),
        numa_node=_numa_node(sysfs / "class" / "net" / link.name / "device" / "numa_node"),
        peer_mtu=peer_mtu,
    )


def _numa_node(path: pathlib.Path) -> int | None:
    try:
        node = int(path.read_text())
    except (OSError, ValueError):  # a virtual device has no bus, a kernel without NUMA no file
        return None
    return node if node >= 0 else None


def disturbed(old: Link | Details | None, new: Link | Details) -> bool:
    """Whether something differs that may have cost the XSKs of the link their rings."""
    if old is None:
        return False
    fields = ("mac", "mtu", "up", "carrier", "carrier_changes") if isinstance(new, Link) else ("queues", "rings")
    return any(getattr(old, field) != getattr(new, field) for field in fields)
