"""sd_notify: the datagrams that systemd expects, by library and by hand, and silence without systemd."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from afterburnerd.observe.notify import Notifier, NotifyError


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """Stands in for the service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        if request.param == "file":
            address = str(tmp_path / "notify")
            sock.bind(address)
        else:
            address = f"@afterburner-test-{os.getpid()}-{time.monotonic_ns()}"
            sock.bind("\0" + address[1:])
        sock.settimeout(10)
        yield address, sock


@pytest.fixture(params=["library", "by hand"])
def notifier(
    request: pytest.FixtureRequest, manager: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> Notifier:
    monkeypatch.setenv("NOTIFY_SOCKET", manager[0])
    if request.param == "by hand":
        monkeypatch.setitem(sys.modules, "systemd.daemon", None)
    else:
        pytest.importorskip("systemd.daemon", reason="systemd-python is not installed")
    return Notifier.from_environment()


def test_what_is_sent(manager: tuple[str, socket.socket], notifier: Notifier) -> None:
    _, sock = manager
    for call, expected in (
        (lambda: notifier.ready(), "READY=1"),
        (lambda: notifier.ready("serving on ve0"), "READY=1\nSTATUS=serving on ve0"),
        (lambda: notifier.reloading("reading", 12_345_678), "RELOADING=1\nMONOTONIC_USEC=12345\nSTATUS=reading"),
        (lambda: notifier.stopping(), "STOPPING=1"),
        (lambda: notifier.status("all well"), "STATUS=all well"),
        (lambda: notifier.watchdog(), "WATCHDOG=1"),
    ):
        assert call() is True
        assert sock.recv(4096).decode() == expected


def test_a_status_stays_one_assignment(manager: tuple[str, socket.socket], notifier: Notifier) -> None:
    notifier.status("two\nREADY=1\nlines " + "x" * 1000)
    lines = manager[1].recv(4096).decode().split("\n")
    assert len(lines) == 1
    assert lines[0].startswith("STATUS=two READY=1 lines xxx")


def test_the_time_of_a_reload_is_now(manager: tuple[str, socket.socket], notifier: Notifier) -> None:
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    at = int(manager[1].recv(4096).decode().partition("MONOTONIC_USEC=")[2])
    assert before <= at <= time.monotonic_ns() // 1000


def test_without_systemd_nobody_is_told_and_nothing_fails() -> None:
    notifier = Notifier.from_environment({})
    assert not notifier.wanted
    assert [notifier.ready(), notifier.watchdog(), notifier.status("x")] == [False] * 3


def test_a_manager_that_is_gone_is_an_error(tmp_path: Path) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    with pytest.raises(NotifyError, match="nobody: No such file"):
        notifier.ready()
    with pytest.raises(NotifyError, match="must begin with"):
        Notifier.from_environment({"NOTIFY_SOCKET": "vsock:2:1234"})
