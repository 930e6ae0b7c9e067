"""`afterburner-lab bench xdp`: what the XDP program costs a frame, by what becomes of it.

The kernel runs the program on one frame again and again (BPF_PROG_TEST_RUN with a repeat count) and says the average. No
interface is involved, so this is the program alone: neither the driver before it nor the redirect behind it.

The program is loaded twice, once as the daemon does, with CAP_BPF and CAP_NET_ADMIN alone, and once with everything root
has. The second is the reference: it is translated without the speculation barriers and masks that the kernel puts into the
programs of those who lack CAP_PERFMON, so the ratio is what working with least privilege costs. Rounds alternate.

The stamp in front of a redirected frame is measured apart, as the difference of single runs: a repeated run would
stamp the same frame until its headroom is full.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import mmap
import os
import socket
import statistics
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ..abi.layout import Cid, PortKind, XdpReason
from ..cli import EXIT_PERMISSION, ToolError
from ..native import lib
from ..net.xdp import OBJECT, Address, Budget, LocalPort, Settings, Sizes, Use, XdpProgram
from . import quantities, report
from .report import Fact, Report, Result

MAC = bytes.fromhex("020000000002")
NEAR: dict[int, Address] = {4: IPv4Address("192.0.2.2"), 6: IPv6Address("2001:db8::2")}
FAR: dict[int, Address] = {4: IPv4Address("192.0.2.1"), 6: IPv6Address("2001:db8::1")}
EXAMPLES = """\
examples:
  sudo afterburner-lab bench xdp                           some ten seconds
  sudo afterburner-lab bench xdp --rounds 101 --json > xdp.json
