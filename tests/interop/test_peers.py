"""The peers can do what they say, proven against one another before our own engine meets them.

A ring over all engines has each in both roles; what matters most is tried against aioquic and against our own engine
(`afterburner-lab peer`) in both roles, too. What an engine cannot do is missing from its features
and skipped. What happens on the wire (Retry, 0-RTT packets, key phases) is looked at in test_tshark.py: what an engine says
of itself is not taken for it here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pytest

from tests.interop import peers

ENOUGH = 4  # engines that must run where CI is set
MANY = 2000
SIZE = 235  # bytes: a usual transaction
# Every engine in both roles; those that are most worth it against the engine that shakes hands for our own, too, and all of that
# against our own. (What is tried around the ring alone meets ours in turns: client, server, client ...)
RING = tuple(zip(peers.ENGINES, peers.ENGINES[1:] + peers.ENGINES[:1], strict=True))
OURS = tuple(pair for engine in peers.ENGINES for pair in ((peers.OURS, engine), (engine, peers.OURS)))
PAIRS = tuple(
    sorted(
        {*RING, *OURS, *(pair for engine in peers.ENGINES[1:] for pair in ((engine, "aioquic"), ("aioquic", engine)))}
    )
)


def need(engine: str, role: Literal["server", "client"], *options: str) -> None:
    """Skips where the engine cannot be had or cannot do that."""
    try:
        features = peers.features(engine)
    except peers.Unavailable as why:
        pytest.skip(f"{engine} is not to be had: {why}")
    if missing := set(options) - set(getattr(features, role)):
        pytest.skip(f"{engine} as {role} has no {', '.join(sorted(missing))}")


def named(pair: tuple[str, str]) -> str:
    return f"{pair[0]}-to-{pair[1]}"


@pytest.fixture(params=PAIRS, ids=named)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Client and server."""
    client, server = request.param
    need(client, "client")
    need(server, "server")
    return client, server


ring = pytest.mark.parametrize("pair", RING + OURS[::3], ids=named, indirect=True)


def test_enough_engines_can_be_had() -> None:
    missing = {}
    for engine in peers.ENGINES:
        try:
            peers.features(engine)
        except peers.Unavailable as why:
            missing[engine] = str(why)
    if missing and not os.environ.get("CI"):
        pytest.skip(f"engines that are not to be had: {missing}")
    assert len(peers.ENGINES) - len(missing) >= ENOUGH, missing


@pytest.mark.parametrize("engine", (*peers.ENGINES, peers.OURS))
def test_an_option_that_an_engine_does_not_know_is_refused(engine: str) -> None:
    need(engine, "client")
    assert peers.client(engine, 9, "--no-such-option").code == 64


@pytest.mark.parametrize("engine", (*peers.ENGINES, peers.OURS))
def test_a_client_says_that_nobody_answers(engine: str) -> None:
    need(engine, "client")
    call = peers.client(engine, 9, "--timeout", "1000", "--idle", "1500")
    assert call.code == 69, call.told()


def transfer(
    pair: tuple[str, str],
    server: peers.Peer,
    *options: str | Path,
    streams: int,
    connections: int = 1,
    datagrams: int = 0,
    size: int = SIZE,
) -> peers.Peer:
    """A run after which the server has each of `streams` once, whole and as it was sent."""
    before = len(server.streams())
    words = ("--size", str(size), *options)
    call = peers.exchange(pair[0], server, *words, streams=streams, connections=connections, datagrams=datagrams)
    found = server.streams()
    assert len(found) == before + streams
    assert all(event["bytes"] == size for event in found.values())
    return call


def test_handshake_and_three_streams(pair: tuple[str, str]) -> None:
    with peers.server(pair[1]) as server:
        call = transfer(pair, server, "--streams", "3", streams=3)
        assert {stream for _, stream in server.streams()} == {2, 6, 10}
        (theirs,), (ours,) = server.seen("connected"), call.seen("connected")
        assert server.seen("closed")[0] | {"reason": ""} == {"event": "closed", "conn": 0, "code": 0, "reason": "", "application": True, "by": "peer"}  # fmt: skip
    for event in (theirs, ours):
        assert (event["alpn"], event["version"], event["resumed"]) == ("solana-tpu", 1, False)
    assert theirs["certificate"] == peers.identity("client").sha256
    assert ours["certificate"] == peers.identity("server").sha256
    if peers.features(pair[0]).acked:
        assert call.summary()["acked"] == 3


