"""The XDP program on a real interface, native and generic: the same frames as in the program's own tests arrive over a
veth pair and are counted the same; what is ours reaches the AF_XDP socket unchanged, what is not reaches the kernel's."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal

import pytest

from afterburnerd.abi.layout import STAMP_MAGIC, XdpMeta, XdpReason
from afterburnerd.net.xdp import Settings, Sizes, XdpProgram
from tests import netns
from tests.net import frames, make_packets, oracle
from tests.net.test_xdp_program import SEED, configure
from tests.net.xsk import COPY, USE_SG, Xsk
from tests.waiting import until

pytestmark = [pytest.mark.privileged, pytest.mark.bpf]

Mode = Literal["native", "generic"]
MODES: tuple[Mode, ...] = ("native", "generic")
ETH_P_ALL = 3


@dataclass
class Wire:
    """The program on the near end, in the world of frames.py, and a raw socket on the far end."""

    rig: netns.Pair
    program: XdpProgram
    world: oracle.World
    tap: socket.socket

    def total(self) -> int:
        return sum(count.packets for count in self.program.counters().values())

    def inject(self, wanted: list[bytes]) -> dict[XdpReason, int]:
        """Sends frames from the far end, no faster than they are taken; what they were counted as."""
        before, sent = self.program.counters(), self.total()
        for start in range(0, len(wanted), 64):  # a veth queue holds 256
            burst = wanted[start : start + 64]
            for frame in burst:
                self.tap.send(frame)
            sent += len(burst)
            until(lambda sent=sent: self.total() >= sent, "frames arrive")  # type: ignore[misc]
        after = self.program.counters()
        return {r: after[r].packets - before[r].packets for r in XdpReason if after[r].packets != before[r].packets}


@contextlib.contextmanager
def wire(mode: Mode, queues: int = 1, mtu: int = 1500, quiet: bool = False, addresses: bool = True) -> Iterator[Wire]:
    macs = (frames.NEAR_MAC, frames.FAR_MAC)
    with (
        netns.pair(queues=queues, mtu=mtu, quiet=quiet, addresses=addresses, macs=macs) as rig,
        XdpProgram(Sizes(queues=queues, cids=1024, flows=1024, sources=1024)) as program,
    ):
        world = frames.world()
        configure(program, world)
        with rig.near.entered():
            attachment = program.attach(rig.near.ifindex, mode)
        assert (attachment.mode, attachment.refused) == (mode, "")
        with rig.far.entered():
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        tap.bind((rig.far.ifname, 0))
        with tap:
            yield Wire(rig, program, world, tap)


# --- the same verdicts ---


@pytest.mark.parametrize("mode", MODES)
def test_frames_from_the_wire_are_counted_as_the_oracle_says(mode: Mode) -> None:
    rng = random.Random(SEED)
    kept = [make_packets.read(path)[1] for path in sorted(make_packets.FOLDER.glob("*.txt"))]
    made = [f for f in frames.every(SEED, mutations=1000) if len(f) <= 1514]
    sample = kept + rng.sample(made, 3000)
    with wire(mode, quiet=True, addresses=False) as w:
        want = Counter(oracle.judge(frame, w.world).reason for frame in sample)
        assert w.inject(sample) == dict(want), f"seed {SEED}"


@pytest.mark.parametrize("mode", MODES)
def test_bytes_are_counted_with_the_ethernet_header(mode: Mode) -> None:
    with wire(mode, quiet=True, addresses=False) as w:
        w.inject([frames.datagram(bytes(n), frames.CAPTURE) for n in (0, 100, 1000)])
        count = w.program.counters()[XdpReason.DROP_WORKER_DOWN]
        assert (count.packets, count.octets) == (3, 3 * 42 + 1100)


# --- what is ours ---


@pytest.mark.parametrize("stamp", [False, True], ids=["plain", "stamped"])
@pytest.mark.parametrize("mode", MODES)
def test_what_is_ours_reaches_the_af_xdp_socket_byte_for_byte(mode: Mode, stamp: bool) -> None:
    rng = random.Random(SEED)
    ours = [
        frames.datagram(rng.randbytes(n), frames.CAPTURE, v, t)
        for n in (1, 235, 1400)
        for v in (4, 6)
        for t in frames.VLANS
    ]
    ours += [frames.datagram(frames.short_header(frames.CID, n), frames.LISTEN) for n in (9, 60, 1400)]
    with wire(mode, quiet=True, addresses=False) as w:
        w.program.configure(Settings(mac=frames.NEAR_MAC, stamp=stamp))
        with w.rig.near.entered(), Xsk(w.rig.near.ifindex) as xsk:
            w.program.set_xsk(0, xsk.fileno())
            start = time.monotonic_ns()
            counted = w.inject(ours)
            assert counted == {XdpReason.REDIRECT_CAPTURE: len(ours) - 3, XdpReason.REDIRECT_CID: 3}
            got = xsk.frames(least=len(ours))
            assert [frame for _, frame in got] == ours
            for n, (head, _) in enumerate(got):
                meta, stamped = (
                    XdpMeta.unpack(head),
                    stamp and n < len(ours) - 3,
                )  # of QUIC's nobody asks when they came
                assert (meta.magic == STAMP_MAGIC) == stamped
                assert not stamped or start <= meta.ktime_ns <= time.monotonic_ns()


@pytest.mark.parametrize("mode", MODES)
def test_frames_go_to_the_socket_of_the_queue_they_came_in_on(mode: Mode) -> None:
    """And with no socket on that queue to nobody, although another queue has one."""
    with wire(mode, queues=2, quiet=True, addresses=False) as w, contextlib.ExitStack() as stack:
        with w.rig.near.entered():
            sockets = [stack.enter_context(Xsk(w.rig.near.ifindex, queue)) for queue in (0, 1)]
        for queue, xsk in enumerate(sockets):
            w.program.set_xsk(queue, xsk.fileno())
        flows = [frames.datagram(b"flow", frames.CAPTURE, sport=port) for port in range(1000, 1064)]
        assert w.inject(flows) == {XdpReason.REDIRECT_CAPTURE: 64}
        got: list[list[bytes]] = [[], []]

        def arrived() -> bool:
            for found, xsk in zip(got, sockets, strict=True):
                found += [frame for _, frame in xsk.frames(timeout=0.01)]
            return len(got[0]) + len(got[1]) == len(flows)

        until(arrived, "every frame in one of the sockets")
        assert sorted(got[0] + got[1]) == sorted(flows)
        # veth tells native XDP which queue it is; to generic XDP everything of a veth comes in on queue 0.
        assert got[0]
        assert bool(got[1]) == (mode == "native")
        w.program.set_xsk(1, None)
        lost = len(got[1])
        want = {XdpReason.REDIRECT_CAPTURE: 64 - lost, XdpReason.DROP_WORKER_DOWN: lost}
        assert w.inject(flows) == {reason: n for reason, n in want.items() if n}


@pytest.mark.parametrize("mode", MODES)
def test_frames_of_several_buffers_arrive_whole(mode: Mode) -> None:
    """A 9,000 byte MTU makes frames of several pages: native mode wants a program that knows of them (xdp.frags)."""
    rng = random.Random(SEED)
    jumbo = [frames.datagram(rng.randbytes(n), frames.CAPTURE, v) for n in (3000, 5000, 8900) for v in (4, 6)]
    with wire(mode, mtu=9000, quiet=True, addresses=False) as w, contextlib.ExitStack() as stack:
        with w.rig.near.entered():
            xsk = stack.enter_context(Xsk(w.rig.near.ifindex, flags=COPY | USE_SG))
        w.program.set_xsk(0, xsk.fileno())
        assert w.inject(jumbo) == {XdpReason.REDIRECT_CAPTURE: len(jumbo)}
        assert [frame for _, frame in xsk.frames(least=len(jumbo))] == jumbo


# --- what is not ours ---


@pytest.mark.parametrize("mode", MODES)
def test_odd_packets_for_our_ports_reach_the_kernels_sockets(mode: Mode) -> None:
    """The capture port and the QUIC port have ordinary UDP sockets; a receiver of the kernel gets what XDP left alone."""
    body = b"hello kernel"
    big = random.Random(SEED).randbytes(2000)
    u4 = frames.udp(body, frames.FAR4, frames.NEAR4, frames.CAPTURE)
    u6 = frames.udp(body, frames.FAR6, frames.NEAR6, frames.CAPTURE)
    whole = frames.udp(big, frames.FAR4, frames.NEAR4, frames.CAPTURE)
    quic = frames.initial()
    cases: dict[str, tuple[list[bytes], bytes, int, int]] = {  # frames, payload, port, family
        "another port": ([frames.datagram(body, frames.NOBODY)], body, frames.NOBODY, 4),
        "another port, IPv6": ([frames.datagram(body, frames.NOBODY, 6)], body, frames.NOBODY, 6),
        "priority tag": ([frames.datagram(body, frames.NOBODY, 4, (0xA000,))], body, frames.NOBODY, 4),
        "IPv4 options": ([frames.ethernet(frames.ipv4(u4, options=b"\x01" * 4), 0x0800)], body, frames.CAPTURE, 4),
        "fragments": (
            [
                frames.ethernet(frames.ipv4(whole[:1400], fragment=0x2000), 0x0800),
                frames.ethernet(frames.ipv4(whole[1400:], fragment=1400 // 8), 0x0800),
            ],
            big,
            frames.CAPTURE,
            4,
        ),
        "surplus": ([frames.ethernet(frames.ipv4(u4 + b"surplus!"), 0x0800)], body, frames.CAPTURE, 4),
        "destination options": (
            [frames.ethernet(frames.ipv6(frames.extension(60, u6), header=60), 0x86DD)],
            body,
            frames.CAPTURE,
            6,
        ),
        "atomic fragment": (
            [frames.ethernet(frames.ipv6(frames.extension(44, u6), header=44), 0x86DD)],
            body,
            frames.CAPTURE,
            6,
        ),
        "QUIC Initial": ([frames.datagram(quic, frames.LISTEN)], quic, frames.LISTEN, 4),
        "QUIC Initial, IPv6": ([frames.datagram(quic, frames.LISTEN, 6)], quic, frames.LISTEN, 6),
        "QUIC stray": ([frames.datagram(b"\x40stray", frames.LISTEN)], b"\x40stray", frames.LISTEN, 4),
    }
    with wire(mode) as w, contextlib.ExitStack() as stack:
        receivers = {}
        with w.rig.near.entered():
            for port in (frames.CAPTURE, frames.LISTEN, frames.NOBODY):
                for version, family, address in (
                    (4, socket.AF_INET, w.rig.near.ipv4),
                    (6, socket.AF_INET6, w.rig.near.ipv6),
                ):
                    receiver = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                    receiver.bind((address, port))
                    receiver.settimeout(10)
                    receivers[port, version] = receiver
        for name, (packets, payload, port, version) in cases.items():
            for packet in packets:
                assert oracle.judge(packet, w.world).verdict == "PASS", name
                w.tap.send(packet)
            try:
                assert receivers[port, version].recv(65536) == payload, name
            except TimeoutError:
                pytest.fail(f"{name}: did not reach the kernel's socket ({mode})")
        # What is ours does not: it is dropped here, nobody having a socket for it.
        w.tap.send(frames.datagram(b"ours", frames.CAPTURE))
        w.tap.send(frames.ethernet(frames.ipv4(u4, options=b"\x01" * 4), 0x0800))
        assert receivers[frames.CAPTURE, 4].recv(100) == body  # the one behind it, which is odd
        assert w.program.counters()[XdpReason.DROP_WORKER_DOWN].packets == 1


@pytest.mark.parametrize("mode", MODES)
def test_the_host_keeps_working(mode: Mode) -> None:
    """TCP on the number of the capture port, broadcast and multicast to the capture port, neighbour resolution."""
    with wire(mode) as w, contextlib.ExitStack() as stack:
        near, far = w.rig.near, w.rig.far
        with near.entered():
            server = stack.enter_context(socket.create_server((near.ipv4, frames.CAPTURE)))
            every = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        every.bind(("0.0.0.0", frames.CAPTURE))
        membership = socket.inet_aton("239.1.2.3") + struct.pack("=4si", socket.inet_aton(near.ipv4), near.ifindex)
        every.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        every.settimeout(10)
        # Forget the static neighbour, so that the exchange below needs ARP through the program.
        netns.run("ip", "-n", far.name, "neigh", "del", near.ipv4, "dev", far.ifname)
        with far.entered():
            client = stack.enter_context(socket.create_connection((near.ipv4, frames.CAPTURE), timeout=10))
            sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        connection, _ = server.accept()
        with connection:
            client.sendall(b"over tcp")
            assert connection.recv(100) == b"over tcp"
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.setsockopt(
            socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", bytes(4), bytes(4), far.ifindex)
        )
        for group in ("10.77.0.255", "239.1.2.3"):
            sender.sendto(group.encode(), (group, frames.CAPTURE))
            assert every.recv(100) == group.encode()


def test_traffic_to_be_forwarded_is_not_captured() -> None:
    """The capture port of another host, with our MAC address: we are its router."""
    with wire("native") as w:
        near, far = w.rig.near, w.rig.far
        netns.sysctl(near.name, "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0",
                     f"net.ipv4.conf.{near.ifname}.send_redirects=0")  # fmt: skip
        netns.run("ip", "-n", near.name, "neigh", "replace", "10.77.0.99", "lladdr", frames.FAR_MAC.hex(":"),
                  "dev", near.ifname, "nud", "permanent")  # fmt: skip
        other = IPv4Address("10.77.0.99")
        packet = frames.ipv4(frames.udp(b"onwards", frames.FAR4, other, frames.CAPTURE), destination=other)
        with far.entered():
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        with tap:
            tap.bind((far.ifname, ETH_P_ALL))
            tap.settimeout(10)
            w.tap.send(frames.ethernet(packet, 0x0800))
            while True:
                frame, address = tap.recvfrom(2048)
                if address[2] != socket.PACKET_OUTGOING and frame.endswith(b"onwards"):
                    break
        assert frame[22] == 63  # TTL: it went through the router that we are
        assert frame[30:34] == other.packed


# --- the attachment ---


def attached(end: netns.End) -> str:
    """What `ip link` says of an interface's XDP program: "" none, "xdp" native, "xdpgeneric" generic."""
    words = netns.run("ip", "-n", end.name, "-o", "link", "show", "dev", end.ifname).split()
    return next((w for w in words if w in ("xdp", "xdpgeneric", "xdpmulti")), "")


