"""`afterburnerctl status`: is it well? One page, and an exit code that a script can go by.

0   serving
1   alive, but not as it should be: starting, degraded, recovering, stopping
3   not running (what the last daemon left is shown all the same, marked stale)
69  alive by its heartbeat, but its control socket does not answer
"""

from __future__ import annotations

from argparse import Namespace

from afterburnerd.cli import EXIT_DEGRADED, EXIT_NOT_RUNNING, EXIT_OK, EXIT_UNREACHABLE, ToolError
from afterburnerd.ctl.base import find_daemon, print_json, show
from afterburnerd.ctl.view import View
from afterburnerd.ctl.watch import Watcher


def run(args: Namespace) -> int:
    """Show the page."""
    place = find_daemon(args)
    with Watcher(place) as watcher:
        try:
            view = watcher.look()
        except ToolError as error:
            if args.json:
                print_json(View(name=watcher.name, control=str(error)))
            raise
        code = exit_code(view, watcher.control.exit_code if watcher.control else EXIT_OK)
    if args.json:
        print_json(view)
    else:
        from afterburnerd.ctl import tables

        show(tables.page(view, live=False))
    return code


def exit_code(view: View, control: int) -> int:
    """What the shell is told. `control` is the exit code of the attempt to ask the control socket."""
    if not view.running:
        return EXIT_NOT_RUNNING
    if control == EXIT_UNREACHABLE:
        return EXIT_UNREACHABLE
    return EXIT_DEGRADED if view.degraded else EXIT_OK
