"""What the model knows about itself: every key with its type, default, help and reload class.

`model.py` declares (by the files in `tables/`), this file reads the declarations back. Loader, diff, the generated
reference and the shipped file all walk the tables below, so none of them has a list of keys of its own.

    Config --> Section "interface"  (a table)             --> Key "mode", Key "queues", ...
           `-> Section "capture"    (an array of tables)  --> Key "name", Key "port", ...

A section is a top-level table; its keys are values. The format has no deeper tables, on purpose: two levels are what
an operator keeps in mind, and what `conf.d` files can override without surprises.
"""

import functools
import json
from types import UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from afterburnerd.config.model import Config, Reload, Table

RELOAD_CLASSES: tuple[Reload, ...] = ("live", "data-plane", "restart")
"""From cheap to expensive; a reload is as expensive as its most expensive change."""


class Key(Struct, frozen=True):
    """One key of a section."""

    name: str  # as written in TOML
    type: Any  # type with its constraints
    required: bool  # has no default
    default: Any  # Python value; None when required
    help: str
    why: str  # reason of the default
    unit: str
    example: str  # TOML text, or ""
    reload: Reload

    @property
    def accepts(self) -> str:
        """What the key accepts, in words."""
        return describe(self.type)


class Section(Struct, frozen=True):
    """One top-level table."""

    name: str  # as written in TOML
    attribute: str  # name of the field of Config
    struct: type[Table]
    array: bool  # [[name]] rather than [name]
    help: str  # first sentence(s) of the struct's docstring
    keys: tuple[Key, ...]

    def key(self, name: str) -> Key | None:
        """The key of that name, or None."""
        return next((k for k in self.keys if k.name == name), None)


@functools.cache
def sections() -> tuple[Section, ...]:
    """All sections, in the order of the model."""
    found = []
    for info in msgspec.structs.fields(Config):
        array = get_origin(info.type) is tuple
        struct = cast(type[Table], get_args(info.type)[0] if array else info.type)
        keys = tuple(_key(field) for field in msgspec.structs.fields(struct))
        doc = " ".join((struct.__doc__ or "").split())
        found.append(Section(info.encode_name, info.name, struct, array, doc, keys))
    return tuple(found)


def section(name: str) -> Section | None:
    """The section of that name, or None."""
    return next((s for s in sections() if s.name == name), None)


def _key(field: msgspec.structs.FieldInfo) -> Key:
    meta = next(m for m in get_args(field.type)[1:] if isinstance(m, Meta))
    extra = meta.extra or {}
    return Key(
        name=field.encode_name,
        type=field.type,
        required=field.required,
        default=None if field.required else field.default,
        help=meta.description or "",
        why=extra["why"],
        unit=extra["unit"],
        example=extra["example"],
        reload=extra["reload"],
    )


def convert(value: Any, type_: Any) -> Any:
    """Check a TOML value against a type. Raises ValueError with what is accepted instead."""
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError:
        raise ValueError(f"{toml_value(value)} is not accepted; expected {describe(type_)}") from None


def choices(type_: Any) -> tuple[str, ...]:
    """The words that a type accepts, for suggestions."""
    origin = get_origin(type_)
    if origin is Annotated:
        return choices(get_args(type_)[0])
    if origin is Literal:
        return tuple(a for a in get_args(type_) if isinstance(a, str))
    if origin in (Union, UnionType):
        return tuple(c for a in get_args(type_) for c in choices(a))
    return ()


def describe(type_: Any, *, plural: bool = False, constraints: tuple[Any, ...] = ()) -> str:
    """Say in words what values a type accepts."""
    origin, args = get_origin(type_), get_args(type_)
    if origin is Annotated:
        return describe(args[0], plural=plural, constraints=args[1:])
    if origin is Literal:
        words = [toml_value(a) for a in args]
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    if origin in (Union, UnionType):
        return " or ".join(describe(a, plural=plural) for a in args)
    if origin is tuple and args[-1] is Ellipsis:
        return f"a list of {describe(args[0], plural=True)}"
    if origin is tuple:
        return f"a list of {len(args)} {describe(args[0], plural=True)}"
    if type_ is bool:
        return "true or false"
    if type_ is int:
        return ("integers" if plural else "an integer") + _range(constraints)
    if type_ is str:
        return ("strings" if plural else "a string") + _shape(constraints)
    raise TypeError(f"no words for {type_!r}")


def _range(constraints: tuple[Any, ...]) -> str:
    low = next((c.ge for c in constraints if isinstance(c, Meta) and c.ge is not None), None)
    high = next((c.le for c in constraints if isinstance(c, Meta) and c.le is not None), None)
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    return f" of at most {high}" if high is not None else ""


def _shape(constraints: tuple[Any, ...]) -> str:
    shape = next((c.extra.get("shape") for c in constraints if isinstance(c, Meta) and c.extra), "")
    return f" ({shape})" if shape else ""


def toml_value(value: Any) -> str:
    """Write a value as TOML. (A JSON string of printable text is a TOML basic string.)"""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(v) for v in value)}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{toml_key(k)} = {toml_value(v)}" for k, v in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return str(value)


def toml_key(name: str) -> str:
    """Write a key as TOML: bare where that is allowed, else quoted."""
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else json.dumps(name, ensure_ascii=False)
