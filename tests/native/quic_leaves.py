"""The leaves of the QUIC engine as a test sees them: tests/native/c/quic_leaves.c, compiled once a run, called by name.

    lib = load()
    lib.varint_size(64)              every function takes and returns numbers
    lib.numbers(lib.cc_show, cc)     one that fills an array answers as a list

On a sanitized run the library is built under the same sanitizers as everything else.
"""

from __future__ import annotations

import ctypes
import functools
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests import cc

SOURCE = cc.ROOT / "tests" / "native" / "c" / "quic_leaves.c"
PARTS = ("ack", "cc", "ecn", "frame", "mtu", "pacer", "rtt", "tparams")
NONE = (1 << 64) - 1
MS = 1_000_000  # nanoseconds
S = 1000 * MS


class Leaves:
    """`lib.name(...)` is t_name of the library."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        for name, arguments in re.findall(r"^API uint64_t t_(\w+)\(([^)]*)\)", SOURCE.read_text(), re.MULTILINE):
            function = self._library[f"t_{name}"]
            function.restype = ctypes.c_uint64
            function.argtypes = [] if arguments == "void" else [ctypes.c_uint64] * (arguments.count(",") + 1)
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Callable[..., int]:
        raise AttributeError(name)

    def numbers(self, show: Callable[..., int], *arguments: int) -> list[int]:
        out = (ctypes.c_uint64 * 256)()
        return list(out[: show(*arguments, ctypes.addressof(out))])


class Bytes:
    """Bytes at an address: what is read, or the room that is written to."""

    def __init__(self, data: bytes | int) -> None:
        self._buffer = (ctypes.c_char * max(1, data if isinstance(data, int) else len(data)))()
        if isinstance(data, bytes):
            self._buffer[: len(data)] = data
        self.at = ctypes.addressof(self._buffer)

    def get(self, length: int) -> bytes:
        return self._buffer.raw[:length]


def build(folder: Path, native: Path = cc.NATIVE) -> Path:
    sources = [SOURCE, *(native / f"quic_{part}.c" for part in PARTS)]
    return cc.program(folder / "quic_leaves.so", *sources, flags=("-shared", "-fPIC"), include=native)


@functools.cache
def load() -> Leaves:
    with tempfile.TemporaryDirectory() as folder:  # what is mapped stays
        return Leaves(build(Path(folder)))
