"""Which processor a worker is pinned to, and whether it may have a real-time priority there.

An isolated processor (isolcpus=) is the best one for a loop that never sleeps: the scheduler puts nothing else on it.
"""

from __future__ import annotations

import os
from pathlib import Path

from afterburnerd.cli import EXIT_CONFIG
from afterburnerd.supervisor.refusal import Refusal


def isolated_cpus() -> list[int]:
    """Processors that the scheduler leaves alone (isolcpus=)."""
    try:
        text = Path("/sys/devices/system/cpu/isolated").read_text().strip()
    except OSError:
        return []
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def choose_cpu(wanted: int | str, index: int) -> int:
    """The processor of worker `index`: the configured one, else an isolated one, else the last ones that we may use."""
    allowed = sorted(os.sched_getaffinity(0))
    if isinstance(wanted, int):
        if wanted not in allowed and wanted not in isolated_cpus():
            raise Refusal(
                f"worker[{index}].cpu = {wanted}: this process may use processors {allowed}; choose one of them",
                EXIT_CONFIG,
            )
        return wanted
    pool = [cpu for cpu in isolated_cpus() if cpu < (os.cpu_count() or 1)] or allowed[1:] or allowed
    return pool[-1 - index % len(pool)]


def check_fifo(fifo: int, cpu: int, index: int, isolated: list[int]) -> None:
    """A spinning SCHED_FIFO thread starves ksoftirqd on its processor, and with it the packets it waits for."""
    if fifo and cpu not in isolated:
        raise Refusal(
            f"worker[{index}].fifo = {fifo} on processor {cpu}, which is not isolated: a spinning real-time thread would "
            f"starve the kernel's packet processing there; boot with isolcpus={cpu}, or set fifo = 0",
            EXIT_CONFIG,
        )
