"""QUIC where the interface's MTU is 9,000: discovery gets there by either backend, with ourselves and with others, and back again."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from afterburnerd import client
from afterburnerd.abi.connections import read_table
from afterburnerd.abi.layout import QuicRow, RecordKind
from tests import netns, waiting
from tests.interop import peers
from tests.interop.ours import BACKENDS, PORT, Link, Ours, Received, daemon
from tests.system import router

pytestmark = [pytest.mark.privileged, pytest.mark.bpf, pytest.mark.timeout(300)]

MTU = 9000
V4, V6 = MTU - 28, MTU - 48  # bytes of UDP payload
V1 = 4096  # bytes of the longest transaction
BIG = 40_000
# Records for whole transactions, and enough of them. Few frames:
MEMORY = "frames = 512\nring = 512\n[records]\nslot_bytes = 4352\nslots = 4096"
backends = pytest.mark.parametrize("backend", BACKENDS, ids=["afxdp", "socket"])


@contextlib.contextmanager
def daemons(rig: netns.Pair, folder: Path, backend: str) -> Iterator[tuple[Ours, Ours]]:
    """At the near end and at the far one."""
    for name in ("near", "far"):
        (folder / name).mkdir()
    with (
        daemon(rig, folder / "near", backend, memory=MEMORY) as near,
        daemon(netns.Pair(rig.far, rig.near), folder / "far", backend, memory=MEMORY) as far,
    ):
        yield near, far


def rows(end: Ours) -> list[QuicRow]:
    return list(read_table(end.name, 0).rows)


def found(end: Ours, *mtus: int) -> None:
    """As `afterburnerctl connections` has it: of all connections of this end."""
    waiting.until(lambda: sorted(row.mtu for row in rows(end)) == sorted(mtus), f"an MTU of {mtus} in {end.name}")


def messages(link: Link, got: Received, first: int, count: int, size: int) -> None:
    link.send(*(peers.payload(first + k, size) for k in range(count)))
    link.wait_acknowledged()
    got.wait(first + count)


def sound(*ends: Ours) -> None:
    for end in ends:
        assert end.value("quic_send_drops") == 0
        if end.backend != "socket":
            end.daemon.assert_frames_add_up()


@backends
def test_discovery_gets_to_the_interfaces_mtu(tmp_path: Path, backend: str) -> None:
    """Of both families, at both ends; what is sent then arrives whole, and a transaction in one frame of one packet."""
    with (
        netns.pair(mtu=MTU) as rig,
        daemons(rig, tmp_path, backend) as (near, far),
        Received(far) as got,
        near.link(PORT, rig.far.ipv4) as four,
        near.link(PORT, rig.far.ipv6) as six,
    ):
        for link in (four, six):
            assert link.wait_open().io == ("afxdp" if backend == "auto" else "socket")
        for end in (near, far):
            found(end, V4, V6)
        for first, link in ((0, four), (40, six)):
            link.send(*(peers.payload(k, BIG) for k in range(40)))
            link.wait_acknowledged()
            got.wait(first + 40)
        got.verify(80, BIG, connections=2)
        before = near.value("quic_packets_sent")
        with client.follow(far.name, wait=True) as records:
            waiting.until(lambda: records.present, "a record ring")
            records.poll()
            for link in (four, six):
                link.send(*(peers.payload(k, V1) for k in range(40)))
                link.wait_acknowledged()
            frames = Counter(
                (r.quic.conn, r.quic.stream, len(r.payload))
                for r in records.poll()
                if r.kind == RecordKind.STREAM and r.quic is not None
            )
        assert len(frames) == 80 and set(frames.values()) == {1} and {size for *_, size in frames} == {V1}
        assert near.value("quic_packets_sent") - before < 160  # one for each at most, and some that do not carry any
        assert far.value("drop_multi_buffer") == 0
        sound(near, far)


@pytest.mark.parametrize(("backend", "engine"), [("auto", "ngtcp2"), ("socket", "aioquic")], ids=["afxdp", "socket"])
def test_others_take_what_we_send_them(tmp_path: Path, backend: str, engine: str) -> None:
    with netns.pair(mtu=MTU) as rig, daemon(rig, tmp_path, backend, memory=MEMORY) as near:
        with (
            peers.server(engine, address=rig.far.ipv4, namespace=rig.far.name) as server,
            near.link(server.port) as link,
        ):
            link.wait_open()
            found(near, V4)
            sent = [peers.payload(k, V1) for k in range(100)]
            link.send(*sent)
            link.wait_acknowledged()
            waiting.until(lambda: len(server.streams()) == len(sent), "all to arrive")
            assert {row.mtu for row in rows(near)} == {V4}
        sound(near)


@backends
def test_a_router_that_carries_no_more_than_1500_all_of_a_sudden(tmp_path: Path, backend: str) -> None:
    """A black hole in mid-transfer: everything arrives once, in packets of the size that the path carries then."""
    with (
        router.between(tmp_path, mtu=MTU) as way,
        daemons(netns.Pair(way.client, way.server), tmp_path, backend) as (near, far),
    ):
        with Received(far) as got, near.link(PORT, way.server.ipv4) as link:
            link.wait_open()
            found(near, V4)
            messages(link, got, 0, 20, BIG)
            link.send(*(peers.payload(20 + k, BIG) for k in range(20)))
            for port in way.ports:
                netns.run("ip", "-n", port.name, "link", "set", "dev", port.ifname, "mtu", "1500")
            messages(link, got, 40, 20, BIG)
            got.verify(60, BIG)
            found(near, 1472)
        sound(near, far)


def test_sockets_follow_a_change_of_the_interfaces_mtu(tmp_path: Path) -> None:
    """Buffers are made anew, and counted; connections that are made from then on have use of them."""
    with netns.pair() as rig, daemons(rig, tmp_path, "socket") as (near, far):
        with Received(far) as got, near.link(PORT) as link:
            link.wait_open()
            found(near, 1472)
            usual = near.value("memory_bytes")
            for end in (rig.near, rig.far):
                end.link("mtu", str(MTU))
            for end in (near, far):
                end.daemon.wait(lambda end=end: end.value("memory_bytes") > usual, "larger buffers")
            messages(link, got, 0, 20, BIG)
            got.verify(20, BIG)
        near.wait_none()
        with Received(far) as got, near.link(PORT) as link:
            link.wait_open()
            for end in (near, far):
                found(end, V4)
            messages(link, got, 0, 20, BIG)
            got.verify(20, BIG)
        for end in (rig.near, rig.far):
            end.link("mtu", "1500")
        for end in (near, far):
            end.daemon.wait(lambda end=end: end.value("memory_bytes") == usual, "the usual buffers")
