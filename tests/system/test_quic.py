"""QUIC in real daemons, in two namespaces on a veth pair: connections are adopted, survive their workers, and end in order."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from aioquic.quic import events

from afterburnerd import client
from afterburnerd.abi import control
from afterburnerd.abi.layout import RecordKind
from tests import netns
from tests.system.daemonrig import Daemon
from tests.unit.quic.rig import Plain

pytestmark = [pytest.mark.privileged, pytest.mark.bpf]

PORT = 8009
QUIC = "[quic]\nconnections = 256\n"
LISTEN = f'[[listen]]\nname = "tpu"\nport = {PORT}\n'


def connect_to(address: str, more: str = "") -> str:
    return f'[[connect]]\nname = "peer"\naddress = "{address}"\nport = {PORT}\n{more}\n'


class Two:
    """A daemon that listens, and one that dials it."""

    def __init__(self, server: Daemon, client: Daemon) -> None:
        self.server = server
        self.client = client

    def send(self, data: bytes) -> int:
        with self.client.client() as daemon:
            return daemon.ask(control.SendRequest(connection="peer", data=data), control.Accepted).token

    def wait_open(self) -> control.ConnectionStatus:
        self.client.wait(lambda: state(self.client) == "open", "the connection to be open")
        return peer(self.client)

    def wait_acknowledged(self, seconds: float = 20) -> None:
        self.client.wait(lambda: peer(self.client).waiting == 0, "all messages to be acknowledged", seconds)


def connections(daemon: Daemon) -> control.Connections:
    with daemon.client() as client:
        return client.ask(control.ConnectionsRequest(), control.Connections)


def peer(daemon: Daemon) -> control.ConnectionStatus:
    return next(c for c in connections(daemon).connections if c.name == "peer")


def state(daemon: Daemon) -> str:
    return peer(daemon).state


@contextlib.contextmanager
def two(
    directory: Path,
    mode: str = "auto",
    listen: str = LISTEN,
    connect: str = "",
    quic: str = QUIC,
    servers_quic: str | None = None,
) -> Iterator[Two]:
    interface = f'mode = "{mode}"'
    (directory / "server").mkdir()
    (directory / "client").mkdir()
    with (
        netns.pair() as rig,
        Daemon(rig, directory / "server", (servers_quic or quic) + listen, interface=interface) as server,
        Daemon(
            netns.Pair(near=rig.far, far=rig.near),
            directory / "client",
            quic + connect_to(rig.near.ipv4, connect),
            interface=interface,
        ) as client,
    ):
        yield Two(server, client)


@pytest.fixture(scope="module")
def both_at_rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with two(tmp_path_factory.mktemp("rest")) as both:
        both.wait_open()
        yield both


@pytest.mark.parametrize("mode", ["auto", "generic", "socket"])
def test_messages_go_over_an_adopted_connection(tmp_path: Path, mode: str) -> None:
    with two(tmp_path, mode) as both:
        row = both.wait_open()
        assert row.io == ("socket" if mode == "socket" else "afxdp") and row.identity
        sent = [b"message %d" % n for n in range(20)] + [b"x" * 4096]
        for data in sent:
            both.send(data)
        both.wait_acknowledged()
        both.server.wait(
            lambda: both.server.value("worker", "quic_streams_received") == len(sent), "them to be counted"
        )
        assert both.server.value("worker", "quic_stream_bytes_received") == sum(map(len, sent))
        if mode == "auto":
            for end in (both.server, both.client):
                end.wait(lambda end=end: end.xdp("cid") > 0, "XDP to have redirected by connection ID")
        # CONNECTION_CLOSE within a bound: the server knows at once, not after its idle timeout
        began = time.monotonic()
        assert both.client.stop() == 0
        assert time.monotonic() - began < 5
        both.server.wait(lambda: not connections(both.server).connections, "the connection to be closed", 2)


def test_messages_on_streams_that_are_kept_open(tmp_path: Path) -> None:
    """The other way to send: one behind the other on the client's bidirectional streams 0, 4, 8 and 12."""
    with two(tmp_path, connect='streams = "kept"') as both:
        sent = [b"<message %d of some length>" % n for n in range(40)] + [b"x" * 3000]
        both.send(sent[0])  # before there is a connection
        both.wait_open()
        for data in sent[1:]:
            both.send(data)
        both.wait_acknowledged()
        streams: dict[int, bytes] = {}
        with client.follow(both.server.name, oldest=True, wait=False) as records:
            for record in records.poll():
                where = record.quic
                assert where is not None and not where.fin and where.offset == len(streams.get(where.stream, b""))
                streams[where.stream] = streams.get(where.stream, b"") + record.payload
        assert sorted(streams) == [0, 4, 8, 12]
        assert sum(map(len, streams.values())) == sum(map(len, sent))
        assert all(any(data in stream for stream in streams.values()) for data in sent)


