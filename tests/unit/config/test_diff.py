"""A reload knows what it would change, and what that costs."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from afterburnerd.config import Capture, Config, Connect, Listen, Source, Worker, diff, parse, schema, worst


def config(text: str) -> Config:
    loaded, found = parse([Source("f", text)])
    assert not found
    return loaded.config


def test_nothing_changed() -> None:
    assert diff(Config(), config("[memory]\nring = 2048")) == ()
    assert worst(()) is None


def test_changed_keys_with_their_class() -> None:
    new = config('[daemon]\nlog_level = "debug"\n[memory]\nring = 1024\n[interface]\nname = "eth1"')
    changes = diff(Config(), new)
    assert [(c.path, c.old, c.new, c.reload) for c in changes] == [
        ("daemon.log_level", "info", "debug", "live"),
        ("interface.name", "", "eth1", "restart"),
        ("memory.ring", 2048, 1024, "data-plane"),
    ]
    assert worst(changes) == "restart"
    assert worst(changes[::2]) == "data-plane"
    assert str(changes[1]) == 'interface.name: "" -> "eth1"'


def test_rules_are_told_apart_by_name_and_their_order_is_no_change() -> None:
    a, b, c = (Capture(name=n, port=p) for n, p in (("a", 1), ("b", 2), ("c", 3)))
    assert diff(Config(captures=(a, b)), Config(captures=(b, a))) == ()
    changes = diff(Config(captures=(a, b)), Config(captures=(c, replace(b, port=9))))
    assert [(c.path, c.old is None, c.new is None) for c in changes] == [
        ("capture[a]", False, True),
        ("capture[b].port", False, False),
        ("capture[c]", True, False),
    ]
    assert str(changes[2]).startswith('capture[c]: added { name = "c", port = 3')


def test_workers_are_told_apart_by_position() -> None:
    changes = diff(Config(), Config(workers=(Worker(cpu=3, queues=(0,)), Worker(cpu=4, queues=(1,)))))
    assert [c.path for c in changes] == ["worker[0].cpu", "worker[0].queues", "worker[1]"]
    assert worst(changes) == "data-plane"


def other(key: schema.Key) -> Any:
    """Some value that a key accepts and that is not its default."""
    candidates: tuple[Any, ...] = (
        not key.default,
        4096,
        2048,
        4,
        300,
        9,
        65_536,
        "1" * 32,
        "/x",
        "x",
        "10.0.0.1",
        [3],
        *schema.choices(key.type),
    )
    for value in candidates:
        try:
            converted = schema.convert(value, key.type)
        except ValueError:
            continue
        if converted != key.default:
            return converted
    raise AssertionError(f"no other value for {key.name}")


NAMED: dict[str, Any] = {
    "capture": Capture(name="a", port=1),
    "connect": Connect(name="a", address="192.0.2.1", port=1),
    "listen": Listen(name="a", port=1),
}


@pytest.mark.parametrize("section", schema.sections(), ids=lambda s: s.name)
def test_no_key_can_change_unseen(section: schema.Section) -> None:
    for key in section.keys:
        before: Any = NAMED[section.name] if section.name in NAMED else section.struct()
        after = replace(before, **{key.name: other(key)})
        wrap = (lambda t: (t,)) if section.array else (lambda t: t)
        changes = diff(
            replace(Config(), **{section.attribute: wrap(before)}),
            replace(Config(), **{section.attribute: wrap(after)}),
        )
        assert changes, f"{section.name}.{key.name}"
        assert {c.reload for c in changes} == {key.reload}
