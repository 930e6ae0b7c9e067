"""Our daemon against engines that others wrote, in both roles, over AF_XDP on a veth pair and over sockets.

Here is the near end: the executable `afterburnerd`, driven as an operator drives it. At the far end is one of the peers (peers/README.md).
Whatever one side sends is verified where it arrives, and whoever sends it has to be told that it was acknowledged. What an engine
cannot do is missing from its features and is skipped, not counted.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from aioquic.quic.packet import QuicPacketType

from afterburnerd.abi import control
from tests import netns, waiting
from tests.interop import peers, tshark, wire
from tests.interop.ours import BACKENDS, PORT, RETRY_PORT, Link, Ours, Received, daemon
from tests.interop.test_peers import MANY, SIZE, need
from tests.unit.quic.rig import long_kinds

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.bpf,
    pytest.mark.timeout(600),
]  # the first test of an engine builds it
LARGE = 45_000  # bytes: some 35 packets; what is sent by command is a request of at most 65,536 in base64
FAR_PORT = 4433
CIPHERS = ("aes128", "aes256", "chacha20")
engines = pytest.mark.parametrize("engine", peers.ENGINES)
Role = Literal["server", "client"]


@pytest.fixture(scope="module", params=BACKENDS, ids=["afxdp", "socket"])
def ours(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ours]:
    backend = request.param
    with netns.pair() as rig, daemon(rig, tmp_path_factory.mktemp(backend), backend) as made:
        yield made


# --- third-party client to our listener -------------------------------------------------------------------------------


def call(ours: Ours, engine: str, *options: str, streams: int, size: int = SIZE, connections: int = 1, datagrams: int = 0,
         port: int = PORT) -> peers.Peer:  # fmt: skip
    """A client's whole run against our listener: `streams` and `datagrams` over all connections, each verified here, each
    acknowledged there. A connection stays until what was sent on it has been read."""
    far = ours.rig.far
    words = ("--streams", str(streams // connections), "--size", str(size), *options, "--wait")
    with (
        Received(ours) as got,
        peers.dialling(engine, port, *words, address=ours.address, namespace=far.name) as client,
    ):
        for number in range(connections):
            client.wait("done", conn=number)
            got.wait(streams * (number + 1) // connections, datagrams * (number + 1) // connections)
            client.go_on()
            client.wait("closed", conn=number)
        assert client.code == 0, client.told()
        got.verify(streams, size, connections)
        assert sorted(got.datagrams) == sorted(peers.payload(k, size) for k in range(datagrams))
    if peers.features(engine).acked:
        assert client.summary()["acked"] == streams
    ours.wait_none()
    return client


def opened(client: peers.Peer) -> list[peers.Event]:
    return client.seen("connected")


@engines
def test_client_sends_three_streams(ours: Ours, engine: str) -> None:
    need(engine, "client")
    client = call(ours, engine, streams=3)
    (said,) = opened(client)
    assert (said["alpn"], said["version"], said["resumed"]) == ("solana-tpu", 1, False)


@engines
def test_client_sends_large_streams(ours: Ours, engine: str) -> None:
    need(engine, "client")
    call(ours, engine, streams=8, size=LARGE)


@engines
def test_client_sends_many_small_streams(ours: Ours, engine: str) -> None:
    need(engine, "client")
    call(ours, engine, "--quiet", streams=MANY)


@engines
def test_client_is_asked_for_its_address(ours: Ours, engine: str) -> None:
    need(engine, "client")
    before = ours.listener("retry").counts.get("retry", 0)
    call(ours, engine, streams=3, port=RETRY_PORT)
    assert ours.listener("retry").counts["retry"] > before


@pytest.mark.parametrize("engine", ["quinn", "quicgo"])
def test_client_shows_our_token_and_is_not_asked_again(ours: Ours, engine: str) -> None:
    """These two keep what NEW_TOKEN brings; the others' clients would be asked each time."""
    need(engine, "client", "count")
    before = dict(ours.listener("retry").counts)
    call(ours, engine, "--count", "3", streams=6, connections=3, port=RETRY_PORT)
    after = ours.listener("retry").counts
    assert after["completed"] == before.get("completed", 0) + 3
    assert after["retry"] == before.get("retry", 0) + 1


