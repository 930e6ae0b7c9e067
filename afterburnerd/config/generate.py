"""Writes what people read about the configuration, or with --check says which of it is stale.

    python -m afterburnerd.config.generate            write
    python -m afterburnerd.config.generate --check    exit 1 where a committed file is not what the model says

    model.py --> config/afterburner.toml      the shipped file: every key at its default, with its reason
             --> docs/configuration.md        the reference

In the shipped file a comment in prose begins with "# ", and a setting that is commented out begins with "#" directly: keys
that have no default to show, and the arrays of tables, whose elements would add up with those of a `conf.d` file.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator

from afterburnerd import generated
from afterburnerd.config import schema
from afterburnerd.config.schema import Key, Section, toml_value

WIDTH = 100
BANNER = "Generated from afterburnerd/config/model.py by `python -m afterburnerd.config.generate`; do not edit"


def toml() -> str:
    """The shipped configuration file."""
    lines = [
        "# Configuration of Afterburner. Every key stands here with its default, so changing nothing is fine.",
        "#",
        "#   check it      afterburnerd --check-config     (or: afterburnerctl config check)",
        "#   what changes  afterburnerctl config diff",
        "#   apply it      systemctl reload afterburner    (or: afterburnerctl reload)",
        "#",
        *_comment(
            "Files conf.d/*.toml beside this one are read after it, in the order of their names: tables merge, of a value "
            "the last file wins, arrays ([[capture]], [[worker]], [[connect]], [[listen]]) add up. Better write your own settings there and leave this "
            "file to the package."
        ),
        "#",
        "# Each key says what a reload does with a change of it; a reload applies all changes or none:",
        "#   reload: live         applied to the running processes",
        "#   reload: data-plane   the data plane is restarted for it: its packets are dropped for a moment",
        "#   reload: restart      refused, with everything else: systemctl restart afterburner",
        "#",
        f"# {BANNER}",
        "# (in a source tree; an installed copy is yours to edit).",
    ]
    for section in schema.sections():
        lines += ["", "", *_comment(section.help)]
        lines.append(f"#[[{section.name}]]" if section.array else f"[{section.name}]")
        for key in section.keys:
            lines += ["", *_comment(f"{key.help}{_unit(key)}")]
            if key.why:
                lines += _comment(f"Default: {key.why}.")
            lines += _comment(f"Accepts: {key.accepts}; reload: {key.reload}")
            lines += _settings(section, key)
    return "\n".join(lines) + "\n"


def _settings(section: Section, key: Key) -> Iterator[str]:
    if not key.required:
        yield f"{'#' if section.array else ''}{key.name} = {toml_value(key.default)}"
    if key.example:
        yield f"#{key.name} = {key.example}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _unit(key: Key) -> str:
    return f" Unit: {key.unit}." if key.unit else ""


def markdown() -> str:
    """The reference page."""
    lines = [
        "# Configuration",
        "",
        f"<!-- {BANNER}. -->",
        "",
        "The daemon reads `/etc/afterburner/afterburner.toml` (or what `--config` names) and then `conf.d/*.toml` beside it, in",
        "the order of their names. Tables merge, of a value the last file wins, arrays of tables (`[[capture]]`, `[[worker]]`, `[[connect]]`, `[[listen]]`)",
        "add up. `afterburnerctl config show` prints the result and says where each value comes from,",
        "`afterburnerd --check-config` tells everything that is wrong with it, with file and line.",
        "",
        "Column *reload* says what `systemctl reload afterburner` does with a change:",
        "",
        "| reload | effect |",
        "| --- | --- |",
        "| `live` | applied to the running processes; no packet is lost for it |",
        "| `data-plane` | the data plane process is restarted; its packets are dropped and counted meanwhile |",
        "| `restart` | the reload is refused as a whole and names the key: `systemctl restart afterburner` |",
        "",
        "A reload applies whole or not at all. `afterburnerctl config diff` shows what it would change.",
        "",
    ]
    for section in schema.sections():
        brackets = f"[[{section.name}]]" if section.array else f"[{section.name}]"
        lines += [f"## `{brackets}`", "", section.help, ""]
        lines += ["| key | default | accepts | reload | meaning |", "| --- | --- | --- | --- | --- |"]
        for key in section.keys:
            default = "required" if key.required else f"`{toml_value(key.default)}`"
            meaning = f"{key.help}{_unit(key)}" + (f" *Default: {key.why}.*" if key.why else "")
            cells = (f"`{key.name}`", default, key.accepts, f"`{key.reload}`", meaning)
            lines.append(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in cells)} |")
        lines.append("")
    return "\n".join(lines)


TARGETS: dict[str, Callable[[], str]] = {
    "config/afterburner.toml": toml,
    "docs/configuration.md": markdown,
}


def main(argv: list[str] | None = None) -> int:
    files = ((name, render()) for name, render in TARGETS.items())
    return generated.run("afterburnerd.config.generate", __doc__, files, argv)


if __name__ == "__main__":
    sys.exit(main())
