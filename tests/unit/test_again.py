"""Second tries: for privileged tests alone, told with what happened first, and red when there are many."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CONFTEST = """
import pytest
from tests.again import Again

def pytest_configure(config):
    config.addinivalue_line("markers", "privileged: as in tests/conftest.py")
    config.pluginmanager.register(Again(), "again")
"""
SELDOM = """
import pytest
tries = []

@pytest.mark.privileged
@pytest.mark.parametrize("number", range({count}))
def test_of_the_machine(number):
    tries.append(number)
    assert tries.count(number) == 2, "the machine was busy"
"""
ROOT = Path(__file__).parents[2]


def run(directory: Path, source: str) -> subprocess.CompletedProcess[str]:
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={directory}", str(directory)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120)


def test_a_test_of_the_machine_is_tried_again_and_its_first_failure_is_shown(tmp_path: Path) -> None:
    found = run(tmp_path, SELDOM.format(count=3))
    assert found.returncode == 0, found.stdout
    assert "FAILED AT THE FIRST TRY: 3" in found.stdout and "the machine was busy" in found.stdout
    assert "3 passed, 3 rerun" in found.stdout


def test_many_second_tries_are_a_failure(tmp_path: Path) -> None:
    found = run(tmp_path, SELDOM.format(count=4))
    assert found.returncode == 1, found.stdout
    assert "more than 3 second tries" in found.stdout


def test_what_fails_twice_fails(tmp_path: Path) -> None:
    found = run(tmp_path, SELDOM.format(count=1).replace("== 2", "== 3"))
    assert found.returncode == 1 and "1 failed" in found.stdout


def test_what_is_computed_has_one_try(tmp_path: Path) -> None:
    found = run(tmp_path, SELDOM.format(count=1).replace("@pytest.mark.privileged\n", ""))
    assert found.returncode == 1 and "rerun" not in found.stdout.splitlines()[-1]
