"""`afterburnerctl doctor`: examines machine, device and daemon, and says what to change, why, and with which command.

    model.py      Facts (all that was looked at) and Finding (what is said about it)      (data)
    gather.py     /proc, /sys, ioctl, netlink, shared memory -> Facts                     (the only file that looks)
    machine.py    kernel, CPUs, memory: Facts -> findings                                 (pure)
    device.py     the network device: Facts -> findings                                   (pure)
    service.py    rights, unit, what runs: Facts -> findings                              (pure)
    report.py     findings -> text, JSON, exit code                                       (pure)

It changes nothing and needs no daemon. Without root it says less: what it may not read it leaves out, never guesses.

This is the one command that uses the room `net`: what NIC and kernel say of themselves is asked there, and only there.
"""

from __future__ import annotations

import argparse
from argparse import Namespace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--interface", metavar="NAME", help="examine this device, whatever the configuration says")
    parser.add_argument("--problems", action="store_true", help="leave out what is well")


def run(args: Namespace) -> int:
    """Examine, print, and return 0 if nothing needs attention, else 1."""
    from pathlib import Path

    from afterburnerd.config import DEFAULT_PATH, Config, load
    from afterburnerd.ctl.base import find_daemon, print_json
    from afterburnerd.ctl.doctor import report
    from afterburnerd.ctl.doctor.gather import gather

    absent = args.config is None and not Path(DEFAULT_PATH).exists()  # not configured yet: the defaults are examined
    config = Config() if absent else load(args.config or DEFAULT_PATH).config
    facts = gather(config, find_daemon(args).name, interface=args.interface)
    findings = report.examine(facts)
    if args.json:
        print_json(report.document(facts, findings))
    else:
        report.show(facts, findings, problems_only=args.problems)
    return report.exit_code(findings)
