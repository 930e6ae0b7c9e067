"""Debian's real Prometheus scrapes a running daemon with traffic, and every query of rules and dashboard finds data.

    namespace near: afterburnerd (exporter on 127.0.0.1), prometheus      namespace far: transactions, good and broken;
                                                                  another daemon that dials the first

A query that finds nothing is a panel that stays empty or an alert that can never fire, whatever promtool says of
its syntax. Of a rule the part before its comparison is asked for (what is above the threshold should be nothing, now).
"""

from __future__ import annotations

import http.client
import json
import math
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from afterburnerd.abi import control
from afterburnerd.lab.transactions import SHAPES, Maker
from tests import netns
from tests.system.daemonrig import PORT, Daemon
from tests.unit.observe.test_deploy_grafana import DASHBOARD, PANELS

pytestmark = pytest.mark.privileged

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy" / "prometheus"
EXPORTER, SERVER = "127.0.0.1:9475", 9090
LISTEN = '[quic]\nconnections = 64\n[[listen]]\nname = "quic"\nport = 8009\n'
CAPTURE = f"""
[[capture]]
name = "tpu"
port = {PORT}
decoder = "solana-tx"
"""
COMPARISON = re.compile(r" (==|>) [0-9.]+$")


def connect_to(address: str) -> str:
    return f'[quic]\nconnections = 64\n[[connect]]\nname = "peer"\naddress = "{address}"\nport = 8009\n'


class Prometheus:
    """A server in the daemon's namespace, with the deployed files at a quicker pace."""

    def __init__(self, end: netns.End, directory: Path) -> None:
        self.end = end
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Prometheus:
        program = shutil.which("prometheus")
        assert program, "prometheus is missing: `make setup` installs it"
        text = (DEPLOY / "prometheus.yml").read_text()
        assert EXPORTER in text
        text = re.sub(r"_interval: \d+s", "_interval: 1s", re.sub(r"_timeout: \d+s", "_timeout: 1s", text))
        (self.directory / "prometheus.yml").write_text(text)
        shutil.copy(DEPLOY / "afterburner.rules.yml", self.directory)
        self.log = self.directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.end.name, program,
                 f"--config.file={self.directory}/prometheus.yml", f"--storage.tsdb.path={self.directory}/data",
                 f"--web.listen-address=127.0.0.1:{SERVER}", "--query.lookback-delta=10s"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "GOMAXPROCS": "1"},
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)

    def get(self, path: str, **query: str) -> Any:
        """Data of an answer of the API; OSError while it does not listen, or is not ready yet."""
        connection = http.client.HTTPConnection("127.0.0.1", SERVER, timeout=20)
        with self.end.entered():
            connection.connect()
        try:
            connection.request("GET", f"{path}?{urllib.parse.urlencode(query)}")
            response = connection.getresponse()
            if response.status == 503:
                raise ConnectionError("it is not ready yet")
            answer = json.loads(response.read())
        finally:
            connection.close()
        assert answer["status"] == "success", f"{query}: {answer}"
        return answer["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        data = self.get("/api/v1/query", query=expression)
        return [(r["metric"], float(r["value"][1])) for r in data["result"]]

    def wait(self, condition: Any, what: str, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except OSError:
                pass
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, f"waited {seconds} s for {what}\n{self.log.read_text()[-3000:]}"
            time.sleep(0.25)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Prometheus, Daemon]]:
    directory = tmp_path_factory.mktemp("prometheus")
    (directory / "dialling").mkdir()
    with (
        netns.pair() as rig,
        Daemon(rig, directory, CAPTURE + LISTEN, start=False) as daemon,
        Daemon(
            netns.Pair(near=rig.far, far=rig.near), directory / "dialling", connect_to(rig.near.ipv4), start=False
        ) as other,
    ):
        daemon.write_config(exporter=EXPORTER)
        daemon.start()
        other.start()
        with Prometheus(rig.near, directory) as server:
            server.wait(lambda: server.query('up{job="afterburner"} == 1'), "the first scrape")
            yield daemon, server, other


def send(daemon: Daemon, maker: Maker) -> None:
    """One of each shape, and one that is none."""
    daemon.send(*(maker.make(shape) for shape in SHAPES), b"\x05not a transaction")


def rule_queries() -> list[tuple[str, str]]:
    text = (DEPLOY / "afterburner.rules.yml").read_text()
    pairs = re.findall(r"- alert: (\S+)\n\s+expr: (.*)\n", text)
    assert all(COMPARISON.search(expression) for _, expression in pairs)
    return [(f"alert {name}", COMPARISON.sub("", expression)) for name, expression in pairs]


