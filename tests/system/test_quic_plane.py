"""Data-plane processes with a QUIC engine, set up by orders and sealed: they serve, make no system call but the kick, and allocate
nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from afterburnerd.abi.layout import QuicEventKind
from tests import background, netns
from tests.net.quicpair import By, Pair
from tests.net.test_quic_pair import exchange
from tests.system.quicplane import PlaneSide
from tests.system.test_hot_loop import counter, system_calls

pytestmark = [pytest.mark.privileged, pytest.mark.bpf]
__all__ = ["counter"]  # the fixture

KINDS: list[By] = ["afxdp", "socket"]
ALLOWED = {"afxdp": {"sendto"}, "socket": {"recvmmsg", "sendmmsg"}}


@contextmanager
def planes(kind: By, seed: int, env: dict[str, str] | None = None) -> Iterator[Pair]:
    with netns.pair() as rig:

        class Here(PlaneSide):
            pass

        Here.env = env
        made = Pair(Here("client", rig, kind, kind), Here("server", rig, kind, kind), seed)
        try:
            made.until(
                lambda: all(s.told(QuicEventKind.ADOPTED) for s in (made.client, made.server)), "both ends adopt"
            )
            yield made
        finally:
            made.close()


@contextmanager
def traffic(made: Pair) -> Iterator[None]:
    """Messages both ways all the time, from another thread. What comes is read, so that nothing backs up."""

    def send() -> None:
        for side in (made.client, made.server):
            if side.commands.room > 8:
                side.send(bytes(235), token=1)
            side.consumer.take()
            side.received()

    with background.repeating(send, 0.001):
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_sealed_processes_exchange_messages(kind: By, seed: int) -> None:
    with planes(kind, seed) as made:
        exchange(made, random.Random(seed), 300)
        for side in (made.client, made.server):
            made.until(lambda side=side: side.word("quic_messages_acked") == 300, "the statistics say so too")  # type: ignore[misc]
            assert (side.word("quic_connections"), side.word("quic_adopted")) == (1, 1)
            assert side.word("quic_packets_sent") > 0 and side.word("quic_packets_received") > 0
            assert side.word("quic_streams_received") == 300 and side.word("quic_memory_bytes") > 1 << 20
            assert side.word("quic_send_drops") == side.word("frame_errors", 0) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_loop_makes_no_system_call_but_its_backends(kind: By, seed: int) -> None:
    with planes(kind, seed) as made, traffic(made):
        before, seen = made.server.word("quic_streams_received"), set[str]()
        for _ in range(20):  # strace makes it slow, and the machine may be busy
            seen |= set(system_calls(made.server.pid, 1.5))  # type: ignore[attr-defined]
            assert seen <= ALLOWED[kind], seen
            if seen == ALLOWED[kind] and made.server.word("quic_streams_received") > before + 20:
                return
        raise AssertionError(f"{made.server.word('quic_streams_received') - before} streams came, calls: {seen}")


@pytest.mark.parametrize("kind", KINDS)
def test_the_loop_does_not_allocate(kind: By, seed: int, counter: Path, tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    counts.mkdir()
    env = {"LD_PRELOAD": str(counter), "AB_MALLOC_COUNT": str(counts)}

    def calls(pid: int) -> int:
        return int.from_bytes((counts / str(pid)).read_bytes(), "little")

    with planes(kind, seed, env) as made, traffic(made):
        pid = made.server.pid  # type: ignore[attr-defined]
        server = made.server

        def messages(more: int) -> None:
            target = server.word("quic_streams_received") + more
            until = time.monotonic() + 60
            while server.word("quic_streams_received") < target:
                assert time.monotonic() < until, "no traffic"
                time.sleep(0.01)

        messages(200)
        at_start = calls(pid)
        assert at_start > 1000  # its start is counted: the counter works
        messages(1000)
        assert calls(pid) == at_start
