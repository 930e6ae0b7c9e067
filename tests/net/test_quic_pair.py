"""Two data planes' loops with their QUIC engines, over veth, by every pair of backends: what goes in comes out, and all adds up."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from afterburnerd.abi.layout import (
    QUIC_EVENT_BYTES,
    QuicCommandKind,
    QuicEventKind,
    QuicOutcome,
    QuicRefusal,
    QuicSend,
    RecordKind,
)
from afterburnerd.abi.rings import Ring
from afterburnerd.native import lib
from tests import netns, waiting
from tests.net.quicpair import CONN, By, Pair, Side

pytestmark = [pytest.mark.privileged, pytest.mark.bpf]

WAYS: list[tuple[By, By]] = [("afxdp", "afxdp"), ("socket", "socket"), ("afxdp", "socket"), ("socket", "afxdp")]


@contextmanager
def pair(client: tuple[By, By], server: tuple[By, By], seed: int, version: int = 4, **config: int) -> Iterator[Pair]:
    with netns.pair(mtu=max(1500, config.get("mtu", 0))) as rig:
        # veth leaves the checksums of the kernel's sockets half done; ours are whole
        verify = client[1] == server[1] == "afxdp"
        made = Pair(
            Side("client", rig, *client, version=version, verify=verify, **config),
            Side("server", rig, *server, version=version, verify=verify, **config),
            seed,
        )
        try:
            made.until(
                lambda: all(s.told(QuicEventKind.ADOPTED) for s in (made.client, made.server)), "both ends adopt"
            )
            for side in (made.client, made.server):
                ((event, _),) = side.told(QuicEventKind.ADOPTED)
                assert (event.code, event.number, event.conn) == (QuicRefusal.NONE, 1, CONN)
            yield made
            for side in (made.client, made.server):
                assert all(side.word("frame_errors", slot) == 0 for slot in (0, 1))
        finally:
            made.close()


def exchange(made: Pair, rng: random.Random, count: int, sizes: tuple[int, int] = (1, 1232)) -> None:
    """Messages both ways; each is received once, whole, and reported as acknowledged."""
    sides = {"client": made.client, "server": made.server}
    waiting = {name: [rng.randbytes(rng.randint(*sizes)) for _ in range(count)] for name in sides}
    sent = {name: sorted(messages) for name, messages in waiting.items()}
    got: dict[str, list[bytes]] = {name: [] for name in sides}
    parts: dict[tuple[str, int], bytes] = {}
    tokens = 0

    def step() -> bool:
        nonlocal tokens
        for name, side in sides.items():
            while waiting[name] and side.commands.room > 3:
                tokens += 1
                side.send(waiting[name].pop(), token=tokens)
            for record, data, body in side.received():
                assert (record.kind, data.conn, data.reset) == (RecordKind.STREAM, CONN, 0)
                assert (record.sport, record.dport) == (side.path.remote_port, side.path.local_port)
                assert (record.src, record.dst) == (side.path.remote, side.path.local)
                whole = parts.pop((name, data.stream), b"")
                assert len(whole) == data.offset
                whole += body
                if data.fin:
                    got[name].append(whole)
                else:
                    parts[name, data.stream] = whole
        return all(len(side.told(QuicEventKind.DONE)) == count for side in sides.values()) and all(
            len(g) == count for g in got.values()
        )

    made.until(step, f"{count} messages each way")
    assert sorted(got["server"]) == sent["client"] and sorted(got["client"]) == sent["server"]
    done = [e for side in sides.values() for e, _ in side.told(QuicEventKind.DONE)]
    assert sorted(e.token for e in done) == list(range(1, tokens + 1))
    assert {e.code for e in done} == {QuicOutcome.ACKNOWLEDGED}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("server", WAYS, ids=lambda w: f"server-{w[0]}-{w[1]}")
@pytest.mark.parametrize("client", WAYS, ids=lambda w: f"client-{w[0]}-{w[1]}")
def test_messages_arrive_both_ways(client: tuple[By, By], server: tuple[By, By], version: int, seed: int) -> None:
    with pair(client, server, seed, version) as made:
        exchange(made, random.Random(seed), 300)


@pytest.mark.parametrize("way", [("afxdp", "afxdp"), ("socket", "socket")], ids=["afxdp", "socket"])
def test_long_messages_come_in_several_commands_and_several_packets(way: tuple[By, By], seed: int) -> None:
    with pair(way, way, seed) as made:
        exchange(made, random.Random(seed), 30, (4000, 12_000))


def test_few_frames_slow_it_down_and_lose_nothing(seed: int) -> None:
    """Sending takes the half of the packet memory that is not for receiving, and no frame more. What has been received goes back to
    the kernel a batch at a time, here of a few frames (native/xsk.h, ab_xsk_short)."""
    way: tuple[By, By] = ("afxdp", "afxdp")
    with pair(way, way, seed, frames=64) as made:
        exchange(made, random.Random(seed), 500)
        for side in (made.client, made.server):
            assert 32 - 8 < side.word("frames_rx", 0) <= 32


@pytest.mark.parametrize(("frames", "ring"), [(64, 64), (256, 64)])
@pytest.mark.parametrize("server", WAYS[:3], ids=lambda w: f"server-{w[0]}-{w[1]}")
def test_packets_that_take_several_frames_go_by_few(server: tuple[By, By], frames: int, ring: int, seed: int) -> None:
    """Of 64 frames of 2 KiB the half that is for sending is six packets of five frames; and 192 frames want to be sent at once where
    the ring has 64 places."""
    with pair(("afxdp", "afxdp"), server, seed, frames=frames, ring=ring, mtu=9000) as made:
        exchange(made, random.Random(seed), 300, (1, 10_000))
        for side in (made.client, made.server):
            for slot in (0, 1):
                owned = [side.word(f"frames_{owner}", slot) for owner in ("rx", "worker", "tx")]
                assert side.word("frames", slot) == sum(owned)
                # A packet counts once, however many frames it took.
                sent, done = side.word("tx_packets", slot), side.word("tx_completed", slot)
                assert sent - frames <= done <= sent
        # Packets that took several, unless all were acknowledgements.
        assert made.client.word("tx_bytes", 0) > 2048 * made.client.word("tx_packets", 0) / 2


def test_a_socket_that_is_full_pushes_back_and_loses_nothing(seed: int) -> None:
    way: tuple[By, By] = ("socket", "socket")
    with pair(way, way, seed, sndbuf=2304) as made:
        exchange(made, random.Random(seed), 300)
        for side in (made.client, made.server):
            assert side.word("tx_packets", 0) == side.word("tx_completed", 0) + side.word("tx_dropped", 0)


def test_datagrams_arrive_as_such(seed: int) -> None:
    with pair(("afxdp", "afxdp"), ("socket", "socket"), seed) as made:
        made.client.send(b"a datagram", token=1, how=QuicSend.DATAGRAM)
        found = []
        made.until(lambda: bool(found.extend(made.server.received()) or found), "the datagram")
        ((record, data, body),) = found
        assert (record.kind, data.conn, body) == (RecordKind.QUIC_DATAGRAM, CONN, b"a datagram")


def test_a_close_is_told_at_both_ends(seed: int) -> None:
    with pair(("afxdp", "afxdp"), ("afxdp", "afxdp"), seed) as made:
        exchange(made, random.Random(seed), 10)
        made.client.command(QuicCommandKind.CLOSE, b"enough", code=42, flags=1)
        made.until(lambda: all(s.told(QuicEventKind.CLOSED) for s in (made.client, made.server)), "both ends close")
        ((event, body),) = made.server.told(QuicEventKind.CLOSED)
        assert (event.code, event.is_app, body[-6:]) == (42, 1, b"enough")


def test_what_cannot_be_done_is_refused_with_its_number(seed: int) -> None:
    with pair(("socket", "socket"), ("socket", "socket"), seed) as made:
        numbers = [
            made.client.command(QuicCommandKind.PING, conn=99),
            made.client.command(QuicCommandKind.SEND, b"x", how=QuicSend.STREAM, stream=400, token=5),
            made.client.command(QuicCommandKind.PATH, b"short"),
            made.client.command(77),  # type: ignore[arg-type]
        ]
        made.until(lambda: len(made.client.told(QuicEventKind.REFUSED)) == len(numbers), "refusals")
        assert [e.number for e, _ in made.client.told(QuicEventKind.REFUSED)] == numbers
        assert all(e.code > 0 for e, _ in made.client.told(QuicEventKind.REFUSED))


def test_an_adoption_that_is_not_sound_is_refused(seed: int) -> None:
    with pair(("socket", "socket"), ("socket", "socket"), seed) as made:
        made.client.command(QuicCommandKind.ADOPT, b"too short")
        made.until(lambda: len(made.client.told(QuicEventKind.ADOPTED)) == 2, "an answer")
        assert made.client.told(QuicEventKind.ADOPTED)[1][0].code == QuicRefusal.LENGTH


def test_the_secrets_of_an_adoption_are_wiped(seed: int) -> None:
    with pair(("socket", "socket"), ("socket", "socket"), seed) as made:
        for side in (made.client, made.server):
            assert bytes(side.command_ring.slot(0)) == bytes(4096)


def test_what_is_not_the_engines_goes_on_to_the_supervisor(seed: int) -> None:
    """On sockets a unit of GRO may bring a long header; and a connection ID that nobody has may come."""
    with pair(("socket", "socket"), ("socket", "socket"), seed) as made:
        with made.client.end.entered():
            stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        long, unknown = b"\xc3" + bytes(50), b"\x43" + b"nobody's" + bytes(50)
        for datagram in (long, unknown):
            stranger.sendto(datagram, (str(made.server.local), made.server.path.local_port))
        made.until(lambda: len(made.server.told(QuicEventKind.STRAY)) == 2, "both are passed on")
        assert [body[40:] for _, body in made.server.told(QuicEventKind.STRAY)] == [long, unknown]
        stranger.close()
        exchange(made, random.Random(seed), 10)


def test_strays_are_passed_on_however_many_came_before_and_counted_where_they_find_no_room(seed: int) -> None:
    """They may fill half of the event ring, and what the supervisor has taken from it is free again: else all strays would be lost
    from the time on at which the ring has been half used, until it has been used up once."""
    with pair(("socket", "socket"), ("socket", "socket"), seed) as made:
        server = made.server
        with made.client.end.entered():
            stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        to, slots, sent = (str(server.local), server.path.local_port), server.event_ring.slots, 0

        def send(count: int) -> None:
            nonlocal sent
            for _ in range(count):
                stranger.sendto(b"\x43" + sent.to_bytes(8, "big") + bytes(50), to)
                sent += 1

        def told() -> list[int]:
            return [int.from_bytes(body[41:49], "big") for _, body in server.told(QuicEventKind.STRAY)]

        with stranger:
            while sent < 3 * slots:
                send(8)
                made.until(lambda: len(told()) == sent, f"{sent} strays")
            assert sorted(told()) == list(range(sent)) and server.word("quic_strays_dropped") == 0
            send(slots)

            def counted() -> bool:
                server.worker.run(64)  # and nobody takes events
                return server.word("quic_strays") + server.word("quic_strays_dropped") == sent

            waiting.until(counted, "each to be counted", pause=0.001)
            assert server.word("quic_strays") == sent - slots // 2
            made.until(lambda: len(told()) == sent - slots // 2, "what found room")
        exchange(made, random.Random(seed), 10)


def test_a_source_that_is_closed_and_opened_anew_serves_on(seed: int) -> None:
    """What was reserved of it is given back; what was lost with it is sent again."""
    with pair(("afxdp", "afxdp"), ("socket", "socket"), seed) as made:
        exchange(made, random.Random(seed), 10)
        made.client.worker.close_slot(0)
        made.client.xsk.close()  # the copy that a supervisor would hold
        made.client.send(b"into the void", token=77)
        for _ in range(20):
            made.turn()
        made.client._open(0, "afxdp", 256, 0, receives=True)
        made.until(lambda: any(e.token == 77 for e, _ in made.client.told(QuicEventKind.DONE)), "it arrives after all")


def test_packets_on_another_workers_queue_are_handed_over(seed: int) -> None:
    """The server's connection is with the worker of queue 1; its packets come in on queue 0, for the peer sends on that."""
    with netns.pair(queues=2) as rig:
        client = Side("client", rig, "afxdp", "afxdp")
        client.queue = 1  # it sends on its queue 0, and receives on both
        client._open(2, "afxdp", 256, 0, receives=True)
        owner = Side("server", rig, "afxdp", "afxdp", queue=1)
        other = Side("server", rig, "afxdp", "afxdp", queue=0, program=owner.program)
        ring = Ring.create("peers", 64, QUIC_EVENT_BYTES)
        for side, outgoing in ((other, True), (owner, False)):
            assert isinstance(side.worker, lib.Worker)
            side.worker.open_peer(ring.bytes, outgoing)
        made = Pair(client, owner, seed)

        class Both(Pair):
            def turn(self) -> None:
                super().turn()
                other.turn()

        made.__class__ = Both
        try:
            exchange(made, random.Random(seed), 200)
            handed = other.word("quic_handovers_out")
            assert handed > 100 and owner.word("quic_handovers_in") == handed
            assert other.word("quic_unknown_cids") == handed and owner.word("rx_packets", 0) == 0
        finally:
            other.program = None
            other.worker.close()
            made.close()
            ring.close()


def test_what_a_short_connection_counted_is_counted_once(seed: int) -> None:
    """It is over before its place in a large table is looked at, and stays in the table for 3 PTO behind its end."""
    config = {"connections": 4096, "packets": 262144}
    with netns.pair() as rig:
        sides = [Side(name, rig, "afxdp", "afxdp", **config) for name in ("client", "server")]
        for side in sides:
            side.turn()  # the first places are looked at now, and not again before 25 ms have passed
        made = Pair(*sides, seed)
        try:
            made.client.send(bytes(235), token=1)
            made.until(lambda: bool(made.server.received()), "it is received")
            made.client.command(QuicCommandKind.CLOSE)
            made.until(lambda: all(s.told(QuicEventKind.CLOSED) for s in sides), "both ends are told of the end")
            end = time.monotonic() + 0.3  # twelve rounds through the table
            while time.monotonic() < end:
                made.turn()
            assert made.server.word("quic_streams_received") == 1
            assert made.client.word("quic_messages_sent") == 1
        finally:
            made.close()