@ring
def test_a_wrong_alpn_is_refused(pair: tuple[str, str]) -> None:
    with peers.server(pair[1]) as server:
        call = peers.client(pair[0], server.port, "--alpn", "solana-other", "--timeout", "5000")
        assert call.code == 69, call.told()
        assert not call.seen("connected")


def test_many_small_streams(pair: tuple[str, str]) -> None:
    with peers.server(pair[1]) as server:
        transfer(pair, server, "--streams", str(MANY), "--quiet", streams=MANY)
        assert server.stop() == 0
    assert server.summary()["bytes"] == MANY * SIZE


@ring
def test_streams_that_span_packets(pair: tuple[str, str]) -> None:
    size = 300_000
    with peers.server(pair[1]) as server:
        transfer(pair, server, "--streams", "4", streams=4, size=size)


@ring
def test_bidirectional_streams_come_back(pair: tuple[str, str]) -> None:
    with peers.server(pair[1], "--echo") as server:
        call = transfer(pair, server, "--streams", "5", "--bidi", streams=5)
    assert {stream for _, stream in call.streams()} == {0, 4, 8, 12, 16}
    assert all(event["bytes"] == SIZE for event in call.streams().values())


@ring
def test_a_server_pushes_streams(pair: tuple[str, str]) -> None:
    need(pair[1], "server", "push")
    with peers.server(pair[1], "--push", "7", "--push-size", "17") as server:
        call = transfer(pair, server, "--streams", "1", "--expect", "7", streams=1)
    assert {stream for _, stream in call.streams()} == {3, 7, 11, 15, 19, 23, 27}
    assert all(event["bytes"] == 17 for event in call.streams().values())


@ring
def test_datagrams(pair: tuple[str, str]) -> None:
    need(pair[0], "client", "datagrams")
    with peers.server(pair[1]) as server:
        transfer(pair, server, "--streams", "1", "--datagrams", "4", streams=1, datagrams=4)
        assert len(server.seen("datagram", bytes=SIZE)) == 4


def test_retry(pair: tuple[str, str]) -> None:
    need(pair[1], "server", "retry")
    with peers.server(pair[1], "--retry") as server:
        transfer(pair, server, "--streams", "3", streams=3)


@pytest.mark.parametrize("server", peers.ENGINES)
@pytest.mark.parametrize("retry", [(), ("--retry",)], ids=["plain", "retry"])
def test_a_client_hello_of_two_datagrams(server: str, retry: tuple[str, ...]) -> None:
    need("quicgo", "client", "hybrid")
    need(server, "server")
    with peers.server(server, *retry) as listener:
        transfer(("quicgo", server), listener, "--hybrid", streams=1)


@ring
def test_version_negotiation(pair: tuple[str, str]) -> None:
    need(pair[0], "client", "version-negotiation")
    with peers.server(pair[1]) as server:
        call = transfer(pair, server, "--streams", "3", "--version-negotiation", streams=3)
    assert call.seen("version_negotiation")
    assert all(1 in event["offered"] for event in call.seen("version_negotiation") if event["offered"] is not None)


def test_a_session_is_resumed(pair: tuple[str, str]) -> None:
    with peers.server(pair[1]) as server:
        call = transfer(pair, server, "--streams", "2", "--count", "3", streams=6, connections=3)
        for peer in (call, server):
            assert [event["resumed"] for event in peer.seen("connected")] == [False, True, True], peer
    assert not any(event["early_data"] for event in call.seen("connected"))


@ring
def test_a_session_is_resumed_from_a_file(pair: tuple[str, str], tmp_path: Path) -> None:
    need(pair[0], "client", "resume")
    with peers.server(pair[1]) as server:
        for resumed in (False, True):
            call = transfer(pair, server, "--resume", tmp_path / "session", streams=1)
            assert call.seen("connected")[0]["resumed"] is resumed


