"""Short runs of the benchmarks over QUIC: every contender runs, the reports are whole, nothing is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from afterburnerd.lab.cores import usable_cpus

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.bpf,
    pytest.mark.skipif(len(usable_cpus()) < 2, reason="both ends spin: two CPUs"),
]


ROUND = ("--rounds", "1", "--duration", "300ms")


def bench(name: str, prefix: str, *more: str) -> dict[str, Any]:
    """The report's results by figure. Whether goals are met is for a quiet machine to say, not for a test on a busy one."""
    process = subprocess.Popen(
        [sys.executable, "-m", "afterburnerd.lab.main", "bench", name, "-j", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode in (0, 1), err
    assert not [*Path("/run/netns").glob(f"{prefix}{process.pid}*")]
    return {result["figure"]: result for result in json.loads(out)["results"]}


def test_latency_is_measured_beside_its_floor() -> None:
    figures = bench("latency", "bl", *ROUND, "--interval", "100us", "--conns", "64")
    for name in ("oneway_p50", "oneway_p99", "oneway_max", "oneway_p50_sockets", "p99_at_4096"):
        assert figures[name]["value"] > 0 and figures[name]["reference_value"] > 0, figures[name]
    assert figures["oneway_p50"]["value"] <= figures["oneway_p99"]["value"] <= figures["oneway_max"]["value"]
    assert figures["connection_memory"]["met"]


def test_latency_from_a_peer_of_somebody_else_is_measured_through_the_daemon() -> None:
    peer = f"{sys.executable} {ROOT / 'tests/interop/peers/aioquic/peer.py'}"
    figures = bench("latency", "bl", "--rounds", "1", "--interval", "500us", "--conns", "16", "--peer", peer)
    points = [figures[f"oneway_{point}_peer"]["value"] for point in ("p50", "p90", "p99", "p999", "max")]
    assert 1e-6 < points[0] < 5 and points == sorted(points)


def test_transactions_are_counted_by_every_way() -> None:
    figures = bench("tps", "bt", *ROUND)
    for name in ("tps_best", "tps_afxdp", "tps_socket", "tps_mixed", "bare_frame_rate"):
        assert figures[name]["value"] > 1000, figures[name]
    assert figures["tps_afxdp"]["reference_value"] > 1000
    assert figures["tps_best"]["value"] == max(figures[f"tps_{way}"]["value"] for way in ("afxdp", "socket", "mixed"))
    # as many whole transactions as fit a datagram of 1,472 bytes
    assert 4 < figures["afxdp_per_packet"]["value"] < 6


def test_a_peer_of_somebody_else_holds_us_up_and_not_we_it() -> None:
    # aioquic: slow, and there without a build
    peer = f"{sys.executable} {ROOT / 'tests/interop/peers/aioquic/peer.py'}"
    figures = bench("tps", "bt", *ROUND, "--peer", peer, "--window", "512")
    for way in ("afxdp", "socket"):
        assert figures[f"peer_{way}"]["value"] > 100, figures[f"peer_{way}"]
        assert 1 < figures[f"peer_{way}_per_packet"]["value"] < 6
        # whoever is not at work has something to wait for: credit or window; both of us are on a busy machine
        waits = sum(figures[f"peer_{way}_blocked_on_{what}"]["value"] for what in ("window", "streams", "credit"))
        assert waits > 1, figures


def test_what_is_no_peer_is_said_to_be_none() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "afterburnerd.lab.main", "bench", "tps", "--peer", "/bin/true"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 64 and "README" in done.stderr


def test_handshakes_adoptions_and_redials_are_timed() -> None:
    figures = bench("handshake", "bh", "--conns", "40", "--adoptions", "40", "--redials", "5")
    for name in ("handshake_rate", "adoption_p99", "adoption_pause_p99", "dataplane_memory", "redial"):
        assert figures[name]["value"] > 0 and figures[name]["goal"] > 0, figures[name]
    assert figures["adoption_p50"]["value"] <= figures["adoption_p99"]["value"] <= figures["adoption_max"]["value"]
