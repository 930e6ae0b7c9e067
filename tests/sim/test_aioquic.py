"""The engine against aioquic, an implementation that shares no line with it: real handshakes, adoption, 500 seeds, both roles.

A failure names its seed: `python -m tests.sim --aioquic --seeds 1 --from SEED -v` plays it again.
"""

from __future__ import annotations

import pytest

from tests import cc

from . import aio

SEEDS = 20 if cc.SANITIZED else 500
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
