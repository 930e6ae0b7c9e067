"""status tells how the daemon does, whatever of it is left, and says it to the shell as well."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from afterburnerd.abi import control
from afterburnerd.ctl.main import main
from afterburnerd.ctl.view import View
from tests.unit.ctl.conftest import DEGRADED, FakeDaemon, Tool


def test_a_serving_daemon(daemon: FakeDaemon, ctl: Tool) -> None:
    assert ctl("status") == 0
    assert f"{daemon.name} 9.9 on ve0 (veth, copy): serving" in ctl.out
    assert "worker 0: 1 restart, last failure: killed by SIGKILL" in ctl.out
    assert "any:8001" in ctl.out
    assert ctl.err == ""


def test_json_is_the_view(daemon: FakeDaemon, ctl: Tool) -> None:
    assert ctl("status", "-j") == 0
    view = msgspec.json.decode(ctl.out, type=View)
    assert (view.name, view.running, view.state, view.control) == (daemon.name, True, "serving", "")
    assert len(view.workers) == 2
    assert len(view.queues) == 3


def test_a_degraded_daemon_is_1_and_says_why(daemon: FakeDaemon, ctl: Tool) -> None:
    daemon.segment.set("daemon", 0, "state", DEGRADED)
    notice = control.Notice(text="no huge pages were free", hint="sysctl vm.nr_hugepages=8", degraded=True)
    daemon.status = replace(daemon.status, notices=(notice,))
    assert ctl("status") == 1
    assert "! no huge pages were free\n  sysctl vm.nr_hugepages=8\n" in ctl.out


def test_both_processes_dead_shows_what_is_left_and_is_3(daemon: FakeDaemon, ctl: Tool) -> None:
    daemon.die()
    assert ctl("status") == 3
    assert "not running; stale figures, last sign of life" in ctl.out
    assert ctl("status", "-j") == 3
    view = msgspec.json.decode(ctl.out, type=View)
    assert (view.running, view.stale) == (False, True)
    assert view.workers[0].decoded == 1_000_000


def test_nothing_there_at_all_is_3(ctl: Tool, name: str) -> None:
    assert ctl("status") == 3
    assert ctl.out == ""
    assert "not running" in ctl.err
    assert f"/dev/shm/{name}.stats" in ctl.err
    assert "systemctl start afterburner" in ctl.err


def test_nothing_there_at_all_in_json(ctl: Tool, name: str) -> None:
    assert ctl("status", "-j") == 3
    view = msgspec.json.decode(ctl.out, type=View)
    assert (view.name, view.running) == (name, False)


def test_a_stuck_supervisor_is_69_and_the_figures_are_shown(daemon: FakeDaemon, ctl: Tool) -> None:
    daemon.answer = lambda request: None
    assert ctl("status") == 69
    assert "did not answer" in ctl.out
    assert "1.00" not in ctl.err
    assert "serving" in ctl.out


def test_without_a_socket_the_figures_are_enough(daemon: FakeDaemon, ctl: Tool, tmp_path: Path) -> None:
    daemon.stop()
    (tmp_path / control.SOCKET_NAME).unlink()
    assert ctl("status") == 0
    assert "there is no such socket" in ctl.out


def test_without_permission_for_the_socket_the_figures_are_enough(
    daemon: FakeDaemon, ctl: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise control.ControlError("permission denied: x", 77)

    monkeypatch.setattr("afterburnerd.ctl.watch.ControlClient", refuse)
    assert ctl("status") == 0
    assert "permission denied: x" in ctl.out


def test_the_name_is_what_the_daemon_says_unless_it_was_given(
    daemon: FakeDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--run-dir", str(tmp_path)]) == 0
    assert daemon.name in capsys.readouterr().out
    assert main(["status", "--run-dir", str(tmp_path), "--name", "nobody"]) == 69
    assert "answers, but its statistics are gone" in capsys.readouterr().err
