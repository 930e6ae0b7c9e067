"""How a view looks on a terminal. Pure: a `View` in, something that rich can print out.

Colour marks what needs attention, and only that: red for loss and death, yellow for what is not as configured.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from afterburnerd.ctl import units
from afterburnerd.ctl.view import Spread, View

GOOD, WARN, BAD, DIM = "green", "yellow", "bold red", "dim"

STATE_STYLES = {
    "serving": GOOD,
    "running": GOOD,
    "degraded": WARN,
    "recovering": WARN,
    "starting": WARN,
    "stopping": WARN,
    "stopped": WARN,
    "paused": WARN,
}


# What comes from outside (addresses, file names, texts of the daemon) goes into a `Text`: rich reads a plain string as
# markup, in which "[fd00::1]" is a style and vanishes.


def headline(view: View) -> Text:
    """One line: who, where, how."""
    line = Text()
    line.append(f"{view.name}", style="bold")
    if view.version:
        line.append(f" {view.version}")
    if view.interface:
        driver = f"{view.driver}, " if view.driver else ""
        line.append(f" on {view.interface} ({driver}{view.mode})")
    line.append(": ")
    if view.stale:
        ago = f", last sign of life {units.age(view.heartbeat_age * 1e9)} ago" if view.heartbeat_age is not None else ""
        line.append("not running", style=BAD)
        line.append(f"; stale figures{ago}", style=WARN)
    else:
        line.append(view.state, style=STATE_STYLES.get(view.state, BAD))
        if view.detail:
            line.append(f" - {view.detail}")
    return line


def facts(view: View) -> Table:
    """What does not change from second to second."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=DIM)
    grid.add_column(overflow="fold")
    when = units.moment((view.taken - view.uptime) * 1e9) if view.uptime else "unknown"
    grid.add_row("since", f"{when} ({units.age(view.uptime * 1e9)}), PID {view.pid}")
    up = Text("up", style=GOOD) if view.interface_up else Text("down", style=BAD)
    if view.stale:
        up = Text("(as it was)")
    grid.add_row(
        "interface", Text.assemble(f"{view.interface or '-'} ", up, f", MTU {view.mtu}, XDP program: {view.xdp}")
    )
    if view.quic_backend:
        grid.add_row("QUIC", Text(view.quic_backend))
    files = f" from {', '.join(view.config_files)}" if view.config_files else ""
    grid.add_row("configuration", Text(f"{view.configuration}{files}"))
    grid.add_row("latency", _spread(view.latency_total))
    if view.control and not view.stale:
        grid.add_row("control socket", Text(view.control, style=WARN))
    return grid


def _spread(spread: Spread) -> str:
    if not spread.count:
        return "-"
    values = ("p50", spread.p50), ("p90", spread.p90), ("p99", spread.p99), ("p99.9", spread.p999), ("max", spread.max)
    return "  ".join(f"{name} {units.duration(value * 1e9)}" for name, value in values)


def workers(view: View) -> RenderableType:
    """One line a worker."""
    table = _table("worker", "state", "cpu", "queues", numbers=("busy", "rx/s", "decoded/s", "malformed/s", "lost/s"))
    notes = []
    for w in view.workers:
        table.add_row(
            str(w.index),
            Text(w.state, style=STATE_STYLES.get(w.state, BAD)),
            str(w.cpu) if w.cpu >= 0 else "-",
            units.queues(w.queues),
            units.percent(w.busy),
            units.rate(w.received_rate),
            units.rate(w.decoded_rate),
            units.rate(w.malformed_rate),
            Text(units.rate(w.dropped_rate), style=BAD if w.dropped_rate else ""),
        )
        if w.restarts or w.last_failure:
            times = f"{w.restarts} restart{'s' if w.restarts != 1 else ''}"
            last = f", last failure: {w.last_failure}" if w.last_failure else ""
            notes.append(Text(f"worker {w.index}: {times}{last}", style=WARN))
    return Group(table, *notes)


def latency(view: View) -> Table:
    """From the XDP program to the record, of the window; dim and of the whole life where nothing arrived in it."""
    table = _table("latency", numbers=("p50", "p90", "p99", "p99.9", "max", "longest loop gap"))
    for w in view.workers:
        spread = w.latency if w.latency.count else w.latency_total
        style = "" if w.latency.count else DIM
        values = (spread.p50, spread.p90, spread.p99, spread.p999, spread.max)
        cells = [Text(units.duration(v * 1e9) if spread.count else "-", style=style) for v in values]
        table.add_row(f"worker {w.index}", *cells, units.duration((w.gap.max or w.longest_gap) * 1e9))
    return table


def queues(view: View) -> Table:
    """One line a queue: what moves."""
    table = _table("queue", "worker", "mode", numbers=("rx/s", "rx bit/s", "tx/s", "batch", "kicks/s"))
    for q in view.queues:
        table.add_row(
            str(q.queue),
            str(q.worker),
            Text(q.mode, style="" if q.mode in ("zero-copy", "copy") else WARN),
            units.rate(q.rx_rate),
            units.bits(q.rx_bytes_rate),
            units.rate(q.tx_rate),
            f"{q.batch:.1f}" if q.batch else "-",
            units.rate(q.kicks_rate),
        )
    return table


