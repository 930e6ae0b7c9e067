"""`afterburnerctl top`: status, live. Rates, latency and busy ratio are those of the last interval.

On a terminal it refreshes one screen until q or Ctrl-C. Into a pipe it prints page after page, with `-j` one JSON document
a line. It stays when the daemon stops, and goes on when it comes back.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from argparse import Namespace
from collections.abc import Iterator

from afterburnerd.cli import EXIT_OK, ToolError
from afterburnerd.ctl.base import console, find_daemon, print_json, show
from afterburnerd.ctl.view import View
from afterburnerd.ctl.watch import Watcher


def run(args: Namespace) -> int:
    """Watch until told to stop: q, Ctrl-C and the last of `--count` are the ways that this ends well."""
    with contextlib.suppress(KeyboardInterrupt):
        _watch(args)
    return EXIT_OK


def _watch(args: Namespace) -> None:
    with Watcher(find_daemon(args)) as watcher:
        first = watcher.look(min(args.interval, 0.25))  # nothing there at all: say so and leave
        if args.json:
            for view in _views(watcher, first, args):
                print_json(view)
                sys.stdout.flush()
        elif sys.stdout.isatty():
            _screen(watcher, first, args)
        else:
            _pages(watcher, first, args)


def _views(watcher: Watcher, first: View, args: Namespace) -> Iterator[View]:
    """Views at their interval until `--count` or q. The clock is kept: a slow view does not shift the next."""
    due = time.monotonic()
    seen = 0
    view = first
    with keys():
        while True:
            yield view
            seen += 1
            if seen == args.count:
                return
            due = max(due + args.interval, time.monotonic())
            if wait(due):
                return
            try:
                view = watcher.look(min(args.interval, 0.25))
            except ToolError as error:
                view = View(name=watcher.name, control=str(error))


def _screen(watcher: Watcher, first: View, args: Namespace) -> None:
    from rich.live import Live

    from afterburnerd.ctl import tables

    # Ending by exception lets `Live` give the terminal back; being killed outright would leave it on the other screen.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with Live(console=console(), screen=True, auto_refresh=False) as live:
        for view in _views(watcher, first, args):
            live.update(tables.page(view, live=True), refresh=True)


def _pages(watcher: Watcher, first: View, args: Namespace) -> None:
    from afterburnerd.ctl import tables

    for number, view in enumerate(_views(watcher, first, args)):
        if number:
            print()
        show(tables.page(view, live=True))
        sys.stdout.flush()


@contextlib.contextmanager
def keys() -> Iterator[None]:
    """Have keys arrive one by one and unseen, where there is a terminal to type on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def wait(until: float) -> bool:
    """Wait for the moment; True when q is typed before."""
    typing = sys.stdin.isatty() and sys.stdout.isatty()
    while (left := until - time.monotonic()) > 0:
        if not typing:
            time.sleep(left)
        elif select.select([sys.stdin], [], [], left)[0] and os.read(sys.stdin.fileno(), 16).lower().startswith(b"q"):
            return True
    return False
