"""Sending through UDP sockets: nothing is lost track of, whatever the kernel says to a unit of packets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import cc


@pytest.mark.parametrize(("version", "mtu"), [(4, 1500), (6, 1500), (4, 9000), (6, 65_536)])
def test_every_packet_arrives_once_or_is_counted_as_dropped(version: int, mtu: int, tmp_path: Path, seed: int) -> None:
    sources = [cc.ROOT / "tests/native/c/udp_tx.c", cc.NATIVE / "udp.c", cc.NATIVE / "udp_tx.c"]
    program = cc.program(tmp_path / "udp_tx", *sources, flags=["-Wl,--wrap=sendmmsg"], sanitizer="memory")
    done = cc.run(program, str(seed % (1 << 32)), "2000" if mtu == 1500 else "1000", str(version), str(mtu))
    assert done.returncode == 0, done.stderr
    queued, received, dropped, refusals, units = map(int, done.stdout.split())
    assert queued == received + dropped
    # The test would be no test if the ways of failing, or units, did not come about.
    assert received > queued / 2 and dropped > 50 and refusals > 250 and units > 500, done.stdout
