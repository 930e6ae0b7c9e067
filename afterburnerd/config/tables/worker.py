"""The data plane: its processes (`[[worker]]`), what they leave behind (`[records]`), who watches them (`[watch]`)."""

from typing import Annotated, Literal

from msgspec import Meta

from afterburnerd.config.key import QueueIndex, Table, key


class Worker(Table, frozen=True):
    """A data plane process. Without any `[[worker]]` there is one, with these defaults."""

    cpu: Annotated[
        Literal["auto"] | Annotated[int, Meta(ge=0, le=8191)],
        key(
            'CPU that the worker is pinned to. "auto": the last isolated one, else the last that the daemon may use; the '
            "next worker gets the one before. CPU 0 only where there is no other.",
            reload="data-plane",
            why="the machine knows better than a file which of its CPUs are isolated",
        ),
    ] = "auto"
    queues: Annotated[
        Literal["all"] | tuple[QueueIndex, ...],
        key(
            'Receive queues of this worker: "all" that `interface.queues` names, or a list. With several workers each '
            "needs its own list, and every queue exactly one worker.",
            reload="data-plane",
            why="one worker serves everything until it is the bottleneck",
        ),
    ] = "all"
    nice: Annotated[
        int,
        key(
            "Nice value of the worker.",
            reload="data-plane",
            why="ahead of ordinary processes, behind the kernel's own threads",
            ge=-20,
            le=19,
        ),
    ] = -10
    fifo: Annotated[
        int,
        key(
            "SCHED_FIFO priority; 0: off. Only with a fixed `cpu`, and the daemon refuses it unless that CPU is "
            "isolated.",
            reload="data-plane",
            why="a spinning FIFO thread starves ksoftirqd of its CPU, and with it the very packets it waits for",
            ge=0,
            le=98,
        ),
    ] = 0
    idle: Annotated[
        Literal["spin", "sleep"],
        key(
            "What the worker does when there is nothing to do: `spin` takes a whole CPU and reacts in well under a "
            "microsecond, `sleep` waits in the kernel.",
            reload="data-plane",
            why="latency is what this daemon is for; choose sleep on a shared or battery-powered machine",
        ),
    ] = "spin"


class Records(Table, frozen=True):
    """The ring of decoded records in shared memory that `afterburnerctl inspect` and clients follow."""

    slots: Annotated[
        int,
        key(
            "Records that the ring of each worker holds. A power of two. A reader that falls further behind than this "
            "loses records, and learns how many.",
            reload="data-plane",
            unit="records",
            why="12.5 MiB a worker; 8 ms of records at a million a second",
            ge=64,
            le=4_194_304,
        ),
    ] = 8192
    slot_bytes: Annotated[
        int,
        key(
            "Bytes of one record, header included. A multiple of 64. A longer payload is cut, and says so: a version 1 "
            "transaction loses its signatures then, which stand at its end. The longest one takes 4224.",
            reload="data-plane",
            unit="bytes",
            why="header (128 bytes) and all that one datagram carries where the MTU is 1500",
            ge=256,
            le=65_536,
        ),
    ] = 1600


class Watch(Table, frozen=True):
    """How the supervisor watches the data plane, and how it brings it back."""

    hang_ms: Annotated[
        int,
        key(
            "A data plane whose heartbeat stands still for this long is killed and started again. (A dead one is "
            "noticed at once.)",
            reload="live",
            unit="milliseconds",
            why="longer than any pause that a busy machine causes, shorter than an operator's patience",
            ge=50,
            le=60_000,
        ),
    ] = 500
    start_ms: Annotated[
        int,
        key(
            "Longest time that a data plane may take from its start to its first heartbeat.",
            reload="live",
            unit="milliseconds",
            why="registering and zeroing large packet memory takes time; serving again takes well under a second",
            ge=500,
            le=120_000,
        ),
    ] = 5_000
    backoff_min_ms: Annotated[
        int,
        key(
            "Pause before the second restart in a row; it doubles with each further one. The first restart is "
            "immediate.",
            reload="live",
            unit="milliseconds",
            why="one crash is an accident, and costs no pause",
            ge=10,
            le=60_000,
        ),
    ] = 100
    backoff_max_ms: Annotated[
        int,
        key(
            "Longest pause between restarts.",
            reload="live",
            unit="milliseconds",
            why="a fault that repeats is logged often enough to be seen and seldom enough to be read",
            ge=10,
            le=600_000,
        ),
    ] = 5_000
    steady_ms: Annotated[
        int,
        key(
            "A data plane that has run for this long is healthy again: its next failure counts as the first.",
            reload="live",
            unit="milliseconds",
            why="twice the longest pause",
            ge=100,
            le=3_600_000,
        ),
    ] = 10_000
