"""What `status` and `top` show, as data: made from two looks at the statistics and, where it answers, the daemon's own word.

    Snapshot, Snapshot --.
                          >-- look() --> View --> status.py, top.py: tables
    control.Status  -----'                   `--> JSON

The figures come from shared memory, so a view can be made of a daemon that is dead (`stale`). The control socket adds what
no counter can say: why a worker failed, what is configured and not in force. JSON uses base units: seconds, bytes.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator

from msgspec import Struct

from afterburnerd.abi.connections import Rows
from afterburnerd.abi.control import CaptureStatus, Notice, Status
from afterburnerd.abi.histogram import Histogram
from afterburnerd.abi.stats import Delta, Row, Snapshot
from afterburnerd.ctl.quicview import QuicView, quic_view

QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999))


class Spread(Struct, frozen=True):
    """A histogram in seven numbers, seconds."""

    count: int = 0
    min: float = 0.0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


class Drop(Struct, frozen=True):
    """Packets that were lost to us at one place for one reason."""

    where: str  # xdp, kernel, worker, transmit
    reason: str
    packets: int
    rate: float


class WorkerView(Struct, frozen=True):
    """One worker."""

    index: int
    state: str
    pid: int
    cpu: int  # -1: not pinned
    queues: tuple[int, ...]
    heartbeat_age: float | None  # seconds; None: never seen
    busy: float  # share of the window spent moving packets
    turns_rate: float
    received_rate: float
    decoded: int
    decoded_rate: float
    malformed: int
    malformed_rate: float
    dropped: int
    dropped_rate: float
    longest_gap: float  # since the worker started
    gap: Spread  # in the window
    latency: Spread  # in the window
    latency_total: Spread  # since the start of the daemon
    huge_pages: bool
    memory_bytes: int
    restarts: int | None = None  # None: the daemon was not asked
    last_failure: str = ""


class QueueView(Struct, frozen=True):
    """One queue."""

    worker: int
    queue: int
    mode: str
    rx_packets: int
    rx_rate: float
    rx_bytes_rate: float
    tx_packets: int
    tx_rate: float
    batch: float  # packets of a receive burst, in the window
    kicks_rate: float
    fill_level: int
    rx_level: int
    tx_level: int
    completion_level: int
    ring_size: int
    frames: int
    frames_rx: int
    frames_worker: int
    frames_tx: int
    frame_errors: int


class RuleView(Struct, frozen=True):
    """One capture rule, all workers together."""

    name: str
    where: str  # address:port, and the VLAN of a tagged rule; empty: the daemon was not asked
    decoder: str
    packets: int
    packets_rate: float
    decoded: int
    malformed: int


class View(Struct, frozen=True):
    """The daemon at one moment. Rates are those of the last `window` seconds."""

    name: str
    running: bool = False
    stale: bool = False  # figures of a daemon that is dead
    state: str = "not running"
    detail: str = ""
    version: str = ""
    pid: int = 0
    taken: float = 0.0  # Unix time of the figures; of stale ones the last sign of life
    heartbeat_age: float | None = None  # seconds; None: never seen
    uptime: float = 0.0
    window: float = 0.0
    interface: str = ""
    driver: str = ""
    interface_up: bool = False
    mtu: int = 0
    mode: str = ""  # in force; several where queues differ
    xdp: str = ""  # native, generic, off
    configuration: int = 0  # generation
    config_files: tuple[str, ...] = ()
    workers: tuple[WorkerView, ...] = ()
    queues: tuple[QueueView, ...] = ()
    rules: tuple[RuleView, ...] = ()
    drops: tuple[Drop, ...] = ()
    quic: QuicView | None = None
    latency: Spread = Spread()  # all workers, in the window
    latency_total: Spread = Spread()  # all workers, since the start
    notices: tuple[Notice, ...] = ()
    quic_backend: str = ""  # by what its packets go, and why; empty: QUIC is off, or nobody could be asked
    control: str = ""  # why the control socket did not answer; empty: it did

    @property
    def degraded(self) -> bool:
        """Alive, but not as it should be."""
        return self.running and (self.state != "serving" or any(n.degraded for n in self.notices))


def look(
    name: str, before: Snapshot, after: Snapshot, status: Status | None, control: str, tables: tuple[Rows, ...] = ()
) -> View:
    """Make a view. `control` says why there is no `status`; `tables` are those of QUIC connections."""
    delta = Delta(before, after)
    daemon, info = after.daemon, after.info
    workers = tuple(_worker(row, delta, status) for row in after.rows("worker"))
    queues = tuple(_queue(row, delta) for row in after.rows("queue"))
    beat = after.heartbeat_age_ns(daemon)
    timed = [row for row in after.rows("worker") if "latency" in row]
    taken_ns = after.wall_ns - (beat or 0 if after.stale else 0)
    started_ns = daemon.get("start_time_ns")
    attached, generic = daemon.get("xdp_attached"), daemon.get("xdp_generic")
    return View(
        name=name,
        running=not after.stale,
        stale=after.stale,
        state=daemon.state("state") if not after.stale else "dead",
        detail=status.detail if status else "",
        version=info.version,
        pid=daemon.get("pid"),
        taken=taken_ns / 1e9,
        heartbeat_age=None if beat is None else beat / 1e9,
        uptime=max(taken_ns - started_ns, 0) / 1e9 if started_ns else 0.0,
        window=delta.seconds,
        interface=info.interface,
        driver=info.driver,
        interface_up=bool(daemon.get("interface_up")),
        mtu=daemon.get("interface_mtu"),
        mode=", ".join(dict.fromkeys(q.mode for q in queues)) or "none",
        xdp=("generic" if generic else "native") if attached else "off",
        configuration=daemon.get("config_generation"),
        config_files=status.config_files if status else (),
        workers=workers,
        queues=queues,
        rules=tuple(_rules(delta, status)),
        drops=tuple(_drops(delta)),
        quic=quic_view(tables, delta),
        latency=spread(_sum([delta.histogram(row, "latency") for row in timed])),
        latency_total=spread(_sum([row.histogram("latency") for row in timed])),
        notices=status.notices if status else (),
        quic_backend=_quic(status),
        control=control,
    )


def _quic(status: Status | None) -> str:
    if status is None or status.quic is None:
        return ""
    return f"receives by {status.quic.receive}, sends by {status.quic.send} ({status.quic.reason})"


def spread(histogram: Histogram | None) -> Spread:
    """Reduce a histogram of nanoseconds to seconds."""
    if histogram is None or not histogram.count:
        return Spread()
    quantiles = {name: histogram.quantile(q) / 1e9 for name, q in QUANTILES}
    return Spread(
        count=histogram.count, min=histogram.min / 1e9, mean=histogram.mean / 1e9, max=histogram.max / 1e9, **quantiles
    )


def _sum(histograms: list[Histogram]) -> Histogram | None:
    return functools.reduce(operator.add, histograms) if histograms else None


def _worker(row: Row, delta: Delta, status: Status | None) -> WorkerView:
    index = int(row.labels["worker"])
    malformed = [f.name for f in row.fields if f.name.startswith("malformed_")]
    drops = [f.name for f in row.fields if f.name.startswith("drop_")]
    received = [q for q in delta.after.rows("queue") if q.labels["worker"] == row.labels["worker"]]
    info = delta.after.info.workers[index]
    beat = delta.after.heartbeat_age_ns(row)
    said = next((w for w in status.workers if w.index == index), None) if status else None
    return WorkerView(
        index=index,
        state=row.state("state") if not delta.after.stale else "down",
        pid=row.get("pid"),
        cpu=info.cpu,
        queues=info.queues,
        heartbeat_age=None if beat is None else beat / 1e9,
        busy=min(delta.ratio(row, "busy_ns", "run_ns"), 1.0),
        turns_rate=delta.row_rate(row, "turns"),
        received_rate=sum(delta.row_rate(q, "rx_packets") for q in received),
        decoded=row.get("decoded"),
        decoded_rate=delta.row_rate(row, "decoded"),
        malformed=sum(row.get(n) for n in malformed),
        malformed_rate=sum(delta.row_rate(row, n) for n in malformed),
        dropped=sum(row.get(n) for n in drops),
        dropped_rate=sum(delta.row_rate(row, n) for n in drops),
        longest_gap=row.get("gap_max_ns") / 1e9,
        gap=spread(delta.histogram(row, "gap") if "gap" in row else None),
        latency=spread(delta.histogram(row, "latency") if "latency" in row else None),
        latency_total=spread(row.histogram("latency") if "latency" in row else None),
        huge_pages=bool(row.get("huge_pages")),
        memory_bytes=row.get("memory_bytes"),
        restarts=said.restarts if said else None,
        last_failure=said.last_failure if said else "",
    )


def _queue(row: Row, delta: Delta) -> QueueView:
    bursts = delta.change(row, "rx_bursts")
    return QueueView(
        worker=int(row.labels["worker"]),
        queue=int(row.labels["queue"]),
        mode=row.state("mode").replace("_", "-"),
        rx_packets=row.get("rx_packets"),
        rx_rate=delta.row_rate(row, "rx_packets"),
        rx_bytes_rate=delta.row_rate(row, "rx_bytes"),
        tx_packets=row.get("tx_packets"),
        tx_rate=delta.row_rate(row, "tx_packets"),
        batch=delta.change(row, "rx_packets") / bursts if bursts else 0.0,
        kicks_rate=delta.row_rate(row, "tx_kicks") + delta.row_rate(row, "rx_kicks"),
        fill_level=row.get("fill_level"),
        rx_level=row.get("rx_level"),
        tx_level=row.get("tx_level"),
        completion_level=row.get("completion_level"),
        ring_size=row.get("ring_size"),
        frames=row.get("frames"),
        frames_rx=row.get("frames_rx"),
        frames_worker=row.get("frames_worker"),
        frames_tx=row.get("frames_tx"),
        frame_errors=row.get("frame_errors"),
    )


def _rules(delta: Delta, status: Status | None) -> Iterator[RuleView]:
    rows: dict[str, list[Row]] = {}
    for row in delta.after.rows("rule"):
        rows.setdefault(row.labels["rule"], []).append(row)
    for name, parts in rows.items():
        said = next((c for c in status.captures if c.name == name), None) if status else None
        yield RuleView(
            name=name,
            where=_where(said) if said else "",
            decoder=said.decoder if said else "",
            packets=sum(r.get("packets") for r in parts),
            packets_rate=sum(delta.row_rate(r, "packets") for r in parts),
            decoded=sum(r.get("decoded") for r in parts),
            malformed=sum(r.get("malformed") for r in parts),
        )


def _where(said: CaptureStatus) -> str:
    host = f"[{said.address}]" if ":" in said.address else said.address
    tags = f" vlan {'.'.join(map(str, said.vlans))}" if said.vlans else ""
    return f"{host}:{said.port}{tags}"


def _drops(delta: Delta) -> Iterator[Drop]:
    """Where packets were lost, largest first within each place; places in the order that a packet comes by."""
    found: dict[tuple[str, str], list[float]] = {}

    def add(where: str, reason: str, row: Row, name: str) -> None:
        if row.get(name):
            entry = found.setdefault((where, reason), [0, 0.0])
            entry[0] += row.get(name)
            entry[1] += delta.row_rate(row, name)

    after = delta.after
    for row in after.rows("xdp") if "xdp" in after.blocks else []:
        if row.labels.get("verdict") == "drop":
            add("xdp", row.labels.get("reason", ""), row, "packets")
    for row in after.rows("kernel") if "kernel" in after.blocks else []:
        add("kernel", "other", row, "rx_dropped")
        add("kernel", "rx_ring_full", row, "rx_ring_full")
    for row in after.rows("worker"):
        for field in row.fields:
            if field.name.startswith("drop_"):
                add("worker", field.name.removeprefix("drop_"), row, field.name)
    for row in after.rows("queue"):
        add("transmit", "no_room", row, "tx_dropped")
    order = ("xdp", "kernel", "worker", "transmit")
    for (where, reason), (packets, rate) in sorted(found.items(), key=lambda i: (order.index(i[0][0]), -i[1][0])):
        yield Drop(where, reason, int(packets), rate)
