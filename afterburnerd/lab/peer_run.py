"""A run of `afterburner-lab peer`: what is said and to whom, our identity, signals, and the end in order.

peer.py (arguments) ─► server, client ─► Host (peer_host.py) ◄─► Role (peer_roles.py) ─► Voice
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from aioquic.tls import CipherSuite
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ..cli import (
    EXIT_CONFIG,
    EXIT_DEGRADED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    ToolError,
)
from ..quic.accept import Limits
from ..quic.endpoint import Realm
from ..quic.front import FrontSettings
from ..quic.identity import Identity
from ..quic.params import Params
from ..quic.port import source_for
from ..quic.tickets import Ticket, TicketStore
from ..quic.tokens import Address
from . import cores, peer_session
from .peer_host import STREAM_BYTES, Host, Options
from .peer_roles import Client, Role, Server

CIPHERS = {
    "aes128": CipherSuite.AES_128_GCM_SHA256,
    "aes256": CipherSuite.AES_256_GCM_SHA384,
    "chacha20": CipherSuite.CHACHA20_POLY1305_SHA256,
}
RESERVED_VERSION = 0x1A2A3A4A  # RFC 9000 15: versions 0x?a?a?a?a exist to be refused
QLOG_BYTES = 64 << 20  # of one connection

# --- what is said -----------------------------------------------------------------------------------------------------


class JsonVoice:
    """One object a line."""

    def say(self, event: str, **fields: Any) -> None:
        sys.stdout.write(msgspec.json.encode({"event": event, **fields}).decode() + "\n")
        sys.stdout.flush()

    def trouble(self, text: str) -> None:
        print(f"afterburner-lab peer: {text}", file=sys.stderr, flush=True)


class HumanVoice(JsonVoice):
    """Lines for a person; single streams are the progress bar's business."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.began = time.monotonic()

    def say(self, event: str, **fields: Any) -> None:
        text = getattr(self, f"_{event}", lambda **_: "")(**fields)
        if text:
            print(text, flush=True)

    def _ready(self, port: int) -> str:
        return f"listening on port {port} ({self.where}); Ctrl-C ends"

    def _connected(self, conn: int, resumed: bool, early_data: bool, cipher: str, **_: Any) -> str:
        extras = [text for yes, text in ((resumed, "resumed"), (early_data, "early data accepted")) if yes]
        return f"connection {conn}: {', '.join([cipher, *extras])} ({self.where})"

    def _version_negotiation(self, conn: int, offered: list[int]) -> str:
        return f"connection {conn}: the server offers version {', '.join(f'{v:#x}' for v in offered)}"

    def _key_update(self, conn: int) -> str:
        return f"connection {conn}: we have updated our keys"

    def _rebound(self, conn: int, port: int) -> str:
        return f"connection {conn}: goes on from port {port}"

    def _closed(self, conn: int, code: int, reason: str, application: bool, by: str) -> str:
        kind = "application" if application else "transport"
        return f"connection {conn}: closed, {by}, {kind} code {code:#x}" + (f" ({reason})" if reason else "")

    def _summary(self, streams: int, bytes: int, datagrams: int, acked: int) -> str:
        seconds = max(time.monotonic() - self.began, 1e-9)
        return (
            f"{streams} streams ({bytes:,} bytes) and {datagrams} datagrams received, {acked} streams acknowledged, "
            f"in {seconds:.2f} s"
        )


@contextlib.contextmanager
def progress(role: Role, total: int | None, quiet: bool) -> Iterator[Callable[[], None]]:
    """A bar on a terminal; to be called now and then."""
    if quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("peer", total=total, said="")

        def watch() -> None:
            sums = role.sums
            bars.update(task, completed=sums.acked, said=f"{sums.acked:,} acknowledged, {sums.streams:,} received")

        yield watch


# --- a run ------------------------------------------------------------------------------------------------------------


