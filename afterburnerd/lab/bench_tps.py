"""`afterburner-lab bench tps`: transactions a second over our QUIC, delivered and acknowledged, beside what the wire can carry.

    sender, CPU s                                              receiver, CPU w
  afxdp     235-byte transactions, one FINed stream each -->   counted after the FIN, both ends on AF_XDP
  socket    the same over UDP sockets with GSO and GRO   -->
  mixed     AF_XDP in one direction, sockets in the other
  floor     bare AF_XDP frames as long as our datagrams  -->   bare AF_XDP receive: count, give the frame back

Both ends are the data plane's own worker with its engine, adopted without a handshake (native/quic_end.h), one core each. What counts
is what the sender has the acknowledgement of, while it was sending; every message that was accepted must have arrived, whole and
once, or the run fails. The bare rate times the transactions that fit one datagram is what AF_XDP could carry: how far ours is
from it, and what both cores did meanwhile, says what the limit is.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable

import msgspec

from ..cli import EXIT_UNREACHABLE, EXIT_USAGE, ToolError
from . import bench_tps_peer, cores, exits, quantities, quic_pair, report, rig, third
from .cores import Cores
from .labio import Labio
from .quic_pair import AFXDP, SOCKET, SUITES, Load, Outcome, Way
from .transactions import TARGET_BYTES

EXAMPLES = """\
examples:
  sudo afterburner-lab bench tps
  sudo afterburner-lab bench tps --suite aes256 --rounds 9 --json > tps.json
  sudo afterburner-lab bench tps --peer build/peers/quinn/release/quinn-peer
