"""What an endpoint says to whom: Retry, version negotiation, refusals, resets; and what hostile datagrams get out of it."""

from __future__ import annotations

import os
import random

import pytest
from aioquic._buffer import Buffer
from aioquic.quic import events
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import encode_quic_retry, encode_quic_version_negotiation, pull_quic_header

from afterburnerd.quic.accept import Limits
from afterburnerd.quic.dial import Target
from afterburnerd.quic.endpoint import RESETS, TOMBSTONE_SECONDS
from afterburnerd.quic.refusal import CONNECTION_REFUSED, INVALID_TOKEN
from afterburnerd.quic.shake import EARLY_DATAGRAMS, State, Why
from afterburnerd.quic.wire import RESET_MIN, parse_long

from .rig import CLIENT, SERVER, Network, Ours, Plain


def first_flight() -> bytes:
    """A client's Initial."""
    ours = Ours()
    ours.dial(100.0)
    return ours.outgoing(100.0)[0]


def code_of(datagram: bytes, initial: bytes) -> int:
    """The error code of an Initial with CONNECTION_CLOSE, opened as the client would."""
    sent = parse_long(initial)
    assert sent is not None
    pair = CryptoPair()
    pair.setup_initial(cid=sent.dcid, is_client=True, version=1)
    buf = Buffer(data=datagram)
    header = pull_quic_header(buf)
    _, plain, _ = pair.decrypt_packet(datagram[: header.packet_length], buf.tell(), 0)
    assert plain[0] == 0x1C and header.destination_cid == sent.scid
    return plain[1]


# --- Retry ---


def test_retry_is_followed_and_proves_the_address() -> None:
    client, server = Ours(), Ours(limits=Limits(retry="always"))
    net = Network(client, server)
    dial = client.dial(net.now)
    assert net.run(lambda: dial.state is State.CONFIRMED)
    assert server.endpoint.counts["retry"] == 1 and server.endpoint.counts["accepted"] == 1
    assert server.shakes[0].proven  # type: ignore[attr-defined]


@pytest.mark.parametrize("ours_is_client", [True, False])
def test_retry_with_aioquic_as_the_peer(ours_is_client: bool) -> None:
    if not ours_is_client:
        ours, plain = Ours(limits=Limits(retry="always")), Plain.client(100.0)
        net = Network(plain, ours)
        assert plain.connection is not None
        plain.connection.connect(SERVER, net.now)
        assert net.run(lambda: bool(plain.got(events.HandshakeCompleted)))
        assert ours.endpoint.counts["retry"] == 1
        return
    ours = Ours()
    now = 100.0
    dial = ours.dial(now)
    header = parse_long(ours.outgoing(now)[0])
    assert header is not None
    retry = encode_quic_retry(1, b"retry-id", header.scid, header.dcid, b"token of a server")
    ours.receive(retry, SERVER, now)
    again = parse_long(ours.outgoing(now)[0])
    assert again is not None and again.token == b"token of a server" and again.dcid == b"retry-id"
    assert dial.state is State.SHAKING


def test_a_retry_keeps_nothing() -> None:
    server = Ours(limits=Limits(retry="always"))
    server.receive(first_flight(), CLIENT, 100.0)
    assert len(server.outgoing(100.0)) == 1
    assert not server.endpoint.shakes and not len(server.realm.registry)


def test_retry_is_asked_for_under_pressure_only() -> None:
    server = Ours(limits=Limits(retry="auto", retry_from=3, handshakes_per_source=100))
    for _ in range(5):
        server.receive(first_flight(), CLIENT, 100.0)
    assert server.endpoint.counts["accepted"] == 3 and server.endpoint.counts["retry"] == 2


def test_a_token_of_another_address_or_time_is_invalid() -> None:
    client, server = Ours(), Ours(limits=Limits(retry="always"))
    client.dial(100.0)
    server.receive(client.outgoing(100.0)[0], CLIENT, 100.0)
    client.receive(server.outgoing(100.0)[0], SERVER, 100.0)
    initial = client.outgoing(100.0)[0]
    server.receive(initial, ("192.0.2.99", CLIENT[1]), 100.0)
    assert code_of(server.outgoing(100.0)[0], initial) == INVALID_TOKEN
    server.receive(initial, CLIENT, 120.0)
    assert code_of(server.outgoing(120.0)[0], initial) == INVALID_TOKEN
    assert server.endpoint.counts["accepted"] == 0
    server.receive(initial, CLIENT, 101.0)
    assert server.endpoint.counts["accepted"] == 1


