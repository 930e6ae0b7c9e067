"""The arrows between rooms go one way: who may import whom, as ARCHITECTURE.md draws it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "afterburnerd"
COMMON = {"base58", "cli", "generated"}  # import nothing of ours, may be imported by everybody
ALLOWED = {
    **{name: set[str]() for name in COMMON},
    "abi": set[str](),
    "config": set[str](),
    "native": set[str](),
    "net": {"abi", "native"},
    "dataplane": {"abi", "native"},
    "observe": {"abi", "config"},
    "quic": {"abi", "native", "config", "net"},
    "client": {"abi"},
    "plane": {"abi"},
    "ctl": {"abi", "config", "net", "client"},
    "lab": {"abi", "config", "native", "net", "plane", "quic"},
    "supervisor": {"abi", "config", "net", "observe", "plane", "quic"},
}


def rooms_imported(path: Path) -> set[str]:
    found: set[str] = set()
    inside = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(inside[: len(inside) - node.level + 1]) if node.level else []
            prefix = ["afterburnerd", *base] if node.level else []
            module = ".".join([*prefix, *([node.module] if node.module else [])])
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {parts[1] for name in names if (parts := name.split("."))[0] == "afterburnerd" and len(parts) > 1}
    return found & ALLOWED.keys()


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_what_it_may(room: str) -> None:
    files = [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").exists() else sorted((PACKAGE / room).rglob("*.py"))
    assert files
    for path in files:
        strangers = rooms_imported(path) - ALLOWED[room] - (set() if room in COMMON else COMMON) - {room}
        assert not strangers, f"{path.relative_to(PACKAGE)} imports {sorted(strangers)}"


def test_every_room_has_its_arrows() -> None:
    rooms = {p.stem for p in PACKAGE.iterdir() if (p.is_dir() and any(p.rglob("*.py"))) or p.suffix == ".py"}
    # manuals (with roff) reads the parsers of all executables; it is a tool of the build, and nobody imports it.
    assert rooms - {"__init__", "manuals", "roff"} == ALLOWED.keys()
