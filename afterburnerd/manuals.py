"""Writes manual pages and completion scripts, or with --check says which of them are stale.

    python -m afterburnerd.manuals            write
    python -m afterburnerd.manuals --check    exit 1 where a committed file is not what the parsers say

    build_parser() of each executable --> docs/man/NAME.1 or .8
                                      --> deploy/completion/{bash,zsh,fish}
    afterburnerd.config.schema        --> docs/man/afterburner.toml.5

A tool of developers: it needs shtab, which is none of the daemon's dependencies, and reaches into every room for its
parser, which the daemon's own code must not.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from typing import cast

from msgspec import Struct

from afterburnerd import generated, roff
from afterburnerd.config import schema
from afterburnerd.config.schema import toml_value

SHELLS = {
    "bash": "deploy/completion/bash/{name}",
    "zsh": "deploy/completion/zsh/_{name}",
    "fish": "deploy/completion/fish/{name}.fish",
}

CONFIG_FILES = (
    ("/etc/afterburner/afterburner.toml", "The configuration; see afterburner.toml(5)."),
    ("/etc/afterburner/conf.d/*.toml", "Read after it, in the order of their names."),
    ("/run/afterburner/control.sock", "Control socket of the running daemon."),
    ("/dev/shm/afterburner.stats", "Statistics, readable by everyone, also after the daemon's death."),
    ("/dev/shm/afterburner.records.*", "Record rings of the workers."),
)
LAB_FILES = (("/run/netns", "Network namespaces of the rigs."),)


class Executable(Struct, frozen=True):
    """One executable that has a parser."""

    name: str
    module: str  # has build_parser()
    section: int
    files: tuple[tuple[str, str], ...]
    also: tuple[str, ...]

    def parser(self) -> argparse.ArgumentParser | None:
        """Its parser; None while it has none."""
        try:
            module = importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if error.name != self.module:
                raise
            return None
        build = getattr(module, "build_parser", None)
        return cast(argparse.ArgumentParser, build()) if build else None


EXECUTABLES = (
    Executable(
        "afterburnerd",
        "afterburnerd.supervisor.main",
        8,
        CONFIG_FILES,
        ("afterburnerctl(1)", "afterburner.toml(5)", "systemctl(1)"),
    ),
    Executable(
        "afterburnerctl",
        "afterburnerd.ctl.main",
        1,
        CONFIG_FILES,
        ("afterburnerd(8)", "afterburner.toml(5)", "systemctl(1)", "journalctl(1)"),
    ),
    Executable(
        "afterburner-lab",
        "afterburnerd.lab.main",
        1,
        LAB_FILES,
        ("afterburnerd(8)", "afterburnerctl(1)", "ip-netns(8)", "veth(4)"),
    ),
)


def rendered() -> Iterator[tuple[str, str]]:
    """Every generated file: path in the tree, text."""
    for executable in EXECUTABLES:
        parser = executable.parser()
        if parser is None:
            continue
        page = roff.of_parser(parser, executable.section, executable.files, executable.also)
        yield f"docs/man/{executable.name}.{executable.section}", page
        for shell, path in SHELLS.items():
            yield path.format(name=executable.name), completion(parser, shell)
    yield "docs/man/afterburner.toml.5", configuration()


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """A completion script. Options whose value is a file or a directory complete those."""
    import shtab

    for one in _tree(parser):
        for action in one._actions:
            kind = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}.get(str(action.metavar))
            if kind:
                action.complete = kind  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell)).rstrip() + "\n"


def _tree(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _tree(command)


def configuration() -> str:
    """afterburner.toml(5), from the model of the configuration."""
    page = roff.Page("afterburner.toml", 5, "configuration of the Afterburner daemon")
    page.heading("SYNOPSIS")
    page.lines += [
        roff.italic("/etc/afterburner/afterburner.toml"),
        ".br",
        roff.italic("/etc/afterburner/conf.d/*.toml"),
    ]
    page.heading("DESCRIPTION")
    page.text(
        "The daemon reads the main file and then the files of `conf.d` beside it, in the order of their names. Tables merge, "
        "of a value the last file wins, arrays of tables ([[capture]], [[worker]]) add up."
    )
    page.text(
        "What a reload does with a change is said with each key: `live` is applied to the running processes, for "
        "`data-plane` the data plane is restarted, and a reload that changes a key of class `restart` is refused as a whole. "
        "A reload applies everything or nothing; `afterburnerctl config diff` shows beforehand what it would change."
    )
    for section in schema.sections():
        page.heading(f"[[{section.name}]]" if section.array else f"[{section.name}]")
        page.text(section.help)
        for key in section.keys:
            default = "required" if key.required else f"default: {toml_value(key.default)}"
            unit = f"; unit: {key.unit}" if key.unit else ""
            why = (f"Reason of the default: {key.why}.",) if key.why else ()
            page.item(roff.bold(key.name), key.help, f"{key.accepts}{unit}; {default}; reload: {key.reload}", *why)
    page.heading("EXAMPLES")
    page.verbatim(["[interface]", 'name = "eth0"', "", "[[capture]]", 'name = "tpu"', "port = 8001"])
    page.heading("SEE ALSO")
    page.lines.append(f"{roff.bold('afterburnerd')}(8), {roff.bold('afterburnerctl')}(1)")
    return str(page)


def main(argv: list[str] | None = None) -> int:
    return generated.run("afterburnerd.manuals", __doc__, rendered(), argv)


if __name__ == "__main__":
    sys.exit(main())