def dashboard_queries() -> list[tuple[str, str, str]]:
    def filled(expression: str) -> str:
        return expression.replace("$__rate_interval", "15s").replace("$instance", ".*")

    found = [
        (f"panel {p['title']!r} {t['refId']}", filled(t["expr"]), t["legendFormat"])
        for p in PANELS
        for t in p["targets"]
    ]
    found += [
        (f"annotation {a['name']!r}", COMPARISON.sub("", filled(a["expr"])), a["titleFormat"])
        for a in DASHBOARD["annotations"]["list"]
    ]
    return found


@pytest.mark.bpf
def test_every_query_of_rules_and_dashboard_finds_data(world: tuple[Daemon, Prometheus, Daemon]) -> None:
    daemon, server, other = world
    maker = Maker(7)
    missing = [(what, expression, "") for what, expression in rule_queries()] + dashboard_queries()
    count = len(missing)
    assert count > 100
    until = time.monotonic() + 90
    while missing and time.monotonic() < until:
        with (
            other.client() as asked
        ):  # another adoption at either end, for histograms of adoptions have no quantile without
            asked.ask(control.CloseRequest(connection="peer"), control.Accepted)
        assert other.reload().ok  # it is dialled again
        for _ in range(10):
            send(daemon, maker)
            time.sleep(0.1)
        missing = [(what, e, legend) for what, e, legend in missing if not has_data(server.query(e), legend)]
    assert missing == [], f"{len(missing)} of {count} queries found nothing in 90 s"
    print(f"{count} queries, data behind each")


def has_data(result: list[tuple[dict[str, str], float]], legend: str) -> bool:
    """A number, with the labels that its legend speaks of."""
    numbers = [labels for labels, value in result if not math.isnan(value)]
    for name in re.findall(r"\{\{(\w+)\}\}", legend):
        assert all(name in labels for labels in numbers), f"no label {name} in {numbers[0]}"
    return bool(numbers)


def test_prometheus_takes_the_page_and_the_rules_as_they_are(world: tuple[Daemon, Prometheus, Daemon]) -> None:
    _, server, _ = world
    (target,) = server.get("/api/v1/targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    server.wait(lambda: all(r["lastEvaluation"] > "2000" for r in rules(server)), "rules to be evaluated")
    assert {(r["name"], r["health"], r.get("lastError", "")) for r in rules(server) if r["health"] != "ok"} == set()
    kinds = server.get("/api/v1/metadata", metric="afterburner_worker_loop_gap_seconds")
    assert kinds["afterburner_worker_loop_gap_seconds"][0]["type"] == "histogram"


def rules(server: Prometheus) -> list[dict[str, Any]]:
    return [rule for group in server.get("/api/v1/rules")["groups"] for rule in group["rules"]]


def test_figures_agree_with_what_was_sent(world: tuple[Daemon, Prometheus, Daemon]) -> None:
    daemon, server, _ = world
    before = daemon.rule("tpu", "decoded"), daemon.rule("tpu", "malformed")
    maker = Maker(8)
    for _ in range(20):
        send(daemon, maker)
    good, bad = before[0] + 20 * len(SHAPES), before[1] + 20
    daemon.wait(lambda: (daemon.rule("tpu", "decoded"), daemon.rule("tpu", "malformed")) == (good, bad), "all of them")

    def shown() -> tuple[float, float]:
        return tuple(  # type: ignore[return-value]
            sum(v for _, v in server.query(f"afterburner_rule_{name}_total{{rule='tpu'}}"))
            for name in ("decoded_transactions", "malformed_datagrams")
        )

    server.wait(lambda: shown() == (good, bad), "the next scrape")


@pytest.mark.bpf
def test_what_is_wanted_is_what_is_served(world: tuple[Daemon, Prometheus, Daemon]) -> None:
    """Or the alert about queues that are not served could never fire."""
    _, server, _ = world
    assert [v for _, v in server.query("afterburner_interface_queues_wanted")] == [1.0]
    assert [v for _, v in server.query('sum(afterburner_queue_mode{state!="closed"})')] == [1.0]


def test_a_killed_data_plane_raises_its_alert(world: tuple[Daemon, Prometheus, Daemon]) -> None:
    daemon, server, _ = world

    def firing() -> set[str]:
        return {a["labels"]["alertname"] for a in server.get("/api/v1/alerts")["alerts"] if a["state"] == "firing"}

    assert "AfterburnerDataPlaneRestarted" not in firing()
    os.kill(daemon.plane_pid(), signal.SIGKILL)
    server.wait(lambda: "AfterburnerDataPlaneRestarted" in firing(), "the alert")
    (alert,) = [
        a for a in server.get("/api/v1/alerts")["alerts"] if a["labels"]["alertname"] == "AfterburnerDataPlaneRestarted"
    ]
    assert "a data plane died or hung" in alert["annotations"]["summary"]
