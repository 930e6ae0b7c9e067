"""Statistics of the schema: what the processes count, for whom, and under which name Prometheus shows it.

Single writer each: the supervisor writes `daemon`, `xdp` and `kernel` blocks, a worker writes its own `worker`, `queue` and
`rule` blocks. Counters go on where they stood when a data plane is restarted, so they never run backwards
within one life of the segment.
"""

from __future__ import annotations

from .kinds import Block, Derived, Stat
from .structs import ENUMS


def _by_enum(
    enum: str, name: str, metric: str, unit: str, help_: str, skip: frozenset[str] = frozenset()
) -> tuple[Stat, ...]:
    """One counter for every member of an enum, told apart by the label `reason`."""
    members = next(e for e in ENUMS if e.name == enum).members
    return tuple(
        Stat(f"{name}_{m.lower()}", "counter", unit, f"{help_}: {text}", metric, (("reason", m.lower()),))
        for m, text in members
        if m not in skip
    )


DAEMON = Block(
    "daemon",
    "supervisor",
    "daemon",
    "the daemon as its supervisor sees it",
    (
        Stat("state", "enum", "", "state of the daemon", "daemon_state", states="daemon_state"),
        Stat("pid", "internal", "", "process ID of the supervisor"),
        Stat(
            "pid_start_ticks",
            "internal",
            "",
            "start time of that process (field 22 of /proc/PID/stat): tells a reused process ID",
        ),
        Stat(
            "pid_namespace",
            "internal",
            "",
            "inode of the PID namespace that those two belong to: a reader elsewhere judges by the heartbeat",
        ),
        Stat("heartbeat_ns", "internal", "ns", "CLOCK_MONOTONIC of the supervisor's latest tick"),
        Stat(
            "start_time_ns",
            "gauge",
            "ns",
            "Unix time at which the supervisor started",
            "daemon_start_time_seconds",
        ),
        Stat(
            "config_generation",
            "gauge",
            "",
            "how many configurations have been in force since the start",
            "config_generation",
        ),
        Stat(
            "config_loaded_ns",
            "gauge",
            "ns",
            "Unix time at which the configuration in force was loaded",
            "config_last_load_timestamp_seconds",
        ),
        Stat(
            "reload_ok",
            "counter",
            "",
            "reloads asked for, by result",
            "config_reloads_total",
            (("result", "applied"),),
        ),
        Stat(
            "reload_unchanged",
            "counter",
            "",
            "reloads asked for, by result",
            "config_reloads_total",
            (("result", "unchanged"),),
        ),
        Stat(
            "reload_refused",
            "counter",
            "",
            "reloads asked for, by result",
            "config_reloads_total",
            (("result", "refused"),),
        ),
        Stat(
            "restart_killed",
            "counter",
            "",
            "restarts of a data plane, by reason",
            "dataplane_restarts_total",
            (("reason", "died"),),
        ),
        Stat(
            "restart_hung",
            "counter",
            "",
            "restarts of a data plane, by reason",
            "dataplane_restarts_total",
            (("reason", "hung"),),
        ),
        Stat(
            "restart_config",
            "counter",
            "",
            "restarts of a data plane, by reason",
            "dataplane_restarts_total",
            (("reason", "reload"),),
        ),
        Stat(
            "recovery_ns",
            "gauge",
            "ns",
            "time from noticing the latest loss of a data plane to serving again",
            "dataplane_recovery_seconds",
        ),
        Stat(
            "rebinds",
            "counter",
            "",
            "queues bound anew after a change of the interface",
            "interface_rebinds_total",
        ),
        Stat("ifindex", "internal", "", "index of the interface"),
        Stat("interface_up", "gauge", "", "1 while the interface is up and has a carrier", "interface_up"),
        Stat("interface_mtu", "gauge", "bytes", "MTU of the interface", "interface_mtu_bytes"),
        Stat("interface_queues", "gauge", "", "receive queues that the interface has", "interface_queues"),
        Stat(
            "interface_queues_wanted",
            "gauge",
            "",
            "receive queues (sockets, where there is no AF_XDP) that the configuration asks us to serve",
            "interface_queues_wanted",
        ),
        Stat("xdp_attached", "gauge", "", "1 while our XDP program is attached", "xdp_attached"),
        Stat(
            "xdp_generic",
            "gauge",
            "",
            "1 where the program runs in generic instead of native mode",
            "xdp_generic",
        ),
        Stat(
            "cpu_ns",
            "counter",
            "ns",
            "processor time that the supervisor has used",
            "supervisor_cpu_seconds_total",
        ),
        Stat(
            "rss_bytes",
            "gauge",
            "bytes",
            "resident memory of the supervisor",
            "supervisor_resident_memory_bytes",
        ),
        Stat(
            "event_lag_ns",
            "gauge",
            "ns",
            "by how much the supervisor's latest tick came late",
            "supervisor_tick_lag_seconds",
        ),
        Stat(
            "quic_adoption",
            "histogram",
            "ns",
            "time from the completion of a QUIC handshake until XDP gives the connection's packets to its worker",
            "quic_adoption_seconds",
        ),
    ),
)

