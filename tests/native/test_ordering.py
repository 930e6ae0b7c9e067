"""What the worker publishes is published in order, and each of its figures is stored whole: by ThreadSanitizer.

The threads of tests/native/c/ordering.c stand for the processes. Each mode has a hole that it is shown to notice.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import cc

pytestmark = pytest.mark.skipif(bool(cc.SANITIZED), reason="built under a sanitizer of its own")

SOURCES = ("worker", "io", "io_tx", "xsk", "udp", "udp_tx", "umem", "eth", "rules", "record", "solana_tx")
MODES = ("sequence", "head", "worker")


def build(folder: Path, native: Path = cc.NATIVE) -> Path:
    sources = [cc.ROOT / "tests/native/c/ordering.c", *(native / f"{name}.c" for name in SOURCES)]
    return cc.program(folder / "ordering", *sources, sanitizer="thread", include=native)


def run(program: Path, mode: str) -> subprocess.CompletedProcess[str]:
    done = cc.run(program, mode, timeout=100)
    if "unexpected memory mapping" in done.stderr:  # more random addresses than it can do with (vm.mmap_rnd_bits)
        done = cc.run(Path("/usr/bin/setarch"), "-R", program, mode, timeout=100)
    return done


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("ordering"))


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_read_before_it_is_published(program: Path, mode: str) -> None:
    done = run(program, mode)
    assert done.returncode == 0, done.stderr[:8000]
    assert done.stdout == "done\n"


@pytest.mark.parametrize(
    ("mode", "source", "line", "without"),
    [
        ("sequence", "record.h", "2 * w->head + 2, __ATOMIC_RELEASE", "2 * w->head + 2, __ATOMIC_RELAXED"),
        ("head", "record.h", "ring->head, w->head, __ATOMIC_RELEASE", "ring->head, w->head, __ATOMIC_RELAXED"),
        ("worker", "worker.c", "AB_STAT_ADD(&w->stats->records, 1);", "w->stats->records++;"),
    ],
)
def test_a_fault_in_the_order_is_noticed(mode: str, source: str, line: str, without: str, tmp_path: Path) -> None:
    native = tmp_path / "native"
    shutil.copytree(
        cc.NATIVE, native, ignore=lambda _, names: [name for name in names if name[-2:] not in (".c", ".h")]
    )
    text = (native / source).read_text()
    assert text.count(line) == 1
    (native / source).write_text(text.replace(line, without))
    done = run(build(tmp_path, native), mode)
    assert done.returncode == cc.REPORTED
    assert "ThreadSanitizer: data race" in done.stderr
