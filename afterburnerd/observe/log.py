"""Where log lines go: to the journal with their identifiers and fields, to standard error anywhere else.

    log.say(messages.WORKER_DIED, worker=0, pid=4711, how="signal 9")

    under systemd, systemd-python installed    journal entry with MESSAGE_ID, PRIORITY, AB_WORKER=0, AB_PID=4711 ...
    under systemd without it                   "<3>worker 0 ..." on standard error: the journal reads the priority
    elsewhere                                  "2026-07-29 12:00:00.123 ERROR worker 0 (process 4711) died: signal 9"

Whether standard error is the journal is told by JOURNAL_STREAM, which names its device and inode: a daemon whose output
was redirected elsewhere logs there. Lines hold what came from outside (interface names, errors of other programs), so
control characters are shown, never sent to a terminal.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Literal, TextIO

from .messages import CATALOGUE, Message

IDENTIFIER = "afterburnerd"
LOGGER = logging.getLogger("afterburnerd")

Level = Literal["debug", "info", "warning", "error"]

# syslog(3) priorities
PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

SendV = Callable[..., object]


def setup(level: str = "info", stream: TextIO | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """Directs everything that is logged; may be called again (a reload changes the level). Returns where it goes."""
    stream = sys.stderr if stream is None else stream
    handler: logging.Handler
    if not is_journal(stream, environment):
        handler, where = logging.StreamHandler(stream), "stderr"
        handler.setFormatter(TextFormatter())
    else:
        handler, where = _journal(stream)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)  # other people's libraries
    LOGGER.setLevel(level.upper())
    return where


def say(message: Message, **fields: object) -> None:
    """Logs a message of the catalogue."""
    text = message.text.format(
        **{name: f"{value:g}" if isinstance(value, float) else value for name, value in fields.items()}
    )
    LOGGER.log(message.level, "%s", text, extra={"ab_message": message, "ab_fields": fields}, stacklevel=2)


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        info = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no file behind it
        return False
    return (device, inode) == (str(info.st_dev), str(info.st_ino))


class TextFormatter(logging.Formatter):
    """For people: time, level, text."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class PriorityFormatter(logging.Formatter):
    """For the journal reading our standard error: every line with its priority in front (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{priority(record.levelno)}>"
        return "\n".join(prefix + line for line in printable(super().format(record)).splitlines())


class JournalHandler(logging.Handler):
    """Entries with fields. systemd-python's own handler would send every attribute of a log record along."""

    def __init__(self, sendv: SendV) -> None:
        super().__init__()
        self._sendv = sendv

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._sendv(*self.fields(record))
        except OSError:
            self.handleError(record)

    def fields(self, record: logging.LogRecord) -> list[str]:
        found = {
            "MESSAGE": self.format(record),
            "PRIORITY": str(priority(record.levelno)),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "LOGGER": record.name,
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName,
        }
        message = getattr(record, "ab_message", None)
        if isinstance(message, Message):
            found["MESSAGE_ID"] = message.id
            found["AB_MESSAGE"] = message.name
        for name, value in getattr(record, "ab_fields", {}).items():
            found[f"AB_{name.upper()}"] = str(value)
        return [f"{name}={value}" for name, value in found.items()]


def priority(level: int) -> int:
    return next((p for limit, p in sorted(PRIORITIES.items(), reverse=True) if level >= limit), 7)


def printable(text: str) -> str:
    """Control characters as escapes, but for line feeds and tabs."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def _journal(stream: TextIO) -> tuple[logging.Handler, str]:
    try:
        import systemd.journal as journal
    except ImportError:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(PriorityFormatter())
        return handler, "stderr, read by the journal"
    return JournalHandler(journal.sendv), "journal"


def markdown() -> str:
    """docs/messages.md."""
    lines = [
        "# Log messages",
        "",
        "<!-- Generated from afterburnerd/observe/messages.py by `python -m afterburnerd.observe.generate`; do not edit. -->",
        "",
        "Every message has an identifier that stays the same when its text is improved. To see one kind only:",
        "",
        "    journalctl -u afterburner MESSAGE_ID=<identifier>",
        "",
        "The parts in braces are also fields of the journal entry (`{worker}` is `AB_WORKER`), and `AB_MESSAGE` is the name:",
        "",
        "    journalctl -u afterburner -o json AB_MESSAGE=WORKER_DIED",
        "",
    ]
    for m in CATALOGUE.values():
        level = logging.getLevelName(m.level).lower()
        lines += [f"## {m.name}", "", f"`{m.id}` · {level}", "", f"> {m.text}", "", m.help, ""]
    return "\n".join(lines)
