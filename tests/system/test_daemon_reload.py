"""A reload: applied whole or not at all, and at no higher cost than the keys that changed take."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from afterburnerd import client
from tests import netns
from tests.system.daemonrig import RAW, Daemon

pytestmark = pytest.mark.privileged
SECOND = RAW + '\n[[capture]]\nname = "more"\nport = 8002\ndecoder = "count"\n'


@pytest.fixture
def rig() -> Iterator[netns.Pair]:
    with netns.pair() as pair:
        yield pair


@pytest.mark.bpf
def test_a_reload_applies_live_keys_without_touching_the_data_plane(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as daemon:
        pid = daemon.plane_pid()
        daemon.write_config(captures=SECOND)
        result = daemon.reload()
        assert (result.ok, result.generation, result.data_plane_restarted) == (True, 2, False)
        assert [c.path for c in result.changes] == ["capture[more]"]
        daemon.send(b"x", port=8002)
        daemon.wait(lambda: daemon.rule("more", "packets") == 1, "the new rule to count")
        assert daemon.plane_pid() == pid


def test_a_reload_in_socket_mode_opens_and_closes_only_what_changes(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path, interface='mode = "socket"') as daemon:
        for captures, ports in ((SECOND, (8001, 8002)), (RAW, (8001,)), (SECOND, (8001, 8002))):
            daemon.write_config(captures=captures)
            result = daemon.reload()
            assert (result.ok, result.data_plane_restarted) == (True, True), result.errors
            listening = rig.near.run("ss", "-Hlun").split()
            assert [port for port in (8001, 8002) if f"0.0.0.0:{port}" in listening] == list(ports)
        daemon.send(b"x", port=8001)
        daemon.send(b"x", port=8002)
        daemon.wait(lambda: daemon.rule("more", "packets") == 1, "the new rule to count")
        daemon.wait(lambda: daemon.rule("tpu", "packets") == 1, "the old rule to count")


@pytest.mark.bpf
def test_a_reload_of_data_plane_keys_restarts_it_under_the_same_program(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as daemon:
        pid, program = daemon.plane_pid(), daemon.attached()
        daemon.send(b"before the reload")
        daemon.wait(lambda: daemon.value("worker", "records") == 1, "a record")
        daemon.write_config(memory="frames = 4096")
        result = daemon.reload()
        assert (result.ok, result.data_plane_restarted) == (True, True), result.errors
        assert daemon.plane_pid() != pid
        assert daemon.attached() == program
        assert daemon.queues()[0].value("frames") == 4096
        # What was recorded before is still there to be read: the ring did not change.
        with client.follow(daemon.name, oldest=True, wait=False) as records:
            assert [r.payload for r in records.poll()] == [b"before the reload"]
        daemon.receives()
        daemon.assert_frames_add_up()


def test_a_reload_that_needs_a_restart_applies_nothing_and_says_which_keys(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as daemon:
        daemon.write_config(interface='mode = "generic"', captures=SECOND)
        result = daemon.reload()
        assert not result.ok
        assert result.needs_restart == ("interface.mode",)
        assert {c.path for c in result.changes} == {"interface.mode", "capture[more]"}
        assert [c.name for c in daemon.status().captures] == ["tpu"]
        assert daemon.value("daemon", "reload_refused") == 1
        daemon.receives()


def test_a_bad_file_keeps_the_former_configuration(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as daemon:
        daemon.write_config(captures=SECOND + "prot = 3\n")
        result = daemon.reload()
        assert not result.ok
        assert any("prot" in line and "afterburner.toml" in line for line in result.errors)
        assert daemon.status().generation == 1
        daemon.receives()


@pytest.mark.bpf
def test_a_reload_that_fails_midway_is_taken_back(rig: netns.Pair, tmp_path: Path) -> None:
    """The file is good, yet what it asks for cannot be had: more packet memory than the machine has."""
    with Daemon(rig, tmp_path, interface='mode = "copy"') as daemon:
        daemon.write_config(memory='huge_pages = "require"\nframes = 1048576', captures=SECOND)
        result = daemon.reload()
        assert not result.ok
        assert any("former configuration stays" in line for line in result.errors)
        assert [c.name for c in daemon.status().captures] == ["tpu"]
        daemon.wait(lambda: daemon.state() == "serving", "serving again")
        assert daemon.queues()[0].value("frames") == 2048
        daemon.receives()


@pytest.mark.bpf
def test_the_log_tells_changes_as_the_file_writes_them(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as daemon:
        daemon.write_config(interface="verify_udp_checksum = true", captures=SECOND)
        assert daemon.reload().ok
        assert 'interface.verify_udp_checksum: false -> true, capture[more]: added { name = "more",' in daemon.log()


def test_a_reload_tries_again_what_could_not_be_had(rig: netns.Pair, tmp_path: Path) -> None:
    with rig.near.entered():
        taken = socket.socket()
    with taken, Daemon(rig, tmp_path, start=False) as daemon:
        taken.bind(("127.0.0.1", 9475))
        taken.listen()
        daemon.write_config(exporter="127.0.0.1:9475", interface='mode = "socket"')  # nothing else to be degraded by
        daemon.start()
        assert "no metrics page" in daemon.status().detail
        assert daemon.reload().ok
        assert daemon.state() == "degraded"
        taken.close()
        assert daemon.reload().ok
        assert daemon.state() == "serving"
        assert "200 OK" in rig.near.run("curl", "-si", "http://127.0.0.1:9475/healthz")


def test_sighup_reloads(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as daemon:
        daemon.write_config(captures=SECOND)
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.wait(lambda: daemon.status().generation == 2, "the reload")
        assert [c.name for c in daemon.status().captures] == ["tpu", "more"]
