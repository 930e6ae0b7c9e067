"""Handshakes with aioquic as the peer, both roles: the secrets are caught, nothing of 1-RTT is sent, the engine takes over."""

from __future__ import annotations

import pytest
from aioquic._buffer import Buffer
from aioquic.quic import events
from aioquic.quic.packet import pull_quic_transport_parameters
from aioquic.tls import CipherSuite, Epoch

from afterburnerd.quic.accept import Limits
from afterburnerd.quic.dial import Target
from afterburnerd.quic.hello import CIPHER_SUITES
from afterburnerd.quic.identity import Identity
from afterburnerd.quic.params import Params
from afterburnerd.quic.shake import State, Why
from afterburnerd.quic.wire import is_short, parse_long, split

from .rig import CLIENT, SERVER, Network, Ours, Plain


def suites(first: CipherSuite) -> tuple[CipherSuite, ...]:
    return (first,)


@pytest.mark.parametrize("suite", CIPHER_SUITES)
def test_a_client_of_ours_and_a_server_of_aioquics(suite: CipherSuite) -> None:
    ours, plain = Ours(suites=(suite,)), Plain()
    net = Network(ours, plain)
    dial = ours.dial(net.now)
    assert net.run(lambda: dial.state is State.CONFIRMED)
    ours.engine.send(dial.number, 7, b"a transaction")
    assert net.run(lambda: bool(ours.got("done")))
    assert plain.streams() == {2: b"a transaction"}
    assert ours.engine.conns[dial.number].crypto.send.cipher_suite == suite
    assert dial.front is None, "aioquic's object lives on after the confirmation"


@pytest.mark.parametrize("suite", CIPHER_SUITES)
def test_a_server_of_ours_and_a_client_of_aioquics(suite: CipherSuite) -> None:
    ours = Ours(limits=Limits())
    plain = Plain.client(100.0, cipher_suites=[suite])
    assert plain.connection is not None
    net = Network(plain, ours)
    plain.connection.connect(SERVER, net.now)
    assert net.run(lambda: bool(plain.got(events.HandshakeCompleted)))
    plain.connection.send_stream_data(2, b"a transaction", end_stream=True)
    assert net.run(lambda: bool(ours.got("stream")))
    assert ours.got("stream")[0][3] == b"a transaction"
    assert net.run(lambda: plain.connection is not None and plain.connection._handshake_confirmed)
    assert ours.shakes[0].front is None


def test_both_ends_of_ours() -> None:
    client, server = Ours(), Ours(limits=Limits())
    net = Network(client, server)
    dial = client.dial(net.now)
    assert net.run(lambda: dial.state is State.CONFIRMED)
    client.engine.send(dial.number, 1, b"there")
    accept = server.shakes[0]
    server.engine.send(accept.number, 2, b"and back")
    assert net.run(lambda: bool(client.got("done") and server.got("done")))
    assert server.got("stream")[0][3] == b"there" and client.got("stream")[0][3] == b"and back"


def test_aioquic_never_holds_a_1rtt_key_and_sends_no_1rtt_packet() -> None:
    """Without an engine behind it a front completes, and not one packet with a short header leaves it, ever."""
    for ours_is_client in (True, False):
        ours = Ours(limits=None if ours_is_client else Limits(), adopts=False)
        plain = Plain() if ours_is_client else Plain.client(100.0)
        net = Network(ours, plain) if ours_is_client else Network(plain, ours)
        if ours_is_client:
            ours.dial(net.now)
        else:
            assert plain.connection is not None
            plain.connection.connect(SERVER, net.now)
        assert net.run(lambda ours=ours: bool(ours.shakes) and ours.shakes[0].state is State.COMPLETE)
        front = ours.shakes[0].front
        assert front is not None and front.secrets is not None and front.secrets.complete()
        net.run(lambda: False, seconds=10)
        assert not front._cryptos[Epoch.ONE_RTT].send.is_valid() and not front._cryptos[Epoch.ONE_RTT].recv.is_valid()
        for to_server, datagram in net.wire:
            if to_server is ours_is_client:
                assert not is_short(datagram) and not split(datagram)[1]


