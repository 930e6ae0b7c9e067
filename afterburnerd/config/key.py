"""What a key and a table are made of: the base of every table, the description of a key, and the kinds that keys share.

    Annotated[int, key("what it is", reload=..., unit=..., why="reason of the default", ge=..., le=...)]
              |    |                                                                     |
              |    `- carried as msgspec.Meta(description, extra)                        `- checked by msgspec
              `- the TOML type

Everything an operator reads about a key comes from this annotation: the comment in `config/afterburner.toml`, the row
in `docs/configuration.md`, the range in an error message, and what a reload does with it.

Reload classes, from cheap to expensive:

    live         applied to the running processes; no packet is lost for it
    data-plane   the reload restarts the data plane process; the XDP program stays, arriving packets of the
                 fast path are dropped and counted meanwhile (well under a second)
    restart      the whole daemon has to be restarted; a reload that changes such a key is refused as a whole
"""

from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Reload = Literal["live", "data-plane", "restart"]


class Table(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every table: immutable, so a reload can compare and swap whole configurations."""


class Shape(Struct, frozen=True):
    """What a text has to look like."""

    pattern: str  # regular expression, checked by msgspec
    words: str  # the same for people, in messages and in the reference


def key(
    text: str,
    *,
    reload: Reload,
    why: str = "",
    unit: str = "",
    example: str = "",
    ge: int | None = None,
    le: int | None = None,
    shape: Shape | None = None,
) -> Meta:
    """Describe one key.

    text:    what the key is, in sentences.
    why:     the reason of the default: a measurement, a source, or what it costs to be wrong.
    unit:    unit of the value, for the reference page.
    example: TOML text to show where the default says nothing (commented out in the shipped file).
    """
    words = shape.words if shape else ""
    extra: dict[str, Any] = {"reload": reload, "why": why, "unit": unit, "example": example, "shape": words}
    limits: dict[str, Any] = {"ge": ge, "le": le, "pattern": shape and shape.pattern}
    meta: Meta = Meta(description=text, extra=extra, **{k: v for k, v in limits.items() if v is not None})
    return meta


NAME = Shape(r"^[a-z0-9][a-z0-9_-]{0,30}$", "at most 31 small letters, digits, _ and -")
"""Name of a rule, a connection or a listener: a label in metrics and what a person types."""
PATH = Shape(r"^(/.*)?$", "an absolute path")
"""A file or directory; empty where the key says what is taken then."""

MAX_QUEUES = 64
"""Receive queues that can be served (AB_MAX_QUEUES)."""
MAX_CAPTURES = 64
"""Capture rules of one configuration (AB_MAX_RULES)."""

QueueIndex = Annotated[int, Meta(ge=0, le=MAX_QUEUES - 1)]
VlanId = Annotated[int, Meta(ge=0, le=4094)]
Address = IPv4Address | IPv6Address
