"""Builds the peers before the first test of this folder runs: outside of any test's time limit, and seen.

A later run finds them below build/peers. A peer that cannot be had is told by the tests that need it.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from tests.interop import peers

HERE = Path(__file__).parent


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly or not any(item.path.is_relative_to(HERE) for item in session.items):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    for engine in peers.ENGINES:
        begin = time.monotonic()
        with contextlib.suppress(peers.Unavailable):
            peers.command(engine)
        if reporter is not None and (took := time.monotonic() - begin) > 1:
            reporter.write_line(f"interop peer {engine}: built in {took:.0f} s")
