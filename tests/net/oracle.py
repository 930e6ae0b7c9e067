"""What must happen to a frame, derived from the RFCs and the rules of the design, without a look at the BPF program.

It reads a frame as its layers come, each layer consuming bytes from the one around it, and raises `Passed` with the
reason where the design says "leave it to the kernel". No offsets are computed, no key is packed: addresses are
`ipaddress` objects, ports numbers, tables Python dictionaries.

    Ethernet   IEEE 802.3, 802.1Q (tags; VID 0 is a priority tag)        IPv4  RFC 791        UDP   RFC 768
                                                                         IPv6  RFC 8200       QUIC  RFC 8999, 9000
"""

from __future__ import annotations

import io
import ipaddress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from afterburnerd.abi.layout import XdpReason

Address = IPv4Address | IPv6Address

# IANA, "IPv6 Extension Header Types" (RFC 8200 4, RFC 7045): all that may stand between IPv6 and UDP.
EXTENSION_HEADERS = {
    "hop-by-hop": 0,
    "routing": 43,
    "fragment": 44,
    "esp": 50,
    "ah": 51,
    "destination": 60,
    "mobility": 135,
    "hip": 139,
    "shim6": 140,
    "experiment-253": 253,
    "experiment-254": 254,
}


@dataclass(frozen=True)
class Rule:
    """`kind` is "capture", "quic" (we only dial from there) or "listen" (we also accept there)."""

    kind: str


@dataclass
class World:
    """What the supervisor told the program, and which queues have a socket."""

    mac: bytes
    ports: dict[tuple[Address, int, tuple[int, ...]], Rule]
    cids: set[bytes] = field(default_factory=set)
    sockets: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Judgement:
    reason: XdpReason
    flow: tuple[tuple[Address, int], tuple[Address, int]] | None = None  # (remote, local), of long-header packets

    @property
    def verdict(self) -> str:
        return self.reason.name.split("_")[0]


class Passed(Exception):
    def __init__(self, reason: XdpReason) -> None:
        self.reason = reason


class Bytes(io.BytesIO):
    """Bytes that are consumed; running out of them is a truncation."""

    def take(self, count: int) -> bytes:
        data = self.read(count)
        if len(data) < count:
            raise Passed(XdpReason.PASS_TRUNCATED)
        return data

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def left(self) -> int:
        return len(self.getbuffer()) - self.tell()


def judge(frame: bytes, world: World, queue: int = 0) -> Judgement:
    """The verdict on one frame, with budgets that are never empty."""
    try:
        data = Bytes(frame)
        vlans, ethertype = ethernet(data, world.mac)
        if ethertype == 0x0800:
            source, destination, size = ipv4(data)
        elif ethertype == 0x86DD:
            source, destination, size = ipv6(data)
        else:
            raise Passed(XdpReason.PASS_NOT_IP)
        if size < 8:  # RFC 768: "the minimum value of the length is eight"
            raise Passed(XdpReason.PASS_UDP_SHORT)
        sport, dport, length, _checksum = (data.number(2) for _ in range(4))
        if length < 8:
            raise Passed(XdpReason.PASS_UDP_SHORT)
        if length != size:
            raise Passed(XdpReason.PASS_UDP_LENGTH)
        payload = data.take(length - 8)
    except Passed as passed:
        return Judgement(passed.reason)

    rule = world.ports.get((destination, dport, vlans))
    if rule is None:
        return Judgement(XdpReason.PASS_NOT_OURS)
    down = queue not in world.sockets
    if rule.kind == "capture":
        return Judgement(XdpReason.DROP_WORKER_DOWN if down else XdpReason.REDIRECT_CAPTURE)
    if payload and payload[0] >= 0x80:  # RFC 8999 5.1: header form
        flow = ((source, sport), (destination, dport))
        needs_budget = rule.kind == "listen" and not established(payload)
        return Judgement(XdpReason.PASS_INITIAL if needs_budget else XdpReason.PASS_LONG, flow)
    if len(payload) >= 9 and payload[1:9] in world.cids:
        return Judgement(XdpReason.DROP_WORKER_DOWN if down else XdpReason.REDIRECT_CID)
    return Judgement(XdpReason.PASS_SHORT_UNKNOWN)


def established(payload: bytes) -> bool:
    """Whether a long-header packet can only belong to a connection that exists: Handshake and Retry of version 1."""
    if len(payload) < 9:
        return False  # no packet is that short: a listener would look at it as at a new one
    version, kind = int.from_bytes(payload[1:5], "big"), payload[0] >> 4 & 3
    return version == 1 and kind in (2, 3)  # RFC 9000 17.2.4, 17.2.5


def ethernet(data: Bytes, ours: bytes) -> tuple[tuple[int, ...], int]:
    """VLAN IDs from the outside in, without priority tags, and the EtherType behind them."""
    destination, _source, ethertype = data.take(6), data.take(6), data.number(2)
    if destination[0] % 2:  # IEEE 802.3 3.2.3: the group bit
        raise Passed(XdpReason.PASS_MULTICAST)
    if destination != ours:
        raise Passed(XdpReason.PASS_OTHER_HOST)
    tags: list[int] = []
    while ethertype in (0x8100, 0x88A8):
        if len(tags) == 2:
            raise Passed(XdpReason.PASS_VLAN_DEPTH)
        tags.append(data.number(2) % 4096)
        ethertype = data.number(2)
    return tuple(vid for vid in tags if vid), ethertype


def ipv4(data: Bytes) -> tuple[Address, Address, int]:
    """Source, destination, and how many bytes of a UDP datagram follow."""
    frame_left = data.left()
    header = Bytes(data.take(20))
    first, _tos, total, _id, fragment, _ttl, protocol, _sum = (header.number(n) for n in (1, 1, 2, 2, 2, 1, 1, 2))
    source, destination = IPv4Address(header.take(4)), IPv4Address(header.take(4))
    if first // 16 != 4:
        raise Passed(XdpReason.PASS_IP_VERSION)
    if protocol != 17:
        raise Passed(XdpReason.PASS_NOT_UDP)
    words = first % 16
    if words < 5:
        raise Passed(XdpReason.PASS_IPV4_IHL)
    if words > 5:
        raise Passed(XdpReason.PASS_IPV4_OPTIONS)
    reserved, more_fragments, offset = fragment >> 15, fragment >> 13 & 1, fragment & 0x1FFF
    if reserved or more_fragments or offset:
        raise Passed(XdpReason.PASS_FRAGMENT)
    if not 20 <= total <= frame_left:
        raise Passed(XdpReason.PASS_IP_LENGTH)
    return source, destination, total - 20


def ipv6(data: Bytes) -> tuple[Address, Address, int]:
    header = Bytes(data.take(40))
    version_class_flow, size, next_header, _hops = (header.number(n) for n in (4, 2, 1, 1))
    source, destination = IPv6Address(header.take(16)), IPv6Address(header.take(16))
    if version_class_flow >> 28 != 6:
        raise Passed(XdpReason.PASS_IP_VERSION)
    if next_header in EXTENSION_HEADERS.values():
        raise Passed(XdpReason.PASS_IPV6_EXTENSION)
    if next_header != 17:
        raise Passed(XdpReason.PASS_NOT_UDP)
    if size > data.left():
        raise Passed(XdpReason.PASS_IP_LENGTH)
    mapped = ipaddress.ip_network("::ffff:0:0/96")
    if source in mapped or destination in mapped:
        raise Passed(XdpReason.PASS_IPV6_MAPPED)
    return source, destination, size
