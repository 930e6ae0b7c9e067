"""The steps of a handover: what each does, and a kill of either side after every one."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest
from aioquic.quic import events
from aioquic.quic.packet import QuicPacketType

from afterburnerd.abi.layout import Path, QuicClose, QuicCommandKind, QuicEvent, QuicEventKind, QuicOutcome
from afterburnerd.quic.accept import Limits
from afterburnerd.quic.connection import Step
from afterburnerd.quic.dial import Target
from afterburnerd.quic.handover import CONFIRM_SECONDS, STOCK
from afterburnerd.quic.news import RESTARTS
from afterburnerd.quic.tokens import packed_mapped
from afterburnerd.quic.wire import is_short

from .native_worker import NativeWorker, mapped_path
from .rig import SERVER, Network, Plain, long_packets
from .standin import Sealed
from .world import Supervisor

KILLS = int(os.environ.get("AFTERBURNER_KILLS") or 1400)  # 10 ms each; 10,000 with AFTERBURNER_KILLS=10000
STEPS = [Step.HELD, Step.EXPORTED, Step.INSTALLED, Step.ROUTED, Step.INJECTED, Step.CONFIRMED, Step.RELEASED]


ENGINES = ["stand-in", "native"]


def life(engine: str, *, of_client: bool) -> Supervisor:
    """One life of a daemon, with this kind of engine."""
    return Supervisor(
        target=Target(SERVER) if of_client else None,
        limits=None if of_client else Limits(timeout=10.0),
        make_worker=NativeWorker if engine == "native" else None,
        path=mapped_path(client=of_client) if engine == "native" else None,
    )


def world(seed: int = 0, engine: str = "stand-in", **faults: float) -> tuple[Supervisor, Supervisor, Network]:
    client, server = life(engine, of_client=True), life(engine, of_client=False)
    return client, server, Network(client, server, seed=seed, **faults)  # type: ignore[arg-type]


def nonces_are_unique(*lives: list[Sealed]) -> int:
    """No (key, packet number) pair stands for two different packets."""
    seen: dict[tuple[bytes, int], bytes] = {}
    for sealed in lives:
        for packet in sealed:
            other = seen.setdefault((packet.secret, packet.number), packet.packet)
            assert other == packet.packet, f"packet number {packet.number} was sealed twice with one key"
    return len(seen)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_connection_goes_through_all_steps(engine: str) -> None:
    client, server, net = world(engine=engine)
    client.start_worker()
    server.start_worker()
    client.submit(1, b"hello")
    assert net.run(lambda: 1 in client.fates and client.step() is Step.RELEASED)
    assert client.fates[1] is QuicOutcome.ACKNOWLEDGED and server.all_streams() == [b"hello"]
    for end in (client, server):
        (connection,) = end.connections.values()
        assert connection.step is Step.RELEASED
        assert connection.shake is None and not end.endpoint.shakes, "aioquic's object is kept"
        assert len(connection.cids) >= STOCK and set(connection.cids.values()) == set(end.routes.table)
    assert nonces_are_unique(client.all_sealed(), server.all_sealed()) >= 3


def test_secrets_are_wiped_with_the_export() -> None:
    client, server, net = world()
    server.start_worker()
    net.run(lambda: client.step() is Step.HELD)
    (connection,) = client.connections.values()
    assert connection.shake is not None and connection.shake.front is not None
    secret = connection.shake.front.secrets
    assert secret is not None and secret.complete()
    client.start_worker()
    client.frozen = True
    client.turn(net.now)
    assert connection.step is Step.EXPORTED  # type: ignore[comparison-overlap]
    assert connection.shake.front.secrets is None and connection.shake.front.tls.key_schedule is None


def test_connection_ids_are_in_the_map_only_after_the_engine_has_them() -> None:
    client, server, net = world()
    server.start_worker()
    client.start_worker()
    client.frozen = True
    net.run(lambda: client.step() is Step.EXPORTED)
    assert not client.routes.table, "XDP would give packets to an engine that does not know them"
    client.frozen = False
    client.turn(net.now)
    assert len(client.routes.table) == STOCK


def test_early_1rtt_packets_are_injected() -> None:
    client, server, net = world()
    server.start_worker()
    net.run(lambda: client.step() is Step.HELD)
    net.run(lambda: False, seconds=0.05)  # the server's HANDSHAKE_DONE comes meanwhile
    (connection,) = client.connections.values()
    assert connection.shake is not None and connection.shake.early
    client.start_worker()
    client.turn(net.now)
    assert connection.step is Step.RELEASED, "what was kept was lost"
    counts = connection.endpoint.counts
    assert counts["injected"] == counts["kept"] > 0 and not counts["keep_dropped"] + counts["inject_dropped"]


def test_a_client_has_its_token_before_its_first_data_is_acknowledged() -> None:
    """Or one that leaves as soon as it has been heard leaves without, and meets a Retry the next time."""
    client, server, net = world()
    client.start_worker()
    client.submit(1, b"heard")
    assert net.run(lambda: server.step() is Step.HELD and client.step() is Step.INJECTED)
    net.run(lambda: False, seconds=0.05)  # what the client sends meanwhile is kept
    worker, kinds = server.start_worker(), []
    put = worker.put
    worker.put = lambda command, body: kinds.append(command.kind) or put(command, body)  # type: ignore[method-assign]
    assert net.run(lambda: server.step() is Step.RELEASED)
    assert QuicCommandKind.INJECT in kinds
    assert kinds.index(QuicCommandKind.TOKEN) < kinds.index(QuicCommandKind.INJECT)


def test_a_held_connection_is_adopted_by_the_next_worker() -> None:
    """Nothing of a HELD connection went to the worker that died."""
    client, server, net = world()
    server.start_worker()
    net.run(lambda: client.step() is Step.HELD)
    client.kill_worker(net.now)
    client.start_worker()
    client.submit(1, b"still this connection")
    assert net.run(lambda: 1 in client.fates)
    assert len(client.connections) == 1 and not client.closed


def test_a_held_connection_that_no_worker_takes_ends_with_its_idle_timeout() -> None:
    """aioquic forgets it then, so nobody could ever adopt it: it must not stay, and its link must dial anew."""
    client, server, net = world()
    server.start_worker()
    net.run(lambda: client.step() is Step.HELD)
    (connection,) = client.connections.values()
    client.submit(1, b"on the next connection")
    assert net.run(lambda: connection.step is Step.GONE, seconds=60)
    assert client.closed[0].by is QuicClose.IDLE and connection.number not in client.endpoint.shakes
    client.start_worker()
    assert net.run(lambda: 1 in client.fates, seconds=10)


@pytest.mark.parametrize("of_client", [True, False], ids=["client", "server"])
def test_what_no_worker_has_taken_is_closed_by_a_packet_of_ours(of_client: bool) -> None:
    """Nobody has to be waited for: the secrets are still here, and go with the packet."""
    ours, theirs = life("stand-in", of_client=of_client), Plain() if of_client else Plain.client(100.0)
    if theirs.connection is not None:
        theirs.connection.connect(SERVER, 100.0)
    net = Network(ours, theirs) if of_client else Network(theirs, ours)
    assert net.run(lambda: ours.step() is Step.HELD and bool(theirs.got(events.HandshakeCompleted)))
    (connection,) = ours.connections.values()
    front = connection.shake.front if connection.shake is not None else None
    if ours.link is not None:
        ours.link.close()
    ours.handover.close_unexported(net.now, 0, "shutting down")
    assert not ours.handover.connections and not ours.handover.adopted
    assert front is not None and not vars(front), "the secrets are kept"
    assert net.run(lambda: bool(theirs.got(events.ConnectionTerminated)), seconds=1)
    (ended,) = theirs.got(events.ConnectionTerminated)
    assert (ended.error_code, ended.reason_phrase) == (0, "shutting down")
    before = len(net.wire)
    net.run(lambda: False, seconds=3)
    assert not any(sender is of_client for sender, _ in net.wire[before:]), "one packet, and no more"


def test_a_worker_that_is_to_be_replaced_closes_what_it_has_and_what_comes_meanwhile_waits_for_the_next() -> None:
    client, server, net = world(engine="native")
    client.start_worker()
    server.start_worker()
    client.submit(1, b"before")
    assert net.run(lambda: 1 in client.fates)
    client.handover.close_adopted(0, RESTARTS)
    client.submit(2, b"meanwhile")
    assert net.run(lambda: bool(client.closed) and bool(server.closed), seconds=1)
    assert client.closed[0].ours and client.closed[0].by is QuicClose.LOCAL
    assert (server.closed[0].by, server.closed[0].reason) == (QuicClose.PEER, RESTARTS)
    assert not server.closed[0].ours  # its own links would pause
    assert net.run(lambda: client.step() is Step.HELD, seconds=1), "it is dialled at once"
    assert not client.handover.adopted
    net.run(lambda: False, seconds=0.2)
    client.kill_worker(net.now)
    client.start_worker()
    assert net.run(lambda: 2 in client.fates, seconds=5)
    assert set(client.fates.values()) == {QuicOutcome.ACKNOWLEDGED}
    assert sorted(set(server.all_streams())) == [b"before", b"meanwhile"] and len(client.closed) == 1
    assert nonces_are_unique(client.all_sealed(), server.all_sealed()) >= 3


def test_a_client_at_rest_hears_of_the_death_of_its_servers_worker() -> None:
    """Neither end has anything to send, so nothing comes that would be answered."""
    client, server, net = world(engine="native")
    client.start_worker()
    server.start_worker()
    client.submit(1, b"x")
    assert net.run(lambda: 1 in client.fates)
    net.run(lambda: False, seconds=1)
    server.kill_worker(net.now)
    net.collect()
    reset = net.wire[-1][1]
    assert net.run(lambda: bool(client.closed), seconds=0.1)
    assert client.closed[0].by is QuicClose.RESET
    stranger = world()[0]
    stranger.endpoint.receive(reset, SERVER, net.now)
    assert not stranger.endpoint.outgoing and is_short(reset), "who does not know it must have no answer to it"


def test_a_full_ring_delays_and_loses_nothing() -> None:
    client, server, net = world()
    server.start_worker()
    worker = client.start_worker()
    worker.slots = 3
    for token in range(1, 51):
        client.submit(token, b"%d" % token)
    assert net.run(lambda: len(client.fates) == 50)
    assert sorted(server.all_streams(), key=int) == [b"%d" % token for token in range(1, 51)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("lost", [0, 4])
def test_the_token_of_a_connection_spares_the_next_one_its_retry(engine: str, lost: int) -> None:
    """The server gives it in NEW_TOKEN once it has confirmed the handshake, again where that was lost, and each
    connection has its own."""
    client, server, net = world(engine=engine)
    assert server.endpoint.acceptor is not None
    server.endpoint.limit(Limits(timeout=10.0, retry="always"))
    remaining = lost

    def lose_the_first(n: int, datagram: bytes, to_server: bool) -> bool:
        nonlocal remaining
        if to_server or not is_short(datagram) or not remaining:
            return False
        remaining -= 1
        return True

    net.drop = lose_the_first
    client.start_worker()
    server.start_worker()
    assert net.run(lambda: len(client.realm.tokens) == 1 and client.step() is Step.RELEASED)
    assert remaining == 0 and server.endpoint.counts["retry"] == 1
    first = client.realm.tokens.take(SERVER, Target(SERVER).server_name)
    client.realm.tokens.put(SERVER, Target(SERVER).server_name, first)
    client.kill_worker(net.now)
    client.start_worker()
    client.submit(1, b"without a detour")
    assert net.run(lambda: 1 in client.fates and len(client.realm.tokens) == 1)
    assert server.endpoint.counts["retry"] == 1 and server.endpoint.counts["accepted"] == 2
    assert client.realm.tokens.take(SERVER, Target(SERVER).server_name) != first, "a token is for one connection"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("lost", ["none", "odd", "all"])
def test_0rtt_that_the_server_accepts_and_the_network_loses_goes_again(engine: str, lost: str) -> None:
    """Nobody tells us which 0-RTT packets were lost before the adoption. All that was in them is the engine's first, on the
    same streams: each message arrives once and is acknowledged, whatever became of the early ones."""
    client, plain = life(engine, of_client=True), Plain()
    net = Network(client, plain)
    client.start_worker()
    assert net.run(lambda: client.step() is Step.RELEASED and len(client.realm.tickets) > 0)
    client.kill_worker(net.now)
    plain.connection, _ = None, plain.events.clear()
    messages = {token: bytes([token]) * 900 for token in range(1, 7)}
    for token, data in messages.items():
        client.submit(token, data)
    flight, early = client.outgoing, 0

    def spoiled(now: float) -> list[bytes]:
        nonlocal early
        out = []
        for datagram in flight(now):
            data = bytearray(datagram)
            for kind, _, end in long_packets(datagram):
                if kind is QuicPacketType.ZERO_RTT:
                    early += 1
                    if lost == "all" or (lost == "odd" and early % 2):
                        data[end - 1] ^= 1  # no AEAD takes it any more
            out.append(bytes(data))
        return out

    client.outgoing = spoiled  # type: ignore[method-assign]
    client.start_worker()
    assert net.run(lambda: len(client.fates) == len(messages))
    dial = max(client.early.items())[1]
    assert early >= 5 and len(dial.early_messages) == len(messages) and dial.early_accepted
    assert set(client.fates.values()) == {QuicOutcome.ACKNOWLEDGED}
    assert plain.streams() == {4 * n + 2: data for n, data in enumerate(messages.values())}


def test_a_token_goes_with_the_address() -> None:
    """One that moved gets another token: the one that it has is for where it was."""
    client, server, net = world()
    client.start_worker()
    worker = server.start_worker()
    assert net.run(lambda: client.step() is Step.RELEASED and server.step() is Step.RELEASED)
    (connection,) = server.connections.values()
    for host, port, tokens in (("192.0.2.1", 5001, 0), ("192.0.2.77", 5001, 1)):
        worker.commands.clear()
        path = Path(remote=packed_mapped(host), remote_port=port, family=4)
        event = QuicEvent(kind=QuicEventKind.MIGRATED, conn=connection.number)
        server.handover.event(event, path.pack(), net.now)
        given = [body for command, body in worker.commands if command.kind == QuicCommandKind.TOKEN]
        assert len(given) == tokens
        maker = server.realm.token_maker
        assert all(maker.check_new(token, (host, port), net.now) for token in given)


def test_a_refused_adoption_is_told_to_the_peer() -> None:
    """A server's peer learns by a stateless reset when it sends; a client can only try, in a Handshake packet."""
    client, server, net = world()
    client.start_worker().refuses = 1
    server.start_worker()
    assert net.run(lambda: bool(client.closed), seconds=3)
    assert client.closed[0].code == 2 and "full" in client.closed[0].reason
    assert not client.routes.table and client.closed[0].connection.step is Step.GONE

    client, server, net = world()
    client.start_worker()
    server.start_worker().refuses = 1
    client.submit(1, b"into the void")
    assert net.run(lambda: bool(client.closed), seconds=3)
    assert client.closed[0].reason == "stateless reset"


