"""`afterburner-lab bench decoder`: how many transactions a second one core decodes, and how many times that of
solders.

Both read the same transactions, in alternate rounds on one CPU, so that a noisy moment of the machine hits both:

    round n:   ours, over the stock several times                  -> ns a transaction, one sample
               solders, over each different transaction once       -> ns a transaction, one sample

The stock is larger than a core's first cache levels, as large as the receive memory of a queue (2,048 frames of 4 KiB), because
transactions in the daemon come fresh from there. What is decoded is described into struct ab_tx, one after the other, as the
data plane does. solders is called from Python, once a transaction, which is how a Python program would read them; the
call itself is part of what it costs.

The best round says what the code can do, the median what the machine let it do; both are reported, the goal applies to both.
"""

from __future__ import annotations

import argparse
import array
import statistics
import time
from collections.abc import Callable, Sequence

from ..abi.layout import Tx
from ..native import lib
from . import cores, quantities, report
from .report import Fact, Report, Result
from .transactions import SHAPES, TARGET_BYTES, Maker

GOAL = 10e6  # transactions of 235 bytes a second, one core
STOCK_BYTES = 2048 * 4096
UNIQUE = 4096  # signed ones; the stock repeats them (signing is slow, and no two neighbours are alike)
PASSES = 25  # over the stock in one round: some 10 ms, long against the clock and short against a time slice

EXAMPLES = """\
examples:
  afterburner-lab bench decoder                     some ten seconds, no privileges needed
  afterburner-lab bench decoder --rounds 99 --json > decoder.json
"""

Sample = Callable[[], float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rounds", type=quantities.amount, default=31, metavar="N", help="rounds of each side, in turns (default: 31)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the transactions (default: 1)")
    cores.add_one(parser)
    parser.add_argument("-j", "--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    return report.publish(measure(args.rounds, args.seed, cores.one(args)), args.json)


def measure(rounds: int, seed: int, cpu: int) -> Report:
    facts, stolen = report.machine(), report.steal_seconds()
    with cores.staying_on(cpu):
        results = [
            *_compare("decoder_rate", ["transfer"], rounds, seed),
            *_compare("decoder_rate_mixed", list(SHAPES), rounds, seed)[:1],
        ]
    settings: dict[str, Fact] = {
        "transaction_bytes": TARGET_BYTES,
        "stock_bytes": STOCK_BYTES,
        "rounds": rounds,
        "passes": PASSES,
        "cpu": cpu,
        "seed": seed,
        "steal_seconds": round(report.steal_seconds() - stolen, 2),
    }
    return Report("decoder", facts, settings, tuple(results))


def _compare(figure: str, shapes: Sequence[str], rounds: int, seed: int) -> list[Result]:
    """Best and median of both sides over a stock of these shapes."""
    report.say(f"{figure}: signing {UNIQUE:,} transactions ({', '.join(shapes)})")
    maker = Maker(seed)
    unique = [maker.make(maker.random.choice(shapes)) for _ in range(UNIQUE)]
    ours, theirs = _ours(unique), _solders(unique)
    samples: dict[str, list[float]] = {"ours": [], "theirs": []}
    report.say(f"{figure}: {rounds} rounds of each")
    for _ in range(rounds):
        samples["ours"].append(ours())
        if theirs:
            samples["theirs"].append(theirs())
    results = []
    for name, pick in ((figure, min), (f"{figure}_median", statistics.median)):
        results.append(
            report.result(
                name,
                "transactions/s",
                1e9 / pick(samples["ours"]),
                reference="solders" if theirs else None,
                reference_value=1e9 / pick(samples["theirs"]) if theirs else None,
                goal=GOAL,
            )
        )
    return results


def _ours(unique: Sequence[bytes]) -> Sample:
    """One round of ours: nanoseconds a transaction."""
    stock: list[bytes] = []
    size = 0
    while size < STOCK_BYTES:
        stock.append(unique[len(stock) % len(unique)])
        size += len(stock[-1])
    packed = b"".join(stock)
    ends, at = array.array("I"), 0
    for item in stock:
        at += len(item)
        ends.append(at)
    out = bytearray(
        b"\xff" * (Tx.SIZE * len(stock))
    )  # written once here: no page of it is touched for the first time later

    def sample() -> float:
        total = 0
        for _ in range(PASSES):
            good, nanoseconds = lib.tx_decode_many(packed, ends, out)
            if good != len(stock):
                raise AssertionError(
                    f"decoded {good} of {len(stock)} well-formed transactions: the figure would be worthless"
                )
            total += nanoseconds
        return total / (PASSES * len(stock))

    return sample


def _solders(unique: Sequence[bytes]) -> Sample | None:
    """One round of solders, or None where it is not installed."""
    try:
        from solders.transaction import VersionedTransaction
    except ImportError:
        report.say("solders is not installed, so there is no reference: `make setup` installs it")
        return None
    from_bytes = VersionedTransaction.from_bytes

    def sample() -> float:
        start = time.perf_counter_ns()
        for item in unique:
            from_bytes(item)
        return (time.perf_counter_ns() - start) / len(unique)

    return sample