XDP = Block(
    "xdp",
    "supervisor",
    "reason",
    "verdicts of the XDP program, summed over the processors",
    (
        Stat(
            "packets",
            "counter",
            "packets",
            "frames seen by the XDP program, by verdict and reason",
            "xdp_packets_total",
        ),
        Stat(
            "bytes",
            "counter",
            "bytes",
            "bytes seen by the XDP program, by verdict and reason",
            "xdp_bytes_total",
        ),
    ),
)

KERNEL = Block(
    "kernel",
    "supervisor",
    "queue",
    "what the kernel counts of an AF_XDP socket (XDP_STATISTICS, asked for by the supervisor on its copy of the socket)",
    (
        Stat(
            "rx_dropped",
            "counter",
            "packets",
            "frames that the kernel dropped, by reason",
            "kernel_dropped_packets_total",
            (("reason", "other"),),
        ),
        Stat(
            "rx_invalid_descs",
            "counter",
            "",
            "descriptors that the kernel refused, by ring",
            "kernel_invalid_descriptors_total",
            (("ring", "fill"),),
        ),
        Stat(
            "tx_invalid_descs",
            "counter",
            "",
            "descriptors that the kernel refused, by ring",
            "kernel_invalid_descriptors_total",
            (("ring", "tx"),),
        ),
        Stat(
            "rx_ring_full",
            "counter",
            "packets",
            "frames that the kernel dropped, by reason",
            "kernel_dropped_packets_total",
            (("reason", "rx_ring_full"),),
        ),
        Stat(
            "rx_fill_ring_empty",
            "counter",
            "",
            "times the kernel found the FILL ring empty",
            "kernel_fill_ring_empty_total",
        ),
        Stat(
            "tx_ring_empty",
            "counter",
            "",
            "times the kernel found the TX ring empty",
            "kernel_tx_ring_empty_total",
        ),
    ),
)

