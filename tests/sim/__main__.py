"""Simulations by hand: `python -m tests.sim [--fleet | --aioquic [--early]] [--seeds N] [--from S] [-v]`.

--seeds 0      until something does not hold, or Ctrl-C        --seeds 1 --from S -v    one seed, told packet by packet
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from itertools import count
from pathlib import Path

from . import selfsim


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="The QUIC engine on a seeded network.")
    parser.add_argument("--aioquic", action="store_true", help="against aioquic instead of against itself")
    parser.add_argument("--seeds", type=int, default=1000, help="how many; 0: without end (default: %(default)s)")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument(
        "--early", action="store_true", help="with --aioquic: a client whose first messages go in 0-RTT"
    )
    parser.add_argument("--fleet", action="store_true", help="several connections in the same two engines")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell everything that happens")
    options = parser.parse_args()
    if not options.aioquic:
        with tempfile.TemporaryDirectory() as folder:
            program = selfsim.build(Path(folder))
            if options.seeds == 0:
                return selfsim.forever(program, options.first, fleet=options.fleet)
            summary = selfsim.run(
                program, options.seeds, options.first, fleet=options.fleet, verbose=options.verbose, timeout=86400
            )
            print(summary.text)
            return summary.code != 0
    from . import aio

    failures = 0
    for seed in range(options.first, options.first + options.seeds) if options.seeds else count(options.first):
        try:
            aio.run(seed, options.verbose, early=options.early)
        except (AssertionError, Exception):  # told with its seed, and the run goes on
            failures += 1
            print(f"seed {seed}: {traceback.format_exc(limit=-2)}")
    print(f"{failures} of {options.seeds} seeds failed")
    return failures != 0


if __name__ == "__main__":
    sys.exit(main())
