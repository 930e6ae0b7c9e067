"""Writes docs/messages.md from the catalogue of messages, or with --check says whether it is stale.

python -m afterburnerd.observe.generate            write
python -m afterburnerd.observe.generate --check    exit 1 where the committed file is not what the catalogue says
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from afterburnerd import generated

from . import log

TARGETS: dict[str, Callable[[], str]] = {"docs/messages.md": log.markdown}


def main(argv: list[str] | None = None) -> int:
    files = ((name, render()) for name, render in TARGETS.items())
    return generated.run("afterburnerd.observe.generate", __doc__, files, argv)


if __name__ == "__main__":
    sys.exit(main())
