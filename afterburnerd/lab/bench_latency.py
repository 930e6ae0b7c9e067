"""`afterburner-lab bench latency`: one-way latency of small messages over our QUIC, beside bare AF_XDP in the same run.

    sender, CPU s                                             receiver, CPU w
  ours      probe, 17 bytes, one every --interval  ----->     takes its clock out when the stream's FIN is there
  floor     bare AF_XDP frame of the same length   ----->     the same, nothing else
  sockets   our engine over UDP sockets            ----->
  warm      ours, --conns connections open, one used ----->   the others are kept alive: a PING a second each
  spread    ours, round robin over all of them     ----->     every packet finds another connection, cold in the cache
  peer      --peer: somebody else's server         ----->     the real daemon (third_latency.py)

Each message is a stream of its own, encrypted, acknowledged, on real AF_XDP over veth; both ends are the data plane's own worker
with its engine, adopted without a handshake (native/quic_end.h). The clock of both ends is the same, so one way is measured, not
half of a round trip. It counts from when a message was due: a sender that was kept from its CPU does not hide that they waited.
How long both ends waited for a CPU that others had stands beside. Contenders take turns in each round, figures are medians over
the rounds.

One connection and --conns of them are measured one right after the other, each as often first, after the same warm-up: longer than the
pause between two PINGs of a connection, so that what keeps thousands alive goes on while one of them is timed. Nothing is
left out: at 10 us an interval, p99 is where an end was off its CPU for 1 % of the time, so on a machine with neighbours both
figures tell of them, and `*_waited` how much. With real-time priority nobody else is in the way, but the kernel stops a thread that
takes more than 0.95 of a second (sched_rt_runtime_us): ends doze until they are measured, and where one was stopped all
the same it is said, for then p99 is the kernel's.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable

import msgspec

from ..cli import EXIT_UNREACHABLE, EXIT_USAGE, ToolError
from . import cores, exits, quantities, quic_pair, report, rig, third, third_latency
from .cores import Cores
from .labio import Labio, Samples
from .quic_pair import AFXDP, SOCKET, Load, Outcome, Way

EXAMPLES = """\
examples:
  sudo afterburner-lab bench latency
  sudo afterburner-lab bench latency --interval 100us --rounds 9 --json > latency.json
  sudo afterburner-lab bench latency --peer build/peers/quinn/release/quinn-peer
  sudo chrt -f 20 afterburner-lab bench latency --duration 400ms      on a machine that others use, too
