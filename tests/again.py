"""A second try for tests of the real machine: seldom, never silently.

A privileged test runs real daemons, packets and peers on a machine that others share, and may fail because a process did not get
its turn for seconds. Such a test that failed runs once more. What happened the first time is shown whole at the end of the run,
because a fault that comes seldom is a fault: look for it before you believe in the machine. More than `MOST` of them in one run
cannot be chance, and the run fails though every test passed at last. Whatever is computed (units, simulations, fuzz targets)
has one try.
"""

from __future__ import annotations

from typing import Final

import pytest

MOST: Final = 3


class Again:
    """Counts second tries, and tells of them."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.first: list[pytest.TestReport] = []  # what failed and was tried again

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if item.get_closest_marker("privileged"):
                item.add_marker(pytest.mark.flaky(reruns=1))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome == "rerun":  # type: ignore[comparison-overlap]
            self.first.append(report)

    @property
    def too_many(self) -> bool:
        return len(self.first) > self.most

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.too_many and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.first:
            return
        terminalreporter.section(f"FAILED AT THE FIRST TRY: {len(self.first)}", sep="=", yellow=True)
        for report in self.first:
            terminalreporter.section(f"{report.nodeid} ({report.when})", sep="_", yellow=True)
            report.toterminal(terminalreporter._tw)
            for title, text in report.sections:
                terminalreporter.section(title, sep="-")
                terminalreporter.line(text)
        if self.too_many:
            terminalreporter.line(
                f"more than {self.most} second tries in one run: this is not chance, and fails", red=True
            )
