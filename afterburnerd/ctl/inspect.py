"""`afterburnerctl inspect`: follow the record rings and show what the filters let through.

The daemon is never slowed. What comes faster than it can be shown is lost to this reader alone, and it says how much: on
standard error, or between the records with `-j` as {"kind":"lost","count":N}.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable

from afterburnerd import client
from afterburnerd.abi import shm
from afterburnerd.abi.stats import StatsReader
from afterburnerd.cli import EXIT_NOT_RUNNING, EXIT_OK, ToolError
from afterburnerd.ctl import filters, transactions
from afterburnerd.ctl.base import find_daemon, note, print_json

PAUSE = 0.005  # seconds between looks when nothing comes
REPORT = 1.0  # seconds between two reports of losses
YELLOW, PLAIN = "\x1b[33m", "\x1b[0m"


class Inspection:
    """One run: what was seen, and when it is over."""

    def __init__(
        self, args: Namespace, wanted: filters.Filter, follower: client.Follower, clock: Callable[[], float]
    ) -> None:
        self.args = args
        self.wanted = wanted
        self.follower = follower
        self.clock = clock
        self.seen = 0
        self.shown = 0
        self.lost = 0  # as reported
        self._until = clock() + args.seconds if args.seconds else float("inf")
        self._reported = float("-inf")
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    @property
    def over(self) -> bool:
        """Whether `--count` or `--for` has been reached."""
        return self.clock() >= self._until or (self.args.count is not None and self.shown >= self.args.count)

    def turn(self) -> bool:
        """Show what is there now. False: nothing was."""
        records = self.follower.poll()
        for record in records:
            self.seen += 1
            if self.wanted.matches(record):
                self.shown += 1
                self._show(record)
                if self.shown == self.args.count:
                    break
        self._losses(final=False)
        if records:
            sys.stdout.flush()
        return bool(records)

    def finish(self) -> None:
        """Say what there was altogether."""
        self._losses(final=True)
        sys.stdout.flush()
        if not self.args.json:
            lost = (
                f", {self.follower.lost:,} lost: they came faster than they could be shown"
                if self.follower.lost
                else ""
            )
            note(f"{self.seen:,} record{'' if self.seen == 1 else 's'} seen, {self.shown:,} shown{lost}")

    def _show(self, record: client.Record) -> None:
        if self.args.json:
            print_json(transactions.document(record, full=self.args.full))
            return
        text = transactions.line(record)
        if self._colour and record.head.kind == client.RecordKind.MALFORMED:
            text = f"{YELLOW}{text}{PLAIN}"
        sys.stdout.write(text + "\n")
        if self.args.full:
            for more in transactions.block(record):
                sys.stdout.write(more + "\n")

    def _losses(self, *, final: bool) -> None:
        lost = self.follower.lost - self.lost
        if not lost or (not final and self.clock() - self._reported < REPORT):
            return
        self.lost += lost
        self._reported = self.clock()
        if self.args.json:
            print_json({"kind": "lost", "count": lost})
        elif not final:
            note(f"{lost:,} records lost: they came faster than they could be shown")


def run(args: Namespace) -> int:
    """Show records until `--count`, `--for` or Ctrl-C."""
    try:
        wanted = filters.from_args(args)
    except filters.FilterError as error:
        args.parser.error(str(error))
    place = find_daemon(args)
    try:
        dead, rules = _left(place.name)
        dead = dead and not args.wait
        for unknown in filters.unknown_rules(wanted, rules):
            note(f"there is no rule {unknown!r} (yet): the daemon has {', '.join(rules)}")
        if dead and not args.history:
            raise ToolError(
                f"not running: {place.name} is dead; --history shows the records that it left", EXIT_NOT_RUNNING
            )
        with client.follow(place.name, oldest=args.history, wait=args.wait) as follower:
            _follow(Inspection(args, wanted, follower, time.monotonic), dead=dead)
    except shm.ShmError as error:
        raise ToolError(str(error), error.exit_code) from None
    return EXIT_OK


def _follow(inspection: Inspection, *, dead: bool) -> None:
    if sys.stdout.isatty() and not inspection.args.json:
        print(transactions.HEADER)
    try:
        while not inspection.over:
            if not inspection.turn():
                if dead:  # what it left has been shown
                    break
                time.sleep(PAUSE)
    except KeyboardInterrupt:
        pass
    inspection.finish()


def _left(name: str) -> tuple[bool, tuple[str, ...]]:
    """Whether only the remains of a daemon are there, and its capture rules."""
    try:
        with StatsReader.open(name) as reader:
            snapshot = reader.read()
            return snapshot.stale, snapshot.info.rules
    except shm.NotThere:
        return False, ()  # the rings, or their absence, will tell