class Tickets(TicketStore):
    """Tells of each that comes."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: Callable[[], None] = lambda: None
        self.latest: Ticket | None = None

    def put(self, server: Address, name: str, ticket: Ticket) -> None:
        super().put(server, name, ticket)
        self.latest = ticket
        self.heard()


def server(args: argparse.Namespace) -> int:
    limits = Limits(
        handshakes=args.connections,
        handshakes_per_source=args.connections,
        connections=args.connections,
        retry="always" if args.retry else "never",
    )
    options = _options(args, args.listen, connections=args.connections)
    voice = _voice(args)
    role = Server(args, voice)

    async def body(host: Host) -> int:
        voice.say("ready", port=host.port.local[1])
        await role.over.wait()
        await host.stop("")
        return EXIT_OK

    return asyncio.run(_run(args, options, limits, role, Realm(os.urandom(32)), body, None))


def client(args: argparse.Namespace) -> int:
    try:
        local = str(ipaddress.ip_address(args.bind)) if args.bind else source_for(args.connect[0])
    except ValueError:
        raise ToolError(f"--bind {args.bind}: not an address", EXIT_USAGE) from None
    except OSError as error:
        raise ToolError(f"no way to {args.connect[0]}: {error.strerror}", EXIT_UNREACHABLE) from None
    options = _options(args, (local, 0), connections=4)
    role = Client(args, _voice(args))
    realm = Realm(os.urandom(32))
    tickets = realm.tickets = Tickets()
    if args.resume and (ticket := peer_session.load(args.resume)) is not None:
        tickets.put(args.connect, ticket.session.server_name, ticket)
        tickets.latest = None
    tickets.heard = role.session

    async def body(host: Host) -> int:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, role.go_on)
        return await role.run()

    code = asyncio.run(_run(args, options, None, role, realm, body, args.streams * args.count))
    if args.resume and tickets.latest is not None:
        peer_session.save(args.resume, tickets.latest)
    return EXIT_INTERRUPTED if role.stopping else code


async def _run(
    args: argparse.Namespace,
    options: Options,
    limits: Limits | None,
    role: Role,
    realm: Realm,
    body: Callable[[Host], Awaitable[int]],
    total: int | None,
) -> int:
    """A signal ends it in order: connections are closed, and what was made on the interface goes."""
    loop = asyncio.get_running_loop()
    for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(which, role.stop)
    with contextlib.ExitStack() as held:
        settings = _settings(args, held)
        async with Host(options, realm, settings, limits, role) as host:
            role.host = host
            if args.qlog:
                host.trace(args.qlog, QLOG_BYTES)
            turning = asyncio.create_task(host.run(), name="turns")
            turning.add_done_callback(lambda task: None if task.cancelled() else role.stop())
            try:
                with progress(role, total, _is_json(args)) as watch:
                    watching = asyncio.create_task(_watch(watch))
                    try:
                        code = await body(host)
                    finally:
                        watching.cancel()
            finally:
                turning.cancel()
            if host.closed_by_plane:
                raise ToolError(f"the data plane is gone: {host.closed_by_plane}", EXIT_UNREACHABLE)
            if turning.done() and not turning.cancelled() and (error := turning.exception()) is not None:
                raise error
    sums = role.sums
    role.voice.say("summary", streams=sums.streams, bytes=sums.bytes, datagrams=sums.datagrams, acked=sums.acked)
    if host.lost:
        role.voice.trouble(
            f"{host.lost} pieces of data came faster than they were read and are missing above: --quiet with --max-bidi 0 "
            "counts without reading"
        )
        return code or EXIT_DEGRADED
    return code


async def _watch(watch: Callable[[], None]) -> None:
    while True:
        watch()
        await asyncio.sleep(0.1)


def _is_json(args: argparse.Namespace) -> bool:
    return bool(getattr(args, "json", False))


def _voice(args: argparse.Namespace) -> JsonVoice:
    return JsonVoice() if _is_json(args) else HumanVoice(args.backend)


def _options(args: argparse.Namespace, local: Address, connections: int) -> Options:
    counted = args.quiet and args.max_bidi == 0 and args.key_update_after is None
    wanted = (
        getattr(args, "close_after", None) is not None or getattr(args, "expect", False) or getattr(args, "bidi", False)
    )
    return Options(
        local=local,
        backend=args.backend,
        interface=args.interface,
        cpu=-1 if args.cpu is None else cores.check(args.cpu),
        connections=connections,
        uni=args.max_uni,
        bidi=args.max_bidi,
        records=not counted or bool(wanted),
    )


def _settings(args: argparse.Namespace, held: contextlib.ExitStack) -> FrontSettings:
    chosen = FrontSettings(
        identity=_identity(args.cert, args.key),
        params=Params(
            max_idle_timeout_ms=args.idle,
            max_stream_data_bidi_local=STREAM_BYTES,
            max_stream_data_bidi_remote=STREAM_BYTES,
            max_stream_data_uni=STREAM_BYTES,
            max_streams_uni=args.max_uni,
            max_streams_bidi=args.max_bidi,
        ),
        alpn=(args.alpn,),
    )
    if args.cipher:
        chosen = msgspec.structs.replace(chosen, cipher_suites=(CIPHERS[args.cipher],))
    if getattr(args, "version_negotiation", False):
        chosen = msgspec.structs.replace(chosen, first_version=RESERVED_VERSION)
    if args.keylog:
        try:
            file = held.enter_context(
                os.fdopen(os.open(args.keylog, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "w", 1)
            )
        except OSError as error:
            raise ToolError(f"--keylog {args.keylog}: {error.strerror}", EXIT_CONFIG) from None

        def tell(line: str) -> None:
            file.write(line if line.endswith("\n") else line + "\n")

        chosen = msgspec.structs.replace(chosen, tell_secrets=tell)
    return chosen


def _identity(cert: Path | None, key: Path | None) -> Identity:
    if cert is None and key is None:
        return Identity.generate()
    if cert is None or key is None:
        raise ToolError("--cert and --key: both, or neither", EXIT_USAGE)
    try:
        certificate = x509.load_pem_x509_certificate(cert.read_bytes())
        secret = load_pem_private_key(key.read_bytes(), None)
    except OSError as error:
        raise ToolError(f"{error.filename}: {error.strerror}", EXIT_CONFIG) from None
    except (ValueError, TypeError) as error:
        raise ToolError(f"--cert {cert}, --key {key}: not PEM that can be read: {error}", EXIT_CONFIG) from None
    if not isinstance(secret, Ed25519PrivateKey):
        raise ToolError(f"--key {key}: not an Ed25519 key", EXIT_CONFIG)
    if secret.public_key() != certificate.public_key():
        raise ToolError(f"--key {key}: not the key of {cert}", EXIT_CONFIG)
    return Identity(secret, certificate)
