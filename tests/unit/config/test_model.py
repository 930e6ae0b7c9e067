"""The model describes every key, and can be used without harm."""

from __future__ import annotations

import subprocess
import sys

import pytest

from afterburnerd.config import Config, schema

KEYS = [pytest.param(s, k, id=f"{s.name}.{k.name}") for s in schema.sections() for k in s.keys]


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_every_key_says_what_an_operator_needs(section: schema.Section, key: schema.Key) -> None:
    assert key.help.endswith((".", ")"))
    assert key.reload in schema.RELOAD_CLASSES
    assert key.accepts
    assert key.required or key.why, "a default needs a reason"
    assert not key.why.endswith(".")
    if key.name.endswith(("_ms", "_us", "_bytes")):
        assert key.unit
    if not key.required:
        assert schema.convert(key.default, key.type) == key.default


def test_only_elements_of_arrays_may_have_required_keys() -> None:
    """Else an empty file would be no configuration."""
    assert not [k.name for s in schema.sections() if not s.array for k in s.keys if k.required]
    assert Config() == Config()


def test_the_model_survives_the_garbage_collector() -> None:
    """msgspec 0.22 follows a wild pointer for some unions; see Capture.vlan. A process of its own, since it would die."""
    code = (
        "import gc; from afterburnerd.config import parse, Source; parse([Source('f', 'capture = []')]); gc.collect()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