"""
CAPTURE, LISTEN, NOBODY = 8001, 4433, 53
CID = b"\x01\x02\x03\x04\x05\x06\x07\x08"
CAP_NET_ADMIN, CAP_BPF = 12, 39
CAPABILITY_VERSION_3 = 0x20080522
AF_XDP, SOL_XDP, XDP_RX_RING, XDP_UMEM_REG, XDP_UMEM_FILL_RING = 44, 283, 2, 4, 5
AMPLE = Budget(rate=1e9, burst=10**9)  # counted, never empty
SPENT = Budget(rate=1e-3, burst=1)


@dataclass(frozen=True)
class Case:
    figure: str
    frame: bytes
    reason: XdpReason  # what the frame must be counted as, or the figure would be of something else
    initial: Budget = AMPLE


class Run:
    """A loaded program and the sockets that make its redirects succeed."""

    def __init__(self) -> None:
        self.bpf = lib.Bpf(OBJECT)
        self.program = XdpProgram(Sizes(queues=1), kernel=self.bpf)
        self.program.set_ports(
            {
                LocalPort(NEAR[version], port, vlans): use
                for version in (4, 6)
                for vlans in ((), (5, 6))
                for port, use in ((CAPTURE, Use(PortKind.CAPTURE)), (LISTEN, Use(PortKind.QUIC, listen=True)))
            }
        )
        self.program.set_cid(CID, Cid())

    def settings(self, initial: Budget, stamp: bool = False) -> None:
        self.program.configure(Settings(mac=MAC, stamp=stamp, initial=initial, source=AMPLE, short=AMPLE))

    def nanoseconds(self, case: Case, repeat: int) -> float:
        self.settings(case.initial)
        self.bpf.test_run(case.frame)  # spends a budget of one
        before = self.bpf.counters()
        ns = self.bpf.test_run(case.frame, repeat=repeat)[2]
        if self.bpf.counters()[case.reason][0] - before[case.reason][0] != repeat:
            raise AssertionError(
                f"{case.figure}: not every run ended as {case.reason.name}: the figure would be worthless"
            )
        return ns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rounds", type=quantities.amount, default=21, metavar="N", help="rounds of each side, in turns (default: 21)"
    )
    parser.add_argument(
        "--repeat", type=quantities.amount, default=200_000, metavar="N", help="frames a round (default: 200k)"
    )
    parser.add_argument("-j", "--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        raise ToolError(
            "loading XDP programs, with and without privileges, needs root: run it with sudo", EXIT_PERMISSION
        )
    try:
        return report.publish(measure(args.rounds, args.repeat), args.json)
    except PermissionError as error:
        raise ToolError(f"the XDP program cannot be loaded here: {error}", EXIT_PERMISSION) from None


def measure(rounds: int, repeat: int) -> Report:
    facts, stolen = report.machine(), report.steal_seconds()
    with capabilities(1 << CAP_BPF | 1 << CAP_NET_ADMIN):
        least = Run()
    full = Run()
    results: list[Result] = []
    with receiver() as fd:
        for each in (least, full):
            each.program.set_xsk(0, fd)
        for case in cases():
            report.say(f"{case.figure}: {rounds} rounds of {repeat:,}")
            samples = [(least.nanoseconds(case, repeat), full.nanoseconds(case, repeat)) for _ in range(rounds)]
            results.append(_result(case.figure, *(min(side) for side in zip(*samples, strict=True))))
        results.append(_result("stamp", *(_stamp(each) for each in (least, full))))
    for each in (least, full):
        each.program.close()
    settings: dict[str, Fact] = {
        "rounds": rounds,
        "repeat": repeat,
        "steal_seconds": round(report.steal_seconds() - stolen, 2),
    }
    return Report("xdp", facts, settings, tuple(results))


def _result(figure: str, ours: float, reference: float) -> Result:
    return report.result(figure, "s", ours / 1e9, reference="loaded as root", reference_value=reference / 1e9)


def _stamp(side: Run, runs: int = 4000) -> float:
    """What the stamp adds to a redirected frame: difference of medians of single runs, in turns."""
    frame = datagram(4, CAPTURE, bytes(235))
    samples: dict[bool, list[int]] = {False: [], True: []}
    for turn in range(20):
        stamp = bool(turn % 2)
        side.settings(AMPLE, stamp)
        samples[stamp] += [side.bpf.test_run(frame)[2] for _ in range(runs // 20)]
    return statistics.median(samples[True]) - statistics.median(samples[False])


def cases() -> tuple[Case, ...]:
    transaction, initial = bytes(235), b"\xc3\x00\x00\x00\x01\x08" + bytes(1194)
    tcp = bytearray(datagram(4, NOBODY, transaction))
    tcp[23] = 6
    return (
        Case("other_host", b"\x02" + bytes(13) + bytes(46), XdpReason.PASS_OTHER_HOST),
        Case("not_udp", bytes(tcp), XdpReason.PASS_NOT_UDP),
        Case("not_ours", datagram(4, NOBODY, transaction), XdpReason.PASS_NOT_OURS),
        Case("capture", datagram(4, CAPTURE, transaction), XdpReason.REDIRECT_CAPTURE),
        Case("capture_ipv6", datagram(6, CAPTURE, transaction), XdpReason.REDIRECT_CAPTURE),
        Case("capture_two_vlans", datagram(4, CAPTURE, transaction, (5, 6)), XdpReason.REDIRECT_CAPTURE),
        Case("quic_known_cid", datagram(4, LISTEN, b"\x40" + CID + transaction), XdpReason.REDIRECT_CID),
        Case("quic_unknown_cid", datagram(4, LISTEN, b"\x40" + bytes(243)), XdpReason.PASS_SHORT_UNKNOWN),
        Case("quic_handshake", datagram(4, LISTEN, b"\xe3" + initial[1:400]), XdpReason.PASS_LONG),
        Case("quic_initial", datagram(4, LISTEN, initial), XdpReason.PASS_INITIAL),
        Case("quic_initial_refused", datagram(4, LISTEN, initial), XdpReason.DROP_INITIAL_GLOBAL, SPENT),
    )


def datagram(version: int, port: int, payload: bytes, vlans: tuple[int, ...] = ()) -> bytes:
    """A UDP datagram to us. Its checksums are zero: the program leaves them to the receiver."""
    udp = struct.pack("!HHHH", 40000, port, 8 + len(payload), 0) + payload
    far, near = FAR[version].packed, NEAR[version].packed
    if version == 4:
        packet = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, 17, 0) + far + near + udp
    else:
        packet = struct.pack("!IHBB", 6 << 28, len(udp), 17, 64) + far + near + udp
    tags = b"".join(struct.pack("!HH", 0x8100, vid) for vid in vlans)
    return MAC + bytes(6) + tags + struct.pack("!H", 0x0800 if version == 4 else 0x86DD) + packet


@contextlib.contextmanager
def receiver() -> Iterator[int]:
    """An AF_XDP socket, ready to be put into a socket map but bound to no interface."""
    memory = mmap.mmap(-1, 16 * 4096)
    view = ctypes.c_char.from_buffer(memory)
    with socket.socket(AF_XDP, socket.SOCK_RAW) as sock:
        umem = struct.pack("<QQIII4x", ctypes.addressof(view), len(memory), 4096, 0, 0)
        sock.setsockopt(SOL_XDP, XDP_UMEM_REG, umem)
        for ring in (XDP_UMEM_FILL_RING, XDP_RX_RING):
            sock.setsockopt(SOL_XDP, ring, struct.pack("<I", 16))
        yield sock.fileno()


@contextlib.contextmanager
def capabilities(mask: int) -> Iterator[None]:
    """Only these are in effect inside; they stay permitted, so that they come back."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("<Ii", CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)

    def call(name: str) -> None:
        if getattr(libc, name)(header, data) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")

    call("capget")
    before = struct.unpack("<6I", data.raw)
    lowered = (mask & 0xFFFFFFFF, *before[1:3], mask >> 32, *before[4:6])
    data.raw = struct.pack("<6I", *lowered)
    call("capset")
    try:
        yield
    finally:
        data.raw = struct.pack("<6I", *before)
        call("capset")
