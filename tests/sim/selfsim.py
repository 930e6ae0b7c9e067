"""Builds and runs the simulation of the engine against itself (tests/sim/c): C on both sides, so that thousands of seeds fit a test.

`python -m tests.sim --seeds N --from S` does the same by hand, for as long as one likes.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests import cc

SOURCES = tuple(sorted((Path(__file__).parent / "c").glob("*.c")))
LIBRARIES = ("-lcrypto", "-ldl", "-lm", "-lpthread")


def build(folder: Path) -> Path:
    """On the library that the tests run on (tests/cc.py), sanitized where that is."""
    return cc.program(folder / "sim", *SOURCES, flags=(str(cc.LIBRARY), *LIBRARIES))


def build_with_hole(folder: Path, check: str, without: str) -> Path:
    """On the engine's sources, with `check` replaced by `without` in the one that contains it."""
    sources = [*cc.NATIVE.glob("quic*.c"), cc.NATIVE / "eth.c"]
    found = [source for source in sources if check in source.read_text()]
    assert len(found) == 1 and found[0].read_text().count(check) == 1, f"{check!r} is not there once: {found}"
    [holed] = found
    copy = folder / holed.name
    copy.write_text(holed.read_text().replace(check, without))
    rest = [source for source in sources if source != holed and not source.name.startswith(("quic_port", "quic_ring"))]
    return cc.program(
        folder / "sim", *SOURCES, *rest, copy, flags=("-w", "-I", str(cc.NATIVE), *LIBRARIES), sanitizer=None
    )


@dataclass
class Summary:
    code: int
    text: str
    counts: dict[str, int] = field(default_factory=dict)


def run(
    program: Path, seeds: int, first: int = 0, *, fleet: bool = False, verbose: bool = False, timeout: float = 900
) -> Summary:
    arguments = [*(["fleet"] if fleet else []), str(seeds), str(first), *(["verbose"] if verbose else [])]
    done = cc.run(program, *arguments, timeout=timeout)
    summary = Summary(done.returncode, done.stdout + done.stderr)
    if done.returncode == 0 and not verbose:
        for line in done.stdout.splitlines():
            name, _, value = line.rpartition(" ")
            summary.counts[name] = int(value)
    return summary


def forever(program: Path, first: int, *, fleet: bool = False) -> int:
    return subprocess.run([program, *(["fleet"] if fleet else []), "0", str(first)]).returncode
