"""stats prints what the segment says of itself, of the living and of the dead."""

from __future__ import annotations

from typing import Any

from tests.unit.ctl.conftest import FakeDaemon, Tool


def blocks(ctl: Tool) -> dict[str, list[dict[str, Any]]]:
    found: Any = ctl.json()["blocks"]
    return dict(found)


def test_every_figure_of_every_block(daemon: FakeDaemon, ctl: Tool) -> None:
    assert ctl("stats", "-j") == 0
    found = blocks(ctl)
    described = {b.name: {f.name for f in b.fields} for b in daemon.segment.description.blocks}
    assert {block: set(rows[0]["figures"]) for block, rows in found.items()} == described
    assert found["worker"][0]["labels"] == {"worker": "0"}
    assert found["worker"][0]["figures"]["decoded"] == 1_000_000
    assert found["worker"][0]["figures"]["state"] == "running"
    assert found["queue"][2]["labels"] == {"worker": "1", "queue": "2"}


def test_histograms_by_their_quantiles(daemon: FakeDaemon, ctl: Tool) -> None:
    daemon.record(0, "gap", 1024, 3)
    assert ctl("stats", "gap", "-j") == 0
    figures = blocks(ctl)["worker"][0]["figures"]
    assert set(figures) == {"gap", "gap_max_ns"}
    assert (figures["gap"]["count"], figures["gap"]["sum"], figures["gap"]["max"]) == (3, 3072, 1024)
    assert ctl("stats", "worker.gap{") == 0
    assert "3 values, p50 1.02 us" in ctl.out


def test_patterns_and_zeros(daemon: FakeDaemon, ctl: Tool) -> None:
    assert ctl("stats", "worker=1", "--nonzero", "-j") == 0
    found = blocks(ctl)
    assert set(found) == {"worker", "queue"}
    assert [row["labels"]["worker"] for rows in found.values() for row in rows] == ["1", "1"]
    assert "turns" not in found["worker"][0]["figures"]
    assert ctl("stats", "no-such-figure") == 0
    assert ctl.out == ""
    assert ctl.err == "afterburnerctl: no figure is called 'no-such-figure'; `afterburnerctl stats` lists all of them\n"
    assert ctl("stats", "gap_max_ns", "--nonzero") == 0
    assert ctl.err == ""  # it is there, and 0
    daemon.segment.set("daemon", 0, "interface_mtu", 9000)
    assert ctl("stats", "interface_mtu") == 0
    assert " 9,000 B " in ctl.out


def test_text_has_names_values_and_meanings(daemon: FakeDaemon, ctl: Tool) -> None:
    assert ctl("stats", "worker.decoded") == 0
    assert ctl.out.splitlines() == [
        "worker (worker 0)",
        "  decoded  1,000,000  transactions decoded",
        "worker (worker 1)",
        "  decoded  1,000,000  transactions decoded",
    ]


def test_the_dead_are_marked_and_3(daemon: FakeDaemon, ctl: Tool) -> None:
    daemon.die()
    assert ctl("stats", "worker.decoded") == 3
    assert ctl.out.startswith(f"{daemon.name} is not running: these figures are what it left\n")
    assert ctl("stats", "-j") == 3
    assert ctl.json()["stale"] is True


def test_nothing_there_is_3(ctl: Tool) -> None:
    assert ctl("stats") == 3
    assert "no daemon of this name is running" in ctl.err