def rings(view: View) -> Table:
    """One line a queue: where its descriptors and frames are. Frames that do not add up are red."""
    table = _table("queue", numbers=("FILL", "RX", "TX", "COMP", "of", "frames", "in rx", "in worker", "in tx", "err"))
    for q in view.queues:
        levels = (q.fill_level, q.rx_level, q.tx_level, q.completion_level, q.ring_size)
        frames = (q.frames, q.frames_rx, q.frames_worker, q.frames_tx)
        errors = Text(units.rate(q.frame_errors), style=BAD if q.frame_errors else "")
        table.add_row(str(q.queue), *(str(n) for n in (*levels, *frames)), errors)
    return table


def rules(view: View) -> Table:
    """One line a capture rule."""
    table = _table("rule", "address", "decoder", numbers=("packets/s", "packets", "decoded", "malformed"))
    table.columns[1].no_wrap = False  # an IPv6 address may be 47 characters long
    table.columns[1].overflow = "fold"
    for r in view.rules:
        numbers = (units.total(n) for n in (r.packets, r.decoded, r.malformed))
        table.add_row(r.name, Text(r.where or "-"), r.decoder or "-", units.rate(r.packets_rate), *numbers)
    return table


def quic(view: View, *, live: bool) -> list[RenderableType]:
    """How many connections, by what means; live also what moves."""
    q = view.quic
    if q is None:
        return []
    total = sum(q.states.values())
    parts = [f"{n} {text}" for text, n in (*q.states.items(), *q.roles.items())]
    line = Text.assemble(("QUIC ", "bold"), f"{total} connection{'s' if total != 1 else ''}")
    if parts:
        line.append(f" ({', '.join(parts)})")
    if q.rtt:
        line.append(f", round trip {units.duration(q.rtt * 1e9)}, longest {units.duration(q.rtt_max * 1e9)}")
    lines: list[RenderableType] = [line]
    for e in q.engines:
        over = ", ".join(f"{n} over {kind}" for kind, n in e.over.items()) or "none yet"
        crypto = e.crypto + (f": {e.crypto_reason}" if e.crypto_reason else "") if e.crypto else "no engine yet"
        lines.append(Text(f"  worker {e.worker}: {e.connections} of {e.room} ({over}); packets protected by {crypto}"))
    if live:
        table = _table("QUIC", numbers=("sent/s", "received/s", "lost/s", "acked msg/s", "resent/s", "streams/s"))
        lost = Text(units.rate(q.lost_rate), style=WARN if q.lost_rate else "")
        rest = (units.rate(v) for v in (q.acked_rate, q.resent_rate, q.streams_rate))
        table.add_row("all workers", units.rate(q.sent_rate), units.rate(q.received_rate), lost, *rest)
        lines.append(table)
    return lines


def stats_line(view: View) -> Text:
    """One line for those who know it from elsewhere, and for grep: from XDP to the record, received, lost; since the start."""
    spread = view.latency if view.latency.count else view.latency_total
    trip = (spread.mean, spread.min, spread.max)
    average, least, most = (f"{value * 1e6:.1f}" for value in trip)
    received, lost = sum(q.rx_packets for q in view.queues), sum(d.packets for d in view.drops)
    return Text(f"[STATS] Lat(us) Avg={average} Min={least} Max={most} | RX: {received} | Lost: {lost}", style=DIM)


def drops(view: View) -> Table:
    """Where packets were lost; no rows is the good case."""
    table = _table("lost at", "reason", numbers=("packets", "packets/s"))
    for d in view.drops:
        style = BAD if d.rate else ""
        table.add_row(d.where, d.reason, units.total(d.packets), Text(units.rate(d.rate), style=style))
    return table


def notices(view: View) -> list[Text]:
    """What is configured and not in force, with what to do."""
    lines = []
    for n in view.notices:
        line = Text("! " if n.degraded else "* ", style=BAD if n.degraded else WARN)
        line.append(n.text, style="")
        if n.hint:
            line.append(f"\n  {n.hint}", style=DIM)
        lines.append(line)
    return lines


def page(view: View, *, live: bool) -> Group:
    """All of it: the page of `status`, or with `live` that of `top`."""
    parts: list[RenderableType] = [headline(view)]
    if not live:
        parts.append(facts(view))
    elif view.control and not view.stale:
        parts.append(Text(view.control, style=WARN))
    parts += notices(view)
    if view.workers:
        parts += ["", workers(view), "", latency(view)]
    if view.quic is not None:
        parts += ["", *quic(view, live=live)]
    if live and view.queues:
        parts += ["", queues(view), "", rings(view)]
    if view.rules:
        parts += ["", rules(view)]
    if view.drops:
        parts += ["", drops(view)]
    if live and view.workers:
        parts += ["", stats_line(view)]
    return Group(*parts)


def _table(*columns: str, numbers: tuple[str, ...]) -> Table:
    """Columns are chosen so that 80 are enough; what is cut all the same ends in an ellipsis."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for name in columns:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, no_wrap=True, justify="right")
    return table
