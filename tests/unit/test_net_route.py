"""Every route gives either a path that a frame can take, or the typed reason why the rings cannot send there."""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from afterburnerd.net import neighbour as nb
from afterburnerd.net.facts import Facts, Link, Neighbour, Path, Reason, Route, VlanTag
from afterburnerd.net.link import parse_address, parse_link
from afterburnerd.net.route import changed_prefix, destination, next_hop_key, parse_route, path, refused_route
from tests.unit import netlink_bytes as wire

OUR_MAC, PEER_MAC = bytes.fromhex("020000000002"), bytes.fromhex("0200000000aa")


def some_link(message: object) -> Link:
    link = parse_link(message)  # type: ignore[arg-type]
    assert link is not None
    return link


LINKS = {
    link.index: link
    for link in (
        some_link(wire.link(1, "lo", hardware=772, flags=0x10049)),
        some_link(wire.link(2, "eth0", mtu=1500)),
        some_link(wire.link(3, "eth1")),
        some_link(wire.link(4, "wg0", wire.info("wireguard"), hardware=0xFFFE)),
        some_link(wire.link(5, "vx0", wire.info("vxlan"))),
        some_link(wire.link(6, "eth0.100", wire.lower(2), wire.vlan(100), mtu=1496)),
        some_link(wire.link(7, "eth0.100.7", wire.lower(6), wire.vlan(7))),
        some_link(wire.link(8, "deep", wire.lower(7), wire.vlan(8))),
        some_link(wire.link(9, "eth1.100", wire.lower(3), wire.vlan(100))),
    )
}
ADDRESSES = tuple(
    address
    for address in (
        parse_address(wire.address(2, "192.0.2.1", 24)),
        parse_address(wire.address(2, "2001:db8::1", 64)),
        parse_address(wire.address(6, "198.51.100.1", 24)),
    )
    if address is not None
)
FACTS = Facts(interface="eth0", link=LINKS[2], stacked=(LINKS[6], LINKS[7], LINKS[8]), addresses=ADDRESSES)


def look(
    target: str = "203.0.113.5",
    index: int | None = 2,
    *,
    kind: str = "unicast",
    facts: Facts = FACTS,
    state: int | None = nb.NUD_REACHABLE,
    mac: bytes = PEER_MAC,
    source: str | None = None,
    mtu: int | None = None,
    encapsulated: bool = False,
    links: dict[int, Link] = LINKS,
) -> Path:
    hop = ip_address("192.0.2.254")
    route = Route(
        kind=kind, index=index, source=ip_address("192.0.2.1"), next_hop=hop, mtu=mtu, encapsulated=encapsulated
    )
    neighbour = None if state is None else Neighbour(index=index or 0, address=hop, mac=mac, state=state)
    asked = ip_address(source) if source else None
    return path(ip_address(target), asked, route, facts, links, neighbour)


def test_a_usable_path_has_all_that_a_frame_needs() -> None:
    found = look()
    assert found.usable and found.reason is None
    assert (found.mac, found.source_mac, found.vlans, found.mtu) == (PEER_MAC, OUR_MAC, (), 1500)
    assert (str(found.source), str(found.next_hop), found.index) == ("192.0.2.1", "192.0.2.254", 2)


def test_a_vlan_device_on_ours_gives_its_tag_its_mac_and_its_mtu() -> None:
    found = look(index=6)
    assert found.usable
    assert found.vlans == (VlanTag(vid=100),)
    assert (found.source_mac, found.mtu) == (LINKS[6].mac, 1496)


def test_two_tags_come_outermost_first_and_three_are_too_many() -> None:
    assert look(index=7).vlans == (VlanTag(vid=100), VlanTag(vid=7))
    assert look(index=8).reason is Reason.OTHER_DEVICE


@pytest.mark.parametrize(
    ("index", "reason", "detail"),
    [
        (1, Reason.LOCAL, "device lo"),
        (3, Reason.OTHER_DEVICE, "device eth1"),
        (9, Reason.OTHER_DEVICE, "device eth1.100 (vlan)"),
        (4, Reason.TUNNEL, "device wg0 (wireguard)"),
        (5, Reason.TUNNEL, "device vx0 (vxlan)"),
        (99, Reason.NO_ROUTE, "device 99 is gone"),
    ],
)
def test_a_route_through_another_device_is_not_ours(index: int, reason: Reason, detail: str) -> None:
    found = look(index=index)
    assert (found.reason, found.detail, found.mac) == (reason, detail, b"")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("local", Reason.LOCAL),
        ("anycast", Reason.LOCAL),
        ("broadcast", Reason.MULTICAST),
        ("multicast", Reason.MULTICAST),
        ("blackhole", Reason.BLACKHOLE),
        ("unreachable", Reason.UNREACHABLE),
        ("prohibit", Reason.PROHIBITED),
        ("none", Reason.NO_ROUTE),
        ("refused: Cannot allocate memory", Reason.NO_ROUTE),
    ],
)
def test_a_route_that_leads_nowhere_has_its_reason(kind: str, reason: Reason) -> None:
    found = look(kind=kind)
    assert (found.reason, found.mac) == (reason, b"")
    assert found.detail == f"route type {kind}"


@pytest.mark.parametrize("target", ["224.0.0.1", "255.255.255.255", "0.0.0.0", "ff02::1", "::"])
def test_multicast_and_broadcast_destinations_are_refused_whatever_the_route(target: str) -> None:
    assert look(target).reason is Reason.MULTICAST


