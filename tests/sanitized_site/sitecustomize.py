"""Run by every Python that starts with this directory in PYTHONPATH: puts the C helper of a sanitized build in place.

The product knows nothing of it. Where it imports `afterburnerd.native._native`, the finder below answers first, with the
module from the directory that AFTERBURNER_SANITIZED names; the lab's C program is replaced in the same way. Processes that
tests start inherit the variables, so a daemon and its data plane run on it too.

A report is written to a file that is opened here and now: a sealed data plane may not open one any more, and would be killed
for the attempt with its report unsaid.

The sanitizer's run-time library must be loaded before anything else, which takes LD_PRELOAD. Only a Python of ours shall have
it (`ip` has an overlapping strncpy of its own), so it starts itself anew with it, and takes it out of what children get.
"""

from __future__ import annotations

import ctypes
import importlib.abc
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

TREE = Path(os.environ["AFTERBURNER_SANITIZED"])
RUNTIME = os.environ["AFTERBURNER_SANITIZER"]
REPORTS = Path(os.environ["AFTERBURNER_REPORTS"])


def _lab(module: ModuleType) -> None:
    module.PROGRAM = TREE / "afterburner-labio"  # type: ignore[attr-defined]


def _plane(module: ModuleType) -> None:
    """Supervisor and lab start data planes isolated from the environment (-I): they would miss all this."""
    popen = subprocess.Popen

    def start(command: list[str], **rest: Any) -> subprocess.Popen[bytes]:
        assert command[1] == "-I"
        return popen([command[0], *command[2:]], **rest)

    module.subprocess = SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL)  # type: ignore[attr-defined]


AFTERWARDS = {"afterburnerd.lab.labio": _lab, "afterburnerd.plane": _plane}


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == "afterburnerd.native._native":
            return importlib.util.spec_from_file_location(fullname, TREE / "_native.abi3.so")
        if fullname in AFTERWARDS:
            spec = importlib.machinery.PathFinder.find_spec(fullname, path)
            assert spec is not None
            assert isinstance(spec.loader, importlib.machinery.SourceFileLoader)
            spec.loader = Loader(spec.loader.name, spec.loader.path)
            return spec
        return None


class Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        AFTERWARDS[self.name](module)


def _main() -> None:
    if os.environ.get("LD_PRELOAD") != RUNTIME:
        os.environ["LD_PRELOAD"] = RUNTIME
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    del os.environ["LD_PRELOAD"]
    fd = os.open(REPORTS / f"python.{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    ctypes.CDLL(RUNTIME).__sanitizer_set_report_fd(ctypes.c_void_p(fd))
    sys.meta_path.insert(0, Finder())


try:
    _main()
except BaseException:
    # The interpreter would say so and go on, on the module that nobody watches.
    traceback.print_exc()
    os._exit(70)