"""
PROBE_BYTES = 17
# What a packet with one probe has around it: short header with 8 bytes of connection ID and 2 of number, STREAM head, tag.
PACKET_BYTES = PROBE_BYTES + 1 + 8 + 2 + 4 + 16
FLOOR_FRAMES = 128  # what is in use stays in the nearest cache
WARM_MS = 1200  # of one connection and of many: a second passes at most between two PINGs of a connection
STOPPED = 0.005  # share of a run that a real-time thread waits only where the kernel stopped it


class Round(msgspec.Struct):
    ours: Outcome | None = None
    warm: Outcome | None = None
    spread: Outcome | None = None
    sockets: Outcome | None = None
    floor: Samples | None = None
    peer: Samples | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=quantities.amount, default=5, metavar="N", help="rounds (default: 5)")
    parser.add_argument(
        "--duration", type=quantities.duration, default=1.0, metavar="TIME", help="of each measurement (default: 1s)"
    )
    parser.add_argument(
        "--interval",
        type=quantities.duration,
        default=10e-6,
        metavar="TIME",
        help="between two messages (default: 10us)",
    )
    parser.add_argument(
        "--conns",
        type=int,
        default=4096,
        metavar="N",
        help="connections that are open in the contenders with many (default: 4096)",
    )
    parser.add_argument(
        "--peer",
        metavar="COMMAND",
        help="measure from a third-party QUIC server on kernel sockets to the daemon, too; its command line is that of "
        "tests/interop/peers/README.md",
    )
    cores.add_pair(parser)
    parser.add_argument("-j", "--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    chosen = cores.pair(args)
    if not 1 <= args.conns <= 65536:
        raise ToolError(f"--conns {args.conns}: 1 to 65536", EXIT_USAGE)
    rate = round(1 / args.interval)
    engine = third.name(args.peer) if args.peer else None
    load = Load(size=PROBE_BYTES, probe=True, rate=rate, seconds=args.duration)
    facts, stolen = report.machine(), report.steal_seconds()
    rounds = []
    with rig.standing(rig.plan(f"bl{os.getpid()}", isolated=True)) as standing:
        for n in range(args.rounds):
            rounds.append(one_round(standing, chosen, load, args.conns, n, args.peer))
            report.say(f"round {n + 1} of {args.rounds}: {_spoken(rounds[-1])}")
            if is_real_time() and (names := stopped(rounds[-1])):
                report.say(
                    f"the kernel stopped real-time threads of {', '.join(names)} (sched_rt_runtime_us): "
                    "their p99 says nothing; a shorter --duration does"
                )
    return report.publish(
        report.Report(
            bench="latency",
            machine=facts,
            settings={
                "rounds": args.rounds,
                "seconds": args.duration,
                "interval_seconds": args.interval,
                "message_bytes": PROBE_BYTES,
                "connections": args.conns,
                "sender_cpu": chosen.sender,
                "receiver_cpu": chosen.receiver,
                "peer": engine,
                "steal_seconds": round(report.steal_seconds() - stolen, 3),
            },
            results=tuple(results(rounds)),
        ),
        args.json,
    )


def one_round(standing: rig.Rig, chosen: Cores, load: Load, conns: int, n: int, peer: str | None = None) -> Round:
    done = Round()

    def contend(way: Way, which: Load) -> Outcome:
        outcome = quic_pair.run(standing, chosen, which, way, way)
        if outcome.receiver.messages != outcome.sender.accepted or outcome.sender.failed:
            raise ToolError(
                f"{outcome.sender.accepted} messages were sent by {way.name}, {outcome.receiver.messages} arrived",
                EXIT_UNREACHABLE,
            )
        return outcome

    def ours() -> None:
        done.ours = contend(AFXDP, msgspec.structs.replace(load, warm_ms=WARM_MS))

    def warm() -> None:
        done.warm = contend(AFXDP, msgspec.structs.replace(load, conns=conns, active=1, warm_ms=WARM_MS))

    def spread() -> None:
        done.spread = contend(AFXDP, msgspec.structs.replace(load, conns=conns))

    def sockets() -> None:
        done.sockets = contend(SOCKET, load)

    def floor() -> None:
        done.floor = bare(standing, chosen, load)

    def third_party_server() -> None:
        done.peer = third_latency.measure(standing, chosen, load, peer or "")

    def one_and_many() -> None:
        for measure in (ours, warm) if n % 2 == 0 else (warm, ours):
            measure()

    turns = [one_and_many, floor, spread, sockets, *([third_party_server] if peer else [])]
    for i in range(len(turns)):
        turns[(n + i) % len(turns)]()
    return done


def is_real_time() -> bool:
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK in (os.SCHED_FIFO, os.SCHED_RR)


def stopped(one: Round) -> list[str]:
    """The contenders of which an end was kept from its CPU."""
    outcomes = {"ours": one.ours, "warm": one.warm, "spread": one.spread, "sockets": one.sockets}
    return [
        name for name, o in outcomes.items() if o is not None and max(waited(o.sender), waited(o.receiver)) > STOPPED
    ]


def waited(end: quic_pair.End) -> float:
    return end.waited_ns / max(end.run_ns, 1)


def bare(standing: rig.Rig, chosen: Cores, load: Load) -> Samples:
    """One-way latency of a bare AF_XDP frame as long as our packet."""
    common: dict[str, str | int | bool | None] = {
        "size": PACKET_BYTES, "frames": FLOOR_FRAMES, "ring": FLOOR_FRAMES // 2, "nice": quic_pair.NICE,
        "sport": quic_pair.CLIENT_PORT, "dport": quic_pair.SERVER_PORT,
    }  # fmt: skip
    near, far = standing.sender, standing.daemon
    with Labio(
        "oneway-receive", netns=far.netns, device=far.device, cpu=chosen.receiver, warm_ms=load.warm_ms,
        from_=far.ipv4, to=near.ipv4, rate=load.rate, **{**common, "sport": quic_pair.SERVER_PORT, "dport": quic_pair.CLIENT_PORT},
    ) as receiver:  # fmt: skip
        receiver.wait_ready()
        with Labio(
            "oneway-send", netns=near.netns, device=near.device, cpu=chosen.sender, smac=near.mac, dmac=far.mac,
            from_=near.ipv4, to=far.ipv4, rate=load.rate, duration_ms=round(load.seconds * 1000), **common,
        ) as sender:  # fmt: skip
            sender.result(load.seconds + 30)
        exits.sleep(0.05)
        receiver.process.terminate()
        samples = receiver.samples(10)
    if not samples.count:
        raise ToolError("the floor: not one frame arrived", EXIT_UNREACHABLE)
    return samples


def results(rounds: list[Round]) -> list[report.Result]:
    def at(who: str, point: str) -> float:
        found: list[Outcome | Samples | None] = [getattr(one, who) for one in rounds]
        samples = [s.samples if isinstance(s, Outcome) else s for s in found]
        values: list[float] = [getattr(s, point) / 1e9 for s in samples if s is not None]
        return statistics.median(values)

    def per_message(of: Callable[[Outcome], float]) -> float:
        return statistics.median(of(one.ours) for one in rounds if one.ours)

    def against(figure: str, point: str, who: str, goal_ratio: float | None) -> report.Result:
        return report.result(
            figure,
            "s",
            at("ours", point),
            reference="bare AF_XDP, one way" if who == "floor" else "our engine over UDP sockets",
            reference_value=at(who, point),
            goal_ratio=goal_ratio,
            better="lower",
        )

    return [
        against("oneway_p50", "p50", "floor", 2.0),
        against("oneway_p90", "p90", "floor", None),
        against("oneway_p99", "p99", "floor", 3.0),
        against("oneway_p999", "p999", "floor", None),
        against("oneway_max", "max", "floor", None),
        against("oneway_p50_sockets", "p50", "sockets", None),
        against("oneway_p99_sockets", "p99", "sockets", None),
        report.result(
            "p99_at_4096",
            "s",
            at("warm", "p99"),
            reference="one connection",
            reference_value=at("ours", "p99"),
            goal_ratio=1.5,
            better="lower",
        ),
        *(
            report.result(figure, "s", at(who, point), reference="one connection", reference_value=at("ours", point))
            for figure, who, point in (
                ("p50_at_4096", "warm", "p50"),
                ("p50_spread", "spread", "p50"),
                ("p99_spread", "spread", "p99"),
            )
        ),
        report.result(
            "sender_time_per_message", "s", per_message(lambda o: o.sender.busy_ns / 1e9 / o.sender.accepted)
        ),
        report.result(
            "receiver_time_per_message", "s", per_message(lambda o: o.receiver.busy_ns / 1e9 / o.receiver.messages)
        ),
        report.result("sender_calls_per_message", "", per_message(lambda o: o.sender.kicks / o.sender.accepted)),
        report.result("receiver_calls_per_message", "", per_message(lambda o: o.receiver.kicks / o.receiver.messages)),
        *(
            report.result(
                f"oneway_{point}_peer", "s", at("peer", point), goal=20e-6 if point == "p50" else None, better="lower"
            )
            for point in ("p50", "p90", "p99", "p999", "max")
            if rounds[0].peer
        ),
        *(
            report.result(
                f"{name}_waited{suffix}",
                "%",
                statistics.median(100 * waited(getattr(o, name)) for one in rounds if (o := getattr(one, who))),
            )
            for who, suffix in (("ours", ""), ("warm", "_at_4096"))
            for name in ("sender", "receiver")
        ),
        report.result("floor_lost", "frames", sum(one.floor.lost for one in rounds if one.floor)),
        report.result("packets_lost", "packets", sum(one.ours.sender.quic_lost for one in rounds if one.ours)),
        report.result(
            "connection_memory",
            "bytes",
            max(one.warm.receiver.connection_bytes for one in rounds if one.warm),
            goal=32 * 1024,
            better="lower",
        ),
    ]


def _spoken(one: Round) -> str:
    def of(s: Outcome | Samples | None) -> str:
        found = s.samples if isinstance(s, Outcome) else s
        return f"p50 {found.p50 / 1e3:.2f} p99 {found.p99 / 1e3:.1f}" if found else "-"

    return f"ours {of(one.ours)} us, bare {of(one.floor)}, warm {of(one.warm)}, spread {of(one.spread)}, sockets {of(one.sockets)}, peer {of(one.peer)}"