WORKER = Block(
    "worker",
    "data plane",
    "worker",
    "one pinned worker",
    (
        Stat("state", "enum", "", "state of the worker", "worker_state", states="worker_state"),
        Stat("pid", "internal", "", "process ID"),
        Stat("pid_start_ticks", "internal", "", "start time of that process (field 22 of /proc/PID/stat)"),
        Stat("cpu", "gauge", "", "processor that the worker is pinned to", "worker_cpu"),
        Stat(
            "heartbeat_ns",
            "internal",
            "ns",
            "CLOCK_MONOTONIC of a recent loop turn (the loop writes it every 64 turns and when it sleeps)",
        ),
        Stat("turns", "counter", "", "turns of the loop", "worker_loop_turns_total"),
        Stat("busy_turns", "counter", "", "turns that moved at least one packet", "worker_busy_turns_total"),
        Stat("busy_ns", "counter", "ns", "time spent in turns that moved packets", "worker_busy_seconds_total"),
        Stat(
            "run_ns",
            "counter",
            "ns",
            "time spent in the loop; busy ratio = busy / run",
            "worker_run_seconds_total",
        ),
        Stat(
            "gap_max_ns",
            "gauge",
            "ns",
            "longest time between two turns since the worker started",
            "worker_longest_gap_seconds",
        ),
        Stat(
            "control_turns",
            "counter",
            "",
            "times the loop was left for a control message",
            "worker_control_turns_total",
        ),
        Stat("sleeps", "counter", "", 'times an idle worker slept (idle = "sleep")', "worker_sleeps_total"),
        Stat("huge_pages", "gauge", "", "1 where all packet memory lies in 2 MiB pages", "worker_huge_pages"),
        Stat(
            "memory_bytes",
            "gauge",
            "bytes",
            "packet memory: frames of AF_XDP and buffers of sockets",
            "worker_packet_memory_bytes",
        ),
        Stat("records", "counter", "", "records written to the record ring", "worker_records_total"),
        Stat("decoded", "counter", "", "transactions decoded", "worker_decoded_transactions_total"),
        *_by_enum(
            "tx_reason",
            "malformed",
            "worker_malformed_datagrams_total",
            "",
            "datagrams that are not a transaction",
            frozenset({"OK"}),
        ),
        *_by_enum(
            "drop",
            "drop",
            "worker_dropped_packets_total",
            "packets",
            "frames dropped by the worker",
            frozenset({"NONE"}),
        ),
        Stat("quic_connections", "gauge", "", "QUIC connections in the worker's table", "quic_connections"),
        Stat(
            "quic_connections_limit", "gauge", "", "QUIC connections that the worker may have", "quic_connections_limit"
        ),
        Stat("quic_adopted", "counter", "", "QUIC connections adopted", "quic_adopted_connections_total"),
        Stat(
            "quic_refused_full",
            "counter",
            "",
            "QUIC connections that were not adopted, by reason",
            "quic_refused_connections_total",
            (("reason", "table_full"),),
        ),
        Stat(
            "quic_refused_other",
            "counter",
            "",
            "QUIC connections that were not adopted, by reason",
            "quic_refused_connections_total",
            (("reason", "other"),),
        ),
        Stat("quic_packets_sent", "counter", "packets", "QUIC packets sent", "quic_sent_packets_total"),
        Stat("quic_packets_received", "counter", "packets", "QUIC packets opened", "quic_received_packets_total"),
        Stat(
            "quic_packets_lost", "counter", "packets", "QUIC packets of ours declared lost", "quic_lost_packets_total"
        ),
        Stat(
            "quic_packets_spurious",
            "counter",
            "packets",
            "QUIC packets declared lost and acknowledged later",
            "quic_spurious_losses_total",
        ),
        Stat(
            "quic_packets_duplicate",
            "counter",
            "packets",
            "QUIC packets received that were not used, by reason",
            "quic_dropped_packets_total",
            (("reason", "duplicate"),),
        ),
        Stat(
            "quic_aead_failures",
            "counter",
            "packets",
            "QUIC packets received that were not used, by reason",
            "quic_dropped_packets_total",
            (("reason", "undecryptable"),),
        ),
        Stat(
            "quic_unknown_cids",
            "counter",
            "packets",
            "QUIC packets received that were not used, by reason",
            "quic_dropped_packets_total",
            (("reason", "unknown_connection"),),
        ),
        Stat(
            "quic_malformed",
            "counter",
            "packets",
            "QUIC packets received that were not used, by reason",
            "quic_dropped_packets_total",
            (("reason", "malformed"),),
        ),
        Stat(
            "quic_strays_dropped",
            "counter",
            "packets",
            "QUIC packets received that were not used, by reason",
            "quic_dropped_packets_total",
            (("reason", "not_passed_on"),),
        ),
        Stat(
            "quic_handovers_dropped",
            "counter",
            "packets",
            "QUIC packets received that were not used, by reason",
            "quic_dropped_packets_total",
            (("reason", "not_handed_over"),),
        ),
        Stat(
            "quic_handovers_out",
            "counter",
            "packets",
            "QUIC packets that came to another worker than their connection's, by direction",
            "quic_handovers_total",
            (("direction", "out"),),
        ),
        Stat(
            "quic_handovers_in",
            "counter",
            "packets",
            "QUIC packets that came to another worker than their connection's, by direction",
            "quic_handovers_total",
            (("direction", "in"),),
        ),
        Stat(
            "quic_strays",
            "counter",
            "packets",
            "QUIC packets passed on to the supervisor",
            "quic_passed_on_packets_total",
        ),
        Stat("quic_bytes_sent", "counter", "bytes", "bytes of QUIC packets sent", "quic_sent_bytes_total"),
        Stat("quic_bytes_received", "counter", "bytes", "bytes of QUIC packets opened", "quic_received_bytes_total"),
        Stat("quic_messages_sent", "counter", "", "messages accepted for sending over QUIC", "quic_messages_total"),
        Stat(
            "quic_messages_acked",
            "counter",
            "",
            "messages whose fate is known, by outcome",
            "quic_finished_messages_total",
            (("outcome", "acknowledged"),),
        ),
        *(
            Stat(
                f"quic_failed_{outcome}",
                "counter",
                "",
                "messages whose fate is known, by outcome",
                "quic_finished_messages_total",
                (("outcome", outcome),),
            )
            for outcome in ("closed", "reset", "stopped", "lost", "expired")
        ),
        Stat(
            "quic_retransmitted",
            "counter",
            "",
            "messages, or parts, that were sent again after a loss",
            "quic_retransmitted_messages_total",
        ),
        Stat(
            "quic_streams_received", "counter", "", "streams of peers that ended whole", "quic_received_streams_total"
        ),
        Stat(
            "quic_stream_bytes_received",
            "counter",
            "bytes",
            "bytes received on streams",
            "quic_received_stream_bytes_total",
        ),
        Stat(
            "quic_datagrams_received", "counter", "", "DATAGRAM frames received", "quic_received_datagram_frames_total"
        ),
        Stat("quic_ptos", "counter", "", "probe timeouts", "quic_probe_timeouts_total"),
        Stat("quic_congestion", "counter", "", "reductions of a congestion window", "quic_congestion_events_total"),
        Stat("quic_key_updates", "counter", "", "key updates, both directions", "quic_key_updates_total"),
        Stat(
            "quic_migrations", "counter", "", "changes of a peer's address that were validated", "quic_migrations_total"
        ),
        Stat(
            "quic_blocked_credit_ns",
            "counter",
            "ns",
            "time in which connections had data to send and could not, by reason",
            "quic_blocked_seconds_total",
            (("reason", "credit"),),
        ),
        Stat(
            "quic_blocked_streams_ns",
            "counter",
            "ns",
            "time in which connections had data to send and could not, by reason",
            "quic_blocked_seconds_total",
            (("reason", "streams"),),
        ),
        Stat(
            "quic_blocked_window_ns",
            "counter",
            "ns",
            "time in which connections had data to send and could not, by reason",
            "quic_blocked_seconds_total",
            (("reason", "congestion_window"),),
        ),
        Stat("quic_pushed_back", "counter", "", "messages refused for want of room", "quic_pushed_back_total"),
        Stat("quic_commands", "counter", "", "commands of the supervisor carried out", "quic_commands_total"),
        Stat("quic_events", "counter", "", "events reported to the supervisor", "quic_events_total"),
        Stat("quic_send_drops", "counter", "packets", "QUIC packets without a way out", "quic_send_drops_total"),
        Stat("quic_slots", "gauge", "", "message slots", "quic_message_slots"),
        Stat("quic_slots_used", "gauge", "", "message slots in use", "quic_message_slots_used"),
        Stat("quic_memory_bytes", "gauge", "bytes", "memory of the QUIC engine", "quic_memory_bytes"),
        Stat("gap", "histogram", "ns", "time between two turns of the loop", "worker_loop_gap_seconds"),
        Stat(
            "adoption",
            "histogram",
            "ns",
            "time for which the adoption of a QUIC connection held the loop up",
            "worker_adoption_pause_seconds",
        ),
        Stat(
            "latency",
            "histogram",
            "ns",
            "time from the XDP program seeing a frame to its record being readable",
            "worker_capture_latency_seconds",
        ),
    ),
)

