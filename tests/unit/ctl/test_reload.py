"""reload prints what the daemon answers, and tells the shell whether the files are in force now."""

from __future__ import annotations

from msgspec.structs import replace

from afterburnerd.abi import control
from tests.unit.ctl.conftest import FakeDaemon, Tool


def test_reload_applied(daemon: FakeDaemon, ctl: Tool) -> None:
    change = control.ConfigChange(path="memory.ring", old=2048, new=1024, reload="data-plane")
    daemon.reload = control.ReloadResult(ok=True, generation=4, changes=(change,), data_plane_restarted=True)
    assert ctl("reload") == 0
    assert "memory.ring" in ctl.out
    assert "reloaded: configuration 4 is in force; the data plane was restarted" in ctl.out
    assert daemon.requests == [control.ReloadRequest()]


def test_reload_without_changes(daemon: FakeDaemon, ctl: Tool) -> None:
    assert ctl("reload") == 0
    assert ctl.out == "reloaded: nothing has changed\n"


def test_reload_refused_for_errors(daemon: FakeDaemon, ctl: Tool) -> None:
    daemon.reload = control.ReloadResult(ok=False, generation=2, errors=("/x.toml:3: memory.rung: unknown key",))
    assert ctl("reload") == 78
    assert "/x.toml:3: memory.rung: unknown key" in ctl.err
    assert "nothing was applied; configuration 2 stays in force" in ctl.err
    assert ctl("reload", "-j") == 78
    assert control.decode_reply(ctl.out.encode()) == daemon.reload


def test_reload_refused_for_a_restart(daemon: FakeDaemon, ctl: Tool) -> None:
    change = control.ConfigChange(path="interface.name", old="a", new="b", reload="restart")
    daemon.reload = replace(daemon.reload, ok=False, changes=(change,), needs_restart=("interface.name",))
    assert ctl("reload") == 78
    assert "cannot be changed while running: interface.name; use systemctl restart afterburner" in ctl.err


def test_reload_that_takes_too_long(daemon: FakeDaemon, ctl: Tool) -> None:
    daemon.answer = lambda request: None
    assert ctl("reload", "--timeout", "0.05") == 69
    assert "did not answer" in ctl.err
