"""`afterburner-lab bench engine`: how many transactions a second the QUIC engine carries when there is nothing but QUIC to do.

Client and server are two engines in one process on one core, and the wire is an array of buffers (lab/native/engine.c). All else is
real: encryption, header protection, acknowledgement, congestion and flow control, each transaction on its own stream with
FIN. What counts is what the server was told with FIN and the client was told is acknowledged, whichever is less.

    engine_unpacked_rate    one transaction a packet, AES-128-GCM
    engine_packed_rate      as many as fit a datagram of 1,472 bytes
    ..._aes256              the same with AES-256-GCM
    packed_cost             of both ends, by the packet, beside the AEAD alone, which no engine over this library can fall below;
                            and where it goes:
      _accept               taking transactions from the caller
      _frames_out           building packets: frames, records of what was sent
      _seal, _mask_out      AEAD and header protection of the sender, measured apart on packets of the same size
      _mask_in, _open       the same of the receiver
      _frames_in            reading frames, streams, credit, handing data up
      _acks                 acknowledgements: writing, opening, applying them, telling what became of transactions

Rates are by the second of processor time, which on a machine at rest is a second; `..._wall` is the best round by the clock on the wall.
Short rounds of all modes take turns, so that a noisy moment hits each alike, and the median of them is what is reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

from ..cli import EXIT_USAGE, ToolError
from ..native import lib
from . import cores, labio, quantities, report
from .bench_crypto import SECRET_BYTES, SUITES
from .report import Fact, Report, Result

SIZE = 235  # bytes of a transaction: a transfer with one signature
GOALS = {"engine_unpacked_rate": 2.5e6, "engine_packed_rate": 8e6}  # transactions/s, AES-128-GCM
ROUND_MS, WARM_MS = 40, 20
BATCH = 32
EXAMPLES = """\
examples:
  afterburner-lab bench engine                      some ten seconds, no privileges needed
  afterburner-lab bench engine --size 1232          as large as a transaction may be on most of the network
  afterburner-lab bench engine --json > engine.json
"""


@dataclass
class Mode:
    figure: str
    suite: str
    pack: int
    rounds: list[dict[str, float]] = field(default_factory=list)

    def median(self, value: Callable[[dict[str, float]], float]) -> float:
        return statistics.median(value(r) for r in self.rounds)

    def cost(self, stage: str, per: str = "packets") -> float:
        """Nanoseconds that a stage takes for each packet with data; `per`: what its calls are counted by."""
        return self.median(lambda r: r[f"ns_{stage}"] * r[per] / r["packets"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rounds", type=quantities.amount, default=25, metavar="N", help="rounds of each mode, in turns (default: 25)"
    )
    parser.add_argument("--size", type=int, default=SIZE, metavar="BYTES", help=f"of a transaction (default: {SIZE})")
    parser.add_argument("--backend", metavar="NAME", help="packet protection, as in bench crypto (default: auto)")
    cores.add_one(parser)
    parser.add_argument("-j", "--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    cpu = cores.one(args)
    if not 1 <= args.size <= 4096:
        raise ToolError(f"--size {args.size}: a transaction has 1 to 4096 bytes", EXIT_USAGE)
    return report.publish(measure(args.rounds, args.size, args.backend, cpu), args.json)


def measure(rounds: int, size: int, backend: str | None, cpu: int) -> Report:
    facts, stolen = report.machine(), report.steal_seconds()
    modes = [
        Mode("engine_unpacked_rate", "aes128", 1),
        Mode("engine_packed_rate", "aes128", 0),
        Mode("engine_unpacked_rate_aes256", "aes256", 1),
        Mode("engine_packed_rate_aes256", "aes256", 0),
    ]
    report.say(f"{rounds} rounds of {ROUND_MS} ms of {len(modes)} modes in turns")
    for _ in range(rounds):
        for mode in modes:
            mode.rounds += _rounds(mode, size, backend, cpu)
    crypto = lib.QuicCrypto(backend or "auto")
    results: list[Result] = []
    with cores.staying_on(cpu):
        for mode in modes:
            results += _results(mode, crypto, rounds)
    settings: dict[str, Fact] = {
        "backend": crypto.name(),
        "transaction_bytes": size,
        "rounds": rounds,
        "round_ms": ROUND_MS,
        "cpu": cpu,
        "packed": round(modes[1].median(lambda r: r["transactions"] / r["packets"]), 2),
        "steal_seconds": round(report.steal_seconds() - stolen, 2),
    }
    return Report("engine", facts, settings, tuple(results))


def _rounds(mode: Mode, size: int, backend: str | None, cpu: int) -> list[dict[str, float]]:
    """One process: it warms up and measures once."""
    command = [str(labio.PROGRAM), "engine", "--size", str(size), "--suite", str(SUITES[mode.suite])]
    command += ["--pack", str(mode.pack), "--cpu", str(cpu), "--warm-ms", str(WARM_MS)]
    command += ["--duration-ms", str(2 * ROUND_MS), "--interval-ms", str(ROUND_MS)]
    command += ["--crypto", backend] if backend else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise labio.LabioError(f"afterburner-labio engine failed: {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def _results(mode: Mode, crypto: lib.QuicCrypto, rounds: int) -> list[Result]:
    """The rate of a mode, and what a packet of it costs by stage."""
    packet = round(mode.median(lambda r: r["bytes"] / r["packets"]))
    suite = SUITES[mode.suite]
    keys = [lib.QuicKeys(crypto, suite, secret=bytes(range(SECRET_BYTES[suite])))]
    samples = [crypto.measure(keys, packet, BATCH) for _ in range(rounds)]
    aead, seal, unprotect, opened = (min(column) for column in zip(*samples, strict=True))
    floor = aead + opened
    stages = {
        "accept": mode.cost("send", "transactions"),
        "frames_out": mode.cost("tx_data") - seal,
        "seal": aead,
        "mask_out": seal - aead,
        "mask_in": unprotect,
        "open": opened,
        "frames_in": mode.cost("rx_data") - unprotect - opened,
        "acks": mode.cost("tx_ack", "packets_back") + mode.cost("rx_ack", "packets_back"),
    }
    name = mode.figure.removeprefix("engine_").replace("_rate", "")  # shorter: there are many
    total = mode.median(lambda r: r["cpu_seconds"] / r["packets"])
    rate = mode.median(lambda r: r["transactions"] / r["cpu_seconds"])
    unit = "transactions/s"
    return [
        report.result(mode.figure, unit, rate, goal=GOALS.get(mode.figure)),
        report.result(f"{mode.figure}_wall", unit, max(r["rate"] for r in mode.rounds)),
        report.result(f"{name}_cost", "s", total, reference="AEAD floor", reference_value=floor / 1e9, better="lower"),
        *(report.result(f"{name}_{stage}", "s", max(ns, 0.0) / 1e9) for stage, ns in stages.items()),
    ]
