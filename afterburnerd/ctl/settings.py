"""`afterburnerctl config show | check | diff`: the configuration, as the files say and as the daemon runs it.

`show` prints TOML that could be fed back, each key with the place that set it. `check` tells everything that is wrong.
`diff` answers the question before a reload: what would it change, and what would that cost?
"""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

import msgspec

from afterburnerd.abi.control import ControlClient
from afterburnerd.cli import EXIT_OK
from afterburnerd.config import DEFAULT_PATH, Change, Config, ConfigError, Loaded, diff, key_path, load, schema, worst
from afterburnerd.config.schema import toml_value
from afterburnerd.ctl.base import Place, find_daemon, print_json
from afterburnerd.ctl.base import show as print_table

CONSEQUENCES = {
    None: "Nothing differs: a reload would change nothing.",
    "live": "A reload would apply this at once.",
    "data-plane": "A reload would apply this and restart the data plane: its packets are dropped for a moment.",
    "restart": "A reload would be refused as a whole; to apply it: systemctl restart afterburner",
}


def show(args: Namespace) -> int:
    """Print the configuration."""
    if args.running:
        with ControlClient(find_daemon(args).run_dir) as daemon:
            reply = daemon.config()
        loaded = Loaded(msgspec.json.decode(reply.config, type=Config), reply.files, {})
    else:
        loaded = load(args.config or DEFAULT_PATH)
    if args.json:
        document = {"files": loaded.files, "running": args.running, "config": loaded.config}
        if not args.running:
            document["origins"] = {key_path(p): o for p, o in loaded.origins.items() if schema_key(p)}
        print_json(document)
    else:
        for line in toml(loaded, running=args.running, changed=args.changed):
            sys.stdout.write(line + "\n")
    return EXIT_OK


def schema_key(path: tuple[str | int, ...]) -> bool:
    """Whether a path is a key of the model rather than a table around keys."""
    return isinstance(path[-1], str) and len(path) > 1


def toml(loaded: Loaded, *, running: bool, changed: bool) -> list[str]:
    """The configuration as TOML, with comments that say where each value comes from."""
    lines = [
        f"# {'Running configuration, read from' if running else 'Read from'} {', '.join(loaded.files) or 'no file'}"
    ]
    for section in schema.sections():
        tables = getattr(loaded.config, section.attribute)
        for number, table in enumerate(tables if section.array else (tables,)):
            rows: list[tuple[str, str]] = []
            for key in section.keys:
                value = msgspec.to_builtins(getattr(table, key.name))
                path = (section.name, number, key.name) if section.array else (section.name, key.name)
                origin = loaded.origin(*path)
                default = not key.required and value == msgspec.to_builtins(key.default)
                if changed and default:
                    continue
                source = str(origin) if origin else "default" if default else ""
                rows.append((f"{key.name} = {toml_value(value)}", source))
            if rows or (section.array and not changed):
                header = f"[[{section.name}]]" if section.array else f"[{section.name}]"
                width = min(max((len(text) for text, _ in rows), default=0), 48)
                lines += ["", header, *(f"{text:{width}}  # {source}" if source else text for text, source in rows)]
    return lines


def check(args: Namespace) -> int:
    """Check the files."""
    try:
        loaded = load(args.config or DEFAULT_PATH)
    except ConfigError as error:
        if not args.json:
            raise
        print_json({"valid": False, "files": [], "problems": error.problems})
        return error.exit_code
    if args.json:
        print_json({"valid": True, "files": loaded.files, "problems": []})
    else:
        print(f"{', '.join(loaded.files)}: valid")
    return EXIT_OK


def compare(args: Namespace) -> int:
    """Compare the running configuration with the files."""
    place = find_daemon(args)
    changes = pending(place)
    class_ = worst(changes)
    if args.json:
        print_json({"changes": changes, "reload": class_})
        return EXIT_OK
    if changes:
        print_changes(changes, old="running", new="files")
    print(CONSEQUENCES[class_])
    return EXIT_OK


def pending(place: Place) -> tuple[Change, ...]:
    """What a reload would change. The daemon's own file is compared, unless another was named."""
    with ControlClient(place.run_dir) as daemon:
        reply = daemon.config()
    path = place.config_path if place.given or not reply.files else reply.files[0]
    return diff(msgspec.json.decode(reply.config, type=Config), load(path).config)


def print_changes(changes: tuple[Change, ...], *, old: str, new: str) -> None:
    """A table of changes."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("key", old, new, "reload"):
        table.add_column(title, overflow="fold")
    colours = {"live": "green", "data-plane": "yellow", "restart": "red"}
    for change in changes:
        row = [
            Text(change.path),
            _cell(change.old),
            _cell(change.new),
            Text(change.reload, style=colours[change.reload]),
        ]
        table.add_row(*row)
    print_table(table)


def _cell(value: Any) -> Any:
    from rich.text import Text

    return Text("-", style="dim") if value is None else Text(toml_value(value))
