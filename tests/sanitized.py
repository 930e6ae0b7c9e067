"""A build of the C code under AddressSanitizer and UBSan, and Pythons that run on it.

    python -m tests.sanitized tests/system/test_daemon_faults.py -k jumbo       runs any tests on it

The build is a second one (build/sanitized) beside the product's own. tests/sanitized_site puts it in place in every Python
that is started with `environment(...)`. A report of a sanitizer ends the process that it is about, and is written to a file
in a directory of the caller's: no test can swallow it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests import cc

TREE = cc.ROOT / "build" / "sanitized"
SITE = Path(__file__).with_name("sanitized_site")
OPTIONS = [
    "--buildtype=debug",
    "-Doptimization=1",
    "-Db_sanitize=address,undefined",
    "-Db_lundef=false",
    "-Dc_args=-fno-sanitize-recover=all -fno-omit-frame-pointer",
]


def _tool(*command: str | Path) -> str:
    venv = Path(sys.executable).parent
    env = {**os.environ, "CC": "clang", "PATH": f"{venv}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cc.ROOT, env=env)
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def build() -> Path:
    """Up to date whenever it is asked for; from nothing it takes some ten seconds."""
    if not (TREE / "build.ninja").exists():
        _tool("meson", "setup", TREE, *OPTIONS)
    _tool("ninja", "-C", TREE, "-j2")
    return TREE


def runtime() -> str:
    """The library that must be loaded before everything else: ASan, UBSan and LSan in one."""
    path = _tool("clang", f"-print-file-name=libclang_rt.asan-{platform.machine()}.so")
    assert "/" in path, "clang has no run-time libraries: libclang-rt-14-dev brings them (`make setup`)"
    return path


def environment(reports: Path, leaks: bool = False) -> dict[str, str]:
    """For a Python on the sanitized build. Reports go to files in `reports`, `leaks` among them if asked for."""
    asan, ubsan = (cc.OPTIONS[name] for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"))
    if leaks:
        asan = asan.replace("detect_leaks=0", "detect_leaks=1")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))},
        "AFTERBURNER_SANITIZED": str(TREE),
        "AFTERBURNER_SANITIZER": runtime(),
        "AFTERBURNER_REPORTS": str(reports),
        "PYTHONPATH": str(SITE),
        "PYTHONMALLOC": "malloc",  # every object a block of its own, with red zones around it
        "ASAN_OPTIONS": f"{asan}:log_path={reports}/asan",
        "UBSAN_OPTIONS": f"{ubsan}:log_path={reports}/ubsan",
        # The interpreter has leaks of its own: they are told, and change no exit code (nor does anything else, then).
        **({"LSAN_OPTIONS": "exitcode=0"} if leaks else {}),
    }


def python(
    reports: Path, *arguments: str, leaks: bool = False, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment(reports, leaks),
        cwd=cc.ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def told(reports: Path) -> str:
    """All reports, one behind the other; empty where there is none."""
    found = {path.name: path.read_text(errors="replace") for path in sorted(reports.iterdir())}
    return "\n".join(f"--- {name}\n{text}" for name, text in found.items() if text)


def main(arguments: Sequence[str]) -> int:
    build()
    with tempfile.TemporaryDirectory() as folder:
        reports = Path(folder)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        code = subprocess.run(command, env=environment(reports), cwd=cc.ROOT).returncode
        print(told(reports) or "no report of a sanitizer")
        return code or int(told(reports) != "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
