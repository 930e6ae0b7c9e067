"""Writes docs/messages.md from the catalogue of messages, or with --check says whether it is stale.

python -m afterburnerd.observe.generate            write
python -m afterburnerd.observe.generate --check    exit 1 where the committed file is not what the catalogue says
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from . import log

ROOT = Path(__file__).resolve().parents[2]
TARGETS: dict[str, Callable[[], str]] = {"docs/messages.md": log.markdown}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m afterburnerd.observe.generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is stale")
    args = parser.parse_args(argv)
    stale = [name for name, render in TARGETS.items() if not _holds(ROOT / name, render())]
    for name in stale:
        if not args.check:
            (ROOT / name).write_text(TARGETS[name]())
        print(f"{name}: {'stale: run `make generate` and commit it' if args.check else 'written'}")
    return 1 if stale and args.check else 0


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
