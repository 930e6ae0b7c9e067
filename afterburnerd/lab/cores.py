"""Which CPUs a measurement spins on: options, checks, and a block that stays on one.

    two ends     --sender-cpu, --receiver-cpu     the last CPU receives, the one before it sends
    one end      --cpu                            the last CPU

The last ones, because the first has most of the machine's interrupts. What may be chosen is what this process may run on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator

import msgspec

from ..cli import EXIT_UNREACHABLE, EXIT_USAGE, ToolError


class Cores(msgspec.Struct, frozen=True):
    """CPUs of two ends that spin."""

    sender: int
    receiver: int


def usable_cpus() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def add_pair(parser: argparse.ArgumentParser, receiver: str = "receiver") -> None:
    """`receiver`: what the other end is called, in its option too."""
    parser.add_argument(
        f"--{receiver}-cpu",
        dest="receiver_cpu",
        type=int,
        metavar="N",
        help=f"CPU of the {receiver} (default: the last)",
    )
    parser.add_argument("--sender-cpu", type=int, metavar="N", help="CPU of the sender (default: the one before)")
    parser.set_defaults(receiver_name=receiver)


def pair(args: argparse.Namespace) -> Cores:
    cpus = usable_cpus()
    if len(cpus) < 2:
        raise ToolError("this takes two CPUs: both ends spin", EXIT_UNREACHABLE)
    receiver = cpus[-1] if args.receiver_cpu is None else args.receiver_cpu
    sender = [cpu for cpu in cpus if cpu != receiver][-1] if args.sender_cpu is None else args.sender_cpu
    if sender not in cpus or receiver not in cpus or sender == receiver:
        raise ToolError(
            f"--sender-cpu and --{args.receiver_name}-cpu: two different ones of {', '.join(map(str, cpus))}",
            EXIT_USAGE,
        )
    return Cores(sender, receiver)


def add_one(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cpu", type=int, metavar="N", help="CPU to measure on (default: the last)")


def one(args: argparse.Namespace) -> int:
    return usable_cpus()[-1] if args.cpu is None else check(args.cpu)


def check(cpu: int) -> int:
    """`cpu`, if it is one that there is for us."""
    if cpu not in usable_cpus():
        raise ToolError(f"--cpu {cpu}: this process may run on CPU {', '.join(map(str, usable_cpus()))}", EXIT_USAGE)
    return cpu


@contextlib.contextmanager
def staying_on(cpu: int) -> Iterator[None]:
    """This process runs on `cpu` alone, and afterwards where it ran before."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
