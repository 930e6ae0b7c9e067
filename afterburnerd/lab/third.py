"""An engine of somebody else's at the receiving end of a measurement: `bench tps --peer COMMAND`.

    sender's namespace                                     receiver's namespace, CPU w
    dialled()     aioquic shakes hands on a UDP socket --> COMMAND server --listen ... --quiet
       |  struct quic_adopt, in a file
       v
    quic-send     our engine on CPU s, sockets or AF_XDP -> the same connection, the same port

COMMAND follows tests/interop/peers/README.md: it says `ready` with its port, and at its end a `summary` with the streams that it
has received whole. The handshake is made as the supervisor makes it (quic/), and the connection goes to the sender as it goes
to a worker. The file holds the secrets of a connection that carries a benchmark, in a directory of our own, and goes with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shlex
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path as File

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ..abi import layout
from ..cli import EXIT_UNREACHABLE, EXIT_USAGE, ToolError
from ..quic.dial import Target
from ..quic.endpoint import Completed, Endpoint, Failed, Realm
from ..quic.export import export
from ..quic.front import FrontSettings
from ..quic.identity import Identity
from ..quic.params import Params
from ..quic.tokens import Address
from . import rig

READY_SECONDS = 20.0
SHAKE_SECONDS = 5.0
# Within what an end of the lab can take (native/quic_end.c): the peer sends next to nothing.
PARAMS = Params(
    max_data=1 << 20,
    max_stream_data_bidi_local=1 << 14,
    max_stream_data_bidi_remote=1 << 14,
    max_stream_data_uni=1 << 14,
    max_streams_uni=128,
)
CLONE_NEWNET = 0x40000000


class Said(msgspec.Struct, frozen=True):
    """An event of the peer; what does not apply is 0."""

    event: str
    port: int = 0
    streams: int = 0  # received whole, FIN included
    bytes: int = 0


class Peer:
    """A server that runs."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], out: File, err: File) -> None:
        self.name = name
        self.process = process
        self.port = 0
        self._out, self._err = out, err

    def wait(self, event: str, seconds: float) -> Said:
        until = time.monotonic() + seconds
        while True:
            ended = self.process.poll() is not None
            for line in self._out.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n") and (said := msgspec.json.decode(line, type=Said)).event == event:
                    return said
            if ended or time.monotonic() > until:
                raise ToolError(
                    f"--peer {self.name}: did not say {event!r}: {self._err.read_text(errors='replace')[-500:].strip()}",
                    EXIT_UNREACHABLE,
                )
            time.sleep(0.01)

    def end(self) -> Said:
        """Ends it; what it received."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait("summary", READY_SECONDS)


def name(command: str) -> str:
    """The engine and its version, as it says itself; ToolError for what is no peer."""
    try:
        done = subprocess.run(
            [*shlex.split(command), "features"], capture_output=True, stdin=subprocess.DEVNULL, timeout=READY_SECONDS
        )
        said = json.loads(done.stdout)
        return f"{said['engine']} {said['version']}"
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as error:
        raise ToolError(
            f"--peer {command}: `{command} features` did not tell engine and version ({error}): "
            "give a command as tests/interop/peers/README.md describes it",
            EXIT_USAGE,
        ) from None


@contextlib.contextmanager
def server(command: str, end: rig.End, cpu: int, *options: str) -> Iterator[Peer]:
    """`command server` in the namespace of `end` on one CPU; ends with the block."""
    identity = Identity.generate()
    with tempfile.TemporaryDirectory(prefix="afterburner-peer-") as directory:
        cert, key, out, err = (File(directory, it) for it in ("cert", "key", "out", "err"))
        cert.write_bytes(identity.certificate.public_bytes(Encoding.PEM))
        key.write_bytes(identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        line = [
            *shlex.split(command),
            "server",
            "--listen",
            f"{end.ipv4}:0",
            "--cert",
            str(cert),
            "--key",
            str(key),
            *options,
        ]
        wrapped = ["setpriv", "--pdeathsig", "KILL", *end.inside("taskset", "-c", str(cpu), *line)]
        with out.open("wb") as o, err.open("wb") as e:
            process = subprocess.Popen(wrapped, stdin=subprocess.DEVNULL, stdout=o, stderr=e, start_new_session=True)
        peer = Peer(shlex.split(command)[0], process, out, err)
        try:
            peer.port = peer.wait("ready", READY_SECONDS).port
            yield peer
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.wait()


@contextlib.contextmanager
def dialled(end: rig.End, port: int, remote: Address) -> Iterator[File]:
    """A connection from `end`'s `port` to `remote` whose handshake is complete, in a file for --adopt.

    Our socket stays open for the block, so that the port is never closed; who binds it next receives.
    """
    sock = _socket(end)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((end.ipv4, port))
        with tempfile.TemporaryDirectory(prefix="afterburner-adopt-") as directory:
            file = File(directory, "adopt")
            file.touch(0o600)
            file.write_bytes(_shake(sock, remote))
            yield file
    finally:
        sock.close()


def _shake(sock: socket.socket, remote: Address) -> bytes:
    endpoint = Endpoint(Realm(os.urandom(32)), FrontSettings(Identity.generate(), params=PARAMS))
    dial = endpoint.dial(Target(remote, timeout=SHAKE_SECONDS), time.monotonic())
    while True:
        for event in endpoint.events:
            if isinstance(event, Failed):
                raise ToolError(
                    f"--peer at {remote[0]}:{remote[1]}: the handshake failed: {event.failure}", EXIT_UNREACHABLE
                )
        # What is to be sent with the completion is the client's Finished.
        for out in endpoint.outgoing:
            sock.sendto(out.datagram, out.remote)
        endpoint.outgoing.clear()
        if any(isinstance(event, Completed) for event in endpoint.events):
            assert dial.front is not None
            return export(dial.front, 1, layout.Path(), [dial.own_cid]).pack()
        sock.settimeout(max(0.001, min(0.05, (endpoint.due() or 0) - time.monotonic())))
        with contextlib.suppress(TimeoutError):
            endpoint.receive(sock.recv(65536), remote, time.monotonic())
        endpoint.timer(time.monotonic())


def _socket(end: rig.End) -> socket.socket:
    """A UDP socket in the namespace of `end`: a thread of its own goes there, for a namespace is a thread's."""
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            if end.netns:
                libc = ctypes.CDLL(None, use_errno=True)
                with File("/run/netns", end.netns).open("rb") as handle:
                    if libc.setns(handle.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), f"setns({end.netns})")
            made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise ToolError(f"a socket in the namespace {end.netns}: {made[0]}", EXIT_UNREACHABLE)
    return made[0]
