"""What of this machine goes into the guest: the product as it stands in the tree, and all that it needs to run.

Nothing is built or installed for the guest. It gets Debian's Python with its standard library, the distributions that
pyproject.toml names with all they require in turn, the tree's `afterburnerd` with the compiled helper and BPF object,
and iproute2. ldd adds the shared libraries. Under an emulated CPU this whole stack starts in under a second and
imports everything in three, so the guest runs the real daemon and not a stand-in for it.
"""

from __future__ import annotations

import importlib.metadata
import sys
import sysconfig
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from .guest import MODULES, Root
from .kernel import Kernel

TREE = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
# Where Debian's Python looks by itself: the data plane is started isolated, deaf to PYTHONPATH.
SITE = Path("usr/lib/python3/dist-packages")
PROGRAMS = ("busybox", "ip")
# Parts of the standard library that no daemon imports; half of its bytes.
NOT_NEEDED = ("test", "idlelib", "lib2to3", "tkinter", "ensurepip", "distutils", "turtledemo", "pydoc_data")


def collect(root: Root, kernel: Kernel, *, deadline_s: float) -> None:
    """Fills a guest's root directory. `deadline_s` is when `init` powers the guest off whatever runs."""
    for program in PROGRAMS:
        root.add_program(program)
    root.add_modules(kernel, MODULES)
    _add_python(root)
    for distribution in _required():
        for file in distribution.files or ():
            source = Path(str(file.locate()))
            if ".." not in file.parts and source.is_file():
                root.add(source, SITE / str(file))
    root.add_tree(TREE / "afterburnerd", SITE / "afterburnerd")
    root.add(HERE / "init", "init")
    for module in (HERE / "__init__.py", HERE / "harness.py", HERE.parent / "netns.py"):
        root.add(module, SITE / module.relative_to(TREE))
    (root.path / "deadline").write_text(f"{deadline_s:.0f}\n")


def _add_python(root: Root) -> None:
    # The interpreter behind the virtual environment: Debian's own, whose libraries the guest has at the same place.
    interpreter = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    library = Path(sysconfig.get_path("stdlib"))
    root.add(interpreter, "usr/bin/python3")
    root.add_tree(library, library.relative_to("/"), (*NOT_NEEDED, *(p.name for p in library.glob("config-*"))))


def _required() -> list[importlib.metadata.Distribution]:
    """The distributions that the product requires, and what these require, without extras."""
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    found: dict[str, importlib.metadata.Distribution] = {}
    open_ = list(project["dependencies"])
    while open_:
        wanted = Requirement(open_.pop())
        name = wanted.name.lower().replace("_", "-")
        if name in found or (wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})):
            continue
        found[name] = importlib.metadata.distribution(wanted.name)
        open_ += found[name].requires or []
    return list(found.values())
