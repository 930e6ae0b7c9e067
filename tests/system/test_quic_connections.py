"""The table of connections of real daemons: it agrees with both ends, follows a data plane's death, and outlives both processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from afterburnerd.abi.connections import read_table, tables_of
from afterburnerd.supervisor import cleanup
from tests.system.daemonrig import Daemon
from tests.system.test_quic import PORT, two

ECN_CAPABLE = 3  # enum ab_quic_ecn_state of native/quic_ecn.h
pytestmark = [pytest.mark.privileged, pytest.mark.bpf]


def shown(daemon: Daemon, *words: str) -> tuple[int, list[dict[str, Any]]]:
    command = [sys.executable, "-m", "afterburnerd.ctl.main", "connections", "-j", "--name", daemon.name,
               "--run-dir", str(daemon.directory / "run"), *words]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["connections"]


@pytest.mark.parametrize("mode", ["auto", "socket"])
def test_both_ends_show_it_in_life_and_in_death(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with two(tmp_path, mode) as both:
        number = both.wait_open().number
        for n in range(20):
            both.send(b"message %d" % n)
        both.wait_acknowledged()

        def acked() -> int:
            return sum(r.counts.messages_acked for r in read_table(both.client.name, 0).rows if r.id == number)

        both.client.wait(lambda: acked() == 20, "the row to say so")
        # our packets are marked ECT(0), and the other end has read the marks off its backend and reported them
        both.client.wait(
            lambda: [r.ecn for r in read_table(both.client.name, 0).rows] == [ECN_CAPABLE], "the marks to be validated"
        )
        code, (ours,) = shown(both.client, "--state", "open")
        assert code == 0 and (ours["number"], ours["name"], ours["role"]) == (number, "peer", "client")
        assert ours["peer_port"] == PORT and 0 < ours["rtt_min"] <= ours["rtt"] and ours["waiting"] == 0
        assert ours["io"] == ("socket" if mode == "socket" else "afxdp") and ours["uni_opened"] == 20
        both.server.wait(
            lambda: sum(r.counts.streams_received for r in read_table(both.server.name, 0).rows) == 20, "the other end"
        )
        _, (theirs,) = shown(both.server, "--role", "server")
        assert (theirs["peer"], theirs["peer_port"]) == (ours["local"], ours["local_port"])

        # The data plane dies: its rows go with the next one, which shows the connection that follows.
        os.kill(both.client.plane_pid(), signal.SIGKILL)
        both.client.wait(
            lambda: [r.id > number for r in read_table(both.client.name, 0).rows] == [True], "the next connection", 20
        )

        # Both processes of the server die: what they left is shown, and said to be of the dead.
        both.server.kill()
        rows = [r.id for r in read_table(both.server.name, 0).rows]  # until it died any row might come or leave
        code, left = shown(both.server)
        assert code == 3 and rows and [c["number"] for c in left] == rows
        monkeypatch.setattr(cleanup, "names", lambda: [both.server.name])
        removed = {name for found in cleanup.remove_left_over() for name in found.removed}
        assert f"{both.server.name}.connections.0" in removed and tables_of(both.server.name) == []


def test_an_ordered_end_leaves_no_table(tmp_path: Path) -> None:
    with two(tmp_path) as both:
        both.wait_open()
        assert tables_of(both.client.name) == [0]
        assert both.client.stop() == 0
        assert tables_of(both.client.name) == []