@engines
def test_client_resumes(ours: Ours, engine: str) -> None:
    need(engine, "client", "count")
    client = call(ours, engine, "--count", "3", streams=6, connections=3)
    assert [said["resumed"] for said in opened(client)] == [False, True, True]


@engines
def test_client_gets_no_early_data_accepted(ours: Ours, engine: str) -> None:
    """Our listener refuses 0-RTT: everything arrives nevertheless, once."""
    need(engine, "client", "zero-rtt")
    client = call(ours, engine, "--count", "2", "--zero-rtt", streams=6, connections=2)
    assert not any(said["early_data"] for said in opened(client))


def test_client_that_offers_early_data_unasked_is_told_no(ours: Ours) -> None:
    """GnuTLS offers it though our tickets do not allow it: 0-RTT packets are on the wire, TLS says that they were not
    accepted, and what was in them arrives once."""
    engine = "ngtcp2"
    need(engine, "client", "count", "zero-rtt")
    with ours.rig.far.entered():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(3))  # ETH_P_ALL
    with tap:
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        client = call(ours, engine, "--count", "2", "--zero-rtt", streams=6, connections=2)
        kinds = set()
        with contextlib.suppress(BlockingIOError):
            while packet := tap.recv(65_535):
                if packet[0] >> 4 == 4 and packet[9] == 17 and packet[22:24] == PORT.to_bytes(2, "big"):
                    kinds |= set(long_kinds(packet[28:]))
    assert QuicPacketType.ZERO_RTT in kinds
    assert [(said["resumed"], said["early_data"]) for said in opened(client)] == [(False, False), (True, False)]


@engines
def test_client_updates_keys(ours: Ours, engine: str) -> None:
    need(engine, "client", "key-update-after")
    before = ours.value("quic_key_updates")
    client = call(ours, engine, "--key-update-after", "5", "--interval", "2", streams=200)
    assert len(client.seen("key_update")) == 1
    assert ours.value("quic_key_updates") > before


@engines
def test_client_is_rebound_by_its_nat(ours: Ours, engine: str) -> None:
    need(engine, "client", "rebind-after")
    before = ours.value("quic_migrations")
    client = call(ours, engine, "--rebind-after", "20", "--interval", "2", streams=100)
    assert len(client.seen("rebound")) == 1
    waiting.until(lambda: ours.value("quic_migrations") > before, "the migration to be counted")


@engines
def test_client_negotiates_the_version(ours: Ours, engine: str) -> None:
    need(engine, "client", "version-negotiation")
    before = ours.listener("tpu").counts.get("version_negotiation", 0)
    client = call(ours, engine, "--version-negotiation", streams=3)
    assert client.seen("version_negotiation")
    assert ours.listener("tpu").counts["version_negotiation"] > before


@engines
def test_client_sends_datagrams(ours: Ours, engine: str) -> None:
    need(engine, "client", "datagrams")
    before = ours.value("quic_datagrams_received")
    call(ours, engine, "--datagrams", "4", streams=1, datagrams=4)
    waiting.until(lambda: ours.value("quic_datagrams_received") == before + 4, "them to be counted")


@engines
@pytest.mark.parametrize("cipher", CIPHERS)
def test_client_chooses_the_cipher(ours: Ours, engine: str, cipher: str) -> None:
    need(engine, "client", "cipher")
    if cipher not in peers.features(engine).ciphers:
        pytest.skip(f"{engine} has no {cipher}")
    client = call(ours, engine, "--cipher", cipher, streams=20)
    assert opened(client)[0]["cipher"] in (cipher, None)


@engines
def test_client_hello_of_two_datagrams(ours: Ours, engine: str) -> None:
    need(engine, "client", "hybrid")
    for port in (PORT, RETRY_PORT):
        call(ours, engine, "--hybrid", streams=2, port=port)