def test_early_data_is_accepted(pair: tuple[str, str]) -> None:
    need(pair[0], "client", "zero-rtt")
    need(pair[1], "server", "zero-rtt")
    with peers.server(pair[1], "--zero-rtt") as server:
        call = transfer(pair, server, "--streams", "3", "--count", "2", "--zero-rtt", streams=6, connections=2)
    # None: quiche does not tell, and test_tshark.py sees it on the wire.
    for event, accepted in zip(call.seen("connected"), (False, True), strict=True):
        assert event["early_data"] in (accepted, None)


def test_early_data_is_accepted_also_when_a_second_has_ended_since_the_ticket() -> None:
    """GnuTLS believes no ticket that says it is older than it is, and rustls counts in seconds."""
    pair = ("quinn", "ngtcp2")
    need(pair[0], "client", "zero-rtt")
    with peers.server(pair[1], "--zero-rtt") as server:
        words = ("--streams", "1", "--count", "2", "--zero-rtt", "--hold", "900")
        call = transfer(pair, server, *words, streams=2, connections=2)
    assert [event["early_data"] for event in call.seen("connected")] == [False, True]


@ring
def test_early_data_that_is_refused_is_sent_again(pair: tuple[str, str]) -> None:
    need(pair[0], "client", "zero-rtt")
    with peers.server(pair[1]) as server:
        call = transfer(pair, server, "--streams", "3", "--count", "2", "--zero-rtt", streams=6, connections=2)
    assert not any(event["early_data"] for event in call.seen("connected"))


@pytest.mark.parametrize("by", ["client", "server"])
def test_key_update(pair: tuple[str, str], by: Literal["client", "server"]) -> None:
    need(pair[by == "server"], by, "key-update-after")
    update = ["--key-update-after", "5"]
    with peers.server(pair[1], *(update if by == "server" else ())) as server:
        call = transfer(
            pair, server, "--streams", "200", "--interval", "2", *(update if by == "client" else ()), streams=200
        )
        assert len((server if by == "server" else call).seen("key_update")) == 1


@pytest.mark.parametrize("cipher", ["aes128", "aes256", "chacha20"])
def test_cipher(pair: tuple[str, str], cipher: str) -> None:
    can = [peers.features(engine) for engine in pair]
    if not all(cipher in one.ciphers for one in can):
        pytest.skip(f"{cipher} is not to be had")
    chooser: Literal["client", "server"] = "client" if can[0].can("client", "cipher") else "server"
    need(pair[chooser == "server"], chooser, "cipher")
    words = ["--cipher", cipher]
    with peers.server(pair[1], *(words if can[1].can("server", "cipher") else ())) as server:
        call = transfer(pair, server, "--streams", "20", *(words if chooser == "client" else ()), streams=20)
        for peer in (call, server):
            assert peer.seen("connected")[0]["cipher"] in (cipher, None), peer


@ring
def test_rebinding(pair: tuple[str, str]) -> None:
    need(pair[0], "client", "rebind-after")
    with peers.server(pair[1]) as server:
        call = transfer(pair, server, "--streams", "50", "--rebind-after", "20", streams=50)
    assert len(call.seen("rebound")) == 1


@ring
def test_a_close_of_the_server_reaches_the_client(pair: tuple[str, str]) -> None:
    need(pair[1], "server", "close-after", "close-code")
    with peers.server(pair[1], "--close-after", "3", "--close-code", "4") as server:
        call = peers.client(pair[0], server.port, "--streams", "3", "--hold", "20000")
        closed = call.seen("closed")[0]
        assert (closed["code"], closed["reason"], closed["application"], closed["by"]) == (4, "enough", True, "peer")
        assert len(server.streams()) == 3


@ring
def test_an_idle_connection_ends(pair: tuple[str, str]) -> None:
    with peers.server(pair[1], "--idle", "1000") as server:
        call = peers.client(pair[0], server.port, "--streams", "1", "--hold", "20000")
        assert call.seen("closed")[0]["by"] == "idle", call.told()
        assert server.wait("closed")["by"] == "idle"


@ring
def test_a_connection_ends_with_its_server(pair: tuple[str, str]) -> None:
    with peers.server(pair[1]) as server, peers.dialling(pair[0], server.port, "--hold", "30000") as call:
        server.wait("stream")
        assert server.stop() == 0
        closed = call.wait("closed")
        assert (closed["by"], closed["code"]) == ("peer", 0), closed
