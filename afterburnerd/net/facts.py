"""Network facts: what is true of our interface now, and what became different.

Everything here is a value: frozen structs without I/O, so that the parsers that make them (link.py, queues.py, route.py)
and the decisions taken on them are tested without a network. watch.py keeps a current `Facts` by listening to the
kernel; whoever needs to act on changes compares two of them:

    kernel ─► watch.py ─► Facts ──┐
                          Facts' ─┴─► changes(old, new) ─► LinkChanged, QueuesChanged, AddressesChanged, …

Events are computed from two states and never queued: a consumer that was away for a second gets one LinkChanged from
what it last saw to what is true now, and nothing can pile up. The price is that a flap inside that second would
vanish, and a flap loses rings; so `Link.restarts` counts what the watcher saw happen to the link, and a flap shows as
a change of that count alone.

The interface is followed by its *name*: `LinkGone` means that no link has this name in our network namespace (deleted,
renamed, moved away), `LinkBack` that one has it again. A device deleted and created again between two looks is both.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import msgspec

IPAddress = IPv4Address | IPv6Address


class VlanTag(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One VLAN tag that frames of a link carry on the wire of the link below."""

    vid: int  # 1..4094
    protocol: int = 0x8100  # EtherType: 0x8100 (802.1Q) or 0x88A8 (802.1ad)


class Queues(msgspec.Struct, frozen=True, kw_only=True):
    """Receive and transmit queues in use, and how many there could be (ethtool -l)."""

    rx: int
    tx: int
    max_rx: int
    max_tx: int
    combined: bool = False  # the driver counts a receive and a transmit queue as one channel


class Rings(msgspec.Struct, frozen=True, kw_only=True):
    """Descriptor ring sizes in entries (ethtool -g)."""

    rx: int
    tx: int
    max_rx: int
    max_tx: int


class XdpProgram(msgspec.Struct, frozen=True, kw_only=True):
    """An XDP program that hangs on a link, ours or not."""

    mode: str  # native, generic, offloaded, several
    program: int  # the kernel's id of the program; 0 if several


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One network device."""

    index: int
    name: str
    mac: bytes  # six bytes on Ethernet; none on a device without link-layer addresses
    mtu: int  # bytes above Ethernet's header
    up: bool  # administratively (IFF_UP)
    carrier: bool  # a lower layer is there (IFF_LOWER_UP)
    operstate: str  # RFC 2863: "UP", "DOWN", "DORMANT", "UNKNOWN", …
    ethernet: bool = True  # its frames begin with an Ethernet header
    arp: bool = True  # it resolves neighbours; off on dummy, some point-to-point devices (IFF_NOARP)
    kind: str = ""  # rtnetlink's kind of a virtual device ("veth", "vlan", "bond", …); hardware has none
    driver: str = ""  # as `ethtool -i` says; known for the followed interface only
    lower: int | None = None  # index of the link below (VLAN) or, for veth, of the peer …
    lower_namespace: int | None = None  # … in the network namespace that ours knows by this id; None: in ours
    master: int | None = None  # index of the bond, bridge or VRF it belongs to
    vlan: VlanTag | None = None  # what a VLAN device adds
    xdp: XdpProgram | None = None
    queues: Queues | None = None  # known for the followed interface only, as are rings, peer_mtu and numa_node
    rings: Rings | None = None
    numa_node: int | None = None
    peer_mtu: int | None = None  # of a veth's other end, where we may see it
    carrier_changes: int = 0  # the kernel's count of carrier losses and gains
    restarts: int = (
        0  # times the watcher saw carrier, up, MTU, MAC, queues or rings change: any may cost the XSKs their rings
    )

    @property
    def usable(self) -> bool:
        return self.up and self.carrier


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """One address of this host."""

    index: int  # of the link that has it
    address: IPAddress
    prefix_length: int
    scope: str  # "global", "site", "link", "host"
    tentative: bool = False  # IPv6 duplicate address detection has not passed: not ours yet


class LocalAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A local address as frames for it look on our interface: what a capture rule for "any" expands to."""

    address: IPAddress
    vlans: tuple[VlanTag, ...] = ()  # outermost first