@pytest.mark.parametrize("mode", ["auto", "socket"])
def test_a_data_plane_that_dies_is_followed_by_new_connections(tmp_path: Path, mode: str) -> None:
    with two(tmp_path, mode) as both:
        first = both.wait_open()
        for round_ in range(3):
            for victim in (both.client, both.server):
                pid = victim.plane_pid()
                both.send(b"before %d" % round_)
                os.kill(pid, signal.SIGKILL)
                both.send(b"meanwhile %d" % round_)
                victim.wait(lambda victim=victim, pid=pid: victim.plane_pid() not in (0, pid), "a new data plane")
                took = both.client.wait(
                    lambda before=first.number: state(both.client) == "open" and peer(both.client).number > before,
                    "a new connection",
                )
                assert took < 5
                both.wait_acknowledged()
                first = peer(both.client)


def test_a_full_table_refuses_at_the_initial_until_a_place_is_free(tmp_path: Path) -> None:
    """Not after the handshake, when a client believes that it is connected."""
    with two(tmp_path, servers_quic="[quic]\nconnections = 1\n") as both:
        both.wait_open()
        to = connect_to(both.server.rig.near.ipv4)
        both.client.write_config(captures=QUIC + to + to.replace('"peer"', '"second"'))
        assert both.client.reload().ok

        def states() -> dict[str, str]:
            return {c.name: c.state for c in connections(both.client).connections}

        both.client.wait(lambda: "(code 0x2): no room" in both.client.log(), "the refusal to be told")
        assert states()["peer"] == "open" and connections(both.server).listeners[0].counts["refused"] > 0
        assert "connection second to" not in both.client.log(), "it believed to be connected"
        with both.client.client() as daemon:
            daemon.ask(control.CloseRequest(connection="peer"), control.Accepted)
        both.client.wait(lambda: states() == {"second": "open"}, "the other one to have the place")


def test_a_dial_waits_for_a_place_in_our_own_tables(tmp_path: Path) -> None:
    with two(tmp_path, quic="[quic]\nconnections = 1\n", servers_quic=QUIC) as both:
        both.wait_open()
        with both.client.client() as daemon:
            daemon.ask(control.DialRequest(name="more", address=both.server.rig.near.ipv4, port=PORT), control.Accepted)
            both.client.wait(
                lambda: "cannot connect more: all 1 places are taken (quic.connections)" in both.client.log(),
                "the reason",
            )
            daemon.ask(control.CloseRequest(connection="peer"), control.Accepted)
        both.client.wait(lambda: [c.state for c in connections(both.client).connections] == ["open"], "its place")


def test_a_supervisor_that_dies_is_followed_by_new_connections(tmp_path: Path) -> None:
    """Its successor sends stateless resets for what it does not know, so the other end dials anew at once."""
    with two(tmp_path) as both:
        first = both.wait_open()
        both.server.kill()
        both.send(b"into the void")
        both.server.start()
        both.client.wait(
            lambda: state(both.client) == "open" and peer(both.client).number > first.number, "a new connection", 15
        )
        both.wait_acknowledged()


def test_a_data_plane_that_a_reload_restarts_closes_its_connections_and_dials_anew(tmp_path: Path) -> None:
    """The other end knows why at once, and does not keep its half until the idle timeout."""
    with two(tmp_path) as both:
        first = both.wait_open()
        for mine, other in ((both.server, both.client), (both.client, both.server)):
            both.send(b"before")
            mine.write_config(memory="frames = 1024\nring = 512")
            result = mine.reload()
            assert result.ok and result.data_plane_restarted
            both.send(b"after")
            both.client.wait(
                lambda before=first.number: state(both.client) == "open" and peer(both.client).number > before,
                "a new connection",
            )
            first = peer(both.client)
            both.wait_acknowledged()
            assert "local, code 0x0: the data plane restarts" in mine.log() or mine is both.server
            other.wait(lambda other=other: len(connections(other).connections) == 1, "the former one to be gone", 5)
        assert "peer, code 0x0: the data plane restarts" in both.client.log()


