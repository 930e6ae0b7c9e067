"""`afterburner-lab bench raw`: the raw path against its floor, on one machine, over veth.

                 initiator, CPU s                                   turned round or received, CPU w
  ours           our worker's loop (native/worker_ping.c)  <---->   the real afterburnerd, rule "echo"
  floor          bare AF_XDP ping                          <---->   bare AF_XDP pong
  sockets        spinning non-blocking UDP                 <---->   the same

  ours           AF_XDP sender, 235-byte transactions      ----->   the real afterburnerd, rule "solana-tx", records on
  floor          the same sender                           ----->   bare AF_XDP receive: count, give the frame back

Every contender runs once in each round, in an order that changes from round to round, so that a noisy moment of the
machine hits all of them; the figures are medians over the rounds, the ratios ratios of medians. Both ends are pinned and
spin, all at the nice value of the product's worker, each end in a namespace of its own. The daemon is started for its turn
and stopped after it: the floor must have the device and the core for itself.

The floor is as low as we can make it: so few frames that all of them stay in the cache, while ours takes the packet memory
that the product has by default (2,048 frames of 4 KiB, half of them posted for receiving; frames take turns, so each is
cold when its turn comes). How much of the distance that is, the same bare ping-pong with the default memory shows
(`rtt_p50_equal_memory`).

On veth the sender's core also runs the receiving device's poll and its XDP program, so it is the sender that limits the
receive rate, of ours as of the floor; how much of the worker's time that took stands beside it (`receive_worker_busy`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from ..abi.stats import Delta, Snapshot
from ..cli import EXIT_UNREACHABLE, ToolError
from ..config.model import Memory, Worker
from . import cores, emit, exits, quantities, report, rig
from .daemon import Daemon
from .labio import Labio, Line, Samples
from .report import Result, say
from .transactions import TARGET_BYTES

EXAMPLES = """\
examples:
  sudo afterburner-lab bench raw                           everything; some two minutes
  sudo afterburner-lab bench raw --rounds 9 --json > raw.json
  sudo afterburner-lab bench raw --loss-duration 300s      a longer look at loss