QUEUE = Block(
    "queue",
    "data plane",
    "queue",
    "one receive and transmit queue as its worker sees it",
    (
        Stat("mode", "enum", "", "how the queue is bound", "queue_mode", states="queue_mode"),
        Stat("queue", "internal", "", "number of the queue on the interface"),
        Stat("rx_packets", "counter", "packets", "frames received", "queue_receive_packets_total"),
        Stat("rx_bytes", "counter", "bytes", "bytes received", "queue_receive_bytes_total"),
        Stat("tx_packets", "counter", "packets", "frames handed to the kernel", "queue_transmit_packets_total"),
        Stat("tx_bytes", "counter", "bytes", "bytes handed to the kernel", "queue_transmit_bytes_total"),
        Stat(
            "tx_completed",
            "counter",
            "packets",
            "frames that the kernel reported as sent",
            "queue_transmit_completed_packets_total",
        ),
        Stat(
            "tx_dropped",
            "counter",
            "packets",
            "frames not sent for lack of room in the TX ring or of a frame",
            "queue_transmit_dropped_packets_total",
        ),
        Stat(
            "rx_bursts",
            "counter",
            "",
            "non-empty receive bursts; packets / bursts is the batch size",
            "queue_receive_bursts_total",
        ),
        Stat(
            "tx_kicks",
            "counter",
            "",
            "system calls that told the kernel to send or receive",
            "queue_kicks_total",
            (("direction", "transmit"),),
        ),
        Stat(
            "rx_kicks",
            "counter",
            "",
            "system calls that told the kernel to send or receive",
            "queue_kicks_total",
            (("direction", "receive"),),
        ),
        Stat(
            "kick_errors",
            "counter",
            "",
            "kicks that failed for a reason other than a full queue",
            "queue_kick_errors_total",
        ),
        Stat("frames", "gauge", "", "frames of the packet memory", "queue_frames"),
        Stat(
            "frames_rx",
            "gauge",
            "",
            "frames by owner; they add up to queue_frames",
            "queue_frames_owned",
            (("owner", "kernel_receive"),),
        ),
        Stat(
            "frames_worker",
            "gauge",
            "",
            "frames by owner; they add up to queue_frames",
            "queue_frames_owned",
            (("owner", "worker"),),
        ),
        Stat(
            "frames_tx",
            "gauge",
            "",
            "frames by owner; they add up to queue_frames",
            "queue_frames_owned",
            (("owner", "kernel_transmit"),),
        ),
        Stat(
            "frame_errors",
            "counter",
            "",
            "turns at whose end the frames did not add up; must stay 0",
            "queue_frame_errors_total",
        ),
        Stat("fill_level", "gauge", "", "entries waiting in a ring", "queue_ring_entries", (("ring", "fill"),)),
        Stat("rx_level", "gauge", "", "entries waiting in a ring", "queue_ring_entries", (("ring", "rx"),)),
        Stat("tx_level", "gauge", "", "entries waiting in a ring", "queue_ring_entries", (("ring", "tx"),)),
        Stat(
            "completion_level",
            "gauge",
            "",
            "entries waiting in a ring",
            "queue_ring_entries",
            (("ring", "completion"),),
        ),
        Stat("ring_size", "gauge", "", "depth of each ring", "queue_ring_size_entries"),
    ),
)