def test_reload_adds_and_removes(tmp_path: Path) -> None:
    with two(tmp_path) as both:
        both.wait_open()
        address = both.server.rig.near.ipv4
        more = connect_to(address).replace('"peer"', '"second"')
        both.client.write_config(captures=QUIC + connect_to(address) + more)
        assert both.client.reload().ok
        both.client.wait(
            lambda: [c.state for c in connections(both.client).connections] == ["open"] * 2, "the second one"
        )
        both.client.write_config(captures=QUIC + more)
        assert both.client.reload().ok
        both.client.wait(
            lambda: [c.name for c in connections(both.client).connections] == ["second"], "the first to go"
        )
        both.server.wait(lambda: len(connections(both.server).connections) == 1, "the server to know")


def test_a_reload_leaves_alone_what_it_does_not_change(tmp_path: Path) -> None:
    """Links that were dialled by hand, and connections of a listener whose bounds are others now."""
    with two(tmp_path) as both:
        both.wait_open()
        address = both.server.rig.near.ipv4
        with both.client.client() as daemon:
            daemon.ask(control.DialRequest(name="by-hand", address=address, port=PORT), control.Accepted)

        def numbers() -> dict[str, int]:
            return {c.name: c.number for c in connections(both.client).connections if c.state == "open"}

        both.client.wait(lambda: len(numbers()) == 2, "both to be open")
        before = numbers()
        both.client.write_config(captures=QUIC + connect_to(address, "messages = 1\ntimeout_ms = 3000"))
        assert both.client.reload().ok
        both.server.write_config(captures=QUIC + LISTEN + "per_source = 31\nconnections = 2\n")
        assert both.server.reload().ok
        both.send(b"still the same connection")
        both.wait_acknowledged()
        assert numbers() == before
        # what has changed is in force
        with both.client.client() as daemon:
            daemon.ask(control.DialRequest(name="too-many", address=address, port=PORT), control.Accepted)
        both.server.wait(
            lambda: any(listener.counts.get("refused") for listener in connections(both.server).listeners),
            "a third connection to be refused",
        )
        os.kill(both.server.pid, signal.SIGSTOP)
        os.kill(both.server.plane_pid_from_stats(), signal.SIGSTOP)
        try:
            both.send(b"waits")
            with pytest.raises(control.ControlError, match="no room"):
                both.send(b"one too many")
        finally:
            os.kill(both.server.plane_pid_from_stats(), signal.SIGCONT)
            os.kill(both.server.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"port": 70_000}, "port"),
        ({"name": "No Such Name"}, "name"),
        ({"address": "fe80::1"}, "link-local"),
        ({"address": "255.255.255.255"}, "host"),
        ({"address": "peer.example"}, "not an IP address"),
        ({"pin": "2"}, "pin"),
    ],
)
def test_what_cannot_be_dialled_is_refused(both_at_rest: Two, wrong: dict[str, object], what: str) -> None:
    right: dict[str, object] = {"name": "by-hand", "address": both_at_rest.server.rig.near.ipv4, "port": PORT}
    with both_at_rest.client.client() as daemon, pytest.raises(control.ControlError, match=what):
        daemon.ask(control.DialRequest(**{**right, **wrong}), control.Accepted)  # type: ignore[arg-type]
    assert state(both_at_rest.client) == "open" and both_at_rest.client.state() == "serving"


def test_a_listener_asks_for_retry(tmp_path: Path) -> None:
    with two(tmp_path, listen=LISTEN + 'retry = "always"\n') as both:
        both.wait_open()
        (listener,) = [x for x in connections(both.server).listeners if x.counts]
        assert listener.counts["retry"] == 1 and listener.counts["accepted"] == 1


def test_a_listener_whose_port_is_taken_is_told_as_degraded(tmp_path: Path) -> None:
    with netns.pair() as rig:
        with rig.near.entered():
            squatter = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            squatter.bind(("0.0.0.0", PORT))
        with squatter, Daemon(rig, tmp_path, QUIC + LISTEN + f'address = "{rig.near.ipv4}"\n') as daemon:
            daemon.wait(lambda: daemon.state() == "degraded", "it to be degraded")
            assert any("listen.tpu" in notice.text for notice in daemon.status().notices)
            squatter.close()
            assert daemon.reload().ok
            daemon.wait(lambda: bool(connections(daemon).listeners), "the listener after a reload")


