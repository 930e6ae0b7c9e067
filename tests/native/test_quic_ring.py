"""The rings between supervisor and worker, as the C side sees them: order, wiping, and what the other side may not do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from tests import cc


@pytest.mark.parametrize("sanitizer", ["memory", "thread"])
def test_what_is_put_is_taken_once_in_order_and_lies_are_seen(
    sanitizer: Literal["memory", "thread"], tmp_path: Path
) -> None:
    sources = [cc.ROOT / "tests/native/c/quic_ring.c", cc.NATIVE / "quic_ring.c"]
    program = cc.program(tmp_path / "quic_ring", *sources, flags=["-pthread"], sanitizer=sanitizer)
    done = cc.run(program, "20000")
    assert done.returncode == 0, done.stderr
