"""One run of a generator: starts the C sender, shows how it goes, and says what was really sent.

*Sent* means completed by the kernel and not dropped by the device. AF_XDP completes a frame also when the device had no
room for it and dropped it, so the device's own count of drops (tx_dropped) is taken off. Nothing here speaks of packets
that merely lie in a ring.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from . import rig
from .labio import Labio, Line
from .path import Path
from .quantities import count_text, rate_text

Via = str  # "afxdp" or "socket"
SOURCE_PORT = 40000


class Order(msgspec.Struct, frozen=True):
    """What to send."""

    via: Via
    rate: int  # packets a second, 0: as fast as it goes
    duration: float | None = None  # seconds
    count: int | None = None
    size: int = 200  # payload bytes, where there is no file
    payloads: str | None = None  # file of payloads, see native/options.h
    flows: int = 1  # source ports
    queue: int = 0
    cpu: int | None = None
    batch: int = 32
    frames: int = 4096
    frame_size: int = 4096

    @property
    def packets(self) -> int | None:
        """How many it will be, if that is known."""
        known = [n for n in (self.count, int(self.duration * self.rate) if self.duration and self.rate else None) if n]
        return min(known) if known else None


class Sent(msgspec.Struct, frozen=True):
    """What became of it."""

    via: Via
    to: str
    seconds: float
    queued: int  # handed to the kernel
    completed: int  # which the kernel reported as sent (a socket reports at once)
    dropped_by_device: int  # of these
    refused: int  # answered by "port unreachable": nobody listens there
    sent: int
    sent_bytes: int  # frames, Ethernet header included
    packets_per_second: float
    bits_per_second: float


def device_drops(path: Path) -> int:
    found = rig.link(rig.End(path.netns, path.device, "", "", "", ""))
    if not found:
        return 0
    return int(found.get("stats64", found.get("stats", {})).get("tx", {}).get("dropped", 0))


Watch = Callable[[Line], None]


def send(path: Path, order: Order, watch: Watch | None = None, interruptible: bool = False) -> Sent:
    """Sends, and returns when everything is out. `interruptible`: Ctrl-C ends it early, with a true count as well."""
    before = device_drops(path)
    with Labio(
        "xdp-send" if order.via == "afxdp" else "socket-send",
        netns=path.netns or None,
        device=path.device,
        smac=path.smac or None,
        dmac=path.dmac or None,
        from_=path.source,
        to=path.target,
        sport=SOURCE_PORT,
        dport=path.port,
        rate=order.rate,
        duration_ms=round(order.duration * 1000) if order.duration else None,
        count=order.count,
        size=order.size,
        payloads=order.payloads,
        flows=order.flows,
        queue=order.queue,
        cpu=order.cpu,
        batch=order.batch,
        frames=order.frames,
        frame_size=order.frame_size,
        ring=2048,
        interval_ms=100,
    ) as sender:
        try:
            final = None
            for line in sender.lines(timeout=30):
                if line.final:
                    final = line
                elif watch and not line.ready:
                    watch(line)
        except KeyboardInterrupt:
            if not interruptible:
                raise
            final = sender.stop()
    assert final is not None
    if watch:
        watch(final)
    dropped = device_drops(path) - before
    sent = max(0, final.completed - dropped)
    seconds = final.elapsed_ns / 1e9
    bytes_ = round(final.bytes * sent / final.queued) if final.queued else 0
    return Sent(
        via=order.via,
        to=path.text,
        seconds=round(seconds, 6),
        queued=final.queued,
        completed=final.completed,
        dropped_by_device=dropped,
        refused=final.refused,
        sent=sent,
        sent_bytes=bytes_,
        packets_per_second=round(sent / seconds, 3) if seconds else 0.0,
        bits_per_second=round(8 * bytes_ / seconds, 3) if seconds else 0.0,
    )


@contextmanager
def progress(title: str, order: Order, quiet: bool) -> Iterator[Watch | None]:
    """How it goes, on standard error: a bar on a terminal, a line a second elsewhere, nothing when quiet."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar(title, order) as watch:
            yield watch
    else:
        yield _liner(title, order)


@contextmanager
def _bar(title: str, order: Order) -> Iterator[Watch]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    total = order.packets or (order.duration and order.duration * 1e9)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=total, said="")

        def watch(line: Line) -> None:
            bars.update(task, completed=line.completed if order.packets else line.elapsed_ns, said=_said(line))

        yield watch


def _liner(title: str, order: Order) -> Watch:
    last = [0]

    def watch(line: Line) -> None:
        if line.elapsed_ns - last[0] >= 1_000_000_000 and not line.final:
            last[0] = line.elapsed_ns
            of = f" of {count_text(order.packets)}" if order.packets else ""
            print(f"{title}: {line.elapsed_ns / 1e9:.0f} s, {_said(line)}{of}", file=sys.stderr, flush=True)

    return watch


def _said(line: Line) -> str:
    rate = line.completed / (line.elapsed_ns / 1e9) if line.elapsed_ns else 0.0
    return f"{count_text(line.completed)} sent, {rate_text(rate)}"
