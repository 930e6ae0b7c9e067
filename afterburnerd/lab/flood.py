"""`afterburner-lab flood`: UDP of one size at a chosen rate, and a true count of what was sent."""

from __future__ import annotations

import argparse

import msgspec

from ..cli import EXIT_USAGE, ToolError
from . import cores, path, quantities, traffic
from .quantities import count_text, rate_text

EXAMPLES = """\
examples:
  afterburner-lab flood                                100,000 packets a second for 5 s, by AF_XDP, from the rig
  afterburner-lab flood --rate max --duration 10s      as fast as one core can
  afterburner-lab flood --count 1000 --via socket -j   exactly 1,000 by a UDP socket; the summary as JSON
  afterburner-lab flood --interface eth1 --to 192.0.2.7:8001 --rate 10k
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rate", type=quantities.rate, default=100_000, metavar="PPS", help="1000, 100k, 1.5M or max (default: 100k)"
    )
    parser.add_argument(
        "--size", type=quantities.payload_size, default=200, metavar="BYTES", help="UDP payload (default: %(default)s)"
    )
    parser.add_argument(
        "--duration", type=quantities.duration, metavar="TIME", help="500ms, 30s, 2m (default: 5s, or until --count)"
    )
    parser.add_argument("--count", type=quantities.amount, metavar="N", help="stop after so many packets")
    parser.add_argument(
        "--flows", type=int, default=1, metavar="N", help="source ports to take turns with (default: 1)"
    )
    add_sender_arguments(parser, default="afxdp")
    path.add_arguments(parser)


def add_sender_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--via", choices=("afxdp", "socket"), default=default, help="how to send (default: %(default)s)"
    )
    parser.add_argument(
        "--queue", type=int, default=0, metavar="N", help="queue of the device, AF_XDP only (default: 0)"
    )
    parser.add_argument("--cpu", type=int, metavar="N", help="pin the sender to this CPU")
    parser.add_argument("-j", "--json", action="store_true", help="the summary as one JSON object; no progress")


def check_sender(args: argparse.Namespace, way: path.Path) -> None:
    """What the kernel would refuse without saying what there is."""
    if args.cpu is not None:
        cores.check(args.cpu)
    if args.via == "socket":
        if args.queue:
            raise ToolError(f"--queue {args.queue}: the kernel chooses a UDP socket's queue; --via afxdp", EXIT_USAGE)
        return
    count = path.queues(way)
    if args.queue < 0 or (count and args.queue >= count):
        there = "one queue, 0" if count == 1 else f"queues 0 to {count - 1}" if count else "queues from 0 on"
        raise ToolError(f"--queue {args.queue}: {way.device} has {there}", EXIT_USAGE)


def run(args: argparse.Namespace) -> int:
    way = path.resolve(args, by_frame=args.via == "afxdp")
    check_sender(args, way)
    order = traffic.Order(
        via=args.via,
        rate=args.rate,
        duration=args.duration or (None if args.count else 5.0),
        count=args.count,
        size=args.size,
        flows=args.flows,
        queue=args.queue,
        cpu=args.cpu,
        batch=32 if args.via == "afxdp" else 64,
    )
    with traffic.progress("flood", order, quiet=args.json) as watch:
        sent = traffic.send(way, order, watch, interruptible=True)
    if args.json:
        print(msgspec.json.encode(sent).decode())
    else:
        print(summary(sent))
    return 0


def summary(sent: traffic.Sent) -> str:
    lines = [
        f"sent {count_text(sent.sent)} packets in {sent.seconds:.2f} s: {rate_text(sent.packets_per_second)}, "
        f"{sent.bits_per_second / 1e6:,.0f} Mbit/s   ({sent.to}, {sent.via})"
    ]
    if sent.queued != sent.completed:
        lines.append(f"  {count_text(sent.queued - sent.completed)} more were queued and never completed by the kernel")
    if sent.dropped_by_device:
        lines.append(
            f"  {count_text(sent.dropped_by_device)} more were dropped by the sending device (counted by it, not in the figure above)"
        )
    if sent.refused:
        lines.append(f"  {count_text(sent.refused)} times the target said that nobody listens on that port")
    return "\n".join(lines)
