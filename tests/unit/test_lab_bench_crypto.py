"""The benchmark of packet protection says what was asked for, and gives no figure of packets that did not open.

How fast it is is for the benchmark to say, not for a test on a busy machine.
"""

from __future__ import annotations

import json
import os

import pytest

from afterburnerd.lab import bench_crypto
from afterburnerd.lab.main import main
from afterburnerd.native import lib


def test_json_holds_every_figure_with_libcrypto_as_reference(capfd: pytest.CaptureFixture[str]) -> None:
    before = os.sched_getaffinity(0)
    assert main(["bench", "crypto", "--rounds", "1", "--suites", "aes128", "chacha20", "-j"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["bench"] == "crypto" and told["settings"]["backend"] == lib.QuicCrypto().name()
    assert told["machine"]["usable_cpus"] == len(before)
    figures = {r["figure"]: r for r in told["results"]}
    each = len(bench_crypto.SIZES) * (2 * len(bench_crypto.BATCHES) + 1) + 4
    assert len(told["results"]) == len(figures) == 2 * each
    assert {"aes128_seal_1472_x32", "aes128_open_300_cold", "chacha20_update", "chacha20_aead_50"} < set(figures)
    for figure in figures.values():
        assert (figure["unit"], figure["reference"], figure["met"]) == ("s", "libcrypto", None)
        assert 0 < figure["value"] < 1e-3
    assert os.sched_getaffinity(0) == before


def test_the_backend_is_the_one_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "crypto", "--rounds", "1", "--suites", "aes256", "--backend", "libcrypto", "-j"]) == 0
    assert json.loads(capfd.readouterr().out)["settings"]["backend"] == "libcrypto"


@pytest.mark.parametrize("words", [["--backend", "openssl"], ["--cpu", "4095"], ["--suites", "des"], ["--rounds", "0"]])
def test_what_makes_no_sense_is_a_usage_error(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    before = os.sched_getaffinity(0)
    try:
        code = main(["bench", "crypto", *words])
    except SystemExit as e:
        code = int(e.code or 0)
    assert code == 64 and words[1] in capfd.readouterr().err
    assert os.sched_getaffinity(0) == before


def test_packets_that_do_not_open_give_no_figure() -> None:
    crypto = lib.QuicCrypto("libcrypto")
    keys = lib.QuicKeys(crypto, 1, secret=bytes(32))
    assert min(crypto.measure([keys], 1472, 32)) > 0
    keys.wipe()
    with pytest.raises(RuntimeError, match="the figures would be worthless"):
        crypto.measure([keys], 1472, 32)
    for size, batch in ((28, 1), (2049, 1), (300, 0)):
        with pytest.raises(ValueError, match="measure"):
            crypto.measure([keys], size, batch)
