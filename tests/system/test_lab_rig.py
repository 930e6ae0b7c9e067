"""The rig comes up whole, twice is fine, and it is gone after every way out."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from afterburnerd.lab import rig
from tests import netns

pytestmark = pytest.mark.privileged


def end_of(end: rig.End) -> netns.End:
    return netns.End(end.netns, end.device, 0, b"", end.ipv4, end.ipv6)


def left_of(wanted: rig.Rig) -> list[str]:
    """What is left of a rig, seen with other eyes than the rig's own."""
    links = {name for _, name in socket.if_nameindex()}
    names = [end.netns for end in (wanted.daemon, wanted.sender) if end.netns and netns.exists(end.netns)]
    return names + [wanted.daemon.device] * (wanted.daemon.device in links)


@pytest.fixture
def wanted() -> Iterator[rig.Rig]:
    made = rig.plan(f"lr{secrets.token_hex(3)}", isolated=True, queues=2)
    try:
        yield made
    finally:
        with contextlib.suppress(rig.RigError):
            rig.down(made)


@pytest.fixture
def half() -> Iterator[rig.Rig]:
    """One whose daemon end lies in the host namespace, in a subnet that nobody else of the tests takes."""
    made = rig.plan(f"lr{secrets.token_hex(3)}", subnet=200 + secrets.randbelow(50))
    try:
        yield made
    finally:
        with contextlib.suppress(rig.RigError):
            rig.down(made)


def exchange(wanted: rig.Rig, family: int) -> bytes:
    """One datagram from the sender's end to the daemon's end."""
    with contextlib.ExitStack() as stack:
        if wanted.daemon.netns:
            stack.enter_context(end_of(wanted.daemon).entered())
        taker = socket.socket(family, socket.SOCK_DGRAM)
    address = wanted.daemon.ipv4 if family == socket.AF_INET else wanted.daemon.ipv6
    with end_of(wanted.sender).entered():
        sender = socket.socket(family, socket.SOCK_DGRAM)
    with taker, sender:
        taker.bind((address, 0))
        taker.settimeout(5)
        sender.sendto(b"across", taker.getsockname())
        return taker.recv(100)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_it_carries_datagrams_as_soon_as_up_returns(wanted: rig.Rig, family: int) -> None:
    assert rig.up(wanted)
    assert exchange(wanted, family) == b"across"


def test_the_daemons_end_may_lie_in_the_host_namespace(half: rig.Rig) -> None:
    rig.up(half)
    assert half.daemon.device in {name for _, name in socket.if_nameindex()}
    assert exchange(half, socket.AF_INET) == b"across"
    rig.down(half)
    assert left_of(half) == []


def test_it_has_the_queues_and_offloads_that_it_promises(wanted: rig.Rig) -> None:
    rig.up(wanted)
    for end in (wanted.daemon, wanted.sender):
        there = end_of(end)
        assert "RX:\t\t2" in there.run("ethtool", "-l", end.device).partition("Current")[2]
        features = there.run("ethtool", "-k", end.device)
        assert "tx-checksumming: off" in features
        assert "generic-receive-offload: off" in features
        assert Path("/sys/class/net", end.device).exists() is False  # not in our namespace