@pytest.mark.parametrize(
    ("state", "mac", "reason"),
    [
        (None, b"", Reason.NEIGHBOUR_PENDING),
        (nb.NUD_INCOMPLETE, b"", Reason.NEIGHBOUR_PENDING),
        (nb.NUD_FAILED, b"", Reason.NEIGHBOUR_FAILED),
        (nb.NUD_PERMANENT, b"\xff" * 6, Reason.NEIGHBOUR_UNUSABLE),
        (nb.NUD_REACHABLE, b"\x01\0\x5e\0\0\1", Reason.NEIGHBOUR_UNUSABLE),
    ],
)
def test_the_neighbour_decides_last(state: int | None, mac: bytes, reason: Reason) -> None:
    found = look(state=state, mac=mac)
    assert (found.reason, found.mac) == (reason, b"")
    assert found.detail == "next hop 192.0.2.254 on eth0"


def test_a_device_that_never_asks_is_not_waited_for() -> None:
    dummy = some_link(wire.link(2, "eth0", flags=0x100C3))
    facts = Facts(interface="eth0", link=dummy, addresses=ADDRESSES)
    assert look(facts=facts, state=None, links={2: dummy}).reason is Reason.NEIGHBOUR_UNUSABLE


@pytest.mark.parametrize("flags", [0x1002, 0x1003], ids=["down", "no carrier"])
def test_a_link_without_carrier_and_a_vlan_on_it_are_down(flags: int) -> None:
    down = some_link(wire.link(2, "eth0", flags=flags))
    facts = Facts(interface="eth0", link=down, stacked=(LINKS[6],), addresses=ADDRESSES)
    assert look(facts=facts).reason is Reason.LINK_DOWN
    assert look(index=6, facts=facts).reason is Reason.LINK_DOWN


def test_an_encapsulating_route_is_a_tunnel() -> None:
    assert look(encapsulated=True).reason is Reason.TUNNEL


def test_the_smaller_mtu_of_route_and_link_holds() -> None:
    assert look(mtu=1280).mtu == 1280
    assert look(mtu=9000).mtu == 1500


def test_a_source_that_is_not_of_this_host_is_refused() -> None:
    assert look(source="192.0.2.1").usable
    assert look(source="192.0.2.3").reason is Reason.BAD_SOURCE


def test_which_reasons_leave_the_socket_backend() -> None:
    assert {reason for reason in Reason if reason.socket_backend} == {Reason.LOCAL, Reason.TUNNEL, Reason.OTHER_DEVICE}
    assert all(reason.explanation for reason in Reason)


def test_the_answer_of_the_kernel() -> None:
    answer = wire.route(
        "203.0.113.5",
        32,
        wire.attribute(4, wire.u32(2)),  # RTA_OIF
        wire.attribute(5, ip_address("192.0.2.254").packed),  # RTA_GATEWAY
        wire.attribute(7, ip_address("192.0.2.1").packed),  # RTA_PREFSRC
        wire.attribute(8, wire.attribute(2, wire.u32(1400))),  # RTA_METRICS, RTAX_MTU
    )
    assert parse_route(answer) == Route(
        kind="unicast", index=2, source=ip_address("192.0.2.1"), next_hop=ip_address("192.0.2.254"), mtu=1400
    )


def test_an_ipv4_route_can_have_an_ipv6_next_hop() -> None:
    via = struct.pack("=H", socket.AF_INET6) + ip_address("fe80::1").packed
    route = parse_route(wire.route("203.0.113.5", 32, wire.attribute(4, wire.u32(2)), wire.attribute(18, via)))
    assert route.next_hop == ip_address("fe80::1")
    assert next_hop_key(route, ip_address("203.0.113.5")) == (2, ip_address("fe80::1"))


def test_a_destination_on_the_link_is_its_own_next_hop() -> None:
    route = parse_route(wire.route("192.0.2.9", 32, wire.attribute(4, wire.u32(2))))
    assert next_hop_key(route, ip_address("192.0.2.9")) == (2, ip_address("192.0.2.9"))
    assert next_hop_key(Route(kind="blackhole"), ip_address("192.0.2.9")) is None


def test_a_lightweight_tunnel_is_seen() -> None:
    assert parse_route(wire.route("203.0.113.5", 32, wire.attribute(21, struct.pack("=H", 1)))).encapsulated


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.EINVAL, "blackhole"),
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.EACCES, "prohibit"),
        (errno.ENETUNREACH, "none"),
        (errno.ENOMEM, "refused: Cannot allocate memory"),
    ],
)
def test_the_errno_of_a_lookup_is_the_type_of_the_route(code: int, kind: str) -> None:
    assert refused_route(OSError(code, "Cannot allocate memory")).kind == kind


def test_the_prefix_of_a_changed_route() -> None:
    assert changed_prefix(wire.route("10.1.0.0", 16)) == ip_network("10.1.0.0/16")
    assert changed_prefix(wire.route(None, 0)) == ip_network("0.0.0.0/0")
    assert changed_prefix(wire.route(None, 0, family=socket.AF_INET6)) == ip_network("::/0")
    assert changed_prefix(wire.route(None, 20)) is None


def test_a_mapped_address_is_the_ipv4_address() -> None:
    assert destination("::ffff:192.0.2.1") == IPv4Address("192.0.2.1")
    assert destination("192.0.2.1") == destination(IPv4Address("192.0.2.1"))
