"""`afterburner-lab bench handshake`: handshakes a second between two real daemons, what an adoption takes, what a connection weighs.

    flood      client daemon, all on CPU s  -- --conns dials -->  server daemon, all on CPU w; all stay open
    adoption   the daemon under test: its worker spins on CPU w, alone; its supervisor on CPU s, and the peer, which gives way to it
    redial     as the flood, with --redials connections, whose data plane is then killed

The flood is one core a side: supervisor and worker of a daemon share it, so the workers sleep when they have nothing to do, and what
either of them does is paid for by the rate. For adoptions the worker has a core of its own, as on a trading host. Both daemons are
as they are installed; only what protects a listener from a single address (the XDP program's budgets, `per_source`, Retry) is out of
the way, because here one address is all clients. One connection is open before anything is counted.

    handshake_rate       connections that the client's worker adopted a second, between the first and the last tenth of the flood
    adoption_*           from the complete handshake until `cids` is written, by the daemons' own clocks (`_flood`: in the flood)
    adoption_pause_*     for how long the worker's loop stood still for one adoption
    supervisor_memory    growth of the supervisor's resident memory for each connection that stays open, the larger of the two
    dataplane_memory     memory of the engine for each connection that it has room for
    redial               from the restart of the client's data plane until all connections are open again
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import time
from collections.abc import Iterator

import msgspec

from ..abi.histogram import Histogram
from ..abi.stats import Snapshot
from ..cli import EXIT_UNREACHABLE, EXIT_USAGE, ToolError
from . import cores, exits, report, rig
from .bench_daemon import plane, resident
from .cores import Cores
from .daemon import Daemon

EXAMPLES = """\
examples:
  sudo afterburner-lab bench handshake
  sudo afterburner-lab bench handshake --conns 1000 --json > handshake.json
"""
PORT = 8009
LOOK_SECONDS = 0.05  # between two looks at the figures: each is some milliseconds of one of the two cores
EDGE = 0.1  # share of the flood at either end that is not counted
WAIT_SECONDS = 120.0  # for a whole flood, on a busy machine
GOAL_RATE = 300.0
GOAL_ADOPTION = 0.001
GOAL_PAUSE = 20e-6
GOAL_DATAPLANE = 32 << 10
GOAL_SUPERVISOR = 16 << 10
GOAL_REDIAL = 1.0
COMMON = """\
[[worker]]
idle = "{idle}"
nice = {nice}
cpu = {cpu}

[quic]
connections = {connections}
receive = "afxdp"
send = "afxdp"

"""
SERVER = f"""\
[xdp]
initial_rate = 0
source_rate = 0
short_rate = 0

