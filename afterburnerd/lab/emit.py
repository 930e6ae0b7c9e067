"""`afterburner-lab emit`: real signed Solana transactions, and broken ones on demand.

A stock is made and signed first (some 50 us each), then sent round and round at the wanted rate; up to `--stock` of them
no two are alike. What is sent is decided before the first packet leaves, from a seed: shapes in equal parts or as weighted,
broken ones spread evenly among them. So the summary counts by shape and by reason exactly, from the number sent alone.
"""

from __future__ import annotations

import argparse
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from ..cli import ToolError, nearest
from . import flood, path, quantities, traffic
from .broken import SENDABLE, UNSOUND, malformed, unsound
from .quantities import count_text
from .transactions import SHAPES, Maker

EXAMPLES = """\
examples:
  afterburner-lab emit                                  100 transactions a second of every shape, for 10 s
  afterburner-lab emit --shape transfer --rate 10k      one shape, faster
  afterburner-lab emit --shape transfer=3 --shape swap  three transfers for each swap
  afterburner-lab emit --broken 10%                     a tenth of them malformed, each reason in turn
  afterburner-lab emit --broken trailing_bytes --count 5
  afterburner-lab emit --list                           the shapes and the ways to break them
"""


class Emitted(msgspec.Struct, frozen=True):
    """Summary: the run, and how many of each."""

    sent: traffic.Sent
    shapes: dict[str, int]
    broken: dict[str, int]  # malformed and unsound, by reason
    stock: int
    seed: int


class Stock(msgspec.Struct, frozen=True):
    payloads: tuple[bytes, ...]
    labels: tuple[str, ...]  # shape, or "!reason" for broken ones


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=quantities.rate, default=100, metavar="TPS", help="100, 10k, max (default: 100)")
    parser.add_argument(
        "--duration", type=quantities.duration, metavar="TIME", help="500ms, 30s, 2m (default: 10s, or until --count)"
    )
    parser.add_argument("--count", type=quantities.amount, metavar="N", help="stop after so many")
    parser.add_argument(
        "--shape", action="append", default=[], metavar="SHAPE[=WEIGHT]", help="default: every shape alike"
    )
    parser.add_argument(
        "--broken",
        action="append",
        default=[],
        metavar="REASON|PERCENT",
        help="a share of malformed ones (10%%), or only those of a reason",
    )
    parser.add_argument("--seed", type=int, help="the same seed sends the same bytes (default: a new one, shown)")
    parser.add_argument(
        "--stock", type=quantities.amount, default=10_000, metavar="N", help="how many to sign at most (default: 10k)"
    )
    parser.add_argument("--list", action="store_true", help="show shapes and reasons, send nothing")
    flood.add_sender_arguments(parser, default="socket")
    path.add_arguments(parser)


def weights(shapes: list[str]) -> dict[str, int]:
    chosen: dict[str, int] = {}
    for text in shapes or list(SHAPES):
        name, _, weight = text.partition("=")
        if name not in SHAPES:
            raise ToolError(
                f"--shape {text}: no such shape{nearest(name, SHAPES) or '; there are ' + ', '.join(SHAPES)}", 64
            )
        if weight and (not weight.isdigit() or not 1 <= int(weight) <= 1000):
            raise ToolError(f"--shape {text}: a weight is a whole number from 1 to 1000", 64)
        chosen[name] = chosen.get(name, 0) + int(weight or 1)
    return chosen


def faults(broken: list[str]) -> tuple[float, list[str]]:
    """Share of broken ones (0..1) and the reasons that they take turns with."""
    share: float | None = None
    reasons: list[str] = []
    for text in broken:
        if text.endswith("%") or text.replace(".", "", 1).isdigit():
            try:
                share = float(text.removesuffix("%")) / 100
            except ValueError:
                share = -1
            if not 0 <= share <= 1:
                raise ToolError(f"--broken {text}: a share is 0% to 100%", 64)
        elif text in SENDABLE or text in UNSOUND:
            reasons.append(text)
        else:
            every = [*SENDABLE, *UNSOUND]
            raise ToolError(
                f"--broken {text}: no such reason{nearest(text, every) or '; see afterburner-lab emit --list'}", 64
            )
    if share is None:
        share = 1.0 if reasons else 0.0
    return share, reasons or list(SENDABLE)


