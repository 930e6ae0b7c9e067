"""`afterburnerctl dial`, `close`, `send`, `qlog`, `keylog`: what can be asked of the running daemon about its QUIC connections."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Literal

from afterburnerd.abi.control import (
    Accepted,
    CloseRequest,
    ControlClient,
    DialRequest,
    SendRequest,
    Traced,
    TraceRequest,
)
from afterburnerd.cli import EXIT_OK, EXIT_USAGE, ToolError
from afterburnerd.ctl.base import find_daemon, print_json

MESSAGE_MAX = 32_768  # bytes: in base64 it fits a request of the control socket


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
        answer = daemon.ask(SendRequest(connection=args.connection, data=data, datagram=args.datagram), Accepted)
    if args.datagram:
        _say(args, answer, f"DATAGRAM {answer.token} of {len(data)} bytes goes out, once")
    else:
        _say(args, answer, f"message {answer.token} of {len(data)} bytes waits for its acknowledgement")
    return EXIT_OK


def qlog(args: Namespace) -> int:
    return _trace(args, "qlog")


def keylog(args: Namespace) -> int:
    return _trace(args, "keylog")


def _trace(args: Namespace, kind: Literal["qlog", "keylog"]) -> int:
    who = tuple(args.connections)
    request = TraceRequest(
        kind=kind,
        on=args.switch == "on",
        connections=tuple(w for w in who if w not in ("all", "new")),
        every="all" in who,
        new="new" in who,
    )
    with ControlClient(find_daemon(args).run_dir) as daemon:
        answer = daemon.ask(request, Traced)
    if args.json:
        print_json(answer)
        return EXIT_OK
    print(
        "\n".join(answer.files) if answer.files else f"{kind} {args.switch}: {answer.connections} connections", end=""
    )
    print(f"{chr(10) if answer.files else ' '}and those to come" if request.new else "")
    return EXIT_OK


def _say(args: Namespace, answer: Accepted, text: str) -> None:
    if args.json:
        print_json(answer)
    else:
        print(text)