[[listen]]
name = "bench"
port = {PORT}
retry = "never"
handshakes = 65536
per_source = 65536
connections = 65536
"""


class Flood(msgspec.Struct):
    rate: float  # connections a second
    adoption: Histogram  # both daemons'
    supervisor_bytes: float  # a connection
    dataplane_bytes: float
    processor_client: float  # seconds of the supervisor, a handshake
    processor_server: float


class Adoption(msgspec.Struct):
    took: Histogram
    pause: Histogram
    rate: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--conns", type=int, default=4096, metavar="N", help="connections of the flood (default: 4096)")
    parser.add_argument(
        "--redials", type=int, default=100, metavar="N", help="connections that are dialled anew (default: 100)"
    )
    parser.add_argument(
        "--adoptions", type=int, default=1000, metavar="N", help="adoptions that are timed in each role (default: 1000)"
    )
    cores.add_pair(parser, "server")
    parser.add_argument("-j", "--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    chosen = cores.pair(args)
    for what, least, most in (("conns", 20, 60_000), ("adoptions", 20, 60_000), ("redials", 2, 20_000)):
        if not least <= (given := getattr(args, what)) <= most:
            raise ToolError(f"--{what} {given}: {least} to {most}", EXIT_USAGE)
    facts, stolen = report.machine(), report.steal_seconds()
    with rig.standing(rig.plan(f"bh{os.getpid()}", isolated=True)) as standing:
        flood = measure_flood(standing, chosen, args.conns)
        report.say(f"{flood.rate:.0f} handshakes a second")
        adoptions = {role: measure_adoption(standing, chosen, args.adoptions, role) for role in ("client", "server")}
        for role, one in adoptions.items():
            report.say(f"{role}: adoption p99 {one.took.quantile(0.99) / 1e6:.2f} ms at {one.rate:.0f} a second")
        redial = measure_redial(standing, chosen, args.redials)
        report.say(f"{args.redials} connections open again {redial:.2f} s after the restart")
    return report.publish(
        report.Report(
            bench="handshake",
            machine=facts,
            settings={
                "connections": args.conns,
                "adoptions": args.adoptions,
                "redials": args.redials,
                "client_cpu": chosen.sender,
                "server_cpu": chosen.receiver,
                "steal_seconds": round(report.steal_seconds() - stolen, 3),
            },
            results=tuple(results(flood, adoptions, redial)),
        ),
        args.json,
    )


def results(flood: Flood, adoptions: dict[str, Adoption], redial: float) -> list[report.Result]:
    took = adoptions["client"].took + adoptions["server"].took
    pause = adoptions["client"].pause + adoptions["server"].pause

    def at(histogram: Histogram, share: float) -> float:
        return histogram.quantile(share) / 1e9

    return [
        report.result("handshake_rate", "handshakes/s", flood.rate, goal=GOAL_RATE),
        report.result("adoption_p99", "s", at(took, 0.99), goal=GOAL_ADOPTION, better="lower"),
        report.result("adoption_p50", "s", at(took, 0.5)),
        report.result("adoption_p90", "s", at(took, 0.9)),
        report.result("adoption_p99.9", "s", at(took, 0.999)),
        report.result("adoption_max", "s", took.max / 1e9),
        *(report.result(f"adoption_p99_{role}", "s", at(one.took, 0.99)) for role, one in adoptions.items()),
        *(report.result(f"adoption_rate_{role}", "handshakes/s", one.rate) for role, one in adoptions.items()),
        report.result("adoption_p50_flood", "s", at(flood.adoption, 0.5)),
        report.result("adoption_p99_flood", "s", at(flood.adoption, 0.99)),
        report.result("adoption_pause_p99", "s", at(pause, 0.99), goal=GOAL_PAUSE, better="lower"),
        report.result("adoption_pause_p50", "s", at(pause, 0.5)),
        report.result("adoption_pause_max", "s", pause.max / 1e9),
        report.result("supervisor_memory", "bytes", flood.supervisor_bytes, goal=GOAL_SUPERVISOR, better="lower"),
        report.result("dataplane_memory", "bytes", flood.dataplane_bytes, goal=GOAL_DATAPLANE, better="lower"),
        report.result("processor_client", "s", flood.processor_client),
        report.result("processor_server", "s", flood.processor_server),
        report.result("redial", "s", redial, goal=GOAL_REDIAL, better="lower"),
    ]


# --- the two daemons --------------------------------------------------------------------------------------------------


def far_end(standing: rig.Rig) -> rig.Rig:
    """The same rig, with a daemon at its other end."""
    return msgspec.structs.replace(standing, daemon=standing.sender, sender=standing.daemon)


class Layout(msgspec.Struct, frozen=True):
    """Where a daemon lives. `yields`: it stands for another machine, and gives way to the other one."""

    supervisor: int
    worker: int
    spins: bool = False
    yields: bool = False

    def common(self, connections: int) -> str:
        return COMMON.format(
            idle="spin" if self.spins else "sleep",
            nice=19 if self.yields else -10,
            cpu=self.worker,
            connections=connections,
        )

    def settle(self, daemon: Daemon) -> None:
        assert daemon.process is not None
        os.sched_setaffinity(daemon.process.pid, {self.supervisor})
        if self.yields:
            os.setpriority(os.PRIO_PROCESS, daemon.process.pid, 19)


@contextlib.contextmanager
def pair(standing: rig.Rig, ours: Layout, theirs: Layout, connections: int) -> Iterator[tuple[Daemon, Daemon]]:
    """Client and server, with one connection between them: the way is known, the code is warm."""
    own = f"{os.getpid()}"
    with (
        Daemon(standing, f"bhs{own}", theirs.common(connections) + SERVER) as server,
        Daemon(far_end(standing), f"bhc{own}", ours.common(connections) + links(standing, 1)) as client,
        giving_way(),
    ):
        theirs.settle(server)
        ours.settle(client)
        wait_adopted(client, 1)
        yield client, server


def links(standing: rig.Rig, count: int) -> str:
    return "".join(
        f'[[connect]]\nname = "c{n}"\naddress = "{standing.daemon.ipv4}"\nport = {PORT}\n' for n in range(count)
    )


@contextlib.contextmanager
def giving_way() -> Iterator[None]:
    """Who looks must not be in the way of who is looked at."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


def processor(daemon: Daemon) -> float:
    return daemon.snapshot().daemon.value("cpu_ns") / 1e9


def adopted(snapshot: Snapshot) -> int:
    workers = snapshot.rows("worker")
    return sum(row.value("quic_adopted") for row in workers)


