"""`afterburner-lab`: a test rig on one machine, traffic for it, and the benchmarks.

Reads arguments and hands over; what a command does stands in the module of its name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import msgspec

from .. import __version__
from ..cli import EXIT_CODES, Parser, run_tool
from . import emit, exits, flood, rig

PROG = "afterburner-lab"

UP_EXAMPLES = """\
examples:
  sudo afterburner-lab up                    afterburner0 here, lab0 in the namespace afterburner-lab
  sudo afterburner-lab up --queues 4 -v      four queues each way; show the commands
  sudo afterburner-lab up --isolated         the daemon's end in a namespace of its own as well
  sudo afterburner-lab down                  remove it
"""


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
    return parser


def run_up(args: argparse.Namespace) -> int:
    wanted = rig.plan(
        args.name,
        isolated=args.isolated,
        queues=args.queues,
        mtu=args.mtu,
        subnet=args.subnet,
        threaded_napi=args.threaded_napi,
    )
    with exits.unwinding():
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
        code: int = args.run(args)
        return code

    return run_tool(PROG, body)


if __name__ == "__main__":
    sys.exit(main())