def test_native_is_taken_where_the_driver_can_and_generic_where_it_cannot() -> None:
    with netns.pair() as rig, rig.near.entered(), XdpProgram() as program:
        first = program.attach(rig.near.ifindex)
        assert (first.mode, first.refused, attached(rig.near)) == ("native", "", "xdp")
        program.detach()
        assert (program.attachment, attached(rig.near)) == (None, "")
        assert program.attach(rig.near.ifindex, "generic").mode == "generic"
        assert attached(rig.near) == "xdpgeneric"
        program.detach()
        loopback = socket.if_nametoindex("lo")  # whose driver knows nothing of XDP
        second = program.attach(loopback)
        assert second.mode == "generic"
        assert "native mode" in second.refused
        assert "Operation not supported" in second.refused
        program.detach()
        with pytest.raises(OSError, match="attaching the XDP program to lo in native mode"):
            program.attach(loopback, "native")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wanted", ["auto", "native", "generic"])
def test_a_second_program_is_refused_and_the_first_stays(
    mode: Mode, wanted: Literal["auto", "native", "generic"]
) -> None:
    with wire(mode, quiet=True, addresses=False) as w, w.rig.near.entered():
        shown = attached(w.rig.near)
        with XdpProgram() as second, pytest.raises(OSError) as refusal:
            second.attach(w.rig.near.ifindex, wanted)
        assert refusal.value.errno == 16  # EBUSY
        text = str(refusal.value)
        for part in (w.rig.near.ifname, "XDP program", '"afterburner_xdp"', f"({mode} mode)", "another afterburnerd"):
            assert part in text
        assert attached(w.rig.near) == shown
        assert w.inject([frames.datagram(b"x", frames.CAPTURE)]) == {XdpReason.DROP_WORKER_DOWN: 1}