# --- our daemon to a third-party server -------------------------------------------------------------------------------


def messages(count: int, size: int = SIZE) -> list[bytes]:
    return [peers.payload(k, size) for k in range(count)]


def arrived(server: peers.Peer, conn: int, count: int, size: int = SIZE) -> None:
    """The server has exactly the streams of `messages`, on this connection of its."""
    server.wait("stream", count, conn=conn)
    found = {stream: event for (number, stream), event in server.streams().items() if number == conn}
    assert set(found) == {2 + 4 * k for k in range(count)}
    assert all(event["bytes"] == size for event in found.values())


def serve(ours: Ours, engine: str, *options: str, count: int = 3, size: int = SIZE, lossy: bool = False) -> peers.Peer:
    """A server's run in which our daemon dials it, sends, has it acknowledged and closes."""
    far = ours.rig.far
    with peers.server(engine, *options, address=far.ipv4, port=FAR_PORT, namespace=far.name) as server:
        with ours.link(FAR_PORT) as link:
            row = link.wait_open()
            assert row.io == ("afxdp" if ours.backend == "auto" else "socket")
            link.send(*messages(count, size))
            link.wait_acknowledged()
            arrived(server, 0, count, size)
        closed = server.wait("closed", conn=0)
        if closed["by"] != "idle" or not lossy:  # a CONNECTION_CLOSE is not repeated to a peer that says nothing
            assert (closed["by"], closed["code"], closed["application"]) == ("peer", 0, True)
    return server


@contextlib.contextmanager
def once_connected(ours: Ours, engine: str, *options: str) -> Iterator[tuple[peers.Peer, Link, int]]:
    """A server that our daemon has a connection with, over which three messages have arrived: what comes next is the second
    one. The server, the link, the connection's number."""
    far = ours.rig.far
    with (
        peers.server(engine, *options, address=far.ipv4, port=FAR_PORT, namespace=far.name) as server,
        ours.link(FAR_PORT) as link,
    ):
        first = link.wait_open()
        link.send(*messages(3))
        link.wait_acknowledged()
        arrived(server, 0, 3)
        yield server, link, first.number


@engines
def test_server_gets_three_streams(ours: Ours, engine: str) -> None:
    need(engine, "server")
    (said,) = opened(serve(ours, engine))
    assert (said["alpn"], said["version"], said["resumed"]) == ("solana-tpu", 1, False)


@engines
def test_server_gets_large_streams(ours: Ours, engine: str) -> None:
    need(engine, "server")
    serve(ours, engine, count=8, size=LARGE)


@engines
def test_server_gets_many_small_streams(ours: Ours, engine: str) -> None:
    need(engine, "server")
    serve(ours, engine, count=MANY)


@engines
def test_server_gives_little_credit(ours: Ours, engine: str) -> None:
    """Eight streams at a time: MAX_STREAMS has to come again and again."""
    need(engine, "server", "max-uni")
    serve(ours, engine, "--max-uni", "8", count=200)


@engines
def test_server_asks_for_our_address(ours: Ours, engine: str) -> None:
    need(engine, "server", "retry")
    serve(ours, engine, "--retry")


@engines
def test_server_resumes(ours: Ours, engine: str) -> None:
    """Our worker dies, and the supervisor dials anew with the ticket that it has."""
    need(engine, "server")
    with once_connected(ours, engine) as (server, link, first):
        ours.kill_plane()
        link.wait_open(first)
        link.send(*messages(3))
        link.wait_acknowledged()
        said = server.wait("connected", 2)
        assert said["resumed"] and not said["early_data"], said
        arrived(server, said["conn"], 3)


def test_server_asks_once_and_gets_its_token(ours: Ours) -> None:
    """quic-go gives every client a token, and says when it sends a Retry."""
    engine = "quicgo"
    need(engine, "server", "retry")
    with once_connected(ours, engine, "--retry") as (server, link, first):
        assert len(server.seen("retry")) == 1
        ours.kill_plane()
        link.wait_open(first)
        link.send(*messages(3))
        link.wait_acknowledged()
        server.wait("connected", 2)
        assert len(server.seen("retry")) == 1, "the token was not shown"


