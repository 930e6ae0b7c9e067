"""What is seen of a real daemon from outside: its records by a client, its figures by a reader, alive and dead."""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from solders.transaction import VersionedTransaction

from afterburnerd import client
from afterburnerd.abi.layout import RecordKind, TxReason
from afterburnerd.abi.segment import Segment, Standing
from afterburnerd.abi.stats import StatsReader
from afterburnerd.lab.transactions import SHAPES, Maker
from tests import netns
from tests.system.daemonrig import PORT, Daemon

pytestmark = pytest.mark.privileged

CAPTURE = f"""
[[capture]]
name = "tpu"
port = {PORT}
decoder = "solana-tx"
[[capture]]
name = "raw"
port = {PORT + 1}
decoder = "raw"
"""


@pytest.fixture
def rig() -> Iterator[netns.Pair]:
    with netns.pair() as pair:
        yield pair


def take(records: client.Follower, count: int) -> list[client.Record]:
    records.timeout = 20
    found = []
    for record in records:
        found.append(record)
        if len(found) == count:
            break
    assert len(found) == count
    return found


@pytest.mark.bpf
def test_a_client_sees_what_was_sent(rig: netns.Pair, tmp_path: Path) -> None:
    maker = Maker(3)
    sent = [maker.make(shape) for shape in SHAPES]
    with Daemon(rig, tmp_path, CAPTURE) as daemon, client.follow(daemon.name) as records:
        daemon.send(*sent, b"\x05rubbish")
        daemon.send(b"anything", port=PORT + 1)
        *good, bad, raw = take(records, len(sent) + 2)
        for record, payload in zip(good, sent, strict=True):
            theirs, ours = VersionedTransaction.from_bytes(payload), record.transaction
            assert ours is not None
            assert (record.kind, record.payload, record.rule) == (RecordKind.TRANSACTION, payload, "tpu")
            assert ours.signatures == [bytes(s) for s in theirs.signatures]
            assert ours.account_keys == [bytes(k) for k in theirs.message.account_keys]
            assert [i.data for i in ours.instructions] == [bytes(i.data) for i in theirs.message.instructions]
            assert str(record.source[0]) == rig.far.ipv4
            assert (str(record.destination[0]), record.destination[1]) == (rig.near.ipv4, PORT)
            assert abs(record.time_ns - time.time_ns()) < 60e9
            assert record.latency_ns is not None
            assert 0 < record.latency_ns < 10e9
        assert (bad.kind, bad.reason) == (RecordKind.MALFORMED, TxReason.TRUNCATED_SIGNATURES)
        assert (raw.kind, raw.rule, raw.payload) == (RecordKind.DATAGRAM, "raw", b"anything")
        assert [r.number for r in (*good, bad, raw)] == list(range(len(sent) + 2))
        assert records.lost == 0


@pytest.mark.bpf
def test_a_client_follows_through_a_killed_data_plane_and_a_restart(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path, CAPTURE) as daemon, client.follow(daemon.name) as records:
        daemon.send(b"one", port=PORT + 1)
        assert [r.payload for r in take(records, 1)] == [b"one"]
        os.kill(daemon.plane_pid(), signal.SIGKILL)
        daemon.wait(lambda: daemon.value("daemon", "restart_killed") == 1 and daemon.state() == "serving", "recovery")
        daemon.send(b"two", port=PORT + 1)
        (two,) = take(records, 1)
        assert (two.payload, two.number) == (b"two", 1)
        assert daemon.stop() == 0
        daemon.start()
        daemon.send(b"three", port=PORT + 1)
        (three,) = take(records, 1)
        assert (three.payload, three.number) == (b"three", 0)
        assert records.lost == 0


def test_figures_outlive_both_processes_and_the_next_start_takes_their_place(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path, CAPTURE) as daemon:
        daemon.send(*[b"x"] * 9, port=PORT + 1)
        daemon.wait(lambda: daemon.rule("raw", "packets") == 9, "nine packets")
        assert Segment.inspect(daemon.name).standing is Standing.LIVE
        daemon.kill()
        with StatsReader.open(daemon.name) as reader:
            snapshot = reader.read()
            assert snapshot.stale
            assert snapshot.total("rule", "packets") == 9
            assert Segment.inspect(daemon.name).standing is Standing.STALE
            daemon.start()
            again = reader.read()  # the same reader
            assert (again.stale, again.total("rule", "packets")) == (False, 0)


def test_on_sockets_every_socket_has_its_row(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path, CAPTURE, interface='mode = "socket"') as daemon:
        daemon.send(b"x", port=PORT + 1)
        daemon.wait(lambda: daemon.rule("raw", "packets") == 1, "a packet")
        rows = daemon.snapshot().rows("queue")
        assert [r.state("mode") for r in rows] == ["socket"] * len(rows)
        assert len(rows) == daemon.value("daemon", "interface_queues_wanted") > 1
        assert sum(r.value("rx_packets") for r in rows) == 1


@pytest.mark.bpf
def test_the_health_page_says_why_it_does_not_serve(rig: netns.Pair, tmp_path: Path) -> None:
    def health() -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", 9475, timeout=10)
        with rig.near.entered():
            connection.connect()
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip()

    with Daemon(
        rig, tmp_path, CAPTURE, start=False, rest="[watch]\nbackoff_min_ms = 4000\nbackoff_max_ms = 4000"
    ) as daemon:
        daemon.write_config(exporter="127.0.0.1:9475")
        daemon.start()
        daemon.wait(lambda: health() == (200, "serving"), "the page to say so")
        os.kill(daemon.plane_pid(), signal.SIGKILL)
        daemon.wait(lambda: daemon.value("daemon", "restart_killed") == 1 and health()[0] == 200, "the first recovery")
        os.kill(daemon.plane_pid(), signal.SIGKILL)  # the second death in a row makes it pause
        daemon.wait(lambda: health() == (503, "recovering, worker 0 is down, queue 0 is not bound"), "it to say so")
        daemon.wait(lambda: health() == (200, "serving"), "recovery")
