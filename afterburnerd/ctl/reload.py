"""`afterburnerctl reload`: have the daemon read its configuration again.

The daemon applies it whole or not at all, and says which; this command only prints the answer. Exit code 0 means that
the files are in force now, 78 that nothing was applied.
"""

from __future__ import annotations

import sys
from argparse import Namespace

from afterburnerd.abi.control import ControlClient, ReloadResult
from afterburnerd.cli import EXIT_CONFIG, EXIT_OK
from afterburnerd.config import Change
from afterburnerd.ctl.base import PROG, find_daemon, print_json
from afterburnerd.ctl.settings import print_changes


def run(args: Namespace) -> int:
    """Reload and say what became of it."""
    place = find_daemon(args)
    with ControlClient(place.run_dir) as daemon:
        result = daemon.reload(args.timeout)
    if args.json:
        print_json(result)
    else:
        _print(result)
    return EXIT_OK if result.ok else EXIT_CONFIG


def _print(result: ReloadResult) -> None:
    changes = tuple(Change(c.path, c.old, c.new, c.reload) for c in result.changes)
    if changes:
        print_changes(changes, old="old", new="new")
    sys.stdout.flush()
    if result.ok:
        applied = f"configuration {result.generation} is in force" if changes else "nothing has changed"
        print(f"reloaded: {applied}{'; the data plane was restarted' if result.data_plane_restarted else ''}")
        return
    for error in result.errors:
        print(f"{PROG}: {error}", file=sys.stderr)
    if result.needs_restart and not result.errors:
        keys = ", ".join(result.needs_restart)
        print(f"{PROG}: cannot be changed while running: {keys}; use systemctl restart afterburner", file=sys.stderr)
    print(f"{PROG}: nothing was applied; configuration {result.generation} stays in force", file=sys.stderr)