def test_what_we_offer_comes_first_in_the_order_of_validators() -> None:
    ours, plain = Ours(), Plain(cipher_suites=list(reversed(CIPHER_SUITES)))
    net = Network(ours, plain)
    dial = ours.dial(net.now)
    front = dial.front
    assert front is not None
    assert next(int(s) for s in front.tls._cipher_suites) == CipherSuite.AES_128_GCM_SHA256
    assert front.tls._signature_algorithms[0] == 0x0807  # ed25519
    assert [int(g) for g in front.tls._supported_groups] == [0x1D]  # x25519
    header = parse_long(net.client.outgoing(net.now)[0])
    assert header is not None and header.version == 1 and len(header.scid) == 8


def test_our_transport_parameters_are_those_of_the_configuration() -> None:
    params = Params(
        max_idle_timeout_ms=12_345,
        max_udp_payload_size=1400,
        max_data=111_111,
        max_stream_data_bidi_local=1,
        max_stream_data_bidi_remote=2,
        max_stream_data_uni=3333,
        max_streams_bidi=4,
        max_streams_uni=555,
        ack_delay_exponent=6,
        max_ack_delay_ms=7,
        active_cid_limit=8,
        max_datagram_frame_size=999,
        disable_active_migration=True,
    )
    ours, plain = Ours(params=params), Plain()
    net = Network(ours, plain)
    dial = ours.dial(net.now)
    assert net.run(lambda: dial.state is State.CONFIRMED)
    assert plain.connection is not None
    sent = next(data for number, data in plain.connection.tls.received_extensions or [] if number == 0x39)
    read = pull_quic_transport_parameters(Buffer(data=sent))
    assert (read.max_idle_timeout, read.max_udp_payload_size, read.initial_max_data) == (12_345, 1400, 111_111)
    assert (read.initial_max_stream_data_bidi_local, read.initial_max_stream_data_bidi_remote) == (1, 2)
    assert (read.initial_max_stream_data_uni, read.initial_max_streams_bidi, read.initial_max_streams_uni) == (
        3333,
        4,
        555,
    )
    assert (read.ack_delay_exponent, read.max_ack_delay, read.active_connection_id_limit) == (6, 7, 8)
    assert read.max_datagram_frame_size == 999 and read.disable_active_migration
    assert read.stateless_reset_token is None and read.original_destination_connection_id is None
    assert read.version_information is None


def test_a_client_certificate_is_presented_and_seen_on_either_side() -> None:
    ours, plain = Ours(), Plain()
    plain.ask_certificate = True
    net = Network(ours, plain)
    dial = ours.dial(net.now)
    assert net.run(lambda: dial.state is State.CONFIRMED)
    assert plain.connection is not None and plain.connection.tls._peer_certificate is not None
    assert plain.connection.tls._peer_certificate == ours.identity.certificate

    client, server = Ours(), Ours(limits=Limits())
    net = Network(client, server)
    dial = client.dial(net.now)
    assert net.run(lambda: dial.state is State.CONFIRMED)
    accept = server.shakes[0]
    assert accept.peer.public == client.identity.public  # type: ignore[attr-defined]


def test_a_client_without_a_certificate_is_served() -> None:
    ours, plain = Ours(limits=Limits()), Plain.client(100.0)
    assert plain.connection is not None
    net = Network(plain, ours)
    plain.connection.connect(SERVER, net.now)
    assert net.run(lambda: bool(plain.got(events.HandshakeCompleted)) and bool(ours.shakes))
    assert ours.shakes[0].peer.public == b""  # type: ignore[attr-defined]