def test_the_program_of_a_stranger_is_named_with_what_to_do(tmp_path: Path) -> None:
    """Attached by `ip link`, without a link that would go with its owner."""
    source = tmp_path / "stranger.c"
    source.write_text('__attribute__((section("xdp"), used)) int stranger(void *ctx) { return 2; }')
    subprocess.run(["clang", "-target", "bpf", "-O2", "-g", "-c", source, "-o", tmp_path / "stranger.o"], check=True)
    with netns.pair() as rig, rig.near.entered(), XdpProgram() as program:
        rig.near.link("xdpdrv", "obj", str(tmp_path / "stranger.o"), "sec", "xdp")
        with pytest.raises(OSError) as refusal:
            program.attach(rig.near.ifindex)
        assert refusal.value.errno == 16  # EBUSY
        for part in (
            '"stranger" (native mode)',
            "bpftool prog show id",
            f"`ip link set dev {rig.near.ifname} xdp off`",
        ):
            assert part in str(refusal.value)
        rig.near.link("xdpdrv", "off")
        assert program.attach(rig.near.ifindex).mode == "native"


def test_an_interface_that_goes_away_takes_the_program_off_and_another_can_be_had() -> None:
    with netns.pair() as first, netns.pair() as second, XdpProgram() as program:
        with first.near.entered():
            program.attach(first.near.ifindex)
            assert program.attached()
        netns.run("ip", "-n", first.near.name, "link", "del", first.near.ifname)
        until(lambda: not program.attached(), "the link notices")
        with second.near.entered():
            assert program.attach(second.near.ifindex).mode == "native"


