"""Routes: how the kernel would send to a destination, and whether our rings can do the same.

The kernel decides. We ask it for the route of a destination exactly as its own UDP socket would (rules, multipath, learned
path MTU included), and `path` then says whether a frame built by us and sent on a ring of our interface would do the same:

    destination ─► kernel: route ─► leaves through our link, or a VLAN device on it? ─► next hop ─► kernel: neighbour ─► MAC
                        │                    │                                                          │
                   unreachable,         local: socket backend                                     pending, failed,
                   blackhole, …         tunnel or other device: socket backend                    not unicast

Every "no" has its typed reason (facts.Reason). What a route lookup cannot see: source NAT and IPsec policies of the host.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from afterburnerd.net import neighbour as neighbours
from afterburnerd.net.facts import Facts, IPAddress, Link, Neighbour, Path, Reason, Route
from afterburnerd.net.rtnl import Message

# Route types (linux/rtnetlink.h, RTN_…).
_KINDS = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
}

# A lookup that ends at a route of one of these types is answered by an errno alone (net/ipv4/fib_semantics.c, fib_props).
_REFUSALS = {
    errno.EINVAL: "blackhole",
    errno.EHOSTUNREACH: "unreachable",
    errno.EACCES: "prohibit",
    errno.ENETUNREACH: "none",
    errno.ENODEV: "none",
}

_REASONS = {
    "none": Reason.NO_ROUTE,
    "blackhole": Reason.BLACKHOLE,
    "unreachable": Reason.UNREACHABLE,
    "prohibit": Reason.PROHIBITED,
    "local": Reason.LOCAL,
    "anycast": Reason.LOCAL,  # IPv6 routers answer for their subnet's anycast address themselves
    "broadcast": Reason.MULTICAST,
    "multicast": Reason.MULTICAST,
}

# Kinds of devices whose packets the kernel encapsulates (Reason.TUNNEL); what is not Ethernet counts as one as well.
_TUNNEL_KINDS = frozenset(
    [
        "gre",
        "gretap",
        "ip6gre",
        "ip6gretap",
        "erspan",
        "ip6erspan",
        "ipip",
        "sit",
        "ip6tnl",
        "vti",
        "vti6",
        "xfrm",
        "vxlan",
        "geneve",
        "bareudp",
        "gtp",
        "wireguard",
        "tun",
        "amt",
    ]
)

_MAX_VLANS = 2  # what the XDP program parses and the frame builder writes


def destination(text: str | IPAddress) -> IPAddress:
    """The address to look up. An IPv4-mapped IPv6 address is the IPv4 address it means."""
    address = ip_address(text) if isinstance(text, str) else text
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_refused(address: IPAddress) -> bool:
    """Whether it is no destination at all, whatever the routes say."""
    return address.is_multicast or address.is_unspecified or address == IPv4Address("255.255.255.255")


def parse_route(message: Message) -> Route:
    """The answer to a route lookup."""
    via = message.get_attr("RTA_VIA")
    gateway = via["addr"] if via else message.get_attr("RTA_GATEWAY")
    source = message.get_attr("RTA_PREFSRC")
    metrics = message.get_attr("RTA_METRICS")
    return Route(
        kind=_KINDS.get(message["type"], str(message["type"])),
        index=message.get_attr("RTA_OIF"),
        source=ip_address(source) if source else None,
        next_hop=ip_address(gateway) if gateway else None,
        mtu=(metrics.get_attr("RTAX_MTU") if metrics else None) or None,
        encapsulated=message.get_attr("RTA_ENCAP_TYPE") is not None,
    )


def refused_route(error: OSError) -> Route:
    """The route that the errno of a lookup means. An errno that is no route's comes out as one that leads nowhere."""
    return Route(kind=_REFUSALS.get(error.errno or 0) or f"refused: {error.strerror}")


def changed_prefix(message: Message) -> IPv4Network | IPv6Network | None:
    """The destinations that a RTM_NEWROUTE or RTM_DELROUTE is about; None if it cannot be told (so: all)."""
    length = message["dst_len"]
    text = message.get_attr("RTA_DST")
    if text is None:
        return ip_network("0.0.0.0/0" if message["family"] == 2 else "::/0") if length == 0 else None
    try:
        return ip_network((text, length), strict=False)
    except ValueError:  # MPLS labels and the like
        return None


def next_hop_key(route: Route, target: IPAddress) -> tuple[int, IPAddress] | None:
    """Link and address of the neighbour that a frame to `target` goes to; None if the route has none."""
    if route.kind != "unicast" or route.index is None:
        return None
    return route.index, route.next_hop or target


def path(
    target: IPAddress,
    asked_source: IPAddress | None,
    route: Route,
    facts: Facts,
    links: Mapping[int, Link],
    neighbour: Neighbour | None,
) -> Path:
    """The way of a frame to `target`. `links` are all of the host's, `neighbour` the entry for `next_hop_key`, if any."""
    common: dict[str, Any] = {
        "destination": target,
        "asked_source": asked_source,
        "source": route.source or asked_source,  # the kernel does not repeat what it was told
        "next_hop": route.next_hop,
        "index": route.index,
    }
    if is_refused(target):
        return Path(**common, reason=Reason.MULTICAST)
    if asked_source is not None and not facts.is_local(asked_source):
        return Path(**common, reason=Reason.BAD_SOURCE, detail=f"source {asked_source}")
    if route.kind != "unicast":
        return Path(**common, reason=_REASONS.get(route.kind, Reason.NO_ROUTE), detail=f"route type {route.kind}")
    link = facts.stacked_link(route.index) if route.index is not None else None
    vlans = facts.vlans(link.index) if link is not None else None
    if link is None or vlans is None or len(vlans) > _MAX_VLANS:
        return Path(**common, **_elsewhere(links.get(route.index or 0), route))
    common |= {"vlans": vlans, "source_mac": link.mac, "mtu": min(route.mtu or link.mtu, link.mtu)}
    if route.encapsulated:
        return Path(**common, reason=Reason.TUNNEL, detail="the route encapsulates")
    if not link.usable or facts.link is None or not facts.link.usable:
        return Path(**common, reason=Reason.LINK_DOWN, detail=f"device {link.name}")
    reason = neighbours.reason(neighbour)
    if reason is Reason.NEIGHBOUR_PENDING and not link.arp:
        reason = Reason.NEIGHBOUR_UNUSABLE  # a device that never asks: nobody would ever answer
    if reason is not None:
        return Path(**common, reason=reason, detail=f"next hop {route.next_hop or target} on {link.name}")
    assert neighbour is not None
    return Path(**common, mac=neighbour.mac)


def _elsewhere(link: Link | None, route: Route) -> dict[str, Any]:
    """Reason and detail for a route that leaves through `link`, which is not ours."""
    if link is None:
        return {"reason": Reason.NO_ROUTE, "detail": f"device {route.index} is gone"}
    detail = f"device {link.name}" + (f" ({link.kind})" if link.kind else "")
    if link.name == "lo":
        return {"reason": Reason.LOCAL, "detail": detail}
    if link.kind in _TUNNEL_KINDS or not link.ethernet:
        return {"reason": Reason.TUNNEL, "detail": detail}
    return {"reason": Reason.OTHER_DEVICE, "detail": detail}