def test_no_room_for_connection_ids_ends_the_connection() -> None:
    client, server, net = world()
    client.start_worker()
    client.routes.room = 2
    server.start_worker()
    assert net.run(lambda: bool(client.closed), seconds=3)
    assert client.closed[0].code == 2


def test_no_stateless_reset_while_a_connection_is_adopted() -> None:
    client, server, net = world()
    client.start_worker()
    server.start_worker()
    assert net.run(lambda: client.step() is Step.RELEASED and server.step() is Step.RELEASED)
    (connection,) = server.connections.values()
    for cid in connection.cids.values():
        server.endpoint.receive(b"\x40" + cid + os.urandom(40), ("198.51.100.1", 9), net.now)
    assert not server.endpoint.outgoing
    server.endpoint.receive(b"\x40" + os.urandom(48), ("198.51.100.1", 9), net.now)
    assert len(server.endpoint.outgoing) == 1


def test_closing_buries_the_connection_ids() -> None:
    client, server, net = world()
    client.start_worker()
    server.start_worker()
    assert net.run(lambda: client.step() is Step.RELEASED)
    (connection,) = client.connections.values()
    cids = list(connection.cids.values())
    assert client.link is not None
    client.link.close()
    client.handover.close(connection, net.now, 0, "done")
    client.turn(net.now)
    assert client.closed and all(client.realm.registry.buried(cid) for cid in cids)
    client.handover.pump(net.now + 6)
    assert not client.routes.table and not any(cid in client.realm.registry for cid in cids)
    assert net.run(lambda: bool(server.closed), seconds=1)


