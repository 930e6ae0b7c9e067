"""`afterburnerctl connections`, `dial`, `close`, `send`: QUIC connections of the running daemon.

The supervisor knows who is connected to whom and what waits; figures of the connections themselves (round trip, window, loss)
are the data plane's and stand in the statistics.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from rich.table import Table
from rich.text import Text

from afterburnerd.abi.control import (
    Accepted,
    CloseRequest,
    Connections,
    ConnectionsRequest,
    ConnectionStatus,
    ControlClient,
    DialRequest,
    SendRequest,
)
from afterburnerd.cli import EXIT_OK, EXIT_USAGE, ToolError
from afterburnerd.ctl import units
from afterburnerd.ctl.base import console, find_daemon, print_json

MESSAGE_MAX = 32_768  # bytes: in base64 it fits a request of the control socket
STATE_STYLES = {"open": "green", "paused": "yellow", "dialling": "yellow", "closed": "dim"}


def connections(args: Namespace) -> int:
    """Who is connected to whom."""
    with ControlClient(find_daemon(args).run_dir) as daemon:
        answer = daemon.ask(ConnectionsRequest(), Connections)
    if args.json:
        print_json(answer)
    else:
        show(answer)
    return EXIT_OK


def dial(args: Namespace) -> int:
    request = DialRequest(
        name=args.connection, address=args.address, port=args.port, server_name=args.server_name, pin=args.pin
    )
    with ControlClient(find_daemon(args).run_dir) as daemon:
        answer = daemon.ask(request, Accepted)
    _say(args, answer, f"{args.connection} is being dialled; `afterburnerctl connections` shows how it does")
    return EXIT_OK


def close(args: Namespace) -> int:
    request = CloseRequest(connection=args.connection, code=args.code, reason=args.reason)
    with ControlClient(find_daemon(args).run_dir) as daemon:
        answer = daemon.ask(request, Accepted)
    _say(args, answer, f"{args.connection} is being closed")
    return EXIT_OK


def send(args: Namespace) -> int:
    """One message: a file, or what comes on standard input."""
    try:
        data = Path(args.file).read_bytes() if args.file != "-" else sys.stdin.buffer.read()
    except OSError as error:
        raise ToolError(f"{args.file}: {error.strerror}", EXIT_USAGE) from None
    if not 0 < len(data) <= MESSAGE_MAX:
        raise ToolError(f"{len(data)} bytes: a message has 1 to {MESSAGE_MAX}", EXIT_USAGE)
    with ControlClient(find_daemon(args).run_dir) as daemon:
        answer = daemon.ask(SendRequest(connection=args.connection, data=data), Accepted)
    _say(args, answer, f"message {answer.token} of {len(data)} bytes waits for its acknowledgement")
    return EXIT_OK


def _say(args: Namespace, answer: Accepted, text: str) -> None:
    if args.json:
        print_json(answer)
    else:
        print(text)


def show(answer: Connections) -> None:
    out = console()
    if answer.connections:
        out.print(table(answer.connections))
    else:
        out.print("no connection")
    for listener in answer.listeners:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(listener.counts.items())) or "nothing yet"
        out.print(Text(f"listening: {listener.name} on {place(listener.address, listener.port)}: {counts}"))
    for name, why in answer.trouble.items():
        out.print(Text(f"not listening: {name}: {why}", style="bold red"))


def table(rows: tuple[ConnectionStatus, ...]) -> Table:
    found = Table(box=None, pad_edge=False, header_style="dim")
    for title, justify in (
        ("number", "right"), ("name", "left"), ("role", "left"), ("state", "left"), ("peer", "left"), ("identity", "left"),
        ("by", "left"), ("worker", "right"), ("waiting", "right"), ("age", "right"),
    ):  # fmt: skip
        found.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in sorted(rows, key=lambda r: (r.number == 0, r.number, r.name)):
        found.add_row(
            str(row.number or "-"),
            Text(row.name or "-"),
            row.role,
            Text(row.state, style=STATE_STYLES.get(row.state, "")),
            Text(place(row.address, row.port)),
            Text(row.identity or "-"),
            row.io or "-",
            str(row.worker) if row.worker >= 0 else "-",
            str(row.waiting),
            units.age(row.age * 1e9) if row.number else "-",
        )
    return found


def place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
