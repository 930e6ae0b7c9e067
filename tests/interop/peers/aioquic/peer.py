"""The peer around aioquic: Python, and the engine that shakes hands for our own.

    datagrams -> QuicServer (asyncio) -> Connection (ours): events -> JSON lines
                                            |
                                            +-> what the command line asks for: streams, key update, rebinding, ..

aioquic offers what we need but for some things, which are reached through private names of the pinned version: asking
clients for their certificate, stream limits, refusing early data, and telling who closed a connection.
Contract: ../README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import hashlib
import json
import pickle
import signal
import ssl
import struct
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from aioquic import __version__ as VERSION
from aioquic import tls
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.buffer import Buffer
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.logger import QuicFileLogger
from aioquic.tls import CipherSuite, SessionTicket
from cryptography.hazmat.primitives.serialization import Encoding

CIPHERS = {
    "aes128": CipherSuite.AES_128_GCM_SHA256,
    "aes256": CipherSuite.AES_256_GCM_SHA384,
    "chacha20": CipherSuite.CHACHA20_POLY1305_SHA256,
}
QUIC_V1 = 1
RESERVED_VERSION = 0x1A2A3A4A  # RFC 9000 15: versions 0x?a?a?a?a exist to be refused
WAIT = 3600.0  # seconds: until the test has lost its patience
DATAGRAM_MAX = 65535  # bytes: as RFC 9221 3 recommends
BOTH = ["alpn", "cipher", "max-uni", "max-bidi", "idle", "keylog", "qlog", "key-update-after", "quiet"]
PROBE = struct.Struct("<BQQ")
SERVER = ["retry", "zero-rtt", "echo", "push", "push-size", "probe-every", "close-after", "close-code"]
CLIENT = "streams size bidi expect datagrams count zero-rtt resume rebind-after version-negotiation bind interval hold wait timeout"
FEATURES = {
    "engine": "aioquic",
    "version": VERSION,
    "certificate": "ed25519",
    "acked": True,
    "ciphers": list(CIPHERS),
    "server": BOTH + SERVER,
    "client": BOTH + CLIENT.split(),
}


def payload(index: int, size: int) -> bytes:
    return (hashlib.sha256(index.to_bytes(8, "big")).digest() * (size // 32 + 1))[:size]


def say(event: str, **fields: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


class Sums:
    """What the summary says."""

    def __init__(self) -> None:
        self.streams = self.bytes = self.datagrams = self.acked = 0


class Connection(QuicConnectionProtocol):
    """One connection of either role: turns events of the engine into lines, and does what every role may be asked for."""

    def __init__(self, quic: QuicConnection, args: argparse.Namespace, number: int, sums: Sums, **_: Any) -> None:
        super().__init__(quic)
        self.args, self.number, self.sums = args, number, sums
        self.received: dict[int, bytearray] = {}
        self.sent: collections.deque[int] = collections.deque()  # streams whose acknowledgement is still to come
        self.delivered = 0  # streams, received here or acknowledged there
        self.connected = False
        self.updated = False
        self.by = "idle"
        self.changed = asyncio.Event()  # set whenever something above changed
        begin = quic._close_begin

        def close_begin(is_initiator: bool, now: float) -> None:
            self.by = "local" if is_initiator else "peer"
            begin(is_initiator=is_initiator, now=now)

        quic._close_begin = close_begin  # type: ignore[method-assign]
        for limit, value in (
            (quic._local_max_streams_uni, args.max_uni),
            (quic._local_max_streams_bidi, args.max_bidi),
        ):
            limit.value = limit.sent = value

    def transmit(self) -> None:
        """Sends, and then takes the events that sending made: a connection ID that was just issued has to be known before
        a packet to it arrives, but aioquic's own server takes events only after it has received something."""
        super().transmit()
        if self._quic._events:
            self._process_events()

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        super().datagram_received(data, addr)
        while self.sent and self._acknowledged(self.sent[0]):
            stream = self.sent.popleft()
            self.sums.acked += 1
            if not self.args.quiet:
                say("acked", conn=self.number, id=stream)
            self.count()

    def _acknowledged(self, stream: int) -> bool:
        state = self._quic._streams.get(stream)
        return state is None or state.sender.is_finished

    def count(self) -> None:
        self.delivered += 1
        if self.args.key_update_after is not None and self.delivered >= self.args.key_update_after and not self.updated:
            self.updated = True
            self.request_key_update()
            say("key_update", conn=self.number)
        self.changed.set()

    def send(self, data: bytes, uni: bool) -> int:
        stream = self._quic.get_next_available_stream_id(is_unidirectional=uni)
        self._quic.send_stream_data(stream, data, end_stream=True)
        self.sent.append(stream)
        return stream

    def quic_event_received(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.HandshakeCompleted):
            self.connected = True
            shaken = self._quic.tls
            cipher = shaken.key_schedule.cipher_suite if shaken.key_schedule else None
            peer = shaken._peer_certificate
            say(
                "connected",
                conn=self.number,
                resumed=event.session_resumed,
                early_data=event.early_data_accepted,
                cipher=next((name for name, suite in CIPHERS.items() if suite == cipher), None),
                version=self._quic._version,
                alpn=event.alpn_protocol,
                certificate=hashlib.sha256(peer.public_bytes(Encoding.DER)).hexdigest() if peer else None,
            )
            self.shaken()
        elif isinstance(event, events.StreamDataReceived):
            data = self.received.setdefault(event.stream_id, bytearray())
            data += event.data
            if event.end_stream:
                self.whole(event.stream_id, bytes(self.received.pop(event.stream_id)))
        elif isinstance(event, events.DatagramFrameReceived):
            self.sums.datagrams += 1
            if not self.args.quiet:
                say("datagram", conn=self.number, bytes=len(event.data), sha256=hashlib.sha256(event.data).hexdigest())
        elif isinstance(event, events.ConnectionTerminated):
            application = event.frame_type is None
            by = "version" if "common protocol version" in event.reason_phrase else self.by
            say("closed", conn=self.number, code=event.error_code, reason=event.reason_phrase, application=application, by=by)  # fmt: skip
        self.changed.set()

    def whole(self, stream: int, data: bytes) -> None:
        self.sums.streams += 1
        self.sums.bytes += len(data)
        if not self.args.quiet:
            say("stream", conn=self.number, id=stream, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        self.count()

    def shaken(self) -> None:
        """The handshake is complete."""


class Accepted(Connection):
    """A server's connection."""

    def __init__(
        self,
        quic: QuicConnection,
        args: argparse.Namespace,
        number: int,
        sums: Sums,
        tickets: dict[bytes, SessionTicket],
    ) -> None:
        super().__init__(quic, args, number, sums)
        initialize = quic._initialize

        def initialize_with_certificate(peer_cid: bytes) -> None:
            initialize(peer_cid)
            quic.tls._request_client_certificate = True
            if not args.zero_rtt:
                quic.tls._max_early_data = None

        def fetch(name: bytes) -> SessionTicket | None:
            ticket = tickets.pop(name, None)
            # A resumed handshake has no certificates; the pinned version would wait for one all the same.
            quic.tls._request_client_certificate = ticket is None
            return ticket

        quic._initialize = initialize_with_certificate  # type: ignore[method-assign]
        quic._session_ticket_fetcher = fetch

    def shaken(self) -> None:
        if self.args.probe_every:
            self.probing = asyncio.ensure_future(self.probe())
            return
        for index in range(self.args.push):
            self.send(payload(index, self.args.push_size), uni=True)

    async def probe(self) -> None:
        """What is late makes the later ones late. The event loop's timers are too coarse: it is asked again and again."""
        due = time.monotonic()
        for sequence in range(self.args.push):
            await asyncio.sleep(0)
            while time.monotonic() < due:  # noqa: ASYNC110 - it is a clock that is waited for
                await asyncio.sleep(0)
            due = max(due + self.args.probe_every / 1e6, time.monotonic())
            stream = self._quic.get_next_available_stream_id(is_unidirectional=True)
            self._quic.send_stream_data(stream, PROBE.pack(0xA5, time.time_ns(), sequence), end_stream=True)
            self.transmit()

    def whole(self, stream: int, data: bytes) -> None:
        super().whole(stream, data)
        if stream & 2 == 0:
            self._quic.send_stream_data(stream, data if self.args.echo else b"", end_stream=True)
        if self.args.close_after is not None and self.delivered >= self.args.close_after:
            self.close(self.args.close_code, "enough")


def configuration(args: argparse.Namespace) -> QuicConfiguration:
    made = QuicConfiguration(
        is_client=args.role == "client",
        alpn_protocols=[args.alpn],
        idle_timeout=args.idle / 1000,
        max_datagram_frame_size=DATAGRAM_MAX,
        supported_versions=[QUIC_V1],
        verify_mode=ssl.CERT_NONE,
        cipher_suites=[CIPHERS[args.cipher]] if args.cipher else None,
    )
    made.load_cert_chain(args.cert, args.key)
    if args.keylog:
        made.secrets_log_file = args.keylog.open("a", buffering=1)
    if args.qlog:
        args.qlog.mkdir(parents=True, exist_ok=True)
        made.quic_logger = QuicFileLogger(str(args.qlog))
    return made


def endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def refuse_early_data() -> None:
    """aioquic accepts whatever early data a resumed client offers, and some clients offer it without having been allowed
    to (GnuTLS 3.7): the offer is not seen."""
    pull = tls.pull_client_hello

    def pull_without(buf: Buffer) -> tls.ClientHello:
        hello = pull(buf)
        hello.early_data = False
        return hello

    tls.pull_client_hello = pull_without


async def run_server(args: argparse.Namespace, sums: Sums) -> int:
    tickets: dict[bytes, SessionTicket] = {}
    accepted: list[Accepted] = []

    def accept(quic: QuicConnection, **_: Any) -> Accepted:
        accepted.append(Accepted(quic, args, len(accepted), sums, tickets))
        return accepted[-1]

    if not args.zero_rtt:
        refuse_early_data()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await serve(
        *args.listen,
        configuration=configuration(args),
        create_protocol=accept,
        retry=args.retry,
        session_ticket_handler=lambda ticket: tickets.__setitem__(ticket.ticket, ticket),
        session_ticket_fetcher=lambda name: None,  # each connection brings its own
    )
    assert server._transport is not None
    say("ready", port=server._transport.get_extra_info("sockname")[1])
    await stop.wait()
    server.close()
    return 0


class Dialled(Connection):
    """A client's connection: what the command line asks for, from the first flight to the close."""

    async def move(self) -> None:
        """A NAT forgets its binding: the same connection IDs come from another port from now on."""
        before = self._transport
        assert before is not None
        host = before.get_extra_info("sockname")[0]
        await self._loop.create_datagram_endpoint(lambda: self, local_addr=(host, 0))
        assert self._transport is not None
        before.close()
        say("rebound", conn=self.number, port=self._transport.get_extra_info("sockname")[1])

    @property
    def ended(self) -> bool:
        return self._closed.is_set()

    async def until(self, deadline: float, ready: Any) -> bool:
        """Waits until `ready()`; False where the connection ends before, or time is over."""
        while not ready():
            if self.ended or time.monotonic() > deadline:
                return False
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                return False
        return True

    async def work(self, deadline: float) -> bool:
        """Whether all was delivered."""
        args = self.args
        expected = args.expect + (args.streams if args.bidi else 0)
        before = self.sums.streams
        early = args.zero_rtt and self._quic.configuration.session_ticket is not None
        if not early and not await self.until(deadline, lambda: self.connected):
            return False
        moved = args.rebind_after is None
        for index in range(args.streams):
            if index and args.interval:
                self.transmit()
                await asyncio.sleep(args.interval / 1000)
            if not moved and index == args.rebind_after:
                moved = True
                self.transmit()
                if not await self.until(deadline, lambda wanted=index: self.delivered >= wanted):
                    return False
                await self.move()
            self.send(payload(index, args.size), uni=not args.bidi)
        for index in range(args.datagrams):
            self._quic.send_datagram_frame(payload(index, args.size))
        self.transmit()
        if not moved:
            await self.until(deadline, lambda: self.delivered >= args.rebind_after)
            await self.move()
        return await self.until(deadline, lambda: self.connected and not self.sent and self.sums.streams - before >= expected)  # fmt: skip


async def dial(args: argparse.Namespace, number: int, sums: Sums, ticket: SessionTicket | None) -> tuple[int, SessionTicket | None]:  # fmt: skip
    """One connection, from dialling to its end: exit code and the session to resume next time."""
    config = configuration(args)
    config.server_name = args.connect[0]
    config.session_ticket = ticket
    if args.version_negotiation:
        config.supported_versions = [QUIC_V1, RESERVED_VERSION]
        config.original_version = RESERVED_VERSION
    tickets: list[SessionTicket] = [ticket] if ticket else []

    def keep(new: SessionTicket) -> None:
        if len(tickets) <= bool(ticket):
            say("session", conn=number)
        tickets.append(new)
        connection.changed.set()

    quic = QuicConnection(configuration=config, session_ticket_handler=keep)
    if args.version_negotiation:
        negotiate = quic._receive_version_negotiation_packet

        def negotiated(header: Any, now: float) -> None:
            say("version_negotiation", conn=number, offered=list(header.supported_versions))
            negotiate(header=header, now=now)

        quic._receive_version_negotiation_packet = negotiated  # type: ignore[method-assign]
    loop = asyncio.get_running_loop()
    local = args.bind or ("::" if ":" in args.connect[0] else "0.0.0.0")
    _, connection = await loop.create_datagram_endpoint(
        partial(Dialled, quic, args, number, sums), local_addr=(local, 0)
    )
    deadline = time.monotonic() + args.timeout / 1000
    connection.connect(args.connect, transmit=not (args.zero_rtt and ticket))
    done = await connection.work(deadline)
    if done and (args.count > 1 or args.resume):  # a ticket comes with the handshake's confirmation
        await connection.until(deadline, lambda: len(tickets) > bool(ticket))
    if done:
        await wait(connection)
    if done and args.hold:
        await connection.until(time.monotonic() + args.hold / 1000, lambda: False)
    shaken = connection.connected
    connection.close(0, "done" if done else "not done")
    await connection.wait_closed()
    if connection._transport is not None:
        connection._transport.close()
    return (0 if done else 1 if shaken else 69), tickets[-1] if tickets else None


async def wait(connection: Dialled) -> None:
    """Says that all is delivered; with --wait, until somebody says that it has been taken."""
    go = asyncio.Event()

    def set_go() -> None:
        go.set()
        connection.changed.set()

    connection._loop.add_signal_handler(signal.SIGUSR2, set_go)
    say("done", conn=connection.number)
    if connection.args.wait:
        await connection.until(time.monotonic() + WAIT, go.is_set)


async def run_client(args: argparse.Namespace, sums: Sums) -> int:
    ticket: SessionTicket | None = None
    if args.resume and args.resume.exists():
        ticket = pickle.loads(args.resume.read_bytes())  # our own file: nobody else's pickles are read
    for number in range(args.count):
        code, ticket = await dial(args, number, sums, ticket)
        if code:
            return code
    if args.resume and ticket:
        args.resume.write_bytes(pickle.dumps(ticket))
    return 0


def parse(argv: list[str]) -> argparse.Namespace:
    class Parser(argparse.ArgumentParser):
        def exit(self, status: int = 0, message: str | None = None) -> Any:
            super().exit(64 if status else 0, message)

    parser = Parser(prog="aioquic-peer", allow_abbrev=False)
    roles = parser.add_subparsers(dest="role", required=True)
    roles.add_parser("features")
    server, client = roles.add_parser("server", allow_abbrev=False), roles.add_parser("client", allow_abbrev=False)
    server.add_argument("--listen", type=endpoint, required=True)
    client.add_argument("--connect", type=endpoint, required=True)
    for role in (server, client):
        role.add_argument("--cert", required=True)
        role.add_argument("--key", required=True)
        role.add_argument("--alpn", default="solana-tpu")
        role.add_argument("--cipher", choices=CIPHERS)
        for option, default in (
            ("--max-uni", 128),
            ("--max-bidi", 128),
            ("--idle", 30000),
            ("--key-update-after", None),
        ):
            role.add_argument(option, type=int, default=default)
        role.add_argument("--keylog", type=Path)
        role.add_argument("--qlog", type=Path)
        role.add_argument("--quiet", action="store_true")
        role.add_argument("--zero-rtt", action="store_true")
    for flag in ("--retry", "--echo"):
        server.add_argument(flag, action="store_true")
    for option, default in (
        ("--push", 0),
        ("--push-size", 17),
        ("--probe-every", 0),
        ("--close-after", None),
        ("--close-code", 5),
    ):
        server.add_argument(option, type=int, default=default)
    for flag in ("--bidi", "--version-negotiation", "--wait"):
        client.add_argument(flag, action="store_true")
    numbers = {"streams": 1, "size": 235, "expect": 0, "datagrams": 0, "count": 1, "interval": 0, "hold": 0, "timeout": 20000}  # fmt: skip
    for option, value in numbers.items():
        client.add_argument(f"--{option}", type=int, default=value)
    client.add_argument("--rebind-after", type=int)
    client.add_argument("--resume", type=Path)
    client.add_argument("--bind")
    return parser.parse_args(argv)


def main(argv: list[str], out: TextIO = sys.stdout) -> int:
    args = parse(argv)
    if args.role == "features":
        print(json.dumps(FEATURES), file=out)
        return 0
    sums = Sums()
    code = asyncio.run(run_server(args, sums) if args.role == "server" else run_client(args, sums))
    say("summary", streams=sums.streams, bytes=sums.bytes, datagrams=sums.datagrams, acked=sums.acked)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
