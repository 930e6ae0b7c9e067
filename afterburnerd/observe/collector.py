"""From a snapshot of the statistics segment to the metric families of a Prometheus page.

    segment --StatsReader.read()--> Snapshot --families()--> prometheus_client --> text

The names come from the segment's own description, so the page shows what the daemon counts, whatever its version. On the
way out nanoseconds become seconds, an enum becomes one series a state (1 for the one it is in), and a log-linear
histogram of 1,152 buckets becomes one over powers of two. A power of two is always an edge of the fine histogram, so
nothing is interpolated: the series `le` = 2^k ns counts the values below 2^k ns (they are whole nanoseconds).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from afterburnerd.abi.description import Field
from afterburnerd.abi.histogram import Histogram
from afterburnerd.abi.schema import DERIVED
from afterburnerd.abi.stats import Row, Snapshot

PREFIX = "afterburner_"
NS = 1_000_000_000

# 64 ns (a turn of an idle loop) to 4.3 s (beyond every alert): 27 edges. Finer ones are in `afterburnerctl stats`.
EDGES = tuple(1 << k for k in range(6, 33))
EDGE_LABELS = tuple(floatToGoString(edge / NS) for edge in EDGES)  # type: ignore[no-untyped-call]

HELP = {d.metric: d.help for d in DERIVED}


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """Everything that one snapshot has to say."""
    yield from _derived(snapshot)
    for block in snapshot.blocks:
        rows = snapshot.rows(block)
        by_metric: dict[str, list[Field]] = {}
        for field in snapshot.layout.blocks[block].fields:
            if field.metric and field.kind != "internal":
                by_metric.setdefault(field.metric, []).append(field)
        for metric, fields in by_metric.items():
            if rows:
                yield _family(metric, fields, rows)


def _family(metric: str, fields: list[Field], rows: list[Row]) -> Metric:
    """Fields that share a metric differ in their constant labels (reason, result, ...)."""
    first, name = fields[0], PREFIX + metric
    text = first.help if len(fields) == 1 else first.help.partition(": ")[0]
    labels = [*rows[0].labels, *first.labels]
    match first.kind:
        case "counter":
            counter = CounterMetricFamily(name, text, labels=labels)
            for row, field in _pairs(rows, fields):
                counter.add_metric([*row.labels.values(), *field.labels.values()], _base(field, row.value(field.name)))
            return counter
        case "enum":
            states = GaugeMetricFamily(name, text, labels=[*labels, "state"])
            for row, field in _pairs(rows, fields):
                here = row.value(field.name)
                for i, state in enumerate(field.states):
                    states.add_metric([*row.labels.values(), *field.labels.values(), state], float(i == here))
            return states
        case "histogram":
            histogram = HistogramMetricFamily(name, text, labels=labels)
            for row, field in _pairs(rows, fields):
                values = row.histogram(field.name)
                histogram.add_metric([*row.labels.values(), *field.labels.values()], _buckets(values), values.sum / NS)
            return histogram
    gauge = GaugeMetricFamily(name, text, labels=labels)
    for row, field in _pairs(rows, fields):
        gauge.add_metric([*row.labels.values(), *field.labels.values()], _base(field, row.value(field.name)))
    return gauge


def _pairs(rows: list[Row], fields: list[Field]) -> Iterable[tuple[Row, Field]]:
    return ((row, field) for row in rows for field in fields)


def _base(field: Field, value: int) -> float:
    return value / NS if field.unit == "ns" else float(value)


def _buckets(values: Histogram) -> list[tuple[str, float]]:
    counts = values.below(EDGES)
    return [*zip(EDGE_LABELS, counts, strict=True), ("+Inf", values.count)]


def _derived(snapshot: Snapshot) -> Iterator[Metric]:
    """What no word holds (statistics.DERIVED lists it)."""
    info = snapshot.info
    build = _gauge("build_info", ["version"])
    build.add_metric([info.version], 1)
    yield build
    interface = _gauge("interface_info", ["interface", "driver"])
    interface.add_metric([info.interface, info.driver], 1)
    yield interface
    stale = _gauge("segment_stale", [])
    stale.add_metric([], float(snapshot.stale))
    yield stale
    age = snapshot.heartbeat_age_ns(snapshot.daemon)
    if age is not None:
        daemon = _gauge("daemon_heartbeat_age_seconds", [])
        daemon.add_metric([], age / NS)
        yield daemon
    workers = _gauge("worker_heartbeat_age_seconds", ["worker"])
    for row in snapshot.rows("worker") if "worker" in snapshot.blocks else []:
        age = snapshot.heartbeat_age_ns(row)
        if age is not None:
            workers.add_metric(list(row.labels.values()), age / NS)
    if workers.samples:
        yield workers


def _gauge(metric: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + metric, HELP[metric], labels=labels)
