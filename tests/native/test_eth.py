"""The data plane's reading of frames, held against the same independent parser as the XDP program.

XDP and worker must agree: what XDP redirects is read as the datagram that it is, what XDP calls odd is dropped. The
worker knows two things more, checksums, and they are tested by themselves.
"""

from __future__ import annotations

import random
import struct
from ipaddress import IPv4Address, IPv6Address

import pytest

from afterburnerd.abi.layout import Drop, Path, XdpReason
from afterburnerd.native import lib
from afterburnerd.net.xdp import mapped
from tests.net import frames, oracle

READABLE = {
    XdpReason.PASS_NOT_OURS,
    XdpReason.REDIRECT_CAPTURE,
    XdpReason.DROP_WORKER_DOWN,
    XdpReason.REDIRECT_CID,
    XdpReason.PASS_INITIAL,
    XdpReason.PASS_LONG,
    XdpReason.PASS_SHORT_UNKNOWN,
}
# What a MAC address says is XDP's business; a worker gets only what was redirected to it.
NOT_ASKED = {XdpReason.PASS_MULTICAST, XdpReason.PASS_OTHER_HOST}


def read(frame: bytes) -> tuple[object, ...]:
    """Addresses, ports, VLANs and payload by the oracle's layers."""
    data = oracle.Bytes(frame)
    vlans, ethertype = oracle.ethernet(data, frame[:6])
    source, destination, _ = oracle.ipv4(data) if ethertype == 0x0800 else oracle.ipv6(data)
    sport, dport, length, _sum = (data.number(2) for _ in range(4))
    return mapped(source), sport, mapped(destination), dport, (*vlans, 0, 0)[:2], data.take(length - 8)


def header_sum_is_right(frame: bytes) -> bool:
    data = oracle.Bytes(frame)
    _, ethertype = oracle.ethernet(data, frame[:6])
    return ethertype != 0x0800 or frames.ones_complement(data.take(20)) == 0


def test_frames_are_read_as_the_rfcs_say(seed: int) -> None:
    world, seen = frames.world(), {True: 0, False: 0}
    for frame in frames.every(seed):
        reason = oracle.judge(frame, world).reason
        if reason in NOT_ASKED:
            continue
        readable = reason in READABLE and header_sum_is_right(frame)
        got = lib.frame_parse(frame, False)
        assert (got[0] == Drop.NONE) is readable, f"{frame.hex()}: oracle {reason.name}, worker {Drop(got[0]).name}"
        if readable:
            assert got[1:] == read(frame), frame.hex()
        seen[readable] += 1
    assert min(seen.values()) > 1000, seen


def test_no_byte_behind_the_frame_is_read() -> None:
    """Each cut of a good frame is a fault of its own, however much memory lies behind it."""
    whole = frames.datagram(b"payload", 8001, tags=(5, 6))
    for cut in range(len(whole)):
        assert lib.frame_parse(whole[:cut], True)[0] != Drop.NONE, cut
    assert lib.frame_parse(whole + b"\0" * 40, True)[-1] == b"payload"  # Ethernet padding is no fault


@pytest.mark.parametrize("version", [4, 6])
def test_a_flipped_bit_is_found_by_the_udp_checksum(version: int) -> None:
    frame = frames.datagram(bytes(range(101)), 8001, version)
    start = len(frame) - 101 - 8
    assert lib.frame_parse(frame, True)[0] == Drop.NONE
    for bit in range(start * 8, len(frame) * 8):
        if bit // 8 in (start + 4, start + 5):
            continue  # the length field is judged before
        bad = bytearray(frame)
        bad[bit // 8] ^= 1 << bit % 8
        assert lib.frame_parse(bytes(bad), True)[0] == Drop.UDP_CHECKSUM, bit
        assert lib.frame_parse(bytes(bad), False)[0] == Drop.NONE, bit


def test_an_absent_checksum_is_allowed_in_ipv4_only() -> None:
    for version, expected in ((4, Drop.NONE), (6, Drop.UDP_CHECKSUM)):
        frame = bytearray(frames.datagram(b"x", 8001, version))
        frame[-3:-1] = b"\0\0"
        assert lib.frame_parse(bytes(frame), True)[0] == expected


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 8, 9, 15, 1472])
def test_checksums_of_every_length(length: int, seed: int) -> None:
    payload = random.Random(seed + length).randbytes(length)
    for version in (4, 6):
        assert lib.frame_parse(frames.datagram(payload, 8001, version), True)[-1] == payload


def test_a_wrong_ipv4_header_checksum_is_always_found() -> None:
    frame = bytearray(frames.datagram(b"x", 8001))
    frame[24] ^= 1
    assert lib.frame_parse(bytes(frame), False)[0] == Drop.IP_CHECKSUM