def test_spoofed_retries_are_ignored() -> None:
    ours = Ours()
    dial = ours.dial(100.0)
    header = parse_long(ours.outgoing(100.0)[0])
    assert header is not None
    wrong_tag = encode_quic_retry(1, b"retry-id", header.scid, b"not it!!", b"token")
    no_token = encode_quic_retry(1, b"retry-id", header.scid, header.dcid, b"")
    same_id = encode_quic_retry(1, header.dcid, header.scid, header.dcid, b"token")
    for spoofed in (wrong_tag, no_token, same_id):
        ours.receive(spoofed, SERVER, 100.0)
        assert not ours.outgoing(100.0)
    assert dial.state is State.SHAKING


# --- versions ---


def test_a_foreign_version_is_answered_with_ours() -> None:
    server = Ours(limits=Limits())
    foreign = bytearray(first_flight())
    foreign[1:5] = b"\x6b\x33\x43\xcf"  # QUIC version 2
    server.receive(bytes(foreign), CLIENT, 100.0)
    (answer,) = server.outgoing(100.0)
    header = pull_quic_header(Buffer(data=answer))
    assert header.version == 0 and 1 in header.supported_versions and 0x6B3343CF not in header.supported_versions
    sent = parse_long(bytes(foreign))
    assert sent is not None and header.destination_cid == sent.scid and header.source_cid == sent.dcid
    server.receive(bytes(foreign[:1199]), CLIENT, 100.0)
    assert not server.outgoing(100.0), "an answer to a small datagram amplifies"


def test_a_server_of_aioquics_negotiates_down_to_version_1() -> None:
    """aioquic as a client begins with version 2 here; ours answers, and version 1 it is."""
    ours = Ours(limits=Limits())
    plain = Plain.client(100.0, supported_versions=[0x6B3343CF, 1], original_version=0x6B3343CF)
    net = Network(plain, ours)
    assert plain.connection is not None
    plain.connection.connect(SERVER, net.now)
    assert net.run(lambda: bool(plain.got(events.HandshakeCompleted)))
    assert plain.connection._version == 1 and ours.endpoint.counts["version_negotiation"] == 1


def test_a_server_without_version_1_ends_the_dial() -> None:
    ours = Ours()
    dial = ours.dial(100.0)
    header = parse_long(ours.outgoing(100.0)[0])
    assert header is not None
    ours.receive(encode_quic_version_negotiation(header.dcid, header.scid, [0x6B3343CF]), SERVER, 100.0)
    assert dial.failure is not None and dial.failure.why is Why.VERSION


def test_spoofed_version_negotiation_is_ignored() -> None:
    ours, plain = Ours(), Plain()
    net = Network(ours, plain)
    dial = ours.dial(net.now)
    flight = ours.outgoing(net.now)
    header = parse_long(flight[0])
    assert header is not None
    offers_ours = encode_quic_version_negotiation(header.dcid, header.scid, [1, 2])
    other_id = encode_quic_version_negotiation(header.dcid, os.urandom(8), [2])
    for spoofed in (offers_ours, other_id):
        ours.receive(spoofed, SERVER, net.now)
    assert dial.state is State.SHAKING
    for datagram in flight:
        plain.receive(datagram, CLIENT, net.now)
    for datagram in plain.outgoing(net.now)[:1]:
        ours.receive(datagram, SERVER, net.now)
    # after a packet of the server's none is believed
    ours.receive(encode_quic_version_negotiation(header.dcid, header.scid, [2]), SERVER, net.now)
    assert net.run(lambda: dial.state is State.CONFIRMED)


# --- room ---


def test_no_room_is_connection_refused() -> None:
    for limits in (
        Limits(handshakes=2, retry="never"),
        Limits(connections=2, retry="never"),
        Limits(handshakes_per_source=2, retry="never"),
    ):
        server = Ours(limits=limits)
        for _ in range(2):
            server.receive(first_flight(), CLIENT, 100.0)
        server.outgoing(100.0)
        initial = first_flight()
        server.receive(initial, CLIENT, 100.0)
        assert code_of(server.outgoing(100.0)[0], initial) == CONNECTION_REFUSED
        assert server.endpoint.counts["accepted"] == 2
    server.receive(first_flight(), ("198.51.100.7", 1), 100.0)
    assert server.endpoint.counts["accepted"] == 3, "another source has its own room"


