"""Each fault of the network device is found, alone, with its level and the command that mends it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from msgspec.structs import replace

from afterburnerd.config import Capture
from afterburnerd.net.facts import Address, Link, Queues, Rings, VlanTag, XdpProgram
from afterburnerd.net.netdev import XdpFeatures
from afterburnerd.net.queues import Interrupt
from tests.unit.ctl.doctor.patient import (
    ADDRESS,
    HEALTHY,
    LINK,
    NETWORK,
    absent,
    configured,
    daemon,
    device,
    found,
    link,
    machine,
    troubles,
)

FULL = XdpFeatures(native=True, transmit=True, zero_copy=True, fragments=True, zero_copy_fragments=5)


def network(**fields: Any) -> Any:
    return device(network=replace(NETWORK, **fields))


def test_no_device_named_and_several_or_no_uplinks() -> None:
    several = found(device(name="", network=None, uplinks=("eth0", "eth1")), "device")
    assert several.level == "fail" and "2 uplinks (eth0, eth1)" in several.what
    none = found(device(name="", network=None, uplinks=()), "device")
    assert "no default route" in none.what and "eth0, eth1" in none.fix


def test_a_device_that_is_not_there() -> None:
    finding = found(network(link=None), "device")
    assert finding.level == "fail" and "there is no device eth0; this host has eth0, eth1" in finding.what


def test_a_device_that_is_no_ethernet() -> None:
    assert found(link(ethernet=False), "device").level == "fail"


def test_a_device_that_is_down_or_without_carrier() -> None:
    down = link(up=False, carrier=False)
    assert found(down, "link").commands == ("ip link set dev eth0 up",) and troubles(down) == {"link"}
    assert "no carrier" in found(link(carrier=False), "link").what


def test_a_port_of_a_bond() -> None:
    ill = device(master="bond0")
    assert found(ill, "master").level == "warn" and "port of bond0" in found(ill, "master").what
    assert troubles(ill) == {"master"}


def test_a_device_without_addresses() -> None:
    ill = network(addresses=())
    assert found(ill, "addresses").level == "warn" and troubles(ill) == {"addresses"}


def test_a_rule_for_an_address_that_is_not_ours() -> None:
    ill = configured(captures=(Capture(name="tpu", port=8001, address="198.51.100.9"),))
    finding = found(ill, "rule-address")
    assert finding.commands == ("ip address add 198.51.100.9/32 dev eth0",) and troubles(ill) == {"rule-address"}
    assert absent(configured(captures=(Capture(name="tpu", port=8001, address="192.0.2.1"),)), "rule-address")


def test_a_rule_for_a_vlan_without_a_device_is_worth_knowing() -> None:
    rules = (Capture(name="tpu", port=8001, vlan=100),)
    stripped = configured(captures=rules)
    assert found(stripped, "rule-vlan").level == "info"
    vlan = Link(
        index=9, name="eth0.100", mac=LINK.mac, mtu=1500, up=True, carrier=True, operstate="UP", kind="vlan", lower=2,
        vlan=VlanTag(vid=100),
    )  # fmt: skip
    inner = Address(index=9, address=ip_address("198.51.100.1"), prefix_length=24, scope="global")
    there = configured(network(stacked=(vlan,), addresses=(ADDRESS, inner)), captures=rules)
    assert absent(there, "rule-vlan")


def test_an_xdp_program_of_somebody_else() -> None:
    taken = link(xdp=XdpProgram(mode="native", program=117))
    finding = found(taken, "xdp-program")
    assert finding.level == "fail" and "id 117, native" in finding.what
    assert finding.commands[0] == "bpftool prog show id 117" and troubles(taken) == {"xdp-program"}


def test_our_own_xdp_program() -> None:
    running = daemon(segment="alive", state="serving", interface="eth0", worker_cpus=(3,), huge_pages=True)
    assert found(link(running, xdp=XdpProgram(mode="native", program=117)), "xdp-program").level == "ok"
    elsewhere = daemon(segment="alive", state="serving", interface="eth1", worker_cpus=(3,), huge_pages=True)
    assert found(link(elsewhere, xdp=XdpProgram(mode="native", program=117)), "xdp-program").level == "fail"


@pytest.mark.parametrize(
    ("xdp", "mode", "level"),
    [
        (FULL, "auto", "ok"),
        (FULL, "zero-copy", "ok"),
        (replace(FULL, zero_copy=False), "auto", "info"),
        (replace(FULL, zero_copy=False), "copy", "info"),
        (replace(FULL, zero_copy=False), "zero-copy", "fail"),
        (replace(FULL, native=False, zero_copy=False), "auto", "warn"),
        (replace(FULL, native=False, zero_copy=False), "copy", "fail"),
        (None, "zero-copy", "info"),
        (FULL, "generic", "info"),
        (FULL, "socket", "info"),
    ],
)
def test_what_the_driver_can_do_against_what_is_asked_for(xdp: XdpFeatures | None, mode: str, level: str) -> None:
    assert found(configured(device(xdp=xdp), interface={"mode": mode}), "xdp-mode").level == level


@pytest.mark.parametrize(
    ("driver", "xdp", "mode", "built", "warned"),
    [
        ("virtio_net", FULL, "auto", "m", True),
        ("virtio_net", FULL, "zero-copy", "m", True),
        ("virtio_net", FULL, "auto", None, True),  # it is not known how the kernel was built
        ("virtio_net", FULL, "auto", "y", False),
        ("virtio_net", FULL, "copy", "m", False),
        ("virtio_net", replace(FULL, zero_copy=False), "auto", "m", False),
        ("virtio_net", None, "auto", "m", False),
        ("ice", FULL, "auto", "m", False),
    ],
)
def test_sending_zero_copy_on_virtio_is_warned_of(
    driver: str, xdp: XdpFeatures | None, mode: str, built: str | None, warned: bool
) -> None:
    facts = link(configured(device(xdp=xdp), interface={"mode": mode}), driver=driver)
    facts = replace(facts, machine=replace(facts.machine, config={"VIRTIO_NET": built} if built else None))
    if warned:
        finding = found(facts, "virtio-zero-copy")
        assert finding.level == "warn" and 'interface.mode = "copy"' in finding.fix
    else:
        assert absent(facts, "virtio-zero-copy")


@pytest.mark.parametrize(
    ("mtu", "frame_size", "level"),
    [
        (1500, 4096, "ok"),
        (3818, 4096, "ok"),
        (3819, 4096, "info"),
        (9000, 4096, "info"),
        (1500, 2048, "ok"),
        (1771, 2048, "info"),
    ],
)
def test_the_largest_packet_against_the_frame(mtu: int, frame_size: int, level: str) -> None:
    """A frame of 4096 bytes has room for 3840, of which Ethernet with two tags takes 22."""
    assert found(configured(link(mtu=mtu), memory={"frame_size": frame_size}), "mtu").level == level


def test_a_packet_larger_than_a_frame_where_that_cannot_be() -> None:
    large = link(mtu=9000)
    off = found(configured(large, interface={"jumbo": "off"}), "mtu")
    assert off.level == "fail" and off.commands == ("ip link set dev eth0 mtu 3818",)
    old = replace(large, machine=replace(large.machine, release="6.1.0"))
    assert "this kernel cannot" in found(old, "mtu").what
    poor = replace(large, device=replace(large.device, xdp=replace(FULL, fragments=False)))
    assert "the driver cannot" in found(poor, "mtu").what


def test_the_far_end_of_a_veth_counts() -> None:
    far = link(kind="veth", peer_mtu=9000)
    assert "the far end of eth0 has MTU 9000" in found(far, "mtu").what


def test_queues_that_are_not_there() -> None:
    ill = configured(interface={"queues": (0, 5)})
    finding = found(ill, "queues")
    assert finding.level == "fail" and finding.commands == ("ethtool -L eth0 combined 6",)
    separate = configured(link(queues=Queues(rx=2, tx=2, max_rx=4, max_tx=4)), interface={"queues": (0, 3)})
    assert found(separate, "queues").commands == ("ethtool -L eth0 rx 4",)
    assert found(configured(interface={"queues": (0, 63)}), "queues").commands == ()  # more than the device can have


def test_queues_that_nobody_serves() -> None:
    ill = configured(interface={"queues": (0,)})
    finding = found(ill, "queues")
    assert finding.level == "warn" and finding.what == "queue 1 of eth0 is not served"
    assert finding.commands == ("ethtool -X eth0 equal 1",)
    last = configured(
        interface={"queues": (1,)}, captures=(Capture(name="a", port=8001), Capture(name="b", port=9, address="::1"))
    )
    assert found(last, "queues").commands == (
        "ethtool -N eth0 flow-type udp4 dst-port 8001 action 1",
        "ethtool -N eth0 flow-type udp6 dst-port 9 action 1",
    )


def test_more_queues_than_can_be_served() -> None:
    many = configured(
        link(queues=Queues(rx=128, tx=128, max_rx=128, max_tx=128, combined=True)), memory={"huge_pages": "off"}
    )
    assert found(many, "queues").commands == ("ethtool -L eth0 combined 64",) and troubles(many) == {"queues"}


def test_stripped_vlan_tags_matter_to_rules_for_vlans() -> None:
    rules = (Capture(name="tpu", port=8001, vlan=100),)
    finding = found(configured(captures=rules), "rxvlan")
    assert finding.level == "fail" and finding.commands == ("ethtool -K eth0 rxvlan off",)
    assert absent(HEALTHY, "rxvlan")
    off = device(offloads={"rx-vlan-hw-parse": False})
    assert absent(configured(off, captures=rules), "rxvlan")


@pytest.mark.parametrize(
    ("feature", "command"),
    [
        ("rx-lro", "ethtool -K eth0 lro off"),
        ("rx-gro-hw", "ethtool -K eth0 rx-gro-hw off"),
        ("rx-gro-list", "ethtool -K eth0 rx-gro-list off"),
        ("rx-udp-gro-forwarding", "ethtool -K eth0 rx-udp-gro-forwarding off"),
    ],
)
def test_a_device_that_merges_packets(feature: str, command: str) -> None:
    ill = device(offloads={feature: True})
    assert found(ill, "merging").commands == (command,) and troubles(ill) == {"merging"}


def test_verified_checksums_on_a_veth() -> None:
    ill = configured(link(kind="veth", driver="veth"), interface={"verify_udp_checksum": True})
    assert found(ill, "tx-checksum").level == "warn" and "tx off" in found(ill, "tx-checksum").commands[0]
    assert absent(configured(interface={"verify_udp_checksum": True}), "tx-checksum")


def test_short_receive_rings() -> None:
    ill = link(rings=Rings(rx=512, tx=512, max_rx=8160, max_tx=8160))
    finding = found(ill, "rings")
    assert finding.level == "info" and finding.commands == ("ethtool -G eth0 rx 2048",)
    assert absent(link(rings=Rings(rx=256, tx=256, max_rx=256, max_tx=256)), "rings")


def interrupt(on: int) -> tuple[Interrupt, ...]:
    return (Interrupt(number=120, name="eth0-rx-0", cpus=frozenset(range(8)), effective=frozenset({on})),)


def test_interrupts_on_the_cpu_of_a_spinning_worker() -> None:
    ill = device(interrupts=interrupt(3))
    finding = found(ill, "irq-affinity")
    assert finding.level == "warn" and "eth0-rx-0 (120)" in finding.what
    assert finding.commands == ("echo 0-2 > /proc/irq/120/smp_affinity_list",)  # near the device, not isolated
    assert troubles(ill) == {"irq-affinity"}
    assert found(configured(ill, worker={"idle": "sleep"}), "irq-affinity").level == "ok"


def test_a_device_without_interrupts_says_nothing_of_them() -> None:
    assert absent(device(interrupts=()), "irq-affinity")


def test_irqbalance() -> None:
    ill = machine(irqbalance=True)
    assert found(ill, "irqbalance").level == "info" and troubles(ill) == {"irqbalance"}


def test_busy_polling_needs_interrupts_to_be_put_off() -> None:
    on = {"busy_poll": True}
    finding = found(configured(interface=on), "busy-poll")
    assert finding.level == "warn" and finding.commands == (
        "echo 2 > /sys/class/net/eth0/napi_defer_hard_irqs",
        "echo 200000 > /sys/class/net/eth0/gro_flush_timeout",
    )
    assert found(configured(device(defer_hard_irqs=2, gro_flush_ns=200_000), interface=on), "busy-poll").level == "ok"
    assert found(configured(link(kind="veth"), interface=on), "busy-poll").level == "info"
    assert absent(HEALTHY, "busy-poll")
