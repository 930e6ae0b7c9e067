"""The garbage collector, kept from stopping a busy supervisor.

A full collection looks at every object that lives: 45 to 75 ms with some hundred connections, in which no handshake goes on and
no adoption is answered. So what is there when the daemon is up is set aside for good, young objects are looked at
in portions of a millisecond, and the full collection comes rarely. That is safe because nothing that comes and goes with packets
leaves circles behind: handshakes take themselves apart (quic/front.py, held to it by tests/unit/quic/test_memory.py), and everything
else is freed when nobody refers to it.
"""

from __future__ import annotations

import gc

YOUNG = 5_000  # objects made and not freed between two looks at them: a third of a millisecond
MIDDLE = 5  # of those between two looks at what survived one
OLD = 1_000  # of these between two looks at everything


def settle() -> None:
    """When everything is up: what is here stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
