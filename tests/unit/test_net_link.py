"""Links and addresses come out of rtnetlink messages whole, VLAN devices with their tags."""

from __future__ import annotations

import pathlib
from ipaddress import ip_address

import pytest

from afterburnerd.net.facts import Queues, VlanTag, XdpProgram
from afterburnerd.net.link import disturbed, parse_address, parse_link
from tests.unit import netlink_bytes as wire


def test_an_ethernet_link() -> None:
    link = parse_link(
        wire.link(
            7,
            "eth0",
            wire.attribute(16, b"\x06"),  # IFLA_OPERSTATE up
            wire.attribute(31, wire.u32(8)),  # IFLA_NUM_TX_QUEUES
            wire.attribute(32, wire.u32(4)),  # IFLA_NUM_RX_QUEUES
            wire.attribute(35, wire.u32(3)),  # IFLA_CARRIER_CHANGES
            mtu=9000,
        )
    )
    assert link is not None
    assert (link.index, link.name, link.mac.hex(), link.mtu) == (7, "eth0", "020000000007", 9000)
    assert (link.up, link.carrier, link.usable, link.operstate) == (True, True, True, "UP")
    assert (link.ethernet, link.arp, link.kind, link.lower, link.vlan, link.xdp) == (True, True, "", None, None, None)
    assert link.queues == Queues(rx=4, tx=8, max_rx=4, max_tx=8)
    assert link.carrier_changes == 3


@pytest.mark.parametrize(
    ("flags", "up", "carrier"),
    [(0x1003, True, False), (0x1002, False, False), (0x11003, True, True)],
    ids=["no carrier", "down", "up"],
)
def test_up_and_carrier_are_told_apart(flags: int, up: bool, carrier: bool) -> None:
    link = parse_link(wire.link(2, "eth0", flags=flags))
    assert link is not None
    assert (link.up, link.carrier, link.usable) == (up, carrier, up and carrier)


def test_a_vlan_device_has_its_tag_and_what_is_below() -> None:
    link = parse_link(wire.link(9, "eth0.100", wire.lower(7), wire.vlan(100)))
    assert link is not None
    assert (link.kind, link.lower, link.lower_namespace) == ("vlan", 7, None)
    assert link.vlan == VlanTag(vid=100, protocol=0x8100)


def test_a_provider_tag_keeps_its_ethertype_and_an_old_kernel_names_none() -> None:
    service = parse_link(wire.link(9, "s", wire.lower(7), wire.vlan(4094, 0x88A8)))
    old = parse_link(wire.link(10, "c", wire.lower(7), wire.vlan(1, None)))
    assert service is not None and service.vlan == VlanTag(vid=4094, protocol=0x88A8)
    assert old is not None and old.vlan == VlanTag(vid=1, protocol=0x8100)


def test_a_link_below_in_another_namespace_is_marked_so() -> None:
    link = parse_link(wire.link(9, "ab0", wire.lower(7), wire.info("veth"), wire.attribute(37, wire.u32(3))))
    assert link is not None
    assert (link.kind, link.lower, link.lower_namespace, link.vlan) == ("veth", 7, 3, None)


@pytest.mark.parametrize(("attached", "mode"), [(1, "native"), (2, "generic"), (3, "offloaded"), (4, "several")])
def test_an_attached_xdp_program_is_seen(attached: int, mode: str) -> None:
    xdp = wire.attribute(43 | wire.NESTED, wire.attribute(2, bytes([attached])) + wire.attribute(4, wire.u32(117)))
    link = parse_link(wire.link(2, "eth0", xdp))
    assert link is not None and link.xdp == XdpProgram(mode=mode, program=117)


def test_no_xdp_program_is_none() -> None:
    link = parse_link(wire.link(2, "eth0", wire.attribute(43 | wire.NESTED, wire.attribute(2, b"\0"))))
    assert link is not None and link.xdp is None


def test_a_tunnel_is_no_ethernet_and_a_noarp_device_says_so() -> None:
    tunnel = parse_link(wire.link(5, "wg0", wire.info("wireguard"), hardware=0xFFFE))
    noarp = parse_link(wire.link(6, "dummy0", wire.info("dummy"), flags=0x100C3))
    assert tunnel is not None and (tunnel.ethernet, tunnel.kind) == (False, "wireguard")
    assert noarp is not None and not noarp.arp


def test_a_bridge_port_message_is_not_a_link() -> None:
    assert parse_link(wire.link(2, "eth0", family=7)) is None


def test_addresses_of_both_families() -> None:
    four = parse_address(wire.address(2, "192.0.2.1", 24))
    six = parse_address(wire.address(3, "fe80::1", 64))
    assert four is not None and (four.index, four.address, four.prefix_length) == (2, ip_address("192.0.2.1"), 24)
    assert (four.scope, four.tentative) == ("global", False)
    assert six is not None and (six.address, six.scope) == (ip_address("fe80::1"), "link")


def test_the_local_end_of_a_point_to_point_address_is_ours() -> None:
    parsed = parse_address(wire.address(2, "192.0.2.1", 32, peer="192.0.2.9"))
    assert parsed is not None and parsed.address == ip_address("192.0.2.1")


@pytest.mark.parametrize("flags", [0x40, 0x08], ids=["tentative", "duplicate"])
def test_an_address_that_is_not_proven_ours_is_tentative(flags: int) -> None:
    parsed = parse_address(wire.address(2, "2001:db8::1", 64, flags=flags))
    assert parsed is not None and parsed.tentative


def test_a_changed_mtu_disturbs_and_a_changed_master_does_not() -> None:
    one = parse_link(wire.link(2, "eth0"))
    other = parse_link(wire.link(2, "eth0", mtu=1400))
    slave = parse_link(wire.link(2, "eth0", wire.attribute(10, wire.u32(5))))
    assert one is not None and other is not None and slave is not None
    assert disturbed(one, other)
    assert slave.master == 5 and not disturbed(one, slave)
    assert not disturbed(None, one)


def test_numa_node_of_sysfs(tmp_path: pathlib.Path) -> None:
    from afterburnerd.net.link import _numa_node

    node = tmp_path / "numa_node"
    for text, expected in (("1\n", 1), ("-1\n", None)):
        node.write_text(text)
        assert _numa_node(node) == expected
    assert _numa_node(tmp_path / "absent") is None
