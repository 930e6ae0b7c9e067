"""Of the sanitized run alone: a daemon and its data plane do run on the sanitized module."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import netns, sanitized
from tests.system.daemonrig import Daemon


@pytest.mark.privileged
@pytest.mark.bpf
def test_a_data_plane_runs_on_the_sanitized_module(tmp_path: Path) -> None:
    with netns.pair() as rig, Daemon(rig, tmp_path) as daemon:
        for pid in (daemon.pid, daemon.plane_pid()):
            mapped = Path(f"/proc/{pid}/maps").read_text()
            assert f"{sanitized.TREE}/_native.abi3.so" in mapped
            assert sanitized.runtime() in mapped
