"""Two real daemons with a bad router between them (router.py), each listening and each dialling the other, and the books of a run.

    with routed.two(folder) as both, both.run(seed, lambda way: way.both(loss=0.3)) as run:
        run.send(200)                              in both directions, on a connection each
        run.settle()

`settle` ends a run: every message is acknowledged and stands once at its receiver, and the books agree to the packet:

    sent by an engine  =  taken by the router, short headers
    let through        =  opened + came again + not to be opened, by the engine behind        (+ full queues of the devices)
    what was spoiled   =  not to be opened
    data thrown away  <=  declared lost for good  <=  everything thrown away
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from afterburnerd.abi.connections import read_table
from afterburnerd.abi.layout import QuicRow
from tests import netns, waiting
from tests.interop import peers
from tests.interop.ours import PORT, Link, Ours, Received, daemon
from tests.system import router
from tests.system.router import SHORT, TO_CLIENT, TO_SERVER, Counts, Way

SMALL = 235
STILL = 0.2  # seconds without a packet: longer than a connection at rest on a short way takes to acknowledge and probe
COUNTERS = (
    "quic_packets_sent", "quic_packets_received", "quic_packets_lost", "quic_packets_spurious", "quic_packets_duplicate",
    "quic_aead_failures", "quic_unknown_cids", "quic_malformed", "quic_send_drops", "quic_ptos", "quic_migrations",
    "quic_messages_sent", "quic_messages_acked", "quic_streams_received", "quic_congestion",
)  # fmt: skip


@dataclass
class Books:
    """What was counted of one direction: by who sends, by the router, by who receives. A peer of another make counts nothing."""

    sender: dict[str, int] | None
    way: Counts  # short headers
    receiver: dict[str, int] | None
    devices: int  # dropped by full queues, in either direction

    @property
    def taken(self) -> int:
        """Packets that the receiving engine looked at."""
        assert self.receiver is not None
        return sum(self.receiver[name] for name in ("quic_packets_received", "quic_packets_duplicate",
                   "quic_aead_failures", "quic_unknown_cids", "quic_malformed"))  # fmt: skip

    @property
    def lost(self) -> int:
        """Declared lost by the sender, and not acknowledged later."""
        assert self.sender is not None
        return self.sender["quic_packets_lost"] - self.sender["quic_packets_spurious"]

    def wrong(self) -> str:
        """What does not agree; empty: everything does."""
        way = self.way
        # Seen twice in some 60 runs that held packets back, and in no other: one or two packets on the wire that neither end
        # had counted. Not explained, and not seen again in 140 such runs without slack on 2026-11-22.
        slack = 2 if way.delayed else 0
        if way.into + way.duplicated != way.out + way.gone:
            return f"the router's own counts: {way}"
        if self.receiver is not None and not 0 <= way.out - self.taken <= slack:
            return f"the router let {way.out} pass, {self.taken} came"
        if self.receiver is not None and way.corrupted != self.receiver["quic_aead_failures"]:
            return f"{way.corrupted} were spoiled, {self.receiver['quic_aead_failures']} could not be opened"
        if self.sender is None:
            return ""
        if not 0 <= way.into + self.sender["quic_send_drops"] - self.sender["quic_packets_sent"] <= slack:
            return f"sent {self.sender['quic_packets_sent']}, the router saw {way.into}"
        # One that was declared lost and came late counts as spurious only as long as its sender remembers it.
        most = way.gone + way.corrupted + way.delayed
        if not way.lost_big <= self.lost <= most:
            return f"the router took {way.lost_big} packets of data, {most} in all; {self.lost} were declared lost"
        return ""

    def __str__(self) -> str:
        return f"sender {_nonzero(self.sender)}; router {self.way}; receiver {_nonzero(self.receiver)}; devices {self.devices}"


def _nonzero(values: dict[str, int] | None) -> dict[str, int]:
    return {} if values is None else {name.removeprefix("quic_"): value for name, value in values.items() if value}


def counters(end: Ours) -> dict[str, int]:
    row = end.daemon.snapshot().rows("worker")[0]
    return {name: row.value(name) for name in COUNTERS}


class Ledger:
    """The books of a run from now on; `ends` are those of them that count: the client, the server."""

    def __init__(self, way: Way, ends: tuple[Ours | None, Ours | None]) -> None:
        self.way, self.ends = way, ends
        self._before = waiting.until(self._steady, "the counts to stand still")

    def _steady(self) -> tuple[list[dict[str, int] | None], list[Counts], int] | None:
        """Workers publish their counts now and then; two looks that agree."""
        before = self._counts()
        time.sleep(STILL)
        now = self._counts()
        same = before[0] == now[0] and all((a - b).zero for a, b in zip(before[1], now[1], strict=True))
        return now if same else None

    def _counts(self) -> tuple[list[dict[str, int] | None], list[Counts], int]:
        return (
            [None if end is None else counters(end) for end in self.ends],
            [self.way.counts(direction, SHORT) for direction in (TO_SERVER, TO_CLIENT)],
            self.way.dropped_by_devices(),
        )

    def books(self, direction: int) -> Books:
        now, before = self._counts(), self._before
        ends = [_since(n, b) for n, b in zip(now[0], before[0], strict=True)]
        return Books(ends[direction], now[1][direction] - before[1][direction], ends[1 - direction], now[2] - before[2])

    def balance(self) -> None:
        """What is still under way has to come first: acknowledgements, probes, packets on the shelf."""
        for direction in (TO_SERVER, TO_CLIENT):
            deadline = time.monotonic() + waiting.BOUND / 3
            while why := (books := self.books(direction)).wrong():
                assert time.monotonic() < deadline, f"direction {direction}: {why}\n{books}"
                time.sleep(0.05)
        for end in self.ends:
            if end is not None:
                end.daemon.assert_frames_add_up()


def _since(now: dict[str, int] | None, before: dict[str, int] | None) -> dict[str, int] | None:
    return None if now is None or before is None else {name: value - before[name] for name, value in now.items()}


class Run:
    """One transfer, in both directions as a rule: a connection that the client dialled, and one that the server did."""

    def __init__(self, both: Two, calls: dict[int, Link], got: tuple[Received, ...], began: list[Counts]) -> None:
        self.both, self.calls, self.got = both, calls, got
        self.sent = [0, 0]  # messages, by direction
        self._began = began  # before anything was dialled
        self.ledger = Ledger(both.way, both.ends)

    def send(self, count: int, size: int = SMALL) -> None:
        """`count` messages in each direction; all of a run are of one size."""
        for direction, call in self.calls.items():
            first = self.sent[direction]
            call.send(*(peers.payload(first + k, size) for k in range(count)))
            self.sent[direction] += count

    def books(self, direction: int) -> Books:
        return self.ledger.books(direction)

    def since_dialled(self, direction: int) -> Counts:
        """What the router counted of 1-RTT packets: discovery of the MTU and validation of ECN begin with the connection."""
        return self.both.way.counts(direction, SHORT) - self._began[direction]

    def row(self, direction: int) -> QuicRow:
        """Of the connection in this direction, at the end that dialled it."""
        number = self.calls[direction].status().number
        end = self.both.ends[direction]
        return next(row for row in read_table(end.name, 0).rows if row.id == number)

    def settle(self, size: int = SMALL) -> None:
        """All arrived, once; all of it is acknowledged; and the books agree."""
        for direction, call in self.calls.items():
            self.got[1 - direction].wait(self.sent[direction])
            call.wait_acknowledged()
            self.got[1 - direction].verify(self.sent[direction], size)
        self.ledger.balance()

    def settle_anew(self, size: int = SMALL, once: bool = False) -> None:
        """Connections have died meanwhile: all arrived on one or the other (`once`: on one of them alone), whole, and nothing
        else did; all of it is acknowledged."""
        for direction, call in self.calls.items():
            wanted = {peers.payload(k, size) for k in range(self.sent[direction])}
            got = self.got[1 - direction]
            call.wait_acknowledged()
            waiting.until(lambda got=got, wanted=wanted: got.look() or set(got.whole()) >= wanted, "all to arrive")
            assert set(got.whole()) == wanted
            assert not once or len(got.whole()) == len(wanted)
        for end in self.both.ends:
            end.daemon.assert_frames_add_up()


class Two:
    """The daemons: at the client's end, and at the server's."""

    def __init__(self, way: Way, ends: tuple[Ours, Ours]) -> None:
        self.way, self.ends = way, ends

    @contextlib.contextmanager
    def run(
        self,
        seed: int,
        prepare: Callable[[Way], object] = lambda way: None,
        directions: tuple[int, ...] = (TO_SERVER, TO_CLIENT),
        addresses: tuple[str, str] = ("", ""),
    ) -> Iterator[Run]:
        """A connection in each direction over a wire that `prepare` has set up, dialled through it, to these addresses of the
        server and the client instead of their IPv4. Good again afterwards."""
        way = self.way
        way.clear()
        way.seeded(seed)
        began = [way.counts(direction, SHORT) for direction in (TO_SERVER, TO_CLIENT)]
        with contextlib.ExitStack() as stack:
            got = tuple(stack.enter_context(Received(end)) for end in self.ends)
            prepare(way)
            stack.callback(way.clear)
            calls = {d: stack.enter_context(self.ends[d].link(PORT, addresses[d])) for d in directions}
            for call in calls.values():
                assert call.wait_open().io == "afxdp"
            for end in self.ends:  # the other end's handshake may be a moment behind
                end.daemon.wait(lambda end=end: len(end.connections()) == len(calls), "connections at both ends")
            yield Run(self, calls, got, began)
            way.clear()
        deadline = time.monotonic() + waiting.BOUND / 3
        while left := self.left():
            assert time.monotonic() < deadline, f"connections that are left: {left}"
            time.sleep(0.02)

    def left(self) -> list[str]:
        """Connections that either end still has."""
        return [f"{end.name}: {c.role} {c.number} {c.state} to {c.address}:{c.port} by {c.io}, {c.waiting} waiting"
                for end in self.ends for c in end.connections()]  # fmt: skip


@contextlib.contextmanager
def two(folder: Path, mode: str = "auto", quic: str = "", memory: str = "") -> Iterator[Two]:
    """Namespaces, router and daemons; afterwards nothing of them is there any more."""
    for name in ("client", "server"):
        (folder / name).mkdir(parents=True)
    with router.between(folder) as way:
        with (
            daemon(netns.Pair(way.client, way.server), folder / "client", mode, quic=quic, memory=memory) as client,
            daemon(netns.Pair(way.server, way.client), folder / "server", mode, quic=quic, memory=memory) as server,
        ):
            yield Two(way, (client, server))
            for end in (client, server):
                end.daemon.assert_frames_add_up()
                assert end.daemon.stop() == 0, end.daemon.log()
                assert "Traceback" not in end.daemon.log(), end.daemon.log()
                assert not end.daemon.attached(), "the XDP program is still there"
                assert not list(Path("/dev/shm").glob(f"{end.name}.*"))
        names = {way.client.name, way.server.name, way.ports[0].name}
    assert not any(map(netns.exists, names))
