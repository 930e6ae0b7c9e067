"""Faults of the network between two daemons on AF_XDP, in three namespaces: every message arrives once, and all counts agree."""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import waiting
from tests.interop import peers
from tests.interop.ours import PORT, Received
from tests.interop.test_peers import need
from tests.system import routed
from tests.system.routed import Two
from tests.system.router import NAT_ADDRESSES, TO_CLIENT, TO_SERVER, Way

pytestmark = [pytest.mark.privileged, pytest.mark.bpf, pytest.mark.timeout(300)]

# More seeds on demand, the peers of other makes as well: docs/testing.md.
SEEDS = range(20_251_121, 20_251_121 + int(os.environ.get("AFTERBURNER_FAULT_SEEDS") or 1))
LARGE = 20_000  # bytes: full packets
EVERYTHING = {
    "loss": 0.05, "duplicate": 0.05, "again_s": 0.003, "corrupt": 0.03, "skip": 9, "repaired": 1,
    "delay": 0.1, "delay_s": 0.005, "jitter_s": 0.01, "mark": 0.02,
}  # fmt: skip


class Ecn(enum.IntEnum):
    """enum ab_quic_ecn_state"""

    DISABLED, TESTING, UNKNOWN, CAPABLE, FAILED = range(5)


@pytest.fixture(params=SEEDS)
def draw(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with routed.two(tmp_path_factory.mktemp("routed")) as made:
        yield made


def test_a_good_wire(both: Two, draw: int) -> None:
    with both.run(draw) as run:
        run.send(200)
        run.settle()


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3])
def test_loss(both: Two, share: float, draw: int) -> None:
    with both.run(draw, lambda way: way.both(loss=share)) as run:
        run.send(300)
        run.settle()
        assert run.books(TO_SERVER).way.lost and run.books(TO_CLIENT).way.lost


def test_repetition(both: Two, draw: int) -> None:
    with both.run(draw, lambda way: way.both(duplicate=0.3, again_s=0.005)) as run:
        run.send(300)
        run.settle()
        for direction in (TO_SERVER, TO_CLIENT):
            books = run.books(direction)
            assert books.receiver["quic_packets_duplicate"] == books.way.duplicated > 0


def test_late_packets(both: Two, draw: int) -> None:
    with both.run(draw, lambda way: way.both(delay=0.3, delay_s=0.005, jitter_s=0.02)) as run:
        run.send(300)
        run.settle()


@pytest.mark.parametrize("repaired", [False, True], ids=["checksum-wrong", "checksum-right"])
def test_spoiled_bytes(both: Two, repaired: bool, draw: int) -> None:
    with both.run(draw, lambda way: way.both(corrupt=0.2, skip=9, repaired=repaired)) as run:
        run.send(300)
        run.settle()
        for direction in (TO_SERVER, TO_CLIENT):
            books = run.books(direction)
            assert books.receiver["quic_aead_failures"] == books.way.corrupted > 0


def test_a_long_way(both: Two, draw: int) -> None:
    """A quarter of a second there, as much back: the other side of the world and a bad line."""
    with both.run(draw, lambda way: way.both(delay=1, delay_s=0.25)) as run:
        run.send(300)
        run.settle()
        for direction in (TO_SERVER, TO_CLIENT):
            assert run.row(direction).min_rtt_ns >= 500_000_000
            assert run.books(direction).sender["quic_packets_lost"] == 0


@pytest.mark.parametrize("direction", [TO_SERVER, TO_CLIENT], ids=["to-server", "to-client"])
def test_darkness_in_one_direction(both: Two, direction: int, draw: int) -> None:
    """For a second and a half in mid-transfer: shorter than any idle timeout, longer than several probe timeouts."""
    dark = (both.way.to_server, both.way.to_client)[direction]
    with both.run(draw) as run:
        run.send(50)
        dark.set(dark=1)
        run.send(100)
        time.sleep(1.5)
        assert run.calls[direction].status().waiting
        dark.set(dark=0)
        run.send(50)
        run.settle()
        books = run.books(direction)
        assert books.way.dark and books.sender["quic_ptos"]


def test_darkness_that_lasts_ends_the_connection_and_the_next_one_has_everything(tmp_path: Path, draw: int) -> None:
    """Both ends say why: the idle timeout. Whatever was not acknowledged goes on the next connection."""
    with routed.two(tmp_path, quic="idle_timeout_ms = 1000") as both, both.run(draw) as run:
        first = run.calls[TO_SERVER].status().number
        both.way.both(dark=1)
        run.send(20)
        for call in run.calls.values():
            call.ours.daemon.wait(lambda call=call: call.status().number != first, "it to be given up")
        both.way.both(dark=0)
        run.settle_anew(once=True)
        for end in both.ends:
            assert "idle" in end.daemon.log()


def test_a_nat_forgets(both: Two, draw: int) -> None:
    """Another port, and then another address as well, in the middle of a transfer: the server follows."""
    before = both.ends[TO_CLIENT].value("quic_migrations")
    with both.run(draw, lambda way: way.rebind(), directions=(TO_SERVER,)) as run:
        run.send(100)
        for address in ("", *NAT_ADDRESSES[:2], ""):
            both.way.rebind(address)
            run.send(100)
            run.calls[TO_SERVER].wait_acknowledged()
        run.settle()
        assert both.ends[TO_CLIENT].value("quic_migrations") - before == 4


