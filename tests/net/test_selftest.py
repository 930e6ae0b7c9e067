"""The self-test of AF_XDP finds it working here, and finds it broken where it is."""

from __future__ import annotations

import pytest

from afterburnerd.net import selftest
from afterburnerd.net.xdp import XdpProgram
from tests import netns

pytestmark = [pytest.mark.privileged, pytest.mark.bpf]


async def test_all_frames_come_back_and_nothing_is_left() -> None:
    before = netns.run("ip", "-o", "link")
    verdict = await selftest.run(60)
    assert verdict.works is True and f"{selftest.FRAMES} of {selftest.FRAMES} frames" in verdict.text
    assert "abt" not in netns.run("ip", "-o", "link").replace(before, "")


def test_what_does_not_come_back_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(XdpProgram, "set_xsk", lambda *_: None)  # redirected to nobody
    monkeypatch.setattr(selftest, "PATIENCE", 0.3)
    with netns.pair() as rig, rig.near.entered():  # for the namespace alone
        returned, _ = selftest.try_out()
    assert returned == 0
