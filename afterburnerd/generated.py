"""What every generator of committed files has in common: it writes them, or with --check says which are stale.

A generator is `main(argv) -> exit code` of a module that `make generate` and `make lint` run. Imports nothing of ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # of the source tree; only there is anything generated


def run(module: str, doc: str | None, files: Iterable[tuple[str, str]], argv: list[str] | None) -> int:
    """`files`: path below the root and text of each. Exit code 1 where `--check` found a stale one."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is stale")
    check = parser.parse_args(argv).check
    stale = 0
    for name, text in files:
        path = ROOT / name
        if path.exists() and path.read_text() == text:
            continue
        stale += 1
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        print(f"{name}: {'stale: run `make generate` and commit it' if check else 'written'}")
    return 1 if stale and check else 0
