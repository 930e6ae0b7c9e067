"""Two ends of QUIC over a rig: our engine, worker and backends on each, nothing of the supervisor (native/quic_end.h).

    sender, CPU s   client  [ engine | worker ] == AF_XDP or socket ==> veth ==> AF_XDP or socket [ worker | engine ]  server, CPU w

`ways` says by what each end receives and sends. A run starts the receiver, then the sender, waits for the sender's end (which
waits for its last acknowledgement), then ends the receiver; what both counted comes back.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Literal

import msgspec

from ..cli import EXIT_UNREACHABLE, ToolError
from ..config.model import Memory, Worker
from . import exits, rig
from .cores import Cores
from .labio import Labio, Samples

By = Literal["afxdp", "socket"]
BPF_OBJECT = Path(__file__).parent.parent / "bpf" / "afterburner.bpf.o"
CLIENT_PORT, SERVER_PORT = 4433, 8009
NICE = Worker().nice
SUITES = {"aes128": 1, "aes256": 2, "chacha20": 3}


class End(msgspec.Struct, frozen=True):
    """The last line of an end; what does not apply is 0."""

    final: bool = False
    ready: bool = False
    now_ns: int = 0
    elapsed_ns: int = 0
    accepted: int = 0
    acknowledged: int = 0
    failed: int = 0
    messages: int = 0
    bytes: int = 0
    wrong: int = 0
    waited_ns: int = 0  # for a CPU that others had
    probes: int = 0
    gaps: int = 0
    busy_ns: int = 0
    run_ns: int = 0
    turns: int = 0
    kicks: int = 0
    rx_packets: int = 0
    tx_packets: int = 0
    tx_dropped: int = 0
    frame_errors: int = 0
    quic_sent: int = 0
    quic_received: int = 0
    quic_lost: int = 0
    spurious: int = 0
    resent: int = 0
    blocked_streams_ns: int = 0
    blocked_credit_ns: int = 0
    blocked_window_ns: int = 0
    ptos: int = 0
    undecryptable: int = 0
    unknown: int = 0
    memory_bytes: int = 0
    connection_bytes: int = 0


class Way(msgspec.Struct, frozen=True):
    """By what an end receives and sends."""

    rx: By
    tx: By

    @property
    def name(self) -> str:
        return self.rx if self.rx == self.tx else f"{self.rx} in, {self.tx} out"


AFXDP, SOCKET = Way("afxdp", "afxdp"), Way("socket", "socket")


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent."""

    size: int = 235
    seconds: float = 1.0
    rate: int = 0  # messages a second, 0: as fast as it goes
    probe: bool = False
    conns: int = 1
    active: int = 0  # connections that messages go over, 0: all; the others are warm: kept alive
    window: int = 8192
    pack: int = 0
    suite: str = "aes128"
    mtu: int = 1472
    warm_ms: int = 200
    frames: int = Memory().frames
    frame_size: int = 2048  # what config/model.py recommends for this MTU
    ring: int = Memory().ring


class Outcome(msgspec.Struct, frozen=True):
    sender: End
    receiver: End
    rate: float  # messages delivered a second, while both ran
    samples: Samples | None  # of probes


def offloads(standing: rig.Rig, on: bool) -> None:
    """Checksums and units left to the device, as sockets like it; off for AF_XDP (rig.py says why)."""
    for end in (standing.daemon, standing.sender):
        word = "on" if on else "off"
        rig.run(*end.inside("ethtool", "-K", end.device, "tx", word, "tso", word, "gso", word, "gro", word))


def run(
    standing: rig.Rig, cores: Cores, load: Load, client: Way = AFXDP, server: Way = AFXDP, *, downward: bool = False
) -> Outcome:
    """Messages from client to server; `downward`: from server to client."""
    ways = (server, client) if downward else (client, server)
    with Labio("quic-receive", **options(standing, cores, load, ways[1], is_server=not downward)) as receiver:
        receiver.wait_ready()
        with Labio("quic-send", **options(standing, cores, load, ways[0], is_server=downward, sends=True)) as sender:
            sent = last(sender, load.seconds + 30)
        exits.sleep(0.05)
        receiver.process.send_signal(signal.SIGTERM)
        lines = list(receiver.raw_lines(10))
    samples = msgspec.json.decode(lines.pop(), type=Samples) if load.probe else None
    received = msgspec.json.decode(lines[-1], type=End)
    if not received.messages:
        raise ToolError(f"quic-receive by {server.name}: not one message arrived", EXIT_UNREACHABLE)
    return Outcome(sent, received, sent.acknowledged / (sent.elapsed_ns / 1e9), samples)


def last(process: Labio, timeout: float) -> End:
    found = [msgspec.json.decode(line, type=End) for line in process.raw_lines(timeout)]
    if not found or not found[-1].final:
        raise ToolError(f"afterburner-labio {process.mode} ended without a result", EXIT_UNREACHABLE)
    return found[-1]


def options(
    standing: rig.Rig, cores: Cores, load: Load, way: Way, *, is_server: bool, sends: bool = False
) -> dict[str, str | int | bool | None]:
    ours, theirs = (standing.daemon, standing.sender) if is_server else (standing.sender, standing.daemon)
    ports = (SERVER_PORT, CLIENT_PORT) if is_server else (CLIENT_PORT, SERVER_PORT)
    return {
        "netns": ours.netns,
        "device": ours.device,
        "bpf": str(BPF_OBJECT),
        "smac": ours.mac,
        "dmac": theirs.mac,
        "from_": ours.ipv4,
        "to": theirs.ipv4,
        "sport": ports[0],
        "dport": ports[1],
        "cpu": cores.sender if sends else cores.receiver,
        "nice": NICE,
        "server": is_server,
        "rx_socket": way.rx == "socket",
        "tx_socket": way.tx == "socket",
        "probe": load.probe,
        "size": load.size,
        "conns": load.conns,
        "active": load.active,
        "window": load.window,
        "pack": load.pack,
        "suite": SUITES[load.suite],
        "mtu": load.mtu,
        "frames": load.frames,
        "frame_size": load.frame_size,
        "ring": load.ring,
        "warm_ms": load.warm_ms,
        "rate": load.rate if sends else None,
        "duration_ms": round(load.seconds * 1000) if sends else 0,
    }
