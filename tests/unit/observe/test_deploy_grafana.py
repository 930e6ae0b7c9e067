"""The dashboard: what its source says, on metrics that exist, with panels that do not lie on each other."""

from __future__ import annotations

import json
import re
from pathlib import Path

from deploy.grafana import dashboard as source
from tests.unit.observe.test_deploy_prometheus import METRICS

TEXT = source.TARGET.read_text()
DASHBOARD = json.loads(TEXT)
PANELS = [p for p in DASHBOARD["panels"] if p["type"] != "row"]
QUERIES = [t["expr"] for p in PANELS for t in p["targets"]] + [a["expr"] for a in DASHBOARD["annotations"]["list"]]


def test_the_committed_file_is_what_its_source_says() -> None:
    assert json.dumps(source.dashboard(), indent=1) + "\n" == TEXT, "stale: run `make generate`"


def test_it_shows_every_metric_there_is_but_a_few_with_a_reason() -> None:
    used = set(re.findall(r"\bafterburner_\w+", " ".join(QUERIES)))
    assert used - set(METRICS) == set()
    histograms = {m for m, kind in METRICS.items() if kind == "histogram"}  # shown by their buckets
    # a stale segment is not the daemon's own; the processor number is in afterburnerctl status
    assert set(METRICS) - used - histograms == {"afterburner_segment_stale", "afterburner_worker_cpu"}


def test_counters_are_shown_as_rates() -> None:
    for query in QUERIES:
        for metric in re.findall(r"\bafterburner_\w+", query):
            if METRICS[metric] == "counter" and metric != "afterburner_queue_frame_errors_total":
                assert re.search(rf"(rate|increase)\({metric}\{{", query), query


def test_every_query_selects_the_instance() -> None:
    for query in QUERIES:
        assert len(re.findall(r"\bafterburner_\w+", query)) == query.count('instance=~"$instance"'), query


def test_panels_have_numbers_of_their_own_and_places_of_their_own() -> None:
    everything = DASHBOARD["panels"]
    assert len({p["id"] for p in everything}) == len(everything)
    taken: dict[tuple[int, int], str] = {}
    for p in everything:
        g = p["gridPos"]
        assert g["x"] + g["w"] <= 24, p["title"]
        for x in range(g["x"], g["x"] + g["w"]):
            for y in range(g["y"], g["y"] + g["h"]):
                assert (x, y) not in taken, f"{p['title']} lies on {taken[x, y]}"
                taken[x, y] = p["title"]


def test_provisioning_names_the_directory_that_the_documentation_names() -> None:
    root = Path(__file__).resolve().parents[3]
    path = "/var/lib/grafana/dashboards"
    assert path in (root / "deploy/grafana/provisioning/dashboards/afterburner.yaml").read_text()
    assert path in (root / "docs/monitoring.md").read_text()