def test_no_place_in_the_tables_is_connection_refused() -> None:
    """Before the handshake: afterwards there are no keys left to say it with."""
    client, server = Ours(), Ours(limits=Limits(retry="never"))
    server.realm.places.each = 2
    net = Network(client, server)
    dials = [client.dial(net.now) for _ in range(2)]
    assert net.run(lambda: all(d.state is State.CONFIRMED for d in dials))
    initial = first_flight()
    server.receive(initial, CLIENT, net.now)
    assert code_of(server.outgoing(net.now)[0], initial) == CONNECTION_REFUSED
    dial = client.dial(net.now)
    assert net.run(lambda: dial.failure is not None, seconds=1)
    assert dial.failure is not None and (dial.failure.why, dial.failure.code) == (Why.PEER, CONNECTION_REFUSED)
    server.endpoint.ended(next(iter(server.adopted)), net.now, is_server=True)
    again = client.dial(net.now)
    assert net.run(lambda: again.state is State.CONFIRMED)


@pytest.mark.parametrize("complete", [False, True])
def test_a_handshake_that_is_given_up_gives_its_place_back(complete: bool) -> None:
    """A complete one too that nobody has adopted: it waits for its way."""
    client, server = Ours(adopts=False), Ours(limits=Limits(), adopts=False)
    net = Network(client, server)
    client.dial(net.now)
    acceptor = server.endpoint.acceptor
    assert acceptor is not None
    wanted = State.COMPLETE if complete else State.SHAKING
    assert net.run(lambda: any(s.state is wanted for s in server.endpoint.shakes.values()))
    assert (server.realm.places.taken, acceptor.connections) == (1, 1)
    server.endpoint.abort(next(iter(server.endpoint.shakes)), net.now, 0, "enough")
    assert (server.realm.places.taken, acceptor.connections, len(server.realm.registry)) == (0, 0, 0)


def test_room_comes_back_when_handshakes_die() -> None:
    server = Ours(limits=Limits(handshakes=2, retry="never", timeout=2.0))
    for _ in range(2):
        server.receive(first_flight(), CLIENT, 100.0)
    server.timer(102.0)
    acceptor = server.endpoint.acceptor
    assert acceptor is not None and len(server.failed) == 2
    assert (acceptor.under_way, acceptor.connections, len(acceptor.sources)) == (0, 0, 0)
    assert not server.endpoint.shakes and not len(server.realm.registry)
    server.receive(first_flight(), CLIENT, 102.1)
    assert server.endpoint.counts["accepted"] == 3


# --- hostile Initials ---


def test_at_most_three_times_what_came_goes_to_an_address_that_is_not_proven() -> None:
    server = Ours(limits=Limits(timeout=60.0))
    initial = first_flight()
    server.receive(initial, CLIENT, 100.0)
    sent = 0
    now = 100.0
    while now < 130.0:
        sent += sum(map(len, server.outgoing(now)))
        now += 0.05
        server.timer(now)
    assert 0 < sent <= 3 * len(initial)


def test_tiny_and_short_initials_are_dropped(seed: int) -> None:
    server = Ours(limits=Limits())
    initial = first_flight()
    short_dcid = bytearray(initial)
    short_dcid[5] = 7
    for datagram in (initial[:1199], initial[:20], initial[:7], b"\xc0", b"\xc3\0\0\0\1", bytes(short_dcid)):
        server.receive(datagram, CLIENT, 100.0)
    assert not server.outgoing(100.0) and not server.endpoint.shakes and not len(server.realm.registry)


def test_garbage_is_no_connection_and_no_answer(seed: int) -> None:
    dice = random.Random(seed)
    server = Ours(limits=Limits(retry="never"))
    initial = first_flight()
    for _ in range(300):
        garbage = bytearray(initial)
        for _ in range(dice.randrange(1, 40)):
            garbage[dice.randrange(1 if dice.random() < 0.9 else 0, len(garbage))] = dice.randrange(256)
        server.receive(
            bytes(garbage) if dice.random() < 0.8 else dice.randbytes(dice.randrange(1, 1500)), CLIENT, 100.0
        )
    assert len(server.endpoint.shakes) <= server.endpoint.counts["accepted"]
    # what was accepted could be opened: the bytes that were changed lay in the padding behind the packet, or in nothing
    for datagram in server.outgoing(100.0):
        assert len(datagram) <= 3 * 1500


