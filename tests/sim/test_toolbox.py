"""The simulator's own tools, before anything is judged by them: protection against aioquic's and the RFC, frames, network."""

from __future__ import annotations

import random

import pytest
from aioquic.quic.crypto import CryptoContext
from aioquic.tls import CipherSuite

from . import seal, wire
from .network import MS, Network, Profile

CIPHERS = {
    seal.AES128: CipherSuite.AES_128_GCM_SHA256,
    seal.AES256: CipherSuite.AES_256_GCM_SHA384,
    seal.CHACHA20: CipherSuite.CHACHA20_POLY1305_SHA256,
}


@pytest.mark.parametrize("suite", seal.SUITES)
def test_what_we_seal_aioquic_opens_and_back(suite: int) -> None:
    secret = random.Random(suite).randbytes(seal.hash_bytes(suite))
    theirs = CryptoContext()
    theirs.setup(cipher_suite=CIPHERS[suite], secret=secret, version=1)
    packet = seal.Sealer(suite, secret, b"12345678", 70_000).seal(wire.PING + wire.stream(2, b"hello"), number_bytes=3)
    _, payload, number, updated = theirs.decrypt_packet(packet, 9, 70_000)
    assert (payload, number, updated) == (wire.PING + wire.stream(2, b"hello"), 70_000, False)
    header = b"\x41" + b"12345678" + (70_001 & 0xFFFF).to_bytes(2, "big")
    opener = seal.Opener(suite, secret, 8, 70_000)
    assert opener.open(theirs.encrypt_packet(header, wire.PING * 5, 70_001)) == (70_001, wire.PING * 5)
    with pytest.raises(AssertionError, match="again, or lower"):
        opener.open(seal.Sealer(suite, secret, b"12345678").seal(wire.PING * 5, number=70_001, number_bytes=4))


@pytest.mark.parametrize("suite", seal.SUITES)
def test_key_updates_are_made_and_followed(suite: int) -> None:
    secret = random.Random(suite).randbytes(seal.hash_bytes(suite))
    sealer, opener = seal.Sealer(suite, secret, b"12345678"), seal.Opener(suite, secret, 8)
    for generation in range(4):
        sealer.generation = generation
        assert opener.open(sealer.seal(wire.PING * 4)) == (generation, wire.PING * 4)
        assert opener.generation == generation


def test_the_short_packet_of_rfc_9001_a_5() -> None:
    secret = bytes.fromhex("9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b")
    sealer = seal.Sealer(seal.CHACHA20, secret, b"")
    packet = sealer.seal(wire.PING, number=654_360_564, number_bytes=3)
    assert packet.hex() == "4cfe4189655e5cd55c41f69080575d7999c25a5bfb"


def test_frames_that_are_built_are_read_back() -> None:
    payload = b"".join(
        (
            wire.PING, wire.ack((90, 100), (5, 7), delay=3), wire.ack((0, 0), ecn=(1, 2, 3)), wire.reset_stream(4, 5, 6),
            wire.stop_sending(4, 5), wire.crypto(7, b"abc"), wire.new_token(b"t"), wire.stream(8, b"xyz", 9, True),
            wire.max_data(1 << 40), wire.max_stream_data(1, 2), wire.max_streams(3, True), wire.max_streams(3, False),
            wire.data_blocked(4), wire.stream_data_blocked(5, 6), wire.streams_blocked(7, True),
            wire.new_connection_id(2, 1, b"12345678", b"t" * 16), wire.retire_connection_id(3), wire.path_challenge(b"8bytes!!"),
            wire.path_response(b"8bytes!!"), wire.HANDSHAKE_DONE, wire.datagram(b"d"), wire.connection_close(10, 6, b"why"),
            wire.connection_close(3, None), wire.PADDING * 3,
        )
    )  # fmt: skip
    frames = wire.parse(payload)
    assert [f.kind for f in frames][:3] == ["ping", "ack", "ack"] and frames[-1].count == 3
    assert frames[1].ranges == [(90, 100), (5, 7)] and frames[2].ecn == (1, 2, 3)
    assert (frames[7].stream, frames[7].offset, frames[7].data, frames[7].fin) == (8, 9, b"xyz", True)


def test_the_network_is_the_same_for_the_same_seed_and_does_what_its_profile_says() -> None:
    def run(seed: int) -> list[tuple[int, bytes]]:
        profile = Profile(delay=MS, loss=0.3, duplicate=0.1, corrupt=0.1, reorder=0.2, reorder_by=5 * MS)
        network = Network(random.Random(seed), profile, profile, ("10.0.0.1", 1))
        for i in range(1000):
            network.send(i.to_bytes(4, "big"), ("10.0.0.1", 1), ("10.0.0.2", 2), i * 1000)
        return [(f.arrives, f.data) for f in network.arrived(1 << 60)]

    first = run(5)
    assert first == run(5) != run(6)
    assert 650 < len(first) < 900
    numbers = [int.from_bytes(data, "big") for _, data in first]
    assert numbers != sorted(numbers) and len(set(numbers)) < len(numbers)


def test_a_rebinding_loses_what_goes_to_the_old_port() -> None:
    client, server = ("10.0.0.1", 1), ("10.0.0.2", 2)
    network = Network(random.Random(1), Profile(), Profile(), client)
    network.send(b"old", server, client, 0)
    network.rebind(("10.0.0.1", 9))
    network.send(b"new", server, ("10.0.0.1", 9), 0)
    network.send(b"forth", client, server, 0)
    arrived = network.arrived(1 << 60)
    assert [(f.data, f.src) for f in arrived] == [(b"new", server), (b"forth", ("10.0.0.1", 9))]
