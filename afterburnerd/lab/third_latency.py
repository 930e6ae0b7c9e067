"""One-way latency from somebody else's QUIC server, on kernel sockets, to the real daemon: `bench latency --peer COMMAND`.

    sender, CPU s                                               receiver, CPU w
    COMMAND server ... [ their engine ] -> UDP socket -> veth -> AF_XDP [ worker | engine ] -> record ring -> read afterwards

The server is a program of its own with the command line of tests/interop/peers/README.md; nothing else of it is known here. It
pushes probes, each on a unidirectional stream of its own, and writes CLOCK_REALTIME into each when it hands it to its engine. The
daemon dials it, shakes hands, adopts the connection. What counts as the end is the clock that a record carries: that of the
burst in which the packet came, 0.2 us before its data is out. Warming up is left out, by sequence number.
"""

from __future__ import annotations

import os
import statistics
import struct
import time

from ..abi.layout import Record, RecordKind
from ..abi.records import RingReader
from ..cli import EXIT_UNREACHABLE, ToolError
from . import exits, third
from .cores import Cores
from .daemon import Daemon
from .labio import Samples
from .quic_pair import NICE, Load
from .rig import Rig

SLOT_BYTES = 256  # the head of a record and a probe
MAGIC = 0xA5
TIME = struct.Struct("<Q")
PROBE = struct.Struct("<BQQ")  # magic, CLOCK_REALTIME in ns, sequence
# Warming up takes more probes than a new connection has streams: until it is adopted nothing is acknowledged, and what
# came meanwhile comes again.
WARM_PROBES = 4096
CONNECT_SECONDS = 10.0
BODY = """\
[records]
slots = {slots}
slot_bytes = {slot_bytes}

[[worker]]
cpu = {cpu}

[[connect]]
name = "peer"
address = "{address}"
port = {port}
"""


def measure(standing: Rig, cores: Cores, load: Load, command: str) -> Samples:
    """`load.rate` probes a second for `load.seconds`, after as many as it takes to warm up."""
    warm = max(WARM_PROBES, round(load.warm_ms / 1000 * load.rate))
    count = warm + round(load.seconds * load.rate)
    options = ("--quiet", "--push", str(count), "--probe-every", str(round(1e6 / load.rate)))
    with third.server(command, standing.sender, cores.sender, *options) as peer:
        os.setpriority(os.PRIO_PROCESS, peer.process.pid, NICE)  # as the daemon's worker has it
        body = BODY.format(
            slots=1 << (count + 1024).bit_length(), slot_bytes=SLOT_BYTES, cpu=cores.receiver,
            address=standing.sender.ipv4, port=peer.port,
        )  # fmt: skip
        with Daemon(standing, f"{standing.name}p", body) as daemon:
            ring = RingReader(daemon.name, 0, "first")
            try:
                found = _collect(ring, count, count / load.rate, daemon)
            finally:
                ring.close()
    return _samples(found, warm, count)


def _collect(ring: RingReader, count: int, seconds: float, daemon: Daemon) -> dict[int, int]:
    """Latency in ns by sequence number: all of them, or what came while some still did."""
    found: dict[int, int] = {}
    until = time.monotonic() + CONNECT_SECONDS + seconds
    while len(found) < count and time.monotonic() < until:
        slots = ring.read(4096)
        if not slots:
            exits.sleep(0.05)
        for slot in slots:
            if slot[Record.OFFSETS["kind"]] != RecordKind.STREAM:
                continue
            magic, sent, sequence = PROBE.unpack_from(slot, Record.SIZE)
            if magic == MAGIC:
                found[sequence] = TIME.unpack_from(slot, Record.OFFSETS["time_ns"])[0] - sent
    if not found:
        raise ToolError(f"--peer: not one probe came; the daemon said:\n{daemon.said()}", EXIT_UNREACHABLE)
    return found


def _samples(found: dict[int, int], warm: int, count: int) -> Samples:
    values = sorted(latency for sequence, latency in found.items() if sequence >= warm)
    if not values:
        raise ToolError(f"--peer: only {len(found)} of {count} probes came", EXIT_UNREACHABLE)

    def at(q: float) -> int:
        return values[int(q * (len(values) - 1))]

    return Samples(
        count=len(values),
        lost=count - len(found),
        beyond=0,
        min=values[0],
        p50=at(0.5),
        p90=at(0.9),
        p99=at(0.99),
        p999=at(0.999),
        max=values[-1],
        mean=round(statistics.fmean(values)),
    )
