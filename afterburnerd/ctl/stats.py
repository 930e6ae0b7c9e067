"""`afterburnerctl stats`: every figure, under the names and with the meaning that the segment itself gives.

Nothing here knows a particular figure, so figures of a newer daemon are printed as well. Histograms are shown by their
quantiles; `-j` gives them in nanoseconds, as they are recorded.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from afterburnerd.abi import shm
from afterburnerd.abi.description import Field
from afterburnerd.abi.histogram import Histogram
from afterburnerd.abi.stats import Row, Snapshot, StatsReader
from afterburnerd.cli import EXIT_NOT_RUNNING, EXIT_OK, ToolError
from afterburnerd.ctl import units
from afterburnerd.ctl.base import find_daemon, note, print_json, show
from afterburnerd.ctl.view import QUANTILES

YEAR_NS = 365 * 86_400 * 1_000_000_000
"""Longer than any duration that is counted: such a gauge is a point in time."""
EXACT_BYTES = 65_536  # as many fit into a packet: from here on nobody counts single ones


def run(args: Namespace) -> int:
    """Print figures; with both processes dead too, then with exit code 3."""
    place = find_daemon(args)
    try:
        with StatsReader.open(place.name) as reader:
            snapshot = reader.read()
    except shm.ShmError as error:
        raise ToolError(str(error), error.exit_code) from None
    if args.json:
        print_json(document(snapshot, place.name, args.pattern, nonzero=args.nonzero))
    else:
        _print(snapshot, place.name, args)
    if args.pattern and not any(chosen(snapshot, args.pattern, nonzero=False)):
        note(f"no figure is called {' or '.join(map(repr, args.pattern))}; `afterburnerctl stats` lists all of them")
    return EXIT_NOT_RUNNING if snapshot.stale else EXIT_OK


def chosen(snapshot: Snapshot, pattern: list[str], *, nonzero: bool) -> Iterator[tuple[Row, list[Field]]]:
    """Rows and the figures of them that are asked for. A figure's full name is block.name{label=value}."""
    for block in snapshot.blocks:
        for row in snapshot.rows(block):
            labels = ",".join(f"{k}={v}" for k, v in row.labels.items())
            fields = []
            for field in row.fields:
                name = f"{block}.{field.name}{{{labels}}}"
                wanted = not pattern or any(p in name for p in pattern)
                if wanted and not (nonzero and _empty(row, field)):
                    fields.append(field)
            if fields:
                yield row, fields


def _empty(row: Row, field: Field) -> bool:
    if field.kind == "histogram":
        return row.histogram(field.name).count == 0
    return field.kind != "enum" and row.value(field.name) == 0


def document(snapshot: Snapshot, name: str, pattern: list[str], *, nonzero: bool) -> dict[str, Any]:
    """All figures as one JSON document."""
    blocks: dict[str, list[Any]] = {}
    for row, fields in chosen(snapshot, pattern, nonzero=nonzero):
        figures = {f.name: _figure(row, f) for f in fields}
        blocks.setdefault(row.block.name, []).append({"labels": row.labels, "figures": figures})
    return {
        "name": name,
        "stale": snapshot.stale,
        "taken_ns": snapshot.wall_ns,
        "created_ns": snapshot.created_ns,
        "info": snapshot.info,
        "blocks": blocks,
    }


def _figure(row: Row, field: Field) -> Any:
    if field.kind == "enum":
        return row.state(field.name)
    if field.kind != "histogram":
        return row.value(field.name)
    h = row.histogram(field.name)
    quantiles = {label: h.quantile(q) for label, q in QUANTILES}
    return {"count": h.count, "sum": h.sum, "min": h.min, "max": h.max, "mean": h.mean, **quantiles}


def _print(snapshot: Snapshot, name: str, args: Namespace) -> None:
    from rich.table import Table
    from rich.text import Text

    if snapshot.stale:
        show(Text(f"{name} is not running: these figures are what it left", style="yellow"))
    for row, fields in chosen(snapshot, args.pattern, nonzero=args.nonzero):
        labels = ", ".join(f"{k} {v}" for k, v in row.labels.items())
        show(Text(f"{row.block.name}{f' ({labels})' if labels else ''}", style="bold"))
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(style="dim", overflow="fold")
        for field in fields:
            table.add_row(f"  {field.name}", _text(row, field), field.help)
        show(table)


def _text(row: Row, field: Field) -> str:
    if field.kind == "enum":
        return row.state(field.name)
    if field.kind == "histogram":
        return _quantiles(row.histogram(field.name))
    value = row.value(field.name)
    if field.unit == "ns" and field.kind != "internal":
        return units.moment(value) if value > YEAR_NS else units.duration(value)
    if field.unit == "bytes":
        return units.size(value) if value >= EXACT_BYTES else f"{value:,} B"  # an MTU is 1,500 B, not 1.46 KiB
    return units.count(value) if field.kind != "internal" else str(value)


def _quantiles(h: Histogram) -> str:
    if not h.count:
        return "empty"
    parts = [f"{label.replace('p999', 'p99.9')} {units.duration(h.quantile(q))}" for label, q in QUANTILES]
    return f"{units.count(h.count)} values, {', '.join(parts)}, max {units.duration(h.max)}"
