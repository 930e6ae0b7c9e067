"""The one schema: every layout that two processes share, or that a process shares with the kernel, is written down here.

    schema.py --> generate.py --> bpf/afterburner.h             structs of the BPF maps (BPF program and C helper)
                              --> afterburnerd/native/abi.h     statistics, record ring, rules (C helper)
                              --> afterburnerd/abi/layout.py    the same for Python
                              --> docs/metrics.md               what Prometheus shows

The data is split by owner: enums and structs in `structs.py`, those of QUIC in `quic.py`, statistics
in `statistics.py`. A change here is a change
of the binary interface: bump VERSION when the meaning of an existing word changes; adding words does not need it, since
the segment describes itself and readers find words by name.
"""

from __future__ import annotations

from . import quic, structs
from .statistics import BLOCKS, DERIVED

CONSTANTS = structs.CONSTANTS + quic.CONSTANTS
ENUMS = structs.ENUMS + quic.ENUMS
STRUCTS = structs.STRUCTS + quic.STRUCTS

VERSION = 1
MAGIC = 0x31544154_53424642  # "BFBSTAT1" as the bytes lie in memory: a hexdump shows what the segment is
RECORD_MAGIC = 0x31434552_53424642  # "BFBSREC1"

__all__ = ["BLOCKS", "CONSTANTS", "DERIVED", "ENUMS", "MAGIC", "RECORD_MAGIC", "STRUCTS", "VERSION"]