RULE = Block(
    "rule",
    "data plane",
    "rule",
    "one capture rule on one worker",
    (
        Stat("packets", "counter", "packets", "datagrams that matched the rule", "rule_packets_total"),
        Stat("bytes", "counter", "bytes", "bytes of their payloads", "rule_bytes_total"),
        Stat("decoded", "counter", "", "transactions decoded under the rule", "rule_decoded_transactions_total"),
        Stat(
            "malformed",
            "counter",
            "",
            "datagrams under the rule that are not a transaction",
            "rule_malformed_datagrams_total",
        ),
    ),
)

BLOCKS = (DAEMON, XDP, KERNEL, WORKER, QUEUE, RULE)

DERIVED = (
    Derived("build_info", "gauge", ("version",), "1, with the version of the daemon"),
    Derived("interface_info", "gauge", ("interface", "driver"), "1, with the interface that is served and its driver"),
    Derived("segment_stale", "gauge", (), "1 where the supervisor that wrote these figures is dead"),
    Derived("daemon_heartbeat_age_seconds", "gauge", (), "time since the supervisor's latest tick"),
    Derived("worker_heartbeat_age_seconds", "gauge", ("worker",), "time since a worker was last seen turning its loop"),
    Derived("quic_connections_by_state", "gauge", ("worker", "role", "state"), "QUIC connections, by role and state"),
    Derived(
        "quic_congestion_window_bytes", "gauge", ("worker", "role"), "congestion windows of open connections, added up"
    ),
    Derived("quic_in_flight_bytes", "gauge", ("worker", "role"), "bytes under way on open connections"),
    Derived(
        "quic_held_message_slots",
        "gauge",
        ("worker", "role"),
        "message slots of open connections: what waits to be sent or to be acknowledged",
    ),
    Derived(
        "quic_smoothed_rtt_seconds",
        "gauge",
        ("worker", "role", "statistic"),
        "smoothed round-trip time over open connections: by statistic",
    ),
    Derived("exporter_scrapes_total", "counter", (), "times this page was asked for"),
    Derived("exporter_render_seconds_total", "counter", (), "time spent on rendering this page"),
)
