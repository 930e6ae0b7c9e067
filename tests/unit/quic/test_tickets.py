"""Resumption and 0-RTT, with tickets that come after aioquic's object is gone."""

from __future__ import annotations

import pytest
from aioquic.quic.events import HandshakeCompleted
from aioquic.quic.packet import QuicPacketType
from aioquic.tls import SessionTicket

from afterburnerd.abi.layout import Path
from afterburnerd.quic.accept import Limits
from afterburnerd.quic.dial import EarlyMessage, Target
from afterburnerd.quic.export import export
from afterburnerd.quic.identity import Identity
from afterburnerd.quic.shake import State, Why
from afterburnerd.quic.tickets import (
    CRYPTO_BUFFER_EXCEEDED,
    CRYPTO_LIMIT,
    PER_SERVER,
    UNEXPECTED_MESSAGE,
    CryptoViolation,
    TicketStore,
)

from .rig import SERVER, Network, Ours, Plain, long_kinds

NAME = Target(SERVER).server_name


def earn(ours: Ours, server: Ours | Plain) -> None:
    """A first connection, for its ticket."""
    net = Network(ours, server)
    dial = ours.dial(net.now)
    assert net.run(lambda: dial.state is State.CONFIRMED and len(ours.realm.tickets) > 0)
    assert dial.front is None
    if isinstance(server, Plain):
        server.connection = None
        server.events.clear()


def test_resumption_with_a_server_of_aioquics() -> None:
    ours, plain = Ours(), Plain()
    earn(ours, plain)
    net = Network(ours, plain)
    dial = ours.dial(net.now)
    assert net.run(lambda: dial.state is State.CONFIRMED)
    assert dial.resumed and plain.connection is not None and plain.connection.tls.session_resumed


def test_resumption_between_our_ends_keeps_the_identities() -> None:
    server_identity = Identity.generate()
    ours, server = Ours(), Ours(limits=Limits(), identity=server_identity)
    earn(ours, server)
    for _ in range(2):  # a resumed connection earns the next ticket
        net = Network(ours, server)
        dial = ours.dial(net.now, Target(SERVER, pin=server_identity.public))
        assert net.run(lambda dial=dial: dial.state is State.CONFIRMED and len(ours.realm.tickets) > 0)
        assert dial.resumed and server.shakes[-1].resumed  # type: ignore[attr-defined]
        assert server.shakes[-1].peer.public == ours.identity.public  # type: ignore[attr-defined]


def test_a_ticket_is_not_shown_where_another_key_is_pinned() -> None:
    ours, server = Ours(), Ours(limits=Limits())
    earn(ours, server)
    net = Network(ours, server)
    dial = ours.dial(net.now, Target(SERVER, pin=Identity.generate().public))
    net.run(lambda: dial.state in (State.CONFIRMED, State.FAILED))
    assert dial.state is State.FAILED and not dial.resumed


def test_a_ticket_is_used_once() -> None:
    ours, server = Ours(), Ours(limits=Limits())
    earn(ours, server)
    assert ours.realm.tickets.take(SERVER, NAME) is not None
    assert ours.realm.tickets.take(SERVER, NAME) is None


def test_a_server_that_forgot_shakes_hands_in_full() -> None:
    ours, plain = Ours(), Plain()
    earn(ours, plain)
    plain.resumes = False
    net = Network(ours, plain)
    dial = ours.dial(net.now)
    assert net.run(lambda: dial.state is State.CONFIRMED)
    assert not dial.resumed


MESSAGES = tuple(EarlyMessage(100 + n, b"early %d" % n) for n in range(3))


@pytest.mark.parametrize("accepts", [True, False])
def test_0rtt_accepted_and_rejected(accepts: bool) -> None:
    ours, plain = Ours(), Plain()
    earn(ours, plain)
    plain.resumes = accepts
    net = Network(ours, plain)
    dial = ours.dial(net.now, messages=MESSAGES)
    flight = list(ours.endpoint.outgoing)
    assert QuicPacketType.ZERO_RTT in {kind for outgoing in flight for kind in long_kinds(outgoing.datagram)}
    assert net.run(lambda: len(ours.got("done")) == 3)
    assert dial.early_accepted is accepts
    # the same streams, each once, whatever became of the 0-RTT packets
    assert plain.streams() == {2: b"early 0", 6: b"early 1", 10: b"early 2"}
    assert sorted(e[2] for e in ours.got("done")) == [100, 101, 102]
    ours.engine.send(dial.number, 5, b"later")
    assert net.run(lambda: len(ours.got("done")) == 4)
    assert plain.streams()[14] == b"later"


def test_the_exported_state_says_which_packets_0rtt_were() -> None:
    ours, plain = Ours(adopts=False), Plain()
    helper = Ours(realm=ours.realm, identity=ours.identity)
    earn(helper, plain)
    net = Network(ours, plain)
    dial = ours.dial(net.now, messages=MESSAGES)
    assert net.run(lambda: dial.state is State.COMPLETE)
    assert dial.front is not None
    adopt = export(dial.front, dial.number, Path(), [dial.own_cid], early_accepted=dial.early_accepted, early_streams=3)
    assert adopt.early_accepted == 1 and adopt.early_count == 1
    assert adopt.early[0].first == 1 and adopt.early[0].last < adopt.next_pn
    assert adopt.early_uni == 3, "the same messages go again, on the same streams"


def test_0rtt_data_lost_with_a_retry_goes_again() -> None:
    """A Retry makes aioquic forget what it had sent; the messages are the engine's first."""
    ours, server = Ours(), Plain()
    earn(ours, server)
    mine = Ours(limits=Limits(retry="always"))
    net = Network(ours, mine)
    dial = ours.dial(net.now, messages=MESSAGES)
    assert net.run(lambda: len(ours.got("done")) == 3)
    assert dial.early_messages and not dial.early_accepted
    assert [e[3] for e in mine.got("stream")] == [m.data for m in MESSAGES]