def wait_adopted(daemon: Daemon, count: int, marks: list[tuple[float, int]] | None = None) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while True:
        now, there = time.monotonic(), adopted(daemon.snapshot())
        if marks is not None:
            marks.append((now, there))
        if there >= count:
            return
        if now > until:
            raise ToolError(
                f"{there} of {count} connections after {WAIT_SECONDS:g} s:\n{daemon.said()}", EXIT_UNREACHABLE
            )
        exits.sleep(LOOK_SECONDS)


def adoptions_of(snapshot: Snapshot) -> Histogram:
    return snapshot.daemon.histogram("quic_adoption")


def pauses_of(snapshot: Snapshot) -> Histogram:
    return snapshot.rows("worker")[0].histogram("adoption")


def measure_flood(standing: rig.Rig, chosen: Cores, count: int) -> Flood:
    """One core a side."""
    places = count + 64
    ours, theirs = (Layout(cpu, cpu) for cpu in (chosen.sender, chosen.receiver))
    with pair(standing, ours, theirs, places) as both:
        exits.sleep(1.5)  # figures of processes are a second old
        before = [daemon.snapshot() for daemon in both]
        memory = [resident(daemon) for daemon in both]
        used = [processor(daemon) for daemon in both]
        marks: list[tuple[float, int]] = []
        dial(both[0], standing, count, marks)
        exits.sleep(2.5)
        after = [daemon.snapshot() for daemon in both]
        grown = max((resident(daemon) - m) / count for daemon, m in zip(both, memory, strict=True))
        spent = [(processor(daemon) - u) / count for daemon, u in zip(both, used, strict=True)]
        engine = after[0].rows("worker")[0].value("quic_memory_bytes") / places
    low = next(mark for mark in marks if mark[1] >= 1 + EDGE * count)
    high = next(mark for mark in marks if mark[1] >= 1 + (1 - EDGE) * count)
    adoptions = [adoptions_of(b) - adoptions_of(a) for a, b in zip(before, after, strict=True)]
    return Flood(
        rate=(high[1] - low[1]) / max(high[0] - low[0], 1e-3),
        adoption=adoptions[0] + adoptions[1],
        supervisor_bytes=grown,
        dataplane_bytes=engine,
        processor_client=spent[0],
        processor_server=spent[1],
    )


def measure_adoption(standing: rig.Rig, chosen: Cores, count: int, role: str) -> Adoption:
    """A worker that spins on a core of its own, as a trading host has it; everybody else on the other core, where the peer
    gives way to the supervisor under test."""
    tested = Layout(chosen.sender, chosen.receiver, spins=True)
    peer = Layout(chosen.sender, chosen.sender, yields=True)
    ours, theirs = (tested, peer) if role == "client" else (peer, tested)
    with pair(standing, ours, theirs, count + 64) as both:
        daemon = both[0] if role == "client" else both[1]
        before = daemon.snapshot()
        marks: list[tuple[float, int]] = []
        dial(both[0], standing, count, marks)
        exits.sleep(0.2)
        after = daemon.snapshot()
    return Adoption(
        took=adoptions_of(after) - adoptions_of(before),
        pause=pauses_of(after) - pauses_of(before),
        rate=count / (marks[-1][0] - marks[0][0]),
    )


def measure_redial(standing: rig.Rig, chosen: Cores, count: int) -> float:
    ours, theirs = (Layout(cpu, cpu) for cpu in (chosen.sender, chosen.receiver))
    with pair(standing, ours, theirs, 3 * count + 64) as (client, _):
        dial(client, standing, count - 1, [])
        exits.sleep(1.0)
        before, victim = client.snapshot().daemon.value("restart_killed"), plane(client)
        total = adopted(client.snapshot())
        os.kill(victim, signal.SIGKILL)
        until = time.monotonic() + WAIT_SECONDS
        while client.snapshot().daemon.value("restart_killed") == before or plane(client) in (0, victim):
            if time.monotonic() > until:
                raise ToolError(f"the data plane is not back:\n{client.said()}", EXIT_UNREACHABLE)
            exits.sleep(0.002)
        restarted = time.monotonic()
        wait_adopted(client, total + count)
        return time.monotonic() - restarted


def dial(client: Daemon, standing: rig.Rig, count: int, marks: list[tuple[float, int]]) -> None:
    """So many links more, until all of them are open."""
    there = adopted(client.snapshot())
    client.extend(links(standing, count + 1).removeprefix(links(standing, 1)))
    wait_adopted(client, there + count, marks)
