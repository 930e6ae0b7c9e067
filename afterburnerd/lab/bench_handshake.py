"""`afterburner-lab bench handshake`: handshakes a second between two real daemons, what an adoption takes, what a connection weighs.

    client daemon, CPU s                                 server daemon, CPU w
      one [[connect]], to be warm                -->       [[listen]]
      --conns more, by a reload: a flood of dials -->      handshake, adoption; all stay open
      its data plane is killed                   -->       --redials connections anew

One core a side: supervisor and worker of a daemon share it, so the workers sleep when they have nothing to do (`idle = "sleep"`), and
what either of them does is paid for by the rate. Both daemons are as they are installed; only what protects a listener from a single
address (the XDP program's budgets, `per_source`, Retry) is out of the way, because here one address is all clients.

    handshake_rate        connections that the client's worker adopted a second, between the first and the last tenth of the flood
    adoption_*            from the complete handshake until `cids` is written, by both daemons' own clocks, while the flood goes on
    adoption_pause_*      for how long the worker's loop stood still for one adoption
    supervisor_memory     growth of the supervisor's resident memory for each connection that stays open, the larger of the two
    dataplane_memory      memory of the engine for each connection that it has room for
    redial                from the restart of the client's data plane until all connections are open again
"""

from __future__ import annotations

