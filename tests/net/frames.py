"""Frames for the XDP program, built from numbers and mutated from a seed.

One world serves every test: the addresses of tests/netns.py, MAC addresses of our own, one capture port, one QUIC port
that listens and one that only dials, each for IPv4 and IPv6, untagged and behind VLANs.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from tests.net.oracle import EXTENSION_HEADERS, Address, Rule, World

NEAR_MAC, FAR_MAC = bytes.fromhex("020000000002"), bytes.fromhex("020000000001")
NEAR4, FAR4 = IPv4Address("10.77.0.2"), IPv4Address("10.77.0.1")
NEAR6, FAR6 = IPv6Address("fd77::2"), IPv6Address("fd77::1")
CAPTURE, LISTEN, DIAL, NOBODY = 8001, 4433, 4434, 53
CID = bytes.fromhex("c0ffee0011223344")
VLANS: tuple[tuple[int, ...], ...] = ((), (5,), (5, 6))


def world() -> World:
    kinds = {CAPTURE: Rule("capture"), LISTEN: Rule("listen"), DIAL: Rule("quic")}
    ports = {(a, p, v): r for a in (NEAR4, NEAR6) for p, r in kinds.items() for v in VLANS}
    return World(mac=NEAR_MAC, ports=ports, cids={CID})


# --- one layer each; `payload` in, the layer around it out ---


def ones_complement(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp(
    payload: bytes, source: Address, destination: Address, dport: int, sport: int = 40000, length: int | None = None
) -> bytes:
    length = 8 + len(payload) if length is None else length
    head = struct.pack("!HHH", sport, dport, length & 0xFFFF)
    if source.version == 4:
        pseudo = source.packed + destination.packed + struct.pack("!HH", 17, length & 0xFFFF)
    else:
        pseudo = source.packed + destination.packed + struct.pack("!II", length, 17)
    return head + struct.pack("!H", ones_complement(pseudo + head + b"\0\0" + payload) or 0xFFFF) + payload


def ipv4(
    payload: bytes,
    source: Address = FAR4,
    destination: Address = NEAR4,
    protocol: int = 17,
    options: bytes = b"",
    fragment: int = 0x4000,
    total: int | None = None,
    ihl: int | None = None,
    ident: int = 0x1234,
) -> bytes:
    words = 5 + len(options) // 4 if ihl is None else ihl
    total = 20 + len(options) + len(payload) if total is None else total
    head = struct.pack("!BBHHHBB", 0x40 | words, 0, total & 0xFFFF, ident, fragment, 64, protocol)
    tail = source.packed + destination.packed + options
    return head + struct.pack("!H", ones_complement(head + b"\0\0" + tail)) + tail + payload


def ipv6(
    payload: bytes, source: Address = FAR6, destination: Address = NEAR6, header: int = 17, length: int | None = None
) -> bytes:
    length = len(payload) if length is None else length
    return struct.pack("!IHBB", 6 << 28, length & 0xFFFF, header, 64) + source.packed + destination.packed + payload


def extension(header: int, payload: bytes, inner: int = 17) -> bytes:
    """A minimal extension header of that type before `payload`: eight bytes, of which PadN is the content."""
    if header == EXTENSION_HEADERS["fragment"]:
        return struct.pack("!BBHI", inner, 0, 0, 7) + payload  # an atomic fragment (RFC 6946)
    return bytes([inner, 0, 1, 4, 0, 0, 0, 0]) + payload


def ethernet(
    payload: bytes,
    ethertype: int,
    tags: tuple[int, ...] = (),
    destination: bytes = NEAR_MAC,
    tpids: tuple[int, ...] = (),
) -> bytes:
    """`tags` are TCIs from the outside in; their TPIDs are 0x8100, but 0x88a8 for the outer one of two."""
    if not tpids:
        tpids = (0x88A8,) * (len(tags) - 1) + (0x8100,) if tags else ()
    stack = b"".join(struct.pack("!HH", tpid, tci) for tpid, tci in zip(tpids, tags, strict=True))
    return destination + FAR_MAC + stack + struct.pack("!H", ethertype) + payload


def datagram(
    payload: bytes, dport: int, version: int = 4, tags: tuple[int, ...] = (), sport: int = 40000, **mac: bytes
) -> bytes:
    """A plain UDP datagram from far to near, checksums right."""
    if version == 4:
        return ethernet(ipv4(udp(payload, FAR4, NEAR4, dport, sport)), 0x0800, tags, **mac)
    return ethernet(ipv6(udp(payload, FAR6, NEAR6, dport, sport)), 0x86DD, tags, **mac)


# --- QUIC payloads ---


def initial(version: int = 1, size: int = 1200) -> bytes:
    head = b"\xc3" + version.to_bytes(4, "big") + b"\x08" + bytes(8) + b"\x00\x00\x44\x9e"
    return head + bytes(size - len(head))


def long_header(kind: int, version: int = 1, size: int = 120) -> bytes:
    head = bytes([0xC0 | kind << 4]) + version.to_bytes(4, "big") + b"\x08" + CID + b"\x00"
    return head + bytes(size - len(head))


def short_header(cid: bytes, size: int = 60) -> bytes:
    return (b"\x47" + cid + bytes(range(200)) * 8)[:size]


def payloads(rng: random.Random) -> Iterator[bytes]:
    """Every kind of UDP payload that the program tells apart, and their edges."""
    yield b""
    yield b"\x80"
    yield b"\x40"
    yield rng.randbytes(rng.randint(1, 12))
    yield rng.randbytes(235)
    yield initial()
    yield initial(version=0x6B3343CF)
    yield initial(version=0)
    for kind in range(4):
        yield long_header(kind)
        yield long_header(kind, version=rng.choice((0, 1, 2, 0x0A0A0A0A, 0x6B3343CF)), size=rng.randint(15, 80))
    for size in (1, 5, 8, 9, 10, 21, 60):
        yield short_header(CID, size)
        yield long_header(2, size=max(size, 15))[:size]
    yield short_header(bytes(8))


# --- generated frames ---


def valid(rng: random.Random) -> Iterator[bytes]:
    """Well-formed datagrams: every payload to every port over every VLAN stack and both families."""
    stacks = ((), (5,), (5, 6), (0,), (0, 5), (5, 0), (6, 5), (0xE005,), (7,), (5, 6, 7), (0, 0))
    for version in (4, 6):
        for tags in stacks:
            for dport in (CAPTURE, LISTEN, DIAL, NOBODY):
                for payload in payloads(rng):
                    yield datagram(payload, dport, version, tags, sport=rng.randint(1, 65535))


def odd(rng: random.Random) -> Iterator[bytes]:
    """Frames with one thing wrong or unusual, for the capture port, where a mistake would redirect them."""
    body = rng.randbytes(64)
    u4, u6 = udp(body, FAR4, NEAR4, CAPTURE), udp(body, FAR6, NEAR6, CAPTURE)
    for tags in ((), (5,), (5, 6)):

        def e4(packet: bytes, tags: tuple[int, ...] = tags) -> bytes:
            return ethernet(packet, 0x0800, tags)

        def e6(packet: bytes, tags: tuple[int, ...] = tags) -> bytes:
            return ethernet(packet, 0x86DD, tags)

        for ihl in range(16):
            yield e4(ipv4(u4, ihl=ihl))
        for length in range(4, 41, 4):
            yield e4(ipv4(u4, options=b"\x01" * length))  # NOP
        for fragment in (0x2000, 0x0001, 0x2001, 0x1FFF, 0x8000, 0xC000, 0x4001, 0x6000, 0x0000, 0xFFFF):
            yield e4(ipv4(u4, fragment=fragment))
        for total in (0, 1, 19, 20, 21, 27, 28, 29, 20 + len(u4) - 1, 20 + len(u4) + 1, 1500, 65535):
            yield e4(ipv4(u4, total=total))
        for size in (0, 1, 7, 8, 9, len(u6) - 1, len(u6) + 1, 1500, 65535):
            yield e6(ipv6(u6, length=size))
        for length in (0, 1, 7, 8, 9, len(u4) - 1, len(u4) + 1, 65535):
            yield e4(ipv4(udp(body, FAR4, NEAR4, CAPTURE, length=length)))
            yield e6(ipv6(udp(body, FAR6, NEAR6, CAPTURE, length=length)))
        for header in EXTENSION_HEADERS.values():
            yield e6(ipv6(extension(header, u6), header=header))
        for protocol in (0, 1, 2, 6, 47, 50, 58, 59, 136, 255):
            yield e4(ipv4(u4, protocol=protocol))
            yield e6(ipv6(u6, header=protocol))
        yield e4(ipv6(u6))  # version against EtherType
        yield e6(ipv4(u4))
        for surplus in (1, 8, 30):
            yield e4(ipv4(u4 + bytes(surplus)))  # bytes behind the datagram but within IP (RFC 9868)
            yield e6(ipv6(u6 + bytes(surplus)))
            yield e4(ipv4(u4)) + bytes(surplus)  # behind IP: padding of Ethernet, which is nothing odd
            yield e6(ipv6(u6)) + bytes(surplus)
        for source, destination in ((IPv6Address("::ffff:10.77.0.1"), NEAR6), (FAR6, IPv6Address("::ffff:10.77.0.2"))):
            yield e6(ipv6(udp(body, source, destination, CAPTURE), source, destination))
        for other in (IPv4Address("10.77.0.3"), IPv4Address("224.0.0.251"), IPv4Address("255.255.255.255")):
            yield e4(ipv4(udp(body, FAR4, other, CAPTURE), destination=other))
        for other6 in (IPv6Address("fd77::3"), IPv6Address("ff02::fb"), IPv6Address("::")):
            yield e6(ipv6(udp(body, FAR6, other6, CAPTURE), destination=other6))
    for mac in ("ffffffffffff", "01005e0000fb", "3333000000fb", "030000000002", "020000000003", "000000000000"):
        for version in (4, 6):
            yield datagram(body, CAPTURE, version, destination=bytes.fromhex(mac))
    for ethertype in (0x0806, 0x0805, 0x0000, 0x05DC, 0x8847, 0x8863, 0x88CC, 0x9100, 0x8101):
        yield ethernet(ipv4(u4), ethertype)
    for tpids in ((0x88A8,), (0x8100, 0x8100), (0x88A8, 0x88A8), (0x9100, 0x8100), (0x8100,) * 3, (0x8100,) * 6):
        yield ethernet(ipv4(u4), 0x0800, tags=(5, 6, 7, 8, 9, 10)[: len(tpids)], tpids=tpids)


def truncated(rng: random.Random) -> Iterator[bytes]:
    """Frames cut at every byte that the kernel takes (an Ethernet header is the least)."""
    for version in (4, 6):
        for tags in ((), (5,), (5, 6)):
            for dport, payload in (
                (CAPTURE, rng.randbytes(20)),
                (LISTEN, short_header(CID, 30)),
                (LISTEN, initial()[:30]),
            ):
                whole = datagram(payload, dport, version, tags)
                for length in range(14, len(whole) + 1):
                    yield whole[:length]


def mutated(rng: random.Random, count: int) -> Iterator[bytes]:
    """Frames with one to four bytes of their headers changed, mostly to values that mean something."""
    pool = list(valid(rng)) + list(odd(rng))
    telling = (0, 1, 4, 5, 6, 8, 17, 20, 0x40, 0x44, 0x45, 0x46, 0x60, 0x80, 0x81, 0x86, 0x88, 0xA8, 0xC0, 0xDD, 0xFF)
    for _ in range(count):
        frame = bytearray(rng.choice(pool))
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at = rng.randrange(min(len(frame), 90))
            frame[at] = rng.choice((rng.choice(telling), rng.randrange(256), frame[at] ^ 1 << rng.randrange(8)))
        if rng.random() < 0.1:
            frame += rng.randbytes(rng.randint(1, 40))
        elif rng.random() < 0.1:
            del frame[rng.randint(14, len(frame)) :]
        yield bytes(frame)


def noise(rng: random.Random, count: int) -> Iterator[bytes]:
    """Random bytes behind headers that lead the program on for a while."""
    for _ in range(count):
        start = rng.choice(
            (NEAR_MAC + FAR_MAC, NEAR_MAC + FAR_MAC + b"\x08\x00", NEAR_MAC + FAR_MAC + b"\x86\xdd", b"")
        )
        if start.endswith(b"\x08\x00"):
            start += rng.choice((b"\x45", b"\x45\x00\x00\x40", b""))
        yield start + rng.randbytes(rng.randint(14, 120))


def every(seed: int, mutations: int = 4000) -> Iterator[bytes]:
    rng = random.Random(seed)
    yield from valid(rng)
    yield from odd(rng)
    yield from truncated(rng)
    yield from mutated(rng, mutations)
    yield from noise(rng, mutations // 8)
