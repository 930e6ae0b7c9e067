"""What an operator has to do for packet memory in 2 MiB pages.

`vm.nr_hugepages` is the number of all of them, those that somebody else has in use included: advice that names only what we
need would take pages away from another daemon or a database.
"""

from __future__ import annotations

from pathlib import Path

POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")


def reserved(pool: Path = POOL) -> tuple[int, int]:
    """How many there are, and how many of them are free; (0, 0) where the kernel has none."""
    try:
        return int((pool / "nr_hugepages").read_text()), int((pool / "free_hugepages").read_text())
    except OSError:
        return 0, 0


def advice(needed: int, total: int, free: int) -> str:
    """The command for `needed` pages beside those that are in use, by us or by others."""
    if free >= needed:
        return "there are enough by now: systemctl restart afterburner"
    return f"sysctl vm.nr_hugepages={total - free + needed}, then systemctl restart afterburner"
