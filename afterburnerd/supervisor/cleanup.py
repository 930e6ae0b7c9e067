"""`afterburnerd --clean-up`: removes what dead daemons left in shared memory, and nothing of a living one.

A daemon that ends in order leaves nothing. One that is killed leaves its statistics segment, record rings and
tables of connections, so that somebody can still look at them; the next start replaces them, and the unit's ExecStopPost removes them by this command.

It asks no configuration file: the one on disk may be broken by now, or name another daemon than the one that was killed.
What lies in /dev/shm says itself whose it is. The order of the looks is what makes it safe beside a daemon that is just
starting: rings are noted first, then their segment is judged, then only the very files that were noted are removed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import TextIO

import msgspec

from afterburnerd.abi import shm
from afterburnerd.abi.connections import table_name, tables_of
from afterburnerd.abi.layout import MAGIC, QUIC_ROWS_MAGIC, RECORD_MAGIC
from afterburnerd.abi.records import ring_name, rings_of
from afterburnerd.abi.segment import Segment, Standing, segment_name, throw_away
from afterburnerd.cli import EXIT_OK, EXIT_PERMISSION

FILE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*)\.((?P<kind>stats)|records\.\d{1,5}|(?P<table>connections\.\d{1,5}))"
)


class Found(msgspec.Struct, frozen=True):
    """What became of the files of one name."""

    name: str
    removed: tuple[str, ...] = ()
    kept: str = ""  # why, where nothing was removed


def clean_up(out: TextIO | None = None, err: TextIO | None = None) -> int:
    """Removes what can be removed, says what it did, and returns an exit code."""
    code = EXIT_OK
    for found in remove_left_over():
        for name in found.removed:
            print(f"removed {shm.path_of(name)}, left by a daemon that is dead", file=out or sys.stdout)
        if found.kept:
            print(f"afterburnerd: {found.kept}", file=err or sys.stderr)
            code = EXIT_PERMISSION
    return code


def remove_left_over() -> Iterator[Found]:
    """Goes through every daemon's name that is found in shared memory and is ours to judge."""
    for name in names():
        try:
            removed = _remove(name)
        except shm.ShmError as error:
            yield Found(name, kept=str(error))
        else:
            if removed:
                yield Found(name, tuple(removed))


def names() -> list[str]:
    """Names of daemons that have files of our user here; root judges everybody's.

    Other software may call its files alike, so the first bytes decide. (A file of ours never lacks them: it gets its name
    when it is complete.)
    """
    with os.scandir(shm.DIRECTORY) as entries:
        matches = [match for entry in entries if (match := FILE.fullmatch(entry.name))]
    return sorted({match["name"] for match in matches if _is_ours(match)})


def _is_ours(match: re.Match[str]) -> bool:
    try:
        fd, info = shm.open_readonly(match[0])
    except shm.ShmError:
        return False
    try:
        magic = int.from_bytes(shm.read(fd, 8), sys.byteorder)
    finally:
        os.close(fd)
    wanted = MAGIC if match["kind"] else QUIC_ROWS_MAGIC if match["table"] else RECORD_MAGIC
    return magic == wanted and os.geteuid() in (0, info.st_uid)


def _remove(name: str) -> list[str]:
    files = [ring_name(name, w) for w in rings_of(name)] + [table_name(name, w) for w in tables_of(name)]
    noted = {full: inode for full in files if (inode := _inode(full))}
    segment = Segment.inspect(name)
    if segment.standing is Standing.LIVE:
        return []
    if segment.standing is Standing.STALE:
        noted[segment_name(name)] = segment.inode
    for full, inode in noted.items():
        throw_away(full, inode)
    return list(noted)


def _inode(full: str) -> int:
    try:
        return shm.path_of(full).lstat().st_ino
    except FileNotFoundError:
        return 0
