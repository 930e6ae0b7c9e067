"""The unit as systemd reads it: valid, at most 2.8 exposed, and least in its rights."""

from __future__ import annotations

import re

import pytest

from .container import Container

UNIT = "/usr/local/lib/systemd/system/afterburner.service"
EXPOSURE = 2.8  # what systemd's own network daemon has
pytestmark = pytest.mark.privileged


def test_the_unit_verifies_without_a_word(machine: Container) -> None:
    done = machine.run("systemd-analyze", "verify", "--man=no", UNIT)
    assert done.stdout + done.stderr == ""


def test_exposure_is_that_of_a_system_daemon(machine: Container) -> None:
    shown = machine.run("systemd-analyze", "security", "--no-pager", "afterburner.service").stdout
    found = re.search(r"Overall exposure level for afterburner\.service: ([0-9.]+)", shown)
    assert found, shown
    assert float(found[1]) <= EXPOSURE, shown


def test_the_account_of_the_unit_exists(machine: Container) -> None:
    assert machine.show("afterburner", "User", "Group") == {"User": "afterburner", "Group": "afterburner"}
    machine.run("id", "afterburner")


def test_the_rig_ends_without_a_trace(machine: Container) -> None:
    """Not the unit, but what all these tests stand on: a second machine beside the first, with the same names."""
    from . import container

    stage = machine.directory  # an empty directory is product enough here
    with container.booted(stage) as second:
        assert second.run("cat", "/etc/machine-id").stdout != machine.run("cat", "/etc/machine-id").stdout
        second.run("ip", "link", "add", "ab0", "type", "veth", "peer", "name", "ab1")
        assert machine.run("ip", "link", "show", "ab0", check=False).returncode != 0
        groups, leader = second._groups, second.leader
        assert groups and all(group.is_dir() for group in groups)
    assert not second.directory.exists()
    assert [group for group in groups if group.exists()] == []
    assert not container.Path(f"/proc/{leader}").exists()
    assert machine.run("systemctl", "is-system-running").stdout.strip() == "running"
