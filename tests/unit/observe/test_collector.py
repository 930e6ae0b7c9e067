"""The page: golden, clean for promtool, and each conversion on its way out of the segment."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from afterburnerd.abi import schema
from afterburnerd.abi.description import Info, WorkerInfo
from afterburnerd.abi.segment import Segment
from afterburnerd.observe.exporter import Exporter
from tests.unit.observe.segments import FixedTime, fill, fill_connections, record, segment


@pytest.fixture
def filled() -> Iterator[Segment]:
    with segment() as s:
        fill(s)
        fill_connections(s)
        yield s


def exporter(s: Segment) -> Exporter:
    return Exporter(s.name, partial(FixedTime.open, s.name), clock=lambda: 1.0)


def page(s: Segment, accept: str = "") -> str:
    response = exporter(s).metrics(accept)
    assert response.status == 200
    return response.body.decode()


def samples(s: Segment) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = {}
    for family in parse_text(page(s)):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"{key} twice"
            found[key] = sample.value
    return found


def test_the_page_is_the_golden_one(filled: Segment, golden: Callable[[str, str], None]) -> None:
    golden("metrics.txt", page(filled))


def test_connections_are_counted_by_role_and_state_and_never_by_peer(filled: Segment) -> None:
    found = samples(filled)

    def of(name: str, **labels: str) -> float:
        return found[f"afterburner_quic_{name}", tuple(sorted(labels.items()))]

    assert of("connections_by_state", worker="0", role="client", state="open") == 2
    assert of("connections_by_state", worker="0", role="server", state="draining") == 1
    assert of("connections_by_state", worker="0", role="server", state="open") == 0
    assert of("connections_by_state", worker="1", role="client", state="open") == 0
    assert of("congestion_window_bytes", worker="0", role="client") == 200_000
    assert of("in_flight_bytes", worker="0", role="client") == 1_500
    assert of("held_message_slots", worker="0", role="client") == 5
    assert of("smoothed_rtt_seconds", worker="0", role="client", statistic="min") == 0.01
    assert of("smoothed_rtt_seconds", worker="0", role="client", statistic="max") == 0.03
    assert not [k for k in found if k[0] == "afterburner_quic_smoothed_rtt_seconds" and ("role", "server") in k[1]]
    labels = {name for (metric, pairs) in found if "quic" in metric for name, _ in pairs}
    assert labels <= {"worker", "role", "state", "statistic", "reason", "outcome", "direction", "le"}


def test_a_daemon_without_tables_has_no_series_of_connections() -> None:
    with segment() as s:
        fill(s)
        assert "quic_connections_by_state" not in page(s)


def test_promtool_finds_nothing_to_say(filled: Segment) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: `make setup` installs Debian's prometheus"
    result = subprocess.run([promtool, "check", "metrics"], input=page(filled), text=True, capture_output=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_openmetrics_on_request_says_the_same(filled: Segment) -> None:
    text = page(filled, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert text.endswith("# EOF\n")
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_openmetrics(text)
        for sample in family.samples
    }
    assert found == samples(filled)


def test_every_metric_of_the_schema_is_on_the_page_with_its_help(filled: Segment) -> None:
    text = page(filled)
    wanted = {s.metric for b in schema.BLOCKS for s in b.stats if s.metric} | {d.metric for d in schema.DERIVED}
    shown = set(re.findall(r"^# HELP afterburner_(\S+) \S.*$", text, re.MULTILINE))
    assert shown == wanted
    assert set(re.findall(r"^# TYPE afterburner_(\S+) ", text, re.MULTILINE)) == wanted


def test_nanoseconds_become_seconds(filled: Segment) -> None:
    filled.set("worker", 1, "busy_ns", 2_500_000_000)
    assert samples(filled)["afterburner_worker_busy_seconds_total", (("worker", "1"),)] == 2.5


def test_an_enum_is_one_series_a_state(filled: Segment) -> None:
    found = {
        dict(labels)["state"]: value
        for (name, labels), value in samples(filled).items()
        if name == "afterburner_worker_state" and dict(labels)["worker"] == "0"
    }
    assert found == {"down": 0, "starting": 0, "running": 1, "paused": 0, "stopped": 0}


def test_an_unknown_state_is_none_of_the_known_ones(filled: Segment) -> None:
    filled.set("worker", 0, "state", 77)
    assert not any(
        value
        for (name, labels), value in samples(filled).items()
        if name == "afterburner_worker_state" and dict(labels)["worker"] == "0"
    )


def test_a_histogram_counts_exactly_what_lies_below_each_power_of_two() -> None:
    values = [0, 63, 64, 65, 1000, 1023, 1024, (1 << 20) - 1, 1 << 20, 1 << 33, 1 << 50]
    with segment() as s:
        record(s, "worker", 0, "gap", values)
        found = samples(s)
    labels = (("worker", "0"),)
    for k in (6, 10, 20, 32):
        key = ("afterburner_worker_loop_gap_seconds_bucket", tuple(sorted({"le": le(k), "worker": "0"}.items())))
        assert found[key] == sum(v < 1 << k for v in values), k
    inf = tuple(sorted({"le": "+Inf", "worker": "0"}.items()))
    assert found["afterburner_worker_loop_gap_seconds_bucket", inf] == len(values)
    assert found["afterburner_worker_loop_gap_seconds_count", labels] == len(values)
    assert found["afterburner_worker_loop_gap_seconds_sum", labels] == pytest.approx(sum(values) / 1e9, rel=1e-12)


def le(k: int) -> str:
    seconds = (1 << k) / 1e9
    return next(text for text in (f"{seconds}", repr(seconds)) if float(text) == seconds)


def test_only_what_exists_is_shown(filled: Segment) -> None:
    text = page(filled)
    assert 'queue="2",worker="1"' in text
    assert len(re.findall(r"^afterburner_queue_frames\{", text, re.MULTILINE)) == 3  # of four slots
    filled.set_info(Info(workers=(WorkerInfo(1, (0,)),)))
    text = page(filled)
    assert len(re.findall(r"^afterburner_queue_frames\{", text, re.MULTILINE)) == 1
    assert "afterburner_rule_" not in text


def test_label_values_are_escaped(filled: Segment) -> None:
    assert ("afterburner_rule_packets_total", (("rule", 'odd "name" \\ \n here'), ("worker", "1"))) in samples(filled)
