"""Reserves huge pages for a test. Their number is the whole machine's, and others take of them and change it, too.

So a test that needs an exact number takes turns with the other tests (a lock that all checkouts on this machine know),
gives back what it added and no more, and looks whether the machine's books agree with its own before it judges: where
they do not, somebody else had a hand in it, which is no fault of what is tested (`Disturbed`, `undisturbed`).
"""

from __future__ import annotations

import contextlib
import fcntl
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from afterburnerd.supervisor import hugepages
from tests import netns

LOCK = Path("/run/afterburner-tests.hugepages")
ATTEMPTS = 5


class Disturbed(Exception):
    """Somebody else took huge pages, gave some back, or changed their number."""


def reserve(total: int) -> None:
    """Asks the kernel for so many; it may find fewer. A container has /proc/sys read-only, for us but not in mounts of our own."""
    netns.run(
        *("unshare", "--mount", "sh", "-c"),
        'mount -o remount,bind,rw /proc/sys 2> /dev/null; exec sysctl -qw vm.nr_hugepages="$1"',
        *("sysctl", str(max(0, total))),
    )


def used_by(*pids: int) -> int:
    """Pages that these processes have."""
    found = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/status").read_text()
        kib = re.search(r"^HugetlbPages:\s*(\d+) kB", text, re.MULTILINE)
        found += int(kib[1]) // 2048 if kib else 0
    return found


class Pool:
    """The machine's pages while a test has them: `add` more of them, and see whether the `books` agree."""

    def __init__(self) -> None:
        self.total, free = hugepages.reserved()
        self.others = self.total - free  # in use by somebody else
        self._added = 0

    def add(self, pages: int) -> None:
        """More or fewer of them. Disturbed where the machine does not come to have as many."""
        before = self.total
        reserve(before + pages)
        self.total = hugepages.reserved()[0]
        self._added += self.total - before
        if self.total != before + pages:
            raise Disturbed(f"{before} pages, {pages} more wanted, {self.total} there")

    def check(self, ours: int) -> None:
        """Disturbed unless as many are in use as were, and `ours`."""
        total, free = hugepages.reserved()
        if (total, total - free) != (self.total, self.others + ours):
            raise Disturbed(
                f"{total} pages, {total - free} in use; {self.total} and {self.others} + {ours} are known of"
            )

    def give_back(self) -> None:
        """What was added, and no more: the total may be another one by now, and that somebody else's wish."""
        reserve(hugepages.reserved()[0] - self._added)


@contextlib.contextmanager
def pool() -> Iterator[Pool]:
    """The machine's huge pages, for one test at a time."""
    with LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = Pool()
        try:
            yield made
        finally:
            made.give_back()


@contextlib.contextmanager
def free(pages: int) -> Iterator[bool]:
    """At least so many free ones inside the block; False where the machine cannot give them."""
    with pool() as there:
        with contextlib.suppress(Disturbed):
            there.add(max(0, pages - hugepages.reserved()[1]))
        yield hugepages.reserved()[1] >= pages


def undisturbed(test: Callable[[Pool], None]) -> None:
    """Runs what needs an exact number of pages, until it was undisturbed. Books that agree are no proof (pages may go and
    come back between two looks), so a failure counts if it comes every time that they do; where they never do, it skips."""
    disturbances, failure = [], None
    for _ in range(ATTEMPTS):
        try:
            with pool() as there:
                test(there)
            return
        except Disturbed as error:
            disturbances.append(str(error))
        except AssertionError as error:
            failure = error
    if failure is not None:
        raise failure
    pytest.skip("the huge pages of this machine are not ours alone: " + "; ".join(disturbances))
