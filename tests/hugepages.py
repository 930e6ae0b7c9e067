"""Reserves huge pages for a test. The number is the whole machine's: a test gives back what it took."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from afterburnerd.supervisor import hugepages
from tests import netns


def reserve(total: int) -> None:
    """Asks the kernel for so many; it may find fewer. A container has /proc/sys read-only, for us but not in mounts of our own."""
    netns.run(
        *("unshare", "--mount", "sh", "-c"),
        'mount -o remount,bind,rw /proc/sys 2> /dev/null; exec sysctl -qw vm.nr_hugepages="$1"',
        *("sysctl", str(total)),
    )


@contextlib.contextmanager
def free(pages: int) -> Iterator[bool]:
    """Exactly so many free ones inside the block; False where the machine cannot give them."""
    total, unused = hugepages.reserved()
    reserve(total - unused + pages)
    try:
        yield hugepages.reserved()[1] == pages
    finally:
        reserve(total)