def test_udp_checksums_are_complete_on_the_wire(wanted: rig.Rig) -> None:
    """What veth leaves half done by default, and a reader of frames would take for damage."""
    rig.up(wanted)
    with end_of(wanted.daemon).entered():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    with tap:
        tap.settimeout(5)
        exchange(wanted, socket.AF_INET)
        while True:
            frame = tap.recv(2000)
            if frame[12:14] == b"\x08\x00" and frame[23] == socket.IPPROTO_UDP:
                break
    pseudo = frame[26:34] + bytes([0, 17]) + frame[38:40] + frame[34 : 34 + int.from_bytes(frame[38:40])]
    total = sum(int.from_bytes(pseudo[i : i + 2].ljust(2, b"\0")) for i in range(0, len(pseudo), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


def test_up_twice_keeps_what_is_there_and_puts_it_right(wanted: rig.Rig) -> None:
    rig.up(wanted)
    before = rig.link(wanted.sender)
    rig.run("ip", "-n", wanted.sender.netns, "address", "flush", "dev", "lab0")
    assert rig.up(wanted) is False
    after = rig.link(wanted.sender)
    assert before and after and before["ifindex"] == after["ifindex"]
    assert exchange(wanted, socket.AF_INET) == b"across"


def test_another_number_of_queues_makes_it_anew(wanted: rig.Rig) -> None:
    rig.up(wanted)
    assert rig.up(rig.plan(wanted.name, isolated=True, queues=3)) is True
    found = rig.link(wanted.daemon)
    assert found and found["num_rx_queues"] == 3


def test_threaded_napi_is_on_where_asked_for(wanted: rig.Rig) -> None:
    rig.up(rig.plan(wanted.name, isolated=True, threaded_napi=True))
    read = ("cat", f"/sys/class/net/{wanted.daemon.device}/threaded")
    assert end_of(wanted.daemon).run(*read).strip() == "1"


def test_down_twice_is_fine(wanted: rig.Rig) -> None:
    rig.up(wanted)
    assert rig.down(wanted) is True
    assert left_of(wanted) == []
    assert rig.down(wanted) is False


def test_a_strangers_device_is_refused_and_kept(half: rig.Rig) -> None:
    rig.run("ip", "link", "add", half.daemon.device, "type", "veth", "peer", "name", f"{half.name}x")
    try:
        for act in (rig.up, rig.down):
            with pytest.raises(rig.RigError, match="not a lab device"):
                act(half)
        assert half.daemon.device in left_of(half)
    finally:
        rig.run("ip", "link", "delete", half.daemon.device)


def test_a_strangers_namespace_is_refused_and_kept(wanted: rig.Rig) -> None:
    name = wanted.sender.netns
    rig.run("ip", "netns", "add", name)
    rig.run("ip", "-n", name, "link", "add", "theirs", "type", "veth", "peer", "name", "mine")
    try:
        for act in (rig.up, rig.down):
            with pytest.raises(rig.RigError, match="theirs"):
                act(wanted)
        assert netns.exists(name)
    finally:
        rig.run("ip", "netns", "delete", name)


def test_a_failure_half_way_leaves_nothing(wanted: rig.Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "ethtool"
    broken.write_text("#!/bin/sh\necho no such luck >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(rig.RigError, match="no such luck"):
        rig.up(wanted)
    assert left_of(wanted) == []


def test_without_root_it_says_so(wanted: rig.Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for act in (rig.up, rig.down):
        with pytest.raises(rig.RigError, match="sudo") as caught:
            act(wanted)
        assert caught.value.exit_code == 77


SCRIPT = """
import sys, time
from afterburnerd.lab import exits, rig
with rig.standing(rig.plan(sys.argv[1], isolated=True)):
    print("up", flush=True)
    if sys.argv[2] == "raise":
        raise RuntimeError("on purpose")
    exits.sleep(0 if sys.argv[2] == "return" else 60)
"""


@contextlib.contextmanager
def holder(wanted: rig.Rig, how: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the rig."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, wanted.name, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout and process.stdout.readline() == "up\n", process.stderr and process.stderr.read()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", ["return", "raise"])
def test_nothing_is_left_after_the_with_block(wanted: rig.Rig, how: str) -> None:
    with holder(wanted, how) as process:
        process.communicate(timeout=30)
        assert process.returncode == (0 if how == "return" else 1)
    assert left_of(wanted) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_after_a_signal(wanted: rig.Rig, number: signal.Signals) -> None:
    with holder(wanted, "sleep") as process:
        assert len(left_of(wanted)) == 2
        process.send_signal(number)
        process.communicate(timeout=30)
        # SIGINT ends Python by KeyboardInterrupt, which it turns into death by that signal
        assert process.returncode == (-number if number == signal.SIGINT else 128 + number)
    assert left_of(wanted) == []


def test_nothing_is_left_whenever_the_signal_comes(seed: int) -> None:
    """At any moment of making and removing it, again and again."""
    moments = random.Random(seed)
    for _ in range(15):
        wanted = rig.plan(f"lr{secrets.token_hex(3)}", isolated=True)
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, wanted.name, "return"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            until = time.monotonic() + 20
            while not netns.exists(wanted.daemon.netns) and process.poll() is None and time.monotonic() < until:
                time.sleep(0.0005)
            time.sleep(moments.uniform(0, 0.15))
            process.send_signal(moments.choice([signal.SIGINT, signal.SIGTERM]))
            process.wait(30)
            assert left_of(wanted) == []
        finally:
            process.kill()
            process.wait()
            rig.down(wanted)


def test_a_second_ctrl_c_does_not_stop_the_clean_up(wanted: rig.Rig) -> None:
    with holder(wanted, "sleep") as process:
        for _ in range(20):
            process.send_signal(signal.SIGINT)
            time.sleep(0.002)
        process.communicate(timeout=30)
    assert left_of(wanted) == []


def test_what_sigkill_leaves_down_removes(wanted: rig.Rig) -> None:
    with holder(wanted, "sleep") as process:
        process.kill()
        process.communicate(timeout=30)
    assert left_of(wanted) == [wanted.daemon.netns, wanted.sender.netns]
    assert rig.down(wanted)
    assert left_of(wanted) == []


@pytest.mark.parametrize("isolated", [True, False])
def test_what_was_killed_before_it_had_its_alias_is_removed_as_well(isolated: bool) -> None:
    made = rig.plan(f"lr{secrets.token_hex(3)}", isolated=isolated, subnet=200 + secrets.randbelow(50))
    rig.up(made)
    for end in (made.daemon, made.sender):
        rig.ip(end, "link", "set", "dev", end.device, "alias", "")
    assert rig.down(made)
    assert left_of(made) == []


def test_a_process_inside_does_not_keep_the_rig(wanted: rig.Rig) -> None:
    rig.up(wanted)
    inside = subprocess.Popen(wanted.sender.inside("sleep", "60"))
    try:
        until = time.monotonic() + 10
        while not rig.occupants(wanted) and time.monotonic() < until:
            time.sleep(0.01)
        assert rig.occupants(wanted) == [inside.pid]
        rig.down(wanted)
        assert left_of(wanted) == []
    finally:
        inside.kill()
        inside.wait()


def command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "afterburnerd.lab.main", *args], capture_output=True, text=True, timeout=60
    )


def test_the_command_up_and_down(wanted: rig.Rig) -> None:
    done = command("up", "--name", wanted.name, "--isolated", "--queues", "2", "-j")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sender"]["netns"] == wanted.sender.netns
    again = command("up", "--name", wanted.name, "--isolated", "--queues", "2")
    assert "was up already" in again.stdout and wanted.daemon.ipv4 in again.stdout
    done = command("down", "--name", wanted.name, "--isolated", "-j")
    assert json.loads(done.stdout) == {"name": wanted.name, "removed": True, "still_inside": []}
    assert "nothing to do" in command("down", "--name", wanted.name, "--isolated").stdout
    assert left_of(wanted) == []


@pytest.mark.parametrize(
    "args", [("up", "--name", "much-too-long-a-name"), ("up", "--name", "a/b"), ("up", "--queues", "0"), ("uo",)]
)
def test_nonsense_is_a_usage_error(args: tuple[str, ...]) -> None:
    done = command(*args)
    assert done.returncode == 64
    assert done.stderr.startswith("afterburner-lab")
