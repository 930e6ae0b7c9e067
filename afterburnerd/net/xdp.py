"""The XDP program as its owner sees it: load, settings, the tables of what is ours, attach, counters.

    program = XdpProgram(Sizes(queues=4))              maps and program are in the kernel, on no interface yet
    program.configure(Settings(mac=...))               who we are, budgets
    program.set_ports({LocalPort(...): Use(...)})      what is ours: from here on, frames for it are redirected
    program.set_xsk(queue, socket)                     to whom; without a socket they are dropped and counted
    program.attach(ifindex)                            native, else generic, else an OSError that says why not
    ...
    program.close()                                    or the end of the process, however it comes: nothing stays

Settings and ports may be written before the attach or at any time after it. The program hangs on a bpf_link whose
descriptor this object holds (see native/bpf.h), so a fork that does not exec must not outlive it.

Nothing here knows the configuration or the supervisor: rates are numbers, addresses are addresses. Calls are short
system calls, but for load and attach, which can take the kernel hundreds of milliseconds and let go of the GIL: an event
loop that must not stand still runs those two in a thread. Errors are OSErrors that name the cause and the remedy;
EBUSY is an interface that somebody else has, EPERM a missing capability.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import msgspec

from ..abi.layout import (
    CID_LEN,
    MAX_QUEUES,
    PORT_LISTEN,
    XDP_STAMP,
    Bucket,
    Cid,
    Flow,
    FlowKey,
    Gbucket,
    Port,
    PortKey,
    PortKind,
    XdpBudget,
    XdpCount,
    XdpReason,
    XdpSettings,
)
from ..native import lib

OBJECT = Path(__file__).resolve().parents[1] / "bpf" / "afterburner.bpf.o"

Address = IPv4Address | IPv6Address
Mode = Literal["native", "generic"]

# Errors of an attach in native mode that generic mode would meet as well; any other means that the driver cannot.
NO_LADDER = {errno.EBUSY, errno.EPERM, errno.EACCES, errno.ENODEV}


class Sizes(msgspec.Struct, frozen=True):
    """Room in the maps, fixed when they are loaded. Hash maps are allocated whole: an entry costs about its bytes + 48."""

    queues: int = MAX_QUEUES  # receive queues of the interface
    ports: int = 1024  # local address, port and VLAN combinations
    cids: int = 65_536  # connection IDs, tombstones included
    flows: int = 16_384  # flows whose queue is remembered; the longest unused is forgotten first
    sources: int = 16_384  # sources with a budget of their own; likewise


class Budget(msgspec.Struct, frozen=True):
    """A token bucket: so many at once, then so many a second. A rate of 0 is no limit."""

    rate: float = 0
    burst: int = 1

    def packed(self) -> XdpBudget:
        if self.rate < 0 or self.burst < 1:
            raise ValueError(
                f"a budget of {self.rate} a second, {self.burst} at once: rates are 0 or more, bursts 1 or more"
            )
        if self.rate == 0:
            return XdpBudget()
        interval = max(1, round(1e9 / self.rate))
        return XdpBudget(interval_ns=interval, window_ns=interval * self.burst)


class Settings(msgspec.Struct, frozen=True):
    mac: bytes  # of the interface: frames to any other address pass
    stamp: bool = False  # put the time of arrival in front of redirected frames (struct xdp_meta)
    initial: Budget = Budget()  # QUIC Initial, 0-RTT and foreign versions on listening ports, all sources together
    source: Budget = Budget()  # the same, of each IPv4 address or IPv6 /64
    short: Budget = Budget()  # QUIC short headers with a connection ID that nobody has

    def packed(self) -> XdpSettings:
        if len(self.mac) != 6:
            raise ValueError(f"a MAC address has 6 bytes, not {len(self.mac)}")
        return XdpSettings(
            mac=self.mac,
            flags=XDP_STAMP if self.stamp else 0,
            initial_global=self.initial.packed(),
            initial_source=self.source.packed(),
            short_global=self.short.packed(),
        )


class LocalPort(msgspec.Struct, frozen=True):
    """What stands in a packet for us: exactly this address, port and VLAN IDs (outer first; none: untagged)."""

    address: Address
    port: int
    vlans: tuple[int, ...] = ()

    def packed(self) -> PortKey:
        if not 0 < self.port < 65536:
            raise ValueError(f"port {self.port}: 1 to 65535")
        if len(self.vlans) > 2 or not all(0 < vid < 4095 for vid in self.vlans):
            raise ValueError(f"VLANs {self.vlans}: at most two, 1 to 4094 each")
        outer, inner = (*self.vlans, 0, 0)[:2]
        return PortKey(addr=mapped(self.address), port=self.port.to_bytes(2, "big"), vlan_outer=outer, vlan_inner=inner)

    @classmethod
    def of(cls, key: PortKey) -> LocalPort:
        vlans = tuple(vid for vid in (key.vlan_outer, key.vlan_inner) if vid)
        return cls(unmapped(key.addr), int.from_bytes(key.port, "big"), vlans)


class Use(msgspec.Struct, frozen=True):
    """What is done with packets to a local port."""

    kind: PortKind
    listen: bool = False  # QUIC: connections are accepted here, so the budgets apply
    rule: int = 0  # CAPTURE: index of the rule in the configuration

    def packed(self) -> Port:
        return Port(kind=self.kind, flags=PORT_LISTEN if self.listen else 0, rule=self.rule)

    @classmethod
    def of(cls, port: Port) -> Use:
        return cls(PortKind(port.kind), bool(port.flags & PORT_LISTEN), port.rule)


class Changes(msgspec.Struct, frozen=True):
    """How many entries a table update touched."""

    added: int = 0
    changed: int = 0
    removed: int = 0


class Attachment(msgspec.Struct, frozen=True):
    ifindex: int
    mode: Mode
    refused: str = ""  # why native mode was not to be had, where `mode` is the second choice


class Kernel(Protocol):
    """The part of native.lib.Bpf that this module uses."""

    def load(self, sizes: dict[str, int], /) -> None: ...
    def attach(self, ifindex: int, mode: Mode, /) -> Mode: ...
    def detach(self) -> None: ...
    def attached(self) -> int: ...
    def close(self) -> None: ...
    def map_update(self, name: str, key: bytes, value: bytes, /) -> None: ...
    def map_delete(self, name: str, key: bytes, /) -> bool: ...
    def map_lookup(self, name: str, key: bytes, /) -> bytes | None: ...
    def map_items(self, name: str, /) -> dict[bytes, bytes]: ...
    def set_xsk(self, queue: int, fd: int, /) -> None: ...
    def counters(self) -> list[tuple[int, int]]: ...


def mapped(address: Address) -> bytes:
    """The 16 bytes that stand for an address in every table (RFC 4291 2.5.5.2)."""
    return bytes(10) + b"\xff\xff" + address.packed if isinstance(address, IPv4Address) else address.packed


def unmapped(data: bytes) -> Address:
    address = IPv6Address(data)
    return address.ipv4_mapped or address


class XdpProgram:
    """A loaded XDP program. Owns maps and link; close() or the garbage collector gives them back."""

    def __init__(self, sizes: Sizes | None = None, *, kernel: Kernel | None = None) -> None:
        self.sizes = sizes or Sizes()
        self.attachment: Attachment | None = None
        self._settings: Settings | None = None
        self._kernel: Kernel = kernel or lib.Bpf(OBJECT)
        self._kernel.load(
            {
                "xsks": self.sizes.queues,
                "ports": 2 * self.sizes.ports,  # an update adds before it removes
                "cids": self.sizes.cids,
                "flows": self.sizes.flows,
                "buckets": self.sizes.sources,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.attachment = None
        self._kernel.close()

    # --- attach ---

    def attach(self, ifindex: int, mode: Literal["auto", "native", "generic"] = "auto") -> Attachment:
        """Hangs the program on an interface; "auto" is native where the driver can, else generic."""
        if not self.attached():
            self._kernel.detach()  # the link of an interface that went away
        refused = ""
        if mode != "generic":
            try:
                return self._attach(ifindex, "native", "")
            except OSError as error:
                if mode == "native" or error.errno in NO_LADDER:
                    raise
                refused = error.strerror or str(error)
        return self._attach(ifindex, "generic", refused)

    def _attach(self, ifindex: int, mode: Mode, refused: str) -> Attachment:
        self._kernel.attach(ifindex, mode)
        self.attachment = Attachment(ifindex, mode, refused)
        return self.attachment

    def attached(self) -> bool:
        """Whether the program is on its interface; an interface that is deleted takes it off without a word."""
        if not self._kernel.attached():
            self.attachment = None
        return self.attachment is not None

    def detach(self) -> None:
        self.attachment = None
        self._kernel.detach()

    # --- what the program is told ---

    def configure(self, settings: Settings) -> None:
        """Puts settings into force. Buckets whose budget changed start full: what a slower one still owed says nothing
        about a faster one, and would keep it shut for as long as the old window."""
        self._kernel.map_update("settings", bytes(4), settings.packed().pack())
        before, self._settings = self._settings, settings
        if before is None:
            return
        for slot, old, new in (
            (Gbucket.INITIAL, before.initial, settings.initial),
            (Gbucket.SHORT, before.short, settings.short),
        ):
            if old != new:
                self._kernel.map_update("gbuckets", slot.to_bytes(4, "little"), Bucket().pack())
        if before.source != settings.source:
            for key in self._kernel.map_items("buckets"):
                self._kernel.map_delete("buckets", key)

    def ports(self) -> dict[LocalPort, Use]:
        """What is ours, as the kernel has it."""
        items = self._kernel.map_items("ports").items()
        return {LocalPort.of(PortKey.unpack(key)): Use.of(Port.unpack(value)) for key, value in items}

    def set_ports(self, wanted: Mapping[LocalPort, Use]) -> Changes:
        """Makes `wanted` the whole of what is ours, touching only what differs: a port that stays is never away. An
        update that fails midway is taken back."""
        if len(wanted) > self.sizes.ports:
            raise OSError(
                errno.E2BIG,
                f"{len(wanted)} local ports (capture rules times local addresses): the XDP program has room for "
                f'{self.sizes.ports}; name addresses instead of "any"',
            )
        want = {key.packed().pack(): use.packed().pack() for key, use in wanted.items()}
        have = self._kernel.map_items("ports")
        put = {key: value for key, value in want.items() if have.get(key) != value}
        gone = have.keys() - want.keys()
        done: list[bytes] = []
        try:
            for key, value in put.items():
                done.append(key)
                self._kernel.map_update("ports", key, value)
            for key in gone:
                done.append(key)
                self._kernel.map_delete("ports", key)
        except BaseException:
            for key in reversed(done):
                if key in have:
                    self._kernel.map_update("ports", key, have[key])
                else:
                    self._kernel.map_delete("ports", key)
            raise
        added = sum(1 for key in put if key not in have)
        return Changes(added=added, changed=len(put) - added, removed=len(gone))

    def set_xsk(self, queue: int, fd: int | None) -> None:
        """Gives the frames of a receive queue to a bound AF_XDP socket, or to nobody. A socket that is closed takes
        itself out."""
        self._kernel.set_xsk(queue, -1 if fd is None else fd)

    def set_cid(self, cid: bytes, owner: Cid | None) -> None:
        """Gives short-header packets with this connection ID to the data plane, or, with None, no more."""
        if len(cid) != CID_LEN:
            raise ValueError(f"connection ID of {len(cid)} bytes: ours have {CID_LEN}")
        if owner is None:
            self._kernel.map_delete("cids", cid)
        else:
            self._kernel.map_update("cids", cid, owner.pack())

    # --- what the program tells ---

    def flow(self, remote: tuple[Address, int], local: tuple[Address, int]) -> Flow | None:
        """On which queue, and when, the latest long-header packet of a flow came in; None: none did, or forgotten."""
        key = FlowKey(
            src=mapped(remote[0]),
            dst=mapped(local[0]),
            sport=remote[1].to_bytes(2, "big"),
            dport=local[1].to_bytes(2, "big"),
        )
        data = self._kernel.map_lookup("flows", key.pack())
        return None if data is None else Flow.unpack(data)

    def counters(self) -> dict[XdpReason, XdpCount]:
        return {XdpReason(i): XdpCount(*pair) for i, pair in enumerate(self.pairs())}

    def pairs(self) -> list[tuple[int, int]]:
        """The same, bare: packets and bytes, by the number of the reason. For who looks once a second."""
        return self._kernel.counters()
