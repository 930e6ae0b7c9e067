"""Queues of the NIC: to hear that their number or size was changed, and which interrupt serves which.

A packet that comes in on a queue without a socket is dropped by the XDP program, so a grown number of queues must be
noticed soon. rtnetlink says nothing of it (IFLA_NUM_RX_QUEUES is how many there could be). The kernel's ethtool netlink
family does: `ethtool -L`, `-G` and their ioctl forms are announced to its "monitor" group (CONFIG_ETHTOOL_NETLINK,
Linux 5.6). Where the kernel has no such family the watcher asks once a second instead (2 us).
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import AsyncIterator

import msgspec

from afterburnerd.net import rtnl  # noqa: F401  (prepares the import of pyroute2; see there)

from pyroute2.netlink import genlmsg  # isort: skip
from pyroute2.netlink.exceptions import NetlinkError  # isort: skip
from pyroute2.netlink.generic import AsyncGenericNetlinkSocket  # isort: skip
from pyroute2.netlink.generic.ethtool import ethtoolheader  # isort: skip


class _Notification(genlmsg):  # type: ignore[misc]
    """Any message of the monitor group: whatever else it holds, its first attribute names the device."""

    nla_map = (("ETHTOOL_A_UNSPEC", "none"), ("ETHTOOL_A_HEADER", "ethtoolheader"))
    ethtoolheader = ethtoolheader


class QueueNotifications:
    """Announcements of changed ethtool settings."""

    def __init__(self) -> None:
        self._socket = AsyncGenericNetlinkSocket()

    async def open(self) -> bool:
        """Join the group; False if this kernel does not offer it."""
        self._socket.module_err_level = "debug"
        try:
            await self._socket.bind("ethtool", _Notification)
            self._socket.add_membership("monitor")
        except (NetlinkError, KeyError):
            return False
        return True

    def close(self) -> None:
        self._socket.close()

    async def changed(self) -> AsyncIterator[int]:
        """Index of each link of which some setting was changed. OSError(ENOBUFS): some were lost."""
        while True:
            async for message in self._socket.get():
                header = message.get_attr("ETHTOOL_A_HEADER")
                index = header.get_attr("ETHTOOL_A_HEADER_DEV_INDEX") if header else None
                if index is not None:
                    yield index


class Interrupt(msgspec.Struct, frozen=True, kw_only=True):
    """One interrupt of a NIC and where it is served."""

    number: int
    name: str  # as the driver registered it: "eth0-TxRx-0", "mlx5_comp3@pci:0000:01:00.0"
    cpus: frozenset[int]  # it may be served on …
    effective: frozenset[int]  # … and is; the same where the kernel does not say


def interrupts(interface: str, proc: pathlib.Path, sysfs: pathlib.Path) -> tuple[Interrupt, ...]:
    """The interrupts of an interface's device. Virtual devices have none."""
    try:
        numbers = {int(entry.name) for entry in (sysfs / "class/net" / interface / "device/msi_irqs").iterdir()}
    except (OSError, ValueError):
        numbers = set()
    found = []
    for number, name in _interrupt_names(proc / "interrupts"):
        # virtio hangs its vectors on the PCI function above the network device, so match by the device's name, too
        if number in numbers or _names_interface(name, interface, sysfs):
            cpus = _cpu_list(proc / "irq" / str(number) / "smp_affinity_list")
            effective = _cpu_list(proc / "irq" / str(number) / "effective_affinity_list")
            found.append(Interrupt(number=number, name=name, cpus=cpus, effective=effective or cpus))
    return tuple(found)


def _interrupt_names(path: pathlib.Path) -> list[tuple[int, str]]:
    """Number and action name of every numbered line of /proc/interrupts."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    matches = (re.match(r"\s*(\d+):.*\s(\S+)$", line) for line in lines)
    return [(int(match[1]), match[2]) for match in matches if match]


def _names_interface(name: str, interface: str, sysfs: pathlib.Path) -> bool:
    device = (sysfs / "class/net" / interface / "device").resolve().name
    return any(
        re.match(rf"{re.escape(prefix)}(?![0-9A-Za-z])", name) is not None
        for prefix in (interface, device)
        if prefix and prefix != "device"
    )


def _cpu_list(path: pathlib.Path) -> frozenset[int]:
    try:
        return parse_cpu_list(path.read_text())
    except (OSError, ValueError):
        return frozenset()


def parse_cpu_list(text: str) -> frozenset[int]:
    """The kernel's list format: "0-3,8" or "0-15:1/2"-like strides; "(null)" and "" are empty."""
    found: set[int] = set()
    for part in text.strip().split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+)/(\d+))?)?", part.strip())
        if match is None:
            if part.strip() in ("", "(null)"):
                continue
            raise ValueError(f"not a list of CPUs: {text.strip()!r}")
        first = int(match[1])
        last = int(match[2] or first)
        used, stride = int(match[3] or 1), int(match[4] or 1)
        found.update(cpu for cpu in range(first, last + 1) if (cpu - first) % stride < used)
    return frozenset(found)
