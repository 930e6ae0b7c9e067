"""Receiving and sending of QUIC by different backends, as configured, between real daemons."""

from __future__ import annotations

from pathlib import Path

import pytest

from afterburnerd.abi import control
from tests import netns
from tests.system.daemonrig import Daemon
from tests.system.test_quic import LISTEN, QUIC, Two, connect_to

pytestmark = [pytest.mark.privileged, pytest.mark.bpf]


def backend(daemon: Daemon) -> control.QuicBackend:
    with daemon.client() as client:
        status = client.ask(control.StatusRequest(), control.Status)
    assert status.quic is not None
    return status.quic


@pytest.mark.parametrize(
    ("receive", "send"), [("auto", "auto"), ("afxdp", "socket"), ("socket", "afxdp"), ("socket", "socket")]
)
def test_messages_go_both_as_configured(tmp_path: Path, receive: str, send: str) -> None:
    quic = QUIC + f'receive = "{receive}"\nsend = "{send}"\n'
    (tmp_path / "server").mkdir()
    (tmp_path / "client").mkdir()
    with (
        netns.pair() as rig,
        Daemon(rig, tmp_path / "server", quic + LISTEN) as server,
        Daemon(netns.Pair(near=rig.far, far=rig.near), tmp_path / "client", quic + connect_to(rig.near.ipv4)) as client,
    ):
        both = Two(server, client)
        row = both.wait_open()
        for n in range(20):
            both.send(b"message %d" % n)
        both.wait_acknowledged()
        server.wait(lambda: server.value("worker", "quic_streams_received") == 20, "all to be counted")
        expected = {"receive": receive, "send": send} if receive != "auto" else {"receive": "afxdp", "send": "afxdp"}
        for daemon in (server, client):
            found = backend(daemon)
            assert {"receive": found.receive, "send": found.send} == expected and found.reason
            seen, other = ("cid", "short_unknown") if expected["receive"] == "afxdp" else ("short_unknown", "cid")
            daemon.wait(lambda daemon=daemon, seen=seen: daemon.xdp(seen) > 0, "XDP to count them")
            if expected["receive"] == "socket":  # the other way round some come before `cids` is written
                assert daemon.xdp(other) == 0
            by_queues = sum(q.value("tx_packets") for q in daemon.queues())
            assert (by_queues > 0) is (expected["send"] == "afxdp")
        assert row.io == expected["send"]
        if receive == "auto":
            assert "tested: 256 of 256 frames" in backend(server).reason