def test_a_server_that_dies_before_it_confirms_is_not_waited_for() -> None:
    """The client's engine repeats nothing then, and would stay silent until the idle timeout."""
    client, server, net = world(engine="native")
    client.start_worker()
    server.worker = None
    server.handover.commands.down(0)
    client.submit(1, b"x")
    assert net.run(lambda: client.step() is Step.INJECTED)
    server.kill()
    net.server = server = life("native", of_client=False)
    server.start_worker()
    began = net.now
    assert net.run(lambda: 1 in client.fates, seconds=10)
    assert net.now - began < CONFIRM_SECONDS + 1


@pytest.mark.parametrize("victim", ["worker", "supervisor"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("engine", ENGINES)
def test_killed_after_every_step(engine: str, step: Step, victim: str, seed: int) -> None:
    """The client's worker, or its supervisor with it, dies right after a step. Its messages all get a fate in the next
    life, and no nonce is used twice."""
    for n in range(max(1, KILLS // (len(STEPS) * 4))):
        kill_once(seed + n, step, victim, of_client=n % 2 == 0, engine=engine)


def kill_once(seed: int, step: Step, victim: str, *, of_client: bool, engine: str) -> None:
    dice = random.Random(seed)
    client, server, net = world(seed, engine, loss=0.1 * dice.random(), duplicate=0.1, jitter=0.004)
    ends = {True: client, False: server}
    client.start_worker()
    server.start_worker()
    mark = ends[of_client]
    if step is Step.HELD:
        mark.worker = None
        mark.handover.commands.down(0)
    if step is Step.EXPORTED:
        mark.frozen = True
    messages = {token: b"message %d of %d" % (token, seed) for token in range(1, 6)}
    for token, data in messages.items():
        assert client.submit(token, data)
    reached = net.run(lambda: (now := mark.step()) is not None and step <= now < Step.GONE, seconds=10)
    assert reached, f"seed {seed}: never came to {step.name}"
    net.run(lambda: False, seconds=dice.random() * 0.02)
    lives = []
    if victim == "worker":
        mark.kill_worker(net.now)
        mark.frozen = False
        net.run(lambda: False, seconds=dice.random() * 0.3)  # XDP drops what comes for it meanwhile
        mark.start_worker()
    else:
        lives.append(mark.all_sealed())
        mark.kill()
        fates, streams = mark.fates, mark.all_streams()
        mark = life(engine, of_client=of_client)
        mark.streams, mark.fates = streams, fates
        mark.start_worker()
        if of_client:
            net.client = client = mark
            for token, data in messages.items():
                if token not in fates:
                    client.submit(token, data)  # the application's own memory
        else:
            net.server = server = mark
    done = net.run(lambda: len(client.fates) == len(messages), seconds=60)
    assert done, f"seed {seed}: {len(client.fates)} of {len(messages)} have a fate"
    assert set(client.fates.values()) == {QuicOutcome.ACKNOWLEDGED}
    arrived = Counter(server.all_streams())
    assert set(arrived) == set(messages.values()), f"seed {seed}: lost"
    nonces_are_unique(*lives, client.all_sealed(), server.all_sealed())


def test_on_the_wire_no_nonce_is_used_twice(seed: int) -> None:
    """The same, looked at from the wire: packets with a short header that left, each different from all others."""
    client, server, net = world(seed, loss=0.2, duplicate=0.1, jitter=0.01)
    client.start_worker()
    server.start_worker()
    for token in range(1, 30):
        client.submit(token, b"%d" % token)
        net.run(lambda: False, seconds=0.2)
        if token % 5 == 0:
            client.kill_worker(net.now)
            client.start_worker()
    assert net.run(lambda: len(client.fates) == 29, seconds=60)
    sent = [d for _, d in net.wire if is_short(d)]
    assert len(sent) > 10
    assert nonces_are_unique(client.all_sealed(), server.all_sealed()) >= 29
