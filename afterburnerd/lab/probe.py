"""`afterburner-lab probe`: how long a small message takes one way, how many are missing, and what QUIC lost and mended.

    [0xA5 | sender's clock, 8 bytes | sequence, 8 bytes]     one every --interval, on a unidirectional stream of its own

Both ends are the data plane's own worker with its engine (quic_pair.py) and have one clock, so one way is measured. Two figures of
loss, which say different things, are kept apart: *gaps* are messages that came out of their order or not at all, as an application
sees it; *packets lost* is what the sender's loss detection gave up and sent again, which the application never notices.
"""

from __future__ import annotations

import argparse
import os

import msgspec

from ..cli import EXIT_DEGRADED, EXIT_USAGE, ToolError
from . import bench_latency, cores, quantities, quic_pair, rig
from .labio import Samples
from .quic_pair import AFXDP, SOCKET, Load, Outcome

EXAMPLES = """\
examples:
  sudo afterburner-lab probe                                one second each way over AF_XDP, a message every 10 us
  sudo afterburner-lab probe --direction down --by socket   from server to client, over UDP sockets
  sudo afterburner-lab probe --interval 1ms --duration 10s --json
"""
DIRECTIONS = {"up": "client to server", "down": "server to client"}
MICRO = 1e3  # ns
RATE_MAX = 1_000_000
BAR = 40  # characters of the fullest bucket


class Probed(msgspec.Struct, frozen=True):
    """One direction. Latencies in ns."""

    direction: str
    by: str
    sent: int
    received: int
    acknowledged: int
    gaps: int  # as the application sees it
    packets_sent: int
    packets_lost: int  # as QUIC sees it
    packets_spurious: int  # of these, given up too early
    latency: Samples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--direction", choices=(*DIRECTIONS, "both"), default="both", help="which end sends (default: %(default)s)"
    )
    parser.add_argument("--by", choices=("afxdp", "socket"), default="afxdp", help="way in and out (default: afxdp)")
    parser.add_argument(
        "--interval",
        type=quantities.duration,
        default=10e-6,
        metavar="TIME",
        help="between two messages (default: 10us)",
    )
    parser.add_argument(
        "--duration", type=quantities.duration, default=1.0, metavar="TIME", help="of each direction (default: 1s)"
    )
    cores.add_pair(parser)
    parser.add_argument("-j", "--json", action="store_true", help="one JSON object for each direction")


def run(args: argparse.Namespace) -> int:
    if args.interval <= 0 or not 1 <= round(1 / args.interval) <= RATE_MAX:
        raise ToolError("--interval: 1us to 1s", EXIT_USAGE)
    chosen = cores.pair(args)
    load = Load(size=bench_latency.PROBE_BYTES, probe=True, rate=round(1 / args.interval), seconds=args.duration)
    way = AFXDP if args.by == "afxdp" else SOCKET
    code = 0
    with rig.standing(rig.plan(f"pr{os.getpid()}", isolated=True)) as standing:
        for direction in DIRECTIONS if args.direction == "both" else (args.direction,):
            outcome = quic_pair.run(standing, chosen, load, way, way, downward=direction == "down")
            found = probed(direction, args.by, outcome)
            print(msgspec.json.encode(found).decode() if args.json else render(found), flush=True)
            if found.gaps or found.received != found.sent or found.acknowledged != found.sent:
                code = EXIT_DEGRADED
    return code


def probed(direction: str, by: str, outcome: Outcome) -> Probed:
    assert outcome.samples is not None
    return Probed(
        direction=direction,
        by=by,
        sent=outcome.sender.accepted,
        received=outcome.receiver.probes,
        acknowledged=outcome.sender.acknowledged,
        gaps=outcome.receiver.gaps,
        packets_sent=outcome.sender.quic_sent,
        packets_lost=outcome.sender.quic_lost,
        packets_spurious=outcome.sender.spurious,
        latency=outcome.samples,
    )


def stats_line(found: Probed) -> str:
    """As the predecessors of this program printed it; `Lost` is the gaps in the sequence."""
    at = found.latency
    return (
        f"[STATS] Lat(us) Avg={at.mean / MICRO:.1f} Min={at.min / MICRO:.1f} Max={at.max / MICRO:.1f} "
        f"| RX: {found.received} | Lost: {found.gaps}"
    )


def histogram(at: Samples) -> list[str]:
    """A line for each bucket that has any, its bar as long as its share of the fullest."""
    most = max((count for _, _, count in at.buckets), default=1)
    lines = []
    for lower, upper, count in at.buckets:
        bar = "#" * max(1, round(BAR * count / most))
        lines.append(
            f"  {lower / MICRO:>9g} to {upper / MICRO:>9g} us  {bar:<{BAR}}  {count:>9,}  {100 * count / at.count:6.2f} %"
        )
    return lines


def render(found: Probed) -> str:
    at = found.latency
    points = ("min", "p50", "p90", "p99", "p999", "max")
    spread = "  ".join(f"{name} {getattr(at, name) / MICRO:.2f}" for name in points)
    buckets = "".join(f"{line}\n" for line in histogram(at))
    return (
        f"{DIRECTIONS[found.direction]}, by {found.by}\n"
        f"{stats_line(found)}\n"
        f"  one way       {spread} us, of {at.count} messages\n"
        f"{buckets}"
        f"  messages      {found.sent} sent, {found.received} received, {found.acknowledged} acknowledged, {found.gaps} gaps\n"
        f"  packets       {found.packets_sent} sent, {found.packets_lost} lost and mended, "
        f"{found.packets_spurious} of them too early"
    )