def test_an_ipv4_address_in_ipv6_clothes_is_refused() -> None:
    disguise = IPv6Address(bytes(10) + b"\xff\xff" + IPv4Address("10.0.0.1").packed)
    payload = frames.udp(b"x", disguise, frames.NEAR6, 8001)
    assert lib.frame_parse(frames.ethernet(frames.ipv6(payload, disguise), 0x86DD), False)[0] == Drop.IP_HEADER


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tags", [(), (5,), (5, 6)])
def test_a_frame_sent_back_is_whole_and_goes_the_other_way(version: int, tags: tuple[int, ...]) -> None:
    frame = frames.datagram(b"there and back", 8001, version, tags, sport=40000)
    back = lib.frame_reverse(frame)
    assert back is not None
    assert (back[:6], back[6:12]) == (frame[6:12], frame[:6])
    _, src, sport, dst, dport, vlans, payload = lib.frame_parse(back, True)  # checksums right
    _, was_src, was_sport, was_dst, was_dport, was_vlans, _ = lib.frame_parse(frame, True)
    assert (src, sport, dst, dport) == (was_dst, was_dport, was_src, was_sport)
    assert (vlans, payload) == (was_vlans, b"there and back")
    assert lib.frame_reverse(back) == frame


# --- what is sent ---


def path(rng: random.Random, version: int, tags: tuple[int, ...]) -> Path:
    """Any path at all: every field is drawn."""
    local, remote = (
        (IPv4Address(rng.getrandbits(32)), IPv4Address(rng.getrandbits(32)))
        if version == 4
        else (IPv6Address(rng.getrandbits(128)), IPv6Address(rng.getrandbits(128)))
    )
    outer, inner = (*tags, 0, 0)[:2]
    return Path(
        local=mapped(local),
        remote=mapped(remote),
        local_port=rng.getrandbits(16),
        remote_port=rng.getrandbits(16),
        vlan_outer=outer,
        vlan_inner=inner,
        dmac=rng.randbytes(6),
        smac=rng.randbytes(6),
        family=version,
        ttl=rng.randint(0, 255),
        dscp=rng.randint(0, 63),
        mtu=1452,
    )


def expected(p: Path, payload: bytes, ecn: int) -> bytes:
    """The same frame by the builders of the tests, which know nothing of ours."""
    tos, ttl = p.dscp << 2 | ecn, p.ttl or 64
    if p.family == 4:
        local, remote = IPv4Address(p.local[12:]), IPv4Address(p.remote[12:])
        segment = frames.udp(payload, local, remote, p.remote_port, p.local_port)
        head = struct.pack("!BBHHHBB", 0x45, tos, 20 + len(segment), 0, 0x4000, ttl, 17)
        tail = local.packed + remote.packed
        packet = head + struct.pack("!H", frames.ones_complement(head + b"\0\0" + tail)) + tail + segment
    else:
        local6, remote6 = IPv6Address(p.local), IPv6Address(p.remote)
        segment = frames.udp(payload, local6, remote6, p.remote_port, p.local_port)
        packet = struct.pack("!IHBB", 6 << 28 | tos << 20, len(segment), 17, ttl) + p.local + p.remote + segment
    tags = tuple(t for t in (p.vlan_outer, p.vlan_inner) if t)
    frame = frames.ethernet(packet, 0x0800 if p.family == 4 else 0x86DD, tags, p.dmac)
    return frame[:6] + p.smac + frame[12:]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tags", [(), (5,), (4094, 1)])
def test_a_frame_is_built_as_others_build_it(version: int, tags: tuple[int, ...], seed: int) -> None:
    rng = random.Random(f"{seed} {version} {tags}")
    for length in (*range(66), *rng.sample(range(66, 1500), 300), 4000, 8952):
        p, payload, ecn = path(rng, version, tags), rng.randbytes(length), rng.randint(0, 3)
        assert lib.frame_build(p.pack(), payload, ecn) == expected(p, payload, ecn), (p, length, ecn)


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_built_is_read_back(version: int, seed: int) -> None:
    rng = random.Random(f"{seed} {version}")
    for tags in ((), (7,), (7, 8)):
        p, payload = path(rng, version, tags), rng.randbytes(1200)
        got = lib.frame_parse(lib.frame_build(p.pack(), payload, 2), True)
        assert got == (Drop.NONE, p.local, p.local_port, p.remote, p.remote_port, (*tags, 0, 0)[:2], payload)


def test_a_udp_checksum_of_zero_is_sent_as_its_complement(seed: int) -> None:
    """Zero would say that there is none (RFC 768): found by trying payloads until the sum comes out so."""
    rng = random.Random(seed)
    p = path(rng, 4, ())
    body = rng.randbytes(98)
    plain = lib.frame_build(p.pack(), b"\0\0" + body, 0)
    (rest,) = struct.unpack_from("!H", plain, 14 + 20 + 6)
    frame = lib.frame_build(p.pack(), struct.pack("!H", rest) + body, 0)  # adds what was missing to all ones
    assert frame[14 + 20 + 6 : 14 + 20 + 8] == b"\xff\xff"
    assert lib.frame_parse(frame, True)[0] == Drop.NONE
