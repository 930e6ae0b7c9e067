"""Findings as a page for people, as JSON for programs, and as an exit code."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import Any

import msgspec
from rich.text import Text

from afterburnerd.cli import EXIT_DEGRADED, EXIT_OK
from afterburnerd.ctl.base import console
from afterburnerd.ctl.doctor import device, machine, service
from afterburnerd.ctl.doctor.model import Facts, Finding

LEVELS = ("ok", "info", "warn", "fail")
STYLES = {"ok": "green", "info": "cyan", "warn": "yellow", "fail": "bold red"}
SECTIONS = ("kernel", "cpu", "memory", "device", "rights", "service")
WIDTH = 100
INDENT = " " * 8


def examine(facts: Facts) -> list[Finding]:
    """Every finding, by section."""
    found = [finding for module in (machine, device, service) for finding in module.check(facts)]
    return sorted(found, key=lambda finding: SECTIONS.index(finding.section))


def exit_code(findings: list[Finding]) -> int:
    """0 if nothing needs attention; info does not."""
    return EXIT_DEGRADED if any(finding.level in ("warn", "fail") for finding in findings) else EXIT_OK


def counts(findings: list[Finding]) -> dict[str, int]:
    count = Counter(finding.level for finding in findings)
    return {level: count[level] for level in LEVELS}  # type: ignore[index]


def document(facts: Facts, findings: list[Finding]) -> dict[str, Any]:
    """For `-j`."""
    return {
        "interface": facts.device.name,
        "kernel": facts.machine.release,
        "counts": counts(findings),
        "findings": [msgspec.to_builtins(finding) for finding in findings],
    }


def page(facts: Facts, findings: list[Finding], *, problems_only: bool = False) -> Text:
    """The page. What is well is one line; what is not says why it matters and what to do, commands ready to be copied."""
    text = Text()
    section = ""
    for finding in findings:
        if problems_only and finding.level == "ok":
            continue
        if finding.section != section:
            text.append(f"{'' if not section else chr(10)}{finding.section}\n", style="bold")
            section = finding.section
        text.append(f"  {finding.level:4}  ", style=STYLES[finding.level])
        text.append(_wrapped(finding.what).lstrip() + "\n")
        if finding.why:
            text.append(_wrapped(finding.why[0].upper() + finding.why[1:]) + "\n", style="dim")
        if finding.fix:
            text.append(_wrapped(finding.fix) + "\n")
        for command in finding.commands:
            text.append(f"{INDENT}  {command}\n", style="bold")
    summary = ", ".join(f"{number} {level}" for level, number in counts(findings).items())
    text.append(f"{'' if not section else chr(10)}{facts.device.name or 'no device'}: {summary}\n")
    return text


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False)


def show(facts: Facts, findings: list[Finding], *, problems_only: bool) -> None:
    """Print the page, in colour where that is wanted."""
    console().print(page(facts, findings, problems_only=problems_only), end="", soft_wrap=True)
