"""The program's owner: minimal updates, taken back when they fail; budgets as numbers; the ladder of modes."""

from __future__ import annotations

import errno
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

import pytest

from afterburnerd.abi.layout import Bucket, PortKey, PortKind, XdpBudget, XdpReason, XdpSettings
from afterburnerd.net.xdp import (
    Budget,
    Changes,
    LocalPort,
    Settings,
    Sizes,
    Use,
    XdpProgram,
    mapped,
    unmapped,
)

MAC = bytes.fromhex("020000000002")
CAPTURE = Use(PortKind.CAPTURE, rule=1)


class Kernel:
    """Maps as dictionaries, and a list of what was done to them; `refuse` makes the n-th map operation fail."""

    def __init__(self) -> None:
        self.maps: dict[str, dict[bytes, bytes]] = {}
        self.log: list[tuple[str, str]] = []
        self.refuse = 0
        self.modes: dict[str, OSError] = {}
        self.on = 0
        self.sizes: dict[str, int] = {}

    def _note(self, verb: str, name: str) -> None:
        self.log.append((verb, name))
        self.refuse -= 1
        if self.refuse == 0:
            raise OSError(errno.ENOMEM, "no memory")

    def load(self, sizes: dict[str, int], /) -> None:
        self.sizes = sizes

    def attach(self, ifindex: int, mode: Literal["native", "generic"], /) -> Literal["native", "generic"]:
        self.log.append(("attach", mode))
        if mode in self.modes:
            raise self.modes[mode]
        self.on = ifindex
        return mode

    def detach(self) -> None:
        self.on = 0

    def attached(self) -> int:
        return self.on

    def close(self) -> None:
        self.on = 0

    def map_update(self, name: str, key: bytes, value: bytes, /) -> None:
        self._note("update", name)
        self.maps.setdefault(name, {})[key] = value

    def map_delete(self, name: str, key: bytes, /) -> bool:
        self._note("delete", name)
        return self.maps.setdefault(name, {}).pop(key, None) is not None

    def map_lookup(self, name: str, key: bytes, /) -> bytes | None:
        return self.maps.setdefault(name, {}).get(key)

    def map_items(self, name: str, /) -> dict[bytes, bytes]:
        return dict(self.maps.get(name, {}))

    def set_xsk(self, queue: int, fd: int, /) -> None:
        self.log.append((f"xsk {queue}", str(fd)))

    def counters(self) -> list[tuple[int, int]]:
        return [(i, 100 * i) for i in range(len(XdpReason))]


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def program(kernel: Kernel) -> XdpProgram:
    return XdpProgram(kernel=kernel)


def port(host: int, number: int = 8001, vlans: tuple[int, ...] = ()) -> LocalPort:
    return LocalPort(IPv4Address(f"192.0.2.{host}"), number, vlans)


# --- ports ---


def test_an_update_touches_only_what_differs(program: XdpProgram, kernel: Kernel) -> None:
    start = {port(1): CAPTURE, port(2): CAPTURE, port(3): CAPTURE}
    assert program.set_ports(start) == Changes(added=3)
    kernel.log.clear()
    assert program.set_ports(start) == Changes()
    assert kernel.log == []
    wanted = {port(1): CAPTURE, port(2): Use(PortKind.QUIC, listen=True), port(4): CAPTURE}
    assert program.set_ports(wanted) == Changes(added=1, changed=1, removed=1)
    assert kernel.log == [("update", "ports")] * 2 + [("delete", "ports")]  # a port is added before another goes
    assert program.ports() == wanted


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_an_update_that_fails_midway_is_taken_back(program: XdpProgram, kernel: Kernel, step: int) -> None:
    start = {port(1): CAPTURE, port(2): CAPTURE, port(3): CAPTURE}
    program.set_ports(start)
    kernel.refuse = step
    with pytest.raises(OSError, match="no memory"):
        program.set_ports({port(1): Use(PortKind.QUIC), port(4): CAPTURE})
    assert program.ports() == start


def test_more_ports_than_fit_are_refused_before_anything_changes(kernel: Kernel) -> None:
    program = XdpProgram(Sizes(ports=2), kernel=kernel)
    assert kernel.sizes["ports"] == 4  # room for the new beside the old
    program.set_ports({port(1): CAPTURE})
    with pytest.raises(OSError, match=r"3 local ports .* room for 2"):
        program.set_ports({port(n): CAPTURE for n in (1, 2, 3)})
    assert program.ports() == {port(1): CAPTURE}


def test_a_local_port_is_the_bytes_of_the_packet() -> None:
    key = LocalPort(IPv4Address("192.0.2.7"), 8001, (5, 6)).packed()
    assert key == PortKey(
        addr=bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 7]), port=b"\x1f\x41", vlan_outer=5, vlan_inner=6
    )
    assert key.pack()[16:] == b"\x1f\x41\x05\x00\x06\x00\x00\x00"


@pytest.mark.parametrize(
    "local",
    [
        LocalPort(IPv4Address("192.0.2.7"), 1),
        LocalPort(IPv6Address("2001:db8::7"), 65535, (4094,)),
        LocalPort(IPv6Address("2001:db8::7"), 443, (1, 4094)),
    ],
    ids=str,
)
def test_a_local_port_survives_packing(local: LocalPort) -> None:
    assert LocalPort.of(PortKey.unpack(local.packed().pack())) == local


@pytest.mark.parametrize(
    ("number", "vlans"), [(0, ()), (65536, ()), (1, (0,)), (1, (4095,)), (1, (5, 6, 7)), (1, (5, 0)), (-1, ())]
)
def test_a_local_port_that_cannot_be_is_refused(number: int, vlans: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"port|VLANs"):
        port(1, number, vlans).packed()