def test_dial_and_close_by_command(tmp_path: Path) -> None:
    with two(tmp_path) as both:
        both.wait_open()
        address = both.server.rig.near.ipv4
        with both.client.client() as daemon:
            daemon.ask(control.DialRequest(name="by-hand", address=address, port=PORT), control.Accepted)
        both.client.wait(
            lambda: {c.name: c.state for c in connections(both.client).connections}.get("by-hand") == "open", "the dial"
        )
        with both.client.client() as daemon, pytest.raises(control.ControlError, match="already"):
            daemon.ask(control.DialRequest(name="by-hand", address=address, port=PORT), control.Accepted)
        with both.client.client() as daemon:
            daemon.ask(control.CloseRequest(connection="by-hand", code=7, reason="enough"), control.Accepted)
        both.client.wait(lambda: [c.name for c in connections(both.client).connections] == ["peer"], "it to be gone")
        with both.client.client() as daemon, pytest.raises(control.ControlError, match="no connection"):
            daemon.ask(control.SendRequest(connection="by-hand", data=b"x"), control.Accepted)
        with both.client.client() as daemon:
            daemon.ask(control.CloseRequest(connection="peer"), control.Accepted)
        both.client.wait(lambda: not connections(both.client).connections, "the configured one to be closed")
        assert both.client.reload().ok  # of the same configuration
        both.wait_open()


def test_a_datagram_by_command(both_at_rest: Two) -> None:
    """From `afterburnerctl` to the record ring of the other side; one that is too long is refused with the limit."""
    both = both_at_rest
    line = [sys.executable, "-m", "afterburnerd.ctl.main", "--config", str(both.client.config), "send"]

    def send(*words: str, data: bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*line, *words], input=data, capture_output=True, timeout=30)

    with client.follow(both.server.name, timeout=20) as records:
        done = send("--datagram", "peer", data=b"one" * 385)
        assert done.returncode == 0 and b"1155 bytes goes out, once" in done.stdout, done
        got = next(record for record in records if record.kind == RecordKind.QUIC_DATAGRAM)
        assert got.payload == b"one" * 385
    done = send("--datagram", "peer", data=bytes(1156))
    assert done.returncode == 64 and b'1156 bytes: a DATAGRAM to "peer" has 1 to 1155' in done.stderr, done
    assert peer(both.client).datagram_max == 1155


class Peer:
    """aioquic on a socket in the far namespace."""

    def __init__(self, rig: netns.Pair, plain: Plain, port: int = 0) -> None:
        with rig.far.entered():
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.sock.bind((rig.far.ipv4, port))
        self.sock.setblocking(False)
        self.plain = plain
        self.address = (rig.near.ipv4, PORT)

    def until(self, condition: object, seconds: float = 10) -> None:
        assert callable(condition)
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "nothing of it"
            now = time.monotonic()
            with contextlib.suppress(BlockingIOError):
                while True:
                    data, address = self.sock.recvfrom(2048)
                    self.address = address
                    self.plain.receive(data, address, now)
            due = self.plain.due()
            if due is not None and due <= now:
                self.plain.timer(now)
            for data in self.plain.outgoing(now):
                self.sock.sendto(data, self.address)
            time.sleep(0.0005)


def dialled(rig: netns.Pair, daemon: Daemon) -> tuple[Peer, Plain]:
    """A client of aioquic's whose handshake with our listener is confirmed."""
    daemon.wait(lambda: bool(connections(daemon).listeners), "the listener")
    plain = Plain.client(time.monotonic())
    assert plain.connection is not None
    far = Peer(rig, plain)
    plain.connection.connect(far.address, time.monotonic())
    far.until(lambda: plain.connection is not None and plain.connection._handshake_confirmed)
    return far, plain


def test_aioquic_as_the_client(tmp_path: Path) -> None:
    with netns.pair() as rig, Daemon(rig, tmp_path, QUIC + LISTEN) as daemon:
        far, plain = dialled(rig, daemon)
        assert plain.connection is not None
        for n in range(10):
            plain.connection.send_stream_data(2 + 4 * n, b"transaction %d" % n, end_stream=True)
        far.until(lambda: daemon.value("worker", "quic_streams_received") == 10)
        plain.connection.close(0)
        far.until(lambda: not connections(daemon).connections)


