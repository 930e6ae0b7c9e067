"""Fixtures and marks for every test: privileged tests skip loudly without root, and fail where CI is set."""

from __future__ import annotations

import os

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("privileged") and os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("privileged test without root, and CI is set: run CI as root")
        pytest.skip("needs root: namespaces, AF_XDP, BPF")