def test_addresses_survive_mapping() -> None:
    for text in ("192.0.2.1", "2001:db8::1", "0.0.0.0", "::"):
        address = IPv6Address(text) if ":" in text else IPv4Address(text)
        assert len(mapped(address)) == 16
        assert unmapped(mapped(address)) == address


# --- settings ---


def test_a_budget_becomes_interval_and_window() -> None:
    assert Budget().packed() == XdpBudget()
    assert Budget(rate=1000, burst=50).packed() == XdpBudget(interval_ns=1_000_000, window_ns=50_000_000)
    assert Budget(rate=3e9, burst=2).packed() == XdpBudget(interval_ns=1, window_ns=2)
    for wrong in (Budget(rate=-1), Budget(rate=1, burst=0)):
        with pytest.raises(ValueError, match="rates are 0 or more, bursts 1 or more"):
            wrong.packed()


def test_a_mac_address_has_six_bytes(program: XdpProgram, kernel: Kernel) -> None:
    with pytest.raises(ValueError, match="6 bytes, not 5"):
        program.configure(Settings(mac=MAC[:5]))
    assert kernel.log == []


def test_buckets_start_full_where_their_budget_changed_and_nowhere_else(program: XdpProgram, kernel: Kernel) -> None:
    """A bucket filled at one an hour would stay shut for hours after the operator allowed a thousand a second."""
    owed = Bucket(full_ns=1 << 60).pack()

    def fill() -> None:
        kernel.maps["gbuckets"] = {slot.to_bytes(4, "little"): owed for slot in (0, 1)}
        kernel.maps["buckets"] = {bytes([n]) * 16: owed for n in range(5)}

    first = Settings(mac=MAC, initial=Budget(1, 1), source=Budget(1, 1), short=Budget(1, 1))
    program.configure(first)
    fill()
    program.configure(Settings(mac=MAC, stamp=True, initial=Budget(1, 1), source=Budget(1, 1), short=Budget(1, 1)))
    assert set(kernel.maps["gbuckets"].values()) == {owed}
    assert len(kernel.maps["buckets"]) == 5
    program.configure(Settings(mac=MAC, initial=Budget(5, 1), source=Budget(1, 1), short=Budget(1, 1)))
    assert kernel.maps["gbuckets"] == {bytes(4): Bucket().pack(), b"\1\0\0\0": owed}
    assert len(kernel.maps["buckets"]) == 5
    program.configure(Settings(mac=MAC, initial=Budget(5, 1), source=Budget(2, 1), short=Budget(9, 1)))
    assert set(kernel.maps["gbuckets"].values()) == {Bucket().pack()}
    assert kernel.maps["buckets"] == {}
    written = XdpSettings.unpack(kernel.maps["settings"][bytes(4)])
    assert (written.mac, written.flags) == (MAC, 0)
    assert written.initial_source == Budget(2, 1).packed()


# --- attach ---


def test_auto_falls_back_to_generic_and_keeps_the_reason(program: XdpProgram, kernel: Kernel) -> None:
    kernel.modes["native"] = OSError(errno.EOPNOTSUPP, "the driver cannot")
    attachment = program.attach(7)
    assert (attachment.ifindex, attachment.mode, attachment.refused) == (7, "generic", "the driver cannot")
    assert program.attachment == attachment


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EPERM, errno.ENODEV])
def test_what_generic_mode_would_meet_too_is_not_tried_twice(program: XdpProgram, kernel: Kernel, number: int) -> None:
    kernel.modes["native"] = OSError(number, "no")
    with pytest.raises(OSError, match="no"):
        program.attach(7)
    assert kernel.log == [("attach", "native")]
    assert program.attachment is None


def test_a_forced_mode_is_the_only_one_tried(program: XdpProgram, kernel: Kernel) -> None:
    kernel.modes["native"] = OSError(errno.EOPNOTSUPP, "the driver cannot")
    with pytest.raises(OSError, match="the driver cannot"):
        program.attach(7, "native")
    program.attach(7, "generic")
    assert kernel.log == [("attach", "native"), ("attach", "generic")]


def test_an_interface_that_went_away_is_noticed(program: XdpProgram, kernel: Kernel) -> None:
    program.attach(7)
    assert program.attached()
    kernel.on = 0
    assert not program.attached()
    assert program.attachment is None


# --- the rest ---


def test_sockets_are_given_and_taken(program: XdpProgram, kernel: Kernel) -> None:
    program.set_xsk(2, 17)
    program.set_xsk(2, None)
    assert kernel.log == [("xsk 2", "17"), ("xsk 2", "-1")]


def test_a_connection_id_has_eight_bytes(program: XdpProgram) -> None:
    with pytest.raises(ValueError, match="ours have 8"):
        program.set_cid(bytes(7), None)


def test_counters_have_the_names_of_their_reasons(program: XdpProgram) -> None:
    counters = program.counters()
    assert list(counters) == list(XdpReason)
    last = counters[XdpReason.DROP_SHORT_GLOBAL]
    assert (last.packets, last.octets) == (len(XdpReason) - 1, 100 * (len(XdpReason) - 1))


def test_reasons_are_in_the_order_of_their_verdicts() -> None:
    """The program derives the verdict from the number of the reason."""
    verdicts = [reason.name.split("_")[0] for reason in XdpReason]
    assert verdicts == sorted(verdicts, key=["PASS", "REDIRECT", "DROP"].index)