def make_stock(size: int, seed: int, shapes: dict[str, int], share: float, reasons: list[str]) -> Stock:
    maker = Maker(seed)
    names = [name for name, weight in shapes.items() for _ in range(weight)]
    order = random.Random(seed)
    payloads, labels = [], []
    sound = faulty = 0
    for n in range(size):
        # Spread evenly (Bresenham): after n packets the share is right to within one, wherever the run is cut off.
        if int((n + 1) * share) > int(n * share):
            reason = reasons[faulty % len(reasons)]
            faulty += 1
            payloads.append(malformed(maker, reason) if reason in SENDABLE else unsound(maker, reason))
            labels.append("!" + reason)
        else:
            if sound % len(names) == 0:
                order.shuffle(names)
            name = names[sound % len(names)]
            sound += 1
            payloads.append(maker.make(name))
            labels.append(name)
    return Stock(tuple(payloads), tuple(labels))


@contextmanager
def payload_file(payloads: tuple[bytes, ...]) -> Iterator[str]:
    """The payloads as the C sender reads them, in memory: nothing to clean up whatever happens."""
    handle = os.memfd_create("afterburner-lab-payloads", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(handle), "wb") as file:
            for payload in payloads:
                file.write(len(payload).to_bytes(2, "little") + payload)
        yield f"/proc/{os.getpid()}/fd/{handle}"
    finally:
        os.close(handle)


def tally(stock: Stock, sent: int) -> Counter[str]:
    """How many of each label the first `sent` packets were: the sender goes round the stock in order."""
    rounds, rest = divmod(sent, len(stock.labels))
    counts = Counter({label: n * rounds for label, n in Counter(stock.labels).items()}) if rounds else Counter[str]()
    counts.update(stock.labels[:rest])
    return counts


def emit(
    way: path.Path, order: traffic.Order, stock: Stock, seed: int, quiet: bool, interruptible: bool = False
) -> Emitted:
    with payload_file(stock.payloads) as file, traffic.progress("emit", order, quiet) as watch:
        sent = traffic.send(way, msgspec.structs.replace(order, payloads=file), watch, interruptible)
    counts = tally(stock, sent.completed)
    return Emitted(
        sent=sent,
        shapes={label: n for label, n in sorted(counts.items()) if not label.startswith("!")},
        broken={label[1:]: n for label, n in sorted(counts.items()) if label.startswith("!")},
        stock=len(stock.payloads),
        seed=seed,
    )


def run(args: argparse.Namespace) -> int:
    if args.list:
        return _list(args.json)
    shapes = weights(args.shape)
    share, reasons = faults(args.broken)
    way = path.resolve(args, by_frame=args.via == "afxdp")
    flood.check_sender(args, way)
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(2**32)
    # A frame of its own for each transaction: the AF_XDP sender prepares them before it begins.
    room = 8192 if args.via == "afxdp" else args.stock
    order = traffic.Order(
        via=args.via,
        rate=args.rate,
        duration=args.duration or (None if args.count else 10.0),
        count=args.count,
        queue=args.queue,
        cpu=args.cpu,
        batch=32,
        frames=8192,
        frame_size=2048,
    )
    stock = make_stock(min(args.stock, room, order.packets or args.stock), seed, shapes, share, reasons)
    emitted = emit(way, order, stock, seed, quiet=args.json, interruptible=True)
    print(msgspec.json.encode(emitted).decode() if args.json else summary(emitted))
    return 0


def summary(emitted: Emitted) -> str:
    lines = [flood.summary(emitted.sent)]
    lines += [f"  {name:24} {count_text(n):>12}" for name, n in emitted.shapes.items()]
    lines += [f"  {'broken: ' + name:24} {count_text(n):>12}" for name, n in emitted.broken.items()]
    again = emitted.sent.sent > emitted.stock
    lines.append(
        f"seed {emitted.seed}"
        + (f"; the {count_text(emitted.stock)} signed ones were sent again and again" if again else "")
    )
    return "\n".join(lines)


def _list(json: bool) -> int:
    maker = Maker(1)
    sizes = {name: len(maker.make(name)) for name in SHAPES}
    if json:
        known = {"shapes": sizes, "malformed": list(SENDABLE), "unsound": list(UNSOUND)}
        print(msgspec.json.encode(known).decode())
        return 0
    print("shapes:")
    for name, size in sizes.items():
        print(f"  {name:24} {size:>6} bytes")
    print("broken, malformed (the decoder refuses them):")
    for reason in SENDABLE:
        print(f"  {reason}")
    print("broken, unsound (well-formed, but they contradict themselves):")
    for reason in UNSOUND:
        print(f"  {reason}")
    return 0
