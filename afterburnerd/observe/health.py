"""Is it serving? One answer for the exporter's /healthz, from the same figures that everybody reads."""

from __future__ import annotations

import msgspec

from afterburnerd.abi.stats import Snapshot

# A supervisor ticks every second. Five without one, and what the segment says about its state is history.
SILENCE_NS = 5_000_000_000

SERVING = ("serving", "degraded")


class Health(msgspec.Struct, frozen=True):
    serving: bool
    reason: str  # one line for a person


def health(snapshot: Snapshot) -> Health:
    """Serving, also where degraded: packets are handled. Otherwise the reason why not."""
    daemon = snapshot.daemon
    if snapshot.stale:
        return Health(False, f"not running: the supervisor (process {snapshot.identity.pid}) is dead")
    silence = snapshot.heartbeat_age_ns(daemon)
    if silence is None or silence > SILENCE_NS:
        seconds = "ever" if silence is None else f"for {silence / 1e9:.1f} s"
        return Health(False, f"the supervisor has not been heard {seconds}")
    state = daemon.state("state")
    down = [
        f"worker {row.labels['worker']} is {row.state('state')}"
        for row in snapshot.rows("worker")
        if row.state("state") != "running"
    ]
    closed = [
        f"queue {row.labels['queue']} is not bound" for row in snapshot.rows("queue") if row.state("mode") == "closed"
    ]
    if not daemon.get("interface_up", 1):
        down.insert(0, f"interface {snapshot.info.interface} is down")
    if state not in SERVING:
        return Health(False, ", ".join([state, *down, *closed]))
    # What the daemon calls degraded may be more than can be seen here (status tells).
    return Health(True, ", ".join([state, *down, *closed]))
