"""The rig that other tests stand on: it connects, and it leaves nothing behind, whatever happens inside."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from tests import netns

pytestmark = pytest.mark.privileged


def test_the_ends_reach_each_other_over_both_families() -> None:
    with netns.pair() as rig:
        for family, near, far in (
            (socket.AF_INET, rig.near.ipv4, rig.far.ipv4),
            (socket.AF_INET6, rig.near.ipv6, rig.far.ipv6),
        ):
            with rig.near.entered():
                server = socket.socket(family, socket.SOCK_DGRAM)
            with rig.far.entered():
                client = socket.socket(family, socket.SOCK_DGRAM)
            with server, client:
                server.bind((near, 7777))
                server.settimeout(10)
                client.sendto(b"hello", (near, 7777))
                data, source = server.recvfrom(100)
                assert (data, source[0]) == (b"hello", far)


def test_entering_ends_where_it_began_also_after_an_exception() -> None:
    before = Path("/proc/thread-self/ns/net").readlink()
    with netns.pair() as rig, pytest.raises(ZeroDivisionError), rig.near.entered():
        assert Path("/proc/thread-self/ns/net").readlink() != before
        _ = 1 // 0
    assert Path("/proc/thread-self/ns/net").readlink() == before


def test_nothing_stays_behind_after_a_failure() -> None:
    names: list[str] = []
    with pytest.raises(ZeroDivisionError), netns.pair() as rig:
        names = [rig.near.name, rig.far.name]
        assert all(netns.exists(n) for n in names)
        _ = 1 // 0
    assert len(names) == 2
    assert not any(netns.exists(n) for n in names)


def test_what_a_killed_run_left_is_swept_up() -> None:
    pid = next(p for p in range(4_000_000, 3_000_000, -1) if not Path(f"/proc/{p}").exists())
    netns.run("ip", "netns", "add", f"abn-{pid}-0")
    try:
        netns.sweep()
        assert not netns.exists(f"abn-{pid}-0")
    finally:
        subprocess.run(["ip", "netns", "delete", f"abn-{pid}-0"], capture_output=True, check=False)


def test_a_failing_command_says_what_it_printed() -> None:
    with netns.pair() as rig, pytest.raises(RuntimeError, match="Cannot find device"):
        netns.run("ip", "-n", rig.near.name, "link", "set", "nosuch", "up")


def test_queues_and_mtu_are_as_asked() -> None:
    with netns.pair(queues=3, mtu=9000) as rig:
        queues = rig.near.run("ls", f"/sys/class/net/{rig.near.ifname}/queues").split()
        assert sorted(q for q in queues if q.startswith("rx")) == ["rx-0", "rx-1", "rx-2"]
        assert rig.near.run("cat", f"/sys/class/net/{rig.near.ifname}/mtu").strip() == "9000"
