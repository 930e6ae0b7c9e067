"""The parser of afterburnerctl, and which command does what.

A command is a module with `run(args) -> exit code`; it is imported when it is called. Options that all commands know
stand on both sides of the command (`afterburnerctl -j status`, `afterburnerctl status -j`).
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

from afterburnerd import __version__
from afterburnerd.cli import EXIT_CODES, Parser, ToolError, run_tool
from afterburnerd.ctl import doctor

PROG = "afterburnerctl"
DESCRIPTION = "Look at the running Afterburner, change its configuration, examine the machine."


EXAMPLES = """\
examples:
  afterburnerctl status                             is it well?
  afterburnerctl top --interval 0.5                 watch it
  afterburnerctl inspect --program vote --count 10  ten votes as they come in
  afterburnerctl inspect -j --rule tpu | jq .size   sizes of what one rule takes
  afterburnerctl config diff                        what would a reload do?
  sudo afterburnerctl trace                         what does the kernel drop, and why?
  afterburnerctl connections                        who is connected to whom?
  afterburnerctl connections --watch --sort lost    which of them lose packets?
  afterburnerctl send leader transaction.bin        one message, on a stream of its own
"""


# What a connection can be in: a worker's word, the supervisor's on what no worker has yet, that of a name without a connection.
STATES_SHOWN = (
    *("handshake", "open", "closing", "draining"),
    *("held", "exported", "installed", "routed", "injected", "confirmed"),
    *("idle", "dialling", "paused", "closed"),
)


def build_parser() -> Parser:
    """The whole command line. Completion scripts and the manual page are generated from it."""
    codes = "\n".join(f"  {code:3}  {text}" for code, text in EXIT_CODES)
    parser = Parser(prog=PROG, description=DESCRIPTION, epilog=f"exit codes:\n{codes}\n\n{EXAMPLES}")
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    _common(parser, default=None, json=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    _command(commands, "status", "show how the daemon does", "status")
    top = _command(commands, "top", "watch workers, queues and latency live", "top")
    _interval(top, "top")
    stats = _command(commands, "stats", "print every figure of the statistics", "stats")
    stats.add_argument("pattern", metavar="PATTERN", nargs="*", help="only figures whose name contains one of these")
    stats.add_argument("--nonzero", action="store_true", help="leave out counters that are 0")

    _inspect(_command(commands, "inspect", "show transactions as they arrive", "inspect"))

    reload = _command(commands, "reload", "apply the configuration: whole, or not at all", "reload")
    reload.add_argument(
        "--timeout",
        type=_positive,
        default=60.0,
        metavar="SECONDS",
        help="how long to wait for the result (default: 60)",
    )

    config = _command(commands, "config", "show, check and compare the configuration", None)
    actions = config.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = _command(actions, "show", "print the configuration and where each value comes from", "settings:show")
    show.add_argument("--running", action="store_true", help="that of the running daemon instead of the files'")
    show.add_argument("--changed", action="store_true", help="only what differs from the defaults")
    _command(actions, "check", "check the files; tell everything that is wrong with them", "settings:check")
    _command(actions, "diff", "show what a reload would change, and what it would cost", "settings:compare")

    _trace(_command(commands, "trace", "show what the kernel drops on the way, and why", "trace"))
    _quic(commands)

    doctor.add_arguments(_command(commands, "doctor", "examine machine and device, say what to change", "doctor"))
    return parser


def _common(parser: argparse.ArgumentParser, *, default: Any, json: Any) -> None:
    group = parser.add_argument_group("which daemon, which form")
    group.add_argument("--config", metavar="FILE", default=default, help="configuration file of the daemon")
    group.add_argument("--run-dir", metavar="DIR", default=default, help="its run directory, whatever the file says")
    group.add_argument("--name", metavar="NAME", default=default, help="its name, whatever the file says")
    group.add_argument("-j", "--json", action="store_true", default=json, help="print JSON")


def _command(commands: Any, name: str, text: str, module: str | None) -> Parser:
    parser: Parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    _common(parser, default=argparse.SUPPRESS, json=argparse.SUPPRESS)
    parser.set_defaults(parser=parser)
    if module:
        parser.set_defaults(module=module)
    return parser


def _interval(parser: Parser, what: str) -> None:
    parser.add_argument(
        "--interval", type=_positive, default=1.0, metavar="SECONDS", help="time between two views (default: 1)"
    )
    parser.add_argument("--count", type=_count, metavar="N", help=f"end {what} after this many views")


def _inspect(parser: Parser) -> None:
    parser.description = "Show transactions as they arrive. Filters of different kinds must all match; of one kind given several times, one."
    add = parser.add_argument_group("filters").add_argument
    add("--signature", action="append", metavar="BASE58", help="a signature, or the beginning of one")
    add(
        "--program",
        action="append",
        metavar="BASE58",
        help="a program that an instruction calls (or a name: vote, token...)",
    )
    add("--account", action="append", metavar="BASE58", help="an account or lookup table that it names")
    add("--rule", action="append", metavar="NAME", help="the capture rule that took it (name or index)")
    add(
        "--source",
        action="append",
        metavar="ADDRESS",
        help="source: an address, a network (10.0.0.0/8), or either:port",
    )
    add("--min-size", type=_count, metavar="BYTES", help="at least this large")
    add("--max-size", type=_count, metavar="BYTES", help="at most this large")
    add("--malformed", action="store_true", help="only what is no transaction, with the reason")
    parser.add_argument("--count", type=_count, metavar="N", help="end after this many")
    parser.add_argument("--for", dest="seconds", type=_positive, metavar="SECONDS", help="end after this time")
    parser.add_argument("--history", action="store_true", help="begin with what the rings still hold")
    parser.add_argument("--wait", action="store_true", help="wait for a daemon that does not run yet")
    parser.add_argument("--full", action="store_true", help="show all accounts and instructions of each")


def _trace(parser: Parser) -> None:
    parser.description = (
        "Show what the kernel drops on the way to the daemon, as it happens: frames that found no AF_XDP socket or no room in "
        "its ring, XDP programs that failed, datagrams to our ports that the kernel's stack dropped, with its reason. Needs "
        "root, python3-bpfcc and the kernel's headers."
    )
    parser.add_argument("--interface", metavar="DEV", help='the device, or "all" (default: that of the configuration)')
    parser.add_argument(
        "--port",
        action="append",
        type=_port,
        metavar="N",
        help="a UDP port whose dropped datagrams are shown (default: those of capture rules and listeners)",
    )
    parser.add_argument("--count", type=_count, metavar="N", help="end after this many")
    parser.add_argument("--for", dest="seconds", type=_positive, metavar="SECONDS", help="end after this time")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 1 to 65535")
    return int(text)


def _quic(commands: Any) -> None:
    _connections(_command(commands, "connections", "show QUIC connections and listeners", "connections"))
    dial = _command(commands, "dial", "dial a QUIC server, and keep the connection until it is closed", "quic:dial")
    dial.add_argument("connection", metavar="NAME", help="what to call it")
    dial.add_argument("address", metavar="ADDRESS", help="IPv4 or IPv6 address")
    dial.add_argument("port", metavar="PORT", type=_port, help="UDP port")
    dial.add_argument("--server-name", metavar="NAME", default="", help="SNI (default: ADDRESS.PORT.sol)")
    dial.add_argument("--pin", metavar="BASE58", default="", help="public key that the server must have")
    close = _command(commands, "close", "close a QUIC connection", "quic:close")
    close.add_argument("connection", metavar="NAME|NUMBER", help="as `connections` shows it")
    close.add_argument("--code", metavar="N", type=int, default=0, help="application error code (default: 0)")
    close.add_argument("--reason", metavar="TEXT", default="", help="reason phrase")
    for kind, text in (
        ("qlog", "write what QUIC connections do into files, for tools that read qlog"),
        ("keylog", "write the keys of QUIC connections into files, for Wireshark"),
    ):
        trace = _command(commands, kind, text, f"quic:{kind}")
        trace.add_argument("switch", choices=("on", "off"), metavar="on|off", help="begin, or end")
        trace.add_argument(
            "connections",
            metavar="WHO",
            nargs="+",
            help="names or numbers, as `connections` shows them; all: those that there are; new: those to come",
        )
    send = _command(
        commands, "send", "send one message on a QUIC connection, on a stream of its own or in a DATAGRAM", "quic:send"
    )
    send.add_argument(
        "-d",
        "--datagram",
        action="store_true",
        help="in a DATAGRAM frame: not repeated where it is lost, at most 1155 bytes or what `connections --full` shows",
    )
    send.add_argument("connection", metavar="NAME", help="as `connections` shows it")
    send.add_argument("file", metavar="FILE", nargs="?", default="-", help="its bytes (default: standard input)")


def _connections(parser: Parser) -> None:
    parser.description = (
        "Show QUIC connections and listeners. Figures come from shared memory: they are there when the daemon does not answer "
        "as well, and of one that is dead."
    )
    add = parser.add_argument_group("which, and in which order").add_argument
    add(
        "--peer",
        action="append",
        metavar="WHO",
        help="an address, a network (10.0.0.0/8), either:port, or the beginning of a name or identity",
    )
    add("--role", choices=("client", "server"), help="those that we dialled, or that we accepted")
    add(
        "--state",
        action="append",
        metavar="STATE",
        choices=STATES_SHOWN,
        help="handshake, open, closing, draining; idle, dialling, paused; held to confirmed: steps of an adoption",
    )
    add(
        "--sort",
        default="number",
        metavar="WHAT",
        choices=("number", "name", "peer", "age", "rtt", "cwnd", "in-flight", "lost", "resent", "sent", "received"),
        help="number, name, peer, age, rtt, cwnd, in-flight, lost, resent, sent or received (default: number)",
    )
    add("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--full", action="store_true", help="everything about each, instead of one line")
    parser.add_argument("--watch", action="store_true", help="again and again, until q")
    _interval(parser, "watching")


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return run_tool(PROG, lambda: _main(argv))


def _main(argv: list[str] | None) -> int:
    args = build_parser().parse_args(argv)
    from afterburnerd.abi.control import ControlError
    from afterburnerd.config import ConfigError

    module, _, function = args.module.partition(":")
    command = getattr(importlib.import_module(f"afterburnerd.ctl.{module}"), function or "run")
    try:
        return int(command(args))
    except ControlError as error:
        raise ToolError(str(error), error.exit_code) from None
    except ConfigError as error:
        lines = "\n  ".join(str(p) for p in error.problems)
        raise ToolError(f"the configuration cannot be used:\n  {lines}", error.exit_code) from None


if __name__ == "__main__":
    sys.exit(main())
