"""The table of connections as metrics: by worker, role and state, never by peer, so their number is bounded.

Who wants to know of one connection asks `afterburnerctl connections`. A worker without a table (no QUIC) has no series here.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from afterburnerd.abi.connections import ROLES, STATES, Sums, sum_up, tables_of
from afterburnerd.abi.schema import DERIVED
from afterburnerd.abi.shm import ShmError

NS = 1_000_000_000
PREFIX = "afterburner_"
HELP = {d.metric: d.help for d in DERIVED}
STATISTICS = ((0.0, "min"), (0.5, "median"), (0.9, "p90"), (0.99, "p99"), (1.0, "max"))


def connection_families(name: str) -> Iterator[Metric]:
    """Of every worker of a daemon. A table that cannot be read now is left out: the next scrape finds it, or the next one."""
    found: dict[str, dict[tuple[str, str], Sums]] = {}
    for index in tables_of(name):
        try:
            found[str(index)] = sum_up(name, index)
        except ShmError:
            continue
    if not found:
        return
    states = _gauge("quic_connections_by_state", "role", "state")
    window, flying = _gauge("quic_congestion_window_bytes", "role"), _gauge("quic_in_flight_bytes", "role")
    held, rtt = _gauge("quic_held_message_slots", "role"), _gauge("quic_smoothed_rtt_seconds", "role", "statistic")
    for worker, sums in found.items():
        for role in ROLES.values():
            for state in STATES.values():
                states.add_metric([worker, role, state], sums.get((role, state), Sums()).connections)
            live = sums.get((role, "open"), Sums())
            window.add_metric([worker, role], live.cwnd)
            flying.add_metric([worker, role], live.in_flight)
            held.add_metric([worker, role], live.slots)
            for share, text in STATISTICS if live.srtt_ns else ():
                rtt.add_metric([worker, role, text], live.srtt_ns[round(share * (len(live.srtt_ns) - 1))] / NS)
    yield from (family for family in (states, window, flying, held, rtt) if family.samples)


def _gauge(metric: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + metric, HELP[metric], labels=["worker", *labels])