def test_our_server_refuses_0rtt_and_its_tickets_promise_none() -> None:
    ours, server = Ours(), Ours(limits=Limits())
    earn(ours, server)
    ticket = ours.realm.tickets.take(SERVER, NAME)
    assert ticket is not None and not ticket.early_data
    # one that pretends otherwise is resumed, without its early data
    object.__setattr__(ticket.session, "max_early_data_size", 0xFFFFFFFF)
    ours.realm.tickets.put(SERVER, NAME, ticket)
    net = Network(ours, server)
    dial = ours.dial(net.now, messages=MESSAGES)
    assert dial.early_messages
    assert net.run(lambda: len(ours.got("done")) == 3)
    assert dial.resumed and not dial.early_accepted
    assert [e[3] for e in server.got("stream")] == [m.data for m in MESSAGES]


def test_a_client_hears_that_its_0rtt_was_rejected_and_nothing_is_lost_or_doubled() -> None:
    """aioquic, with a ticket that it takes for one that allows 0-RTT: our server's TLS says no, in so many words."""
    kept: list[SessionTicket] = []
    server = Ours(limits=Limits())
    first = Plain.client(100.0, kept.append)
    assert first.connection is not None
    first.connection.connect(SERVER, 100.0)
    assert Network(first, server).run(lambda: bool(kept))
    object.__setattr__(kept[0], "max_early_data_size", 0xFFFFFFFF)
    second = Plain.client(200.0, session_ticket=kept[0])
    assert second.connection is not None
    second.connection.connect(SERVER, 200.0)
    for n in range(3):
        second.connection.send_stream_data(4 * n + 2, MESSAGES[n].data, end_stream=True)
    net = Network(second, server)
    assert net.run(lambda: len(server.got("stream")) == 3)
    net.run(lambda: False, seconds=2)
    assert QuicPacketType.ZERO_RTT in {kind for to_server, data in net.wire if to_server for kind in long_kinds(data)}
    (said,) = second.got(HandshakeCompleted)
    assert said.session_resumed and not said.early_data_accepted
    assert not second.connection.tls.early_data_accepted
    assert sorted(e[3] for e in server.got("stream")) == [m.data for m in MESSAGES]  # streams have no order


def test_limits_that_shrink_under_0rtt_are_a_violation() -> None:
    ours, plain = Ours(), Plain(max_data=1 << 20)
    earn(ours, plain)
    plain.configuration["max_data"] = 1000
    net = Network(ours, plain)
    dial = ours.dial(net.now, messages=MESSAGES)
    net.run(lambda: dial.state in (State.CONFIRMED, State.FAILED))
    assert dial.failure is not None and dial.failure.why is Why.ERROR and dial.failure.code == 0x0A


def test_0rtt_takes_what_the_remembered_limits_allow() -> None:
    ours, plain = Ours(), Plain()
    earn(ours, plain)
    many = tuple(EarlyMessage(n, b"x" * 1000) for n in range(40))
    dial = ours.dial(200.0, messages=many)
    assert 5 < len(dial.early_messages) < 15 and dial.early_messages == many[: len(dial.early_messages)]


# --- the shim ---


def shim_of(ours: Ours, server: Ours) -> tuple[bytes, object]:
    net = Network(ours, server)
    dial = ours.dial(net.now)
    assert net.run(lambda: dial.state is State.CONFIRMED and bool(ours.got("crypto")))
    return b"".join(e[3] for e in ours.got("crypto")), dial.shim


def test_tickets_may_come_in_any_pieces() -> None:
    ours, server = Ours(), Ours(limits=Limits())
    net = Network(ours, server)
    server.adopts = False
    dial = ours.dial(net.now)
    assert net.run(lambda: bool(server.shakes) and server.shakes[0].front is not None and dial.shim is not None)
    front = server.shakes[0].front
    assert front is not None and dial.shim is not None
    data = front.pending_crypto()
    found = []
    for at in range(0, len(data), 7):
        found += dial.shim.feed(at, data[at : at + 7])
        found += dial.shim.feed(at, data[at : at + 7])  # a repetition
    assert len(found) == 1 and found[0].peer.public == server.identity.public
    with pytest.raises(ValueError):
        dial.shim.feed(len(data) + 1, b"a hole")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\x18\0\0\1\0", UNEXPECTED_MESSAGE),  # KeyUpdate is not for QUIC
        (b"\x04" + (CRYPTO_LIMIT + 1).to_bytes(3, "big"), CRYPTO_BUFFER_EXCEEDED),
        (b"\x04\0\0\3abc", 0x100 + 50),
    ],
)
def test_what_is_no_ticket_closes_the_connection(message: bytes, code: int) -> None:
    ours, server = Ours(), Ours(limits=Limits())
    _, shim = shim_of(ours, server)
    with pytest.raises(CryptoViolation) as caught:
        shim.feed(shim.offset, message)  # type: ignore[attr-defined]
    assert caught.value.code == code


def test_the_store_is_bounded() -> None:
    ours, server = Ours(), Ours(limits=Limits())
    earn(ours, server)
    ticket = ours.realm.tickets.take(SERVER, NAME)
    assert ticket is not None
    store = TicketStore(limit=3)
    for port in range(5):
        for _ in range(5):
            store.put(("192.0.2.2", port), NAME, ticket)
    assert len(store) == 3 * PER_SERVER
    assert store.take(("192.0.2.2", 0), NAME) is None and store.take(("192.0.2.2", 4), NAME) is not None