"""
# AF_XDP at full speed: what arrives while the receiver is off its core must find frames.
MEMORY = {"frames": 16384, "frame_size": 2048, "ring": 8192}
DATAGRAM_BYTES = 1472  # MTU 1500 over IPv4
WAYS = {
    "afxdp": (AFXDP, AFXDP),
    "socket": (SOCKET, SOCKET),
    "mixed": (Way("afxdp", "socket"), Way("socket", "afxdp")),  # data by sockets, acknowledgements by AF_XDP
}


class Round(msgspec.Struct):
    outcomes: dict[str, Outcome] = {}
    floor_rate: float = 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=quantities.amount, default=5, metavar="N", help="rounds (default: 5)")
    parser.add_argument(
        "--duration", type=quantities.duration, default=1.0, metavar="TIME", help="of each measurement (default: 1s)"
    )
    parser.add_argument("--suite", choices=sorted(SUITES), default="aes128", help="cipher (default: aes128)")
    parser.add_argument("--conns", type=quantities.amount, default=1, metavar="N", help="connections (default: 1)")
    parser.add_argument(
        "--window",
        type=quantities.amount,
        default=2048,
        metavar="N",
        help="messages on the way at most (default: 2048)",
    )
    parser.add_argument(
        "--ways", metavar="LIST", help="of afxdp, socket, mixed; with --peer of afxdp, socket (default: all)"
    )
    parser.add_argument(
        "--peer",
        metavar="COMMAND",
        help="measure our sender against an engine of somebody else's (tests/interop/peers/README.md) instead of ours",
    )
    cores.add_pair(parser)
    parser.add_argument("-j", "--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    chosen = cores.pair(args)
    known = bench_tps_peer.WAYS if args.peer else WAYS
    ways = args.ways.split(",") if args.ways else list(known)
    if set(ways) - set(known):
        raise ToolError(f"--ways {args.ways}: of {', '.join(known)}", EXIT_USAGE)
    if args.peer and args.conns != 1:
        raise ToolError(f"--conns {args.conns}: with --peer there is one connection", EXIT_USAGE)
    peer = third.name(args.peer) if args.peer else ""
    load = Load(
        size=TARGET_BYTES,
        seconds=args.duration,
        conns=args.conns,
        window=args.window,
        suite=args.suite,
        mtu=DATAGRAM_BYTES,
        frames=MEMORY["frames"],
        frame_size=MEMORY["frame_size"],
        ring=MEMORY["ring"],
    )
    facts, stolen = report.machine(), report.steal_seconds()
    rounds = []
    with rig.standing(rig.plan(f"bt{os.getpid()}", isolated=True)) as standing:
        if args.peer:
            found = bench_tps_peer.measure(standing, chosen, load, args.peer, ways, args.rounds)
        for n in range(0 if args.peer else args.rounds):
            rounds.append(one_round(standing, chosen, load, ways, n))
            report.say(f"round {n + 1} of {args.rounds}: {_spoken(rounds[-1])}")
    return report.publish(
        report.Report(
            bench="tps",
            machine=facts,
            settings={
                "rounds": args.rounds,
                "seconds": args.duration,
                "message_bytes": TARGET_BYTES,
                "datagram_bytes": DATAGRAM_BYTES,
                "suite": args.suite if not args.peer else "the peer's choice",
                **({"peer": peer} if peer else {}),
                "connections": args.conns,
                "window": args.window,
                "umem_frames": MEMORY["frames"],
                "sender_cpu": chosen.sender,
                "receiver_cpu": chosen.receiver,
                "steal_seconds": round(report.steal_seconds() - stolen, 3),
            },
            results=tuple(found if args.peer else results(rounds, ways)),
        ),
        args.json,
    )


def one_round(standing: rig.Rig, chosen: Cores, load: Load, ways: list[str], n: int) -> Round:
    done = Round({}, 0.0)
    turns: list[Callable[[], None]] = [lambda: _floor(standing, chosen, load, done)]
    turns += [lambda name=name: _contend(standing, chosen, load, name, done) for name in ways]  # type: ignore[misc]
    for i in range(len(turns)):
        turns[(n + i) % len(turns)]()
    return done


def _contend(standing: rig.Rig, chosen: Cores, load: Load, name: str, done: Round) -> None:
    client, server = WAYS[name]
    if name == "socket":
        quic_pair.offloads(standing, True)
    try:
        outcome = quic_pair.run(standing, chosen, load, client, server)
    finally:
        if name == "socket":
            quic_pair.offloads(standing, False)
    sent, received = outcome.sender, outcome.receiver
    if sent.failed or received.wrong or not sent.acknowledged <= received.messages <= sent.accepted:
        raise ToolError(
            f"{name}: {sent.accepted} messages were accepted, {sent.acknowledged} acknowledged, {sent.failed} failed, "
            f"{received.messages} arrived, {received.wrong} of them not as sent",
            EXIT_UNREACHABLE,
        )
    done.outcomes[name] = outcome


def _floor(standing: rig.Rig, chosen: Cores, load: Load, done: Round) -> None:
    near, far = standing.sender, standing.daemon
    seconds = load.seconds + 0.4
    with Labio(
        "bare-receive", netns=far.netns, device=far.device, cpu=chosen.receiver, nice=quic_pair.NICE, interval_ms=100,
        **MEMORY,
    ) as receiver:  # fmt: skip
        receiver.wait_ready()
        with Labio(
            "xdp-send", netns=near.netns, device=near.device, cpu=chosen.sender, nice=quic_pair.NICE, smac=near.mac,
            dmac=far.mac, from_=near.ipv4, to=far.ipv4, sport=quic_pair.CLIENT_PORT, dport=quic_pair.SERVER_PORT,
            size=DATAGRAM_BYTES, frame_size=MEMORY["frame_size"], duration_ms=round(seconds * 1000),
        ) as sender:  # fmt: skip
            sender.result(seconds + 30)
        exits.sleep(0.02)
        receiver.process.terminate()
        lines = [line for line in receiver.lines(timeout=10) if not line.ready]
    begin = next((i for i, line in enumerate(lines) if line.packets), None)
    if begin is None or begin + 2 >= len(lines):
        raise ToolError("the floor: not one frame arrived", EXIT_UNREACHABLE)
    first = lines[begin + 1]
    last = [line for line in lines if line.now_ns <= first.now_ns + load.seconds * 1e9][-1]
    done.floor_rate = (last.packets - first.packets) / ((last.now_ns - first.now_ns) / 1e9)


def results(rounds: list[Round], ways: list[str]) -> list[report.Result]:
    def median(of: Callable[[Round], float]) -> float:
        return statistics.median(of(one) for one in rounds)

    def of(name: str, what: Callable[[Outcome], float]) -> float:
        return median(lambda one: what(one.outcomes[name]))

    rates = {name: of(name, lambda o: o.rate) for name in ways}
    best = max(rates, key=lambda name: rates[name])
    found = [
        report.result("tps_best", "transactions/s", rates[best], reference=f"goal; best: {best}", goal=4.7e6),
    ]
    for name in ways:
        each = of(name, lambda o: o.sender.accepted / o.sender.quic_sent)
        if name == "afxdp":
            found.append(
                report.result(
                    "tps_afxdp",
                    "transactions/s",
                    rates[name],
                    reference="bare AF_XDP frames times transactions a packet",
                    reference_value=median(lambda one: one.floor_rate) * each,
                    goal_ratio=0.85,
                )
            )
        else:
            found.append(report.result(f"tps_{name}", "transactions/s", rates[name]))
        found += [
            report.result(f"{name}_packet_rate", "packets/s", of(name, lambda o: o.sender.quic_sent / o.sender.elapsed_ns * 1e9)),
            report.result(f"{name}_per_packet", "transactions", each),
            report.result(f"{name}_sender_busy", "%", of(name, lambda o: 100 * o.sender.busy_ns / o.sender.run_ns)),
            report.result(f"{name}_receiver_busy", "%", of(name, lambda o: 100 * o.receiver.busy_ns / max(o.receiver.run_ns, 1))),
            report.result(f"{name}_blocked_on_window", "%", of(name, lambda o: 100 * o.sender.blocked_window_ns / o.sender.run_ns)),
            report.result(f"{name}_blocked_on_credit", "%", of(name, lambda o: 100 * o.sender.blocked_credit_ns / o.sender.run_ns)),
            report.result(f"{name}_lost_packets", "packets", of(name, lambda o: o.sender.quic_lost)),
            report.result(f"{name}_sender_time", "s", of(name, lambda o: o.sender.busy_ns / 1e9 / o.sender.accepted)),
            report.result(f"{name}_receiver_time", "s", of(name, lambda o: o.receiver.busy_ns / 1e9 / o.receiver.messages)),
            report.result(f"{name}_sender_calls", "", of(name, lambda o: o.sender.kicks / o.sender.accepted)),
            report.result(f"{name}_receiver_calls", "", of(name, lambda o: o.receiver.kicks / o.receiver.messages)),
        ]  # fmt: skip
        if name == "afxdp":
            found.append(_own_time(rounds))
    found.append(report.result("bare_frame_rate", "packets/s", median(lambda one: one.floor_rate)))
    return found


def _own_time(rounds: list[Round]) -> report.Result:
    """What a packet costs the sender beyond its bare frame. Both are its core's alone, so 85 % of the bare rate leave it
    0.15 / 0.85 of a bare frame's time, for sealing, copying, checksum, acknowledgement and all."""

    def own(one: Round) -> float:
        sent = one.outcomes["afxdp"].sender
        return sent.busy_ns / 1e9 / sent.quic_sent - 1 / one.floor_rate

    allowed = 0.15 / 0.85 * statistics.median(1 / one.floor_rate for one in rounds)
    return report.result(
        "afxdp_own_time", "s", statistics.median(map(own, rounds)), reference="what 85 % allow", reference_value=allowed,
        better="lower",
    )  # fmt: skip


def _spoken(one: Round) -> str:
    return ", ".join(
        [f"{name} {outcome.rate / 1e6:.3f} M/s" for name, outcome in one.outcomes.items()]
        + [f"bare {one.floor_rate / 1e6:.3f} M frames/s"]
    )
