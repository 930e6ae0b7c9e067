"""What the generators say they sent is what an independent receiver counted."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from afterburnerd.abi.layout import Tx, TxReason
from afterburnerd.lab import rig
from afterburnerd.lab.broken import SENDABLE
from afterburnerd.lab.labio import Labio, Line
from afterburnerd.native import lib
from tests import netns

pytestmark = pytest.mark.privileged
PORT = 8001


@pytest.fixture(scope="module")
def standing() -> Iterator[rig.Rig]:
    with rig.standing(rig.plan(f"lf{secrets.token_hex(3)}", isolated=True)) as made:
        yield made


def run(*args: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "afterburnerd.lab.main", *args, "-j"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def counted(standing: rig.Rig, *args: str) -> tuple[dict[str, Any], Line]:
    """Floods; what the flood says and what a plain UDP socket at the other end received."""
    with Labio("socket-receive", netns=standing.daemon.netns, from_="::", to="::", sport=PORT) as receiver:
        receiver.wait_ready()
        said = run("flood", "--name", standing.name, *args)
        return said, receiver.stop()


@pytest.mark.parametrize("via", ["afxdp", "socket"])
@pytest.mark.parametrize("family", [[], ["-6"]])
def test_every_packet_sent_is_received(standing: rig.Rig, via: str, family: list[str]) -> None:
    said, received = counted(standing, "--via", via, "--count", "20k", "--rate", "50k", "--size", "300", *family)
    assert said["sent"] == said["queued"] == 20_000
    assert received.packets == 20_000
    assert received.bytes == 20_000 * 300
    assert said["sent_bytes"] == 20_000 * (300 + 8 + (40 if family else 20) + 14)


@pytest.mark.parametrize("via", ["afxdp", "socket"])
def test_a_rate_and_a_duration_name_a_number(standing: rig.Rig, via: str) -> None:
    said, received = counted(standing, "--via", via, "--rate", "2000", "--duration", "500ms")
    assert 900 <= said["sent"] <= 1000  # fewer only if the sender was off its CPU at the very end
    assert received.packets == said["sent"]
    assert said["seconds"] == pytest.approx(0.5, abs=0.1)


def test_an_empty_datagram_and_the_largest_are_sent(standing: rig.Rig) -> None:
    for size in (0, 1472):
        said, received = counted(standing, "--count", "100", "--size", str(size))
        assert (said["sent"], received.packets, received.bytes) == (100, 100, 100 * size)


def test_flows_take_turns(standing: rig.Rig) -> None:
    with netns.End(standing.daemon.netns, "", 0, b"", "", "").entered():
        taker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with taker:
        taker.bind((standing.daemon.ipv4, PORT))
        taker.settimeout(5)
        run("flood", "--name", standing.name, "--count", "20", "--rate", "1000", "--flows", "4")
        ports = Counter(taker.recvfrom(2000)[1][1] for _ in range(20))
    assert sorted(ports.values()) == [5, 5, 5, 5]


def test_what_the_device_drops_is_not_called_sent(standing: rig.Rig) -> None:
    """The kernel completes a frame that veth then drops: here because the other end's MTU is smaller."""
    netns.run("ip", "-n", standing.daemon.netns, "link", "set", "dev", standing.daemon.device, "mtu", "1280")
    try:
        said, received = counted(standing, "--count", "500", "--rate", "10k", "--size", "1400")
    finally:
        netns.run("ip", "-n", standing.daemon.netns, "link", "set", "dev", standing.daemon.device, "mtu", "1500")
    assert said["completed"] == 500
    assert said["dropped_by_device"] == 500
    assert said["sent"] == received.packets == 0


def test_a_closed_port_is_reported(standing: rig.Rig) -> None:
    said = run(
        "flood", "--name", standing.name, "--via", "socket", "--rate", "100", "--count", "20", "--to", "198.18.0.1:4"
    )
    assert said["refused"] > 0


@pytest.mark.parametrize("via", ["afxdp", "socket"])
def test_emitted_transactions_decode_as_the_summary_says(standing: rig.Rig, via: str) -> None:
    with netns.End(standing.daemon.netns, "", 0, b"", "", "").entered():
        taker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        taker.bind((standing.daemon.ipv4, PORT))
        taker.settimeout(5)
        args = ("--count", "330", "--rate", "2000", "--broken", "20%", "--via", via)
        said = run("emit", "--name", standing.name, *args)
        payloads = [taker.recv(2000) for _ in range(330)]
        taker.setblocking(False)
        with pytest.raises(BlockingIOError):
            taker.recv(2000)
    reasons = Counter(TxReason(Tx.unpack(lib.tx_decode(payload)).reason).name.lower() for payload in payloads)
    assert reasons.pop("ok") == sum(said["shapes"].values()) == 264
    assert dict(reasons) == said["broken"]
    assert set(said["broken"]) == set(SENDABLE)
    assert said["sent"]["sent"] == 330
    # No two alike but the empty ones, and those cut off so early that chance makes two of them.
    assert len({p for p in payloads if len(p) > 4}) == sum(len(p) > 4 for p in payloads)


def test_a_stock_goes_round_and_is_counted_right(standing: rig.Rig) -> None:
    args = (
        "--count",
        "250",
        "--rate",
        "5000",
        "--stock",
        "100",
        "--shape",
        "transfer=3",
        "--shape",
        "memo",
        "--seed",
        "7",
    )
    said = run("emit", "--name", standing.name, *args)
    assert said["stock"] == 100 and said["seed"] == 7
    assert sum(said["shapes"].values()) == 250
    assert said["shapes"]["transfer"] == pytest.approx(187, abs=2)


@pytest.mark.parametrize("command", ["flood", "emit"])
@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--via", "afxdp", "--queue", "9"], "--queue 9: lab0 has one queue, 0"),
        (["--via", "afxdp", "--queue=-1"], "--queue -1: lab0 has one queue, 0"),
        (["--via", "socket", "--queue", "1"], "--queue 1: the kernel chooses a UDP socket's queue; --via afxdp"),
        (["--cpu", "9999"], "--cpu 9999: this process may run on CPU "),
        (["--cpu=-1"], "--cpu -1: this process may run on CPU "),
    ],
)
def test_what_the_sender_cannot_have_is_told_beforehand(
    standing: rig.Rig, command: str, options: list[str], fault: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "afterburnerd.lab.main", command, "--name", standing.name, "--count", "1", *options],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 64, done.stderr
    assert done.stderr.startswith(f"afterburner-lab: {fault}"), done.stderr


def test_without_a_rig_it_says_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "afterburnerd.lab.main", "flood", "--name", "nosuchrig"], capture_output=True, text=True
    )
    assert done.returncode == 69
    assert "afterburner-lab up --name nosuchrig" in done.stderr


def test_a_neighbour_that_is_silent_is_reported(standing: rig.Rig) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "afterburnerd.lab.main", "flood", "--name", standing.name, "--to", "198.18.0.99"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 69
    assert "198.18.0.99 does not answer" in done.stderr
