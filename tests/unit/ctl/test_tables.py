"""What is drawn fits a terminal of 80 columns, whole, and marks what needs attention."""

from __future__ import annotations

import io
import re

import pytest
from msgspec.structs import replace
from rich.console import Console

from afterburnerd.abi.control import Notice
from afterburnerd.ctl import tables
from afterburnerd.ctl.quicview import Engine, QuicView
from afterburnerd.ctl.view import Drop, QueueView, RuleView, Spread, View, WorkerView

SPREAD = Spread(count=10, mean=1e-6, p50=4.12e-6, p90=12.3e-6, p99=123e-6, p999=1.23e-3, max=0.123)
WORKER = WorkerView(
    index=63,
    state="recovering",
    pid=4194303,
    cpu=127,
    queues=(0, 1, 2, 3),
    heartbeat_age=0.1,
    busy=1.0,
    turns_rate=1e7,
    received_rate=1.23e6,
    decoded=10**12,
    decoded_rate=1.23e6,
    malformed=10**9,
    malformed_rate=12_300,
    dropped=10**9,
    dropped_rate=12_300,
    longest_gap=0.5,
    gap=SPREAD,
    latency=SPREAD,
    latency_total=SPREAD,
    huge_pages=True,
    memory_bytes=1 << 30,
    restarts=3,
    last_failure="killed by SIGKILL",
)
QUEUE = QueueView(
    worker=63,
    queue=63,
    mode="zero-copy",
    rx_packets=10**12,
    rx_rate=1.23e6,
    rx_bytes_rate=1.25e9,
    tx_packets=0,
    tx_rate=1.23e6,
    batch=63.9,
    kicks_rate=123_000,
    fill_level=65536,
    rx_level=65536,
    tx_level=65536,
    completion_level=65536,
    ring_size=65536,
    frames=65_536,
    frames_rx=65_000,
    frames_worker=500,
    frames_tx=35,
    frame_errors=1,
)
VIEW = View(
    name="afterburner",
    running=True,
    state="degraded",
    detail="queue 3 is gone",
    version="0.1.0",
    interface="enp129s0f0np0",
    driver="ice",
    mode="zero-copy",
    interface_up=True,
    uptime=1e6,
    taken=1.8e9,
    workers=(WORKER,),
    queues=(QUEUE,),
    rules=(
        RuleView("quic-forward", "[2001:db8:1234:5678:9abc:def0:1234:5678]:8001", "solana-tx", 10**9, 1e6, 10**9, 999),
    ),
    drops=(Drop("kernel", "rx_ring_full", 10**9, 1.5),),
    notices=(Notice(text="no huge pages", hint="sysctl vm.nr_hugepages=8", degraded=True),),
)


def drawn(view: View, *, live: bool, colour: bool = False) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=80, color_system="standard" if colour else None, highlight=False).print(
        tables.page(view, live=live)
    )
    return out.getvalue().splitlines()


@pytest.mark.parametrize("live", [True, False])
def test_nothing_is_cut_at_80_columns(live: bool) -> None:
    lines = drawn(VIEW, live=live)
    assert "…" not in "".join(lines)
    text = "\n".join(lines)
    words = [
        "1.23 M",
        "12.3 us",
        "quic-forward",
        "rx_ring_full",
        "3 restarts, last failure: killed by SIGKILL",
        "100 %",
    ]
    words += ["zero-copy", "10.0 Gbit/s", "65536"] if live else ["MTU"]
    for word in words:
        assert word in text
    assert ("COMP" in text) is live


QUIC = QuicView(
    engines=(Engine(0, 3, 4096, "ipsec-mb", "as asked", {"afxdp": 2, "socket": 1}), Engine(1, 0, 4096, "", "", {})),
    states={"open": 2, "draining": 1},
    roles={"client": 3},
    rtt=0.03,
    rtt_max=0.2,
    sent_rate=1e6,
    lost_rate=12.0,
)


def test_quic_is_told_with_who_protects_packets_and_by_what_means_they_leave() -> None:
    text = " ".join(" ".join(drawn(replace(VIEW, quic=QUIC), live=False)).split())
    assert "QUIC 3 connections (2 open, 1 draining, 3 client), round trip 30.0 ms, longest 200 ms" in text
    assert "worker 0: 3 of 4096 (2 over afxdp, 1 over socket); packets protected by ipsec-mb: as asked" in text
    assert "worker 1: 0 of 4096 (none yet); packets protected by no engine yet" in text
    assert "acked msg/s" not in text
    live = "\n".join(drawn(replace(VIEW, quic=QUIC), live=True))
    assert "acked msg/s" in live and "1.00 M" in live
    assert "QUIC" not in "\n".join(drawn(VIEW, live=True))


def test_top_ends_in_the_line_that_is_known_from_elsewhere() -> None:
    lines = drawn(VIEW, live=True)
    assert re.fullmatch(
        r"\[STATS\] Lat\(us\) Avg=\d+\.\d Min=\d+\.\d Max=\d+\.\d \| RX: \d+ \| Lost: \d+", lines[-1]
    ), lines[-1]
    assert "[STATS]" not in "\n".join(drawn(VIEW, live=False))


def test_nothing_is_taken_for_markup() -> None:
    """rich reads "[fd00::1]" in a plain string as a style."""
    view = View(
        name="x", config_files=("/etc/[red]/x.toml",), rules=(RuleView("r", "[fd00::1]:1", "raw", 0, 0.0, 0, 0),)
    )
    text = "\n".join(drawn(view, live=False))
    assert "[fd00::1]:1" in text and "/etc/[red]/x.toml" in text


def test_what_needs_attention_is_red_and_nothing_else() -> None:
    red = "\x1b[1;31m"
    bad = [line for line in drawn(VIEW, live=True, colour=True) if red in line]
    assert len(bad) == 4  # the notice, the worker's losses, the frame errors, the kernel's losses
    well = View(name="x", running=True, state="serving", interface_up=True, workers=(), drops=())
    assert not [line for line in drawn(well, live=False, colour=True) if red in line]


def test_the_dead_are_announced_first() -> None:
    first = drawn(View(name="x", stale=True, heartbeat_age=90.0), live=False)[0]
    assert first == "x: not running; stale figures, last sign of life 1 min ago"


def test_a_page_of_nothing_is_a_page() -> None:
    assert drawn(View(name="x"), live=True) == ["x: not running"]
