"""Writes afterburner.json, the Grafana dashboard: what is on it stands below as data, one line a query.

    python -m deploy.grafana.dashboard            write
    python -m deploy.grafana.dashboard --check    exit 1 where the committed file is not what stands here

Two variables choose what is shown: the data source, and the instances. A test asks a real Prometheus for every
query, so a metric that was renamed cannot leave an empty panel behind.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afterburnerd import generated

TARGET = Path(__file__).with_name("afterburner.json")
COLUMNS = 24
HEIGHT = 7
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Query:
    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    title: str
    unit: str  # Grafana's name of it
    queries: tuple[Query, ...]
    help: str = ""
    kind: str = "timeseries"  # or stat, state-timeline
    width: int = 8
    stacked: bool = False
    log: bool = False
    mappings: tuple[tuple[str, str, str], ...] = field(default=())  # value, text, colour


def q(expr: str, legend: str = "") -> Query:
    return Query(expr, legend)


def metric(name: str, labels: str = "") -> str:
    inside = 'instance=~"$instance"' + (f",{labels}" if labels else "")
    return f"afterburner_{name}{{{inside}}}"


def rate(name: str, by: str, labels: str = "") -> str:
    return f"sum by ({by}) (rate({metric(name, labels)}[$__rate_interval]))"


def total(name: str, labels: str) -> str:
    return f"sum by (instance) ({metric(name, labels)})"


def quantile(name: str, share: float) -> str:
    return f"histogram_quantile({share}, {rate(f'{name}_bucket', 'instance, worker, le')})"


def quantiles(name: str) -> tuple[Query, ...]:
    shares = ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"))
    return tuple(q(quantile(name, share), f"{{{{instance}}}} worker {{{{worker}}}} {text}") for share, text in shares)


WORKER = "{{instance}} worker {{worker}}"
QUEUE = "{{instance}} queue {{queue}}"
UP = (("0", "down", "red"), ("1", "up", "green"))

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Overview",
        (
            Panel(
                "State", "none", (q(f"{metric('daemon_state')} == 1", "{{instance}} {{state}}"),), kind="stat", width=4
            ),
            Panel("Interface", "none", (q(metric("interface_up"), "{{instance}}"),), kind="stat", width=3, mappings=UP),
            Panel(
                "Workers running",
                "none",
                (q(total("worker_state", 'state="running"'), "{{instance}}"),),
                kind="stat",
                width=3,
            ),
            Panel(
                "Queues served",
                "none",
                (
                    q(total("queue_mode", 'state!="closed"'), "{{instance}}"),
                    q(metric("interface_queues_wanted"), "{{instance}} wanted"),
                ),
                kind="stat",
                width=4,
            ),
            Panel(
                "Packets received",
                "pps",
                (q(rate("queue_receive_packets_total", "instance"), "{{instance}}"),),
                kind="stat",
                width=3,
            ),
            Panel(
                "Transactions decoded",
                "ops",
                (q(rate("worker_decoded_transactions_total", "instance"), "{{instance}}"),),
                kind="stat",
                width=3,
            ),
            Panel(
                "Running since",
                "dateTimeFromNow",
                (q(f"{metric('daemon_start_time_seconds')} * 1000", "{{instance}}"),),
                kind="stat",
                width=4,
            ),
            Panel("Version", "none", (q(metric("build_info"), "{{instance}} {{version}}"),), kind="stat", width=4),
            Panel(
                "Interface and driver",
                "none",
                (q(metric("interface_info"), "{{instance}} {{interface}} ({{driver}})"),),
                kind="stat",
                width=5,
            ),
            Panel(
                "Modes of the queues",
                "none",
                (q(f"{metric('queue_mode')} == 1", f"{QUEUE} {{{{state}}}}"),),
                help="How each queue is bound: zero_copy, copy, generic or socket.",
                kind="stat",
                width=15,
            ),
        ),
    ),
    (
        "XDP program",
        (
            Panel(
                "Verdicts",
                "pps",
                (q(rate("xdp_packets_total", "instance, verdict"), "{{instance}} {{verdict}}"),),
                stacked=True,
                width=8,
            ),
            Panel(
                "Verdicts in bytes",
                "Bps",
                (q(rate("xdp_bytes_total", "instance, verdict"), "{{instance}} {{verdict}}"),),
                stacked=True,
                width=8,
            ),
            Panel(
                "Passed to the kernel, by reason",
                "pps",
                (q(rate("xdp_packets_total", "instance, reason", 'verdict="pass"'), "{{instance}} {{reason}}"),),
                width=8,
            ),
            Panel(
                "Redirected to the data plane, by reason",
                "pps",
                (q(rate("xdp_packets_total", "instance, reason", 'verdict="redirect"'), "{{instance}} {{reason}}"),),
                width=12,
            ),
            Panel(
                "Dropped, by reason",
                "pps",
                (q(rate("xdp_packets_total", "instance, reason", 'verdict="drop"'), "{{instance}} {{reason}}"),),
                help="worker_down: no socket on the queue. The others are budgets.",
                width=12,
            ),
        ),
    ),
    (
        "Workers",
        (
            Panel(
                "Busy ratio",
                "percentunit",
                (
                    q(
                        f"{rate('worker_busy_seconds_total', 'instance, worker')} / {rate('worker_run_seconds_total', 'instance, worker')}",
                        WORKER,
                    ),
                ),
                help="Share of its time that a worker spends in turns that move packets.",
            ),
            Panel(
                "Loop gap",
                "s",
                quantiles("worker_loop_gap_seconds"),
                help="Time between two turns of the loop: what the operating system takes away shows here.",
                log=True,
            ),
            Panel(
                "Capture latency",
                "s",
                quantiles("worker_capture_latency_seconds"),
                help="From the XDP program to the readable record.",
                log=True,
            ),
            Panel(
                "Longest gap since the worker started",
                "s",
                (q(metric("worker_longest_gap_seconds"), WORKER),),
                log=True,
            ),
            Panel(
                "Turns",
                "ops",
                (
                    q(rate("worker_loop_turns_total", "instance, worker"), f"{WORKER} all"),
                    q(rate("worker_busy_turns_total", "instance, worker"), f"{WORKER} busy"),
                ),
                log=True,
            ),
            Panel(
                "Outside the fast path",
                "ops",
                (
                    q(rate("worker_control_turns_total", "instance, worker"), f"{WORKER} control"),
                    q(rate("worker_sleeps_total", "instance, worker"), f"{WORKER} sleeps"),
                ),
            ),
            Panel(
                "Transactions and records",
                "ops",
                (
                    q(rate("worker_decoded_transactions_total", "instance, worker"), f"{WORKER} decoded"),
                    q(rate("worker_records_total", "instance, worker"), f"{WORKER} records"),
                ),
            ),
            Panel("State", "none", (q(f"{metric('worker_state')} == 1", f"{WORKER} {{{{state}}}}"),), kind="stat"),
            Panel("Since a worker was last seen", "s", (q(metric("worker_heartbeat_age_seconds"), WORKER),)),
        ),
    ),
    (
        "Queues",
        (
            Panel("Received", "pps", (q(rate("queue_receive_packets_total", "instance, queue"), QUEUE),)),
            Panel("Received", "Bps", (q(rate("queue_receive_bytes_total", "instance, queue"), QUEUE),)),
            Panel(
                "Packets a burst",
                "none",
                (
                    q(
                        f"{rate('queue_receive_packets_total', 'instance, queue')} / {rate('queue_receive_bursts_total', 'instance, queue')}",
                        QUEUE,
                    ),
                ),
                help="The batch size that the traffic makes.",
            ),
            Panel(
                "Sent",
                "pps",
                (
                    q(rate("queue_transmit_packets_total", "instance, queue"), f"{QUEUE} given"),
                    q(rate("queue_transmit_completed_packets_total", "instance, queue"), f"{QUEUE} completed"),
                ),
            ),
            Panel("Sent", "Bps", (q(rate("queue_transmit_bytes_total", "instance, queue"), QUEUE),)),
            Panel(
                "Kicks",
                "ops",
                (
                    q(rate("queue_kicks_total", "instance, queue, direction"), f"{QUEUE} {{{{direction}}}}"),
                    q(rate("queue_kick_errors_total", "instance, queue"), f"{QUEUE} errors"),
                ),
                help="The system calls of the loop.",
            ),
        ),
    ),
    (
        "Rings and frames",
        (
            Panel(
                "Entries in the rings",
                "none",
                (
                    q(metric("queue_ring_entries"), f"{QUEUE} {{{{ring}}}}"),
                    q(metric("queue_ring_size_entries"), f"{QUEUE} size"),
                ),
            ),
            Panel(
                "Frames by owner", "none", (q(metric("queue_frames_owned"), f"{QUEUE} {{{{owner}}}}"),), stacked=True
            ),
            Panel("Frames", "none", (q(metric("queue_frames"), QUEUE),)),
            Panel(
                "Frame errors",
                "none",
                (q(metric("queue_frame_errors_total"), QUEUE),),
                help="Turns at whose end the frames did not add up. Anything but 0 is a defect.",
            ),
            Panel(
                "The kernel found a ring empty",
                "ops",
                (
                    q(rate("kernel_fill_ring_empty_total", "instance, queue"), f"{QUEUE} fill"),
                    q(rate("kernel_tx_ring_empty_total", "instance, queue"), f"{QUEUE} tx"),
                ),
            ),
            Panel(
                "Invalid descriptors",
                "ops",
                (q(rate("kernel_invalid_descriptors_total", "instance, queue, ring"), f"{QUEUE} {{{{ring}}}}"),),
            ),
            Panel("Packet memory", "bytes", (q(metric("worker_packet_memory_bytes"), WORKER),), width=12),
            Panel(
                "In huge pages",
                "none",
                (q(metric("worker_huge_pages"), WORKER),),
                kind="stat",
                width=12,
                mappings=(("0", "no", "orange"), ("1", "yes", "green")),
            ),
        ),
    ),
    (
        "Drops",
        (
            Panel(
                "By the kernel",
                "pps",
                (q(rate("kernel_dropped_packets_total", "instance, queue, reason"), f"{QUEUE} {{{{reason}}}}"),),
                help="rx_ring_full: the worker did not fetch them in time.",
            ),
            Panel(
                "By the workers",
                "pps",
                (q(rate("worker_dropped_packets_total", "instance, reason"), "{{instance}} {{reason}}"),),
            ),
            Panel("Not sent", "pps", (q(rate("queue_transmit_dropped_packets_total", "instance, queue"), QUEUE),)),
        ),
    ),
    (
        "Capture rules",
        (
            Panel(
                "Datagrams", "pps", (q(rate("rule_packets_total", "instance, rule"), "{{instance}} {{rule}}"),), width=6
            ),
            Panel("Bytes", "Bps", (q(rate("rule_bytes_total", "instance, rule"), "{{instance}} {{rule}}"),), width=6),
            Panel(
                "Decoded and malformed",
                "ops",
                (
                    q(rate("rule_decoded_transactions_total", "instance, rule"), "{{instance}} {{rule}} decoded"),
                    q(rate("rule_malformed_datagrams_total", "instance, rule"), "{{instance}} {{rule}} malformed"),
                ),
                width=6,
            ),
            Panel(
                "Malformed, by reason",
                "ops",
                (q(rate("worker_malformed_datagrams_total", "instance, reason"), "{{instance}} {{reason}}"),),
                width=6,
            ),
        ),
    ),
    (
        "QUIC",
        (
            Panel(
                "Connections",
                "none",
                (q(metric("quic_connections"), WORKER), q(metric("quic_connections_limit"), f"{WORKER} at most")),
            ),
            Panel(
                "Connections, by role and state",
                "none",
                (
                    q(
                        f"sum by (instance, role, state) ({metric('quic_connections_by_state')})",
                        "{{instance}} {{role}} {{state}}",
                    ),
                ),
                stacked=True,
            ),
            Panel(
                "Round trip",
                "s",
                (q(metric("quic_smoothed_rtt_seconds"), f"{WORKER} {{{{role}}}} {{{{statistic}}}}"),),
                help="Smoothed round-trip times over open connections; `afterburnerctl connections --sort rtt` has each.",
                log=True,
            ),
            Panel(
                "Window and in flight",
                "bytes",
                (
                    q(metric("quic_congestion_window_bytes"), f"{WORKER} {{{{role}}}} windows"),
                    q(metric("quic_in_flight_bytes"), f"{WORKER} {{{{role}}}} in flight"),
                ),
                log=True,
            ),
            Panel("Messages held", "none", (q(metric("quic_held_message_slots"), f"{WORKER} {{{{role}}}}"),)),
            Panel(
                "Adopted and refused",
                "ops",
                (
                    q(rate("quic_adopted_connections_total", "instance, worker"), f"{WORKER} adopted"),
                    q(rate("quic_refused_connections_total", "instance, worker, reason"), f"{WORKER} {{{{reason}}}}"),
                ),
            ),
            Panel(
                "Adoption",
                "s",
                (
                    *(
                        q(
                            f"histogram_quantile({share}, {rate('quic_adoption_seconds_bucket', 'instance, le')})",
                            f"{{{{instance}}}} {text}",
                        )
                        for share, text in ((0.5, "p50"), (0.99, "p99"))
                    ),
                    q(quantile("worker_adoption_pause_seconds", 0.99), f"{WORKER} pause p99"),
                ),
                help="From a complete handshake to the first packet that goes to the worker; and for how long the worker's "
                "loop stands still meanwhile.",
                log=True,
            ),
            Panel(
                "Messages",
                "ops",
                (
                    q(rate("quic_messages_total", "instance, worker"), f"{WORKER} accepted"),
                    q(rate("quic_finished_messages_total", "instance, worker, outcome"), f"{WORKER} {{{{outcome}}}}"),
                    q(rate("quic_pushed_back_total", "instance, worker"), f"{WORKER} pushed back"),
                ),
            ),
            Panel(
                "Packets",
                "pps",
                (
                    q(rate("quic_sent_packets_total", "instance, worker"), f"{WORKER} sent"),
                    q(rate("quic_received_packets_total", "instance, worker"), f"{WORKER} received"),
                ),
            ),
            Panel(
                "Bytes",
                "Bps",
                (
                    q(rate("quic_sent_bytes_total", "instance, worker"), f"{WORKER} sent"),
                    q(rate("quic_received_bytes_total", "instance, worker"), f"{WORKER} received"),
                ),
            ),
            Panel(
                "Received",
                "ops",
                (
                    q(rate("quic_received_streams_total", "instance, worker"), f"{WORKER} streams"),
                    q(rate("quic_received_datagram_frames_total", "instance, worker"), f"{WORKER} DATAGRAM frames"),
                ),
            ),
            Panel(
                "Received on streams", "Bps", (q(rate("quic_received_stream_bytes_total", "instance, worker"), WORKER),)
            ),
            Panel(
                "Loss",
                "ops",
                (
                    q(rate("quic_lost_packets_total", "instance, worker"), f"{WORKER} lost"),
                    q(rate("quic_spurious_losses_total", "instance, worker"), f"{WORKER} spurious"),
                    q(rate("quic_retransmitted_messages_total", "instance, worker"), f"{WORKER} sent again"),
                    q(rate("quic_probe_timeouts_total", "instance, worker"), f"{WORKER} probe timeouts"),
                    q(rate("quic_congestion_events_total", "instance, worker"), f"{WORKER} window reduced"),
                ),
            ),
            Panel(
                "Not used, by reason",
                "pps",
                (q(rate("quic_dropped_packets_total", "instance, worker, reason"), f"{WORKER} {{{{reason}}}}"),),
            ),
            Panel(
                "Went another way",
                "pps",
                (
                    q(
                        rate("quic_handovers_total", "instance, worker, direction"),
                        f"{WORKER} handed over {{{{direction}}}}",
                    ),
                    q(rate("quic_passed_on_packets_total", "instance, worker"), f"{WORKER} to the supervisor"),
                    q(rate("quic_send_drops_total", "instance, worker"), f"{WORKER} without a way out"),
                ),
            ),
            Panel(
                "Blocked",
                "none",
                (q(rate("quic_blocked_seconds_total", "instance, worker, reason"), f"{WORKER} {{{{reason}}}}"),),
                help="Connections that had data to send and could not: for want of the peer's credit, or of congestion window.",
            ),
            Panel(
                "Key updates and migrations",
                "ops",
                (
                    q(rate("quic_key_updates_total", "instance, worker"), f"{WORKER} key updates"),
                    q(rate("quic_migrations_total", "instance, worker"), f"{WORKER} migrations"),
                ),
            ),
            Panel(
                "Between supervisor and worker",
                "ops",
                (
                    q(rate("quic_commands_total", "instance, worker"), f"{WORKER} commands"),
                    q(rate("quic_events_total", "instance, worker"), f"{WORKER} events"),
                ),
            ),
            Panel(
                "Message slots",
                "none",
                (
                    q(metric("quic_message_slots"), f"{WORKER} all"),
                    q(metric("quic_message_slots_used"), f"{WORKER} in use"),
                ),
            ),
            Panel("Memory", "bytes", (q(metric("quic_memory_bytes"), WORKER),)),
        ),
    ),
    (
        "Supervisor",
        (
            Panel(
                "Restarts of the data plane",
                "none",
                (
                    q(
                        f"sum by (instance, reason) (increase({metric('dataplane_restarts_total')}[1h]))",
                        "{{instance}} {{reason}}",
                    ),
                ),
                help="In the last hour.",
            ),
            Panel(
                "Latest recovery",
                "s",
                (q(metric("dataplane_recovery_seconds"), "{{instance}}"),),
                help="From noticing the loss of a data plane to serving again.",
            ),
            Panel(
                "Reloads",
                "none",
                (
                    q(
                        f"sum by (instance, result) (increase({metric('config_reloads_total')}[1h]))",
                        "{{instance}} {{result}}",
                    ),
                    q(metric("config_generation"), "{{instance}} generation"),
                ),
                help="In the last hour.",
            ),
            Panel(
                "Configuration loaded",
                "dateTimeFromNow",
                (q(f"{metric('config_last_load_timestamp_seconds')} * 1000", "{{instance}}"),),
                kind="stat",
                width=4,
            ),
            Panel(
                "XDP program",
                "none",
                (q(metric("xdp_attached"), "{{instance}} attached"), q(metric("xdp_generic"), "{{instance}} generic")),
                kind="stat",
                width=4,
            ),
            Panel(
                "Interface",
                "none",
                (
                    q(metric("interface_mtu_bytes"), "{{instance}} MTU"),
                    q(metric("interface_queues"), "{{instance}} queues"),
                ),
                kind="stat",
                width=4,
            ),
            Panel(
                "Queues bound anew",
                "none",
                (q(f"sum by (instance) (increase({metric('interface_rebinds_total')}[1h]))", "{{instance}}"),),
                help="In the last hour.",
                width=12,
            ),
            Panel("Processor", "percentunit", (q(rate("supervisor_cpu_seconds_total", "instance"), "{{instance}}"),)),
            Panel("Memory", "bytes", (q(metric("supervisor_resident_memory_bytes"), "{{instance}}"),)),
            Panel(
                "Tick",
                "s",
                (
                    q(metric("supervisor_tick_lag_seconds"), "{{instance}} late by"),
                    q(metric("daemon_heartbeat_age_seconds"), "{{instance}} last"),
                ),
            ),
            Panel("Pages rendered", "ops", (q(rate("exporter_scrapes_total", "instance"), "{{instance}}"),), width=12),
            Panel(
                "Time to render a page",
                "s",
                (
                    q(
                        f"{rate('exporter_render_seconds_total', 'instance')} / {rate('exporter_scrapes_total', 'instance')}",
                        "{{instance}}",
                    ),
                ),
                width=12,
            ),
        ),
    ),
)


def panel(p: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": p.unit}
    if p.mappings:
        texts = {value: {"text": text, "color": colour} for value, text, colour in p.mappings}
        defaults["mappings"] = [{"type": "value", "options": texts}]
    options: dict[str, Any]
    if p.kind == "timeseries":
        defaults["min"] = None if p.log else 0
        defaults["custom"] = {
            "fillOpacity": 30 if p.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if p.stacked else "none"},
            "scaleDistribution": {"type": "log", "log": 10} if p.log else {"type": "linear"},
        }
        options = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    else:
        by_name = any("{{state}}" in query.legend or "{{version}}" in query.legend for query in p.queries)
        by_name = by_name or any("{{driver}}" in query.legend for query in p.queries)
        options = {
            "reduceOptions": {"calcs": ["lastNotNull"]},
            "textMode": "name" if by_name else "value_and_name",
            "graphMode": "none",
            "colorMode": "value",
        }
    return {
        "id": number,
        "type": p.kind,
        "title": p.title,
        "description": p.help,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": p.width, "h": HEIGHT if p.kind == "timeseries" else 4},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                # a stat shows the moment, and a state that was left must not linger in it
                **({"instant": True} if p.kind == "stat" else {"range": True}),
            }
            for i, query in enumerate(p.queries)
        ],
    }


def dashboard() -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    y, number = 0, 1
    for title, row in ROWS:
        panels.append(
            {
                "id": number,
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            }
        )
        number, y, x, tallest = number + 1, y + 1, 0, 0
        for p in row:
            if x + p.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            panels.append(panel(p, number, x, y))
            tallest = max(tallest, panels[-1]["gridPos"]["h"])
            number, x = number + 1, x + p.width
        y += tallest
    return {
        "uid": "afterburner",
        "title": "Afterburner",
        "description": "Generated by deploy/grafana/dashboard.py. Meanings: docs/metrics.md; alerts: docs/monitoring.md.",
        "tags": ["afterburner"],
        "schemaVersion": 38,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                {
                    "name": "instance",
                    "label": "Instance",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": {"query": "label_values(afterburner_build_info, instance)", "refId": "instance"},
                    "refresh": 2,
                    "multi": True,
                    "includeAll": True,
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": "Data plane restarted",
                    "datasource": SOURCE,
                    "enable": True,
                    "iconColor": "red",
                    "expr": f"sum by (instance, reason) (increase({metric('dataplane_restarts_total')}[$__rate_interval])) > 0",
                    "titleFormat": "{{instance}}: {{reason}}",
                },
                {
                    "name": "Configuration",
                    "datasource": SOURCE,
                    "enable": True,
                    "iconColor": "blue",
                    "expr": f"sum by (instance, result) (increase({metric('config_reloads_total')}[$__rate_interval])) > 0",
                    "titleFormat": "{{instance}}: reload {{result}}",
                },
            ]
        },
        "panels": panels,
    }


def main(argv: list[str] | None = None) -> int:
    text = json.dumps(dashboard(), indent=1) + "\n"
    return generated.run("deploy.grafana.dashboard", __doc__, [(str(TARGET.relative_to(generated.ROOT)), text)], argv)


if __name__ == "__main__":
    sys.exit(main())
