"""`afterburner-lab peer` on AF_XDP and where only ours has an option; over sockets it meets all engines in test_peers.py."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from afterburnerd.lab import main
from tests import netns, qlog_schema, waiting
from tests.interop import peers
from tests.interop.test_peers import need

OURS = peers.OURS
AFXDP = ("--backend", "afxdp")
SOMEBODY_ELSE = "quinn"


def lab(*words: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "afterburnerd.lab.main", "peer", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=waiting.BOUND)


@pytest.fixture(scope="module")
def rig() -> Iterator[netns.Pair]:
    with netns.pair() as made:
        yield made


@pytest.mark.privileged
@pytest.mark.bpf
@pytest.mark.parametrize("pair", [(OURS, SOMEBODY_ELSE), (SOMEBODY_ELSE, OURS), (OURS, OURS)], ids="-to-".join)
@pytest.mark.parametrize("version", [4, 6])
def test_over_af_xdp(rig: netns.Pair, pair: tuple[str, str], version: int) -> None:
    client, server = pair
    need(client, "client")
    need(server, "server")
    address = rig.near.ipv4 if version == 4 else rig.near.ipv6
    options = {engine: AFXDP if engine == OURS else () for engine in pair}
    with peers.server(server, *options[server], address=address, namespace=rig.near.name) as listener:
        line = (*options[client], "--streams", "60", "--interval", "1", "--rebind-after", "20", "--datagrams", "2")
        call = peers.exchange(client, listener, *line, streams=60, datagrams=2, address=address, namespace=rig.far.name)
        assert len(listener.streams()) == 60 and len(call.seen("rebound")) == 1
        assert listener.stop() == 0
    assert call.summary()["acked"] == (60 if peers.features(client).acked else 0)


@pytest.mark.privileged
@pytest.mark.bpf
def test_packets_do_go_over_af_xdp(rig: netns.Pair) -> None:
    """Of 2,000 packets with a stream each the kernel's socket sees those that came before the engine had the connection: a
    first window at most, for nobody acknowledges it."""
    with peers.server(OURS, *AFXDP, address=rig.near.ipv4, namespace=rig.near.name) as listener:
        before = udp_in(rig.near)
        line = (*AFXDP, "--streams", "2000", "--size", "1000", "--quiet")
        peers.exchange(OURS, listener, *line, streams=2000, address=rig.near.ipv4, namespace=rig.far.name)
        assert udp_in(rig.near) - before < 400


def shown(end: netns.End) -> str:
    return netns.run("ip", "-n", end.name, "link", "show", "dev", end.ifname)


def udp_in(end: netns.End) -> int:
    lines = [line.split() for line in end.run("cat", "/proc/net/snmp").splitlines() if line.startswith("Udp:")]
    return int(dict(zip(*lines, strict=True))["InDatagrams"])


@pytest.mark.privileged
@pytest.mark.bpf
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_server(rig: netns.Pair, number: signal.Signals) -> None:
    with peers.server(OURS, *AFXDP, address=rig.near.ipv4, namespace=rig.near.name) as listener:
        pid = listener.process.pid
        assert "xdp" in shown(rig.near)
        planes = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        assert planes
        listener.process.send_signal(number)
        assert listener.process.wait(waiting.BOUND) == (-number if number == signal.SIGKILL else 0)
        waiting.until(lambda: not any(Path(f"/proc/{p}/exe").exists() for p in planes), "its data plane to end")
        waiting.until(lambda: "xdp" not in shown(rig.near), "the program to go")
    assert not list(Path("/dev/shm").glob(f"afterburner-lab-peer-{pid}*"))


def test_an_interrupted_client_closes_its_connection() -> None:
    with peers.server(OURS) as listener, peers.dialling(OURS, listener.port, "--hold", "60000") as call:
        call.wait("done")
        call.process.send_signal(signal.SIGINT)
        assert call.code == 130
        assert listener.wait("closed") == {
            "event": "closed", "conn": 0, "code": 0, "reason": "done", "application": True, "by": "peer",
        }  # fmt: skip


def test_what_a_person_reads() -> None:
    with peers.server(OURS, "--push", "2") as listener:
        said = lab("client", "--connect", f"127.0.0.1:{listener.port}", "--streams", "5", "--expect", "2")
        assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert lines[0] == "connection 0: aes128 (socket)"
    assert lines[1] == "connection 0: closed, local, application code 0x0 (done)"
    assert re.fullmatch(
        r"2 streams \(34 bytes\) and 0 datagrams received, 5 streams acknowledged, in [\d.]+ s", lines[2]
    )


def test_counting_without_reading() -> None:
    """A quiet server that grants no bidirectional streams takes its sums from the engine."""
    with peers.server(OURS, "--quiet", "--max-bidi", "0", "--max-uni", "1024") as listener:
        call = peers.client(OURS, listener.port, "--streams", "20000", "--quiet", "--datagrams", "3")
        assert call.code == 0, call.told()
        listener.wait("closed")
        assert listener.stop() == 0
    found = listener.summary()
    assert (found["streams"], found["bytes"]) == (20_000, 20_000 * 235)
    assert call.summary()["acked"] == 20_000


def test_a_session_file_is_ours_alone_and_good_once(tmp_path: Path) -> None:
    session = tmp_path / "session"
    with peers.server(OURS) as listener:
        for resumed in (False, True, True):
            before = session.read_bytes() if session.exists() else b""
            call = peers.client(OURS, listener.port, "--resume", session)
            assert call.seen("connected")[0]["resumed"] is resumed
            assert session.stat().st_mode & 0o777 == 0o600 and session.read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["session"]
    session.write_text('{"name": 1}')
    said = lab("client", "--connect", "127.0.0.1:9", "--resume", session)
    assert said.returncode == 78 and "remove the file" in said.stderr


def test_a_qlog_is_one(tmp_path: Path) -> None:
    with peers.server(OURS) as listener:
        assert peers.client(OURS, listener.port, "--qlog", tmp_path, "--streams", "3").code == 0
    (file,) = tmp_path.iterdir()
    names = {event["name"] for event in qlog_schema.read(file)[1]}
    assert {"transport:packet_sent", "transport:packet_received", "connectivity:connection_closed"} <= names


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("server",), 64, "--listen"),
        (("server", "--listen", "localhost:4433"), 64, "write ADDRESS:PORT"),
        (("server", "--listen", "127.0.0.1:4433", "--cert", "x"), 64, "--cert and --key: both, or neither"),
        (("server", "--listen", "127.0.0.1:0", "--cert", "/none", "--key", "/none"), 78, "/none: No such file"),
        (("server", "--listen", "192.0.2.1:4433"), 69, "UDP port 4433 of 192.0.2.1: Cannot assign"),
        (("client", "--connect", "127.0.0.1:9", "--count", "0"), 64, "a number from 1"),
        (("client", "--connect", "127.0.0.1:9", "--bind", "here"), 64, "--bind here: not an address"),
        (("client", "--connect", "127.0.0.1:9", "--cpu", "4095"), 64, "--cpu 4095: this process may run on CPU"),
        (("client", "--connect", "127.0.0.1:9", "--retry"), 64, "unknown option --retry"),
    ],
)
def test_what_cannot_be_is_refused(words: tuple[str, ...], code: int, text: str) -> None:
    said = lab(*words)
    assert (said.returncode, said.stdout) == (code, "") and text in said.stderr, said


def test_af_xdp_takes_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    words = ["peer", "server", "--listen", "127.0.0.1:0", *AFXDP, "--interface", "lo"]
    assert main.main(words) == 77
    assert "--backend socket" in capsys.readouterr().err


def test_a_datagram_that_is_too_long_is_told() -> None:
    with peers.server(OURS) as listener:
        call = peers.client(OURS, listener.port, "--datagrams", "1", "--size", "9000", "--timeout", "5000")
    assert call.code == 1 and "a DATAGRAM of 9000 bytes" in call.told()


def test_options_by_their_features() -> None:
    """What `features` promises is what the parser takes, and the other way round."""
    features = peers.features(OURS)
    for role, told in (("server", features.server), ("client", features.client)):
        help_ = lab(role, "--help").stdout
        options = set(re.findall(r"^  (?:-\w, )?--([a-z-]+)", help_, re.M))
        beside = {"help", "json", "listen", "connect", "cert", "key", "backend", "interface", "cpu", "connections"}
        assert options - beside == set(told)