class Reason(enum.StrEnum):
    """Why a destination cannot be reached through the rings of our interface (Path.reason)."""

    MULTICAST = "multicast"  # or broadcast, or unspecified: never a destination of ours
    NO_ROUTE = "no-route"
    UNREACHABLE = "unreachable"  # an unreachable route, or the kernel has just failed to reach the host
    PROHIBITED = "prohibited"
    BLACKHOLE = "blackhole"
    BAD_SOURCE = "bad-source"  # the wanted source address is not one of this host
    LOCAL = "local"  # this host itself: loopback or an own address
    TUNNEL = "tunnel"  # encapsulated on its way: the kernel must do that
    OTHER_DEVICE = "other-device"
    LINK_DOWN = "link-down"
    NEIGHBOUR_PENDING = "neighbour-pending"  # being resolved now
    NEIGHBOUR_FAILED = "neighbour-failed"  # nobody answers for the next hop
    NEIGHBOUR_UNUSABLE = "neighbour-unusable"  # resolved to something that is no unicast MAC

    @property
    def explanation(self) -> str:
        return _EXPLANATIONS[self]

    @property
    def socket_backend(self) -> bool:
        """Whether the kernel's own UDP socket can still deliver there."""
        return self in (Reason.LOCAL, Reason.TUNNEL, Reason.OTHER_DEVICE)


_EXPLANATIONS = {
    Reason.MULTICAST: "the destination is a multicast, broadcast or unspecified address",
    Reason.NO_ROUTE: "there is no route to the destination",
    Reason.UNREACHABLE: "the route to the destination says unreachable",
    Reason.PROHIBITED: "the route to the destination says prohibited",
    Reason.BLACKHOLE: "the route to the destination is a blackhole",
    Reason.BAD_SOURCE: "the source address is not an address of this host",
    Reason.LOCAL: "the destination is this host itself; the socket backend serves it",
    Reason.TUNNEL: "the route leads through a tunnel; the socket backend serves it",
    Reason.OTHER_DEVICE: "the route leads through another device than ours; the socket backend serves it",
    Reason.LINK_DOWN: "the route's device is down or has no carrier",
    Reason.NEIGHBOUR_PENDING: "the next hop's MAC address is being resolved",
    Reason.NEIGHBOUR_FAILED: "the next hop does not answer ARP or neighbour discovery",
    Reason.NEIGHBOUR_UNUSABLE: "the next hop has no unicast MAC address",
}


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """The kernel's entry for a host on one of our links."""

    index: int
    address: IPAddress
    mac: bytes  # empty while it is not known
    state: int  # NUD_… bits, see neighbour.py


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """How the kernel sends to a destination now."""

    kind: str  # "unicast", "local", "broadcast", "multicast", "blackhole", "unreachable", "prohibit", "none"
    index: int | None = None  # of the link it leaves through
    source: IPAddress | None = None
    next_hop: IPAddress | None = None  # None: the destination is on the link; IPv6 is possible for IPv4 (RFC 5549)
    mtu: int | None = None  # of the route; None: the link's
    encapsulated: bool = False


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """All that a frame to a destination needs, or the reason why there is none from us."""

    destination: IPAddress
    asked_source: IPAddress | None = None  # the source that whoever follows it insists on
    reason: Reason | None = None  # None: usable by AF_XDP
    detail: str = ""  # for a person: the device, the next hop
    source: IPAddress | None = None
    next_hop: IPAddress | None = None
    index: int | None = None  # of the link the route names; a VLAN device on ours, perhaps
    mtu: int = 0  # largest IP packet, bytes
    vlans: tuple[VlanTag, ...] = ()  # outermost first
    source_mac: bytes = b""
    mac: bytes = b""  # of the next hop

    @property
    def usable(self) -> bool:
        return self.reason is None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the watcher knows at one moment."""

    interface: str
    link: Link | None = None
    stacked: tuple[Link, ...] = ()  # VLAN devices on top of it, and on top of those
    addresses: tuple[Address, ...] = ()  # of the whole host
    paths: tuple[Path, ...] = ()  # of followed destinations

    def vlans(self, index: int) -> tuple[VlanTag, ...] | None:
        """The tags, outermost first, of frames on our interface for link `index`; None if it is not on top of ours."""
        by_index = {link.index: link for link in self.stacked}
        tags: list[VlanTag] = []
        while self.link is None or index != self.link.index:
            link = by_index.get(index)
            if link is None or link.vlan is None or link.lower is None or link.lower_namespace is not None:
                return None
            tags.insert(0, link.vlan)
            index = link.lower
        return tuple(tags)

    def stacked_link(self, index: int) -> Link | None:
        """Our link or one on top of it, by index."""
        for link in (self.link, *self.stacked):
            if link is not None and link.index == index:
                return link
        return None

    def local_addresses(self) -> tuple[LocalAddress, ...]:
        """The addresses of our interface and of VLAN devices on it, sorted; more than two tags are the kernel's business."""
        found = {
            LocalAddress(address=entry.address, vlans=vlans)
            for entry in self.addresses
            if not entry.tentative and (vlans := self.vlans(entry.index)) is not None and len(vlans) <= 2
        }
        return tuple(sorted(found, key=lambda local: (local.vlans, local.address.version, local.address.packed)))

    def is_local(self, address: IPAddress) -> bool:
        """Whether this host has the address, on any link."""
        return any(entry.address.packed == address.packed for entry in self.addresses)


