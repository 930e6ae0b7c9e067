"""The control socket: how a tool on this machine talks to the running daemon.

    afterburnerctl ---- {"type":"reload-request"}\\n ---->  <run_dir>/control.sock  (unix stream socket)
                   <--- {"type":"reload-result","ok":true,...}\\n ---

Each message is one line of JSON, a tagged struct. A client may send several requests on one connection, and reads
as many replies, in order. The supervisor answers; the data plane never hears of it. Who may connect is decided by
the permissions of the socket, not by the protocol.

Both ends may be of different versions for a moment (an upgrade has replaced the tools, the daemon still runs): unknown
fields are ignored and every field of a reply has a default, so fields can be added, but never change their meaning.
What the daemon does not understand it answers with a `Failure`.

Statistics do not travel here: they lie in shared memory and are read without asking anyone.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

SOCKET_NAME = "control.sock"
LINE_MAX = 1 << 20
"""Longest message; a longer one is an error of the sender."""

EXIT_NOT_RUNNING = 3
EXIT_UNREACHABLE = 69
EXIT_PERMISSION = 77

DaemonState = Literal["starting", "serving", "degraded", "recovering", "stopping", "stopped"]
ReloadClass = Literal["live", "data-plane", "restart"]


def _kebab(name: str) -> str:
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).removeprefix("-")


class Message(Struct, frozen=True, kw_only=True, tag_field="type", tag=_kebab):
    """Base of all messages; the class name is the tag."""


# --- requests --------------------------------------------------------------------------------------------------------


class PingRequest(Message, frozen=True):
    """Are you there? -> Pong."""


class StatusRequest(Message, frozen=True):
    """What are you doing? -> Status."""


class ReloadRequest(Message, frozen=True):
    """Read the configuration again and apply it, whole or not at all -> ReloadResult."""


class ConfigRequest(Message, frozen=True):
    """Which configuration is in force? -> RunningConfig."""


class ConnectionsRequest(Message, frozen=True):
    """Which QUIC connections are there? -> Connections."""


class DialRequest(Message, frozen=True):
    """Dial a QUIC server, and keep the connection until it is closed -> Accepted."""

    name: str
    address: str
    port: int
    server_name: str = ""  # SNI; empty: `{address}.{port}.sol`
    pin: str = ""  # public key, base58; empty: any


class CloseRequest(Message, frozen=True):
    """Close a connection, by name or number; one of the configuration stays closed until the next reload -> Accepted."""

    connection: str
    code: int = 0
    reason: str = ""


class TraceRequest(Message, frozen=True):
    """Write files of what connections do (qlog), or of their keys (keylog), or no longer -> Traced."""

    kind: Literal["qlog", "keylog"]
    on: bool
    connections: tuple[str, ...] = ()  # names and numbers
    every: bool = False  # all that there are
    new: bool = False  # those to come


class SendRequest(Message, frozen=True):
    """Send a message on a connection -> Accepted, with its token."""

    connection: str
    data: bytes  # base64 in JSON
    datagram: bool = False  # in a DATAGRAM frame, once; else on a stream of its own, until it is acknowledged


Request = (
    PingRequest
    | StatusRequest
    | ReloadRequest
    | ConfigRequest
    | ConnectionsRequest
    | DialRequest
    | CloseRequest
    | SendRequest
    | TraceRequest
)


# --- replies ---------------------------------------------------------------------------------------------------------


class Pong(Message, frozen=True):
    """The daemon is there."""

    version: str = ""
    pid: int = 0


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """A data plane process as its supervisor knows it."""

    index: int = 0
    pid: int = 0  # 0: none at the moment
    state: str = ""  # as in the statistics: down, starting, running, paused, stopped
    cpu: int = -1  # -1: not pinned
    queues: tuple[int, ...] = ()
    restarts: int = 0  # since the daemon started
    last_failure: str = ""  # sentence; empty: none


class InterfaceStatus(Struct, frozen=True, kw_only=True):
    """The network device as the daemon uses it."""

    name: str = ""
    index: int = 0
    driver: str = ""
    mac: str = ""
    mtu: int = 0
    up: bool = False
    addresses: tuple[str, ...] = ()
    queues: int = 0  # receive queues of the device
    mode: str = ""  # in force: zero-copy, copy, generic, socket
    xdp: str = ""  # native, generic, or empty: no program


class QuicBackend(Struct, frozen=True, kw_only=True):
    """By what QUIC packets come in and go out."""

    receive: str = ""  # afxdp, socket
    send: str = ""
    reason: str = ""  # why, as a sentence


class CaptureStatus(Struct, frozen=True, kw_only=True):
    """A capture rule; its index is what records and statistics carry."""

    index: int = 0
    name: str = ""
    address: str = ""
    port: int = 0
    vlans: tuple[int, ...] = ()  # outer first; none: untagged, or the VLAN of the device that has the address
    decoder: str = ""


class Notice(Struct, frozen=True, kw_only=True):
    """Something configured that is not in force, or that costs speed: what, and what to do about it."""

    text: str = ""
    hint: str = ""
    degraded: bool = False  # the state is "degraded" because of it


class Status(Message, frozen=True):
    """What the daemon knows about itself that no counter can say."""

    version: str = ""
    pid: int = 0
    name: str = ""
    state: DaemonState = "starting"
    detail: str = ""  # sentence about the state, as in systemd's STATUS line
    started_ns: int = 0  # CLOCK_REALTIME
    generation: int = 0  # configurations applied so far; the first is 1
    config_files: tuple[str, ...] = ()
    exporter: str = ""  # address:port; empty: off
    interface: InterfaceStatus = InterfaceStatus()
    workers: tuple[WorkerStatus, ...] = ()
    captures: tuple[CaptureStatus, ...] = ()
    quic: QuicBackend | None = None  # None: QUIC is off
    notices: tuple[Notice, ...] = ()


class ConfigChange(Struct, frozen=True, kw_only=True):
    """One key that a reload changed or would change."""

    path: str = ""
    old: Any = None  # None: was not there
    new: Any = None  # None: is not there any more
    reload: ReloadClass = "live"


class ReloadResult(Message, frozen=True):
    """What became of a reload.

    Not ok: nothing was applied, and `errors` or `needs_restart` says why. Ok without changes: the files say what is
    in force already.
    """

    ok: bool = False
    generation: int = 0  # configuration in force now
    changes: tuple[ConfigChange, ...] = ()  # all of them, also those that forbade the reload
    needs_restart: tuple[str, ...] = ()  # key paths that only `systemctl restart` can change
    data_plane_restarted: bool = False
    errors: tuple[str, ...] = ()  # file:line: key: what is wrong


class RunningConfig(Message, frozen=True):
    """The configuration in force."""

    generation: int = 0
    files: tuple[str, ...] = ()
    config: msgspec.Raw = msgspec.Raw(b"{}")  # JSON of afterburnerd.config.Config, defaults included


class Failure(Message, frozen=True):
    """The request could not be answered."""

    message: str = ""
    exit_code: int = EXIT_UNREACHABLE  # what a tool should exit with


class ConnectionStatus(Struct, frozen=True, kw_only=True):
    """A QUIC connection as the supervisor knows it."""

    number: int = 0  # 0: there is none at the moment
    name: str = ""  # of [[connect]] or dial; empty: accepted
    role: str = ""  # client, server
    state: str = ""  # idle, dialling, paused; steps of the handover; open
    address: str = ""
    port: int = 0
    local: str = ""
    local_port: int = 0
    identity: str = ""  # public key that the peer proved, base58
    worker: int = -1
    io: str = ""  # afxdp, socket
    waiting: int = 0  # messages that are not acknowledged yet
    age: float = 0.0  # seconds since its handshake was complete
    adoption: float = 0.0  # seconds from there until its packets went to the data plane; 0: not yet
    datagram_max: int = 0  # bytes that a DATAGRAM to the peer may have; 0: it takes none


class ListenerStatus(Struct, frozen=True, kw_only=True):
    """A local port on which connections are accepted."""

    name: str = ""
    address: str = ""
    port: int = 0
    handshakes: int = 0  # under way
    counts: dict[str, int] = {}  # what became of datagrams and handshakes


class Connections(Message, frozen=True):
    """QUIC, as the supervisor knows it."""

    connections: tuple[ConnectionStatus, ...] = ()  # 2,000 at most
    total: int = 0
    listeners: tuple[ListenerStatus, ...] = ()
    trouble: dict[str, str] = {}  # listeners that could not be had, and why


class Accepted(Message, frozen=True):
    """What was asked for is under way."""

    token: int = 0  # of a message


class Traced(Message, frozen=True):
    """Tracing is switched."""

    files: tuple[str, ...] = ()  # that are written
    connections: int = 0  # that it concerns, beside those to come


Reply = Pong | Status | ReloadResult | RunningConfig | Connections | Accepted | Traced | Failure
R = TypeVar("R", Pong, Status, ReloadResult, RunningConfig, Connections, Accepted, Traced)

_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)
_encoder = msgspec.json.Encoder()


def encode(message: Request | Reply) -> bytes:
    """A message as it goes over the socket, line end included."""
    return _encoder.encode(message) + b"\n"


def decode_request(line: bytes) -> Request:
    """For the daemon. Raises msgspec.ValidationError or DecodeError; answer with a Failure that says so."""
    return _requests.decode(line)


def decode_reply(line: bytes) -> Reply:
    """For a client. Raises msgspec.ValidationError or DecodeError."""
    return _replies.decode(line)


# --- client ----------------------------------------------------------------------------------------------------------


class ControlError(Exception):
    """The daemon could not be asked. The text says why and what to do; `exit_code` is for the shell."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ControlClient:
    """A connection to the daemon, for tools: synchronous, and every wait is bounded.

    with ControlClient("/run/afterburner") as daemon:
        status = daemon.status()
    """

    def __init__(
        self, run_dir: str | os.PathLike[str], timeout: float = 2.0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = os.path.join(os.fspath(run_dir), SOCKET_NAME)  # noqa: PTH118
        self._clock = clock
        self._timeout = timeout
        self._rest = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(self.path)
        except OSError as error:
            self._socket.close()
            raise _unconnected(self.path, error) from None

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def ping(self) -> Pong:
        """Ask whether the daemon answers."""
        return self.ask(PingRequest(), Pong)

    def status(self) -> Status:
        """Ask what the daemon is doing."""
        return self.ask(StatusRequest(), Status)

    def config(self) -> RunningConfig:
        """Ask for the configuration in force."""
        return self.ask(ConfigRequest(), RunningConfig)

    def reload(self, timeout: float = 60.0) -> ReloadResult:
        """Have the configuration read again. It may restart the data plane, so it may take a while."""
        return self.ask(ReloadRequest(), ReloadResult, timeout)

    def ask(self, request: Request, reply: type[R], timeout: float | None = None) -> R:
        """Send a request, wait for its reply of the given type."""
        wait = self._timeout if timeout is None else timeout
        try:
            self._socket.settimeout(wait)
            self._socket.sendall(encode(request))
            line = self._line(self._clock() + wait)
        except TimeoutError:
            raise ControlError(
                f"the daemon did not answer on {self.path} within {wait:g} s; it may be stuck: see "
                "`systemctl status afterburner` and `journalctl -u afterburner`",
                EXIT_UNREACHABLE,
            ) from None
        except OSError as error:
            raise ControlError(
                f"the connection to {self.path} broke: {error.strerror or error}", EXIT_UNREACHABLE
            ) from None
        try:
            answer = decode_reply(line)
        except msgspec.MsgspecError as error:
            raise ControlError(
                f"the answer on {self.path} makes no sense ({error}); are daemon and tools of the same version?",
                EXIT_UNREACHABLE,
            ) from None
        if isinstance(answer, Failure):
            raise ControlError(answer.message, answer.exit_code)
        if not isinstance(answer, reply):
            raise ControlError(
                f"the daemon answered {type(answer).__name__} instead of {reply.__name__}; are daemon and tools of the "
                "same version?",
                EXIT_UNREACHABLE,
            )
        return answer

    def _line(self, deadline: float) -> bytes:
        """Read up to a line end. The deadline holds for the whole line, however slowly it trickles in."""
        while b"\n" not in self._rest:
            left = deadline - self._clock()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            data = self._socket.recv(65_536)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "the daemon hung up without an answer")
            self._rest += data
            if len(self._rest) > LINE_MAX:
                raise OSError(errno.EMSGSIZE, f"the answer is longer than {LINE_MAX} bytes")
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def _unconnected(path: str, error: OSError) -> ControlError:
    if isinstance(error, FileNotFoundError | ConnectionRefusedError | NotADirectoryError):
        why = "no daemon listens there" if isinstance(error, ConnectionRefusedError) else "there is no such socket"
        return ControlError(
            f"not running: {path}: {why}; start it with `systemctl start afterburner`, or name its --run-dir",
            EXIT_NOT_RUNNING,
        )
    if isinstance(error, PermissionError):
        return ControlError(
            f"permission denied: {path}; run as root or as a member of the group that owns it", EXIT_PERMISSION
        )
    if isinstance(error, TimeoutError | BlockingIOError):
        return ControlError(f"the daemon accepts no connection on {path}; it may be stuck", EXIT_UNREACHABLE)
    return ControlError(f"cannot connect to {path}: {error.strerror or error}", EXIT_UNREACHABLE)