"""
ECHO_PORT, TX_PORT, PING_PORT = 7, 8001, 4000
PING_PAYLOAD = 200  # 242 bytes with Ethernet, IPv4 and UDP headers
FEW_FRAMES = 128  # of the floor: what is in use stays in the nearest cache
RATE_FRAMES = 16384  # of receiving at full speed, ours and the floor's: half of them wait for packets
RATE_RING = 8192
FRAME_SIZE = 2048
STALL_SECONDS = 0.050  # what the loss test's memory bridges: other tenants of a virtual machine take a core that long
WARM_MS = 200
DEFAULT_MEMORY = {"frames": Memory().frames, "frame_size": Memory().frame_size, "ring": Memory().ring}
NICE = Worker().nice  # the worker's; all contenders have it, or a busy machine would favour ours
BPF_OBJECT = Path(__file__).parent.parent / "bpf" / "afterburner.bpf.o"


class Settings(msgspec.Struct, frozen=True):
    rounds: int
    seconds: float  # of each measurement
    loss_seconds: float
    worker_cpu: int
    sender_cpu: int


class Round(msgspec.Struct):
    """What one round measured; times in ns, rates a second."""

    ours: Samples | None = None
    floor: Samples | None = None
    floor_few: Samples | None = None
    sockets: Samples | None = None
    rate: float = 0.0
    floor_rate: float = 0.0
    busy: float = 0.0  # share of the worker's time that went into turns that moved packets, at that rate


class Loss(msgspec.Struct, frozen=True):
    sent: int
    decoded: int
    rate: float
    frames: int
    longest_gap_ns: int
    steal_seconds: float
    kernel_drops: int  # of what is missing: no room in FILL or RX


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=quantities.amount, default=5, metavar="N", help="rounds (default: 5)")
    parser.add_argument(
        "--duration", type=quantities.duration, default=1.0, metavar="TIME", help="of each measurement (default: 1s)"
    )
    parser.add_argument(
        "--loss-duration",
        type=quantities.duration,
        default=30.0,
        metavar="TIME",
        help="of the loss test (default: 30s)",
    )
    cores.add_pair(parser, "worker")
    parser.add_argument("-j", "--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    chosen = cores.pair(args)
    settings = Settings(args.rounds, args.duration, args.loss_duration, chosen.receiver, chosen.sender)
    return report.publish(measure(settings), args.json)


def measure(settings: Settings) -> report.Report:
    facts = report.machine()
    stolen = report.steal_seconds()
    with rig.standing(rig.plan(f"br{os.getpid()}", isolated=True)) as standing, stock() as payloads:
        bench = Bench(standing, settings, payloads)
        rounds = []
        for n in range(settings.rounds):
            rounds.append(bench.round(n))
            say(f"round {n + 1} of {settings.rounds}: {_spoken(rounds[-1])}")
        rate = statistics.median(r.rate for r in rounds)
        say(f"loss: {0.8 * rate:,.0f} packets/s for {settings.loss_seconds:g} s")
        loss = bench.loss(0.8 * rate)
    return report.Report(
        bench="raw",
        machine=facts,
        settings={
            "rounds": settings.rounds,
            "seconds": settings.seconds,
            "worker_cpu": settings.worker_cpu,
            "sender_cpu": settings.sender_cpu,
            "frame_bytes": PING_PAYLOAD + 42,
            "transaction_bytes": TARGET_BYTES,
            "rtt_umem_frames": DEFAULT_MEMORY["frames"],
            "rtt_umem_frame_size": DEFAULT_MEMORY["frame_size"],
            "rate_umem_frames": RATE_FRAMES,
            "loss_seconds": settings.loss_seconds,
            "loss_rate": round(loss.rate),
            "loss_umem_frames": loss.frames,
            "loss_umem_bytes": loss.frames * FRAME_SIZE,
            "loss_sent": loss.sent,
            "loss_kernel_drops": loss.kernel_drops,
            "steal_seconds": round(report.steal_seconds() - stolen, 3),
        },
        results=tuple(results(rounds, loss)),
    )


def results(rounds: list[Round], loss: Loss) -> list[Result]:
    """Medians over the rounds, and what follows."""

    def median(of: Callable[[Round], float]) -> float:
        return statistics.median(of(one) for one in rounds)

    def at(who: str, point: str) -> float:
        return median(lambda one: getattr(getattr(one, who), point) / 1e9)

    def rtt(figure: str, point: str, who: str, reference: str, goal_ratio: float | None = None) -> Result:
        return report.result(
            figure,
            "s",
            at("ours", point),
            reference=reference,
            reference_value=at(who, point),
            goal_ratio=goal_ratio,
            better="lower",
        )

    lost = sum(s.lost for one in rounds for s in (one.ours, one.floor, one.floor_few, one.sockets) if s)
    return [
        rtt("rtt_p50", "p50", "floor_few", f"bare AF_XDP, {FEW_FRAMES} frames", 1.3),
        rtt("rtt_p50_equal_memory", "p50", "floor", f"bare AF_XDP, {DEFAULT_MEMORY['frames']} frames"),
        rtt("rtt_p50_sockets", "p50", "sockets", "spinning UDP sockets", 1.0),
        rtt("rtt_p99", "p99", "floor_few", f"bare AF_XDP, {FEW_FRAMES} frames"),
        rtt("rtt_p99_sockets", "p99", "sockets", "spinning UDP sockets"),
        report.result("rtt_lost", "frames", lost),
        report.result(
            "receive_decode_rate",
            "transactions/s",
            median(lambda one: one.rate),
            reference="bare AF_XDP receive",
            reference_value=median(lambda one: one.floor_rate),
            goal_ratio=0.9,
        ),
        report.result("receive_worker_busy", "%", 100 * median(lambda one: one.busy)),
        # More than was sent would be a miscount, and no less a failure.
        report.result("loss_at_80_percent", "packets", abs(loss.sent - loss.decoded), goal=0, better="lower"),
        report.result("loss_longest_gap", "s", loss.longest_gap_ns / 1e9),
        report.result("loss_steal", "s", loss.steal_seconds),
    ]


class Bench:
    """The contenders, on one rig."""

    def __init__(self, standing: rig.Rig, settings: Settings, payloads: str) -> None:
        self.rig = standing
        self.settings = settings
        self.payloads = payloads

    def round(self, n: int) -> Round:
        done = Round()
        turns: list[Callable[[Round], None]] = [self.ours, self.floor, self.sockets]
        for i in range(len(turns)):
            turns[(n + i) % len(turns)](done)
        return done

    # --- contenders -------------------------------------------------------------------------------------------------

    def ours(self, done: Round) -> None:
        with self.daemon():
            done.ours = self.ping("worker-ping", bpf=str(BPF_OBJECT), **DEFAULT_MEMORY)
        with self.daemon(RATE_FRAMES, RATE_RING) as daemon:
            done.rate, done.busy = self.decode_rate(daemon)

    def floor(self, done: Round) -> None:
        done.floor = self.bare(DEFAULT_MEMORY)
        done.floor_few = self.bare({"frames": FEW_FRAMES, "ring": FEW_FRAMES // 2})
        frames = {"frames": RATE_FRAMES, "frame_size": FRAME_SIZE, "ring": RATE_RING}
        with Labio("bare-receive", **self.daemon_end(), interval_ms=100, **frames) as receiver:
            receiver.wait_ready()
            with self.sender(rate=0, seconds=self.settings.seconds + 0.6) as sender:
                self.finish(sender, self.settings.seconds + 0.6)
            lines = list(self.collect(receiver))
        begin = next(i for i, line in enumerate(lines) if line.packets)  # the sender runs from about here on
        first = lines[begin + 3]
        last = [line for line in lines if line.now_ns <= first.now_ns + self.settings.seconds * 1e9][-1]
        done.floor_rate = (last.packets - first.packets) / ((last.now_ns - first.now_ns) / 1e9)

    def bare(self, memory: dict[str, int]) -> Samples:
        with Labio("bare-pong", **self.daemon_end(), **memory) as pong:
            pong.wait_ready()
            return self.ping("bare-ping", **memory)

    def sockets(self, done: Round) -> None:
        end = self.rig.daemon
        options: dict[str, str | int] = {
            "netns": end.netns,
            "from_": end.ipv4,
            "to": self.rig.sender.ipv4,
            "sport": ECHO_PORT,
        }
        with Labio("socket-pong", cpu=self.settings.worker_cpu, nice=NICE, **options) as pong:
            pong.wait_ready()
            done.sockets = self.ping("socket-ping")

    # --- their parts ------------------------------------------------------------------------------------------------

    def daemon_end(self) -> dict[str, str | int]:
        return {
            "netns": self.rig.daemon.netns,
            "device": self.rig.daemon.device,
            "cpu": self.settings.worker_cpu,
            "nice": NICE,
        }

    def daemon(self, frames: int = 0, ring: int = 0) -> Daemon:
        """The product; with its default packet memory, or one for high rates."""
        memory = f"[memory]\nframe_size = {FRAME_SIZE}\nframes = {frames}\nring = {ring}\n\n" if frames else ""
        body = (
            f"{memory}"
            f'[[worker]]\ncpu = {self.settings.worker_cpu}\nidle = "spin"\n\n'
            f'[[capture]]\nname = "echo"\nport = {ECHO_PORT}\ndecoder = "echo"\n\n'
            f'[[capture]]\nname = "tx"\nport = {TX_PORT}\ndecoder = "solana-tx"\n'
        )
        return Daemon(self.rig, self.rig.name, body)

    def ping(self, mode: str, **more: str | int) -> Samples:
        """Runs an initiator to its end."""
        sender = self.rig.sender
        with Labio(
            mode,
            netns=sender.netns,
            device=sender.device,
            smac=sender.mac,
            dmac=self.rig.daemon.mac,
            from_=sender.ipv4,
            to=self.rig.daemon.ipv4,
            sport=PING_PORT,
            dport=ECHO_PORT,
            size=PING_PAYLOAD,
            cpu=self.settings.sender_cpu,
            nice=NICE,
            warm_ms=WARM_MS,
            duration_ms=round(self.settings.seconds * 1000),
            **more,
        ) as ping:
            samples = ping.samples()
        if not samples.count:
            raise ToolError(f"{mode}: not one frame came back", EXIT_UNREACHABLE)
        return samples

    def sender(self, rate: int, seconds: float) -> Labio:
        sender = self.rig.sender
        return Labio(
            "xdp-send",
            netns=sender.netns,
            device=sender.device,
            smac=sender.mac,
            dmac=self.rig.daemon.mac,
            from_=sender.ipv4,
            to=self.rig.daemon.ipv4,
            sport=PING_PORT,
            dport=TX_PORT,
            payloads=self.payloads,
            frame_size=FRAME_SIZE,
            cpu=self.settings.sender_cpu,
            nice=NICE,
            rate=rate,
            duration_ms=round(seconds * 1000),
        )

    def finish(self, sender: Labio, seconds: float) -> Line:
        return sender.result(timeout=seconds + 30)

    def collect(self, receiver: Labio) -> Iterator[Line]:
        receiver.process.terminate()
        return (line for line in receiver.lines(timeout=10) if not line.ready)

    def decode_rate(self, daemon: Daemon) -> tuple[float, float]:
        """Transactions decoded a second while a sender does its utmost, and the worker's busy share meanwhile."""
        with self.sender(rate=0, seconds=self.settings.seconds + 0.6) as sender:
            sender.wait_ready()
            exits.sleep(0.3)
            before = daemon.snapshot()
            exits.sleep(self.settings.seconds)
            delta = Delta(before, daemon.snapshot())
            self.finish(sender, self.settings.seconds + 0.6)
        worker = delta.after.rows("worker")[0]
        return delta.rate("worker", "decoded"), delta.ratio(worker, "busy_ns", "run_ns")

    def loss(self, rate: float) -> Loss:
        """Sends at `rate`; whatever of it is not decoded is lost, wherever it went."""
        ring = min(65536, 1 << (int(rate * STALL_SECONDS) - 1).bit_length())
        with self.daemon(2 * ring, ring) as daemon:
            before, stolen = daemon.snapshot(), report.steal_seconds()
            with self.sender(rate=round(rate), seconds=self.settings.loss_seconds) as sender:
                sent = self.finish(sender, self.settings.loss_seconds)
            after = _settled(daemon, before, sent.queued)
            stolen = report.steal_seconds() - stolen
        delta = Delta(before, after)
        worker = after.rows("worker")[0]
        return Loss(
            sent=sent.queued,
            decoded=_change(delta, "worker", "decoded"),
            rate=sent.queued / (sent.elapsed_ns / 1e9),
            frames=2 * ring,
            longest_gap_ns=delta.histogram(worker, "gap").max,
            steal_seconds=stolen,
            kernel_drops=_change(delta, "kernel", "rx_dropped") + _change(delta, "kernel", "rx_ring_full"),
        )


