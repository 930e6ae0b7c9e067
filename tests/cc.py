"""Compiles the C programs that tests run: beside the C helper's sources or its static library, warnings are errors.

Where the tests themselves run on a sanitized build (tests/native/test_sanitized.py), so do these programs: the variable
AFTERBURNER_SANITIZED names that build.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[1]
NATIVE = ROOT / "afterburnerd" / "native"
SANITIZED = os.environ.get("AFTERBURNER_SANITIZED")
TREE = Path(SANITIZED) if SANITIZED else ROOT / "build" / "tree"
LIBRARY = TREE / "libafterburner.a"
SANITIZERS = {
    "memory": ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
    "thread": ("-O1", "-fsanitize=thread"),
}
# What a report is recognised by; stack frames of functions that have returned are watched too.
REPORTED = 99
OPTIONS = {
    "ASAN_OPTIONS": f"exitcode={REPORTED}:color=never:detect_leaks=0:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": f"exitcode={REPORTED}:color=never:print_stacktrace=1",
    "TSAN_OPTIONS": f"exitcode={REPORTED}",
}


def program(
    target: Path,
    *sources: Path,
    flags: Sequence[str] = (),
    sanitizer: Literal["memory", "thread"] | None = "memory" if SANITIZED else None,
    include: Path = NATIVE,
) -> Path:
    """`sources` and what they are linked with; with a sanitizer whatever the tests run on, where one is named."""
    # fmt: off
    command = [
        "clang" if sanitizer else "gcc", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-g", "-I", include, "-I", ROOT / "bpf",
        *(SANITIZERS[sanitizer] if sanitizer else ("-O2",)), *sources, "-o", target, *flags,
    ]
    # fmt: on
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def run(program: Path, *arguments: str | Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs a sanitized program; a report of a sanitizer is in `stderr`, and the exit code is REPORTED."""
    env = {**OPTIONS, **os.environ} if SANITIZED else {**os.environ, **OPTIONS}
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=timeout, env=env)
