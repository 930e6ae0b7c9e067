"""`afterburner-lab`: a test rig on one machine, traffic for it, and the benchmarks.

Reads arguments and hands over; what a command does stands in the module of its name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import msgspec

from .. import __version__
from ..cli import (
    EXIT_CONFIG,
    EXIT_DEGRADED,
    EXIT_OK,
    EXIT_PERMISSION,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    Parser,
    run_tool,
)
from . import (
    bench_crypto,
    bench_daemon,
    bench_decoder,
    bench_engine,
    bench_handshake,
    bench_latency,
    bench_raw,
    bench_tps,
    bench_xdp,
    demo,
    emit,
    exits,
    flood,
    peer,
    probe,
    rig,
)

PROG = "afterburner-lab"

UP_EXAMPLES = """\
examples:
  sudo afterburner-lab up                    afterburner0 here, lab0 in the namespace afterburner-lab
  sudo afterburner-lab up --queues 4 -v      four queues each way; show the commands
  sudo afterburner-lab up --isolated         the daemon's end in a namespace of its own as well
  sudo afterburner-lab down                  remove it
"""

EXIT_CODES = (
    (EXIT_OK, "done, and all was as it should be"),
    (EXIT_DEGRADED, "done, but something was lost or wrong, or a benchmark missed its goal"),
    (EXIT_USAGE, "the command line makes no sense"),
    (EXIT_UNREACHABLE, "something needed is not there, or nobody answers"),
    (EXIT_PERMISSION, "permission denied"),
    (EXIT_CONFIG, "a file that was named cannot be used"),
)


def build_parser() -> Parser:
    parser = Parser(
        prog=PROG,
        description="A test rig on one machine (veth and namespaces), traffic for it, and the benchmarks.",
        epilog="exit codes:\n" + "\n".join(f"  {code:<4} {text}" for code, text in EXIT_CODES),
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], help_: str, epilog: str = "", within: object = None
    ) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = (within or commands).add_parser(  # type: ignore[attr-defined]
            name, help=help_, description=help_[0].upper() + help_[1:] + ".", epilog=epilog
        )
        made.set_defaults(run=run, parser=made)
        return made

    up = command("up", run_up, "make the rig, or bring it into shape", UP_EXAMPLES)
    down = command("down", run_down, "remove the rig", UP_EXAMPLES)
    for one in (up, down):
        one.add_argument("--name", default="afterburner", help="name of the rig (default: %(default)s)")
        one.add_argument("--isolated", action="store_true", help="the daemon's end lies in the namespace NAME-host")
        one.add_argument("-v", "--verbose", action="store_true", help="show the commands as they are run")
        one.add_argument("-j", "--json", action="store_true", help="what was made, as one JSON object")
    up.add_argument("--queues", type=int, default=1, metavar="N", help="queues each way (default: 1)")
    up.add_argument("--mtu", type=int, default=1500, metavar="BYTES", help="1280 to 9000 (default: 1500)")
    up.add_argument("--subnet", type=int, default=0, metavar="N", help="198.18.N.0/24: for several rigs (default: 0)")
    up.add_argument(
        "--threaded-napi", action="store_true", help="receive polls in kernel threads, not on the sender's core"
    )

    flood.add_arguments(command("flood", flood.run, "send UDP of one size at a chosen rate", flood.EXAMPLES))
    emit.add_arguments(command("emit", emit.run, "send real and broken Solana transactions", emit.EXAMPLES))

    probe.add_arguments(
        command("probe", probe.run, "measure one-way latency and loss of small messages", probe.EXAMPLES)
    )

    single = command("peer", run_help, "be one QUIC peer: our server, or our client, without a daemon", peer.EXAMPLES)
    single.add_argument("-j", "--json", action="store_true", help="events on standard output, an object a line")
    roles = single.add_subparsers(dest="role", metavar="ROLE", required=True)
    peer.add_server_arguments(command("server", peer.run_server, "listen", peer.EXAMPLES, roles))
    peer.add_client_arguments(
        command("client", peer.run_client, "dial, send, wait for the fate of it", peer.EXAMPLES, roles)
    )
    command("features", peer.run_features, "print what it can do, for tests, as one JSON object", within=roles)

    bench = command("bench", run_help, "measure")
    benches = bench.add_subparsers(dest="bench", metavar="BENCH", required=True)
    bench_raw.add_arguments(
        command(
            "raw",
            bench_raw.run,
            "measure the raw path against bare AF_XDP and UDP sockets",
            bench_raw.EXAMPLES,
            benches,
        )
    )
    bench_daemon.add_arguments(
        command(
            "daemon",
            bench_daemon.run,
            "measure what the daemon costs its host, and how soon it is back",
            bench_daemon.EXAMPLES,
            benches,
        )
    )
    bench_latency.add_arguments(
        command(
            "latency",
            bench_latency.run,
            "measure one-way latency over our QUIC against bare AF_XDP",
            bench_latency.EXAMPLES,
            benches,
        )
    )
    bench_tps.add_arguments(
        command(
            "tps",
            bench_tps.run,
            "measure transactions a second over our QUIC, delivered and acknowledged",
            bench_tps.EXAMPLES,
            benches,
        )
    )
    bench_handshake.add_arguments(
        command(
            "handshake",
            bench_handshake.run,
            "measure handshakes a second, adoption and memory of connections between two daemons",
            bench_handshake.EXAMPLES,
            benches,
        )
    )
    bench_xdp.add_arguments(
        command(
            "xdp",
            bench_xdp.run,
            "measure what the XDP program costs a frame, by what becomes of it",
            bench_xdp.EXAMPLES,
            benches,
        )
    )
    bench_crypto.add_arguments(
        command(
            "crypto",
            bench_crypto.run,
            "measure the protection of QUIC packets against libcrypto",
            bench_crypto.EXAMPLES,
            benches,
        )
    )
    bench_engine.add_arguments(
        command(
            "engine",
            bench_engine.run,
            "measure two QUIC engines back to back, without a network",
            bench_engine.EXAMPLES,
            benches,
        )
    )
    bench_decoder.add_arguments(
        command(
            "decoder",
            bench_decoder.run,
            "measure the transaction decoder against solders",
            bench_decoder.EXAMPLES,
            benches,
        )
    )

    demo.add_arguments(command("demo", demo.run, "show it all: rig, daemon, traffic, figures, summary"))
    return parser


def run_help(args: argparse.Namespace) -> int:
    raise AssertionError("a command is required below this one")


def run_up(args: argparse.Namespace) -> int:
    wanted = rig.plan(
        args.name,
        isolated=args.isolated,
        queues=args.queues,
        mtu=args.mtu,
        subnet=args.subnet,
        threaded_napi=args.threaded_napi,
    )
    made = rig.up(wanted, _trace(args))
    if args.json:
        print(msgspec.json.encode(wanted).decode())
    else:
        print(rig.describe(wanted, made))
    return 0


def run_down(args: argparse.Namespace) -> int:
    wanted = rig.plan(args.name, isolated=args.isolated)
    inside = rig.occupants(wanted)
    removed = rig.down(wanted, _trace(args))
    if args.json:
        print(msgspec.json.encode({"name": args.name, "removed": removed, "still_inside": inside}).decode())
        return 0
    print(f"rig {args.name!r} is removed" if removed else f"there is no rig {args.name!r}: nothing to do")
    if inside:
        print(f"still running, now without a network: process {', '.join(map(str, inside))}", file=sys.stderr)
    return 0


def _trace(args: argparse.Namespace) -> rig.Trace | None:
    return (lambda command: print(f"+ {command}", file=sys.stderr)) if args.verbose else None


def main(argv: Sequence[str] | None = None) -> int:
    def body() -> int:
        args = build_parser().parse_args(argv)
        with exits.unwinding():
            code: int = args.run(args)
        return code

    return run_tool(PROG, body)


if __name__ == "__main__":
    sys.exit(main())
