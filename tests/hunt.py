"""Looks for what the test command's fixed seeds do not find: `make hunt`, or `python -m tests.hunt [--seconds N] [WHAT ...]`.

Everything random takes its turn, a slice of time each and fresh seeds every time, until it is told to stop (Ctrl-C) or time is over:

    fuzz targets (tests/fuzz)      start from what is committed and from what earlier hunts have gathered in build/hunt/<target>/corpus
    sim, aioquic (tests/sim)       the engine against itself, and against aioquic

A finding goes to build/hunt/<what>, is told with the command that replays it, and does not end the hunt; the exit code is 1 then.
`--merge` hunts for nothing: it puts those gathered inputs that reach what the committed ones do not into tests/fuzz/found, as few
and as small as libFuzzer can choose them, for somebody to look at and commit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests import cc
from tests.fuzz.target import CORPUS, FOUND, TARGETS, Target, environment, executed, findings
from tests.sim import selfsim

HUNT = cc.ROOT / "build" / "hunt"
SIMULATIONS = ("sim", "aioquic")
# Seeds are drawn far from those of the test command.
FRESH = 1 << 40
HASH = 40  # digits: how libFuzzer names what it gathers
# What is committed of a target, the smallest inputs first: a corpus is read before every run, and somebody looks after it.
COMMITTED_BYTES, COMMITTED_FILES = 24 << 10, 100


class Hunter:
    """One hunted thing: `slice(seconds)` returns how much was tried and what was found."""

    unit = "seeds"

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = HUNT / name
        self.folder.mkdir(parents=True, exist_ok=True)

    def slice(self, seconds: float) -> tuple[int, list[str]]:
        raise NotImplementedError

    def report(self, seed: int, said: str) -> str:
        """Keeps what a failed run said; how to replay it."""
        (self.folder / f"seed-{seed}.txt").write_text(said)
        which = " --aioquic" if self.name == "aioquic" else ""
        return f"seed {seed}: python -m tests.sim{which} --seeds 1 --from {seed} -v"


class Fuzzer(Hunter):
    unit = "inputs"

    def __init__(self, target: Target) -> None:
        super().__init__(target.name)
        self.target = target
        self.program = target.build(self.folder)

    def slice(self, seconds: float) -> tuple[int, list[str]]:
        known = set(findings(self.folder))
        command = self.target.command(
            self.program, self.folder / "corpus", secrets.randbits(31) + 1, f"-max_total_time={max(1, round(seconds))}"
        )
        done = subprocess.run(command, capture_output=True, text=True, env=environment())
        fresh = [path for path in findings(self.folder) if path not in known]
        for path in fresh:
            path.with_name(f"{path.name}.txt").write_text(done.stderr)
        if done.returncode and not fresh:
            raise SystemExit(f"{self.name}: {done.stderr[-2000:]}")
        # What is known from the corpora is run first, every time: it is counted once, by hunts that last.
        tried = executed(done.stderr) if "stat::number_of_executed_units" in done.stderr else 0
        return tried, [f"{self.program} {path}" for path in fresh]

    def merge(self) -> tuple[int, int]:
        """Renews found/; how many inputs it has now, and their bytes. What has a name of its own broke something once, and stays."""
        found, gathered = FOUND / self.name, self.folder / "corpus"
        found.mkdir(parents=True, exist_ok=True)
        gathered.mkdir(exist_ok=True)
        for path in found.iterdir():
            if len(path.name) == HASH:
                path.rename(gathered / path.name)
        with tempfile.TemporaryDirectory() as name:
            merged = Path(name)
            for path in (*(CORPUS / self.name).iterdir(), *found.iterdir()):
                shutil.copy(path, merged)
            done = subprocess.run(
                [self.program, "-merge=1", "-use_counters=0", f"-max_len={self.target.max_len}", merged, gathered],
                capture_output=True, text=True, env=environment(),
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-2000:]
            fresh = [path for path in merged.iterdir() if len(path.name) == HASH]
            room = COMMITTED_BYTES
            for path in sorted(fresh, key=lambda path: (path.stat().st_size, path.name))[:COMMITTED_FILES]:
                room -= path.stat().st_size
                if room >= 0:
                    shutil.copy(path, found)
        kept = [path.stat().st_size for path in found.iterdir()]
        return len(kept), sum(kept)


class SelfSimulation(Hunter):
    def __init__(self) -> None:
        super().__init__("sim")
        self.program = selfsim.build(self.folder)

    def slice(self, seconds: float) -> tuple[int, list[str]]:
        tried, over = 0, time.monotonic() + seconds
        while time.monotonic() < over:
            first = FRESH + secrets.randbits(40)
            done = cc.run(self.program, "100", str(first), timeout=100 * 600)
            if done.returncode:
                last = next((line for line in done.stderr.splitlines() if line.startswith("seed ")), f"seed {first}:")
                seed = int(last.split()[1].rstrip(":"))
                return tried + seed - first + 1, [self.report(seed, done.stderr)]
            tried += 100
        return tried, []


class AioquicSimulation(Hunter):
    def __init__(self) -> None:
        super().__init__("aioquic")

    def slice(self, seconds: float) -> tuple[int, list[str]]:
        from tests.sim import aio

        tried, over = 0, time.monotonic() + seconds
        while time.monotonic() < over:
            seed = FRESH + secrets.randbits(40)
            tried += 1
            try:
                aio.run(seed)
            except (AssertionError, Exception) as error:  # told with its seed, and the hunt goes on
                return tried, [self.report(seed, repr(error))]
        return tried, []


MAKERS: dict[str, Callable[[], Hunter]] = {
    **{name: lambda target=target: Fuzzer(target) for name, target in TARGETS.items()},  # type: ignore[misc]
    "sim": SelfSimulation,
    "aioquic": AioquicSimulation,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hunt", description="Fresh seeds, for as long as one likes.")
    parser.add_argument("what", nargs="*", choices=[[], *MAKERS], help="what to hunt (default: everything)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of all together (default: until Ctrl-C)")
    parser.add_argument("--slice", type=float, default=60, help="seconds of one turn (default: %(default)s)")
    parser.add_argument("--merge", action="store_true", help="choose what is worth committing from what was gathered")
    options = parser.parse_args()
    names = options.what or [*SIMULATIONS, *TARGETS]
    if options.merge:
        for name in names:
            if name in TARGETS:
                print("{}: {} inputs, {} bytes".format(FOUND / name, *Fuzzer(TARGETS[name]).merge()))
        return 0
    hunters, failed = [MAKERS[name]() for name in names], 0
    over = time.monotonic() + options.seconds
    sums = {hunter.name: [0, 0.0] for hunter in hunters}
    with contextlib.suppress(KeyboardInterrupt):
        while time.monotonic() < over:
            for hunter in hunters:
                left = min(options.slice, over - time.monotonic())
                if left < 1:
                    break
                began = time.monotonic()
                tried, found = hunter.slice(left)
                spent = time.monotonic() - began
                sums[hunter.name][0] += tried
                sums[hunter.name][1] += spent
                failed += len(found)
                print(f"{hunter.name:14} {tried:9} {hunter.unit} in {spent:4.0f} s", flush=True)
                for line in found:
                    print(f"{hunter.name}: FOUND  {line}", flush=True)
            else:
                continue
            break
    print(json.dumps({name: {"tried": tried, "seconds": round(spent)} for name, (tried, spent) in sums.items()}))
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
