"""`make demo`: from nothing to packets arriving through AF_XDP, being decoded and being counted, in less than a minute.

    rig (two namespaces, one veth pair)     afterburner-lab up
      daemon end   afterburnerd             the real one, with a configuration file
      sender end   emit, then a flood       real signed transactions, some broken on purpose

While it runs it shows what an operator would look at (`afterburnerctl status` and `inspect`, the Prometheus page), and in the
end a table in which what was sent, received and decoded stand side by side. Nothing on the host is touched: both ends lie
in namespaces of their own, the daemon has a name and a run directory of its own, and all of it is gone afterwards, after
Ctrl-C too; the demo looks and says so.

Where AF_XDP cannot be had the daemon falls back to UDP sockets; the demo says so and sends by sockets as well.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..abi.layout import TxReason
from ..abi.stats import Delta, Snapshot
from ..cli import EXIT_DEGRADED, EXIT_PERMISSION, ToolError
from . import emit, exits, rig, traffic
from . import path as ways
from .broken import SENDABLE
from .cores import usable_cpus
from .daemon import Daemon
from .labio import Line
from .quantities import count_text
from .report import quantity

EMIT_RATE, EMIT_SECONDS, BROKEN_SHARE = 500, 8.0, 0.1
FLOOD_RATE, FLOOD_SECONDS = 200_000, 3.0
EXPORTER = "127.0.0.1:9475"
MODES = {
    "zero_copy": "AF_XDP, zero-copy",
    "copy": "AF_XDP in the driver (native), one copy",
    "generic": "AF_XDP behind generic XDP, one copy",
    "socket": "UDP sockets, no AF_XDP",
}
PAGE = (  # what is shown of the Prometheus page, in this order
    "afterburner_daemon_state",
    "afterburner_queue_mode",
    "afterburner_queue_receive_packets_total",
    "afterburner_kernel_dropped_packets_total",
    "afterburner_worker_decoded_transactions_total",
    "afterburner_worker_malformed_datagrams_total",
)


class Phase(msgspec.Struct, frozen=True):
    """One kind of traffic, counted at both ends."""

    title: str
    sent: int
    received: int
    decoded: int
    malformed: dict[str, int]
    broken: dict[str, int]  # what was broken on purpose
    p50_ns: int
    p99_ns: int
    longest_gap_ns: int

    @property
    def lost(self) -> int:
        return self.sent - self.decoded - sum(self.malformed.values())


class Screen:
    """What is shown: to the terminal, and, where asked for, recorded for a picture."""

    def __init__(self, svg: Path | None) -> None:
        self.svg = svg
        self.console = Console(
            record=svg is not None,
            width=112 if svg else None,
            force_terminal=True if svg else None,
            color_system="truecolor" if svg else "auto",
            highlight=False,
            emoji=False,
        )

    def say(self, *what: RenderableType) -> None:
        for one in what:
            self.console.print(one)

    def step(self, text: str) -> None:
        self.console.print()
        self.console.print(Text(f"> {text}", style="bold cyan"))

    def output(self, command: str, text: str, limit: int = 40) -> None:
        """A command and what it printed."""
        self.console.print(Text(f"$ {command}", style="bold"))
        lines = text.rstrip().splitlines()
        for line in lines[:limit]:
            self.console.print(Text("  " + line), no_wrap=True, overflow="ellipsis", crop=True)
        if len(lines) > limit:
            self.console.print(Text(f"  ... {len(lines) - limit} more lines", style="dim"))

    @contextmanager
    def live(self) -> Iterator[Live | None]:
        """A view that moves, on a terminal; it is not part of the picture."""
        if not sys.stdout.isatty():
            yield None
            return
        with Live(console=Console(highlight=False, emoji=False), transient=True, refresh_per_second=8) as live:
            yield live

    def save(self) -> None:
        if self.svg:
            self.svg.parent.mkdir(parents=True, exist_ok=True)
            self.svg.write_text(self.console.export_svg(title="make demo", clear=False))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mode",
        choices=("auto", "copy", "generic", "socket"),
        default="auto",
        help="how the daemon takes packets (default: auto)",
    )
    parser.add_argument(
        "--seconds", type=float, default=EMIT_SECONDS, metavar="S", help="how long to send transactions (default: 8)"
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write what was shown as a picture (docs/demo.svg)")


def run(args: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        raise ToolError(
            "the demo makes network namespaces and loads an XDP program, which needs root: run `sudo make demo`",
            EXIT_PERMISSION,
        )
    if not 1 <= args.seconds <= 600:
        raise ToolError(f"--seconds {args.seconds:g}: 1 to 600", 64)
    screen = Screen(args.svg)
    name = f"abd{os.getpid()}"
    wanted = rig.plan(name, isolated=True)
    screen.say(
        Panel(
            "Packets cross a veth pair into the real [bold]afterburnerd[/bold], are taken by AF_XDP, decoded as Solana "
            "transactions in place, and counted.\nEverything happens in two network namespaces of its own and is removed "
            "in the end. Ctrl-C is fine at any time.",
            title="Afterburner demo",
            expand=False,
        )
    )
    with exits.unwinding():
        try:
            with rig.standing(wanted) as standing:
                screen.step("a rig: two namespaces, one veth pair")
                screen.say(_ends(standing))
                with Daemon(standing, name, _config(), f'mode = "{args.mode}"\n', EXPORTER) as daemon:
                    code = Demo(screen, standing, daemon, args.seconds, args.mode).play()
        finally:
            screen.step("what is left behind")
            screen.say(_leftovers(wanted, name))
    screen.save()
    return code


def _config() -> str:
    # A worker that spins needs a core of its own; with only one, sender and daemon would starve each other.
    idle = "spin" if len(usable_cpus()) > 1 else "sleep"
    return (
        "[memory]\nframes = 16384\nring = 8192\n\n"
        f'[[worker]]\nidle = "{idle}"\n\n'
        f'[[capture]]\nname = "tpu"\nport = {ways.DEFAULT_PORT}\ndecoder = "solana-tx"\n'
    )


def _ends(standing: rig.Rig) -> Text:
    ends = (("daemon end", standing.daemon), ("sender end", standing.sender))
    return Text("\n".join(f"  {what}  {end.place:26} {end.device:12} {end.ipv4}" for what, end in ends))


class Demo:
    def __init__(self, screen: Screen, standing: rig.Rig, daemon: Daemon, seconds: float, asked: str) -> None:
        self.screen = screen
        self.rig = standing
        self.daemon = daemon
        self.seconds = seconds
        self.asked = asked
        self.mode = daemon.snapshot().rows("queue")[0].state("mode")
        self.via = "socket" if self.mode == "socket" else "afxdp"
        self.way = ways.Path(
            standing.sender.netns,
            standing.sender.device,
            standing.sender.ipv4,
            standing.daemon.ipv4,
            ways.DEFAULT_PORT,
            standing.sender.mac,
            standing.daemon.mac,
        )

    def play(self) -> int:
        screen = self.screen
        screen.step("the daemon")
        screen.say(
            Text(f"  afterburnerd serves {self.rig.daemon.device}: ").append(
                MODES.get(self.mode, self.mode), "bold green"
            )
        )
        if self.mode in ("generic", "socket") and self.asked == "auto":
            screen.say(
                Text("  AF_XDP in the driver is not to be had here, so it fell back to this. It says:", "yellow")
            )
            screen.say(Text("\n".join(f"  {line}" for line in self.daemon.said(6).splitlines()), "yellow"))

        screen.step(
            f"real signed transactions, {EMIT_RATE} a second for {self.seconds:g} s through UDP sockets, every tenth broken on purpose"
        )
        first = self.transactions()
        screen.step(
            f"a flood: {count_text(FLOOD_RATE)} transactions a second for {FLOOD_SECONDS:g} s through {'AF_XDP' if self.via == 'afxdp' else 'UDP sockets'}"
        )
        second = self.flood()

        screen.step("what an operator sees")
        screen.output("afterburnerctl status", self.ctl("status"))
        screen.output(f"curl http://{EXPORTER}/metrics   (some of it)", self.page(), limit=8)

        screen.step("summary")
        screen.say(_summary(first, second, self.mode), *_reasons(first))
        return _verdict(screen, first, second)

    def transactions(self) -> Phase:
        seed = random.SystemRandom().randrange(2**32)
        order = traffic.Order(via="socket", rate=EMIT_RATE, duration=self.seconds)
        stock = emit.make_stock(order.packets or 1, seed, emit.weights([]), BROKEN_SHARE, list(SENDABLE))
        before = self.daemon.snapshot()
        with self._inspecting() as inspect:
            with emit.payload_file(stock.payloads) as file, self._watched("transactions", before) as view:
                sent = traffic.send(self.way, msgspec.structs.replace(order, payloads=file), view)
            shown = inspect.communicate(timeout=10)[0]
        counts = emit.tally(stock, sent.completed)
        phase = self._phase("transactions", before, sent, {k[1:]: n for k, n in counts.items() if k.startswith("!")})
        self._said(phase)
        self.screen.output("afterburnerctl inspect --count 6", shown)
        return phase

    def flood(self) -> Phase:
        order = traffic.Order(
            via=self.via,
            rate=FLOOD_RATE,
            duration=FLOOD_SECONDS,
            frames=2048,
            frame_size=2048,
            cpu=usable_cpus()[0] if len(usable_cpus()) > 1 else None,
        )
        stock = emit.make_stock(1024, 1, {"transfer": 1}, 0.0, [])
        before = self.daemon.snapshot()
        with emit.payload_file(stock.payloads) as file, self._watched("flood", before) as view:
            sent = traffic.send(self.way, msgspec.structs.replace(order, payloads=file), view)
        phase = self._phase("flood", before, sent, {})
        self._said(phase)
        return phase

    def _said(self, phase: Phase) -> None:
        parts = (
            ("sent", phase.sent),
            ("decoded", phase.decoded),
            ("malformed", sum(phase.malformed.values())),
            ("lost", phase.lost),
        )
        self.screen.say(Text("  " + ", ".join(f"{count_text(n)} {what}" for what, n in parts)))

    @contextmanager
    def _inspecting(self) -> Iterator[subprocess.Popen[str]]:
        """`afterburnerctl inspect` while transactions come."""
        process = subprocess.Popen(
            self._ctl("inspect", "--count", "6"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            process_group=0,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def _ctl(self, *args: str) -> list[str]:
        return [
            "setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "afterburnerd.ctl.main", *args,
            "--config", str(self.daemon.config),
        ]  # fmt: skip

    def ctl(self, *args: str) -> str:
        columns = {**os.environ, "COLUMNS": str(self.screen.console.width - 2)}
        done = subprocess.run(
            self._ctl(*args), capture_output=True, text=True, timeout=20, env=columns, process_group=0
        )
        return done.stdout or done.stderr

    def page(self) -> str:
        """The lines of /metrics that PAGE names, without those of value 0. Fetched inside the daemon's namespace."""
        fetch = f"import urllib.request as r, sys; sys.stdout.write(r.urlopen('http://{EXPORTER}/metrics', timeout=5).read().decode())"
        done = subprocess.run(
            self.rig.daemon.inside(sys.executable, "-c", fetch),
            capture_output=True,
            text=True,
            timeout=20,
            process_group=0,
        )
        if done.returncode:
            return f"no answer: {done.stderr.strip().splitlines()[-1:]}"
        lines = [line for line in done.stdout.splitlines() if not line.endswith(" 0.0")]
        return "\n".join(line for name in PAGE for line in lines if line.startswith(name))

    @contextmanager
    def _watched(self, title: str, before: Snapshot) -> Iterator[traffic.Watch]:
        """Shows how far it is whenever the sender reports."""
        with self.screen.live() as live:
            spoken = time.monotonic()

            def watch(line: Line) -> None:
                nonlocal spoken
                if live:
                    live.update(_progress(title, line, Delta(before, self.daemon.snapshot())))
                elif time.monotonic() - spoken >= 1 and not line.final:
                    spoken = time.monotonic()
                    delta = Delta(before, self.daemon.snapshot())
                    print(
                        f"  {count_text(line.completed)} sent, {count_text(_total(delta, 'worker', 'decoded'))} decoded",
                        flush=True,
                    )

            yield watch

    def _phase(self, title: str, before: Snapshot, sent: traffic.Sent, broken: dict[str, int]) -> Phase:
        """The counts, once all that was sent has been looked at (or nothing more comes)."""
        until = time.monotonic() + 1.5
        while True:
            delta = Delta(before, self.daemon.snapshot())
            malformed = {
                reason.name.lower(): n
                for reason in TxReason
                if reason != TxReason.OK and (n := _total(delta, "worker", f"malformed_{reason.name.lower()}"))
            }
            decoded = _total(delta, "worker", "decoded")
            if decoded + sum(malformed.values()) >= sent.sent or time.monotonic() > until:
                break
            exits.sleep(0.02)
        latency = [delta.histogram(row, "latency") for row in delta.after.rows("worker")]
        gaps = [delta.histogram(row, "gap").max for row in delta.after.rows("worker")]
        return Phase(
            title=title,
            sent=sent.sent,
            received=_total(delta, "queue", "rx_packets"),
            decoded=decoded,
            malformed=malformed,
            broken=broken,
            p50_ns=latency[0].quantile(0.5) if latency else 0,
            p99_ns=latency[0].quantile(0.99) if latency else 0,
            longest_gap_ns=max(gaps, default=0),
        )


