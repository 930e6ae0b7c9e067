"""Where the daemon is, and how results are printed: what all commands share.

A daemon is found by two things, its name (shared memory) and its run directory (control socket). Both can be given on
the command line; else they come from the configuration file, even from one that is being edited and wrong at the
moment: an operator who broke the file must still be able to see how the running daemon does.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from afterburnerd.cli import ToolError
from afterburnerd.config import DEFAULT_PATH, Daemon, Problem, peek

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PROG = "afterburnerctl"


class Place(Struct, frozen=True):
    """Where a daemon is."""

    name: str  # of its shared memory
    run_dir: str  # of its control socket
    config_path: str  # main configuration file
    given: bool  # the file was named on the command line
    name_given: bool = False  # the name was; else what the daemon says of itself counts more


def find_daemon(args: Namespace) -> Place:
    """Find the daemon that the command line means."""
    path = args.config or DEFAULT_PATH
    name, run_dir = args.name, args.run_dir
    if name is None or run_dir is None:
        daemon, problems = _peek(path, given=args.config is not None)
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            note(f"the configuration has problems, taking what can be read: {problems[0]}{more}")
        name = daemon.name if name is None else name
        run_dir = daemon.run_dir if run_dir is None else run_dir
    return Place(name, run_dir, path, args.config is not None, args.name is not None)


def _peek(path: str, *, given: bool) -> tuple[Daemon, list[Problem]]:
    if not given and not Path(path).parent.exists():
        return Daemon(), []
    daemon, problems = peek(path)
    unreadable = [p for p in problems if p.file == path and p.line == 0]
    if unreadable and given:
        raise ToolError(str(unreadable[0]), 77 if unreadable[0].permission else 78)
    if unreadable and not Path(path).exists():  # no file at the usual place: the defaults are meant
        problems = [p for p in problems if p not in unreadable]
    return daemon, problems


def note(text: str) -> None:
    """Tell the operator something beside the result."""
    print(f"{PROG}: {text}", file=sys.stderr)


def print_json(document: Any) -> None:
    """Print one JSON document on one line, so that several make JSON lines."""
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")


PIPE_WIDTH = 160
"""Columns of a table that goes into a file or a pipe."""


def console() -> Console:
    """Where live tables go. Colours and width follow the terminal (and NO_COLOR)."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def show(renderable: RenderableType) -> None:
    """Print a table, or whatever rich can print; into a pipe without the blanks that fill its lines up."""
    out = console()
    if sys.stdout.isatty():
        out.print(renderable)
        return
    with out.capture() as text:
        out.print(renderable)
    for line in text.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")