import argparse
import os
import signal
import time

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
idle = "sleep"
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
    client: Histogram
    server: Histogram
    pause: Histogram  # both workers'
    supervisor_bytes: float  # a connection
    dataplane_bytes: float
    processor_client: float  # seconds of the supervisor, a handshake
    processor_server: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--conns", type=int, default=4096, metavar="N", help="connections of the flood (default: 4096)")
    parser.add_argument(
        "--redials", type=int, default=100, metavar="N", help="connections that are dialled anew (default: 100)"
    )
    cores.add_pair(parser, "server")
    parser.add_argument("-j", "--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    chosen = cores.pair(args)
    if not 20 <= args.conns <= 65_000 or not 1 <= args.redials <= 65_000:
        raise ToolError("--conns: 20 to 65000; --redials: 1 to 65000", EXIT_USAGE)
    facts, stolen = report.machine(), report.steal_seconds()
    with rig.standing(rig.plan(f"bh{os.getpid()}", isolated=True)) as standing:
        flood = measure_flood(standing, chosen, args.conns)
        report.say(f"{flood.rate:.0f} handshakes a second, adoption p99 {flood.adoption.quantile(0.99) / 1e6:.2f} ms")
        redial = measure_redial(standing, chosen, args.redials)
        report.say(f"{args.redials} connections open again {redial:.2f} s after the restart")
    return report.publish(
        report.Report(
            bench="handshake",
            machine=facts,
            settings={
                "connections": args.conns,
                "redials": args.redials,
                "client_cpu": chosen.sender,
                "server_cpu": chosen.receiver,
                "steal_seconds": round(report.steal_seconds() - stolen, 3),
            },
            results=tuple(results(flood, redial)),
        ),
        args.json,
    )


def results(flood: Flood, redial: float) -> list[report.Result]:
    def at(histogram: Histogram, share: float) -> float:
        return histogram.quantile(share) / 1e9

    found = [
        report.result("handshake_rate", "handshakes/s", flood.rate, goal=GOAL_RATE),
        report.result("adoption_p99", "s", at(flood.adoption, 0.99), goal=GOAL_ADOPTION, better="lower"),
        *(
            report.result(f"adoption_p{str(100 * share).rstrip('0').rstrip('.').replace('.', '')}", "s", at(flood.adoption, share))
            for share in (0.5, 0.9, 0.999)
        ),
        report.result("adoption_max", "s", flood.adoption.max / 1e9),
        report.result("adoption_p99_client", "s", at(flood.client, 0.99)),
        report.result("adoption_p99_server", "s", at(flood.server, 0.99)),
        report.result("adoption_pause_p99", "s", at(flood.pause, 0.99), goal=GOAL_PAUSE, better="lower"),
        report.result("adoption_pause_p50", "s", at(flood.pause, 0.5)),
        report.result("adoption_pause_max", "s", flood.pause.max / 1e9),
        report.result("supervisor_memory", "bytes", flood.supervisor_bytes, goal=GOAL_SUPERVISOR, better="lower"),
        report.result("dataplane_memory", "bytes", flood.dataplane_bytes, goal=GOAL_DATAPLANE, better="lower"),
        report.result("processor_client", "s", flood.processor_client),
        report.result("processor_server", "s", flood.processor_server),
        report.result("redial", "s", redial, goal=GOAL_REDIAL, better="lower"),
    ]  # fmt: skip
    return found


# --- the two daemons --------------------------------------------------------------------------------------------------


def far_end(standing: rig.Rig) -> rig.Rig:
    """The same rig, with a daemon at its other end."""
    return msgspec.structs.replace(standing, daemon=standing.sender, sender=standing.daemon)


def server_of(standing: rig.Rig, cpu: int, connections: int) -> Daemon:
    return Daemon(standing, f"bhs{os.getpid()}", COMMON.format(cpu=cpu, connections=connections) + SERVER)


def client_of(standing: rig.Rig, cpu: int, connections: int) -> Daemon:
    body = COMMON.format(cpu=cpu, connections=connections) + links(standing, 1)
    return Daemon(far_end(standing), f"bhc{os.getpid()}", body)


def links(standing: rig.Rig, count: int) -> str:
    return "".join(
        f'[[connect]]\nname = "c{n}"\naddress = "{standing.daemon.ipv4}"\nport = {PORT}\n' for n in range(count)
    )


def stay(daemon: Daemon, cpu: int) -> None:
    assert daemon.process is not None
    os.sched_setaffinity(daemon.process.pid, {cpu})


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
        exits.sleep(0.01)


def histogram(snapshot: Snapshot, name: str) -> Histogram:
    return snapshot.daemon.histogram(name)


def pauses(snapshot: Snapshot) -> Histogram:
    return snapshot.rows("worker")[0].histogram("adoption")


def measure_flood(standing: rig.Rig, chosen: Cores, count: int) -> Flood:
    places = count + 64
    with (
        server_of(standing, chosen.receiver, places) as server,
        client_of(standing, chosen.sender, places) as client,
    ):
        both = (client, server)
        stay(server, chosen.receiver)
        stay(client, chosen.sender)
        wait_adopted(client, 1)
        exits.sleep(1.5)  # figures of processes are a second old
        before = [daemon.snapshot() for daemon in both]
        memory = [resident(daemon) for daemon in both]
        used = [processor(daemon) for daemon in both]
        client.extend(links(standing, count + 1).removeprefix(links(standing, 1)))
        marks: list[tuple[float, int]] = []
        wait_adopted(client, count + 1, marks)
        exits.sleep(2.5)
        after = [daemon.snapshot() for daemon in both]
        grown = max((resident(daemon) - m) / count for daemon, m in zip(both, memory, strict=True))
        spent = [(processor(daemon) - u) / count for daemon, u in zip(both, used, strict=True)]
        engine = after[0].rows("worker")[0].value("quic_memory_bytes") / places
    low = next(mark for mark in marks if mark[1] >= 1 + EDGE * count)
    high = next(mark for mark in marks if mark[1] >= 1 + (1 - EDGE) * count)
    ours, theirs = (
        histogram(b, "quic_adoption") - histogram(a, "quic_adoption") for a, b in zip(before, after, strict=True)
    )
    stood = [pauses(b) - pauses(a) for a, b in zip(before, after, strict=True)]
    return Flood(
        rate=(high[1] - low[1]) / max(high[0] - low[0], 1e-3),
        adoption=ours + theirs,
        client=ours,
        server=theirs,
        pause=stood[0] + stood[1],
        supervisor_bytes=grown,
        dataplane_bytes=engine,
        processor_client=spent[0],
        processor_server=spent[1],
    )


def measure_redial(standing: rig.Rig, chosen: Cores, count: int) -> float:
    with (
        server_of(standing, chosen.receiver, 3 * count + 64) as server,
        client_of(standing, chosen.sender, 3 * count + 64) as client,
    ):
        stay(server, chosen.receiver)
        stay(client, chosen.sender)
        wait_adopted(client, 1)
        client.extend(links(standing, count).removeprefix(links(standing, 1)))
        wait_adopted(client, count)
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