def _total(delta: Delta, block: str, name: str) -> int:
    return sum(delta.change(row, name) for row in delta.after.rows(block))


def _progress(title: str, line: Line, delta: Delta) -> Table:
    worker = delta.after.rows("worker")[0]
    latency = delta.histogram(worker, "latency")
    malformed = sum(_total(delta, "worker", f"malformed_{r.name.lower()}") for r in TxReason if r != TxReason.OK)
    table = Table(title=f"{title}, {line.elapsed_ns / 1e9:.1f} s", title_justify="left")
    for name in ("sent", "received", "decoded", "malformed", "latency p50", "p99", "worker busy"):
        table.add_column(name, justify="right", min_width=10)
    table.add_row(
        count_text(line.completed),
        count_text(_total(delta, "queue", "rx_packets")),
        count_text(_total(delta, "worker", "decoded")),
        count_text(malformed),
        _time(latency.quantile(0.5)),
        _time(latency.quantile(0.99)),
        f"{100 * delta.ratio(worker, 'busy_ns', 'run_ns'):.0f} %",
    )
    return table


def _time(ns: int) -> str:
    return quantity(ns / 1e9, "s") if ns else "-"


def _summary(first: Phase, second: Phase, mode: str) -> Table:
    table = Table(title=f"received by {MODES.get(mode, mode)}", title_justify="left")
    table.add_column("")
    for phase in (first, second):
        table.add_column(phase.title, justify="right", min_width=14)
    rows: list[tuple[str, list[str]]] = [
        ("sent (completed by the kernel)", [count_text(p.sent) for p in (first, second)]),
        ("received by the worker", [count_text(p.received) for p in (first, second)]),
        ("decoded", [count_text(p.decoded) for p in (first, second)]),
        ("malformed, refused with a reason", [count_text(sum(p.malformed.values())) for p in (first, second)]),
        ("lost", [count_text(p.lost) for p in (first, second)]),
        ("latency, XDP program to record: p50", [_time(p.p50_ns) for p in (first, second)]),
        ("latency, XDP program to record: p99", [_time(p.p99_ns) for p in (first, second)]),
        ("longest pause of the worker's loop", [_time(p.longest_gap_ns) for p in (first, second)]),
    ]
    for what, cells in rows:
        table.add_row(what, *cells)
    return table