@engines
def test_server_accepts_early_data(ours: Ours, engine: str) -> None:
    """As above, and what waits meanwhile goes in 0-RTT."""
    need(engine, "server", "zero-rtt")
    with once_connected(ours, engine, "--zero-rtt") as (server, link, first):
        ours.kill_plane(lambda: link.send(*messages(4)))
        link.wait_open(first)
        link.wait_acknowledged()
        said = server.wait("connected", 2)
        assert said["resumed"] and said["early_data"] in (True, None), said  # None: the engine does not tell
        arrived(server, said["conn"], 4)


@engines
def test_server_refuses_early_data(ours: Ours, engine: str) -> None:
    """Another server process does not know the ticket: what went in 0-RTT goes once more, and arrives once."""
    need(engine, "server", "zero-rtt")
    far = ours.rig.far
    with ours.link(FAR_PORT) as link:
        with peers.server(engine, "--zero-rtt", address=far.ipv4, port=FAR_PORT, namespace=far.name) as server:
            first = link.wait_open()
            link.send(*messages(3))
            link.wait_acknowledged()
            arrived(server, 0, 3)
        link.ours.daemon.wait(lambda: link.status().number != first.number, "the close to be noticed")
        link.send(*messages(4))
        with peers.server(engine, "--zero-rtt", address=far.ipv4, port=FAR_PORT, namespace=far.name) as server:
            link.wait_open(first.number)
            link.wait_acknowledged()
            last = server.seen("connected")[-1]
            assert not last["early_data"] and not last["resumed"]
            arrived(server, last["conn"], 4)


@engines
def test_server_updates_keys(ours: Ours, engine: str) -> None:
    need(engine, "server", "key-update-after")
    before = ours.value("quic_key_updates")
    server = serve(ours, engine, "--key-update-after", "5", count=200)
    assert len(server.seen("key_update")) == 1
    assert ours.value("quic_key_updates") > before


@engines
@pytest.mark.parametrize("cipher", CIPHERS)
def test_server_chooses_the_cipher(ours: Ours, engine: str, cipher: str) -> None:
    need(engine, "server", "cipher")
    if cipher not in peers.features(engine).ciphers:
        pytest.skip(f"{engine} has no {cipher}")
    (said,) = opened(serve(ours, engine, "--cipher", cipher, count=20))
    assert said["cipher"] in (cipher, None)


# --- daemons of another make, and other wires ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def updating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ours]:
    """Updates its keys every 100 packets."""
    with (
        netns.pair() as rig,
        daemon(rig, tmp_path_factory.mktemp("updating"), "auto", {"AFTERBURNER_TEST_KEY_UPDATE": "100"}) as made,
    ):
        yield made


@engines
def test_we_update_keys_as_client(updating: Ours, engine: str) -> None:
    need(engine, "server")
    before = updating.value("quic_key_updates")
    serve(updating, engine, count=30, size=LARGE)
    waiting.until(lambda: updating.value("quic_key_updates") > before, "an update to be counted")


@engines
def test_we_update_keys_as_server(updating: Ours, engine: str) -> None:
    """What a server sends are acknowledgements: enough of them for an update."""
    need(engine, "client", "interval")
    before = updating.value("quic_key_updates")
    call(updating, engine, "--interval", "2", streams=400)
    waiting.until(lambda: updating.value("quic_key_updates") > before, "an update to be counted")


