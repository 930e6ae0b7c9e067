"""How every benchmark of the lab reports: one table for a person, or one JSON object for a program.

    {"bench": ..., "machine": {...}, "settings": {...},
     "results": [{"figure", "unit", "value", "reference", "reference_value", "ratio", "goal", "met"}, ...]}

With --json the object is all that goes to standard output; whatever a benchmark has to say meanwhile goes to standard
error (`say`). `goal` is in the unit of `value`; a goal that is a multiple of the reference ("at most 1.3 times the floor")
becomes that multiple of what the reference measured in the same run. A figure without a goal has null there and in `met`.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Literal

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import __version__

Better = Literal["higher", "lower"]
Fact = str | int | float | bool | None
EXIT_OK, EXIT_MISSED = 0, 1  # a benchmark whose goal was missed ends as "degraded" does


class Result(msgspec.Struct, frozen=True):
    """One figure. Made by `result`, which fills in what follows from the rest."""

    figure: str
    unit: str  # base units: s, bytes, transactions/s, %
    value: float
    reference: str | None = None  # what was measured beside it
    reference_value: float | None = None  # in the same unit
    ratio: float | None = None  # value / reference_value
    goal: float | None = None
    met: bool | None = None


class Report(msgspec.Struct, frozen=True):
    bench: str
    machine: dict[str, Fact]
    settings: dict[str, Fact]
    results: tuple[Result, ...]

    @property
    def exit_code(self) -> int:
        return EXIT_MISSED if any(result.met is False for result in self.results) else EXIT_OK


def result(
    figure: str,
    unit: str,
    value: float,
    *,
    reference: str | None = None,
    reference_value: float | None = None,
    goal: float | None = None,
    goal_ratio: float | None = None,
    better: Better = "higher",
) -> Result:
    """A figure with what follows from it: the ratio to its reference, the goal, and whether it is met.

    goal        a bound of the value
    goal_ratio  a bound of value / reference_value; both may be given, then the stricter one counts
    better      "higher": the goal is a floor; "lower": a ceiling
    """
    bounds = [
        bound
        for bound in (goal, goal_ratio * reference_value if goal_ratio and reference_value else None)
        if bound is not None
    ]
    bound = None if not bounds else max(bounds) if better == "higher" else min(bounds)
    if goal_ratio is not None and reference_value is None:
        met: bool | None = False  # a goal that could not be measured is not met
    elif bound is None:
        met = None
    else:
        met = value >= bound if better == "higher" else value <= bound
    return Result(
        figure=figure,
        unit=unit,
        value=value,
        reference=reference,
        reference_value=reference_value,
        ratio=value / reference_value if reference_value else None,
        goal=bound,
        met=met,
    )


def machine() -> dict[str, Fact]:
    """The facts without which a figure of this machine cannot be compared with one of another."""
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count() or 1,
        "usable_cpus": len(os.sched_getaffinity(0)),
        "isolated_cpus": _read("/sys/devices/system/cpu/isolated") or "none",
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "none",
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "virtual": "yes" if " hypervisor " in (_read("/proc/cpuinfo").replace("\n", " ") + " ") else "no",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
        if Path("/etc/os-release").exists()
        else "unknown",
        "python": platform.python_version(),
        "afterburner": __version__,
        "load_1min": round(os.getloadavg()[0], 2),  # before the benchmark: a busy machine measures its neighbours
    }


def steal_seconds() -> float:
    """CPU time that the hypervisor gave to others since boot, all CPUs; its growth beside a figure explains its outliers."""
    fields = _read("/proc/stat").split("\n", 1)[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0.0


def say(text: str) -> None:
    """What a benchmark says while it runs: to standard error, so that --json stays clean."""
    print(text, file=sys.stderr, flush=True)


def publish(report: Report, json: bool) -> int:
    """Prints the report to standard output. Returns the exit code that the command should end with."""
    if json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
        sys.stdout.flush()
    else:
        console = Console(highlight=False)
        for renderable in render(report):
            console.print(renderable)
    return report.exit_code


def render(report: Report) -> list[Table | Text]:
    """The report for a person: what was measured on what, and each figure beside its reference and its goal."""
    facts = report.machine
    where = f"{facts.get('cpu')}, {facts.get('cpus')} CPUs, Linux {facts.get('kernel')}, load {facts.get('load_1min')}"
    how = ", ".join(f"{key} {_plain(value)}" for key, value in report.settings.items())
    table = Table(title=f"bench {report.bench}", title_justify="left", title_style="bold")
    for name in ("figure", "measured", "reference", "ratio", "goal", ""):
        table.add_column(name, justify="right" if name in ("measured", "ratio", "goal") else "left")
    for r in report.results:
        reference = f"{quantity(r.reference_value, r.unit)}  {r.reference}" if r.reference_value is not None else "-"
        verdict = Text("-") if r.met is None else Text("met", "green") if r.met else Text("missed", "bold red")
        ratio = "-" if r.ratio is None else f"{r.ratio:.3g}" if r.ratio < 100 else f"{r.ratio:,.0f}"
        goal = "-" if r.goal is None else quantity(r.goal, r.unit)
        table.add_row(r.figure, quantity(r.value, r.unit), reference, ratio, goal, verdict)
    return [table, Text(f"machine   {where}"), Text(f"settings  {how}")]


_LARGE = (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0))
_SMALL = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))


def quantity(value: float | None, unit: str) -> str:
    """A number with a unit, as a person writes it: 94.3 M/s, 4.12 us, 7.34 MiB."""
    if value is None:
        return "-"
    if unit == "s":
        name, scale = next((entry for entry in _SMALL if abs(value) >= entry[1]), _SMALL[-1] if value else _SMALL[0])
        return f"{value / scale:.3g} {name}"
    if unit == "bytes":
        for name, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if abs(value) >= scale:
                return f"{value / scale:.3g} {name}"
        return f"{value:.0f} B"
    if unit.endswith("/s"):
        name, scale = next((entry for entry in _LARGE if abs(value) >= entry[1]), _LARGE[-1])
        return f"{value / scale:.3g} {name}/s"
    return f"{value:.4g} {unit}".rstrip()


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _read(path: str) -> str:
    """A file of the kernel's, or nothing where this machine does not have it."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