def test_a_repeated_initial_is_one_connection() -> None:
    client, server = Ours(), Ours(limits=Limits())
    net = Network(client, server)
    dial = client.dial(net.now)
    flight = client.outgoing(net.now)
    for _ in range(3):
        for datagram in flight:
            server.receive(datagram, CLIENT, net.now)
    assert server.endpoint.counts["accepted"] == 1
    assert net.run(lambda: dial.state is State.CONFIRMED)
    for datagram in flight:  # late: the connection is confirmed, and remembered by a tombstone
        server.receive(datagram, CLIENT, net.now)
    assert server.endpoint.counts["accepted"] == 1 and server.endpoint.counts["late"] >= 1
    server.timer(net.now + TOMBSTONE_SECONDS + 1)
    assert not server.endpoint._buried_first


def test_what_is_kept_for_the_engine_is_bounded_and_counted() -> None:
    ours = Ours(adopts=False)
    dial = ours.dial(100.0)
    for n in range(EARLY_DATAGRAMS + 3):
        ours.receive(b"\x40" + dial.own_cid.cid + bytes((n,)) * 30, SERVER, 100.0)
    assert [early.datagram[-1] for early in dial.early] == list(range(EARLY_DATAGRAMS))
    assert (ours.endpoint.counts["kept"], ours.endpoint.counts["keep_dropped"]) == (EARLY_DATAGRAMS, 3)


# --- strays ---


def test_strays_are_answered_with_resets_that_shrink_and_run_out() -> None:
    ours = Ours(limits=Limits())
    cid = os.urandom(8)
    for size, answered in ((RESET_MIN, False), (RESET_MIN + 1, True), (1200, True)):
        ours.receive(b"\x40" + cid + os.urandom(size - 9), CLIENT, 100.0)
        out = ours.outgoing(100.0)
        assert bool(out) is answered
        if out:
            assert RESET_MIN <= len(out[0]) < size and out[0][-16:] == ours.realm.mint.token(cid)
            assert out[0][0] & 0xC0 == 0x40
    for _ in range(1000):
        ours.receive(b"\x40" + os.urandom(50), CLIENT, 100.0)
    assert len(ours.outgoing(100.0)) < RESETS[1]


def test_resets_outlive_the_process_by_their_key() -> None:
    key = os.urandom(32)
    from afterburnerd.quic.cids import Mint, Registry

    cid = Mint(key).make(0, Registry())
    assert Mint(key).token(cid.cid) == cid.token != Mint(os.urandom(32)).token(cid.cid)


def test_a_peers_reset_token_is_recognised_in_a_stray() -> None:
    client, server = Ours(), Ours(limits=Limits())
    token = os.urandom(16)
    client.realm.reset_tokens.add(token, 77)
    client.receive(b"\x40" + os.urandom(20) + token, SERVER, 100.0)
    assert [(r.number) for r in client.resets] == [77] and not client.outgoing(100.0)
    client.realm.reset_tokens.remove(token)
    client.receive(b"\x40" + os.urandom(20) + token, SERVER, 100.0)
    assert len(client.resets) == 1 and len(client.outgoing(100.0)) == 1
    del server


def test_giving_a_dial_up_tells_the_server() -> None:
    client, server = Ours(adopts=False), Ours(limits=Limits(), adopts=False)
    net = Network(client, server)
    dial = client.dial(net.now, Target(SERVER))
    net.run(lambda: bool(server.endpoint.shakes))
    client.endpoint.abort(dial.number, net.now, 0, "enough")
    assert dial.failure is not None and dial.failure.why is Why.ABORTED
    assert net.run(lambda: bool(server.failed), seconds=1)
    assert server.failed[0].failure.why is Why.PEER


def test_an_endpoint_knows_what_is_under_way() -> None:
    client, server = Ours(), Ours(limits=Limits())
    net = Network(client, server)
    client.dial(net.now)
    (initial,) = client.outgoing(net.now)
    assert not server.endpoint.knows(initial)
    server.receive(initial, CLIENT, net.now)
    client.receive(server.outgoing(net.now)[0], SERVER, net.now)
    finished = client.outgoing(net.now)[0]
    assert server.endpoint.knows(finished) and not server.endpoint.knows(b"") and not server.endpoint.knows(b"\xc0")
