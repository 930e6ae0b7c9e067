"""The transaction decoder survives a fuzzer under ASan and UBSan, and the fuzzer is one that would notice.

AFTERBURNER_FUZZ_SECONDS lengthens the run (20 s by default). A finding is written out as hex in the failure, with the
command that replays it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from afterburnerd.abi.layout import Tx, TxReason, TxSanitize
from afterburnerd.native import lib

from .make_corpus import CORPUS, solana_tx

ROOT = Path(__file__).resolve().parents[2]
DECODER = ROOT / "afterburnerd/native/solana_tx.c"
SECONDS = int(os.environ.get("AFTERBURNER_FUZZ_SECONDS", "20"))


def build(decoder: Path, target: Path) -> Path:
    clang = shutil.which("clang")
    assert clang, "clang not found: `make setup` installs it"
    # fmt: off
    command = [
        clang, "-g", "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror",
        "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all",
        "-I", str(ROOT / "afterburnerd/native"), "-I", str(ROOT / "bpf"),
        str(ROOT / "tests/fuzz/fuzz_solana_tx.c"), str(decoder), "-o", str(target),
    ]
    # fmt: on
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return target


def fuzz(target: Path, seconds: int, seed: int) -> subprocess.CompletedProcess[str]:
    corpus = target.parent / "corpus"
    corpus.mkdir(exist_ok=True)
    command = [
        str(target),
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        "-max_len=4200",
        "-timeout=10",
        "-rss_limit_mb=1024",
    ]
    command += [f"-artifact_prefix={target.parent}/", "-print_final_stats=1", str(corpus), str(CORPUS / "solana_tx")]
    # Leak detection needs ptrace, which containers may forbid; the decoder allocates nothing that could leak.
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})


@pytest.mark.timeout(SECONDS + 120)
def test_the_decoder_survives_a_run(tmp_path: Path, seed: int) -> None:
    result = fuzz(build(DECODER, tmp_path / "fuzz_solana_tx"), SECONDS, seed or 1)
    findings = [path for pattern in ("crash-*", "timeout-*", "oom-*") for path in tmp_path.glob(pattern)]
    told = "\n".join(f"{path.name}: {path.read_bytes().hex()}" for path in findings)
    assert result.returncode == 0, (
        f"{result.stderr[-4000:]}\n{told}\nreplay: the built target with the bytes above in a file"
    )
    runs = int(result.stderr.split("stat::number_of_executed_units:")[1].split()[0])
    print(f"{runs} inputs in {SECONDS} s")
    assert runs > 1000 * SECONDS, f"only {runs} inputs: the target is too slow to find anything"


def test_the_corpus_is_what_the_makers_make_and_reaches_every_reason() -> None:
    kept = {path.name: path.read_bytes() for path in (CORPUS / "solana_tx").iterdir()}
    assert kept == solana_tx(), "stale corpus: python -m tests.fuzz.make_corpus"
    found = {name: TxReason(Tx.unpack(lib.tx_decode(data)).reason) for name, data in kept.items()}
    assert set(found.values()) == set(TxReason) - {TxReason.EMPTY, TxReason.TOO_LONG}
    assert {TxSanitize(lib.tx_sanitize(kept[name])) for name, reason in found.items() if reason is TxReason.OK} == set(
        TxSanitize
    )


@pytest.mark.parametrize(
    ("check", "without"),
    [
        ("if (ab_unlikely(bytes > c->len - c->at))", "if (0)"),  # no bounds check at all
        ("if (left < 2)", "if (0)"),  # one byte too far, inside a count
        ("if (ab_unlikely(c->len - c->at < 3))", "if (c->len - c->at < 2)"),  # one byte too far, in the header
        ("c->at == c->len ? AB_TX_OK : AB_TX_TRAILING_BYTES", "c->at ? AB_TX_OK : AB_TX_EMPTY"),  # no over-read: a lie
        ("if (!skip(c, V1_HEADER_BYTES))", "if (c->len < 4)"),  # inside the mask of v1
        ("ab_tx_decoded(tx) ? tx->config_mask : 0", "tx->config_mask"),  # values that are not there
        ("if (!skip(c, bodies))", "if (!skip(c, bodies & 0xff))"),  # instructions of v1 that end outside
    ],
)
def test_the_fuzzer_notices_a_missing_check(check: str, without: str, tmp_path: Path) -> None:
    source = DECODER.read_text()
    assert source.count(check) == 1, f"{check!r} is there {source.count(check)} times"
    holed = tmp_path / "solana_tx.c"
    holed.write_text(source.replace(check, without))
    result = fuzz(build(holed, tmp_path / "fuzz_solana_tx"), 20, 1)
    assert result.returncode != 0, "a decoder with a hole survived"
    assert list(tmp_path.glob("crash-*"))
