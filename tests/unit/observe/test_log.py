"""Logging: the right place, stable identifiers, fields for the journal, and nothing that moves a terminal's cursor."""

from __future__ import annotations

import io
import logging
import os
import re
import string
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from afterburnerd import generated
from afterburnerd.observe import generate, log, messages


@pytest.fixture(autouse=True)
def undisturbed() -> Iterator[None]:
    """Other tests log as before."""
    root, ours = logging.getLogger(), log.LOGGER
    handlers, level, own_level = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = handlers, level, own_level


def test_identifiers_are_well_formed_and_given_once() -> None:
    ids = [m.id for m in messages.CATALOGUE.values()]
    assert all(re.fullmatch("[0-9a-f]{32}", i) for i in ids)
    assert len(set(ids)) == len(ids)
    for name, message in messages.CATALOGUE.items():
        assert getattr(messages, name) is message
        assert message.help.strip()


def test_identifiers_never_change() -> None:
    """One more in the catalogue is one more here; a changed or missing one breaks somebody's filter."""
    kept = Path(__file__).with_name("message_ids.txt").read_text().split()
    now = [f"{m.name}={m.id}" for m in messages.CATALOGUE.values()]
    assert [line for line in kept if line not in now] == []
    assert [line for line in now if line not in kept] == [], "new ones: add them to tests/unit/observe/message_ids.txt"


def test_the_documentation_is_what_the_catalogue_says() -> None:
    for name, render in generate.TARGETS.items():
        assert (generated.ROOT / name).read_text() == render(), f"{name} is stale: run `make generate`"


def test_without_the_journal_it_goes_to_standard_error() -> None:
    out = io.StringIO()
    assert log.setup("info", out, {}) == "stderr"
    log.say(messages.WORKER_DIED, worker=0, pid=4711, how="signal 9")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ERROR worker 0 \(process 4711\) died: signal 9\n", out.getvalue()
    )


def test_the_level_counts_and_can_change() -> None:
    out = io.StringIO()
    log.setup("warning", out, {})
    log.say(messages.STOPPED)
    assert out.getvalue() == ""
    log.setup("info", out, {})
    log.say(messages.STOPPED)
    assert out.getvalue().endswith(" INFO stopped\n")
    assert out.getvalue().count("\n") == 1  # set up twice, logged once


def test_control_characters_are_shown_not_sent() -> None:
    out = io.StringIO()
    log.setup("info", out, {})
    log.say(messages.INTERFACE_UP, interface="ve0\x1b[2J\r\x07")
    assert out.getvalue().endswith(" INFO ve0\\x1b[2J\\r\\x07 is up\n")


def journal_environment(stream: io.TextIOWrapper) -> dict[str, str]:
    info = os.fstat(stream.fileno())
    return {"JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino}"}


def test_the_journal_gets_identifier_priority_and_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = pytest.importorskip("systemd.journal", reason="systemd-python is not installed")
    sent: list[tuple[str, ...]] = []
    monkeypatch.setattr(journal, "sendv", lambda *fields: sent.append(fields))
    with (tmp_path / "stderr").open("w") as stream:
        assert log.setup("info", stream, journal_environment(stream)) == "journal"
        log.say(messages.WORKER_RECOVERED, worker=2, duration="85 ms")
    (fields,) = sent
    entry = dict(field.split("=", 1) for field in fields)
    assert entry["MESSAGE"] == "worker 2 serves again, 85 ms after its loss was noticed"
    assert entry["MESSAGE_ID"] == messages.WORKER_RECOVERED.id
    assert (entry["PRIORITY"], entry["AB_WORKER"], entry["AB_DURATION"]) == ("6", "2", "85 ms")
    assert entry["AB_MESSAGE"] == "WORKER_RECOVERED"
    assert entry["CODE_FILE"].endswith("test_log.py")  # where it was said, not where it was sent
    assert (tmp_path / "stderr").read_text() == ""


def test_without_systemd_python_the_journal_still_gets_priorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "systemd.journal", None)
    with (tmp_path / "stderr").open("w") as stream:
        assert log.setup("info", stream, journal_environment(stream)) == "stderr, read by the journal"
        log.say(messages.RELOAD_REFUSED, reason="line 1\nline 2")
    assert (tmp_path / "stderr").read_text() == (
        "<3>reload refused, the old configuration stays in force: line 1\n<3>line 2\n"
    )


def test_redirected_output_is_not_the_journal(tmp_path: Path) -> None:
    with (tmp_path / "one").open("w") as one, (tmp_path / "two").open("w") as two:
        assert log.is_journal(one, journal_environment(one))
        assert not log.is_journal(two, journal_environment(one))


def test_every_message_can_be_said() -> None:
    out = io.StringIO()
    log.setup("debug", out, {})
    for message in messages.CATALOGUE.values():
        names = [name for _, name, _, _ in string.Formatter().parse(message.text) if name]
        log.say(message, **dict.fromkeys(names, "x"))
    assert out.getvalue().count("\n") == len(messages.CATALOGUE)


def test_exceptions_keep_their_traceback() -> None:
    out = io.StringIO()
    log.setup("info", out, {})
    try:
        raise ValueError("inner")
    except ValueError:
        log.LOGGER.exception("outer")
    assert "ERROR outer\nTraceback" in out.getvalue()
    assert "ValueError: inner" in out.getvalue()