def test_a_client_that_moves_to_another_host_of_the_link_is_followed(tmp_path: Path) -> None:
    """Another MAC address, which no route tells before the path is validated: a challenge to the old one would be lost."""
    with netns.pair() as rig, Daemon(rig, tmp_path, QUIC + LISTEN) as daemon:
        far, plain = dialled(rig, daemon)
        assert plain.connection is not None
        other = f"{rig.far.name}-2"
        netns.run("ip", "netns", "add", other)
        try:
            rig.far.run("ip", "link", "add", "mv", "link", rig.far.ifname, "type", "macvlan", "mode", "bridge")
            rig.far.run("ip", "link", "set", "mv", "netns", other)
            netns.run("ip", "-n", other, "addr", "add", "10.77.0.9/24", "dev", "mv")
            netns.run("ip", "-n", other, "link", "set", "mv", "up")
            elsewhere = replace(rig.far, name=other, ipv4="10.77.0.9")
            before = daemon.xdp("cid")
            far.sock.close()
            far.sock = Peer(replace(rig, far=elsewhere), plain).sock
            for n in range(10):
                assert plain.connection is not None
                plain.connection.send_stream_data(2 + 4 * n, b"transaction %d" % n, end_stream=True)
            far.until(lambda: daemon.value("worker", "quic_streams_received") == 10)
            far.until(lambda: [c.address for c in connections(daemon).connections] == ["10.77.0.9"])
            far.until(lambda: daemon.value("worker", "quic_migrations") > 0)
            far.until(lambda: daemon.xdp("cid") > before)
            assert daemon.value("worker", "quic_migrations") == 1
            plain.connection.close(0)
            far.until(lambda: not connections(daemon).connections)
        finally:
            netns.run("ip", "netns", "del", other)


def test_aioquic_as_the_server_resumes_with_0rtt(tmp_path: Path) -> None:
    with netns.pair() as rig:
        plain = Plain()
        far = Peer(rig, plain, PORT)
        with Daemon(rig, tmp_path, QUIC + connect_to(rig.far.ipv4)) as daemon:
            far.until(lambda: state(daemon) == "open")
            with daemon.client() as client:
                client.ask(control.SendRequest(connection="peer", data=b"first"), control.Accepted)
            far.until(lambda: bool(plain.streams()))
            far.until(lambda: peer(daemon).waiting == 0)
            assert plain.connection is not None and plain.tickets
            # the server forgets; the daemon's data plane dies: the next handshake resumes
            pid = daemon.plane_pid()
            plain.connection, plain.events = None, []
            os.kill(pid, signal.SIGKILL)
            with daemon.client() as client:
                client.ask(control.SendRequest(connection="peer", data=b"second"), control.Accepted)
            far.until(lambda: list(plain.streams().values()) == [b"second"], 15)
            # it came in 0-RTT: the server has it before the handshake is complete
            assert not plain.got(events.HandshakeCompleted)
            far.until(lambda: bool(plain.got(events.HandshakeCompleted)))
            (done,) = plain.got(events.HandshakeCompleted)
            assert done.session_resumed and done.early_data_accepted
            far.until(lambda: peer(daemon).waiting == 0)


LONG_PAUSE = "[watch]\nbackoff_min_ms = 60000\nbackoff_max_ms = 60000\n"


def test_a_connection_that_no_worker_has_taken_is_closed_at_the_end(tmp_path: Path) -> None:
    with netns.pair() as rig, Daemon(rig, tmp_path, QUIC + LISTEN, rest=LONG_PAUSE) as daemon:
        pid = daemon.plane_pid()
        os.kill(pid, signal.SIGKILL)
        daemon.wait(lambda: daemon.plane_pid() not in (0, pid), "another data plane")
        os.kill(daemon.plane_pid(), signal.SIGKILL)
        daemon.wait(lambda: daemon.state() != "serving", "it to be gone")
        plain = Plain.client(time.monotonic())
        assert plain.connection is not None
        far = Peer(rig, plain)
        plain.connection.connect(far.address, time.monotonic())
        far.until(lambda: bool(plain.got(events.HandshakeCompleted)))
        far.until(lambda: bool(connections(daemon).connections))
        assert daemon.stop() == 0
        far.until(lambda: bool(plain.got(events.ConnectionTerminated)))
        (ended,) = plain.got(events.ConnectionTerminated)
        assert (ended.error_code, ended.reason_phrase) == (0, "shutting down")