@engines
def test_server_gets_datagrams(ours: Ours, engine: str) -> None:
    """As long as they may be, and what is longer is refused with that length; a server that takes none is found out."""
    need(engine, "server")
    far = ours.rig.far
    with (
        peers.server(engine, address=far.ipv4, port=FAR_PORT, namespace=far.name) as server,
        ours.link(FAR_PORT) as link,
    ):
        most = link.wait_open().datagram_max
        if most == 0:
            with pytest.raises(control.ControlError, match="takes no DATAGRAM frames"):
                link.send(b"x", datagram=True)
            pytest.skip(f"{engine} takes no DATAGRAM frames")
        sent = messages(3) + messages(1, most)
        link.send(*sent, datagram=True)
        server.wait("datagram", 4)
        link.wait_acknowledged()
        assert sorted(event["sha256"] for event in server.seen("datagram")) == sorted(
            hashlib.sha256(data).hexdigest() for data in sent
        )
        with pytest.raises(control.ControlError, match=f"{most + 1} bytes: a DATAGRAM to .* has 1 to {most}"):
            link.send(bytes(most + 1), datagram=True)


BAD = wire.Faults(loss=0.03, corrupt=0.02, duplicate=0.03, delay=0.05)


@engines
def test_a_bad_wire(tmp_path: Path, seed: int, engine: str) -> None:
    """Loss, corruption, repetition, reordering: everything arrives, once, in both roles."""
    need(engine, "server")
    with wire.between(BAD, seed) as (behind, bad), daemon(behind, tmp_path, "auto") as made:
        short = ("--idle", "3000")  # who misses the other's CONNECTION_CLOSE waits for so long
        for count, size in ((200, SIZE), (4, LARGE)):
            if peers.features(engine).client:
                call(made, engine, *short, streams=count, size=size)
            serve(made, engine, *short, count=count, size=size, lossy=True)
        assert all(bad.counts.get(what, 0) for what in ("lost", "corrupted", "duplicated", "delayed")), bad.counts
        assert made.value("quic_packets_lost") > 0


def decrypted(ours: Ours, path: Path, keylog: Path, port: int) -> list[tshark.Packet]:
    """What tshark sees of a run: nothing malformed, everything decrypted."""
    packets = tshark.read(path, keylog, port=port)
    assert tshark.faults(packets) == []
    sent = [packet for packet in packets if packet.kind == "1rtt" and packet.source[0] == ours.address]
    assert sent and {packet.key_phase for packet in sent} == {0, 1}
    numbers = [packet.number for packet in sent]
    assert len(set(numbers)) == len(numbers)  # one connection: no number twice
    return packets


@pytest.mark.skipif(bool(tshark.missing()), reason=tshark.missing())
@engines
def test_tshark_finds_nothing_malformed_in_what_we_dial(updating: Ours, tmp_path: Path, engine: str) -> None:
    need(engine, "server", "keylog")
    tshark.segmented(updating.rig.near, updating.rig.far)
    path, keys = tmp_path / "run.pcapng", tmp_path / "keys"
    with tshark.capture(updating.rig.far.ifname, path, namespace=updating.rig.far.name):
        serve(updating, engine, "--keylog", str(keys), count=300, size=2000)
    packets = decrypted(updating, path, keys, FAR_PORT)
    ours = [packet for packet in packets if packet.source[0] == updating.address]
    streams = {frame.number("stream.stream_id") for packet in ours for frame in packet.frames if frame.name == "STREAM"}
    assert streams == {2 + 4 * k for k in range(300)}
    assert any("CONNECTION_CLOSE" in packet for packet in ours)


@pytest.mark.skipif(bool(tshark.missing()), reason=tshark.missing())
@engines
def test_tshark_finds_nothing_malformed_in_what_we_answer(updating: Ours, tmp_path: Path, engine: str) -> None:
    need(engine, "client", "keylog", "interval")
    tshark.segmented(updating.rig.near, updating.rig.far)
    path, keys = tmp_path / "run.pcapng", tmp_path / "keys"
    with tshark.capture(updating.rig.far.ifname, path, namespace=updating.rig.far.name):
        call(updating, engine, "--keylog", str(keys), "--interval", "2", streams=400)
    packets = decrypted(updating, path, keys, PORT)
    ours = [packet for packet in packets if packet.source[0] == updating.address]
    assert any("HANDSHAKE_DONE" in packet for packet in ours) and any("ACK" in packet for packet in ours)
