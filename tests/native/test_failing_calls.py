"""Every way out of opening gives back what was taken: each call that can fail fails once, in a C program of its own."""

from __future__ import annotations

from pathlib import Path

from tests import cc

WRAPPED = (
    "malloc", "calloc", "free", "mmap", "munmap", "close", "setsockopt", "getsockopt", "getsockname", "bind", "sendto",
    "nanosleep",
)  # fmt: skip
SOURCES = ("worker", "io", "io_tx", "xsk", "udp", "udp_tx", "umem", "eth", "rules", "record", "solana_tx")


def test_whatever_call_fails_nothing_is_left(tmp_path: Path) -> None:
    sources = [cc.ROOT / "tests/native/c/failing_calls.c", *(cc.NATIVE / f"{name}.c" for name in SOURCES)]
    flags = [f"-Wl,--wrap={name}" for name in WRAPPED]
    program = cc.program(tmp_path / "failing_calls", *sources, flags=flags, sanitizer="memory")
    done = cc.run(program)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 2000