def _reasons(phase: Phase) -> list[RenderableType]:
    """What was broken on purpose beside what was found to be broken."""
    table = Table(title="broken on purpose, and found to be", title_justify="left")
    table.add_column("reason")
    for name in ("sent so", "found so"):
        table.add_column(name, justify="right")
    for reason in sorted({*phase.broken, *phase.malformed}):
        table.add_row(reason, count_text(phase.broken.get(reason, 0)), count_text(phase.malformed.get(reason, 0)))
    return [table]


def _verdict(screen: Screen, first: Phase, second: Phase) -> int:
    lost = first.lost + second.lost
    whole = first.broken == first.malformed and lost == 0
    # What is lost was not looked at; of what was looked at, nothing may have been misjudged.
    sound = first.sent - sum(first.broken.values())
    right = first.decoded <= sound and all(n <= first.broken.get(reason, 0) for reason, n in first.malformed.items())
    if not right or second.malformed or lost < 0 or not (first.decoded and second.decoded):
        screen.say(Text("the counts do not agree: a bug, or somebody else's packets", "bold red"))
        return EXIT_DEGRADED
    if whole:
        screen.say(Text("every transaction that was sent arrived, and each was judged as it was made", "bold green"))
        return 0
    share = 100 * lost / (first.sent + second.sent)
    pause = _time(max(first.longest_gap_ns, second.longest_gap_ns))
    screen.say(
        Text(
            f"{count_text(lost)} were lost ({share:.2f} %), and each of the others was judged as it was made. The worker's "
            f"loop stood still for up to {pause}: other work on this machine, or other tenants of the host, had its CPU for "
            "longer than the packet memory bridges.",
            "yellow",
        )
    )
    return 0


def _leftovers(wanted: rig.Rig, name: str) -> Text:
    """Looks for everything that the demo made."""
    left = [end.netns for end in (wanted.daemon, wanted.sender) if end.netns and rig.netns_exists(end.netns)]
    left += [str(path) for folder in ("/dev/shm", "/tmp", "/sys/class/net") for path in Path(folder).glob(f"{name}*")]
    left += [f"process {pid}" for pid in _processes(name)]
    if left:
        return Text(
            f"  {', '.join(left)}: a bug; `afterburner-lab down --name {name} --isolated` removes the network",
            "bold red",
        )
    return Text(
        "  nothing: no namespace, interface, shared memory, file or process of the demo is there any more", "green"
    )


def _processes(name: str) -> list[int]:
    """Processes whose command line names the demo's directory."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"/{name}-".encode() in one.read_bytes():
                found.append(int(one.parent.name))
        except OSError:
            continue  # ended while we looked
    return found
