"""The engine against aioquic, an implementation that shares no line with it: real handshakes, adoption, 500 seeds, both roles.

A failure names its seed: `python -m tests.sim --aioquic --seeds 1 --from SEED -v` plays it again.
"""

from __future__ import annotations

import pytest

from tests import cc

from . import aio

SEEDS = 20 if cc.SANITIZED else 500
EARLY = 20 if cc.SANITIZED else 150
BATCH = SEEDS // 10


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_an_adopted_connection_keeps_every_promise(first: int) -> None:
    roles = {True: 0, False: 0}
    for seed in range(first, first + BATCH):
        try:
            roles[aio.run(seed).client] += 1
        except Exception as error:
            raise AssertionError(
                f"seed {seed}: {error!r}\nreplay: python -m tests.sim --aioquic --seeds 1 --from {seed} -v"
            ) from error
    assert all(roles.values()) or BATCH < 10


@pytest.mark.timeout(300)
def test_messages_of_0rtt_arrive_once_whatever_the_server_made_of_it() -> None:
    met = {"accepted": 0, "acknowledged": 0, "early": 0, "resume": 0, "nothing": 0}
    for seed in range(EARLY):
        try:
            run = aio.run(seed, early=True)
        except Exception as error:
            raise AssertionError(
                f"seed {seed}: {error!r}\nreplay: python -m tests.sim --aioquic --early --seeds 1 --from {seed} -v"
            ) from error
        assert not run.early_accepted or run.takes == "early"
        met[run.takes] += 1
        met["accepted"] += run.early_accepted
        met["acknowledged"] += run.early_acked > 0
    assert all(met.values()), f"nothing of this kind was met: {met}"
