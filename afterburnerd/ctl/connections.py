"""`afterburnerctl connections`: who is connected to whom, and how each connection does.

One line a connection, or with `--full` everything about each; once, or with `--watch` again and again as `top` does. Into a
pipe it prints page after page, with `-j` one JSON document a line.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from afterburnerd.abi import shm
from afterburnerd.cli import EXIT_NOT_RUNNING, EXIT_OK, ToolError
from afterburnerd.ctl import units
from afterburnerd.ctl.base import console, find_daemon, note, print_json, show
from afterburnerd.ctl.connview import OLD_SECONDS, ConnectionView, Found, Wanted, look
from afterburnerd.ctl.top import keys, wait

STATE_STYLES = {"open": "green", "closed": "dim", "idle": "dim"}


def run(args: Namespace) -> int:
    """Show connections; with both processes dead too, then with exit code 3."""
    place = find_daemon(args)
    wanted = Wanted(
        peers=tuple(args.peer or ()),
        states=tuple(args.state or ()),
        role=args.role or "",
        sort=args.sort,
        reverse=args.reverse,
    )
    found = Found()
    try:
        if not args.watch:
            found = look(place)
            _put(found, wanted, args)
        elif args.json or not sys.stdout.isatty():
            for number, found in enumerate(_looks(args)):
                if number and not args.json:
                    print()
                _put(found, wanted, args)
                sys.stdout.flush()
        else:
            found = _screen(wanted, args)
    except shm.ShmError as error:
        raise ToolError(str(error), error.exit_code) from None
    except KeyboardInterrupt:
        return EXIT_OK
    return EXIT_NOT_RUNNING if found.stale else EXIT_OK


def _looks(args: Namespace) -> Iterator[Found]:
    """At their interval until `--count` or q."""
    place, due, seen = find_daemon(args), time.monotonic(), 0
    with keys():
        while True:
            yield look(place)
            seen += 1
            due = max(due + args.interval, time.monotonic())
            if seen == args.count or wait(due):
                return


def _screen(wanted: Wanted, args: Namespace) -> Found:
    from rich.live import Live

    found = Found()
    with Live(console=console(), screen=True, auto_refresh=False) as live:
        for found in _looks(args):
            live.update(page(found, wanted, full=args.full), refresh=True)
    return found


def _put(found: Found, wanted: Wanted, args: Namespace) -> None:
    chosen = wanted.choose(found.connections)
    if args.json:
        document = {n: getattr(found, n) for n in found.__struct_fields__}
        print_json({**document, "connections": chosen})
    else:
        for text in found.notes:
            note(text)
        show(page(found, wanted, full=args.full))


def page(found: Found, wanted: Wanted, *, full: bool) -> Group:
    """What is seen, as text."""
    chosen = wanted.choose(found.connections)
    parts: list[RenderableType] = [summary(found, chosen)]
    if chosen:
        parts += [*(paragraph(c) for c in chosen)] if full else [table(chosen)]
    for listener in found.listeners:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(listener.counts.items())) or "nothing yet"
        parts.append(Text(f"listening: {listener.name} on {where(listener.address, listener.port)}: {counts}"))
    for name, why in found.trouble.items():
        parts.append(Text(f"not listening: {name}: {why}", style="bold red"))
    return Group(*parts)


def summary(found: Found, chosen: tuple[ConnectionView, ...]) -> Text:
    """How many of which state."""
    states: dict[str, int] = {}
    for c in found.connections:
        states[c.state] = states.get(c.state, 0) + 1
    total = len(found.connections)
    line = Text(f"{total} connection{'s' if total != 1 else ''}" if total else "no connection")
    if total:
        line.append(" (" + ", ".join(f"{n} {state}" for state, n in sorted(states.items())) + ")")
    if len(chosen) != total:
        line.append(f", {len(chosen)} shown")
    if found.stale:
        line.append(f"; {found.name} is not running: this is what it left", style="yellow")
    return line


COLUMNS = (
    ("number", "right"), ("name", "left"), ("role", "left"), ("state", "left"), ("peer", "left"), ("by", "left"),
    ("w:q", "right"), ("rtt", "right"), ("cwnd", "right"), ("in flight", "right"),
    ("lost", "right"), ("resent", "right"), ("keys", "right"), ("streams", "right"), ("sent", "right"),
    ("received", "right"), ("waiting", "right"), ("age", "right"),
)  # fmt: skip


def table(chosen: tuple[ConnectionView, ...]) -> Table:
    """One line each."""
    found = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1))
    for title, justify in COLUMNS:
        found.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for c in chosen:
        found.add_row(
            str(c.number or "-"),
            Text(c.name or "-"),
            c.role,
            Text(c.state, style=STATE_STYLES.get(c.state, "yellow")),
            Text(where(c.peer, c.peer_port)),
            c.io or "-",
            f"{c.worker}:{c.queue if c.queue >= 0 else '-'}" if c.worker >= 0 else "-",
            *_figures(c),
            "-" if c.waiting is None else str(c.waiting),
            units.age(c.age * 1e9) if c.figures_age is not None else "-",
            style="dim" if c.figures_age is not None and c.figures_age > OLD_SECONDS else "",
        )
    return found


def _figures(c: ConnectionView) -> tuple[str, ...]:
    if c.figures_age is None:
        return ("-",) * 9
    return (
        units.duration(c.rtt * 1e9),
        units.size(c.cwnd),
        units.size(c.in_flight),
        units.total(int(c.counts["packets_lost"])),
        units.total(int(c.counts["messages_resent"])),
        f"{c.key_generation}/{c.peer_key_generation}",
        units.total(c.uni_opened + c.bidi_opened),
        units.size(c.counts["bytes_sent"]),
        units.size(c.counts["bytes_received"]),
    )


def paragraph(c: ConnectionView) -> Group:
    """Everything about one."""
    name = f" {c.name}" if c.name else ""
    head = Text.assemble(
        (f"{c.number or '-'}{name}", "bold"),
        f" {c.role} ",
        (c.state, STATE_STYLES.get(c.state, "yellow")),
        f" {where(c.local, c.local_port)} -> {where(c.peer, c.peer_port)}",
    )
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    if c.identity:
        grid.add_row("  identity", c.identity)
    if c.waiting is not None:
        grid.add_row("  waiting", f"{c.waiting} messages are not acknowledged yet")
    if c.datagram_max is not None:
        grid.add_row("  DATAGRAMs", f"of up to {c.datagram_max} B" if c.datagram_max else "the peer takes none")
    if c.figures_age is not None:
        counts = {n: int(v) for n, v in c.counts.items()}
        queue = f", queue {c.queue}" if c.queue >= 0 else ""
        grid.add_row("  by", f"worker {c.worker}{queue}, {c.io}, MTU {c.mtu} B")
        grid.add_row("  age", f"{units.age(c.age * 1e9)}; figures of {units.duration(c.figures_age * 1e9)} ago")
        grid.add_row(
            "  keys",
            f"{c.suite}, generation {c.key_generation} ours, {c.peer_key_generation} the peer's, phase {c.key_phase}, "
            f"{counts['key_updates']} updates",
        )
        grid.add_row(
            "  round trip",
            f"smoothed {units.duration(c.rtt * 1e9)}, min {units.duration(c.rtt_min * 1e9)}, latest "
            f"{units.duration(c.rtt_latest * 1e9)}, variation {units.duration(c.rtt_variation * 1e9)}, PTO "
            f"{units.duration(c.pto * 1e9)}",
        )
        grid.add_row(
            "  window",
            f"{units.size(c.cwnd)}, in flight {units.size(c.in_flight)}, {counts['congestion_events']} reductions, "
            f"{counts['ptos']} probe timeouts",
        )
        grid.add_row(
            "  packets",
            f"{counts['packets_sent']:,} sent ({units.size(counts['bytes_sent'])}), {counts['packets_received']:,} received "
            f"({units.size(counts['bytes_received'])}), {counts['packets_lost']:,} lost, {counts['packets_spurious']:,} of "
            f"them spurious, {counts['packets_duplicate']:,} came twice, {counts['packets_undecryptable']:,} not opened",
        )
        grid.add_row(
            "  messages",
            f"{counts['messages_sent']:,} sent, {counts['messages_acked']:,} acknowledged, {counts['messages_failed']:,} "
            f"failed, {counts['messages_resent']:,} sent again; {c.slots} slots held",
        )
        grid.add_row(
            "  streams",
            f"uni {c.uni_opened:,} of {c.uni_limit:,}, bidi {c.bidi_opened:,} of {c.bidi_limit:,}, data "
            f"{units.size(c.data_sent)} of {units.size(c.data_limit)}; {counts['streams_received']:,} received "
            f"({units.size(counts['stream_bytes_received'])}), {c.streams} open",
        )
        blocked = [
            f"{units.duration(c.counts[f'blocked_{what}'] * 1e9)} on {what}" for what in ("streams", "credit", "window")
        ]
        grid.add_row("  blocked", ", ".join(blocked))
        if c.trace:
            grid.add_row("  traced", ", ".join(c.trace))
    return Group(head, grid)


def where(address: str, port: int) -> str:
    """address:port as one writes it."""
    if not address:
        return "-"
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
