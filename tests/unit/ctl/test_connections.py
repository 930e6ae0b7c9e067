"""connections shows rows of shared memory with the daemon's names for them, and does without either process."""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from afterburnerd.abi import control
from afterburnerd.abi.connections import STATES, Table
from afterburnerd.abi.layout import QuicCounts, QuicRole, QuicRow, QuicRows, QuicState
from afterburnerd.ctl.connview import SORTS, ConnectionView, Wanted
from afterburnerd.ctl.main import STATES_SHOWN, build_parser
from afterburnerd.quic.connection import Step
from afterburnerd.quic.link import State
from tests.unit.ctl.conftest import FakeDaemon, Tool

MS = 1_000_000


def packed(address: str) -> bytes:
    found = ipaddress.ip_address(address)
    return found.packed if found.version == 6 else ipaddress.IPv6Address(f"::ffff:{found}").packed


def put(table: Table, index: int, number: int, peer: str, port: int, **fields: int) -> None:
    now = time.monotonic_ns()
    row = QuicRow(
        id=number, seq=2, time_ns=now, adopted_ns=max(now - 90_000 * MS, 0), local=packed("192.0.2.1"), local_port=4000,
        remote=packed(peer), remote_port=port, suite=1, mtu=1472, rx_generation=2, min_rtt_ns=MS,
        counts=QuicCounts(packets_lost=fields.pop("lost", 0), bytes_sent=3 << 20, blocked_window_ns=5 * MS),
        **fields,  # type: ignore[arg-type]
    )  # fmt: skip
    os.pwrite(table.fd, row.pack(), QuicRows.SIZE + index * QuicRow.SIZE)


@pytest.fixture
def tables(daemon: FakeDaemon) -> Iterator[FakeDaemon]:
    made = [Table.create(daemon.name, w, 4) for w in (0, 1)]
    put(made[0], 0, 7, "192.0.2.9", 8009, role=QuicRole.CLIENT, state=QuicState.OPEN, srtt_ns=30 * MS, slot=1,
        cwnd=157696, tx_generation=3, lost=4)  # fmt: skip
    put(made[0], 3, 9, "2001:db8::9", 9009, role=QuicRole.SERVER, state=QuicState.OPEN, srtt_ns=2 * MS, io=1, lost=9)
    put(made[1], 1, 8, "192.0.2.77", 8009, role=QuicRole.SERVER, state=QuicState.DRAINING, srtt_ns=5 * MS, trace=3)
    said = control.Connections(
        connections=(
            control.ConnectionStatus(number=7, name="leader", role="client", state="open", identity="9xQe", waiting=12),
            control.ConnectionStatus(name="spare", role="client", state="dialling", address="192.0.2.10", port=8009),
        ),
        listeners=(control.ListenerStatus(name="tpu", address="192.0.2.1", port=4000, counts={"adopted": 2}),),
        trouble={"votes": "port in use"},
    )
    daemon.answer = lambda request: said if isinstance(request, control.ConnectionsRequest) else control.Pong()
    yield daemon
    for table in made:
        table.close()


def shown(ctl: Tool, *words: str) -> list[dict[str, Any]]:
    assert ctl("connections", "-j", *words) == 0
    found: Any = ctl.json()["connections"]
    return list(found)


def numbers(ctl: Tool, *words: str) -> list[int]:
    return [c["number"] for c in shown(ctl, *words)]


def test_rows_and_what_the_supervisor_says_make_one_list(tables: FakeDaemon, ctl: Tool) -> None:
    leader, accepted, other, spare = shown(ctl)
    assert (leader["number"], leader["name"], leader["identity"], leader["waiting"]) == (7, "leader", "9xQe", 12)
    assert (leader["role"], leader["state"], leader["io"], leader["worker"]) == ("client", "open", "afxdp", 0)
    assert leader["queue"] == 1  # slot 1 of worker 0, which has the queues 0 and 1
    assert (leader["peer"], leader["peer_port"], leader["local"]) == ("192.0.2.9", 8009, "192.0.2.1")
    assert leader["rtt"] == pytest.approx(0.03) and leader["rtt_min"] == pytest.approx(0.001)
    assert leader["age"] == pytest.approx(90, abs=1)
    assert (leader["key_generation"], leader["peer_key_generation"], leader["key_phase"]) == (3, 2, 1)
    assert leader["counts"]["packets_lost"] == 4 and leader["counts"]["blocked_window"] == pytest.approx(0.005)
    assert (accepted["number"], accepted["name"], accepted["state"], accepted["trace"]) == (
        8,
        "",
        "draining",
        ["qlog", "keylog"],
    )
    assert (other["number"], other["io"], other["queue"], other["peer"]) == (9, "socket", -1, "2001:db8::9")
    assert (spare["number"], spare["name"], spare["state"], spare["figures_age"]) == (0, "spare", "dialling", None)


