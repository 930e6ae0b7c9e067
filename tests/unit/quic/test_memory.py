"""What a connection costs in this process: aioquic's object while it shakes hands, next to nothing from then on."""

from __future__ import annotations

import gc
import tracemalloc

from aioquic.quic.recovery import QuicPacketRecovery
from aioquic.tls import Context

from afterburnerd.quic.accept import Limits
from afterburnerd.quic.connection import Step
from afterburnerd.quic.dial import Target
from afterburnerd.quic.front import Front

from .rig import SERVER, Network
from .world import Supervisor

COUNT = 40
GOAL = 16 << 10  # bytes a warm connection, at 4,096 of them


def warm(end: Supervisor, other: Supervisor, count: int) -> None:
    net = Network(end, other)
    for _ in range(count):
        want = len(end.connections) + 1
        end.endpoint.dial(Target(SERVER), net.now)
        assert net.run(lambda: len(end.connections) == len(other.connections) == want)  # noqa: B023
        assert net.run(lambda: end.step() is Step.RELEASED and other.step() is Step.RELEASED)


def test_a_warm_connection_is_small() -> None:
    client = Supervisor()
    server = Supervisor(limits=Limits(retry="never"))
    client.start_worker()
    server.start_worker()
    warm(client, server, 5)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    warm(client, server, COUNT)
    # the stand-in of the engine lives in the same process: its connections and the record of packets do not count
    for end in (client, server):
        end.worker = None
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    each = (after - before) / COUNT / 2
    print(f"a warm connection takes {each:.0f} bytes at each end, its ticket at either included")
    assert len(client.connections) == COUNT + 5
    assert each < GOAL


def test_aioquics_object_is_what_is_dropped() -> None:
    client, server = Supervisor(), Supervisor(limits=Limits())
    server.start_worker()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    net = Network(client, server)
    client.endpoint.dial(Target(SERVER), net.now)
    assert net.run(lambda: client.step() is Step.HELD)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held > 3 * GOAL, "if aioquic has become small, dropping it early is no longer worth its price"


def test_a_handshake_leaves_nothing_to_the_garbage_collector() -> None:
    """Whose full collections would stop the supervisor for tens of milliseconds (supervisor/garbage.py)."""
    client, server = Supervisor(), Supervisor(limits=Limits(retry="never"))
    client.start_worker()
    server.start_worker()
    gc.collect()
    gc.disable()
    # A test that failed before us keeps what it had in its traceback.
    before = {id(o) for o in gc.get_objects() if isinstance(o, Front | Context | QuicPacketRecovery)}
    try:
        warm(client, server, 5)
        # one that comes to nothing, at either end
        dial = client.endpoint.dial(Target(SERVER), 1000.0)
        client.endpoint.abort(dial.number, 1000.0)
        left = [o for o in gc.get_objects() if isinstance(o, Front | Context | QuicPacketRecovery)]
        assert {id(o) for o in left} <= before
    finally:
        gc.enable()
