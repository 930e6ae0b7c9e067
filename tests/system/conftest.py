"""The booted machine that the systemd tests share: installed once a session, booted once a test file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import container
from .service import Service


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product as `make install DESTDIR=..` installs it."""
    if os.geteuid() != 0:
        pytest.skip("needs root: a container with systemd")
    return container.installed(tmp_path_factory.mktemp("stage"))


@pytest.fixture(scope="module")
def machine(stage: Path) -> Iterator[container.Container]:
    with container.booted(stage) as booted:
        yield booted


@pytest.fixture(scope="module")
def service(machine: container.Container) -> Service:
    return Service(machine)