def test_the_table_has_a_line_each_and_says_who_listens(tables: FakeDaemon, ctl: Tool) -> None:
    assert ctl("connections") == 0
    lines = ctl.out.splitlines()
    assert lines[0] == "4 connections (1 dialling, 1 draining, 2 open)"
    leader = next(line for line in lines if "leader" in line)
    for word in ("192.0.2.9:8009", "30.0 ms", "154 KiB", "3/2", "afxdp", "1 min"):
        assert word in leader
    assert any("[2001:db8::9]:9009" in line for line in lines)
    assert "listening: tpu on 192.0.2.1:4000: adopted 2" in ctl.out
    assert "not listening: votes: port in use" in ctl.out
    assert ctl("connections", "--full", "--peer", "leader") == 0
    assert "generation 3 ours, 2 the peer's" in ctl.out and "4 connections" in ctl.out and "1 shown" in ctl.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--role", "server"], [8, 9]),
        (["--state", "open"], [7, 9]),
        (["--state", "open", "--state", "dialling"], [7, 9, 0]),
        (["--peer", "192.0.2.0/24"], [7, 8, 0]),
        (["--peer", "192.0.2.0/24", "--role", "server"], [8]),
        (["--peer", ":8009"], [7, 8, 0]),
        (["--peer", "[2001:db8::9]:9009"], [9]),
        (["--peer", "lead"], [7]),
        (["--peer", "9xQ"], [7]),
        (["--peer", "nobody"], []),
        (["--sort", "rtt"], [7, 8, 9, 0]),
        (["--sort", "rtt", "--reverse"], [0, 9, 8, 7]),
        (["--sort", "lost"], [9, 7, 8, 0]),
        (["--sort", "peer"], [7, 0, 8, 9]),
        (["--sort", "name"], [7, 0, 8, 9]),
    ],
)
def test_filters_and_orders(tables: FakeDaemon, ctl: Tool, words: list[str], expected: list[int]) -> None:
    assert numbers(ctl, *words) == expected


def test_status_counts_them(tables: FakeDaemon, ctl: Tool) -> None:
    tables.answer = tables._answer
    assert ctl("status", "-j") == 0
    found: Any = ctl.json()["quic"]
    assert found["states"] == {"open": 2, "draining": 1} and found["roles"] == {"client": 1, "server": 2}
    assert [(e["worker"], e["connections"], e["room"], e["over"]) for e in found["engines"]] == [
        (0, 2, 4, {"afxdp": 1, "socket": 1}), (1, 1, 4, {"afxdp": 1}),
    ]  # fmt: skip
    assert found["rtt"] == pytest.approx(0.016) and found["rtt_max"] == pytest.approx(0.03)


def test_every_order_is_offered_and_works(tables: FakeDaemon, ctl: Tool) -> None:
    text = build_parser().format_help()
    assert "connections" in text
    for sort in SORTS:
        assert sorted(numbers(ctl, "--sort", sort)) == [0, 7, 8, 9]
    assert ctl("connections", "--sort", "luck") == 64


def test_without_the_supervisor_figures_are_still_there(tables: FakeDaemon, ctl: Tool) -> None:
    tables.stop()
    assert numbers(ctl) == [7, 8, 9]
    assert ctl("connections") == 0
    assert "without names and listeners" in ctl.err


def test_the_dead_are_told_as_dead(tables: FakeDaemon, ctl: Tool) -> None:
    tables.die()
    assert ctl("connections") == 3
    assert "is not running: this is what it left" in ctl.out and "192.0.2.9:8009" in ctl.out


def test_a_daemon_without_quic_has_no_connection(daemon: FakeDaemon, ctl: Tool) -> None:
    daemon.answer = lambda _: control.Connections()
    assert ctl("connections") == 0
    assert ctl.out == "no connection\n"


def test_nothing_there_is_told(ctl: Tool) -> None:
    assert ctl("connections") == 3


def test_watching_prints_page_after_page(tables: FakeDaemon, ctl: Tool) -> None:
    assert ctl("connections", "--watch", "--interval", "0.01", "--count", "3") == 0
    assert ctl.out.count("4 connections") == 3
    assert ctl("connections", "--watch", "--interval", "0.01", "--count", "2", "-j") == 0
    assert len(ctl.out.splitlines()) == 2


def test_equal_ones_keep_the_order_of_their_numbers() -> None:
    mixed = [ConnectionView(number=n) for n in (5, 0, 3, 4)]
    assert [c.number for c in Wanted(sort="rtt").choose(mixed)] == [3, 4, 5, 0]


def test_states_that_can_be_asked_for_are_those_that_there_are() -> None:
    steps = {step.name.lower() for step in Step if step < Step.RELEASED}
    assert set(STATES_SHOWN) == set(STATES.values()) | {state.value for state in State} | steps


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--state", "opne"), "unknown value of --state 'opne'; did you mean open?"),
        (("--peer", "10.0.0.0/99"), "--peer 10.0.0.0/99: "),
        (("--peer", "192.0.2.9:70000"), "'70000' is not a port"),
    ],
)
def test_what_cannot_be_is_not_answered_with_nothing(
    ctl: Tool, tables: FakeDaemon, words: tuple[str, ...], why: str
) -> None:
    assert ctl("connections", *words) == 64 and why in ctl.err
