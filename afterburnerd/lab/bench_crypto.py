"""`afterburner-lab bench crypto`: what it costs to seal and to open a QUIC packet, and how many times less than with libcrypto.

A packet here is a whole one: header of 11 bytes (connection ID of 8, number of 2), payload, tag; sealing and opening include header
protection. 256 of them lie 2 KiB apart, as frames of packet memory do, so that they come from the second-level cache, not from
the first. One round seals all, bares all headers, opens all, each step timed as a whole; rounds of the backend and of libcrypto
alternate on one CPU, and the best round of each counts: it says what the code can do.

    aes128_seal_1472_x32    AES-128-GCM, packets of 1,472 bytes, in batches of 32; _x1: one at a time
    aes128_open_1472_x32    the same, header and payload
    aes128_aead_1472        of the sealing, the AEAD alone: the floor of any engine over this library
    aes128_seal_300_cold    4,096 connections take turns, so that no key is in the core's own caches; libcrypto has to make the
    aes128_open_300_cold    key schedule for each packet
    aes128_update           a key update: next secret, key and IV from it, and all that the backend makes of a key
    aes128_key              of that, the last part
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..cli import EXIT_USAGE, ToolError
from ..native import lib
from . import cores, quantities, report
from .report import Fact, Report, Result

SUITES = {"aes128": 1, "aes256": 2, "chacha20": 3}
SECRET_BYTES = {1: 32, 2: 48, 3: 32}
SIZES = (50, 300, 1200, 1472)  # bytes of the packet
BATCHES = (1, 8, 32)
COLD_SIZE, COLD_BATCH = 300, 32
CONNECTIONS = 4096
EXAMPLES = """\
examples:
  afterburner-lab bench crypto                             some ten seconds, no privileges needed
  afterburner-lab bench crypto --backend ipsec-mb:avx2     as on a CPU without AVX-512
  afterburner-lab bench crypto --suites aes128 --json > crypto.json
"""
STEPS = ("aead", "seal", "unprotect", "open")


@dataclass
class Side:
    """One backend, with keys of a suite for as many connections as there are."""

    crypto: lib.QuicCrypto
    keys: list[lib.QuicKeys]

    @classmethod
    def make(cls, crypto: lib.QuicCrypto, suite: int) -> Side:
        secrets = (n.to_bytes(SECRET_BYTES[suite], "big") for n in range(CONNECTIONS))
        return cls(crypto, [lib.QuicKeys(crypto, suite, secret=secret) for secret in secrets])

    def warm(self, size: int, batch: int) -> dict[str, float]:
        """One connection's packets: nanoseconds a packet, by step."""
        return dict(zip(STEPS, self.crypto.measure(self.keys[:1], size, batch), strict=True))

    def cold(self, size: int, batch: int) -> dict[str, float]:
        """A packet of each connection."""
        return dict(zip(STEPS, self.crypto.measure(self.keys, size, batch), strict=True))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rounds", type=quantities.amount, default=31, metavar="N", help="rounds of each side, in turns (default: 31)"
    )
    parser.add_argument(
        "--backend",
        default="auto",
        metavar="NAME",
        help="auto, libcrypto, ipsec-mb, ipsec-mb:sse, :avx, :avx2, :avx512",
    )
    parser.add_argument(
        "--suites", nargs="+", choices=SUITES, default=list(SUITES), metavar="SUITE", help=f"of {', '.join(SUITES)}"
    )
    cores.add_one(parser)
    parser.add_argument("-j", "--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    cpu = cores.one(args)
    try:
        crypto = lib.QuicCrypto(args.backend)
    except OSError as error:
        raise ToolError(f"--backend {args.backend}: {error.strerror}", EXIT_USAGE) from None
    return report.publish(measure(crypto, args.suites, args.rounds, cpu), args.json)


def measure(crypto: lib.QuicCrypto, suites: Sequence[str], rounds: int, cpu: int) -> Report:
    facts, stolen = report.machine(), report.steal_seconds()
    reference = lib.QuicCrypto("libcrypto")
    results: list[Result] = []
    with cores.staying_on(cpu):
        for suite in suites:
            report.say(f"{suite}: {rounds} rounds of each, {crypto.name()} and libcrypto in turns")
            results += _suite(suite, Side.make(crypto, SUITES[suite]), Side.make(reference, SUITES[suite]), rounds)
    settings: dict[str, Fact] = {
        "backend": crypto.name(),
        "rounds": rounds,
        "cpu": cpu,
        "steal_seconds": round(report.steal_seconds() - stolen, 2),
    }
    return Report("crypto", facts, settings, tuple(results))


def _suite(suite: str, ours: Side, theirs: Side, rounds: int) -> Iterator[Result]:
    best: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for _ in range(rounds):
        for side, least in zip((ours, theirs), best, strict=True):
            for figure, value in _round(suite, side):
                least[figure] = min(value, least.get(figure, value))
    for figure, value in best[0].items():
        yield report.result(figure, "s", value / 1e9, reference="libcrypto", reference_value=best[1][figure] / 1e9)


def _round(suite: str, side: Side) -> Iterator[tuple[str, float]]:
    for size in SIZES:
        for batch in BATCHES:
            ns = side.warm(size, batch)
            yield f"{suite}_seal_{size}_x{batch}", ns["seal"]
            yield f"{suite}_open_{size}_x{batch}", ns["unprotect"] + ns["open"]
        yield f"{suite}_aead_{size}", ns["aead"]
    ns = side.cold(COLD_SIZE, COLD_BATCH)
    yield f"{suite}_seal_{COLD_SIZE}_cold", ns["seal"]
    yield f"{suite}_open_{COLD_SIZE}_cold", ns["unprotect"] + ns["open"]
    update, key = side.crypto.measure_update(SUITES[suite])
    yield f"{suite}_update", update
    yield f"{suite}_key", key
