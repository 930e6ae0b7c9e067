"""Our daemon as one end of an interop run: what it received, byte by byte, and what became of what it sent.

    with daemon(rig, directory) as ours:                                   the executable, in the near namespace
        with Received(ours) as got, peers.dialling(...) as call: ...       third-party client -> [[listen]]
            got.wait(streams=3); got.verify(size=235)
        with peers.server(...) as server, ours.link(server.port) as link:  dial -> third-party server
            link.send(peers.payload(0, 235)); link.wait_acknowledged()

What arrived is taken from the record ring, as an application does, and held against what the peers send (peers.payload): each byte
once, in order, nothing else. What was sent counts when the engine says that it was acknowledged and the peer that it has it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

from afterburnerd import client
from afterburnerd.abi import control
from afterburnerd.abi.layout import RecordKind
from tests import netns, waiting
from tests.interop import peers
from tests.system.daemonrig import Daemon

PORT = 8009
RETRY_PORT = 8010
SITE = Path(__file__).parent / "site"
LISTEN = f"""
[quic]
connections = 256
[[listen]]
name = "tpu"
port = {PORT}
per_source = 256
[[listen]]
name = "retry"
port = {RETRY_PORT}
retry = "always"
"""
FATES = (
    "quic_packets_duplicate", "quic_aead_failures", "quic_unknown_cids", "quic_malformed", "quic_strays",
    "quic_strays_dropped", "quic_handovers_dropped", "drop_no_rule", "drop_short",
)  # fmt: skip
BACKENDS = ("auto", "socket")  # AF_XDP where the device has it, and sockets


class Ours:
    """A daemon with a listener, and one without Retry."""

    def __init__(self, running: Daemon, backend: str) -> None:
        self.daemon = running
        self.backend = backend
        self.rig = running.rig
        self.address = running.rig.near.ipv4
        self._names = 0

    @property
    def name(self) -> str:
        return self.daemon.name

    def value(self, what: str) -> int:
        """A counter of the worker."""
        return self.daemon.value("worker", what)

    def connections(self) -> tuple[control.ConnectionStatus, ...]:
        with self.daemon.client() as asked:
            return asked.ask(control.ConnectionsRequest(), control.Connections).connections

    def listener(self, name: str) -> control.ListenerStatus:
        with self.daemon.client() as asked:
            listeners = asked.ask(control.ConnectionsRequest(), control.Connections).listeners
        return next(one for one in listeners if one.name == name and one.address == self.address)

    def wait_none(self) -> None:
        """Every connection is over, and known to be."""
        self.daemon.wait(lambda: not self.connections(), "all connections to be closed")

    def fates(self) -> dict[str, int]:
        """What became of packets that came in and carried nothing to an application."""
        counts = {f"worker {name}": self.value(name) for name in FATES}
        for name in ("tpu", "retry"):
            counts |= {f"{name} {what}": count for what, count in self.listener(name).counts.items()}
        return {name: count for name, count in counts.items() if count}

    def kill_plane(self, meanwhile: Callable[[], object] = bool) -> None:
        """By SIGKILL; `meanwhile` is done before its successor can be there."""
        pid = self.daemon.plane_pid()
        os.kill(pid, signal.SIGKILL)
        meanwhile()
        self.daemon.wait(lambda: self.daemon.plane_pid() not in (0, pid), "a new data plane")

    @contextlib.contextmanager
    def link(self, port: int, address: str = "") -> Iterator[Link]:
        """A connection dialled by command, closed with the block. A name each: tickets go by address and port."""
        self._names += 1
        link = Link(self, f"link-{self._names}", address or self.rig.far.ipv4, port)
        link.dial()
        try:
            yield link
        finally:
            with contextlib.suppress(control.ControlError, OSError):
                link.close()


class Link:
    """What our daemon dials."""

    def __init__(self, ours: Ours, name: str, address: str, port: int) -> None:
        self.ours, self.name, self.address, self.port = ours, name, address, port

    def dial(self) -> None:
        with self.ours.daemon.client() as asked:
            asked.ask(control.DialRequest(name=self.name, address=self.address, port=self.port), control.Accepted)

    def close(self) -> None:
        with self.ours.daemon.client() as asked:
            asked.ask(control.CloseRequest(connection=self.name), control.Accepted)

    def status(self) -> control.ConnectionStatus:
        return next(c for c in self.ours.connections() if c.name == self.name)

    def wait_open(self, after: int = 0) -> control.ConnectionStatus:
        """Open on a connection whose number is above `after`."""

        def is_open() -> bool:
            status = self.status()
            return status.state == "open" and status.number > after

        self.ours.daemon.wait(is_open, f"{self.name} to be open", waiting.BOUND)
        return self.status()

    def send(self, *messages: bytes, datagram: bool = False) -> None:
        with self.ours.daemon.client() as asked:
            for data in messages:
                asked.ask(control.SendRequest(connection=self.name, data=data, datagram=datagram), control.Accepted)

    def wait_acknowledged(self) -> None:
        self.ours.daemon.wait(lambda: self.status().waiting == 0, f"{self.name}: all acknowledged", waiting.BOUND)


class Received:
    """What arrives at a daemon from here on, put together from its records."""

    def __init__(self, ours: Ours) -> None:
        self.ours = ours
        self.streams: dict[tuple[int, int], bytearray] = {}  # by connection and id
        self.finished: set[tuple[int, int]] = set()
        self.datagrams: list[bytes] = []
        self._follower = client.follow(ours.name, wait=True)
        waiting.until(lambda: self._follower.present or self._follower.poll() is None, "a record ring")

    def __enter__(self) -> Received:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._follower.close()

    @property
    def connections(self) -> list[int]:
        return sorted({number for number, _ in self.streams})

    def look(self) -> None:
        """Takes what is there."""
        while records := self._follower.poll():
            for record in records:
                said = record.quic
                if said is None:
                    continue
                assert not record.truncated, f"{record} does not fit its slot"
                if record.kind == RecordKind.QUIC_DATAGRAM:
                    self.datagrams.append(record.payload)
                    continue
                key = (said.conn, said.stream)
                assert not said.reset, f"stream {key} was reset with {said.offset}"
                assert key not in self.finished, f"stream {key} goes on behind its end"
                got = self.streams.setdefault(key, bytearray())
                assert said.offset == len(got), f"stream {key} goes on at {said.offset} instead of {len(got)}"
                got += record.payload
                if said.fin:
                    self.finished.add(key)
        assert self._follower.lost == 0, "records were overwritten before the test read them"

    def wait(self, streams: int = 0, datagrams: int = 0) -> None:
        """Until so many streams came whole, and so many datagrams."""

        def there() -> bool:
            self.look()
            return len(self.finished) >= streams and len(self.datagrams) >= datagrams

        began = time.monotonic()
        while not there():
            assert time.monotonic() - began < waiting.BOUND, (
                f"{len(self.finished)} of {streams} streams, {len(self.datagrams)} of {datagrams} datagrams came; "
                f"unfinished: {[key for key in self.streams if key not in self.finished][:5]}; fates: {self.ours.fates()}; log:\n{self.ours.daemon.log()}"
            )
            time.sleep(0.01)

    def whole(self) -> list[bytes]:
        """What every stream carried that came to its end."""
        return [bytes(self.streams[key]) for key in self.finished]

    def verify(self, streams: int, size: int, connections: int = 1) -> None:
        """Exactly so many streams came, whole, each as it was sent, on so many connections."""
        self.look()
        assert set(self.streams) == self.finished and len(self.finished) == streams
        assert len(self.connections) == connections
        for (number, stream), data in self.streams.items():
            assert bytes(data) == peers.payload(stream >> 2, size), (
                f"stream {stream} of connection {number} is different"
            )


@contextlib.contextmanager
def daemon(
    rig: netns.Pair,
    directory: Path,
    backend: str,
    env: Mapping[str, str] | None = None,
    quic: str = "",
    memory: str = "",
) -> Iterator[Ours]:
    """Our daemon at the near end of a rig. `quic` and `memory` are more keys of those tables."""
    known = {"PYTHONPATH": str(SITE), **env} if env else {}
    captures = LISTEN.replace("[quic]\n", f"[quic]\n{quic}\n")
    # A machine that is too busy for its worker must not look like a connection that was lost.
    patient = "[watch]\nhang_ms = 20000"
    mode = f'mode = "{backend}"'
    with Daemon(rig, directory, captures, interface=mode, memory=memory, rest=patient, env=known) as running:
        ours = Ours(running, backend)
        running.wait(lambda: ours.listener("retry").port == RETRY_PORT, "the listeners")
        yield ours
