"""`afterburner-lab bench daemon`: what the daemon costs its host, and how soon it is back.

One real `afterburnerd` on a rig of its own, looked at from outside:

    start            from the executable to serving, as the statistics say
    scrape           GET /metrics, the whole answer; a new connection each time, as Prometheus does it after a pause
    memory, CPU      of the supervisor, from /proc, while nothing happens
    recovery         from noticing that the data plane was killed to serving again, as the daemon measured it

The goals are the ones that operators were promised: 20 ms a scrape, 80 MiB, 1 % of a CPU, 1 s.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import socket
import statistics
import time
import urllib.request
from pathlib import Path

import msgspec

from ..cli import EXIT_UNREACHABLE, ToolError
from . import exits, quantities, report, rig
from .daemon import Daemon
from .report import say

EXAMPLES = """\
examples:
  sudo afterburner-lab bench daemon                        half a minute
  sudo afterburner-lab bench daemon --idle 120s --json > daemon.json
"""
STEADY_MS = 100  # so soon a run counts as steady: each kill is a first failure, without a pause
BODY = f"""\
[watch]
steady_ms = {STEADY_MS}

[[worker]]
idle = "sleep"

[[capture]]
name = "tx"
port = 8001
"""
WAIT_SECONDS = 20.0


class Settings(msgspec.Struct, frozen=True):
    idle_seconds: float
    scrapes: int
    kills: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--idle",
        type=quantities.duration,
        default=10.0,
        metavar="TIME",
        help="how long to watch it idle (default: 10s)",
    )
    parser.add_argument("--scrapes", type=int, default=200, metavar="N", help="scrapes (default: 200)")
    parser.add_argument("--kills", type=int, default=5, metavar="N", help="kills of the data plane (default: 5)")
    parser.add_argument("-j", "--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    settings = Settings(idle_seconds=args.idle, scrapes=max(2, args.scrapes), kills=max(1, args.kills))
    return report.publish(measure(settings), args.json)


def measure(settings: Settings) -> report.Report:
    name = f"bd{os.getpid()}"
    facts, stolen, listen = report.machine(), report.steal_seconds(), free_address()
    with rig.standing(rig.plan(name)) as standing:
        began = time.monotonic()
        with Daemon(standing, name, BODY, listen=listen) as daemon:
            start = time.monotonic() - began
            idle_cpu = watch_idle(daemon, settings.idle_seconds)
            scrapes = scrape(listen, settings.scrapes)
            memory = resident(daemon)
            recoveries = [recover(daemon, n) for n in range(settings.kills)]
    results = [
        report.result("scrape_p99", "s", percentile(scrapes, 0.99), goal=0.020, better="lower"),
        report.result("scrape_p50", "s", statistics.median(scrapes)),
        report.result("supervisor_memory", "bytes", memory, goal=80 * 2**20, better="lower"),
        report.result("supervisor_idle_cpu", "%", 100 * idle_cpu, goal=1.0, better="lower"),
        report.result("recovery_max", "s", max(recoveries), goal=1.0, better="lower"),
        report.result("recovery_p50", "s", statistics.median(recoveries)),
        report.result("start", "s", start),
    ]
    return report.Report(
        bench="daemon",
        machine=facts,
        settings=msgspec.structs.asdict(settings) | {"steal_seconds": round(report.steal_seconds() - stolen, 2)},
        results=tuple(results),
    )


def pid(daemon: Daemon) -> int:
    if daemon.process is None:
        raise ToolError("the daemon is not running", EXIT_UNREACHABLE)
    return daemon.process.pid


def watch_idle(daemon: Daemon, seconds: float) -> float:
    """Share of one CPU that the supervisor takes while nothing happens. Its start is left out."""
    say(f"watching it idle for {seconds:g} s")
    exits.sleep(2.0)
    before, began = processor_seconds(pid(daemon)), time.monotonic()
    exits.sleep(seconds)
    return (processor_seconds(pid(daemon)) - before) / (time.monotonic() - began)


def processor_seconds(process: int) -> float:
    """User and system time, to the nanosecond (the second field of schedstat is waiting, not running)."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9


def resident(daemon: Daemon) -> int:
    return int(Path(f"/proc/{pid(daemon)}/statm").read_text().split()[1]) * resource.getpagesize()


def free_address() -> str:
    """Where nobody listens at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        host, port = sock.getsockname()
    return f"{host}:{port}"


def scrape(listen: str, count: int) -> list[float]:
    """Times of whole answers."""
    say(f"scraping {count} times")
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        with urllib.request.urlopen(f"http://{listen}/metrics", timeout=10) as answer:
            page = answer.read()
        taken.append(time.perf_counter() - began)
        if b"afterburner_worker_records_total" not in page:
            raise ToolError("the page is not the daemon's", EXIT_UNREACHABLE)
        exits.sleep(0.01)
    return taken


def recover(daemon: Daemon, n: int) -> float:
    """Kills the data plane and waits until it serves again; the daemon's own figure, from noticing to serving."""
    say(f"killing the data plane, {n + 1}")
    before, victim = daemon.snapshot().daemon.value("restart_killed"), plane(daemon)
    if not victim:  # and no signal to process 0, which would be all of us
        raise ToolError(f"the data plane is not there:\n{daemon.said()}", EXIT_UNREACHABLE)
    os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        figures = daemon.snapshot().daemon
        if figures.value("restart_killed") > before and figures.state("state") == "serving" and plane(daemon):
            exits.sleep(3 * STEADY_MS / 1000)
            return daemon.snapshot().daemon.value("recovery_ns") / 1e9
        exits.sleep(0.005)
    raise ToolError(f"the data plane was not back after {WAIT_SECONDS:g} s:\n{daemon.said()}", EXIT_UNREACHABLE)


def plane(daemon: Daemon) -> int:
    """Process ID of the data plane; 0: there is none at the moment."""
    return daemon.snapshot().rows("worker")[0].value("pid")


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