def _settled(daemon: Daemon, before: Snapshot, expected: int) -> Snapshot:
    """The figures once everything has been decoded, or after a second in which nothing came."""
    last, changed = -1, time.monotonic()
    while True:
        snapshot = daemon.snapshot()
        decoded = snapshot.total("worker", "decoded")
        if decoded != last:
            last, changed = decoded, time.monotonic()
        # The supervisor copies the kernel's drop counters once a second.
        if decoded - before.total("worker", "decoded") >= expected or time.monotonic() - changed > 1.5:
            return snapshot
        exits.sleep(0.02)


def _change(delta: Delta, block: str, name: str) -> int:
    return sum(delta.change(row, name) for row in delta.after.rows(block))


@contextlib.contextmanager
def stock() -> Iterator[str]:
    """A file of different 235-byte transactions."""
    made = emit.make_stock(1024, 1, {"transfer": 1}, 0.0, [])
    assert {len(payload) for payload in made.payloads} == {TARGET_BYTES}
    with emit.payload_file(made.payloads) as file:
        yield file


def _spoken(one: Round) -> str:
    def of(s: Samples | None) -> str:
        return f"{s.p50 / 1e3:.2f}" if s else "-"

    return (
        f"round trip {of(one.ours)} us (bare {of(one.floor)}, sockets {of(one.sockets)}), "
        f"{one.rate / 1e6:.3f} M decoded/s (bare {one.floor_rate / 1e6:.3f})"
    )
