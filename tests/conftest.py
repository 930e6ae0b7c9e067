"""Fixtures and marks for every test.

Privileged tests skip loudly without root, and fail where CI is set. Random tests take the fixture `seed`: always the same one,
so that whoever is told of a failure sees it too; AFTERBURNER_SEED=<seed> is another, and AFTERBURNER_SEED=fresh draws one, which
is shown in the header and beside every failure. `make hunt` looks for what no fixed seed finds.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from afterburnerd.abi import shm
from tests.again import Again
from tests.capability import bpf_refusal

SAID = os.environ.get("AFTERBURNER_SEED") or "1"
SEED = secrets.randbits(32) if SAID == "fresh" else int(SAID)
os.environ["AFTERBURNER_SEED"] = str(SEED)  # for tests that run tests

# A busy machine is no error in a property: no bound on the time of one example. Nothing is remembered from run to run.
hypothesis.settings.register_profile(
    "ours", deadline=None, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("ours")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what it puts in the background with SIGINT ignored, and children inherit that: tests of Ctrl-C would
    # wait for ever. A handler of ours is reset to the default in whatever is executed.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.option.hypothesis_seed is None:  # hypothesis draws from the same seed
        config.option.hypothesis_seed = SEED
    config.pluginmanager.register(Again(), "again")


def pytest_report_header() -> str:
    return f"seed: {SEED} (AFTERBURNER_SEED={SEED} replays the random tests, AFTERBURNER_SEED=fresh draws another)"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("metrics.txt", text)` compares with tests/golden/metrics.txt, or writes it with --update-golden."""

    def compare(name: str, text: str) -> None:
        path = Path(__file__).parent / "golden" / name
        if request.config.getoption("--update-golden"):
            path.write_text(text)
            return
        assert text == path.read_text(), f"not tests/golden/{name}: where that is meant, run pytest --update-golden"

    return compare


@pytest.fixture
def name() -> Iterator[str]:
    """A daemon's name for this test alone; what it leaves in shared memory goes with it."""
    name = f"abtest-{os.getpid()}-{time.monotonic_ns()}"
    yield name
    for path in shm.DIRECTORY.glob(f"{name}*"):
        path.unlink() if path.is_symlink() or not path.is_dir() else path.rmdir()


@pytest.fixture
def seed() -> int:
    print(f"seed {SEED}: AFTERBURNER_SEED={SEED} replays this")
    return SEED


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("privileged") and os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("privileged test without root, and CI is set: run CI as root")
        pytest.skip("needs root: namespaces, AF_XDP, BPF")
    if item.get_closest_marker("bpf") and (refusal := bpf_refusal()):
        if os.environ.get("CI"):
            pytest.fail(f"this test loads BPF programs, which is refused here, and CI is set: {refusal}")
        pytest.skip(f"needs bpf(2): {refusal}")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A fresh event loop for each coroutine test; fixtures are made outside of it."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
