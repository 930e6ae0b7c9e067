"""What changes between two configurations, and what a reload would have to do for it.

Elements of an array of tables are compared by their name where they have one (rules may be sorted anew without
anything changing), by their position otherwise (worker 1 is the second worker).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from afterburnerd.config import schema
from afterburnerd.config.model import Config, Reload, Table


class Change(Struct, frozen=True):
    """One key, or one whole element of an array of tables, that differs."""

    path: str  # interface.mode, worker[0].cpu, capture[tpu].port, capture[tpu]
    old: Any  # plain data as in TOML; None: was not there
    new: Any  # plain data as in TOML; None: is not there any more
    reload: Reload

    def __str__(self) -> str:
        if self.old is None:
            return f"{self.path}: added {schema.toml_value(self.new)}"
        if self.new is None:
            return f"{self.path}: removed {schema.toml_value(self.old)}"
        return f"{self.path}: {schema.toml_value(self.old)} -> {schema.toml_value(self.new)}"


def diff(old: Config, new: Config) -> tuple[Change, ...]:
    """All differences, in the order of the model."""
    changes: list[Change] = []
    for section in schema.sections():
        before, after = getattr(old, section.attribute), getattr(new, section.attribute)
        if section.array:
            changes += _array(section, _by_label(section, before), _by_label(section, after))
        else:
            changes += _table(section, section.name, before, after)
    return tuple(changes)


def worst(changes: Iterable[Change]) -> Reload | None:
    """The most expensive class among changes; None when there are none."""
    return max((c.reload for c in changes), key=schema.RELOAD_CLASSES.index, default=None)


def _by_label(section: schema.Section, tables: tuple[Table, ...]) -> dict[str, Table]:
    label = "name"
    if section.key(label) is None:
        return {str(n): t for n, t in enumerate(tables)}
    return {getattr(t, label): t for t in tables}


def _array(section: schema.Section, before: Mapping[str, Table], after: Mapping[str, Table]) -> list[Change]:
    changes: list[Change] = []
    whole = max((k.reload for k in section.keys), key=schema.RELOAD_CLASSES.index)
    for label in [*before, *(x for x in after if x not in before)]:
        path = f"{section.name}[{label}]"
        if label not in after:
            changes.append(Change(path, msgspec.to_builtins(before[label]), None, whole))
        elif label not in before:
            changes.append(Change(path, None, msgspec.to_builtins(after[label]), whole))
        else:
            changes += _table(section, path, before[label], after[label])
    return changes


def _table(section: schema.Section, path: str, before: Table, after: Table) -> list[Change]:
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(after)
    return [
        Change(f"{path}.{k.name}", old[k.name], new[k.name], k.reload)
        for k in section.keys
        if old[k.name] != new[k.name]
    ]
