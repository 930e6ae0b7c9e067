"""Builds and runs the libFuzzer targets beside this file: one C file, one part of the C helper, one committed corpus each.

    fuzz_<name>.c    reads an input as calls, and says what must hold
    corpus/<name>/   where the fuzzer starts: one example of everything, written by make_corpus.py
    found/<name>/    what hunts have found: inputs that broke something once, and such as reach what the corpus does not

The test command gives every target a fixed seed and a number of inputs, so that a run is like every other one, whatever else the
machine does. `make hunt` draws fresh seeds. By hand (a crash is written to the working directory, and replayed with it as the
argument):

    python -m tests.fuzz.target io build/fuzz_io && build/fuzz_io build/corpus tests/fuzz/corpus/io
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests import cc

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
FOUND = HERE / "found"
# Bound of a run in the test command, which takes some seconds on an idle machine.
BOUND = 280


SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def _compile(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Target:
    name: str
    sources: tuple[str, ...]  # of afterburnerd/native
    max_len: int  # bytes of an input
    inputs: int  # in the test command
    helpers: tuple[str, ...] = ()  # of tests/sim/c
    libraries: tuple[str, ...] = ()
    patience: int = 10  # seconds that one input may take
    compares: bool = True  # whether it helps to know what the code compares the input with

    @property
    def seeds(self) -> list[Path]:
        """The folders that a run starts from."""
        return [folder for folder in (CORPUS / self.name, FOUND / self.name) if folder.is_dir()]

    def build(self, folder: Path, check: str = "", without: str = "") -> Path:
        """The program in `folder`. `check` is then replaced by `without` in the source or header that contains it."""
        clang = shutil.which("clang")
        assert clang, "clang not found: `make setup` installs it"
        sources = [cc.NATIVE / source for source in self.sources]
        if check:
            headers = [cc.NATIVE / f"{Path(source).stem}.h" for source in self.sources]
            parts = [part for part in (*sources, *headers) if part.exists()]
            found = [(part, part.read_text()) for part in parts if check in part.read_text()]
            assert len(found) == 1 and found[0][1].count(check) == 1, f"{check!r} is not there once"
            part, text = found[0]
            (folder / part.name).write_text(text.replace(check, without))
            sources = [folder / source.name if source == part else source for source in sources]
        program = folder / f"fuzz_{self.name}"
        common = ["-g", "-std=gnu11", "-D_GNU_SOURCE", "-DAB_QUIC_FUZZED", *(["-w"] if check else ["-Wall", "-Wextra", "-Werror"]),
                  "-I", folder, "-I", cc.NATIVE, "-I", cc.ROOT / "bpf"]  # fmt: skip
        # What plays the rest of the world is not what is fuzzed: no coverage of it is counted, or it would be most of the time.
        helpers = [HERE.parent / "sim" / "c" / helper for helper in self.helpers]
        objects = [folder / f"{helper.stem}.o" for helper in helpers]
        for source, target in zip(helpers, objects, strict=True):
            _compile(clang, "-O2", *SANITIZERS, *common, "-c", source, "-o", target)
        coverage = "-fsanitize=fuzzer", *(() if self.compares else ("-fno-sanitize-coverage=trace-cmp",))
        _compile(
            clang, "-O1", *coverage, *SANITIZERS, *common, HERE / f"fuzz_{self.name}.c", *sources, *objects, "-o", program,
            *self.libraries,
        )  # fmt: skip
        return program

    def command(self, program: Path, corpus: Path, seed: int, *more: str) -> list[str | Path]:
        """A run that starts from all that is committed and gathers what is new in `corpus`; findings go beside it."""
        corpus.mkdir(parents=True, exist_ok=True)
        options = [
            f"-seed={seed}", f"-max_len={self.max_len}", f"-timeout={self.patience}", "-rss_limit_mb=1024",
            f"-artifact_prefix={corpus.parent}/", "-print_final_stats=1", *more,
        ]  # fmt: skip
        return [program, *options, corpus, *self.seeds]

    def run(self, program: Path, inputs: int, seed: int) -> subprocess.CompletedProcess[str]:
        command = self.command(program, program.parent / "corpus", seed, f"-runs={inputs}")
        return subprocess.run(command, capture_output=True, text=True, timeout=BOUND, env=environment())

    def survives(self, folder: Path, seed: int) -> None:
        """Runs its inputs; a finding is told as hex, for replay."""
        result = self.run(self.build(folder), self.inputs, seed or 1)
        told = "\n".join(f"{path.name}: {path.read_bytes().hex()}" for path in findings(folder))
        assert result.returncode == 0, (
            f"{result.stderr[-4000:]}\n{told}\nreplay: the built target with the bytes above in a file"
        )
        assert executed(result.stderr) >= self.inputs, result.stderr[-4000:]

    def notices(self, folder: Path, check: str, without: str) -> None:
        """Runs it on code with a hole, from its corpus: it must not survive."""
        result = self.run(self.build(folder, check, without), 10 * self.inputs, 1)
        assert result.returncode != 0, f"code without {check!r} survived"
        assert list(folder.glob("crash-*")), result.stderr[-4000:]


def environment() -> dict[str, str]:
    """Leak detection needs ptrace, which containers may forbid."""
    return {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}


def findings(folder: Path) -> list[Path]:
    return sorted(path for pattern in ("crash-*", "timeout-*", "oom-*") for path in folder.glob(pattern))


def executed(said: str) -> int:
    """The number of inputs that a run which ended says it has run."""
    found = re.search(r"stat::number_of_executed_units: (\d+)", said)
    assert found, said
    return int(found[1])


# The QUIC engine whole, without what joins it to the worker.
ENGINE = tuple(
    sorted(path.name for path in cc.NATIVE.glob("quic*.c") if not path.name.startswith(("quic_port", "quic_ring")))
)
LIBRARIES = ("-lcrypto", "-ldl", "-lm")

# Inputs: as many as take some three seconds on an idle machine.
TARGETS = {
    target.name: target
    for target in (
        Target("solana_tx", ("solana_tx.c",), 4200, 100_000),
        Target("eth", ("eth.c",), 600, 100_000),
        Target("rules", ("rules.c",), 600, 10_000),
        Target("records", ("record.c",), 160, 10_000),
        Target("quic_packets", ENGINE, 2000, 4_000, ("watch.c",), LIBRARIES),
        Target(
            "quic_peer",
            ENGINE,
            4000,
            1_000,
            ("watch.c", "net.c", "ledger.c", "plan.c", "scenario.c", "world.c"),
            LIBRARIES,
            60,
            False,
        ),
        Target("quic_adopt", ENGINE, 1000, 6_000, (), LIBRARIES),
        Target("io", ("io.c", "xsk.c", "umem.c", "udp.c", "udp_tx.c", "eth.c"), 1600, 3_000),
        Target("quic_frames", ("quic_frame.c",), 1500, 100_000),
        Target("quic_tparams", ("quic_tparams.c",), 600, 100_000),
    )
}

if __name__ == "__main__":
    made = Path(sys.argv[2])
    made.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(TARGETS[sys.argv[1]].build(made.parent), made)