def test_a_path_that_shrinks(both: Two, draw: int) -> None:
    """Packets above 1,300 bytes vanish without a word, at first from the beginning, then in mid-transfer."""
    with both.run(draw, lambda way: way.both(mtu=1300)) as run:
        run.send(100)
        run.settle()
        for direction in (TO_SERVER, TO_CLIENT):
            waiting.until(lambda d=direction: 1250 <= run.row(d).mtu <= 1272, "the path's MTU to be found")
            assert run.since_dialled(direction).oversize
    with both.run(draw) as run:
        run.send(50, LARGE)
        run.settle(LARGE)
        waiting.until(lambda: run.row(TO_SERVER).mtu == 1472, "the path's MTU to be found")
        both.way.both(mtu=1228 + 40)
        run.send(50, LARGE)
        run.settle(LARGE)
        for direction in (TO_SERVER, TO_CLIENT):
            waiting.until(lambda d=direction: 1200 <= run.row(d).mtu <= 1240, "the path's MTU to be found")


def test_ecn_is_wiped(both: Two, draw: int) -> None:
    """Validation fails, and no more is marked."""
    with both.run(draw, lambda way: way.both(bleach=1)) as run:
        run.send(100)
        run.settle()
        for direction in (TO_SERVER, TO_CLIENT):
            assert 0 < run.since_dialled(direction).bleached == run.since_dialled(direction).ect <= 12
            assert Ecn(run.row(direction).ecn) is Ecn.FAILED


def test_congestion_is_told_by_ecn(both: Two, draw: int) -> None:
    """A router that marks instead of dropping: windows shrink, nothing is lost."""
    with both.run(draw, lambda way: way.both(mark=0.1)) as run:
        run.send(200)
        run.settle()
        for direction in (TO_SERVER, TO_CLIENT):
            books = run.books(direction)
            assert books.way.marked and books.sender["quic_congestion"] and not books.sender["quic_packets_lost"]
            assert Ecn(run.row(direction).ecn) is Ecn.CAPABLE


def test_everything_at_once(both: Two, draw: int) -> None:
    with both.run(draw, lambda way: way.both(**EVERYTHING)) as run:
        run.send(400)
        run.settle()


# --- another make at the other end ---------------------------------------------------------------------------------------


def loss(way: Way) -> Iterator[None]:
    yield  # quinn's server keeps what became of a lost first flight for 15 s
    way.both(loss=0.1)


def repetition(way: Way) -> None:
    way.both(duplicate=0.3, again_s=0.005)


def late(way: Way) -> None:
    way.both(delay=0.3, delay_s=0.005, jitter_s=0.02)


def spoiled(way: Way) -> None:
    way.both(corrupt=0.1, skip=9, repaired=1)


def far_away(way: Way) -> None:
    way.both(delay=1, delay_s=0.1)


def narrow(way: Way) -> None:
    way.both(mtu=1300)


def wiped(way: Way) -> None:
    way.both(bleach=1)


def marked(way: Way) -> None:
    way.both(mark=0.2)


def rebound(way: Way) -> Iterator[None]:
    way.rebind()
    for address in ("", *NAT_ADDRESSES[:2]):
        yield
        way.rebind(address)


def dark(way: Way) -> Iterator[None]:
    yield
    way.both(dark=1)
    time.sleep(0.7)
    way.both(dark=0)


FAULTS = (loss, repetition, late, spoiled, far_away, narrow, wiped, marked, rebound, dark)
ENGINES = tuple((os.environ.get("AFTERBURNER_FAULT_PEERS") or "quinn").split(","))
MESSAGES = 160
FAR_PORT = 4433


@pytest.fixture
def goes_on(both: Two, draw: int, request: pytest.FixtureRequest) -> Iterator[Callable[[], object]]:
    """The fault is there; what it does later it does with each call."""
    way, fault = both.way, request.param
    way.clear()
    way.seeded(draw)
    steps = fault(way)
    if steps is not None:
        next(steps)
    yield (lambda: None) if steps is None else (lambda: next(steps, None))
    way.clear()
    for end in both.ends:
        end.wait_none()


each_fault = pytest.mark.parametrize("goes_on", FAULTS, indirect=True, ids=lambda fault: fault.__name__)


@each_fault
@pytest.mark.parametrize("engine", ENGINES)
def test_another_server(both: Two, engine: str, goes_on: Callable[[], object]) -> None:
    """Our daemon dials it through the router."""
    need(engine, "server")
    far = both.way.server
    with (
        peers.server(engine, address=far.ipv4, port=FAR_PORT, namespace=far.name) as server,
        both.ends[0].link(FAR_PORT) as link,
    ):
        assert link.wait_open().io == "afxdp"
        ledger = routed.Ledger(both.way, (both.ends[0], None))
        for first in range(0, MESSAGES, MESSAGES // 4):
            link.send(*(peers.payload(k, routed.SMALL) for k in range(first, first + MESSAGES // 4)))
            goes_on()
        link.wait_acknowledged()
        server.wait("stream", MESSAGES)
        assert len(server.streams()) == MESSAGES
        ledger.balance()
        both.way.clear()


@each_fault
@pytest.mark.parametrize("engine", ENGINES)
def test_another_client(both: Two, engine: str, goes_on: Callable[[], object]) -> None:
    """It dials our daemon through the router."""
    need(engine, "client", "interval")
    words = ("--streams", str(MESSAGES), "--interval", "2", "--size", str(routed.SMALL), "--wait")
    near, ours = both.way.client, both.ends[1]
    ledger = routed.Ledger(both.way, (None, ours))
    with (
        Received(ours) as got,
        peers.dialling(engine, PORT, *words, address=ours.address, namespace=near.name) as client,
    ):
        for count in range(MESSAGES // 4, MESSAGES + 1, MESSAGES // 4):
            got.wait(count)
            goes_on()
        client.wait("done")
        got.verify(MESSAGES, routed.SMALL)
        ledger.balance()
        both.way.clear()
        client.go_on()
        client.wait("closed")
        assert client.code == 0, client.told()