def test_a_missing_interface_is_named() -> None:
    with XdpProgram() as program, pytest.raises(OSError, match="no interface with index 9999"):
        program.attach(9999)


@pytest.mark.parametrize("mode", MODES)
def test_close_takes_the_program_off(mode: Mode) -> None:
    with netns.pair() as rig, rig.near.entered():
        program = XdpProgram()
        program.attach(rig.near.ifindex, mode)
        assert attached(rig.near)
        program.close()
        assert not attached(rig.near)


HOLDER = """
import sys, time
from afterburnerd.net.xdp import XdpProgram
program = XdpProgram()
program.attach(int(sys.argv[1]), sys.argv[2])
print("attached", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("mode", MODES)
def test_sigkill_of_the_holder_leaves_nothing_attached(mode: Mode) -> None:
    with netns.pair() as rig:
        with rig.near.entered():
            holder = subprocess.Popen(
                [sys.executable, "-c", HOLDER, str(rig.near.ifindex), mode], stdout=subprocess.PIPE, text=True
            )
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "attached\n"
            assert attached(rig.near)
            holder.send_signal(signal.SIGKILL)
            holder.wait(10)
            until(lambda: not attached(rig.near), "the kernel takes the program off")
        finally:
            holder.kill()
            holder.wait(10)


CHILD = """
import os, subprocess, sys, time
from afterburnerd.net.xdp import XdpProgram
program = XdpProgram()
program.attach(int(sys.argv[1]))
child = subprocess.Popen(["sleep", "600"], close_fds=False)
print(child.pid, flush=True)
time.sleep(600)
"""


def test_a_child_that_execs_does_not_keep_the_program_attached() -> None:
    with netns.pair() as rig:
        with rig.near.entered():
            holder = subprocess.Popen(
                [sys.executable, "-c", CHILD, str(rig.near.ifindex)], stdout=subprocess.PIPE, text=True
            )
        child = 0
        try:
            assert holder.stdout is not None
            child = int(holder.stdout.readline())
            assert attached(rig.near)
            holder.kill()
            holder.wait(10)
            until(lambda: not attached(rig.near), "the kernel takes the program off")
            os.kill(child, 0)  # the child lives
        finally:
            holder.kill()
            holder.wait(10)
            if child:
                os.kill(child, signal.SIGKILL)


# --- privileges ---

LEAST = """
import re, sys
from afterburnerd.net.xdp import Settings, XdpProgram
from pathlib import Path
effective = int(re.search(r"CapEff:\\s*(\\w+)", Path("/proc/self/status").read_text())[1], 16)
assert effective == int(sys.argv[2]), hex(effective)
program = XdpProgram()
program.configure(Settings(mac=bytes(6)))
print(program.attach(int(sys.argv[1]), sys.argv[3]).mode)
print(sum(count.packets for count in program.counters().values()) >= 0)
program.close()
"""
CAP_NET_ADMIN, CAP_BPF = 12, 39


def confined(rig: netns.Pair, mode: str, **capabilities: int) -> subprocess.CompletedProcess[str]:
    bounding = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    mask = sum(1 << bit for bit in capabilities.values())
    with rig.near.entered():
        return subprocess.run(
            ["setpriv", "--bounding-set", bounding, "--inh-caps=-all", sys.executable, "-c", LEAST,
             str(rig.near.ifindex), str(mask), mode],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_two_capabilities_are_enough(mode: Mode) -> None:
    with netns.pair() as rig:
        done = confined(rig, mode, bpf=CAP_BPF, net_admin=CAP_NET_ADMIN)
        assert (done.returncode, done.stdout) == (0, f"{mode}\nTrue\n"), done.stderr


@pytest.mark.parametrize(("held", "missing"), [("bpf", "CAP_NET_ADMIN"), ("net_admin", "CAP_BPF")])
def test_a_missing_capability_is_named(held: str, missing: str) -> None:
    with netns.pair() as rig:
        done = confined(rig, "native", **{held: {"bpf": CAP_BPF, "net_admin": CAP_NET_ADMIN}[held]})
        assert done.returncode == 1
        assert "PermissionError" in done.stderr
        assert f"this process lacks {missing}:" in done.stderr


def test_the_occupant_of_an_interface_is_named_without_the_right_to_look_closer() -> None:
    """CAP_SYS_ADMIN would show the name of the other program; its number everyone may know."""
    with wire("native", quiet=True, addresses=False) as w:
        done = confined(w.rig, "native", bpf=CAP_BPF, net_admin=CAP_NET_ADMIN)
        assert done.returncode == 1
        assert "is occupied by XDP program " in done.stderr
        assert "perhaps another afterburnerd (`bpftool prog show id" in done.stderr


# --- while traffic flows ---


@pytest.mark.parametrize("mode", MODES)
def test_a_port_that_stays_is_never_away_during_an_update(mode: Mode) -> None:
    """Frames for a port keep coming while its neighbours come and go: not one of them passes to the kernel."""
    with wire(mode, quiet=True, addresses=False) as w:
        frame, stop = frames.datagram(b"x", frames.CAPTURE), threading.Event()
        start = w.program.ports()

        def flood() -> None:
            while not stop.is_set():
                w.tap.send(frame)

        flooder = threading.Thread(target=flood)
        flooder.start()
        try:
            for turn in range(200):
                extra = {
                    type(key)(key.address, 20000 + (turn * 7 + i) % 50): use
                    for i, (key, use) in enumerate(start.items())
                }
                w.program.set_ports(start | extra)
        finally:
            stop.set()
            flooder.join()
        counters = w.program.counters()
        assert counters[XdpReason.PASS_NOT_OURS].packets == 0
        assert counters[XdpReason.DROP_WORKER_DOWN].packets > 0
