"""`afterburnerctl trace`: what the kernel drops on the way to the daemon, live, with its reason.

    trace.c (in the kernel) --> program.py (compile, load, records) --> events.py (names, sentences) --> here (print)

The daemon's counters say that frames were lost; this says where and why, one by one: frames that found no AF_XDP socket
or no room in its ring, XDP programs that failed, datagrams to our ports that the kernel's own stack dropped. The daemon
is neither asked nor slowed, and need not run.
"""

from __future__ import annotations

import socket
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Protocol

from afterburnerd.cli import EXIT_OK, EXIT_UNREACHABLE, ToolError
from afterburnerd.config import DEFAULT_PATH, ConfigError, load
from afterburnerd.ctl.base import note, print_json
from afterburnerd.ctl.trace.events import Event, Names, decode, line

POLL = 0.25  # seconds; Ctrl-C is looked for in between


class Source(Protocol):
    """The part of program.Tracer that is used here."""

    reasons: dict[int, str]

    @property
    def lost(self) -> int: ...
    def poll(self, seconds: float) -> list[bytes]: ...
    def symbol(self, address: int) -> str: ...


def wanted(args: Namespace) -> tuple[frozenset[int], str]:
    """Ports and interface: of the command line, else of the configuration. "": every interface."""
    ports, interface = frozenset(args.port or ()), args.interface
    if not ports or interface is None:
        try:
            config = load(args.config or DEFAULT_PATH).config
        except ConfigError as error:
            raise ToolError(
                f"{error.problems[0]}; --interface and --port need no configuration", error.exit_code
            ) from None
        ports = ports or frozenset([*(rule.port for rule in config.captures), *(one.port for one in config.listens)])
        interface = config.interface.name if interface is None else interface
    return ports, "" if interface == "all" else interface


def index_of(interface: str) -> int:
    if not interface:
        return 0
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        names = ", ".join(name for _, name in socket.if_nameindex())
        raise ToolError(
            f"there is no interface {interface} in this network namespace, which has {names}; --interface all traces every one",
            EXIT_UNREACHABLE,
        ) from None


def name_of(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"if{index}"  # gone, or of another namespace


def run(args: Namespace) -> int:
    from afterburnerd.ctl.trace.program import Tracer, check_rights

    check_rights()
    ports, interface = wanted(args)
    tracer = Tracer(ports, index_of(interface))
    try:
        if not args.json:
            of = f"UDP port{'s' * (len(ports) != 1)} {', '.join(map(str, sorted(ports)))}" if ports else "no port"
            note(f"tracing {interface or 'every interface'}, {of}; Ctrl-C ends it")
        follow(args, tracer, time.monotonic)
    finally:
        tracer.close()
    return EXIT_OK


def follow(args: Namespace, source: Source, clock: Callable[[], float]) -> None:
    """Until `--count`, `--for` or Ctrl-C."""
    names = Names(name_of, source.symbol, source.reasons, time.time_ns() - time.monotonic_ns())
    until = clock() + args.seconds if args.seconds else float("inf")
    shown = lost = 0
    try:
        while clock() < until and (args.count is None or shown < args.count):
            records = source.poll(min(POLL, until - clock()))
            for record in records[: None if args.count is None else args.count - shown]:
                _show(decode(record, names), args.json)
                shown += 1
            if source.lost != lost:
                _show_lost(source.lost - lost, args.json)
                lost = source.lost
            if records:
                sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    if not args.json:
        note(f"{shown:,} event{'' if shown == 1 else 's'}" + (f", {lost:,} more lost" if lost else ""))


def _show(event: Event, json: bool) -> None:
    if json:
        print_json(event)
    else:
        sys.stdout.write(line(event) + "\n")


def _show_lost(count: int, json: bool) -> None:
    if json:
        print_json({"event": "lost", "count": count})
    else:
        note(f"{count:,} events lost: they came faster than they could be shown")