class LinkGone(msgspec.Struct, frozen=True, kw_only=True):
    """No link has our interface's name any more."""

    link: Link  # as it was


class LinkBack(msgspec.Struct, frozen=True, kw_only=True):
    """A link has our interface's name again; its index is another one, and nothing of ours hangs on it."""

    link: Link


class LinkChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Some field of the link differs; `fields` names which. Queues and rings have their own event."""

    old: Link
    new: Link
    fields: frozenset[str]


class QueuesChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The number of queues or the size of the rings of the NIC differs."""

    old: Link
    new: Link


class AddressesChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses of the host, or the VLAN devices that carry them, differ. `local` is what capture rules expand to now."""

    added: frozenset[Address]
    removed: frozenset[Address]
    local: tuple[LocalAddress, ...]


class RouteChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A followed destination is reached another way, or no longer, or again."""

    old: Path
    new: Path


class NeighbourChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The way to a followed destination is the same, the next hop's MAC or state is not."""

    old: Path
    new: Path


Event = LinkGone | LinkBack | LinkChanged | QueuesChanged | AddressesChanged | RouteChanged | NeighbourChanged

_NEIGHBOUR_REASONS = (None, Reason.NEIGHBOUR_PENDING, Reason.NEIGHBOUR_FAILED, Reason.NEIGHBOUR_UNUSABLE)


def changes(old: Facts, new: Facts) -> Iterator[Event]:
    """What a consumer that acted on `old` must be told to act on `new`, link first."""
    yield from _link_changes(old.link, new.link)
    added, removed = (
        frozenset(new.addresses) - frozenset(old.addresses),
        frozenset(old.addresses) - frozenset(new.addresses),
    )
    local = new.local_addresses()
    if added or removed or local != old.local_addresses():
        yield AddressesChanged(added=added, removed=removed, local=local)
    before = {(path.destination, path.asked_source): path for path in old.paths}
    for path in new.paths:
        was = before.get((path.destination, path.asked_source))
        if was is None or was == path:
            continue  # a destination just followed: whoever follows it was handed its path
        event = NeighbourChanged if _same_way(was, path) else RouteChanged
        yield event(old=was, new=path)


def _same_way(a: Path, b: Path) -> bool:
    if a.reason not in _NEIGHBOUR_REASONS or b.reason not in _NEIGHBOUR_REASONS:
        return False
    return (a.source, a.next_hop, a.index, a.mtu, a.vlans, a.source_mac) == (
        b.source, b.next_hop, b.index, b.mtu, b.vlans, b.source_mac
    )  # fmt: skip


def _link_changes(old: Link | None, new: Link | None) -> Iterator[Event]:
    if old is not None and (new is None or new.index != old.index):
        yield LinkGone(link=old)
    if new is not None and (old is None or new.index != old.index):
        yield LinkBack(link=new)
    if old is None or new is None or new.index != old.index:
        return
    fields = frozenset(field for field in Link.__struct_fields__ if getattr(old, field) != getattr(new, field))
    if fields & {"queues", "rings"}:
        yield QueuesChanged(old=old, new=new)
    if fields - {"queues", "rings", "restarts"} or fields == {"restarts"}:
        yield LinkChanged(old=old, new=new, fields=fields)
