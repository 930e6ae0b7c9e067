"""Frames are conserved when a ring runs dry: FILL empty, RX full, COMPLETION full. On real AF_XDP sockets."""

from __future__ import annotations

import mmap
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from afterburnerd.abi import lone
from afterburnerd.abi.layout import Decoder, PortKind, Rule
from afterburnerd.native import lib
from afterburnerd.net.xdp import LocalPort, Settings, Use, XdpProgram, mapped
from tests import cc, netns

pytestmark = [pytest.mark.privileged, pytest.mark.bpf]

PORT = 8001


class Bench:
    """A worker on queue 0 of the near end, driven turn by turn by the test."""

    def __init__(self, rig: netns.Pair, frames: int, ring: int, decoder: Decoder) -> None:
        self.rig = rig
        self.stats = mmap.mmap(-1, lone.SIZE)
        self.bell = mmap.mmap(-1, 4096)
        self.worker = lib.Worker(index=0, stats=self.stats, bell=self.bell, **lone.OFFSETS)
        address = IPv4Address(rig.near.ipv4)
        self.worker.set_rules(Rule(addr=mapped(address), port=PORT, decoder=decoder).pack())
        self.program = XdpProgram()
        self.program.configure(Settings(mac=rig.near.mac))
        self.program.set_ports({LocalPort(address, PORT): Use(PortKind.CAPTURE)})
        with rig.near.entered():
            self.program.attach(rig.near.ifindex, "native")
            self.xsk = socket.socket(44, socket.SOCK_RAW)
            self.worker.open_xsk(
                slot=0, fd=self.xsk.dup().detach(), ifindex=rig.near.ifindex, queue=0, frames=frames, frame_size=2048,
                ring=ring, huge_pages=2, mode=2, generic=False, multi_buffer=False, busy_poll=False, busy_usecs=0,
                busy_budget=0, verify_udp=False,
            )  # fmt: skip
        self.program.set_xsk(0, self.xsk.fileno())
        with rig.far.entered():
            self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.bind((rig.far.ipv4, 0))
        self.sender.settimeout(5)

    def close(self) -> None:
        self.sender.close()
        self.worker.close()
        self.xsk.close()
        self.program.close()

    def of(self, name: str) -> int:
        return lone.read(self.stats, "queue", name)

    def send(self, count: int) -> None:
        for i in range(count):
            self.sender.sendto(i.to_bytes(4, "big"), (self.rig.near.ipv4, PORT))

    def until(self, name: str, value: int) -> None:
        """Turns the loop until a figure is reached: the kernel may hand packets over a little later."""
        deadline = time.monotonic() + 20
        while self.of(name) < value and time.monotonic() < deadline:
            self.worker.run(4)
        assert self.of(name) == value

    def owned(self) -> tuple[int, int, int]:
        assert self.of("frames_rx") + self.of("frames_worker") + self.of("frames_tx") == self.of("frames")
        assert self.of("frame_errors") == 0
        return self.of("frames_rx"), self.of("frames_worker"), self.of("frames_tx")


@pytest.fixture
def rig() -> Iterator[netns.Pair]:
    with netns.pair() as pair:
        # A veth sender leaves the UDP checksum to "hardware"; sent back, it would be wrong and the reply dropped.
        pair.far.ethtool("-K", "tx", "off")
        yield pair


def test_an_empty_fill_ring_loses_packets_and_no_frame(rig: netns.Pair) -> None:
    bench = Bench(rig, frames=128, ring=64, decoder=Decoder.COUNT)
    try:
        assert bench.owned() == (64, 64, 0)
        bench.send(500)  # nobody takes them: 64 fit, the rest meet an empty FILL ring
        time.sleep(0.2)
        bench.until("rx_packets", 64)
        assert bench.owned() == (64, 64, 0)
        bench.send(50)
        bench.until("rx_packets", 114)
        assert bench.owned() == (64, 64, 0)
    finally:
        bench.close()


def test_a_fill_ring_that_cannot_take_all_frames_keeps_the_rest_free(rig: netns.Pair) -> None:
    bench = Bench(rig, frames=1024, ring=64, decoder=Decoder.COUNT)
    try:
        assert bench.owned() == (64, 960, 0)
        for round_ in range(5):
            bench.send(60)
            bench.until("rx_packets", 60 * (round_ + 1))
            assert bench.owned() == (64, 960, 0)
    finally:
        bench.close()


def test_replies_conserve_frames_and_all_arrive(rig: netns.Pair) -> None:
    bench = Bench(rig, frames=128, ring=64, decoder=Decoder.ECHO)
    try:
        for round_ in range(20):
            bench.send(60)
            bench.until("tx_packets", 60 * (round_ + 1))
            got = {bench.sender.recv(100) for _ in range(60)}
            assert len(got) == 60
        bench.until("tx_completed", 1200)
        assert bench.owned() == (64, 64, 0)
        assert bench.of("tx_dropped") == 0
    finally:
        bench.close()


def test_echo_under_starvation_of_both_sides_recovers(rig: netns.Pair) -> None:
    bench = Bench(rig, frames=128, ring=64, decoder=Decoder.ECHO)
    try:
        for _ in range(30):
            bench.send(200)  # three times what fits
            bench.worker.run(1)
            bench.owned()
        rig.near.link("down")  # nothing can be sent now
        bench.worker.run(50)
        bench.owned()
        rig.near.link("up")
        bench.until("tx_completed", bench.of("tx_packets"))
        assert bench.owned() == (64, 64, 0)
    finally:
        bench.close()


def test_a_full_completion_ring_holds_frames_back_and_lets_them_go(rig: netns.Pair, tmp_path: Path) -> None:
    source = cc.ROOT / "tests/native/c/starve_completion.c"
    program = cc.program(tmp_path / "starve_completion", source, cc.LIBRARY)
    lines = rig.near.run(str(program), str(rig.near.ifindex)).splitlines()
    stages = {}
    for line in lines:
        name, *fields = line.split()
        stages[name] = {key: int(value) for key, value in (field.split("=") for field in fields)}
    # rx_target is a ring full: 64 of 512 frames lie with the kernel for receiving throughout.
    assert stages["open"] | {} == {**stages["open"], "rx": 64, "worker": 448, "tx": 0, "errors": 0}
    assert (stages["full"]["sent"], stages["full"]["tx"], stages["full"]["completion"]) == (64, 64, 64)
    assert (stages["starved"]["sent"], stages["starved"]["tx"], stages["starved"]["completion"]) == (64, 128, 64)
    assert (stages["recovered"]["tx"], stages["recovered"]["worker"], stages["recovered"]["errors"]) == (0, 448, 0)
    assert stages["closed"] == {"fd": -1, "area": 0, "frames": 0}
