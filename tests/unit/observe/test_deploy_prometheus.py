"""What operators deploy: rules that promtool likes and that fire when they should, each explained, on metrics that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from afterburnerd.abi import schema

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy" / "prometheus"
RULES = (DEPLOY / "afterburner.rules.yml").read_text()
ALERTS = re.findall(r"^\s+- alert: (\S+)$", RULES, re.MULTILINE)

METRICS = {f"afterburner_{s.metric}": s.kind for b in schema.BLOCKS for s in b.stats if s.metric}
METRICS |= {f"afterburner_{d.metric}": d.kind for d in schema.DERIVED}
METRICS |= {f"{m}_bucket": "counter" for m, kind in METRICS.items() if kind == "histogram"}


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    assert program, "promtool is missing: `make setup` installs Debian's prometheus"
    return subprocess.run([program, *words], text=True, capture_output=True)


@pytest.mark.parametrize(
    "words",
    [("check", "config", "prometheus.yml"), ("check", "rules", "afterburner.rules.yml")],
    ids=lambda w: " ".join(w),
)
def test_promtool_accepts(words: tuple[str, ...]) -> None:
    result = promtool(*words[:2], DEPLOY / words[2])
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    result = promtool("test", "rules", DEPLOY / "afterburner.tests.yml")
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_has_a_test() -> None:
    tests = (DEPLOY / "afterburner.tests.yml").read_text()
    assert len(ALERTS) > 20
    assert [a for a in ALERTS if f'alertname="{a}", alertstate="firing"' not in tests] == []


def test_every_alert_is_explained_to_the_operator_and_nothing_else_is() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text()
    assert re.findall(r"^### (\S+)$", text, re.MULTILINE) == ALERTS


def test_rules_and_docs_speak_of_metrics_that_exist() -> None:
    for name in ("deploy/prometheus/afterburner.rules.yml", "docs/monitoring.md"):
        used = set(re.findall(r"\bafterburner_\w+", (ROOT / name).read_text()))
        assert used - set(METRICS) == set(), name


def test_every_expression_ends_in_a_comparison_so_that_it_can_be_put_into_a_graph() -> None:
    expressions = re.findall(r"^\s+expr: (.*)$", RULES, re.MULTILINE)
    assert len(expressions) == len(ALERTS)
    for expression in expressions:
        assert re.search(r" (==|>) [0-9.]+$", expression), expression