def test_a_pinned_key_must_be_the_servers() -> None:
    server_identity = Identity.generate()
    for pin, good in ((server_identity.public, True), (Identity.generate().public, False)):
        client, server = Ours(), Ours(limits=Limits(), identity=server_identity)
        net = Network(client, server)
        dial = client.dial(net.now, Target(SERVER, pin=pin))
        net.run(lambda dial=dial: dial.state in (State.CONFIRMED, State.FAILED))
        assert dial.state is (State.CONFIRMED if good else State.FAILED)
        if not good:
            assert dial.failure is not None and dial.failure.code == 0x100 + 42  # bad_certificate
            net.run(lambda server=server: bool(server.failed), seconds=1)
            assert not server.shakes or server.failed, "the server was not told"


def test_the_round_trip_is_measured_below_a_millisecond() -> None:
    client, server = Ours(adopts=False), Ours(limits=Limits(), adopts=False)
    net = Network(client, server, delay=0.00005)
    dial = client.dial(net.now)
    assert net.run(lambda: dial.state is State.COMPLETE and bool(server.shakes))
    for shake in (dial, server.shakes[0]):
        assert shake.front is not None and shake.front.rtt is not None
        assert 0.00009 < shake.front.rtt < 0.0002


@pytest.mark.parametrize("loss", [0.1, 0.3])
def test_handshakes_survive_loss_duplication_and_reordering(seed: int, loss: float) -> None:
    done = 0
    for n in range(12):
        client, server = Ours(), Ours(limits=Limits(timeout=30.0))
        net = Network(client, server, seed=seed + n, loss=loss, duplicate=0.2, jitter=0.03)
        dial = client.dial(net.now, Target(SERVER, timeout=30.0))
        assert net.run(lambda dial=dial: dial.state is State.CONFIRMED, seconds=60), f"seed {seed + n}"
        client.engine.send(dial.number, 1, b"x" * 100)
        assert net.run(lambda client=client: bool(client.got("done")), seconds=60), f"seed {seed + n}"
        assert [e[3] for e in server.got("stream")] == [b"x" * 100], f"seed {seed + n}"
        done += 1
    assert done == 12


def test_nobody_answers() -> None:
    ours = Ours()
    net = Network(ours, Plain(), drop=lambda n, d, s: True)
    dial = ours.dial(net.now)
    start = net.now
    assert net.run(lambda: dial.state is State.FAILED)
    assert dial.failure is not None and dial.failure.why is Why.TIMEOUT
    assert net.now - start == pytest.approx(4.0)
    sent = len(net.wire)
    assert 3 <= sent <= 8, "the first flight is repeated, with a growing pause"


def test_1rtt_before_the_adoption_is_kept_and_not_lost() -> None:
    """The server's first 1-RTT packets overtake its Handshake packets."""
    plain, ours = Plain(), Ours(adopts=False)
    net = Network(ours, plain)
    dial = ours.dial(net.now)
    assert net.run(lambda: dial.state is State.COMPLETE)
    net.run(lambda: bool(dial.early), seconds=2)
    assert dial.early and all(is_short(e.datagram) for e in dial.early)
    ours.adopts = True
    ours.adopt(dial, net.now)
    assert net.run(lambda: dial.state is State.CONFIRMED, seconds=0.05), "what was kept held HANDSHAKE_DONE"


def test_datagrams_of_another_address_do_not_reach_a_handshake() -> None:
    client, server = Ours(adopts=False), Ours(limits=Limits(), adopts=False)
    net = Network(client, server)
    dial = client.dial(net.now)
    first = net.client.outgoing(net.now)
    for datagram in first:
        server.receive(datagram, CLIENT, net.now)
    answer = server.outgoing(net.now)
    for datagram in answer:
        client.receive(datagram, ("203.0.113.9", 8000), net.now)
    assert dial.state is State.SHAKING and not client.outgoing(net.now)
    for datagram in answer:
        client.receive(datagram, SERVER, net.now)
    assert dial.state is State.COMPLETE
