"""`afterburner-lab peer`: our own QUIC server or client, by itself, for tests and measurements against any engine.

The engine, its data plane and the handshakes are the daemon's (peer_host.py); what is said and done is what every peer of the
interop tests says and does (tests/interop/peers/README.md: options, events, payload), so the same test drives ours and others.
`--json` prints events, one object a line; without it there is a progress bar, and lines for a person.

Here are the arguments; peer_run.py carries them out, and is imported only then (aioquic and rtnetlink take half a second).
"""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Callable
from pathlib import Path

import msgspec

from .. import __version__
from ..cli import EXIT_OK

EXAMPLES = """\
examples:
  afterburner-lab peer server --listen 127.0.0.1:4433
  afterburner-lab peer client --connect 127.0.0.1:4433 --streams 1000 --size 235
  sudo afterburner-lab peer server --listen 198.18.0.1:8009 --backend afxdp
  afterburner-lab peer client --connect 192.0.2.7:8009 --count 2 --zero-rtt --streams 3 --json
"""
CIPHERS = ("aes128", "aes256", "chacha20")
# Beside these every peer of the contract has --listen or --connect, --cert and --key.
BOTH = ("alpn", "cipher", "max-uni", "max-bidi", "idle", "keylog", "qlog", "key-update-after", "quiet")
SERVER = ("retry", "echo", "push", "push-size", "close-after", "close-code")
CLIENT = (
    "streams", "size", "bidi", "expect", "datagrams", "count", "zero-rtt", "resume", "rebind-after",
    "version-negotiation", "bind", "interval", "hold", "wait", "timeout",
)  # fmt: skip


class Features(msgspec.Struct, frozen=True):
    """What `peer features` prints."""

    engine: str = "afterburner"
    version: str = __version__
    certificate: str = "ed25519"
    acked: bool = True
    ciphers: tuple[str, ...] = CIPHERS
    server: tuple[str, ...] = BOTH + SERVER
    client: tuple[str, ...] = BOTH + CLIENT


# --- arguments --------------------------------------------------------------------------------------------------------


def endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        if not 0 <= int(port) <= 65535:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: write ADDRESS:PORT, 192.0.2.7:8009 or [2001:db8::7]:8009"
        ) from None
    return str(address), int(port)


def number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r}: a number from {least} to {most}")
        return value

    return parse


AMOUNT, MILLISECONDS, SIZE = number(0, 1 << 40), number(0, 86_400_000), number(0, 1 << 30)
STREAMS_OPEN = number(0, 16_384)


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen", type=endpoint, required=True, metavar="ADDR:PORT", help="where to listen; port 0: any that is free"
    )
    add_common_arguments(parser)
    parser.add_argument("--retry", action="store_true", help="demand a token of every new client")
    parser.add_argument(
        "--echo", action="store_true", help="send bidirectional streams back (otherwise their other half ends empty)"
    )
    parser.add_argument(
        "--push", type=AMOUNT, default=0, metavar="N", help="open N streams to each client (default: 0)"
    )
    parser.add_argument(
        "--push-size", type=SIZE, default=17, metavar="BYTES", help="of such a stream (default: %(default)s)"
    )
    parser.add_argument(
        "--close-after", type=AMOUNT, metavar="N", help="close a connection after N streams (default: never)"
    )
    parser.add_argument(
        "--close-code", type=AMOUNT, default=5, metavar="CODE", help="with this application code (default: %(default)s)"
    )
    parser.add_argument(
        "--connections", type=number(1, 65536), default=256, metavar="N", help="at a time (default: %(default)s)"
    )


def add_client_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connect", type=endpoint, required=True, metavar="ADDR:PORT", help="the server")
    add_common_arguments(parser)

    def amount(option: str, default: int, what: str, kind: Callable[[str], int] = AMOUNT, metavar: str = "N") -> None:
        parser.add_argument(option, type=kind, default=default, metavar=metavar, help=f"{what} (default: {default})")

    amount("--streams", 1, "streams to open")
    amount("--size", 235, "of a stream and of a DATAGRAM", SIZE, "BYTES")
    parser.add_argument("--bidi", action="store_true", help="bidirectional streams (otherwise unidirectional)")
    amount("--expect", 0, "streams of the server to wait for")
    amount("--datagrams", 0, "DATAGRAM frames to send")
    amount(
        "--count", 1, "connections, one after the other; those after the first resume the session", number(1, 1 << 20)
    )
    parser.add_argument("--zero-rtt", action="store_true", help="send streams as early data where a session is resumed")
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="keep the session in FILE: resume from it where it exists"
    )
    parser.add_argument(
        "--rebind-after", type=AMOUNT, metavar="N", help="go on from another port, as behind a NAT, after N streams"
    )
    parser.add_argument("--version-negotiation", action="store_true", help="begin with a version that does not exist")
    parser.add_argument("--bind", metavar="ADDR", help="local address (default: the kernel's choice)")
    amount("--interval", 0, "pause between two streams", MILLISECONDS, "MS")
    amount("--hold", 0, "stay connected so long when everything is done", MILLISECONDS, "MS")
    parser.add_argument("--wait", action="store_true", help="stay connected until SIGUSR2 when everything is done")
    amount("--timeout", 20_000, "give up after so long", number(1, 86_400_000), "MS")


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        choices=("afxdp", "socket"),
        default="socket",
        help="by what packets come and go; afxdp takes root (default: %(default)s)",
    )
    parser.add_argument(
        "--interface", default="", metavar="DEV", help="for AF_XDP (default: that of the local address)"
    )
    parser.add_argument(
        "--cpu",
        type=int,
        metavar="N",
        help="pin the data plane to this CPU, where it spins (default: it sleeps when idle)",
    )
    parser.add_argument("--cert", type=Path, metavar="FILE", help="our certificate, PEM (default: made for this run)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="its Ed25519 key, PEM")
    parser.add_argument("--alpn", default="solana-tpu", metavar="NAME", help="(default: %(default)s)")
    parser.add_argument("--cipher", choices=CIPHERS, help="the only one that is offered or accepted (default: all)")
    for option, what in (("--max-uni", "unidirectional"), ("--max-bidi", "bidirectional")):
        parser.add_argument(
            option, type=STREAMS_OPEN, default=128, metavar="N",
            help=f"{what} streams that the other side may have open (default: %(default)s)",
        )  # fmt: skip
    parser.add_argument(
        "--idle", type=MILLISECONDS, default=30_000, metavar="MS", help="idle timeout (default: %(default)s)"
    )
    parser.add_argument("--keylog", type=Path, metavar="FILE", help="append TLS secrets to FILE, as SSLKEYLOGFILE does")
    parser.add_argument("--qlog", type=Path, metavar="DIR", help="write a qlog of each connection into DIR")
    parser.add_argument(
        "--key-update-after", type=AMOUNT, metavar="N", help="update keys once, after N streams (default: never)"
    )
    parser.add_argument(
        "--quiet", action="store_true", help="no event for a single stream, datagram or acknowledgement: the sums only"
    )
    # Here and in front of `server` and `client`: what stands there must not be put out again by what is missing here.
    parser.add_argument(
        "-j",
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help="events on standard output, an object a line",
    )


# --- commands ---------------------------------------------------------------------------------------------------------


def run_features(args: argparse.Namespace) -> int:
    print(msgspec.json.encode(Features()).decode())
    return EXIT_OK


def run_server(args: argparse.Namespace) -> int:
    from . import peer_run

    return peer_run.server(args)


def run_client(args: argparse.Namespace) -> int:
    from . import peer_run

    return peer_run.client(args)
